package deliver

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A nextHop is a server that works but for one thing: at one step it does
// something else. It counts what it took.
type nextHop struct {
	at, how string
	offers  []string
	tls     *tls.Config
	l       net.Listener
	done    sync.WaitGroup
	over    chan struct{} // closed when the test ends

	mu    sync.Mutex
	conns int
	took  int      // messages that came to their end and got a 2xx
	ends  int      // messages that came to their end
	odd   []string // what no client says
}

// The steps at which a next hop can go wrong, and the ways in which it can.
var (
	steps = []string{"connect", "EHLO", "STARTTLS", "handshake", "EHLO in TLS", "MAIL", "RCPT", "DATA", "body", "dot", "chunk", "BDAT", "QUIT"}
	ways  = []string{"2xx", "3xx", "4xx", "5xx", "421", "502", "garbage", "long line", "many lines", "half a reply", "one by one", "stalls", "closes", "half-closes"}
)

func newNextHop(t *testing.T, at, how string, offers ...string) *nextHop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &nextHop{at: at, how: how, offers: offers, l: l, over: make(chan struct{})}
	if slices.Contains(offers, "STARTTLS") {
		h.tls, _ = certificate(t, "mx.example.org")
	}
	h.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns++
			h.mu.Unlock()
			h.done.Go(func() {
				defer func() { _ = conn.Close() }()
				(&hopSession{h: h, raw: conn, conn: conn, r: bufio.NewReader(conn)}).serve()
			})
		}
	})
	t.Cleanup(func() {
		close(h.over)
		_ = l.Close()
		h.done.Wait()
	})
	return h
}

type hopSession struct {
	h     *nextHop
	raw   net.Conn
	conn  net.Conn // raw, or TLS over it
	r     *bufio.Reader
	secur bool
	rcpts int // accepted
	asked int // RCPTs
	mail  bool
	body  int // octets of chunks
}

// say gives the usual reply, or does what this next hop does at a step. It
// reports what was said, and false when the session is over.
func (s *hopSession) say(step, usual string) (said string, goesOn bool) {
	said = usual
	if step == s.h.at {
		switch s.h.how {
		case "2xx":
			said = "250 2.0.0 odd"
		case "3xx":
			said = "354 odd"
		case "4xx":
			said = "451 4.7.1 later"
		case "5xx":
			said = "550 5.7.1 no"
		case "421":
			_, _ = io.WriteString(s.conn, "421 4.3.2 bye\r\n")
			return "421", false
		case "502":
			said = "502 5.5.1 what"
		case "garbage":
			said = "SSH-2.0-OpenSSH"
		case "long line":
			said = "250 " + strings.Repeat("x", maxReplyLine)
		case "many lines":
			said = strings.Repeat("250-x\r\n", maxReplyLines) + "250 x"
		case "half a reply":
			_, _ = io.WriteString(s.conn, "250-ok\r\n25")
			return "", false
		case "one by one":
			for _, c := range []byte(usual + "\r\n") {
				_, _ = s.conn.Write([]byte{c})
			}
			return usual, true
		case "stalls":
			<-s.h.over
			return "", false
		case "closes":
			return "", false
		case "half-closes":
			_ = s.raw.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, s.raw)
			return "", false
		}
	}
	_, err := io.WriteString(s.conn, said+"\r\n")
	return said, err == nil && step != "QUIT"
}

func (s *hopSession) serve() {
	if _, ok := s.say("connect", "220 mx.example.org"); !ok {
		return
	}
	for s.command() {
	}
}

func (s *hopSession) command() (goesOn bool) {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return false
	}
	verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	good := func(said string) bool { return strings.HasPrefix(said, "2") }
	said := ""
	switch verb {
	case "EHLO":
		step := "EHLO"
		offers := "250-mx.example.org\r\n"
		for _, o := range s.h.offers {
			if o != "STARTTLS" || !s.secur {
				offers += "250-" + o + "\r\n"
			}
		}
		if s.secur {
			step = "EHLO in TLS"
		}
		_, goesOn = s.say(step, offers+"250 HELP")
	case "HELO":
		_, goesOn = s.say("HELO", "250 mx.example.org")
	case "STARTTLS":
		if said, goesOn = s.say(verb, "220 go"); good(said) && goesOn {
			if s.h.at == "handshake" {
				if _, err := s.r.Peek(1); err != nil { // what comes sooner is injected
					return false
				}
				s.say("handshake", "")
				_, _ = io.Copy(io.Discard, s.raw)
				return false
			}
			conn := tls.Server(s.raw, s.h.tls)
			if conn.Handshake() != nil {
				return false
			}
			s.conn, s.r, s.secur = conn, bufio.NewReader(conn), true
		}
	case "MAIL":
		said, goesOn = s.say(verb, "250 ok")
		s.mail, s.rcpts, s.asked, s.body = good(said), 0, 0, 0
	case "RCPT":
		step := ""
		if s.asked++; s.asked == 2 {
			step = verb
		}
		usual := "250 ok"
		if !s.mail {
			usual = "503 5.5.1 no sender"
		}
		if said, goesOn = s.say(step, usual); good(said) {
			s.rcpts++
		}
	case "DATA":
		usual := "354 go"
		if s.rcpts == 0 {
			usual = "554 5.5.1 nobody"
		}
		if said, goesOn = s.say(verb, usual); strings.HasPrefix(said, "354") && goesOn {
			return s.data()
		}
	case "BDAT":
		return s.bdat(rest)
	case "QUIT":
		_, goesOn = s.say(verb, "221 bye")
	default:
		s.h.mu.Lock()
		s.h.odd = append(s.h.odd, strings.TrimSpace(line))
		s.h.mu.Unlock()
		_, goesOn = s.say("", "500 what")
	}
	return goesOn
}

// data reads a body and its dot.
func (s *hopSession) data() bool {
	for n := 0; ; n++ {
		if n == 1 && s.h.at == "body" {
			if _, ok := s.say("body", ""); !ok {
				return false
			}
		}
		line, err := s.r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			return s.end("dot")
		}
	}
}

// end answers a message that came to its end.
func (s *hopSession) end(step string) bool {
	s.h.mu.Lock()
	s.h.ends++
	s.h.mu.Unlock()
	said, ok := s.say(step, "250 2.0.0 taken")
	if strings.HasPrefix(said, "2") {
		s.h.mu.Lock()
		s.h.took++
		s.h.mu.Unlock()
	}
	return ok
}

// bdat reads a chunk; the step of the last is "BDAT", of another "chunk".
func (s *hopSession) bdat(args string) bool {
	size, last, _ := strings.Cut(args, " ")
	n, err := strconv.Atoi(size)
	if err != nil || n > chunk || last != "" && last != "LAST" || s.rcpts == 0 {
		s.h.mu.Lock()
		s.h.odd = append(s.h.odd, "BDAT "+args)
		s.h.mu.Unlock()
	}
	if s.h.at == "chunk" && s.h.how == "stalls" && last == "" { // reads nothing any more
		<-s.h.over
		return false
	}
	if _, err := io.CopyN(io.Discard, s.r, int64(n)); err != nil {
		return false
	}
	if last != "" {
		return s.end("BDAT")
	}
	_, ok := s.say("chunk", "250 ok")
	return ok
}

// TestNextHops has a next hop go wrong in each way at each step. The table of
// what became of each recipient is a golden file.
func TestNextHops(t *testing.T) {
	type result struct {
		key, line string
	}
	// Those that stall do nothing but wait, so many run together.
	some := make(chan struct{}, 32)
	var running sync.WaitGroup
	var mu sync.Mutex
	var all []result
	for si, at := range steps {
		for wi, how := range ways {
			for oi, offers := range [][]string{nil, {"PIPELINING"}} {
				if at == "handshake" && !slices.Contains([]string{"garbage", "stalls", "closes", "half-closes"}, how) ||
					at == "body" && !slices.Contains([]string{"4xx", "5xx", "421", "stalls", "closes", "half-closes"}, how) {
					continue
				}
				name := at + ", " + how
				if offers != nil {
					name += ", pipelined"
				}
				switch at {
				case "STARTTLS", "handshake", "EHLO in TLS":
					offers = append(offers, "STARTTLS")
				case "chunk", "BDAT":
					offers = append(offers, "CHUNKING")
				}
				h := newNextHop(t, at, how, offers...)
				running.Go(func() {
					some <- struct{}{}
					defer func() { <-some }()
					got := throughNextHop(t, name, h)
					var line strings.Builder
					for i, r := range got {
						by := "it"
						if r.RemoteMTA == "" {
							by = "us"
						}
						cell := fmt.Sprintf(" | %s, %d %s of %s", r.Outcome, r.Status.Code, r.Status.Enhanced, by)
						if before := line.String(); i > 0 && strings.HasSuffix(before, cell) {
							cell = " | same"
						} else if i > 1 && strings.HasSuffix(before, " | same") && strings.HasPrefix(before, cell) {
							cell = " | same"
						}
						line.WriteString(cell)
					}
					h.mu.Lock()
					fmt.Fprintf(&line, " | %d", h.conns)
					h.mu.Unlock()
					mu.Lock()
					all = append(all, result{fmt.Sprintf("%02d %02d %d", si, wi, oi), name + line.String()})
					mu.Unlock()
				})
			}
		}
	}
	running.Wait()
	if t.Failed() {
		return
	}
	slices.SortFunc(all, func(a, b result) int { return strings.Compare(a.key, b.key) })
	var table strings.Builder
	table.WriteString("what the next hop does | first recipient | second | third | connections\n")
	for _, r := range all {
		table.WriteString(r.line + "\n")
	}
	golden := filepath.Join("testdata", "nexthops.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(table.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, lines := strings.Split(table.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(lines)) {
		if i >= len(got) || i >= len(lines) || got[i] != lines[i] {
			t.Errorf("line %d of %s is another one; -update writes it anew\ngot  %.300q\nwant %.300q", i+1, golden, got[min(i, len(got)-1)], lines[min(i, len(lines)-1)])
			return
		}
	}
}

// throughNextHop sends a message to three and holds what must be so whatever
// happens: delivered are those and only those whom the next hop says it took.
func throughNextHop(t *testing.T, name string, h *nextHop) []mail.Result {
	t.Helper()
	o := Options{
		Reuse:    Reuse{Messages: 1},
		Resolver: zone{mx: map[string][]*net.MX{"example.org.": {{Host: "mx.example.org.", Pref: 1}}}, ip: map[string][]string{"mx.example.org.": {"192.0.2.1"}}},
		Dialer:   dialMap{"192.0.2.1:25": h.l.Addr().String()},
	}
	if h.how == "stalls" {
		d := time.Second
		o.Timeouts = Timeouts{Lookup: d, Connect: d, Greeting: d, Command: d, Data: d, Block: d, End: d, Quit: d, Drain: d}
	}
	text := content
	if h.at == "body" || h.at == "chunk" {
		lines := 5_000
		if h.how == "stalls" { // more than both sides' buffers
			lines = 80_000
		}
		text = "Subject: long\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", lines)
	}
	got := newCourier(t, o).Deliver(t.Context(), entry(3), bodyOf(text), indexes(3))
	delivered := 0
	for _, r := range got {
		if r.Outcome == mail.Delivered {
			delivered++
		}
		if r.At.IsZero() || (r.Cause == "") != (r.Outcome == mail.Delivered) || r.Outcome == mail.Failed && !r.Status.Code.Permanent() {
			t.Errorf("%s: %+v", name, r)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.took > 1 || delivered > 0 && h.took != 1 || len(h.odd) > 0 {
		t.Errorf("%s: %d delivered, %d messages taken of %d that came, and it heard %q", name, delivered, h.took, h.ends, h.odd)
	}
	return got
}
