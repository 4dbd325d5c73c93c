package demo

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// A Mail is what Send sends.
type Mail struct {
	Server   string     // host:port of the relay
	From     netip.Addr // the address to connect from; on Linux any of 127.0.0.0/8 is at hand
	StartTLS bool       // as on port 587; the demo's certificate is its own, so it is not verified
	Sender   string     // "device@demo.example" by default
	To       string     // "someone@example.org" by default
	Subject  string     // one line
	Text     string     // one line or more, none of them of a dot alone; by default a page was scanned
}

// Send sends one small mail, as a printer would, and shows the dialog on w:
// "→" is what the client says, "←" what the relay answers. It returns whether
// the relay accepted the message. An error means that there was no dialog.
func Send(ctx context.Context, w io.Writer, m Mail) (accepted bool, err error) {
	m.Sender, m.To = cmp.Or(m.Sender, "device@"+domain), cmp.Or(m.To, "someone@example.org")
	text := strings.ReplaceAll(cmp.Or(m.Text, "Scanned page 1 of 1."), "\n", "\r\n")
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(m.From, 0))}
	conn, err := dialer.DialContext(ctx, "tcp", m.Server)
	if err != nil {
		return false, fmt.Errorf("demo: connecting to %s from %s: %w", m.Server, m.From, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	d := &dialog{w: w, conn: conn, r: bufio.NewReader(conn)}

	fmt.Fprintf(w, "  from %s to %s\n", m.From, m.Server)
	if !d.hear('2') {
		return false, d.err
	}
	if !d.say("EHLO device.demo.example", '2') {
		return false, d.err
	}
	if m.StartTLS {
		if !d.say("STARTTLS", '2') {
			return false, d.err
		}
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return false, fmt.Errorf("demo: TLS handshake: %w", err)
		}
		fmt.Fprintf(w, "  (%s)\n", tls.VersionName(secure.ConnectionState().Version))
		d.conn, d.r = secure, bufio.NewReader(secure)
		if !d.say("EHLO device.demo.example", '2') {
			return false, d.err
		}
	}
	ok := d.say("MAIL FROM:<"+m.Sender+">", '2') &&
		d.say("RCPT TO:<"+m.To+">", '2') &&
		d.say("DATA", '3') &&
		d.say("From: "+m.Sender+"\r\nTo: "+m.To+"\r\nSubject: "+m.Subject+"\r\n\r\n"+text+"\r\n.", '2')
	if d.err == nil {
		d.say("QUIT", '2')
		d.err = nil // the mail's fate is known
	}
	return ok, d.err
}

// A dialog is one SMTP session, shown as it goes.
type dialog struct {
	w    io.Writer
	conn net.Conn
	r    *bufio.Reader
	err  error
}

// say sends a command and hears its reply; false when the reply's class is not want.
func (d *dialog) say(line string, want byte) bool {
	for shown := range strings.SplitSeq(line, "\r\n") {
		fmt.Fprintf(d.w, "  → %s\n", shown)
	}
	if _, d.err = io.WriteString(d.conn, line+"\r\n"); d.err != nil {
		return false
	}
	return d.hear(want)
}

func (d *dialog) hear(want byte) bool {
	for range 64 { // lines of one reply
		line, err := d.r.ReadString('\n')
		if err != nil {
			d.err = fmt.Errorf("demo: the relay closed the connection: %w", err)
			return false
		}
		line = strings.TrimRight(line, "\r\n")
		fmt.Fprintf(d.w, "  ← %s\n", line)
		if len(line) < 4 || line[3] != '-' {
			return line != "" && line[0] == want
		}
	}
	return false
}
