package keeper

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"example.edu/gatepost/internal/mail"
)

// A server is a relay that takes mail, and answers as a test wants.
type server struct {
	mu     sync.Mutex
	mails  []string // "from > to\n" and the message
	secure []bool
	rcpt   error
	data   error
}

func (s *server) NewSession(c *smtp.Conn) (smtp.Session, error) { return &session{s: s, c: c}, nil }

type session struct {
	s        *server
	c        *smtp.Conn
	from, to string
}

func (x *session) Mail(from string, _ *smtp.MailOptions) error { x.from = from; return nil }
func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error   { x.to = to; return x.s.rcpt }
func (x *session) Reset()                                      {}
func (x *session) Logout() error                               { return nil }
func (x *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	_, secure := x.c.TLSConnectionState()
	x.s.mails, x.s.secure = append(x.s.mails, x.from+" > "+x.to+"\n"+string(text)), append(x.s.secure, secure)
	return x.s.data
}

// serve starts one; certificate says whether it offers STARTTLS, and broken whether
// that fails.
func serve(t *testing.T, certificate, broken bool) (*server, string) {
	t.Helper()
	s := &server{}
	srv := smtp.NewServer(s)
	if certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
		if broken {
			srv.TLSConfig.Certificates, srv.TLSConfig.GetCertificate = nil, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("broken") }
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return s, ln.Addr().String()
}

func mailer(t *testing.T, address, how string) *SMTP {
	t.Helper()
	from, err := mail.ParseAddress("mail-relay@umich.edu", false)
	if err != nil {
		t.Fatal(err)
	}
	return &SMTP{Server: address, From: from, Name: `Mail "relay"`, TLS: how, Now: func() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }}
}

// TestAMailArrivesAsItWasWritten: whatever is in it, it is one mail to one mailbox.
func TestAMailArrivesAsItWasWritten(t *testing.T) {
	t.Parallel()
	s, address := serve(t, false, false)
	m := mailer(t, address, TLSOpportunistic)
	subject := "Frage zu Gerät\r\nBcc: eve@example.edu\r\n\r\n.\r\n" + strings.Repeat("ü", 100)
	body := "Größe\n.\n..two\r\nFrom here\n" + strings.Repeat("x", 2000) + "\nQUIT\n\x00end"
	if err := m.Send(t.Context(), "ask 1 x", "it@umich.edu", subject, body); err != nil {
		t.Fatal(err)
	}
	if len(s.mails) != 1 || !strings.HasPrefix(s.mails[0], "mail-relay@umich.edu > it@umich.edu\n") {
		t.Fatalf("%q", s.mails)
	}
	_, raw, _ := strings.Cut(s.mails[0], "\n")
	for line := range strings.SplitSeq(raw, "\r\n") {
		if len(line) > 90 || strings.ContainsAny(line, "\r\n") || strings.ContainsFunc(line, func(r rune) bool { return r >= 0x80 }) {
			t.Errorf("a line of %d octets: %.100q", len(line), line)
		}
	}
	got, err := netmail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Header) != 9 || got.Header.Get("Bcc") != "" || got.Header.Get("Auto-Submitted") != "auto-generated" || got.Header.Get("Date") != "Wed, 25 Nov 2026 12:00:00 +0000" {
		t.Errorf("header: %v", got.Header)
	}
	if from, err := got.Header.AddressList("From"); err != nil || from[0].Name != `Mail "relay"` || from[0].Address != "mail-relay@umich.edu" {
		t.Errorf("from: %v, %v", from, err)
	}
	if id := got.Header.Get("Message-ID"); !strings.HasPrefix(id, "<portal.") || !strings.HasSuffix(id, "@umich.edu>") {
		t.Errorf("id: %s", id)
	}
	words, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	if want := "Frage zu Gerät  Bcc: eve@example.edu    .  " + strings.Repeat("ü", 100); err != nil || words != want {
		t.Errorf("subject: %q, %v", words, err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(got.Body))
	if want := strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\n", "\r\n") + "\r\n"; err != nil || string(text) != want {
		t.Errorf("body: %.300q, %v", text, err)
	}
	if err := m.Send(t.Context(), "ask 1 x", "it@umich.edu", "s", "b"); err != nil {
		t.Fatal(err)
	}
	if a, b := field(s.mails[0], "Message-ID"), field(s.mails[1], "Message-ID"); a != b {
		t.Errorf("another id: %s, %s", a, b)
	}
}

func field(text, name string) string {
	_, rest, _ := strings.Cut(text, "\n"+name+": ")
	line, _, _ := strings.Cut(rest, "\r\n")
	return line
}

// TestWhatASendMeans: never again, or later.
func TestWhatASendMeans(t *testing.T) {
	t.Parallel()
	s, address := serve(t, false, false)
	closed := mailer(t, "127.0.0.1:1", TLSOff)
	for name, tt := range map[string]struct {
		rcpt, data error
		mailer     *SMTP
		to         string
		never      bool
	}{
		"no mailbox":         {to: "it", never: true},
		"two mailboxes":      {to: "a@umich.edu, b@umich.edu", never: true},
		"an injection":       {to: "a@umich.edu>\r\nDATA", never: true},
		"refused":            {rcpt: &smtp.SMTPError{Code: 550, Message: "no such user"}, never: true},
		"later":              {rcpt: &smtp.SMTPError{Code: 451, Message: "later"}},
		"refused at the dot": {data: &smtp.SMTPError{Code: 554, Message: "no"}, never: true},
		"later at the dot":   {data: &smtp.SMTPError{Code: 452, Message: "full"}},
		"not reachable":      {mailer: closed},
		"TLS not offered":    {mailer: mailer(t, address, TLSVerify)},
	} {
		s.rcpt, s.data = tt.rcpt, tt.data
		m := tt.mailer
		if m == nil {
			m = mailer(t, address, TLSOff)
		}
		if tt.to == "" {
			tt.to = "it@umich.edu"
		}
		err := m.Send(t.Context(), name, tt.to, "s", "b")
		if err == nil || errors.Is(err, ErrNever) != tt.never || strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A server that does not answer costs no more than the time that was given.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := mailer(t, ln.Addr().String(), TLSOff).Send(ctx, "k", "it@umich.edu", "s", "b"); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// TestTLSAsItIsAsked: taken where it is offered, done without where it fails and may.
func TestTLSAsItIsAsked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		how                 string
		certificate, broken bool
		sent, secure        bool
	}{
		"off":                   {how: TLSOff, certificate: true, sent: true},
		"offered":               {how: TLSOpportunistic, certificate: true, sent: true, secure: true},
		"not offered":           {how: TLSOpportunistic, sent: true},
		"broken":                {how: TLSOpportunistic, certificate: true, broken: true, sent: true},
		"by nobody we trust":    {how: TLSVerify, certificate: true},
		"demanded, not offered": {how: TLSVerify},
		"demanded, and broken":  {how: TLSVerify, certificate: true, broken: true},
	} {
		s, address := serve(t, tt.certificate, tt.broken)
		err := mailer(t, address, tt.how).Send(t.Context(), name, "it@umich.edu", "s", "b")
		if (err == nil) != tt.sent || len(s.mails) > 0 && s.secure[0] != tt.secure || (len(s.mails) > 0) != tt.sent || errors.Is(err, ErrNever) {
			t.Errorf("%s: %v, %d mails, %v", name, err, len(s.mails), s.secure)
		}
	}
}

// TestTheOutbox: a mail that fails is tried again, later each time, and given up.
func TestTheOutbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.k.owe(t.Context(), "one", []string{"a@umich.edu", "b@umich.edu"}, "s", "b")
	w.post.fails = errors.New("connection refused\x1b[31m")
	w.k.handOver(t.Context())
	if w.post.tries != 1 || w.k.Trouble()["mail"] == "" {
		t.Errorf("a server that is gone is asked %d times; %v", w.post.tries, w.k.Trouble())
	}
	w.k.handOver(t.Context())
	w.k.handOver(t.Context()) // both wait now
	if w.post.tries != 2 {
		t.Errorf("%d tries", w.post.tries)
	}
	w.now = w.now.Add(61 * time.Second)
	w.post.fails = nil
	w.restart()
	w.k.handOver(t.Context())
	if len(w.post.sent) != 2 {
		t.Errorf("%q", w.post.sent)
	}
	w.k.owe(t.Context(), "two", []string{"a@umich.edu"}, "s", "b")
	w.post.fails = ErrNever
	w.k.handOver(t.Context())
	w.k.owe(t.Context(), "three", []string{"a@umich.edu"}, "s", "b")
	w.now = w.now.Add(6 * 24 * time.Hour)
	w.post.fails = errors.New("later")
	w.k.handOver(t.Context())
	if n, _ := w.book.Waiting(); n != 0 || strings.Count(w.log.String(), "keeper.mail_lost") != 2 {
		t.Errorf("%d wait:\n%s", n, w.log.String())
	}
	if bytes.Contains(w.log.Bytes(), []byte("\x1b")) {
		t.Error("a control character in the log")
	}
}
