package evidence

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// answers serves one relay's answers, whatever the address, with $IP in the
// place of the address asked about.
func answers(t *testing.T, answer string) *Relay {
	t.Helper()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" || r.Method != http.MethodGet {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, strings.ReplaceAll(answer, "$IP", r.URL.Query().Get("ip")))
	})
	relay, err := NewRelay(url)
	if err != nil {
		t.Fatal(err)
	}
	return relay
}

const atNoon = `{"host": "relay.umich.edu", "at": "2026-11-23T12:00:00Z", "ip": "$IP", "standing": "unregistered", `

func TestRelay(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  string
		outcome Outcome
		text    string
		detail  []string
	}{
		"proved for a request": {atNoon + `"proofs": [{"request": 7, "at": "2026-11-20T10:00:00Z"}], "mail": {"day": 0}}`,
			Confirmed, "control of 141.211.13.21 was proved to relay.umich.edu on 2026-11-20 10:00 UTC for request 7", []string{"it has accepted no mail from this address"}},
		"proved for none": {atNoon + `"proofs": [{"at": "2026-11-20T10:00:00Z"}]}`,
			Confirmed, "on 2026-11-20 10:00 UTC for no request", nil},
		"the newest proof counts": {atNoon + `"proofs": [{"request": 1, "at": "2025-01-01T00:00:00Z"}, {"request": 3, "at": "2026-11-23T11:00:00Z"}, {"request": 2, "at": "2026-11-01T00:00:00Z"}]}`,
			Confirmed, "on 2026-11-23 11:00 UTC for request 3", []string{"proved on 2026-11-01 00:00 UTC for request 2, too", "proved on 2025-01-01 00:00 UTC for request 1, too", "it has accepted no mail from this address"}},
		"on the last day": {atNoon + `"proofs": [{"request": 7, "at": "2026-08-25T12:00:00Z"}]}`, Confirmed, "for request 7", nil},
		"long ago": {atNoon + `"proofs": [{"request": 7, "at": "2026-08-25T11:59:59Z"}]}`,
			Unknown, "over 90 days ago", nil},
		"never": {atNoon + `"proofs": []}`,
			Unknown, "control of 141.211.13.21 was never proved to relay.umich.edu; a token for that: gatepost prove 141.211.13.21", nil},
		"mail alone is a note": {atNoon + `"proofs": [], "mail": {"last": "2026-11-23T11:59:00Z", "month": 1333}}`,
			Unknown, "never proved", []string{"it last accepted mail from this address on 2026-11-23 11:59 UTC; 1333 in the last 30 days"}},
		"all that can be said": {atNoon + `"proofs": [], "block": {"reason": "worm"}, "refusals": [{"at": "2026-11-23T11:00:00Z", "said": "554 5.7.1 blocked"}, {"at": "2026-11-22T11:00:00Z", "said": "550"}]}`,
			Unknown, "never proved", []string{"it has accepted no mail from this address", "the address is blocked: worm", "last refused on 2026-11-23 11:00 UTC: 554 5.7.1 blocked"}},
		"a time to come":     {atNoon + `"proofs": [{"at": "2026-11-23T14:00:00Z"}]}`, Unknown, "at a time to come", nil},
		"no time":            {atNoon + `"proofs": [{"request": 7}]}`, Unknown, "at a time to come", nil},
		"a clock a bit late": {atNoon + `"proofs": [{"at": "2026-11-23T12:30:00Z"}]}`, Confirmed, "proved", nil},
		"another address":    {strings.ReplaceAll(atNoon, "$IP", "141.211.13.22") + `"proofs": [{"at": "2026-11-20T10:00:00Z"}]}`, Unknown, "is not about this address", nil},
		"an older relay":     {`{"host": "relay.umich.edu", "at": "2026-11-23T12:00:00Z", "ready": true, "findings": []}`, Unknown, "is not about this address", nil},
		"no host":            {`{"at": "2026-11-23T12:00:00Z", "ip": "$IP", "proofs": [{"at": "2026-11-20T10:00:00Z"}]}`, Unknown, "is not about this address", nil},
		"no clock":           {`{"host": "relay.umich.edu", "ip": "$IP", "proofs": [{"at": "2026-11-20T10:00:00Z"}]}`, Unknown, "is not about this address", nil},
		"proofs of a kind":   {atNoon + `"proofs": {"count": 1}}`, Unknown, "not what a relay sends", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := observe(t, answers(t, tc.answer), claim("141.211.13.21", "mfp1.example.edu"), tc.outcome, tc.text)
			if tc.detail != nil && !slices.Equal(f.Detail, tc.detail) {
				t.Errorf("detail %q, want %q", f.Detail, tc.detail)
			}
		})
	}
	observe(t, answers(t, atNoon+`"proofs": [{"at": "2026-11-20T10:00:00Z"}]}`), claim("2607:f018:1:13::22", "mfp2.example.edu"), Confirmed, "2607:f018:1:13::22 was proved")
}

func TestARelaysTextIsShownHarmless(t *testing.T) {
	hostile := `\u001b[2J\r\n::error::x` + strings.Repeat("x", 5000)
	f := observe(t, answers(t, strings.ReplaceAll(atNoon, "relay.umich.edu", hostile)+`"proofs": [{"at": "2026-11-20T10:00:00Z"}], "block": {"reason": "`+hostile+`"}, "refusals": [{"said": "`+hostile+`"}]}`),
		claim("141.211.13.21", "mfp1.example.edu"), Confirmed, "control of 141.211.13.21")
	for _, line := range append(f.Detail, f.Text) {
		if strings.ContainsAny(line, "\x1b\r\n") || len(line) > maxText {
			t.Errorf("%q", line)
		}
	}
	if !strings.Contains(f.Text, "2026-11-20") {
		t.Errorf("a long name has pushed the rest out: %q", f.Text)
	}
}

// TestARelayOnItsSocket: an operator's socket, given by its path.
func TestARelayOnItsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/status" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, strings.ReplaceAll(atNoon, "$IP", r.URL.Query().Get("ip"))+`"proofs": [{"at": "2026-11-20T10:00:00Z"}]}`)
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	relay, err := NewRelay(path)
	if err != nil {
		t.Fatal(err)
	}
	observe(t, relay, claim("141.211.13.21", "mfp1.example.edu"), Confirmed, "was proved")
	server.Close()
	<-done
	relay.client.CloseIdleConnections()
	observe(t, relay, claim("141.211.13.21", "mfp1.example.edu"), Unknown, "could not be asked")
}

func TestWhereARelayCanBe(t *testing.T) {
	for where, ok := range map[string]bool{
		"http://127.0.0.1:9587": true, "http://localhost:9587/status": true, "https://relay.umich.edu/gatepost/": true,
		"/run/gatepost/gatepostd.sock": true, "relay.sock": true,
		"": false, "a\x00b": false, "http://relay.umich.edu:9587": false, "https://me:hunter2@relay.umich.edu": false, "ftp://relay": false, "https://relay.umich.edu/?x=1": false,
	} {
		r, err := NewRelay(where)
		if (err == nil) != ok || (r == nil) == ok {
			t.Errorf("%q: %v", where, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells a password: %v", err)
		}
	}
}
