package tlsreport

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	netmail "net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/mail"
)

// A world is a book with its clock, its DNS and its outbox.
type world struct {
	t    *testing.T
	file string
	now  time.Time
	txt  map[string][]string // by domain; absent: none
	bad  map[string]bool     // domains of which the DNS does not say
	full bool                // the outbox takes nothing
	sent []sentReport
}

type sentReport struct {
	env  mail.Envelope
	body string
}

func newWorld(t *testing.T) *world {
	return &world{t: t, file: filepath.Join(t.TempDir(), "tls-reports"), now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), txt: map[string][]string{}, bad: map[string]bool{}}
}

func (w *world) LookupTXT(_ context.Context, name string) ([]string, error) {
	domain, ok := strings.CutPrefix(strings.TrimSuffix(name, "."), "_smtp._tls.")
	if !ok {
		w.t.Errorf("looked up %s", name)
	}
	if w.bad[domain] {
		return nil, &net.DNSError{Err: "timeout", IsTimeout: true}
	}
	if txt := w.txt[domain]; txt != nil {
		return txt, nil
	}
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func (w *world) Send(_ context.Context, env mail.Envelope, body []byte) error {
	if w.full {
		return errors.New("disk full")
	}
	w.sent = append(w.sent, sentReport{env, string(body)})
	return nil
}

func (w *world) open() *Book {
	w.t.Helper()
	b, err := Open(Options{
		File: w.file, Hostname: "relay.example.edu", Contact: mail.Address{Local: "postmaster", Domain: "example.edu"},
		Resolver: w, Outbox: w, Now: func() time.Time { return w.now },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func sts(domain string) Policy {
	return Policy{Type: STS, Domain: domain, String: []string{"version: STSv1", "mode: enforce", "mx: *.example.org", "max_age: 86400"}, MX: []string{"*.example.org"}}
}

var failure = &Failure{Result: Expired, Sending: netip.MustParseAddr("198.51.100.62"), Host: "mx.example.org", Receiving: netip.MustParseAddr("203.0.113.58"), Info: "it ended\r\nyesterday"}

// unpack takes the JSON out of a report.
func unpack(t *testing.T, s sentReport) (header netmail.Header, text string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Fatalf("%s %v %v", kind, params, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	words, err := parts.NextPart()
	if err != nil || !strings.HasPrefix(words.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%v %v", words, err)
	}
	data, err := parts.NextPart()
	if err != nil || data.Header.Get("Content-Type") != "application/tlsrpt+gzip" {
		t.Fatalf("%v %v", data, err)
	}
	zip, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, data))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(s.body) {
		if !strings.HasSuffix(l, "\r\n") || len(l) > 80+2 && !strings.Contains(l, "filename=") {
			t.Errorf("line %q", l)
		}
	}
	return m.Header, string(b)
}

// A day is counted, and the domain that asks for it is told after its end.
func TestADaysReport(t *testing.T) {
	w := newWorld(t)
	w.txt["example.org"] = []string{"v=TLSRPTv1; rua=mailto:tls@reports.example.org,https://reports.example.org/x"}
	b := w.open()
	for range 3 {
		b.Session("example.org", sts("example.org"), nil)
		b.Session("quiet.example", Policy{Type: None, Domain: "quiet.example"}, nil)
	}
	b.Session("example.org", sts("example.org"), failure)
	b.Session("example.org", sts("example.org"), failure)
	b.Session("example.org", Policy{Type: None, Domain: "example.org"}, &Failure{Result: NoSTARTTLS, Host: "old.example.org"})
	b.round(t.Context())
	w.now = time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	b.Session("example.org", sts("example.org"), nil) // of the next day
	b.round(t.Context())
	if b.delay("2026-11-25") > 0 && len(w.sent) > 0 {
		t.Fatal("sent at once")
	}
	w.now = w.now.Add(spread)
	b.round(t.Context())
	b.round(t.Context())
	if len(w.sent) != 1 {
		t.Fatalf("%d reports", len(w.sent))
	}
	env := w.sent[0].env
	if !env.From.IsNull() || !env.AnyTLS || len(env.To) != 1 || env.To[0].Address.String() != "tls@reports.example.org" {
		t.Errorf("%+v", env)
	}
	header, text := unpack(t, w.sent[0])
	for name, want := range map[string]string{
		"From": "<postmaster@example.edu>", "To": "<tls@reports.example.org>", "TLS-Report-Domain": "example.org", "TLS-Report-Submitter": "relay.example.edu",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if s := header.Get("Subject"); !strings.HasPrefix(s, "Report Domain: example.org Submitter: relay.example.edu Report-ID: <2026-11-25.") {
		t.Errorf("Subject: %s", s)
	}
	want := `{"organization-name":"relay.example.edu","date-range":{"start-datetime":"2026-11-25T00:00:00Z","end-datetime":"2026-11-25T23:59:59Z"},"contact-info":"postmaster@example.edu","report-id":"ID","policies":[` +
		`{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: enforce","mx: *.example.org","max_age: 86400"],"policy-domain":"example.org","mx-host":["*.example.org"]},` +
		`"summary":{"total-successful-session-count":3,"total-failure-session-count":2},` +
		`"failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"198.51.100.62","receiving-mx-hostname":"mx.example.org","receiving-ip":"203.0.113.58","failure-reason-code":"it ended yesterday","failed-session-count":2}]},` +
		`{"policy":{"policy-type":"no-policy-found","policy-domain":"example.org"},"summary":{"total-successful-session-count":0,"total-failure-session-count":1},` +
		`"failure-details":[{"result-type":"starttls-not-supported","receiving-mx-hostname":"old.example.org","failed-session-count":1}]}]}`
	var r report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	if got := strings.Replace(text, r.ID, "ID", 1); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for result, n := range map[string]float64{"sent": 1, "unwanted": 1, "failed": 0} {
		if got := testutil.ToFloat64(b.metrics.reports.WithLabelValues(result)); got != n {
			t.Errorf("%v %s", got, result)
		}
	}
	if len(b.days) != 1 || b.days["2026-11-26"]["example.org"] == nil {
		t.Errorf("%v is left", b.days)
	}
}

// What cannot be sent now is sent later, and one that nobody takes is forgotten.
func TestReportsAreTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.txt["example.org"] = []string{"v=TLSRPTv1;rua=mailto:tls@example.org"}
	w.txt["other.example"] = w.txt["example.org"]
	w.bad["other.example"], w.full = true, true
	b := w.open()
	b.Session("example.org", sts("example.org"), nil)
	b.Session("other.example", sts("other.example"), nil)
	w.now = w.now.AddDate(0, 0, 1)
	b.round(t.Context())
	w.full, w.bad["other.example"] = false, false
	b.round(t.Context())
	if len(w.sent) != 0 {
		t.Error("tried again at once")
	}
	w.now = w.now.Add(retryAfter)
	b.round(t.Context())
	if len(w.sent) != 2 {
		t.Errorf("%d reports", len(w.sent))
	}
	w.bad["example.org"] = true
	for range maxDays + 1 {
		b.Session("example.org", sts("example.org"), nil)
		w.now = w.now.AddDate(0, 0, 1)
		b.round(t.Context())
	}
	if len(b.days) != maxDays {
		t.Errorf("%d days are kept", len(b.days))
	}
}

func TestCountsAreKeptOverRestarts(t *testing.T) {
	w := newWorld(t)
	w.txt["example.org"] = []string{"v=TLSRPTv1;rua=mailto:tls@example.org"}
	b := w.open()
	b.Session("example.org", sts("example.org"), failure)
	if err := b.save(); err != nil {
		t.Fatal(err)
	}
	again := w.open()
	again.Session("example.org", sts("example.org"), failure)
	if again.held != b.held {
		t.Errorf("%d octets are held, and were %d", again.held, b.held)
	}
	w.now = w.now.AddDate(0, 0, 1)
	again.round(t.Context())
	if len(w.sent) != 1 {
		t.Fatal("no report")
	}
	if _, text := unpack(t, w.sent[0]); !strings.Contains(text, `"failed-session-count":2`) {
		t.Error(text)
	}
	if again.held != 0 {
		t.Errorf("%d octets are held of nothing", again.held)
	}
	for _, text := range []string{"{}", "", `{"version":1,"what":"gatepost tls-reports"}` + "\n{\"day\":\"x\"}\n"} {
		if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.open()
		if _, err := os.Stat(durable.Aside(w.file)); err != nil {
			t.Errorf("%q is not put aside: %v", text, err)
		}
		_ = os.Remove(durable.Aside(w.file))
	}
}

func TestParseRecord(t *testing.T) {
	for _, c := range []struct {
		txts []string
		want string
	}{
		{[]string{"v=TLSRPTv1;rua=mailto:a@b.example"}, "a@b.example"},
		{[]string{"v=spf1 -all", "v=TLSRPTv1 ; rua=mailto:a@b.example , MAILTO:c%2Bd@b.example;x=y"}, "a@b.example c+d@b.example"},
		{[]string{"v=TLSRPTv1;rua=https://b.example/x,mailto:a@b.example?subject=x"}, "a@b.example"},
		{[]string{"v=TLSRPTv1;rua=mailto:a@b.example,mailto:a@b.example"}, "a@b.example"},
		{[]string{"v=TLSRPTv1;rua=mailto:a@b,mailto:b@b,mailto:c@b,mailto:d@b"}, "a@b b@b c@b"},
		{nil, ""},
		{[]string{"v=TLSRPTv1;"}, ""},
		{[]string{"v=TLSRPTv1;rua=https://b.example/x"}, ""},
		{[]string{"v=TLSRPTv2;rua=mailto:a@b.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:a@b.example", "v=TLSRPTv1;rua=mailto:c@b.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:postmaster"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:a@b.example%0d%0aBcc:x@y"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:%zz"}, ""},
	} {
		got, err := parseRecord(c.txts)
		var list []string
		for _, a := range got {
			list = append(list, a.String())
		}
		if strings.Join(list, " ") != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %v, %v", c.txts, list, err)
		}
	}
}

// However many domains, policies and failures there are, what is held is bounded.
func TestTheBookIsBounded(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	long := Policy{Type: STS, Domain: "x", String: slices.Repeat([]string{strings.Repeat("x", 2*maxString)}, maxLines+1)}
	for i := range 10 * maxDetails {
		b.Session("d0.example", long, &Failure{Result: Invalid, Info: fmt.Sprint(i)})
	}
	for i := range 1500 { // over maxOctets
		b.Session(fmt.Sprintf("d%d.example", i), long, nil)
	}
	for i := range maxDomains {
		b.Session(fmt.Sprintf("e%d.example", i), Policy{Type: None}, nil)
	}
	for i := range 10 {
		b.Session("d1.example", Policy{Type: None, MX: []string{fmt.Sprint(i)}}, nil)
	}
	day := b.days["2026-11-25"]
	first := day["d0.example"].policies[0]
	if len(day) > maxDomains || b.held > maxOctets || len(first.details) != maxDetails || first.fail != 10*maxDetails || first.ok != 1 || len(day["d1.example"].policies) > maxPolicies {
		t.Errorf("%d domains, %d octets, %d details of %d", len(day), b.held, len(first.details), first.fail)
	}
	if data, err := b.encode(); err != nil || len(data) > 4*maxOctets || bytes.Count(data, []byte("\n")) != len(day)+1 {
		t.Errorf("%d octets, %v", len(data), err)
	}
}

func TestRunSaves(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	b.Session("example.org", sts("example.org"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if again := w.open(); again.days["2026-11-25"]["example.org"] == nil {
		t.Error("nothing was saved")
	}
}
