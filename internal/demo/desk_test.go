package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	gatemail "example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/portal/page"
)

// testDesk is a desk whose relay refuses 127.0.0.2, and whose inbox is in memory
// and in a folder of the test.
func testDesk(t *testing.T) (*desk, *httptest.Server) {
	t.Helper()
	pages, err := page.New(page.Site{University: "Demo University", Service: "Mail relay", Postmaster: "pat@demo.example", Demo: true}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{
		box: &inbox{dir: t.TempDir(), out: io.Discard, quiet: map[string]bool{}}, own: "http://127.0.0.1:8587",
		deeds: func(context.Context, *desk) deeds { return deeds{requested: true} },
		send: func(_ context.Context, w io.Writer, m Mail) (bool, error) {
			if m.From.String() == "127.0.0.2" {
				fmt.Fprintf(w, "  → RCPT TO:<%s>\n  ← 550 5.7.1 127.0.0.2 is not <b>registered</b>\n  → QUIT\n  ← 221 2.0.0 bye\n", m.To)
				return false, nil
			}
			fmt.Fprintf(w, "  → RCPT TO:<%s>\n  ← 250 2.0.0 %s\n", m.To, strings.Repeat("x", 2*maxDialog))
			return true, nil
		},
	}
	more, err := d.open(pages, func(_ http.ResponseWriter, r *http.Request, body any) page.Frame {
		return page.Frame{Token: "a token", Path: r.URL.Path, Body: body, Visitor: &page.Visitor{Name: "Dana Ito"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/static/", pages.Static())
	mux.Handle("/", more)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policyOfPages)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	return d, web
}

// policyOfPages is what the portal's guard sends with every page.
const policyOfPages = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// arrive puts a message into the inbox, as the relay would.
func (b *inbox) arrive(t *testing.T, text string, to ...string) {
	t.Helper()
	var env gatemail.Envelope
	for _, s := range to {
		a, err := gatemail.ParseAddress(s, true)
		if err != nil {
			t.Fatal(err)
		}
		env.To = append(env.To, gatemail.Recipient{Address: a})
	}
	m, err := b.Create(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(m, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func fetch(t *testing.T, web *httptest.Server, path string, form url.Values) (int, string) {
	t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := web.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// TestHostileLetters: whatever arrives is shown as text, within bounds.
func TestHostileLetters(t *testing.T) {
	d, web := testDesk(t)
	evil := `<script>alert(1)</script><img src=x onerror=alert(2)>`
	d.box.arrive(t, "From: "+evil+"\nTo: x@example.org\nSubject: =?utf-8?q?=3Cscript=3Ealert=283=29=3C/script=3E_=E2=80=AE_\u2067?=\n\n"+evil+"\n</div></main>javascript:alert(4) http://127.0.0.1:8587/requests/3. http://127.0.0.1:8587.evil.example/ http://evil.example/\x1b[2J\x00\u202e\n", "x@example.org")
	d.box.arrive(t, "no header at all, "+evil+"\n", `"<script>"@example.org`)
	d.box.arrive(t, "Subject: html\nMIME-Version: 1.0\nContent-Type: text/html\n\n"+evil+"\n", "x@example.org")
	d.box.arrive(t, "Subject: long\n\n"+strings.Repeat("a line\n", maxText), "x@example.org")
	for _, path := range []string{"/demo", "/demo/inbox", "/demo/inbox/1", "/demo/inbox/2", "/demo/inbox/3", "/demo/inbox/4"} {
		status, body := fetch(t, web, path, nil)
		if status != http.StatusOK {
			t.Errorf("%s is %d", path, status)
		}
		for _, bad := range []string{"<script>", "<img src=x", "\x00", "\x1b", "\u202e", "\u2067", `href="http:`, `href="javascript`} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %q in it", path, bad)
			}
		}
		if len(body) > 400_000 {
			t.Errorf("%s has %d octets", path, len(body))
		}
	}
	if _, body := fetch(t, web, "/demo/inbox/1", nil); !strings.Contains(body, `<a href="/requests/3">http://127.0.0.1:8587/requests/3</a>. http`) || strings.Count(body, "<a href=\"/requests") != 1+1 {
		t.Errorf("the link to the request is not the only one:\n%s", body)
	}
	if _, body := fetch(t, web, "/demo/inbox/4", nil); !strings.Contains(body, "It is longer than what is shown") {
		t.Error("it is not said that a letter is cut")
	}
	for _, path := range []string{"/demo/inbox/0", "/demo/inbox/99", "/demo/inbox/x", "/demo/inbox/-1", "/demo/sent/1", "/demo/nowhere"} {
		if status, _ := fetch(t, web, path, nil); status != http.StatusNotFound {
			t.Errorf("%s is %d", path, status)
		}
	}
}

// TestPieces: a page of the portal becomes a link, and nothing else does.
func TestPieces(t *testing.T) {
	const own = "http://127.0.0.1:8587"
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"see " + own + "/requests/3.", "see [/requests/3]."},
		{own, "[/]"},
		{own + "\n", "[/]\n"},
		{own + "/ip/127.0.0.9?a=b&c=d) " + own + "/", "[/ip/127.0.0.9?a=b&c=d]) [/]"},
		{own + "0/x", own + "0/x"},
		{own + ".evil.example/x", own + ".evil.example/x"},
		{own + "@evil.example/x", own + "@evil.example/x"},
		{own + "//evil.example/x", own + "//evil.example/x"},
		{own + "/\u202ex", "[/]\u202ex"},
		{strings.Repeat(own+" ", 1000), strings.Repeat("[/] ", 100) + strings.Repeat(own+" ", 900)},
	} {
		var got strings.Builder
		for _, p := range pieces(c.text, own) {
			if p.URL != "" {
				got.WriteString("[" + p.URL + "]")
			} else {
				got.WriteString(p.Text)
			}
		}
		if got.String() != c.want {
			t.Errorf("%.100q became %.100q", c.text, got.String())
		}
	}
}

// TestInboxIsBounded: the oldest letters go, with their files.
func TestInboxIsBounded(t *testing.T) {
	d, _ := testDesk(t)
	for i := range maxLetters + 3 {
		d.box.arrive(t, fmt.Sprintf("Subject: %d\n\n%s", i+1, strings.Repeat("x", 10)), "x@example.org")
	}
	list, count := d.box.newest(2)
	if count != maxLetters || len(list) != 2 || list[0].Subject != fmt.Sprint(maxLetters+3) {
		t.Errorf("%d letters; the newest: %v", count, list)
	}
	if _, ok := d.box.letter(3); ok {
		t.Error("an old letter is still there")
	}
	if files, err := filepath.Glob(filepath.Join(d.box.dir, "*")); err != nil || len(files) != maxLetters {
		t.Errorf("%d files are kept (%v)", len(files), err)
	}
}

// TestReadLetter: what people send is shown as they wrote it.
func TestReadLetter(t *testing.T) {
	for _, c := range []struct{ name, raw, from, subject, text string }{
		{"plain", "From: A <a@example.org>\nSubject: hello\n\nline 1\nline 2\n", "A <a@example.org>", "hello", "line 1\nline 2"},
		{"a quoted name", "From: \"Relay, University\" <a@example.org>\n\nx\n", "Relay, University <a@example.org>", "(no subject)", "x"},
		{"no address", "From: <<b>>\n\nx\n", "<<b>>", "(no subject)", "x"},
		{"encoded words", "From: =?utf-8?q?Ger=C3=A4t?= <a@example.org>\nSubject: =?iso-8859-1?b?R3L832U=?=\n\nx\n", "Gerät <a@example.org>", "Grüße", "x"},
		{"quoted-printable", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe=\n!\n", "(nobody)", "(no subject)", "Grüße!"},
		{"base64", "Content-Transfer-Encoding: BASE64\n\nR3LDvMOfZQ==\n", "(nobody)", "(no subject)", "Grüße"},
		{"Latin-1", "Subject: \xfc\n\nGr\xfc\xdfe\n", "(nobody)", "?", "Grüße"},
		{"the first plain part", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/html\n\n<p>no\n--b\nContent-Type: text/plain\n\nyes\n--b--\n--a--\n", "(nobody)", "(no subject)", "yes"},
		{"a multipart that ends early", "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nhalf", "(nobody)", "(no subject)", "half"},
		{"a multipart without end", "Content-Type: multipart/mixed; boundary=\"\"\n\nx", "(nobody)", "(no subject)", ""},
		{"broken base64", "Content-Transfer-Encoding: base64\n\nR3LDvMOfZQ==!!!!\n", "(nobody)", "(no subject)", "Grüße"},
		{"no header", "\x00\x01\n", "(nobody)", "(no header)", "\ufffd\ufffd\n"},
	} {
		raw := []byte(strings.ReplaceAll(c.raw, "\n", "\r\n"))
		l := readLetter(raw, len(raw), "<x@example.org>")
		if l.From != c.from || l.Subject != c.subject || l.Text != c.text {
			t.Errorf("%s: from %q, subject %q, text %q", c.name, l.From, l.Subject, l.Text)
		}
	}
}

func FuzzReadLetter(f *testing.F) {
	f.Add([]byte("Subject: a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nhalf"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l := readLetter(raw, len(raw), "")
		if len(l.Text) > maxText || len(l.Source) > maxKept || bytes.ContainsAny([]byte(l.Text+l.Source+l.Subject+l.From), "\x00\x1b\r\u202e") {
			t.Errorf("%+q", l.Text+l.Source+l.Subject+l.From)
		}
	})
}

// TestSendButton: it sends from this machine alone, and shows what was said.
func TestSendButton(t *testing.T) {
	_, web := testDesk(t)
	for _, c := range []struct {
		from, to string
		status   int
		want     string
	}{
		{"127.0.0.9", "", http.StatusOK, "The relay took it"},
		{" 127.0.0.9 ", "prove+abc@relay.demo.example", http.StatusOK, "in your hands"},
		{"127.0.0.2", "x@example.org", http.StatusOK, "The relay said: <b>550 5.7.1 127.0.0.2 is not &lt;b&gt;registered"},
		{"192.0.2.1", "x@example.org", http.StatusUnprocessableEntity, "addresses of this machine alone"},
		{"::1", "x@example.org", http.StatusUnprocessableEntity, "addresses of this machine alone"},
		{"::ffff:127.0.0.9", "x@example.org", http.StatusUnprocessableEntity, "addresses of this machine alone"},
		{"127.0.0.1%lo", "x@example.org", http.StatusUnprocessableEntity, "This is no IP address"},
		{"<b>", "x@example.org", http.StatusUnprocessableEntity, `value="&lt;b&gt;"`},
		{"127.0.0.9", "x@example.org>\r\nDATA", http.StatusUnprocessableEntity, "This is no mailbox"},
		{"127.0.0.9", "nobody", http.StatusUnprocessableEntity, "This is no mailbox"},
	} {
		status, body := fetch(t, web, "/demo/send", url.Values{"from": {c.from}, "to": {c.to}})
		if status != c.status || !strings.Contains(body, c.want) || len(body) > 3*maxDialog {
			t.Errorf("from %q to %q: %d\n%s", c.from, c.to, status, body)
		}
	}
	if status, _ := fetch(t, web, "/demo/send", url.Values{"from": {strings.Repeat("1", 2*maxForm)}}); status != http.StatusUnprocessableEntity {
		t.Errorf("a form that is too long is %d", status)
	}
}

// TestDeskLook shows the desk's pages to a browser.
func TestDeskLook(t *testing.T) {
	d, web := testDesk(t)
	d.box.arrive(t, "From: Postmaster <pat@demo.example>\nSubject: Your address 127.0.0.9 is registered with relay.demo.example\n\nGood news.\n\nSee http://127.0.0.1:8587/requests/1\n", "it@physics.demo.example")
	b := startBrowser(t, web.URL)
	v := b.visitor(t, "dana", wide)
	v.open("/demo")
	v.see("The inbox", "Fill in the form")
	d.box.arrive(t, "From: <img src=x>\nSubject: "+strings.Repeat("verylongword", 20)+"\n\n"+strings.Repeat("verylongword", 200)+"\n", "x@example.org")
	v.see("verylongword") // without a reload
	v.look("demo")
	v.open("/demo/inbox")
	v.look("demo-inbox")
	v.open("/demo/inbox/1")
	v.look("demo-letter")
	v.open("/demo/inbox/2")
	v.look("demo-letter-long")
	v.open("/demo/send?from=127.0.0.2")
	v.look("demo-send")
	v.press("Send it")
	v.arrive("^/demo/sent/")
	v.look("demo-refused")
}
