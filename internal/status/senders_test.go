package status_test

import (
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

func TestSendersAndStrangersInTheReport(t *testing.T) {
	o := scenarios()["busy"]
	r := status.New(o).Read()
	if len(r.Senders.Top) != status.MaxSenders || r.Senders.Count != 30 || len(r.Strangers.Newest) != 1 {
		t.Errorf("%d of %d senders, %d strangers", len(r.Senders.Top), r.Senders.Count, len(r.Strangers.Newest))
	}
	if r := status.New(well()).Read(); r.Senders.Top == nil || r.Strangers.Newest == nil {
		t.Error("an empty list is none")
	}
}

func TestTablesOfSendersAndStrangers(t *testing.T) {
	hostile := "\x1b[2J\r\n"
	senders := status.SendersText([]status.Sender{
		{Registration: "registrations/lsa-physics/mfp.cue", Addresses: 2, Refused: 1234,
			Mail: status.Mail{Last: now, Day: 12, Week: 40, Month: 1333, Recipients: 2001, Octets: 1_234_567_890, TLS: "TLS 1.3"}},
		{Registration: hostile, Mail: status.Mail{TLS: hostile}},
		{},
	})
	if want := "registrations/lsa-physics/mfp.cue                 2        12        40      1,333       2,001      1.1 GiB     1,234  2026-11-23 14:00 UTC  TLS 1.3\n"; !strings.Contains(senders, want) {
		t.Errorf("got\n%s\nwant\n%s", senders, want)
	}
	long := "registrations/lsa-physics/randall/" + strings.Repeat("x", 30) + ".cue"
	table := status.SendersText([]status.Sender{{Registration: long, Mail: status.Mail{Last: now, Octets: 1023}}, {Registration: "registrations/a.cue", Mail: status.Mail{Last: now, Octets: 1 << 40}}}) +
		status.AllowancesText([]status.Allowance{{IP: mfp, Registration: long}, {IP: mfp}})
	for i, column := range []int{strings.Index(table, "LAST"), strings.Index(table[strings.Index(table, "ADDRESS  "):], "DEVICE")} {
		if lines := strings.Split(table, "\n")[3*i : 3*i+3]; lines[1][column-1] != ' ' || lines[2][column-1] != ' ' || lines[1][column] == ' ' || lines[2][column] == ' ' {
			t.Errorf("the columns are not straight:\n%s", strings.Join(lines, "\n"))
		}
	}
	strangers := status.StrangersText([]status.Stranger{
		{IP: mfp, First: now.Add(-time.Hour), Last: now, Count: 1200, Stage: "RCPT", Said: "550 5.7.1 141.211.13.21 is not registered"},
		{IP: mfp, Stage: hostile, Said: hostile},
	})
	if want := "141.211.13.21                            2026-11-23 13:00 UTC  2026-11-23 14:00 UTC    1,200  RCPT: 550 5.7.1 141.211.13.21 is not registered\n"; !strings.Contains(strangers, want) {
		t.Errorf("got\n%s\nwant\n%s", strangers, want)
	}
	allowances := status.AllowancesText([]status.Allowance{
		{IP: mfp, Registration: "registrations/lsa-physics/mfp.cue", Messages: 3, Leniency: status.Leniency{Key: "bareLF", Value: `"fix"`, What: "line feeds", Since: now}},
		{IP: mfp, Registration: hostile, Leniency: status.Leniency{Key: hostile, Value: hostile, What: hostile}},
	})
	if want := "141.211.13.21                            registrations/lsa-physics/mfp.cue         bareLF: \"fix\"         line feeds: allowed, never needed since 2026-11-23 14:00 UTC\n"; !strings.Contains(allowances, want) || strings.ContainsAny(allowances, "\x1b\r") || strings.Count(allowances, "\n") != 3 {
		t.Errorf("got\n%s\nwant\n%s", allowances, want)
	}
	if strings.ContainsAny(senders+strangers, "\x1b\r") || strings.Count(senders+strangers, "\n") != 7 {
		t.Errorf("text of strangers is not kept on its line: %q", senders+strangers)
	}
}
