package demo

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	gatemail "example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/relay/smtpd"
)

// maxLetters is how many messages the inbox keeps; the oldest goes.
const maxLetters = 200

// An inbox is the demo's next hop: it shows what arrives, and keeps it in a
// folder. It is served by the relay's own front door.
type inbox struct {
	dir string

	mu      sync.Mutex // guards what follows
	out     io.Writer
	n       int
	letters []letter        // the oldest first, at most maxLetters
	quiet   map[string]bool // subjects of mail that the terminal is not told of
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
	only := request{"its", "nexthop", "ITS Mail", "mail", "The relay, seen from its next hop.", "It has no account.", []host{{"127.0.0.1", "relay", "server", ""}}, 100_000, 365}
	for path, text := range map[string]string{"registrations/campus/campus.cue": campusCUE, only.path(): only.cue(today())} {
		files = append(files, parser.Parse(registration.Source{Path: path, Size: int64(len(text)), Data: []byte(text)}))
	}
	snapshot, problems := policy.Build(files, policy.Options{Now: today(), Commit: "demo"})
	if len(problems) > 0 {
		return nil, fmt.Errorf("demo: the next hop's register: %s", problems[0])
	}
	return snapshot, nil
}

// newest is up to most letters, the newest first, and how many there are.
func (b *inbox) newest(most int) ([]letter, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.Clone(b.letters[max(0, len(b.letters)-most):])
	slices.Reverse(list)
	return list, len(b.letters)
}

// letter is the one with that number, while it is kept.
func (b *inbox) letter(n int) (letter, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, ok := slices.BinarySearchFunc(b.letters, n, func(l letter, n int) int { return cmp.Compare(l.N, n) })
	if !ok {
		return letter{}, false
	}
	return b.letters[i], true
}

// hush keeps the terminal from being told of mail with that subject, once.
func (b *inbox) hush(subject string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quiet[subject] = true
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
	l := readLetter(a.body.Bytes(), a.body.Len(), a.recipients())
	b := a.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	l.N, l.At = b.n+1, today()
	path := b.path(l.N)
	if err := os.WriteFile(path, a.body.Bytes(), 0o600); err != nil {
		return "", err
	}
	b.n++
	if b.letters = append(b.letters, l); len(b.letters) > maxLetters {
		_ = os.Remove(b.path(b.letters[0].N)) // the folder goes with the demo
		b.letters = slices.Delete(b.letters, 0, 1)
	}
	if b.quiet[l.Subject] {
		delete(b.quiet, l.Subject)
	} else {
		fmt.Fprintf(b.out, "%s arrived: %s\n  for %s, in %s\n", clock(), strconv.Quote(l.Subject), l.To, path)
	}
	return filepath.Base(path), nil
}

func (b *inbox) path(n int) string { return filepath.Join(b.dir, fmt.Sprintf("%03d.eml", n)) }

// recipients is whom the message is for; an address was checked on its way in.
func (a *arrival) recipients() string {
	const most = 3
	var list []string
	for _, r := range a.env.To[:min(len(a.env.To), most)] {
		list = append(list, r.Address.Path())
	}
	if more := len(a.env.To) - most; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}
