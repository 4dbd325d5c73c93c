package daemon_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// What a hop can be told to answer besides a reply.
const (
	hangUp = "close" // without a word
	stall  = "stall" // nothing, until the client goes away
)

// A hop is a next hop that keeps what it is given. It says what a test tells
// it to say.
type hop struct {
	addr string

	mu    sync.Mutex
	mails []string                    // envelope and message; guarded by mu
	wires []string                    // messages as they came, without the final dot; guarded by mu
	reply func(command string) string // "" means the usual answer; called with mu held
	keep  func(envelope, body string) // in place of mails; called with mu held
	conns map[net.Conn]bool           // guarded by mu
	all   sync.WaitGroup
}

func newHop(t *testing.T) *hop {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{addr: ln.Addr().String(), conns: map[net.Conn]bool{}}
	h.all.Go(func() { h.accept(ln) })
	t.Cleanup(func() {
		ln.Close()
		h.mu.Lock()
		for c := range h.conns {
			c.Close()
		}
		h.mu.Unlock()
		h.all.Wait()
	})
	return h
}

func (h *hop) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[conn] = true
		h.mu.Unlock()
		h.all.Go(func() {
			h.serve(conn)
			conn.Close()
			h.mu.Lock()
			delete(h.conns, conn)
			h.mu.Unlock()
		})
	}
}

// say makes the hop answer as f does; nil: as usual. The commands are those of
// SMTP, as they come, and CONNECT, BODY (its first line was read), DOT.
func (h *hop) say(f func(command string) string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reply = f
}

// cut closes the connections that there are.
func (h *hop) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		c.Close()
	}
}

// answerTo makes the hop give one reply to one verb.
func (h *hop) answerTo(verb, reply string) {
	h.say(func(command string) string {
		if strings.HasPrefix(strings.ToUpper(command), verb) {
			return reply
		}
		return ""
	})
}

// A session is one connection to a hop.
type session struct {
	h        *hop
	conn     net.Conn
	in       *bufio.Reader
	envelope string // MAIL line, and RCPT lines that were not refused
	mail     bool   // MAIL was not refused
	open     bool   // there is a recipient
}

func (h *hop) serve(conn net.Conn) {
	s := &session{h: h, conn: conn, in: bufio.NewReader(conn)}
	if !s.write(s.ask("CONNECT", "220 hop.example ESMTP")) {
		return
	}
	for s.command() {
	}
}

// ask is what the test wants said to a command, or else the usual.
func (s *session) ask(command, usual string) string {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.h.reply != nil {
		if reply := s.h.reply(command); reply != "" {
			return reply
		}
	}
	return usual
}

// write says something; false ends the session.
func (s *session) write(reply string) bool {
	switch reply {
	case "":
		return true
	case hangUp:
		return false
	case stall:
		io.Copy(io.Discard, s.in)
		return false
	}
	_, err := io.WriteString(s.conn, reply+"\r\n")
	return err == nil && !strings.HasPrefix(reply, "421")
}

func (s *session) command() bool {
	line, err := s.in.ReadString('\n')
	if err != nil {
		return false
	}
	line = strings.TrimSpace(line)
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	switch verb {
	case "EHLO":
		return s.write(s.ask(line, "250-hop.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 50000000"))
	case "DATA":
		return s.data(line)
	case "QUIT":
		s.write(s.ask(line, "221 bye"))
		return false
	}
	usual := "250 2.0.0 ok"
	if verb == "RCPT" && !s.mail {
		usual = "503 5.5.1 no sender"
	}
	reply := s.ask(line, usual)
	switch good := strings.HasPrefix(reply, "2"); {
	case verb == "MAIL" || verb == "RSET":
		s.envelope, s.mail, s.open = line+"\r\n", good && verb == "MAIL", false
	case verb == "RCPT" && good:
		s.envelope, s.open = s.envelope+line+"\r\n", true
	}
	return s.write(reply)
}

func (s *session) data(line string) bool {
	usual := "354 go on"
	if !s.open {
		usual = "554 5.5.1 no recipient"
	}
	reply := s.ask(line, usual)
	if !s.write(reply) || !strings.HasPrefix(reply, "354") {
		return reply != hangUp && reply != stall && !strings.HasPrefix(reply, "421")
	}
	var body, wire bytes.Buffer
	for first := true; ; first = false {
		l, err := s.in.ReadString('\n')
		if err != nil || first && !s.write(s.ask("BODY", "")) {
			return false
		}
		if l == ".\r\n" {
			return s.take(body.String(), wire.String())
		}
		wire.WriteString(l)
		body.WriteString(strings.TrimPrefix(l, "."))
	}
}

// take keeps a message, if the answer to its end is to be a good one: first
// kept, then answered, as a real next hop does.
func (s *session) take(body, wire string) bool {
	h := s.h
	h.mu.Lock()
	reply := ""
	if h.reply != nil {
		reply = h.reply("DOT")
	}
	if reply == "" {
		reply = "250 2.0.0 taken"
	}
	switch {
	case !strings.HasPrefix(reply, "2"):
	case h.keep != nil:
		h.keep(s.envelope, body)
	default:
		h.mails = append(h.mails, s.envelope+body)
		h.wires = append(h.wires, wire)
	}
	h.mu.Unlock()
	return s.write(reply)
}

// received lists the messages that came to their end, each behind its
// envelope.
func (h *hop) received() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.mails...)
}

// holding lists the received messages that contain all of words.
func (h *hop) holding(words ...string) (found []string) {
next:
	for _, m := range h.received() {
		for _, word := range words {
			if !strings.Contains(m, word) {
				continue next
			}
		}
		found = append(found, m)
	}
	return found
}

// nextPort is where freeAddr looks next.
var nextPort = atomic.Int32{}

// freeAddr finds a port that is free, among those that the system gives to
// nobody by itself, so that it stays free until it is used.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := 10_000 + (os.Getpid()*101+int(nextPort.Add(1)))%20_000
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}
