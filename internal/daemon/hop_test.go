package daemon_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A hop is a next hop that keeps what it is given. It says what a test tells
// it to say.
type hop struct {
	addr  string
	mu    sync.Mutex
	mails []string
	reply func(command string) string // "" means the usual answer; called with mu held
}

func newHop(t *testing.T) *hop {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{addr: ln.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go h.serve(conn)
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return h
}

// say makes the hop answer as f does.
func (h *hop) say(f func(command string) string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reply = f
}

func (h *hop) answer(conn net.Conn, command, usual string) bool {
	h.mu.Lock()
	reply := ""
	if h.reply != nil {
		reply = h.reply(command)
	}
	h.mu.Unlock()
	if reply == "close" {
		return false
	}
	if reply == "" {
		reply = usual
	}
	_, err := io.WriteString(conn, reply+"\r\n")
	return err == nil && !strings.HasPrefix(reply, "421")
}

func (h *hop) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	if !h.answer(conn, "CONNECT", "220 hop.example ESMTP") {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "EHLO":
			if !h.answer(conn, line, "250-hop.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 50000000") {
				return
			}
		case "DATA":
			if !h.answer(conn, line, "354 go on") {
				return
			}
			var body bytes.Buffer
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				body.WriteString(strings.TrimPrefix(l, "."))
			}
			if !h.take(conn, body.String()) {
				return
			}
		case "QUIT":
			h.answer(conn, line, "221 bye")
			return
		default:
			if !h.answer(conn, line, "250 2.0.0 ok") {
				return
			}
		}
	}
}

// take keeps a message, if the answer to its end is to be a good one: first
// kept, then answered, as a real next hop does.
func (h *hop) take(conn net.Conn, body string) bool {
	h.mu.Lock()
	reply := ""
	if h.reply != nil {
		reply = h.reply("DOT")
	}
	if reply == "" {
		reply = "250 2.0.0 taken"
	}
	if strings.HasPrefix(reply, "2") {
		h.mails = append(h.mails, body)
	}
	h.mu.Unlock()
	if reply == "close" {
		return false
	}
	_, err := io.WriteString(conn, reply+"\r\n")
	return err == nil && !strings.HasPrefix(reply, "421")
}

// received lists the messages that came to their end.
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
