package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	gatemail "example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/relay/smtpd"
)

// An inbox is the demo's next hop: it shows what arrives, and keeps it in a
// folder. It is served by the relay's own front door.
type inbox struct {
	dir string

	mu  sync.Mutex // guards what follows
	out io.Writer
	n   int
}

var _ smtpd.Store = (*inbox)(nil)

// serve runs the next hop on ln until ctx ends.
func (b *inbox) serve(ctx context.Context, ln net.Listener) error {
	loopback, err := everyLoopback()
	if err != nil {
		return err
	}
	server, err := smtpd.New(smtpd.Options{
		Hostname:   "nexthop.demo.example",
		Postmaster: "postmaster@demo.example",
		Register:   smtpd.RegisterFunc(loopback.Lookup),
		Store:      b,
	})
	if err != nil {
		return err
	}
	return server.ServeRelay(ctx, ln)
}

// everyLoopback is a register of the one address that the relay delivers from.
func everyLoopback() (*policy.Snapshot, error) {
	parser, err := registration.NewParser(nil)
	if err != nil {
		return nil, err
	}
	var files []*registration.File
	for path, text := range map[string]string{
		"registrations/campus/campus.cue":              campusCUE,
		"registrations/" + department + "/nexthop.cue": registrationCUE("127.0.0.1", "relay.demo.example", "server", "The relay, seen from its next hop.", farAhead()),
	} {
		files = append(files, parser.Parse(registration.Source{Path: path, Size: int64(len(text)), Data: []byte(text)}))
	}
	snapshot, problems := policy.Build(files, policy.Options{Now: today(), Commit: "demo"})
	if len(problems) > 0 {
		return nil, fmt.Errorf("demo: the next hop's register: %s", problems[0])
	}
	return snapshot, nil
}

// Create begins a message.
func (b *inbox) Create(_ context.Context, env gatemail.Envelope) (smtpd.Message, error) {
	return &arrival{inbox: b, env: env}, nil
}

// An arrival is one message on its way into the inbox.
type arrival struct {
	inbox *inbox
	env   gatemail.Envelope
	body  bytes.Buffer // bounded by smtpd's MaxMessage
}

func (a *arrival) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *arrival) Abort()                      {}

// Commit keeps the message as a file and shows it.
func (a *arrival) Commit(context.Context) (string, error) {
	b := a.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n++
	name := fmt.Sprintf("%03d.eml", b.n)
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, a.body.Bytes(), 0o600); err != nil {
		return "", err
	}
	fmt.Fprintf(b.out, "%s arrived: %s\n  for %s, in %s\n", clock(), a.subject(), a.recipient(), path)
	return name, nil
}

// subject is the message's own, quoted so that a terminal obeys nothing in it.
func (a *arrival) subject() string {
	m, err := mail.ReadMessage(bytes.NewReader(a.body.Bytes()))
	if err != nil {
		return "(no header)"
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject == "" {
		return "(no subject)"
	}
	return strconv.Quote(subject)
}

// recipient is whom the message is for; an address was checked on its way in.
func (a *arrival) recipient() string {
	if len(a.env.To) == 0 {
		return "nobody"
	}
	return a.env.To[0].Address.Path()
}
