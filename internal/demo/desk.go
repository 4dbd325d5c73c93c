package demo

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gatemail "example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/portal"
	"example.edu/gatepost/internal/portal/page"
)

//go:embed templates/*.html
var templates embed.FS

const (
	maxSent    = 50       // dialogs that are kept
	maxDialog  = 16 << 10 // octets of one
	maxSending = 4        // at one time
	maxForm    = 4 << 10  // octets
)

// A desk is the demo's pages in the portal: where to begin, the inbox, and a
// button that sends as a machine would. Its fields are set before the first
// visitor and stay, but for what mu guards.
type desk struct {
	pages *page.Pages
	frame portal.FrameFunc
	box   *inbox
	relay string // host:port
	own   string // the portal's URL: what a link in a letter may lead to
	deeds func(context.Context, *desk) deeds
	send  func(context.Context, io.Writer, Mail) (bool, error)

	sending chan struct{} // one of maxSending places

	mu   sync.Mutex
	sent []sending // the oldest first, at most maxSent
	last int       // its number
}

// A sending is what became of one press of the button.
type sending struct {
	N        int
	At       time.Time
	From, To string
	Accepted bool
	Reply    string // the relay's last word on it
	Dialog   string
	Problem  string // there was no dialog
	Proof    bool
}

var _ portal.Extra = new(desk).open

// open makes the desk's pages.
func (d *desk) open(pages *page.Pages, frame portal.FrameFunc) (http.Handler, error) {
	if err := pages.Add(templates); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	d.pages, d.frame, d.sending = pages, frame, make(chan struct{}, maxSending)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /demo", d.begin)
	mux.HandleFunc("GET /demo/inbox", d.inbox)
	mux.HandleFunc("GET /demo/inbox/{n}", d.letter)
	mux.HandleFunc("GET /demo/send", d.form)
	mux.HandleFunc("POST /demo/send", d.press)
	mux.HandleFunc("GET /demo/sent/{n}", d.dialog)
	mux.HandleFunc("/demo/", func(w http.ResponseWriter, r *http.Request) { d.missing(w, r, "There is no such page") })
	return mux, nil
}

func (d *desk) show(w http.ResponseWriter, r *http.Request, status int, name string, body any) {
	w.Header().Set("Cache-Control", "no-store")
	d.pages.Render(w, r, status, name, d.frame(w, r, body))
}

func (d *desk) missing(w http.ResponseWriter, r *http.Request, what string) {
	d.pages.Fail(w, r, http.StatusNotFound, d.frame(w, r, nil), page.Failure{Heading: what, Link: page.Link{URL: "/demo", Text: "Where to begin"}})
}

// begin is the first page of the demo: what to try, and what has been done.
func (d *desk) begin(w http.ResponseWriter, r *http.Request) {
	frame := d.frame(w, r, nil)
	done := d.deeds(r.Context(), d)
	letters, count := d.box.newest(5)
	frame.Body = struct {
		Steps   []step
		Done    bool
		More    []action
		Token   string
		Letters []letter
		Count   int
	}{tour(done, frame.Visitor), done.sent, more, frame.Token, letters, count}
	w.Header().Set("Cache-Control", "no-store")
	d.pages.Render(w, r, http.StatusOK, "demo", frame)
}

// inbox is all letters that are kept.
func (d *desk) inbox(w http.ResponseWriter, r *http.Request) {
	letters, count := d.box.newest(maxLetters)
	d.show(w, r, http.StatusOK, "demo-inbox", struct {
		Letters []letter
		Count   int
	}{letters, count})
}

// letter is one of them, whole.
func (d *desk) letter(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	l, ok := d.box.letter(n)
	if err != nil || !ok {
		d.missing(w, r, "There is no such message in the inbox")
		return
	}
	d.show(w, r, http.StatusOK, "demo-letter", struct {
		letter
		Pieces []piece
	}{l, pieces(l.Text, d.own)})
}

// A piece of a text is plain, or a link to a page of the portal.
type piece struct{ Text, URL string }

// pieces finds the links to pages of the portal, which is at own. Nothing else
// becomes a link.
func pieces(text, own string) []piece {
	const most = 200
	var out []piece
	plain := func(s string) {
		if n := len(out); n > 0 && out[n-1].URL == "" {
			out[n-1].Text += s
			return
		}
		out = append(out, piece{Text: s})
	}
	for own != "" && len(out) < most {
		before, rest, found := strings.Cut(text, own)
		if !found {
			break
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"'\`, r) })
		if end < 0 {
			end = len(rest)
		}
		path := strings.TrimRight(rest[:end], ".,;:!?)")
		plain(before)
		if text = rest[len(path):]; path == "" || path[0] == '/' && !strings.HasPrefix(path, "//") {
			out = append(out, piece{own + path, cmp.Or(path, "/")})
		} else {
			plain(own + path) // of somebody else, whose name only begins like ours
		}
	}
	plain(text)
	return out
}

// typed is what the form of a mail has in it.
type typed struct {
	From, To       string
	FromBad, ToBad string // what is wrong, in words
	AnyProblem     bool
}

// form asks where to send from and to.
func (d *desk) form(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	t := typed{From: gatemail.Printable(q.Get("from"), 64), To: gatemail.Printable(q.Get("to"), maxField)}
	if t.From == "" {
		t.From = suggested
	}
	if t.To == "" {
		t.To = "someone@example.org"
	}
	d.show(w, r, http.StatusOK, "demo-send", t)
}

// mail is the message that was asked for, or what is wrong with it.
func (t *typed) mail(server string) (Mail, bool) {
	from, err := netip.ParseAddr(strings.TrimSpace(t.From))
	switch {
	case err != nil:
		t.FromBad = "This is no IP address. For example: " + suggested
	case !from.Is4() || !from.IsLoopback():
		t.FromBad = "The demo sends from addresses of this machine alone: 127.0.0.0 to 127.255.255.255."
	}
	to, err := gatemail.ParseAddress(strings.TrimSpace(t.To), false)
	if err != nil || to.Domain == "" {
		t.ToBad = "This is no mailbox. For example: someone@example.org"
	}
	t.AnyProblem = t.FromBad != "" || t.ToBad != ""
	return Mail{Server: server, From: from, To: to.String(), Subject: "Scan from " + from.String()}, !t.AnyProblem
}

// press sends one message and leads to what became of it.
func (d *desk) press(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	t := typed{From: gatemail.Printable(r.PostFormValue("from"), 64), To: gatemail.Printable(r.PostFormValue("to"), maxField)}
	if t.To == "" {
		t.To = "someone@example.org"
	}
	m, ok := t.mail(d.relay)
	if !ok {
		d.show(w, r, http.StatusUnprocessableEntity, "demo-send", t)
		return
	}
	select {
	case d.sending <- struct{}{}:
		defer func() { <-d.sending }()
	case <-r.Context().Done():
		return
	}
	n := d.keep(d.deliver(r.Context(), m))
	http.Redirect(w, r, "/demo/sent/"+strconv.Itoa(n), http.StatusSeeOther)
}

// deliver sends m and says what became of it.
func (d *desk) deliver(ctx context.Context, m Mail) sending {
	var dialog bytes.Buffer
	accepted, err := d.send(ctx, &bounded{&dialog, maxDialog}, m)
	s := sending{At: today(), From: m.From.String(), To: m.To, Accepted: accepted, Proof: strings.HasPrefix(m.To, "prove+")}
	if err != nil {
		s.Problem = "The connection ended before the relay had answered."
	}
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(dialog.String()), "\n") {
		line = strings.TrimPrefix(line, "  ")
		lines = append(lines, line)
		if reply, ok := strings.CutPrefix(line, "← "); ok && !strings.HasPrefix(reply, "221") { // the goodbye
			s.Reply = reply
		}
	}
	s.Dialog = strings.Join(lines, "\n")
	return s
}

// bounded writes the beginning of what is written to it.
type bounded struct {
	w    *bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.w.Write(p[:n])
	return len(p), nil
}

func (d *desk) keep(s sending) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	s.N = d.last
	if d.sent = append(d.sent, s); len(d.sent) > maxSent {
		d.sent = slices.Delete(d.sent, 0, 1)
	}
	return s.N
}

// dialog is what became of one message.
func (d *desk) dialog(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	d.mu.Lock()
	i := slices.IndexFunc(d.sent, func(s sending) bool { return s.N == n })
	var s sending
	if i >= 0 {
		s = d.sent[i]
	}
	d.mu.Unlock()
	if err != nil || i < 0 {
		d.missing(w, r, "There is no such message")
		return
	}
	d.show(w, r, http.StatusOK, "demo-sent", struct {
		sending
		Unregistered     bool
		LookUp, Register string
	}{s, strings.Contains(s.Reply, "is not registered"), "/ip/" + url.PathEscape(s.From), "/register?ip=" + url.QueryEscape(s.From)})
}

// delivered reports whether the button's mail was accepted from an address.
func (d *desk) delivered(from string) bool {
	return d.has(func(s sending) bool { return s.Accepted && !s.Proof && s.From == from })
}

// proved reports whether a proof of control was accepted from an address.
func (d *desk) proved(from string) bool {
	return d.has(func(s sending) bool { return s.Accepted && s.Proof && s.From == from })
}

func (d *desk) has(is func(sending) bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.sent, is)
}
