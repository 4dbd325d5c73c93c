package dsn

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		panic(err)
	}
	return a
}

func options() Options {
	return Options{
		Hostname:   "relay.mail.umich.edu",
		Postmaster: "postmaster@umich.edu",
		Now:        at("2026-11-24T09:30:00Z"),
		RetryUntil: at("2026-11-28T09:00:00Z"),
	}
}

// entry is a message of a printer to three recipients, with one result each.
func entry() *spool.Entry {
	when := at("2026-11-24T09:29:58Z")
	return &spool.Entry{
		ID: "01JDQ4T9ZK",
		Envelope: mail.Envelope{
			From: address("scan@physics.lsa.umich.edu"),
			To: []mail.Recipient{
				{Address: address("nobody@example.org"), ORcpt: "rfc822;No+Body@example.org"},
				{Address: address(`"john smith"@example.org`)},
				{Address: address("ok@example.net"), Notify: "FAILURE,DELAY"},
			},
			EnvID:        "scan job 17",
			Ret:          "FULL",
			Client:       netip.MustParseAddr("141.211.13.21"),
			Registration: "registrations/lsa-physics/mfp.cue",
			Arrival:      at("2026-11-23T09:00:00Z"),
		},
		State: []state{
			{Last: mail.Result{Outcome: mail.Failed, Status: mail.Status{Code: 550, Enhanced: mail.Enhanced{5, 1, 1}, Text: "No such user here"}, RemoteMTA: "mx1.example.org", At: when}},
			{Last: mail.Result{Outcome: mail.Failed, Status: mail.Status{Code: 554, Text: "Message rejected as it looks like something that we do not want, see https://example.org/why?id=1234567890 for more"}, RemoteMTA: "mx1.example.org", At: when}},
			{Last: mail.Result{Outcome: mail.Deferred, Status: mail.Status{Code: 451, Enhanced: mail.Enhanced{4, 4, 1}, Text: "no connection to any server of example.net"}, Cause: "dial tcp 192.0.2.1:25: refused", At: when}},
		},
	}
}

type state = spool.RecipientState

const header = "Received: from mfp1 by relay\r\n\twith ESMTP; Mon, 23 Nov 2026 09:00:00 +0000\r\nFrom: scan@physics.lsa.umich.edu\r\nTo: nobody@example.org\r\nSubject: Scan 17\r\nMessage-ID: <17@mfp1.physics.lsa.umich.edu>\r\n\r\nbody\r\n"

func TestGolden(t *testing.T) {
	utf8 := entry()
	utf8.Envelope.From = address("jürgen@münchen.example")
	utf8.Envelope.UTF8 = true
	utf8.Envelope.To[0] = mail.Recipient{Address: address("用户@例え.example"), ORcpt: "utf-8;用户@例え.example"}

	downgraded := entry()
	downgraded.Envelope.To[0] = mail.Recipient{Address: address("用户@例え.example"), ORcpt: "utf-8;用户@例え.example"}

	success := entry()
	success.Envelope.To[2].Notify = "SUCCESS,FAILURE"
	success.State[2].Last = mail.Result{Outcome: mail.Delivered, Status: mail.Status{Code: 250, Enhanced: mail.Enhanced{2, 6, 0}, Text: "queued as 4711"}, RemoteMTA: "mx.example.net", At: at("2026-11-24T09:29:58Z")}

	for _, c := range []struct {
		name   string
		kind   Kind
		e      *spool.Entry
		about  []int
		header string
	}{
		{"relayed", Relayed, success, []int{0, 1, 2}, header}, // of these one asked for it
		{"failure", Failure, entry(), []int{0, 1}, header},
		{"expired", Failure, entry(), []int{2}, header},
		{"delay", Delay, entry(), []int{2}, header},
		{"utf8-sender", Failure, utf8, []int{0}, strings.Replace(header, "Scan", "Prüfung", 1)},
		{"utf8-recipient-ascii-sender", Failure, downgraded, []int{0}, strings.Replace(header, "Scan", "Prüfung", 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			env, msg, ok := Compose(options(), c.kind, c.e, c.about, []byte(c.header))
			if !ok {
				t.Fatal("nothing composed")
			}
			if !env.From.IsNull() || len(env.To) != 1 || env.To[0].Address != c.e.Envelope.From || !env.Arrival.Equal(options().Now) {
				t.Errorf("envelope %+v", env)
			}
			if want := !c.e.Envelope.From.IsASCII(); env.UTF8 != want || (env.Body == mail.Body8Bit) != want {
				t.Errorf("UTF8 %v, body %q; want UTF8 %v", env.UTF8, env.Body, want)
			}
			if !env.UTF8 && !is7Bit(msg) {
				t.Error("8-bit octets in a notification that does not say so")
			}
			wellFormed(t, msg)
			golden(t, c.name, msg)
		})
	}
}

func golden(t *testing.T, name string, msg []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".eml")
	got := bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n"))
	if os.Getenv("GOLDEN") == "write" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s (GOLDEN=write go test to accept):\n%s", file, got)
	}
}

// wellFormed checks what holds for every notification, and returns its parts.
func wellFormed(t *testing.T, msg []byte) (head netmail.Header, text string, groups []map[string]string, original []byte) {
	t.Helper()
	for i, line := range bytes.SplitAfter(msg, []byte("\n")) {
		if len(line) > 0 && !bytes.HasSuffix(line, []byte("\r\n")) || bytes.Count(line, []byte("\r")) > 1 || len(line) > 1000 {
			t.Fatalf("line %d is not a line: %q", i+1, line)
		}
	}
	if i := bytes.IndexFunc(msg, func(c rune) bool { return c < ' ' && c != '\r' && c != '\n' && c != '\t' || c == 0x7f }); i >= 0 {
		t.Fatalf("control character %q", msg[i])
	}
	m, err := netmail.ReadMessage(bytes.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range m.Header {
		if !slices.Contains([]string{"From", "To", "Subject", "Date", "Message-Id", "In-Reply-To", "References", "Auto-Submitted", "Mime-Version", "Content-Type"}, k) || len(v) != 1 {
			t.Fatalf("header field %s: %q", k, v)
		}
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("content type %q: %v", m.Header.Get("Content-Type"), err)
	}
	if got := m.Header.Get("Auto-Submitted"); got != "auto-replied" {
		t.Errorf("Auto-Submitted: %q", got)
	}
	mr := multipart.NewReader(m.Body, params["boundary"])
	var bodies [][]byte
	var kinds []string
	for {
		p, err := mr.NextPart() // decodes quoted-printable
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		k, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		bodies, kinds = append(bodies, b), append(kinds, k)
	}
	plain := []string{"text/plain", "message/delivery-status", "text/rfc822-headers"}
	if len(kinds) == 3 && kinds[2] == "message/rfc822" {
		kinds[2] = "text/rfc822-headers"
	}
	global := []string{"text/plain", "message/global-delivery-status", "message/global-headers"}
	if len(kinds) == 3 && kinds[1] == global[1] && kinds[2] == plain[2] {
		kinds[2] = global[2]
	}
	if !slices.Equal(kinds, plain) && !slices.Equal(kinds, global) {
		t.Fatalf("parts %q", kinds)
	}
	for group := range strings.SplitSeq(strings.TrimSuffix(string(bodies[1]), "\r\n"), "\r\n\r\n") {
		fields := map[string]string{}
		for line := range strings.SplitSeq(strings.ReplaceAll(group, "\r\n ", " "), "\r\n") {
			k, v, ok := strings.Cut(line, ": ")
			if _, twice := fields[k]; !ok || twice {
				t.Fatalf("status field %q in %q", line, group)
			}
			fields[k] = v
		}
		groups = append(groups, fields)
	}
	return m.Header, string(bodies[0]), groups, bodies[2]
}

func TestWhoIsTold(t *testing.T) {
	for _, c := range []struct {
		name    string
		from    string
		notify  string
		failure bool
		delay   bool
		relayed bool
	}{
		{"no NOTIFY", "a@example.org", "", true, true, false},
		{"NEVER", "a@example.org", "NEVER", false, false, false},
		{"FAILURE", "a@example.org", "FAILURE", true, false, false},
		{"DELAY", "a@example.org", "delay", false, true, false},
		{"SUCCESS", "a@example.org", "SUCCESS", false, false, true},
		{"all", "a@example.org", "SUCCESS,FAILURE,DELAY", true, true, true},
		{"null sender", "", "SUCCESS,FAILURE,DELAY", false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := entry()
			e.Envelope.From = mail.Address{}
			if c.from != "" {
				e.Envelope.From = address(c.from)
			}
			e.Envelope.To[0].Notify = c.notify
			if _, _, ok := Compose(options(), Failure, e, []int{0}, nil); ok != c.failure {
				t.Errorf("failure told: %v", ok)
			}
			if _, _, ok := Compose(options(), Delay, e, []int{0}, nil); ok != c.delay {
				t.Errorf("delay told: %v", ok)
			}
			if _, _, ok := Compose(options(), Relayed, e, []int{0}, nil); ok != c.relayed {
				t.Errorf("relayed told: %v", ok)
			}
		})
	}
	t.Run("recipients that do not exist", func(t *testing.T) {
		if _, _, ok := Compose(options(), Failure, entry(), []int{-1, 3}, nil); ok {
			t.Error("told")
		}
	})
	t.Run("somebody in place of a null sender", func(t *testing.T) {
		o, e := options(), entry()
		o.Stead = address(o.Postmaster)
		env, msg, ok := Compose(o, Failure, e, []int{0}, []byte(header))
		if !ok || env.To[0].Address != e.Envelope.From || bytes.Contains(msg, []byte("without a sender")) {
			t.Errorf("%v %v: who sends is told\n%s", ok, env.To, msg)
		}
		e.Envelope.From = mail.Address{}
		env, msg, ok = Compose(o, Failure, e, []int{0}, []byte(header))
		if !ok || !env.From.IsNull() || env.To[0].Address != o.Stead || !bytes.Contains(msg, []byte("To: <postmaster@umich.edu>\r\nSubject: Mail without a sender")) {
			t.Errorf("%v %v\n%s", ok, env, msg)
		}
		e.Envelope.To[0].Notify = "NEVER"
		if _, _, ok = Compose(o, Failure, e, []int{0}, nil); ok {
			t.Error("NOTIFY=NEVER was told")
		}
	})
	t.Run("only those that want it", func(t *testing.T) {
		e := entry()
		e.Envelope.To[1].Notify = "NEVER"
		_, msg, ok := Compose(options(), Failure, e, []int{0, 1}, []byte(header))
		if !ok || bytes.Contains(msg, []byte("john smith")) {
			t.Errorf("told %v:\n%s", ok, msg)
		}
	})
}

func TestStatus(t *testing.T) {
	r := func(o mail.Outcome, code mail.Code, e mail.Enhanced) mail.Result {
		return mail.Result{Outcome: o, Status: mail.Status{Code: code, Enhanced: e}}
	}
	for _, c := range []struct {
		name string
		kind Kind
		last mail.Result
		want string
	}{
		{"given", Failure, r(mail.Failed, 550, mail.Enhanced{5, 1, 1}), "5.1.1"},
		{"none given", Failure, r(mail.Failed, 550, mail.Enhanced{}), "5.0.0"},
		{"class against code", Failure, r(mail.Failed, 550, mail.Enhanced{4, 7, 1}), "5.7.1"},
		{"out of range", Failure, r(mail.Failed, 550, mail.Enhanced{5, 7, 1000000}), "5.0.0"},
		{"time ran out", Failure, r(mail.Deferred, 451, mail.Enhanced{4, 7, 1}), "4.4.7"},
		{"never tried", Failure, mail.Result{}, "4.4.7"},
		{"relayed", Relayed, r(mail.Delivered, 250, mail.Enhanced{2, 1, 5}), "2.1.5"},
		{"relayed without", Relayed, r(mail.Delivered, 250, mail.Enhanced{}), "2.0.0"},
		{"delay", Delay, r(mail.Deferred, 451, mail.Enhanced{4, 2, 2}), "4.2.2"},
		{"delay without", Delay, r(mail.Deferred, 0, mail.Enhanced{}), "4.0.0"},
	} {
		if got := enhanced(c.kind, c.last).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestHostileTextStaysText(t *testing.T) {
	e := entry()
	boundary := "\r\n--=_01JDQ4T9ZK_failure--\r\n"
	evil := "no\r\nBcc: all@example.org\r\n\r\n\x00\x1b[31m\u202e<script>" + boundary + strings.Repeat("x", 5000)
	e.State[0].Last.Status.Text = evil
	e.State[0].Last.RemoteMTA = "mx\r\nAction: delivered"
	e.Envelope.To[0].ORcpt = "rfc822\r\nX: y;a\r\nAction: delivered"
	e.Envelope.EnvID = "id\r\nReporting-MTA: dns; evil"
	e.Envelope.Registration = "registrations/x\r\n/y"
	e.Envelope.HELO = evil
	hostile := "Subject: a\rb\nc\x00\r\n--=_01JDQ4T9ZK_failure\r\n--=_01JDQ4T9ZK_failure_1--\r\nX: " + strings.Repeat("y", 3000) + "\r\nMessage-ID: <a@b>\t<c@d>\r\n\r\nsecret body"
	_, msg, ok := Compose(options(), Failure, e, []int{0}, []byte(hostile))
	if !ok {
		t.Fatal("nothing composed")
	}
	head, text, groups, original := wellFormed(t, msg)
	if len(groups) != 2 || groups[1]["Action"] != "failed" || groups[1]["Status"] != "5.1.1" {
		t.Errorf("status groups %q", groups)
	}
	if head.Get("In-Reply-To") != "" {
		t.Errorf("two ids taken for one: %q", head.Get("In-Reply-To"))
	}
	if strings.Contains(text, "\x1b") || len(text) > 4000 {
		t.Errorf("text of %d octets", len(text))
	}
	if !bytes.Contains(original, []byte("--=_01JDQ4T9ZK_failure_1--")) || bytes.Contains(original, []byte("secret")) {
		t.Errorf("original part %q", original)
	}
}

func TestManyRecipientsAreAllNamed(t *testing.T) {
	e := entry()
	e.Envelope.To, e.State = nil, nil
	var about []int
	for i := range 500 {
		e.Envelope.To = append(e.Envelope.To, mail.Recipient{Address: address("u" + strings.Repeat("x", i%50) + "@example.org")})
		about = append(about, i)
	}
	_, msg, _ := Compose(options(), Failure, e, about, []byte(header))
	_, text, groups, _ := wellFormed(t, msg)
	if len(groups) != 501 || strings.Count(text, "What to do") != 500 {
		t.Errorf("%d groups, %d in the text", len(groups), strings.Count(text, "What to do"))
	}
}

func TestSameArgumentsSameBytes(t *testing.T) {
	_, a, _ := Compose(options(), Failure, entry(), []int{0, 1}, []byte(header))
	_, b, _ := Compose(options(), Failure, entry(), []int{0, 1}, []byte(header))
	if !bytes.Equal(a, b) {
		t.Error("they differ")
	}
}

func FuzzCompose(f *testing.F) {
	f.Add("a", "example.org", "b", "rfc822;b@example.org", "env", "mx", "550 no", "id1", []byte(header), true)
	f.Add("ü", "ü.example", "ß", "utf-8;x", "\r\n", "\x00", "a\r\nb: c", "=_\"", []byte("\r\r\n\n--=_id\nA: \xff"), false)
	f.Fuzz(func(t *testing.T, local, domain, rcpt, orcpt, envid, remote, text, id string, header []byte, fail bool) {
		kind := Delay
		if fail {
			kind = Failure
		}
		e := entry()
		e.ID = spool.ID(id)
		e.Envelope.From = mail.Address{Local: local, Domain: domain}
		if e.Envelope.From.IsNull() {
			t.Skip()
		}
		e.Envelope.To[0] = mail.Recipient{Address: mail.Address{Local: rcpt, Domain: domain}, ORcpt: orcpt}
		e.Envelope.EnvID = envid
		e.Envelope.Registration = orcpt
		e.State[0].Last.RemoteMTA = remote
		e.State[0].Last.Status.Text = text
		o := options()
		o.Whole = len(id)%2 == 0
		env, msg, ok := Compose(o, kind, e, []int{0}, header)
		if !ok {
			t.Fatal("nothing composed")
		}
		if !env.UTF8 && !is7Bit(msg) {
			t.Fatalf("8-bit octets without SMTPUTF8: %q", msg)
		}
		wellFormed(t, msg)
	})
}

// What failed for want of encryption is not put down to the recipient's rules,
// if it was the message that asked for it. RFC 8689 §5.
func TestAdviceOnRequireTLS(t *testing.T) {
	for _, c := range []struct {
		requireTLS bool
		s          mail.Enhanced
		want       string
	}{
		{true, mail.Enhanced{5, 7, 30}, "(REQUIRETLS)"},
		{true, mail.Enhanced{5, 7, 10}, "(REQUIRETLS)"},
		{true, mail.Enhanced{5, 7, 1}, "by its own rules"},
		{false, mail.Enhanced{5, 7, 10}, "by its own rules"},
	} {
		e := entry()
		e.Envelope.RequireTLS = c.requireTLS
		r := &report{o: options(), kind: Failure, e: e, about: []int{0}}
		if got := r.advice(c.s); !strings.Contains(got, c.want) {
			t.Errorf("%v: %s", c.s, got)
		}
	}
}
