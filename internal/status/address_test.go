package status_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"example.edu/gatepost/internal/status"
)

var mfp = netip.MustParseAddr("141.211.13.21")

func proofs(n int) (list []status.Proof) {
	for i := range n {
		list = append(list, status.Proof{IP: mfp, Request: i, At: now.Add(-time.Duration(i+1) * time.Hour), Port: "relay"})
	}
	return list
}

// addresses are those that the tests ask about, by the name of a golden file.
func addresses() map[string]status.Address {
	full := status.Address{
		IP: mfp, Standing: status.MaySend,
		Registration: &status.Registration{File: "registrations/lsa-physics/mfp.cue", Department: "lsa-physics",
			Contact: "physics-it@umich.edu", Name: "mfp1.physics.lsa.umich.edu", LastDay: "2027-11-30", Commit: commit},
		Proofs:       proofs(5),
		Confirmation: &status.Confirmation{SentAt: now.AddDate(0, -3, 0), Message: "0DJK7XWR5JZ00AAA", Queued: true},
		Brake: &status.Braked{Registration: "registrations/lsa-physics/mfp.cue", Step: "free", Counts: status.BrakeCounts{
			Declared: 200, Tried: 12, Recipients: 4, Usual: 37, SameBody: 1, Delivered: 900, Bounced: 3, Spam: 1}},
		Budgets: []status.Budget{
			{Name: "messages-minute", Whose: "registrations/lsa-physics/mfp.cue", Limit: 100, AtOnce: 100, Left: 60, FullAt: now.Add(time.Minute)},
			{Name: "messages-hour", Whose: "registrations/lsa-physics/mfp.cue", Limit: 200, AtOnce: 200, Left: 160, FullAt: now.Add(time.Minute)},
			{Name: "recipients-day", Whose: "registrations/lsa-physics/mfp.cue", Limit: 50, AtOnce: 100, Left: -1, FullAt: now.Add(time.Minute)},
			{Name: "octets-day", Whose: mfp.String(), Limit: 4 << 30, AtOnce: 4 << 30, Left: 4<<30 - 300<<20, FullAt: now.Add(time.Minute)},
		},
		Seen: now.Add(-time.Minute),
		Mail: status.Mail{First: now.AddDate(0, -3, 0), Last: now.Add(-time.Minute), Day: 12, Week: 40, Month: 1333,
			Recipients: 2001, Octets: 1_234_567_890, TLS: "TLS 1.0"},
		Together: &status.Sender{Registration: "registrations/lsa-physics/mfp.cue", Addresses: 2,
			Mail: status.Mail{Day: 20, Week: 70, Month: 2000, Recipients: 2668, Octets: 999}},
		Leniencies: []status.Leniency{
			{Key: "bareLF", Value: `"fix"`, What: "lines that end in a bare LF", Count: 1333, Last: now.Add(-time.Minute), Since: now.AddDate(0, -3, 0)},
			{Key: "tls", Value: `"legacy"`, What: "TLS before 1.2", Last: now.AddDate(0, -2, 0), Since: now.AddDate(0, -3, 0)},
			{Key: "commands", Value: `"sloppy"`, What: "no HELO", Since: now.AddDate(0, -3, 0)},
			{Key: "tls", Value: `"off"`, What: "STARTTLS is hidden", Hidden: true},
		},
		Reasons: []status.Reason{{Reason: "sender", Count: 1200, First: now.Add(-5 * time.Hour), Last: now.Add(-2 * time.Hour)},
			{Reason: "unregistered", Count: 1, First: now.Add(-48 * time.Hour), Last: now.Add(-48 * time.Hour)}},
		Refusals: []status.Refusal{
			{At: now.Add(-2 * time.Hour), Count: 1200, Stage: "MAIL", Reason: "sender", Said: "550 5.7.1 141.211.13.21 may not send as <root@localhost>; change it at https://relay.umich.edu/register?ip=141.211.13.21"},
			{At: now.Add(-48 * time.Hour), Count: 1, Stage: "RCPT", Reason: "unregistered", Said: "550 5.7.1 141.211.13.21 is not registered with this relay; write to postmaster@umich.edu"},
		},
	}
	full.Proofs[0].TLS, full.Proofs[0].Port = "TLS 1.3 TLS_AES_128_GCM_SHA256", "submission"
	blocked := full
	blocked.Standing, blocked.Mail, blocked.Proofs, blocked.Refusals, blocked.Budgets = "blocked", status.Mail{}, nil, nil, nil
	blocked.Blocks = []status.Blocked{
		{Prefix: mfp.String(), Source: status.ByRegister, Reason: "sent 40,000 messages overnight", File: "registrations/blocks/mfp1.cue", Until: now.AddDate(0, 0, 8)},
		{Prefix: mfp.String(), Source: status.ByCommand, Reason: "a storm", Since: now.Add(-time.Hour), Until: now.Add(time.Hour), Agreed: "registrations/blocks/mfp1.cue"},
		{Prefix: "141.211.13.0/24", Source: status.ByFile, Reason: "scans", File: "/etc/gatepost/blocks", Line: 12},
		{Prefix: "141.211.0.0/16", Source: status.ByCommand, Reason: "more than is shown"},
	}
	blocked.Leniencies = slices.Clone(full.Leniencies)
	blocked.Leniencies[0].Count = 0
	blocked.Brake = &status.Braked{Step: status.BrakeBlock, Since: now.Add(-time.Hour), Until: now.Add(23 * time.Hour), Counts: full.Brake.Counts,
		Why: []string{"5,000 different messages were tried in an hour; 200 are declared", "the same text went to 4,000 different recipients in a day"}}
	here := blocked
	here.Brake = &status.Braked{Step: "free", FreeUntil: now.Add(time.Hour)}
	here.Registration, here.Together, here.Leniencies, here.Blocks = nil, nil, nil, []status.Blocked{{Prefix: mfp.String(), Source: status.ByCommand, Reason: "worm"}}
	hostile := full
	hostile.Standing = "\x1b[2J\r\nregistered"
	hostile.Registration = &status.Registration{File: "\x1b[31m.cue", Department: "\u202e", Contact: "a\nb", Name: strings.Repeat("x", 10_000), LastDay: "\x07"}
	hostile.Budgets = []status.Budget{{Name: "\x1b[2J-\r\n", Whose: "\x1b[31m"}, {Name: "no dash"}}
	hostile.Brake = &status.Braked{Step: "\x1b[2J", Why: []string{"\x1b]0;owned\x07"}}
	hostile.Refusals = []status.Refusal{{At: now, Count: 2, Stage: "\x1b", Said: "\x1b]0;owned\x07"}}
	hostile.Blocks = []status.Blocked{{Prefix: "\x1b", Source: status.ByFile, File: "a\nb", Reason: "\x1b]0;owned\x07", Agreed: "\x1b"}}
	hostile.Reasons = []status.Reason{{Reason: "\x1b[2J", Count: 1}}
	hostile.Leniencies = []status.Leniency{{Key: "\x1b", Value: "\r", What: "\x07"}}
	hostile.Mail.TLS = "\x1b"
	hostile.Proofs = []status.Proof{{IP: mfp, At: now, TLS: "\x1b"}}
	held := full // and registered: what stops it is the brake
	held.Brake = &status.Braked{Registration: "registrations/lsa-physics/mfp.cue", Step: status.BrakeHold, Since: now.Add(-time.Hour), Why: []string{"5,000 different messages were tried in an hour; 200 are declared"}}
	return map[string]status.Address{"full": full, "held": held, "blocked": blocked, "here": here, "hostile": hostile,
		"unknown": {IP: netip.MustParseAddr("2607:f018::1"), Standing: "unregistered"}}
}

func asking(a status.Address) status.Options {
	o := well()
	o.Sources.Address = func(ip netip.Addr) status.Address { a.IP = ip; return a }
	return o
}

// TestAddressText holds the screen of one address.
func TestAddressText(t *testing.T) {
	for name, a := range addresses() {
		t.Run(name, func(t *testing.T) {
			got := status.New(asking(a)).Address(a.IP).Text()
			golden := filepath.Join("testdata", "address-"+name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if strings.ContainsAny(got, "\x1b\r\x07\u202e") || !utf8.ValidString(got) {
				t.Errorf("the text can steer a terminal: %q", got)
			}
		})
	}
}

// TestAddressPage: ?ip= of the status page tells of one address, in JSON that
// can be read back, and refuses what is none.
func TestAddressPage(t *testing.T) {
	for name, a := range addresses() {
		resp := ask(t, asking(a), "GET", "/status?ip="+a.IP.String())
		text := body(t, resp)
		var back status.Address
		if err := json.Unmarshal([]byte(text), &back); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d %v: %s", name, resp.StatusCode, err, text)
		}
		if got, want := back.Text(), status.New(asking(a)).Address(a.IP).Text(); got != want {
			t.Errorf("%s: read back, it shows\n%s\nwant\n%s", name, got, want)
		}
		var tree map[string]any
		if err := json.Unmarshal([]byte(text), &tree); err != nil {
			t.Fatal(err)
		}
		checkNames(t, name, tree)
		for _, list := range []string{"blocks", "proofs", "refusals", "leniencies", "reasons"} {
			if _, ok := tree[list].([]any); !ok {
				t.Errorf("%s: %s is %v", name, list, tree[list])
			}
		}
	}
	for query, code := range map[string]int{
		"?ip=141.211.13.21": 200, "?ip=::ffff:141.211.13.21": 200, "?ip=2607:f018::1": 200,
		"?ip=": 400, "?ip=141.211.13.0/24": 400, "?ip=printer": 400, "?ip=fe80::1%25eth0": 400, "?ip=1.2.3.4&ip=1.2.3.5": 400,
	} {
		resp := ask(t, asking(addresses()["full"]), "GET", "/status"+query)
		if text := body(t, resp); resp.StatusCode != code || query == "?ip=::ffff:141.211.13.21" && !strings.Contains(text, `"ip": "141.211.13.21"`) {
			t.Errorf("%s: %d, want %d: %s", query, resp.StatusCode, code, text)
		}
	}
	if resp := ask(t, well(), "GET", "/status?ip=141.211.13.21"); resp.StatusCode != 200 || !strings.Contains(body(t, resp), `"ip": "141.211.13.21"`) {
		t.Error("a relay that knows nothing of addresses does not answer")
	}
}

func TestProofsInTheReport(t *testing.T) {
	o := well()
	o.Sources.Proofs = func() status.Proofs { return status.Proofs{Count: 1000, Newest: proofs(30)} }
	r := status.New(o).Read()
	if len(r.Proofs.Newest) != 20 || r.Proofs.Count != 1000 {
		t.Errorf("%d of %d", len(r.Proofs.Newest), r.Proofs.Count)
	}
	if text := r.Text(); !strings.Contains(text, "proofs    1,000 proofs of control; the newest 1h ago: 141.211.13.21, for no request, in clear text\n") {
		t.Errorf("%s", text)
	}
	if text := status.New(well()).Read().Text(); strings.Contains(text, "proofs") {
		t.Errorf("no proof is told of:\n%s", text)
	}
	lines := strings.Split(status.ProofsText(slices.Concat(proofs(2), addresses()["hostile"].Proofs)), "\n")
	if len(lines) != 5 || lines[1] != "141.211.13.21                            2026-11-23 13:00 UTC        -  relay       none" || strings.ContainsAny(lines[3], "\x1b\r") {
		t.Errorf("%q", lines)
	}
}
