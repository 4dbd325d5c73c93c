package keeper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

const (
	dialFor    = 10 * time.Second
	maxReplies = 64 << 10 // octets that the server says in one session
)

// How TLS with the relay is asked for.
const (
	TLSOpportunistic = "opportunistic"
	TLSVerify        = "verify"
	TLSOff           = "off"
)

// SMTP is the Mailer of the portal: one connection and one transaction for each
// mail, to one server.
type SMTP struct {
	Server string       // "host:port"
	From   mail.Address // of the envelope and the header
	Name   string       // in the header, such as "Mail relay, University of Michigan"
	TLS    string       // TLSOpportunistic, TLSVerify or TLSOff
	Now    func() time.Time
}

var _ Mailer = (*SMTP)(nil)

// Send hands one mail over. Where TLS is opportunistic and fails, it is tried
// without, RFC 7435.
func (s *SMTP) Send(ctx context.Context, key, to, subject, body string) error {
	rcpt, err := mail.ParseAddress(to, true)
	if err != nil || rcpt.Domain == "" {
		return fmt.Errorf("keeper: sending a mail: %w: %q is no mailbox", ErrNever, mail.Printable(to, 200))
	}
	message := s.compose(key, rcpt, subject, body)
	err = s.send(ctx, rcpt, message, s.TLS != TLSOff)
	if s.TLS == TLSOpportunistic && errors.Is(err, errTLS) {
		err = s.send(ctx, rcpt, message, false)
	}
	if err == nil {
		return nil
	}
	if reply, ok := errors.AsType[*textproto.Error](err); ok && reply.Code >= 500 && !errors.Is(err, errSession) {
		return fmt.Errorf("keeper: sending a mail: %w: %w", ErrNever, err)
	}
	return fmt.Errorf("keeper: sending a mail: %w", err)
}

var (
	errTLS     = errors.New("TLS cannot be had")
	errSession = errors.New("the server does not want to talk") // whatever the mail
)

func (s *SMTP) send(ctx context.Context, to mail.Address, message []byte, secure bool) error {
	host, _, err := net.SplitHostPort(s.Server)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{Timeout: dialFor}).DialContext(ctx, "tcp", s.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	// A context that ends takes the connection with it, whatever it waits for.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if at, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(at); err != nil {
			return err
		}
	}
	c, err := smtp.NewClient(&bounded{Conn: conn, left: maxReplies}, host)
	if err != nil {
		return fmt.Errorf("%w: %w", errSession, err)
	}
	name, err := os.Hostname()
	if err != nil || strings.ContainsAny(name, " \r\n") || name == "" {
		name = "localhost"
	}
	if err := c.Hello(name); err != nil {
		return fmt.Errorf("%w: %w", errSession, err)
	}
	if secure {
		if ok, _ := c.Extension("STARTTLS"); ok {
			err := c.StartTLS(&tls.Config{ServerName: host, InsecureSkipVerify: s.TLS != TLSVerify, MinVersion: tls.VersionTLS12})
			if err != nil {
				return fmt.Errorf("%w: %w", errTLS, err)
			}
		} else if s.TLS == TLSVerify {
			return fmt.Errorf("%w: the server does not offer it", errTLS)
		}
	}
	if err := c.Mail(s.From.String()); err != nil {
		return err
	}
	if err := c.Rcpt(to.String()); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // the answer to the final dot
		return err
	}
	_ = c.Quit() // it has the mail
	return nil
}

// compose writes a mail: whatever the texts are, they stay texts. RFC 5322, 2045,
// 2047.
func (s *SMTP) compose(key string, to mail.Address, subject, body string) []byte {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	header("Date", s.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	header("From", strings.TrimSpace(phrase(s.Name)+" "+s.From.Path()))
	header("To", to.Path())
	header("Subject", encoded(oneLine(subject, 400)))
	sum := sha256.Sum256([]byte(key))
	header("Message-ID", "<portal."+hex.EncodeToString(sum[:12])+"@"+s.From.Domain+">")
	header("Auto-Submitted", "auto-generated") // RFC 3834 §5
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	text := strings.ReplaceAll(strings.ReplaceAll(strings.ToValidUTF8(body, "\uFFFD"), "\r\n", "\n"), "\r", "\n")
	_, _ = io.WriteString(w, strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\r\n")) // into memory
	_ = w.Close()
	b.WriteString("\r\n")
	return b.Bytes()
}

// encoded is a text of one line for a header, folded between encoded words. What
// looks like such a word and is none is kept from being taken for one.
func encoded(s string) string {
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", strings.ReplaceAll(s, "=?", "= ?")), "?= =?", "?=\r\n =?")
}

// phrase is a name in front of a mailbox.
func phrase(name string) string {
	name = oneLine(name, 200)
	ascii := !strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 })
	switch {
	case name == "":
		return ""
	case ascii:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return encoded(name)
}

// bounded is a connection that says no more than so much.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the server says too much")
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
