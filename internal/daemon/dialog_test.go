package daemon_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// A client is one SMTP session with the relay, line by line.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// dial connects from one of the host's addresses and returns the greeting, or
// what stands in its place.
func (w *world) dial(from string) (*client, string) {
	w.t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(w.t.Context(), "tcp", w.relay)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := &client{t: w.t, conn: conn, in: bufio.NewReader(conn)}
	return c, c.reply()
}

// reply reads one reply, its lines joined; "" is the end of the connection.
func (c *client) reply() string {
	var lines []string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return strings.Join(lines, "\n")
		}
		lines = append(lines, strings.TrimRight(line, "\r\n"))
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

// say sends one line and returns the reply.
func (c *client) say(format string, args ...any) string {
	fmt.Fprintf(c.conn, format+"\r\n", args...) // that the other side is gone shows in the reply
	return c.reply()
}

// expect fails the test if a reply does not begin as it should.
func (c *client) expect(reply, begins string) {
	c.t.Helper()
	if !strings.HasPrefix(reply, begins) {
		c.t.Fatalf("the relay says %q and not %q", reply, begins)
	}
}

// send sends one message from an address of the host and returns the last
// reply: that to the message's end, or the first refusal.
func (w *world) send(from, subject string) string {
	w.t.Helper()
	return w.sendAs(from, "device@lab.example", subject)
}

func (w *world) sendAs(from, sender, subject string) string {
	w.t.Helper()
	c, reply := w.dial(from)
	defer c.conn.Close()
	if !strings.HasPrefix(reply, "220") {
		return reply
	}
	for _, command := range []string{"EHLO client.lab.example", "MAIL FROM:<" + sender + ">", "RCPT TO:<someone@example.org>", "DATA"} {
		if reply = c.say("%s", command); reply == "" || reply[0] > '3' {
			return reply
		}
	}
	return c.say("From: device@lab.example\r\nSubject: %s\r\n\r\nScanned.\r\n.", subject)
}

// accepted sends one message that must get its 250.
func (w *world) accepted(from, subject string) {
	w.t.Helper()
	if reply := w.send(from, subject); !strings.HasPrefix(reply, "250 2.0.0 accepted as ") {
		w.t.Fatalf("a message from %s got %q", from, reply)
	}
}

// refused sends one message that must not get a 250.
func (w *world) refused(from, begins string) {
	w.t.Helper()
	if reply := w.send(from, "refused"); !strings.HasPrefix(reply, begins) {
		w.t.Fatalf("a message from %s got %q and not %q", from, reply, begins)
	}
}

// arrives waits until the next hop has one message of a subject.
func (w *world) arrives(subject string) {
	w.t.Helper()
	w.eventually(subject+" arrives", func() bool { return len(w.hop.holding("Subject: "+subject+"\r\n")) == 1 })
}
