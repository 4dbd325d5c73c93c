package daemon_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestWhoSendsWhatAndWhatItNeeds: an old device, and one that is not
// registered, as an operator sees them, before and after a restart.
func TestWhoSendsWhatAndWhatItNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("registrations/lab/old.cue", fmt.Sprintf(`
department: "lab"
contact: {name: "Lab IT", email: "it@lab.example"}
purpose:   "Alarms of old controllers."
whyNoAuth: "No SMTP AUTH in the firmware."
hosts: [
	{ip: "127.0.0.3", name: "old1.lab.example", kind: "sensor", device: {bareLF: "fix", tls: "legacy", commands: "sloppy"}},
	{ip: "127.0.0.4", name: "old2.lab.example", kind: "sensor", device: {tls: "off"}},
]
volume: {perHour: 100, perDay: 1000}
expires: %q
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`, time.Now().AddDate(1, 0, 0).Format(time.DateOnly)))
	w.commit("Old controllers")
	w.push()
	w.start()
	w.waitCommit()
	for range 2 {
		c, greeting := w.dial("127.0.0.3")
		c.expect(greeting, "220")
		c.expect(c.say("MAIL FROM: alarm@lab.example"), "250")
		c.expect(c.say("RCPT TO:<a@example.org>"), "250")
		c.expect(c.say("RCPT TO:<b@example.org>"), "250")
		c.expect(c.say("DATA"), "354")
		c.expect(c.say("Date: Wed, 25 Nov 2026 12:00:00 +0000\nMessage-ID: <1@old1.lab.example>\nSubject: alarm\n\ntoo warm\r\n."), "250 2.0.0 accepted")
		c.expect(c.say("MAIL FROM:nobody"), "553")
	}
	w.accepted("127.0.0.4", "plain")
	w.refused("127.0.0.2", "550")
	check := func(when string) {
		t.Helper()
		a := w.about("127.0.0.3")
		if a.Mail.Month != 2 || a.Mail.Recipients != 4 || a.Mail.Octets < 100 || a.Mail.TLS != "" || len(a.Reasons) != 1 || a.Reasons[0].Reason != "address" || a.Reasons[0].Count != 2 {
			t.Errorf("%s: %+v", when, a)
		}
		if g := a.Together; g == nil || g.Addresses != 2 || g.Month != 3 || g.Refused != 2 {
			t.Errorf("%s, together: %+v", when, g)
		}
		needed := map[string]int{}
		for _, l := range a.Leniencies {
			needed[l.Key+" "+l.What] = l.Count
		}
		if fmt.Sprint(needed) != "map[addHeaders no Date or no Message-ID:0 bareLF lines that end in a bare line feed:2 commands a blank before an address, or no brackets:2 commands mail without HELO:2 tls TLS older than 1.2, or old ciphers:0]" {
			t.Errorf("%s: %v", when, needed)
		}
		code, out := w.gatepost("status", "127.0.0.3")
		for _, want := range []string{
			`commands: "sloppy" (mail without HELO): needed by 2 messages in 30 days, the last 20`,
			`tls: "legacy" (TLS older than 1.2, or old ciphers): allowed, never needed since 20`,
		} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: gatepost status: %d\n%s\nwant %s", when, code, out, want)
			}
		}
		if _, out := w.gatepost("status", "127.0.0.4"); !strings.Contains(out, `tls: "off" (STARTTLS is not offered): allowed; whether it is needed can only be tried`) {
			t.Errorf("%s: %s", when, out)
		}
		if code, out := w.gatepost("status", "--senders"); code != 0 || !strings.Contains(out, "registrations/lab/old.cue ") || strings.Contains(out, "printer.cue") {
			t.Errorf("%s: gatepost status --senders: %d\n%s", when, code, out)
		}
		if code, out := w.gatepost("status", "--strangers"); code != 0 || !strings.Contains(out, "127.0.0.2 ") || !strings.Contains(out, "RCPT: 550 5.7.1 127.0.0.2 is not registered") {
			t.Errorf("%s: gatepost status --strangers: %d\n%s", when, code, out)
		}
		if code, out := w.gatepost("status", "--leniencies"); code != 0 || strings.Count(out, "\n") != 7 || !strings.Contains(out, `commands: "sloppy"    mail without HELO: needed by 2 messages in 30 days`) || !strings.Contains(out, "127.0.0.4 ") || strings.Contains(out, "127.0.0.1 ") {
			t.Errorf("%s: gatepost status --leniencies: %d\n%s", when, code, out)
		}
		if r := w.report(); r.Senders.Count != 1 || r.Senders.Top[0].Registration != "registrations/lab/old.cue" || r.Strangers.Count != 1 || r.Strangers.Newest[0].IP.String() != "127.0.0.2" {
			t.Errorf("%s: /status: %+v %+v", when, r.Senders, r.Strangers)
		}
	}
	check("at once")
	w.stop()
	w.start()
	check("after a restart")
	if _, page := w.page("/metrics"); strings.Contains(page, "127.0.0.3") {
		t.Error("an address is a label")
	}
}
