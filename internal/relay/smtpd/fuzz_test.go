package smtpd

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
)

// A scripted connection is a client that says all it has to say, in pieces of
// a size, listens to nothing, and goes away.
type scripted struct {
	from   string
	in     *bytes.Reader
	piece  int
	out    bytes.Buffer
	closed chan struct{}
}

func (s *scripted) Read(p []byte) (int, error)  { return s.in.Read(p[:min(len(p), s.piece)]) }
func (s *scripted) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *scripted) Close() error {
	close(s.closed)
	return nil
}
func (s *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (s *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.ParseIP(s.from), Port: 999} }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }

// A stage is a server that plays one scripted connection after another.
type stage struct {
	*fixture
	conns chan net.Conn
}

func newStage(f *testing.F, limits Limits) *stage {
	s := &stage{fixture: newFixture(f, limits, func(o *Options) { o.Logger = slog.New(slog.DiscardHandler) }), conns: make(chan net.Conn)}
	ctx, cancel := context.WithCancel(context.Background())
	l := &pipeListener{conns: s.conns, stop: make(chan struct{})}
	s.served.Go(func() {
		if err := s.srv.ServeRelay(ctx, l); err != nil {
			f.Error(err)
		}
	})
	f.Cleanup(func() {
		cancel()
		s.served.Wait()
	})
	return s
}

// play returns what the server said and stored.
func (s *stage) play(from, text string, piece int) (said string, kept []stored) {
	c := &scripted{from: from, in: bytes.NewReader([]byte(text)), piece: max(1, piece), closed: make(chan struct{})}
	s.conns <- c
	<-c.closed
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	kept, s.store.stored = s.store.stored, nil
	for len(s.store.done) > 0 {
		<-s.store.done
	}
	s.told.mu.Lock()
	s.told.told, s.told.taken = nil, nil
	s.told.mu.Unlock()
	return c.out.String(), kept
}

var replyLine = regexp.MustCompile(`^[2-5]\d\d(-| |$)[ -~]*$`)

// FuzzSession: whatever a client says, each line of an answer is one, and what
// is stored is a message that can be passed on: from and to whom is addresses,
// and there is no CR, LF or NUL but in line ends.
func FuzzSession(f *testing.F) {
	const hello, envelope = "EHLO x\r\n", "MAIL FROM:<a@example.edu>\r\nRCPT TO:<b@example.org>\r\n"
	for _, s := range []string{
		hello + envelope + "DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
		hello + envelope + "BDAT 5\r\nabc\r\nBDAT 3 LAST\r\nx\r\nNOOP\r\n",
		hello + envelope + "BDAT 99999999999999\r\nMAIL FROM:<evil@example.edu>\r\n",
		"HELO x\r\nMAIL FROM: a@example.edu SIZE=3 BODY=8BITMIME RET=HDRS ENVID=+2B\r\nRCPT TO:\"a b\"@example.org NOTIFY=NEVER ORCPT=rfc822;x+2By\r\nDATA\r\n.\r\n",
		"MAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n\r\n.\r\nRSET\r\nVRFY x\r\nHELP\r\nEXPN\r\nAUTH PLAIN\r\n",
		hello + "STARTTLS\r\n\x16\x03\x01\x00\x05hello", "GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 127.0.0.2 127.0.0.1 1 25\r\n",
		hello + "MAIL FROM:<jürgen@example.edu> SMTPUTF8\r\nRCPT TO:<@x,@y:b@example.org>\r\nDATA\r\nBcc: x\n\ny\n.\n",
		hello + envelope + "DATA\r\na\r\n.\r", "\r\n\x00\n\r", strings.Repeat("x", 5000) + "\r\n",
	} {
		for _, piece := range []int{1, 7, 1 << 16} {
			for device := range uint8(3) {
				f.Add(s, piece, device)
			}
		}
	}
	s := newStage(f, Limits{MaxMessage: 4096, MaxLine: 1024, MaxHeader: 2048, MaxRecipients: 3})
	f.Fuzz(func(t *testing.T, text string, piece int, device uint8) {
		from := []string{strictClient, fixClient, "127.0.0.14", "127.0.0.6"}[device%4]
		said, kept := s.play(from, text, piece)
		if clear, _, tls := strings.Cut(said, sayReadyTLS().text+"\r\n"); tls {
			said = clear + "\r\n" // what follows is no SMTP
		}
		if !strings.HasSuffix(said, "\r\n") {
			t.Fatalf("said %q", said)
		}
		for _, line := range strings.Split(strings.TrimSuffix(said, "\r\n"), "\r\n") {
			if len(line)+2 > maxReplyLine || !replyLine.MatchString(line) {
				t.Fatalf("said %q, in %q", line, said)
			}
		}
		if strings.Contains(said, sayInternal().text) {
			t.Fatalf("a session failed: %q", said)
		}
		if n := strings.Count(said, "250 2.0.0 accepted as "); n != len(kept) || from == "127.0.0.6" && n > 0 {
			t.Fatalf("%d messages are kept, and of %d it is said", len(kept), n)
		}
		for _, k := range kept {
			rest := strings.ReplaceAll(k.body, "\r\n", "")
			if strings.ContainsAny(rest, "\r\n\x00") || !strings.HasSuffix(k.body, "\r\n") || !strings.HasPrefix(k.body, "Received: from ") {
				t.Fatalf("kept %q", k.body)
			}
			if len(k.env.To) == 0 || len(k.env.To) > 3 {
				t.Fatalf("kept for %v", k.env.To)
			}
			for _, a := range append([]mail.Address{k.env.From}, addresses(k.env.To)...) {
				if a == (mail.Address{}) {
					continue // the null sender
				}
				if again, err := mail.ParseAddress(strings.TrimSuffix(strings.TrimPrefix(a.Path(), "<"), ">"), k.env.UTF8); err != nil || again != a {
					t.Fatalf("kept for %+v, which reads back as %+v: %v", a, again, err)
				}
			}
		}
	})
}

func addresses(to []mail.Recipient) (list []mail.Address) {
	for _, r := range to {
		list = append(list, r.Address)
	}
	return list
}

// FuzzDATAAndBDAT: one message that comes by DATA and by BDAT, in whatever
// pieces, is stored as the same, or refused both times (for whichever fault is met
// first); for a machine that is held to CRLF and for one whose line feeds are
// repaired. There a lone dot beside a line feed is refused in DATA alone.
func FuzzDATAAndBDAT(f *testing.F) {
	for _, s := range []string{"", "\r\n", "Subject: x\r\n\r\nbody\r\n", ".\r\n..\r\n.x\r\n", "Date: x\r\nMessage-ID: y\r\n\r\n", "a: b\r\n c\r\nnot a field\r\n",
		"From x Mon Nov 23 12:00:00 2026\r\na: b\r\n\r\n", "a\nb\r\n", "\n.\n", "a\rb\r\n", "\x00\r\n", "a\r\n.\n", "Received: x\r\n" + strings.Repeat("Received: y\r\n", 60), strings.Repeat("long ", 500) + "\r\n", "no end"} {
		f.Add([]byte(s), uint8(1), 3, false)
		f.Add([]byte(s), uint8(200), 1<<16, true)
	}
	s := newStage(f, Limits{MaxMessage: 4096, MaxLine: 1024, MaxHeader: 2048})
	// What differs from one message to the next: the trace, and the fields that are added.
	varies := regexp.MustCompile(`(?s)^Received: from .*?;\r\n\t[^\r]*\r\n|<[a-z0-9]{26}@relay\.example\.edu>|Date: \w{3}, \d+ \w{3} \d{4} [\d:]+ [+-]\d{4}\r\n`)
	reason := regexp.MustCompile(`[45]\d\d \d\.\d\.\d [^\r]*`)
	f.Fuzz(func(t *testing.T, message []byte, chunk uint8, piece int, fix bool) {
		from, ends := strictClient, "\r\n"
		if fix {
			from, ends = fixClient, "\n" // a reader that ends lines at LF takes the dot behind one away
		}
		if !bytes.HasSuffix(message, []byte("\r\n")) && len(message) > 0 {
			message = append(bytes.Clone(message), "\r\n"...) // DATA cannot say it otherwise
		}
		stuffed := strings.ReplaceAll(ends+string(message), ends+".", ends+"..")[len(ends):]
		const begin = "EHLO x\r\nMAIL FROM:<a@example.edu>\r\nRCPT TO:<b@example.org>\r\n"
		said, byDATA := s.play(from, begin+"DATA\r\n"+stuffed+".\r\n", piece)
		var b strings.Builder
		b.WriteString(begin)
		for rest := message; ; {
			n := min(len(rest), int(chunk)+1)
			b.WriteString("BDAT " + strconv.Itoa(n))
			if n == len(rest) {
				b.WriteString(" LAST")
			}
			b.WriteString("\r\n")
			b.Write(rest[:n])
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
		}
		saidBDAT, byBDAT := s.play(from, b.String(), piece)
		if fix && strings.Contains(said, "is a lone dot beside a bare LF") {
			return
		}
		if len(byDATA) != len(byBDAT) {
			t.Fatalf("by DATA %q, by BDAT %q", reason.FindString(said), reason.FindString(saidBDAT))
		}
		if len(byDATA) == 0 {
			return
		}
		x, y := varies.ReplaceAllString(byDATA[0].body, ""), varies.ReplaceAllString(byBDAT[0].body, "")
		if x != y {
			t.Fatalf("by DATA %q, by BDAT %q", x, y)
		}
	})
}

// FuzzHeaderScan holds what the header pass looks at against net/mail's way: of
// a section that is well formed, it misses no Date, no Message-ID, no Received,
// and what it adds makes a section that reads the same.
func FuzzHeaderScan(f *testing.F) {
	for _, s := range []string{"Date: x\r\nMessage-ID: y\r\n\r\nb\r\n", "date:\r\n message-id: folded\r\n\r\n", "Received: 1\r\nReceived: 2\r\n\r\n", "Subject : blank\r\n\r\n", "\r\nDate: body\r\n", "X:\r\n\t y\r\n\r\n"} {
		f.Add(s, 5)
	}
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if strings.ContainsAny(strings.ReplaceAll(text, "\r\n", ""), "\r\n\x00") || !strings.HasSuffix(text, "\r\n") {
			return
		}
		var out bytes.Buffer
		h := &headerPass{out: func(p []byte) { out.Write(p) }, maxBytes: 1 << 20, maxHops: 1 << 20, date: "D", messageID: "<I>"}
		for _, l := range strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n") {
			for ; len(l) > max(1, cut); l = l[max(1, cut):] {
				h.write([]byte(l[:max(1, cut)]), false)
			}
			h.write([]byte(l), true)
		}
		h.close()
		before, after := section(text), section(out.String())
		for name, value := range map[string]string{"date": " D", "message-id": " <I>"} {
			_, had := before[name]
			if got, ok := after[name]; !ok || had && got != before[name] || !had && got != value {
				t.Fatalf("%s of %q became %q, in %q", name, text, got, out.String())
			}
		}
		if h.added != (out.Len() > 0 && (len(before["date"]) == 0 && !has(before, "date") || !has(before, "message-id"))) {
			t.Fatalf("added: %v, of %q", h.added, text)
		}
		if len(after) < len(before) {
			t.Fatalf("%q became %q", text, out.String())
		}
	})
}

func has(m map[string]string, name string) bool { _, ok := m[name]; return ok }

// section reads a header section by a second way: up to the first line that is
// no field and no continuation; of each name the first value.
func section(text string) map[string]string {
	fields := map[string]string{}
	name, n := "", 0
	for i, line := range strings.Split(text, "\r\n") {
		if i == 0 && isMboxLine([]byte(line)) {
			continue
		}
		if line != "" && (line[0] == ' ' || line[0] == '\t') && n > 0 {
			continue
		}
		before, value, found := strings.Cut(line, ":")
		name = strings.ToLower(strings.TrimRight(before, " \t"))
		if !found || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			break
		}
		n++
		if !has(fields, name) {
			fields[name] = value
		}
	}
	return fields
}

var _ io.ReadWriteCloser = (*scripted)(nil)
