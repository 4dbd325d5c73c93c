package status_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/status"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)

const commit = "0123456789abcdef0123456789abcdef01234567"

// well is a relay with nothing wrong.
func well() status.Options {
	return status.Options{
		Host: "relay.mail.umich.edu", Version: "v1.2.0", Started: now.Add(-76 * time.Hour),
		Now: func() time.Time { return now },
		Sources: status.Sources{
			Register: func() status.Register {
				return status.Register{
					Repository: "https://github.com/umich/mail-relay-register", Branch: "main",
					Commit: commit, Newest: commit, AcceptedAt: now.Add(-2 * time.Hour), LastContact: now.Add(-12 * time.Second),
					Addresses: 4211, Live: 4180,
				}
			},
			Queue: func() status.Queue {
				return status.Queue{
					Entries: 12, Depth: map[string]int{"ready": 3, "running": 2, "waiting": 7},
					Oldest: now.Add(-10 * time.Minute), Next: now.Add(90 * time.Second),
					Destinations: []status.Destination{{Name: "mx1.umich.edu:25", Entries: 12, Running: 2, Window: 16}},
				}
			},
			Relay:       func() status.Relay { return status.Relay{Sessions: 14, Accepted: 10233, Refused: 12} },
			Certificate: func() *status.Certificate { return &status.Certificate{NotAfter: now.AddDate(0, 2, 0)} },
			Webhook: func() *status.Webhook {
				// Refused before the newest right one: somebody else's noise.
				return &status.Webhook{Verified: 1204, VerifiedAt: now.Add(-2 * time.Hour), RefusedAt: now.Add(-3 * time.Hour)}
			},
			Spool: func() error { return nil },
		},
	}
}

// register changes what the register's source tells.
func register(o status.Options, change func(*status.Register)) status.Options {
	source := o.Sources.Register
	o.Sources.Register = func() status.Register {
		g := source()
		change(&g)
		return g
	}
	return o
}

func scenarios() map[string]status.Options {
	first := well()
	first.Sources.Queue = func() status.Queue { return status.Queue{} }
	first.Sources.Relay, first.Sources.Certificate, first.Sources.Webhook = nil, nil, nil
	first.Started = now.Add(-3 * time.Second)
	first.Sources.Register = func() status.Register {
		return status.Register{Repository: "https://github.com/umich/mail-relay-register", Branch: "main",
			Error: "gitsync: fetching https://github.com/umich/mail-relay-register: 401 Unauthorized"}
	}

	held := register(well(), func(g *status.Register) {
		g.Condition, g.Newest = status.Held, strings.Repeat("f", 40)
		g.Reason = "it removes 2,000 of 4,180 live addresses"
		g.Command = `gatepost accept ffffffffffff --reason "…"`
	})

	worst := register(well(), func(g *status.Register) {
		g.Condition, g.Newest, g.Reason = status.Frozen, strings.Repeat("e", 40), "the branch was rewritten"
		g.Command = `gatepost accept eeeeeeeeeeee --reason "…"`
		g.LastContact, g.Error = now.Add(-3*time.Hour), "gitsync: fetching: connection refused"
		g.Dropped, g.Unconfirmed = 1, true
		for range 7 {
			g.Substituted = append(g.Substituted, status.Substitution{File: "registrations/lsa-physics/mfp.cue", Commit: commit})
			g.Problems = append(g.Problems, registration.Problem{File: "registrations/lsa-physics/mfp.cue", Line: 3, Column: 8,
				Rule: registration.RuleContactDomain, Severity: registration.Error, Message: "gmail.com is no domain of lsa-physics", Hint: "x"})
		}
		g.Substituted[1].Commit = ""
	})
	worst.Sources.Spool = func() error { return errors.New("spool: no space") }
	worst.Sources.Queue = func() status.Queue {
		return status.Queue{Entries: 4321, Depth: map[string]int{"waiting": 4320, "held": 1}, Oldest: now.Add(-50 * time.Hour),
			Destinations: []status.Destination{{Name: "mx1.umich.edu:25", Entries: 4321, Failures: 7, BlockedUntil: now.Add(5 * time.Minute)}}}
	}
	worst.Sources.Drift = func() []status.Drift {
		return []status.Drift{{Prefix: "141.211.13.21", Reason: "sent 40,000 messages overnight", Since: now, Until: now.Add(8 * time.Hour)},
			{Prefix: "141.211.14.0/24", Reason: "worm"}}
	}
	worst.Sources.Webhook = nil
	worst.Sources.Certificate = func() *status.Certificate {
		return &status.Certificate{NotAfter: now.Add(-time.Hour), Error: "no such file"}
	}
	worst.Sources.Config = func() status.Config {
		return status.Config{File: "/etc/gatepost/relay.cue", NeedRestart: []string{"limits.sessions"}}
	}

	hostile := register(well(), func(g *status.Register) {
		g.Condition, g.Reason = status.Frozen, "\x1b]0;owned\x07\x1b[2J\r\nWRONG nothing \u202e"+strings.Repeat("x", 10_000)
		g.Substituted = []status.Substitution{{File: "registrations/\x1b[31m.cue", Commit: "x"}}
		g.Commit = "short"
	})
	withheld := register(well(), func(g *status.Register) {
		g.Keys = []string{"/etc/gatepost/postmasters.asc cannot be read: no such file or directory", "/etc/gatepost/allowed_signers: line 3: no public key"}
		evil, late := strings.Repeat("d", 40), strings.Repeat("c", 40)
		for i, file := range []string{"networks", "mfp1", "mfp2", "mfp3"} {
			w := status.Withheld{File: "registrations/lsa-physics/" + file + ".cue", Since: now.Add(-time.Hour), Commit: evil, Refused: true,
				Why: "pull request 12: nobody approves of its head 0123456789ab with their last word", InForce: commit}
			if i == 3 {
				w = status.Withheld{File: w.File, Since: now, Commit: late, Why: "the forge cannot be reached"}
			}
			g.Withheld = append(g.Withheld, w)
		}
	})
	putOff := well()
	putOff.Sources.Webhook = func() *status.Webhook { // long over
		return &status.Webhook{RefusedAt: now.Add(-25 * time.Hour), Refused: 1}
	}
	putOff.Sources.Queue = func() status.Queue {
		return status.Queue{Entries: 31, Depth: map[string]int{"waiting": 31}, Oldest: now.Add(-20 * time.Minute),
			Destinations: []status.Destination{{Name: "smarthosts", Entries: 31, Deferrals: 40, Said: "450 4.7.1 greylisted"}}}
	}
	blocked := well()
	blocked.Sources.Drift = func() []status.Drift {
		return []status.Drift{{Prefix: "141.211.13.21", Reason: "sent 40,000 messages overnight", Agreed: "registrations/blocks/mfp1.cue"},
			{Prefix: "141.211.14.0/24", Reason: "worm", Until: now.Add(time.Hour)}}
	}
	blocked.Sources.Blocks = func() status.Blocks {
		return status.Blocks{Commands: 2, Unsaved: "durable: no space left on device", Damaged: "/var/lib/gatepost/blocks/commands.damaged",
			Local: &status.LocalBlocks{File: "/etc/gatepost/blocks", Blocks: 1200, ReadAt: now.Add(-3 * time.Hour), Error: "its last line has no end",
				Bad: []status.BadLine{{2, `"141.211.13" is neither an address nor a network`}, {3, "\x1b[2J"}, {4, "x"}, {5, "x"}}, BadCount: 1000}}
	}
	storm := well()
	storm.Sources.Drift = func() (list []status.Drift) {
		for i := range 10 {
			d := status.Drift{Prefix: fmt.Sprintf("141.211.13.%d", i), Reason: "storm"}
			if i > 4 {
				d.Agreed = "registrations/blocks/storm.cue"
			}
			list = append(list, d)
		}
		return list
	}
	storm.Sources.Blocks = func() status.Blocks {
		return status.Blocks{Commands: 10, Local: &status.LocalBlocks{File: "/etc/gatepost/blocks"}}
	}
	braked := well()
	braked.Sources.Drift = func() []status.Drift { // told with the registration
		return []status.Drift{{Prefix: "141.211.13.21", Reason: status.ByBrake + "5,000 different messages were tried in an hour; 200 are declared", Since: now, Until: now.Add(24 * time.Hour)}}
	}
	braked.Sources.Brake = func() []status.Braked {
		list := []status.Braked{{Registration: "registrations/lsa-physics/mfp.cue", Step: status.BrakeBlock, Since: now, Until: now.Add(24 * time.Hour), Why: []string{"5,000 different messages were tried in an hour; 200 are declared"}},
			{Registration: "registrations/its/app.cue", Step: status.BrakeHold, Since: now}}
		for range 3 {
			list = append(list, status.Braked{Registration: "registrations/its/web.cue", Step: status.BrakeSlow, Since: now, Until: now.Add(time.Hour), Why: []string{"the same text went to 1,001 different recipients in a day"}})
		}
		return list
	}
	refused := well()
	refused.Sources.Webhook = func() *status.Webhook {
		return &status.Webhook{RefusedAt: now.Add(-3 * time.Minute), Refused: 7, Error: "webhook: the secret is empty"}
	}
	refused.Sources.DKIM = func() *status.DKIM {
		return &status.DKIM{Error: "dkim: the key of example.edu, selector a, in /etc/k: there is no private key in PEM in it"}
	}
	refused.Sources.Resolver = func() *status.Resolver { return &status.Resolver{Address: "127.0.0.1:5353"} }
	putOff.Sources.Resolver = func() *status.Resolver {
		return &status.Resolver{Address: "127.0.0.1:53", Error: "dial udp 127.0.0.1:53: connection refused"}
	}
	refused.Sources.Portal = func() *status.Portal {
		return &status.Portal{RefusedAt: now.Add(-3 * time.Minute), Refused: 1, Error: "listen.portal.tokenFile: /etc/p holds 3 octets, and a token has from 32 to 512"}
	}
	busy := well()
	busy.Sources.Portal = func() *status.Portal { return &status.Portal{AskedAt: now.Add(-4 * time.Second), Operates: true} }
	busy.Sources.Queue = func() status.Queue {
		return status.Queue{Delivered: 12_004, Deferred: 1, Bounced: 17}
	}
	busy.Sources.Senders = func() status.Senders {
		list := make([]status.Sender, 30)
		for i := range list {
			list[i] = status.Sender{Registration: fmt.Sprintf("registrations/lsa-physics/mfp%d.cue", i), Department: "lsa-physics", Addresses: 2,
				Mail: status.Mail{Last: now, Day: 1000 - i, Week: 7000, Month: 29_999, Recipients: 30_000, Octets: 5 << 30}}
		}
		list[1].Registration = ""
		return status.Senders{Count: 30, Top: list}
	}
	busy.Sources.Strangers = func() status.Strangers {
		return status.Strangers{Count: 1, Newest: []status.Stranger{{IP: mfp, First: now.Add(-time.Hour), Last: now.Add(-time.Minute), Count: 3, Stage: "RCPT", Reason: "unregistered", Said: "550"}}}
	}
	return map[string]status.Options{"braked": braked, "busy": busy, "blocked": blocked, "storm": storm, "withheld": withheld, "refused": refused, "put-off": putOff, "well": well(), "first": first, "held": held, "worst": worst, "hostile": hostile, "bare": {Now: func() time.Time { return now }}}
}

// TestText holds the operator's screen in every kind of weather.
func TestText(t *testing.T) {
	for name, o := range scenarios() {
		t.Run(name, func(t *testing.T) {
			got := status.New(o).Read().Text()
			golden := filepath.Join("testdata", name+".txt")
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
			if n := strings.Count(got, "\n"); n > 50 {
				t.Errorf("%d lines are more than one screen", n)
			}
		})
	}
}

func ask(t *testing.T, o status.Options, method, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	status.New(o).Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPages(t *testing.T) {
	full := well()
	full.Sources.Spool = func() error { return errors.New("no space") }
	fresh := register(well(), func(g *status.Register) { g.Commit = "" })
	both := fresh
	both.Sources.Spool = full.Sources.Spool
	metered := well()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gatepost_sample", Help: "x"}, func() float64 { return 42 }))
	metered.Gatherer = registry

	for name, tc := range map[string]struct {
		o            status.Options
		method, path string
		code         int
		text         string
	}{
		"alive":             {well(), "GET", "/healthz", 200, "ok\n"},
		"alive, not ready":  {full, "GET", "/healthz", 200, "ok\n"},
		"ready":             {well(), "GET", "/readyz", 200, "ready\n"},
		"no room":           {full, "GET", "/readyz", 503, "not ready: the spool accepts nothing: no space\n"},
		"no register":       {fresh, "GET", "/readyz", 503, "not ready: there is no register yet\n"},
		"neither":           {both, "GET", "/readyz", 503, "not ready: there is no register yet; the spool accepts nothing: no space\n"},
		"nothing connected": {status.Options{}, "GET", "/readyz", 503, "not ready: there is no register yet\n"},
		"status":            {well(), "GET", "/status", 200, commit},
		"status, HEAD":      {well(), "HEAD", "/status", 200, ""},
		"metrics":           {metered, "GET", "/metrics", 200, "gatepost_sample 42"},
		"no metrics":        {well(), "GET", "/metrics", 404, "no such page"},
		"start":             {well(), "GET", "/", 200, "/readyz"},
		"elsewhere":         {well(), "GET", "/status/x", 404, "no such page"},
		"up and down":       {well(), "GET", "/x/../status", 404, "no such page"},
		"post":              {well(), "POST", "/status", 405, "can only be read"},
		"delete":            {metered, "DELETE", "/metrics", 405, "can only be read"},
		"options":           {well(), "OPTIONS", "/healthz", 405, ""},
		"trace":             {well(), "TRACE", "/nowhere", 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			resp := ask(t, tc.o, tc.method, tc.path)
			text := body(t, resp)
			if resp.StatusCode != tc.code || !strings.Contains(text, tc.text) {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, text, tc.code, tc.text)
			}
			if resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("may be kept: %v", resp.Header)
			}
			if tc.code == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow %q", resp.Header.Get("Allow"))
			}
		})
	}
}

// TestJSON: what the pages tell can be read back whole, and names are
// camelCase.
func TestJSON(t *testing.T) {
	for name, o := range scenarios() {
		resp := ask(t, o, "GET", "/status")
		text := body(t, resp)
		if resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: Content-Type %q", name, resp.Header.Get("Content-Type"))
		}
		var back status.Report
		if err := json.Unmarshal([]byte(text), &back); err != nil {
			t.Fatal(err)
		}
		if got, want := back.Text(), status.New(o).Read().Text(); got != want {
			t.Errorf("%s: read back, it shows\n%s\nwant\n%s", name, got, want)
		}
		var tree map[string]any
		if err := json.Unmarshal([]byte(text), &tree); err != nil {
			t.Fatal(err)
		}
		checkNames(t, name, tree)
		for _, list := range []any{tree["findings"], tree["drift"], tree["register"].(map[string]any)["problems"], tree["queue"].(map[string]any)["destinations"]} {
			if _, ok := list.([]any); !ok {
				t.Errorf("%s: a list is %v", name, list)
			}
		}
	}
}

func checkNames(t *testing.T, where string, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if name == "" || strings.ContainsAny(name, "_- ") || name[0] >= 'A' && name[0] <= 'Z' {
				t.Errorf("%s: the name %q", where, name)
			}
			checkNames(t, where+"."+name, inner)
		}
	case []any:
		for _, inner := range v {
			checkNames(t, where, inner)
		}
	}
}

func TestManyProblemsAreCounted(t *testing.T) {
	r := status.New(register(well(), func(g *status.Register) { g.Problems = make([]registration.Problem, 1000) })).Read()
	if len(r.Register.Problems) != 200 || r.Register.ProblemCount != 1000 {
		t.Errorf("%d of %d", len(r.Register.Problems), r.Register.ProblemCount)
	}
}

// TestFindings holds from when on something is said.
func TestFindings(t *testing.T) {
	certificate := func(left time.Duration) status.Options {
		o := well()
		o.Sources.Certificate = func() *status.Certificate { return &status.Certificate{NotAfter: now.Add(left)} }
		return o
	}
	silent := func(ago time.Duration, err string) status.Options {
		return register(well(), func(g *status.Register) { g.LastContact, g.Error = now.Add(-ago), err })
	}
	aged := func(age time.Duration) status.Options {
		o := well()
		o.Sources.Queue = func() status.Queue { return status.Queue{Entries: 1, Oldest: now.Add(-age)} }
		return o
	}
	for name, tc := range map[string]struct {
		o     status.Options
		level status.Level // "": no finding
		what  string
	}{
		"certificate for long":       {certificate(15 * 24 * time.Hour), "", ""},
		"certificate for days":       {certificate(13 * 24 * time.Hour), status.Look, "expires in 13d"},
		"certificate over":           {certificate(0), status.Wrong, "expired"},
		"one failed fetch":           {silent(time.Minute, "refused"), "", ""},
		"git gone for long":          {silent(time.Hour, "refused"), status.Look, "has not answered for 1h: refused"},
		"a poll that takes its time": {silent(time.Hour, ""), "", ""},
		"young queue":                {aged(3 * time.Hour), "", ""},
		"old queue":                  {aged(5 * time.Hour), status.Look, "in the queue for 5h"},
		"confirmations under way":    {register(well(), func(g *status.Register) { g.Unconfirmed, g.AcceptedAt = true, now }), "", ""},
		"confirmations late":         {register(well(), func(g *status.Register) { g.Unconfirmed = true }), status.Look, "confirmations are late"},
		"held without a command":     {register(well(), func(g *status.Register) { g.Condition, g.Reason = status.Held, "x" }), status.Wrong, "waits for an operator: x"},
		"the configuration is at fault": {func() status.Options {
			o := well()
			o.Sources.Config = func() status.Config { return status.Config{File: "/f", Error: "x"} }
			return o
		}(), status.Look, "configuration file has problems"},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.New(tc.o).Read().Findings
			if tc.level == "" {
				if len(got) > 0 {
					t.Errorf("got %v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Level != tc.level || !strings.Contains(got[0].What, tc.what) || got[0].Do == "" {
				t.Errorf("got %+v, want %s %q", got, tc.level, tc.what)
			}
		})
	}
}
