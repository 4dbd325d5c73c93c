package confirm_test

import (
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

var update = flag.Bool("update", false, "write the golden files anew")

var letterhead = confirm.Letterhead{
	Host: "relay.mail.umich.edu", Relay: 25, Submission: 587,
	Postmaster: mail.Address{Local: "postmaster", Domain: "umich.edu"},
	Portal:     "https://relay.umich.edu",
}

// item is the registration of DESIGN's example.
func item() confirm.Item {
	ip := netip.MustParseAddr("141.211.13.21")
	r := &registration.Registration{
		Path: "registrations/lsa-physics/mfp.cue", Department: "lsa-physics",
		Contact: registration.Contact{Name: "Physics IT", Email: "physics-it@umich.edu"},
		Senders: []string{"*@physics.lsa.umich.edu"},
		Volume:  registration.Volume{PerHour: 200, PerDay: 1000},
		Expires: time.Date(2027, 12, 1, 0, 0, 0, 0, time.UTC),
		Hosts:   []registration.Host{{IP: ip, Name: "mfp1.physics.lsa.umich.edu", Kind: "printer"}},
	}
	return confirm.Item{Key: confirm.Key(ip, r.Department), IP: ip, Entry: policy.Entry{Registration: r, Host: &r.Hosts[0]}}
}

var merged = confirm.Provenance{
	Commit: "0123456789abcdef0123456789abcdef01234567", Request: 7,
	URL:      "https://github.com/umich/mail-relay-register/pull/7",
	MergedBy: "Ann Postmaster", At: time.Date(2026, 11, 23, 11, 58, 0, 0, time.UTC),
}

// parse reads a message as a mail program would, and holds what every one must
// keep to.
func parse(t testing.TB, m confirm.Message) (*netmail.Message, string) {
	t.Helper()
	rest := strings.ReplaceAll(string(m.Body), "\r\n", "")
	if strings.ContainsAny(rest, "\r\n\x00") {
		t.Fatalf("a bare CR, LF or NUL in\n%q", m.Body)
	}
	for line := range strings.SplitSeq(string(m.Body), "\r\n") {
		if len(line) > 998 { // RFC 5322 §2.1.1
			t.Fatalf("a line of %d octets", len(line))
		}
	}
	got, err := netmail.ReadMessage(bytes.NewReader(m.Body))
	if err != nil {
		t.Fatalf("%v in\n%s", err, m.Body)
	}
	for _, name := range []string{"Date", "From", "To", "Reply-To", "Subject", "Message-Id", "Auto-Submitted", "Mime-Version", "Content-Type", "Content-Transfer-Encoding"} {
		if len(got.Header[name]) != 1 {
			t.Errorf("%d fields %s in\n%s", len(got.Header[name]), name, m.Body)
		}
	}
	if len(got.Header) != 10 {
		t.Errorf("fields %v", got.Header)
	}
	var body io.Reader = got.Body
	if got.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if !utf8.Valid(text) {
		t.Error("the text is no UTF-8")
	}
	return got, string(text)
}

func TestText(t *testing.T) {
	plain := item()
	plain.Entry.Registration.Senders = nil
	for name, tc := range map[string]struct {
		item   confirm.Item
		letter confirm.Letterhead
		from   confirm.Provenance
	}{
		"request": {item(), letterhead, merged},
		"branch": {plain, func() confirm.Letterhead { l := letterhead; l.Portal = ""; return l }(),
			confirm.Provenance{Commit: merged.Commit, Branch: "physics-mfp1", MergedBy: "Ann Postmaster <ann@umich.edu>", At: merged.At}},
		"submission-only": {plain, func() confirm.Letterhead { l := letterhead; l.Relay = 0; return l }(),
			confirm.Provenance{Commit: merged.Commit}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := tc.letter.Compose(tc.item, tc.from, now)
			if err != nil {
				t.Fatal(err)
			}
			parse(t, m)
			for line := range strings.SplitSeq(string(m.Body), "\r\n") {
				if utf8.RuneCountInString(line) > 78 {
					t.Errorf("wider than 78 columns: %s", line)
				}
			}
			golden := filepath.Join("testdata", name+".txt")
			got := strings.ReplaceAll(string(m.Body), "\r\n", "\n")
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
		})
	}
}

func TestEnvelope(t *testing.T) {
	m, err := letterhead.Compose(item(), merged, now)
	if err != nil {
		t.Fatal(err)
	}
	e := m.Envelope
	if e.From != letterhead.Postmaster || len(e.To) != 1 || e.To[0].Address != m.To || e.Client.IsValid() || e.Registration != "" || e.UTF8 || !e.Arrival.Equal(now) {
		t.Errorf("got %+v", e)
	}
	got, _ := parse(t, m)
	if date, err := got.Header.Date(); err != nil || !date.Equal(now) {
		t.Errorf("Date %v, %v", date, err)
	}
	to, err := got.Header.AddressList("To")
	if err != nil || len(to) != 1 || *to[0] != (netmail.Address{Name: "Physics IT", Address: "physics-it@umich.edu"}) {
		t.Errorf("To %v, %v", to, err)
	}
}

func TestMessageIDTellsRepetitionsFromRenewals(t *testing.T) {
	id := func(change func(*confirm.Item, *confirm.Provenance), at time.Time) string {
		i, from := item(), merged
		change(&i, &from)
		m, err := letterhead.Compose(i, from, at)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := parse(t, m)
		return got.Header.Get("Message-Id")
	}
	same := id(func(*confirm.Item, *confirm.Provenance) {}, now)
	if got := id(func(*confirm.Item, *confirm.Provenance) {}, now.Add(time.Hour)); got != same {
		t.Errorf("an hour later %s is %s", same, got)
	}
	if got := id(func(i *confirm.Item, _ *confirm.Provenance) { i.Key += "x" }, now); got == same {
		t.Error("another key has the same Message-ID")
	}
	if got := id(func(_ *confirm.Item, p *confirm.Provenance) { p.Commit = "f00" }, now); got == same {
		t.Error("another commit has the same Message-ID")
	}
}

// TestNamesOfStrangers puts hostile and unusual text where people may write.
func TestNamesOfStrangers(t *testing.T) {
	for _, name := range []string{
		"Jürgen Müßig", "物理学科 IT 部門", `"Quoted" \ back`, "a\r\nBcc: victim@example.org", "a\nX: y", "x\x00y", "",
		"<evil@example.org>", "=?utf-8?q?x?=", strings.Repeat("very long ", 30), strings.Repeat("x", 500), strings.Repeat("é", 500),
		"tab\tand \u202e right-to-left", "comma, semicolon; (comment) @", "\xff\xfe", ".", ",", "a\u2028b",
	} {
		i := item()
		i.Entry.Registration.Contact.Name = name
		i.Entry.Host.Name = name
		i.Entry.Registration.Department = name
		i.Entry.Registration.Path = name
		m, err := letterhead.Compose(i, confirm.Provenance{Request: 1, URL: name, Branch: name, MergedBy: name, Commit: name}, now)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		got, _ := parse(t, m)
		to, err := (&netmail.AddressParser{WordDecoder: new(mime.WordDecoder)}).ParseList(got.Header.Get("To"))
		if err != nil || len(to) != 1 || to[0].Address != "physics-it@umich.edu" {
			t.Errorf("%q: To %v, %v in\n%s", name, to, err, m.Body)
			continue
		}
		if ordinary := !strings.ContainsAny(name, "\r\n\x00\t\u202e\u2028") && utf8.ValidString(name) && len(name) < 100; ordinary && to[0].Name != strings.TrimSpace(name) {
			if name != "=?utf-8?q?x?=" { // which reads as what it encodes
				t.Errorf("%q arrives as %q", name, to[0].Name)
			}
		}
	}
}

func TestTestCommandIsSafeToPaste(t *testing.T) {
	i := item()
	i.Entry.Registration.Senders = nil
	i.Entry.Registration.Contact.Email = `a'$(reboot)@umich.edu`
	m, err := letterhead.Compose(i, merged, now)
	if err == nil {
		_, text := parse(t, m)
		if !strings.Contains(text, `--to 'a'\''$(reboot)@umich.edu'`) {
			t.Errorf("%s", text)
		}
	}
	i.Entry.Registration.Contact.Email = `$HOME@umich.edu`
	m, err = letterhead.Compose(i, merged, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, text := parse(t, m); !strings.Contains(text, `--to '$HOME@umich.edu'`) {
		t.Errorf("%s", text)
	}
}

func TestContactThatIsNoMailbox(t *testing.T) {
	for _, email := range []string{"", "x", "postmaster", "a@b@c", "a b@umich.edu", "x@umich.edu\r\nBcc: y", "<x@umich.edu>", "@umich.edu"} {
		i := item()
		i.Entry.Registration.Contact.Email = email
		if m, err := letterhead.Compose(i, merged, now); err == nil {
			t.Errorf("%q was addressed: %s", email, m.Body)
		}
	}
}

func TestMailboxBeyondASCII(t *testing.T) {
	i := item()
	i.Entry.Registration.Contact.Email = "jürgen@umich.edu"
	m, err := letterhead.Compose(i, merged, now)
	if err != nil || !m.Envelope.UTF8 {
		t.Errorf("UTF8 %v, %v", m.Envelope.UTF8, err)
	}
}

func FuzzCompose(f *testing.F) {
	f.Add("Physics IT", "it@umich.edu", "mfp1", "*@x.edu", "Ann")
	f.Add("a\r\nBcc: x", "\"a b\"@umich.edu", "\xff", "a'b@c", "é")
	f.Fuzz(func(t *testing.T, name, email, host, sender, by string) {
		i := item()
		r := i.Entry.Registration
		r.Contact = registration.Contact{Name: name, Email: email}
		r.Senders, i.Entry.Host.Name = []string{sender}, host
		m, err := letterhead.Compose(i, confirm.Provenance{MergedBy: by, Branch: by}, now)
		if err == nil {
			parse(t, m)
		}
	})
}
