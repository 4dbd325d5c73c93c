package daemon_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A source sends as smtp-source does, and what that cannot: from several
// addresses, over TLS, several commands in one write, by BDAT.
type source struct {
	addr      string
	from      func(session int) string // the address of a session; nil: whatever the system takes
	sessions  int
	octets    int
	reuse     bool // connections are kept
	startTLS  bool
	pipelined bool // MAIL, RCPT and DATA in one write
	bdat      bool // MAIL, RCPT and the message in one write
}

// A sender is one connection of a source.
type sender struct {
	*source
	nc net.Conn
	in *bufio.Reader
}

// send sends n messages by all sessions together.
func (s *source) send(n int) error {
	text := benchText(s.octets)
	var begun atomic.Int64
	var first atomic.Pointer[error]
	var all sync.WaitGroup
	for session := range s.sessions {
		all.Go(func() {
			var c *sender
			for first.Load() == nil && begun.Add(1) <= int64(n) {
				err := error(nil)
				if c == nil {
					c, err = s.open(session)
				}
				if err == nil {
					err = c.message(text)
				}
				if err == nil && !s.reuse {
					err = c.quit()
					c = nil
				}
				if err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
			}
			if c != nil {
				_ = c.quit()
			}
		})
	}
	all.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

// benchText is a message of about so many octets.
func benchText(octets int) string {
	const line = "A line of a message, as long as lines of messages usually are, it says.\r\n"
	return "From: device@lab.example\r\nSubject: a page\r\n\r\n" + strings.Repeat(line, max(1, octets/len(line)))
}

// open makes a connection that is ready for MAIL.
func (s *source) open(session int) (*sender, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	if s.from != nil {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(s.from(session))}
	}
	nc, err := d.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(5 * time.Minute))
	c := &sender{source: s, nc: nc, in: bufio.NewReader(nc)}
	if err := c.expect("220"); err != nil {
		return nil, err
	}
	if err := c.say("EHLO device.lab.example\r\n", "250"); err != nil || !s.startTLS {
		return c, err
	}
	if err := c.say("STARTTLS\r\n", "220"); err != nil {
		return nil, err
	}
	t := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	c.nc, c.in = t, bufio.NewReader(t)
	return c, c.say("EHLO device.lab.example\r\n", "250")
}

// expect reads one reply of any number of lines.
func (c *sender) expect(code string) error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(line, []byte(code)) {
			return fmt.Errorf("%s was expected and %q came", code, line)
		}
		if line[3] != '-' {
			return nil
		}
	}
}

// say writes something and expects replies.
func (c *sender) say(text string, codes ...string) error {
	if _, err := io.WriteString(c.nc, text); err != nil {
		return err
	}
	for _, code := range codes {
		if err := c.expect(code); err != nil {
			return err
		}
	}
	return nil
}

const (
	benchMail = "MAIL FROM:<device@lab.example>\r\n"
	benchRcpt = "RCPT TO:<someone@example.org>\r\n"
)

func (c *sender) message(text string) error {
	switch {
	case c.bdat:
		return c.say(benchMail+benchRcpt+"BDAT "+strconv.Itoa(len(text))+" LAST\r\n"+text, "250", "250", "250")
	case c.pipelined:
		if err := c.say(benchMail+benchRcpt+"DATA\r\n", "250", "250", "354"); err != nil {
			return err
		}
	default:
		for _, step := range [][2]string{{benchMail, "250"}, {benchRcpt, "250"}, {"DATA\r\n", "354"}} {
			if err := c.say(step[0], step[1]); err != nil {
				return err
			}
		}
	}
	return c.say(text+".\r\n", "250")
}

func (c *sender) quit() error {
	defer c.nc.Close()
	return c.say("QUIT\r\n", "221")
}

// newTLSSink takes everything, and offers STARTTLS, which smtp-sink does not.
// cert is the folder of its certificate.
func newTLSSink(t *testing.T, cert string) sink {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(cert, "cert.pem"), filepath.Join(cert, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int64
	var conns sync.Map
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Store(nc, true)
			all.Go(func() {
				defer nc.Close()
				takeAll(nc, &tls.Config{Certificates: []tls.Certificate{pair}}, &taken)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		conns.Range(func(nc, _ any) bool { nc.(net.Conn).Close(); return true })
		all.Wait()
	})
	return sink{ln.Addr().String(), func() int { return int(taken.Load()) }}
}

// takeAll serves one connection.
func takeAll(nc net.Conn, config *tls.Config, taken *atomic.Int64) {
	in, out := bufio.NewReader(nc), bufio.NewWriter(nc)
	out.WriteString("220 sink\r\n")
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch string(line[:4]) {
		case "EHLO":
			out.WriteString("250-sink\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n")
		case "STAR":
			out.WriteString("220 go on\r\n")
			out.Flush()
			t := tls.Server(nc, config)
			nc, in, out = t, bufio.NewReader(t), bufio.NewWriter(t)
		case "DATA":
			out.WriteString("354 go on\r\n")
			if out.Flush() != nil {
				return
			}
			for string(line) != ".\r\n" {
				if line, err = in.ReadSlice('\n'); err != nil {
					return
				}
			}
			out.WriteString("250 taken\r\n")
			taken.Add(1)
		default:
			out.WriteString("250 ok\r\n")
		}
	}
}
