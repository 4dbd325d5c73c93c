// Package demo shows the whole of Gatepost on the loopback network: the register
// of a small university in a real git repository, the relay daemon and the portal
// of the product, and a next hop whose inbox is a page of the portal. It needs no
// root, no configuration and no network.
//
// It owns the stage only, and the pages below /demo: what to try, the inbox, and
// a button that sends as a machine would. Whatever acts is the product's own code.
//
// What arrives is a stranger's: it is kept in a bounded number of letters of a
// bounded size, and shown as text and nothing else.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/portal"
)

// Where the demo listens, unless Options say otherwise.
const (
	RelayAddr      = "127.0.0.1:2525" // as port 25
	SubmissionAddr = "127.0.0.1:2587" // as port 587
	StatusAddr     = "127.0.0.1:9587"
	PortalAddr     = "127.0.0.1:8587"
)

// Options of Run. Out must be set.
type Options struct {
	Out     io.Writer // what the visitor reads
	Program string    // how the visitor started the demo, for the commands to try
	// Addresses to listen on. By default the constants above, or where
	// something else listens already, such as another demo, a port that is free.
	Relay, Submission, Status, Portal string
}

// scriptName is the file, in the demo's folder, that registers the second machine.
const scriptName = "register.sh"

// What a visitor can mend.
var (
	ErrNoGit    = errors.New("demo: git is not installed")
	ErrNoFolder = errors.New("demo: there is no room for the demo's folder")
)

// Run shows the demo until ctx ends. Everything it makes is in a temporary
// folder, which goes with it.
func Run(ctx context.Context, o Options) (err error) {
	o.Relay = cmp.Or(o.Relay, freeOr(ctx, RelayAddr))
	o.Submission = cmp.Or(o.Submission, freeOr(ctx, SubmissionAddr))
	o.Status = cmp.Or(o.Status, freeOr(ctx, StatusAddr))
	o.Portal = cmp.Or(o.Portal, freeOr(ctx, PortalAddr))
	if _, err := exec.LookPath("git"); err != nil {
		return ErrNoGit
	}
	dir, err := os.MkdirTemp("", "gatepost-demo-")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoFolder, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	repository, err := makeRegister(ctx, dir, today())
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // Ctrl-C before there was anything to show
	case err != nil:
		return err
	}
	hop, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	box := &inbox{dir: filepath.Join(dir, "inbox"), out: o.Out, quiet: map[string]bool{}}
	if err := os.Mkdir(box.dir, 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	st := stage{dir: dir, repository: repository, nextHop: hop.Addr().String(), door: freeOr(ctx, "127.0.0.1:0"), o: o}
	if err := remember(st.path("state"), today()); err != nil {
		return err
	}
	logs, err := st.logs()
	if err != nil {
		return err
	}
	defer logs.close()
	return st.play(ctx, hop, box, logs)
}

// play runs all parts until ctx ends or one of them fails. They end one after
// the other, so that what is under way arrives: the portal, the relay, and last
// its next hop.
func (s stage) play(ctx context.Context, ln net.Listener, box *inbox, logs *logs) error {
	relayConfig, portalConfig, err := s.configure()
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	hop := begin(ctx, end, func(ctx context.Context) error { return box.serve(ctx, ln) })
	ready := make(chan struct{})
	relay := begin(ctx, end, func(ctx context.Context) error {
		return daemon.Run(ctx, daemon.Options{ConfigFile: relayConfig, Logger: logs.relay, Ready: func() { close(ready) }})
	})
	var faces *part
	select {
	case <-ready:
		desk := &desk{box: box, relay: s.o.Relay, own: s.url(), send: Send,
			deeds: func(ctx context.Context, d *desk) deeds { return deedsOf(ctx, s.repository, d) }}
		faces = begin(ctx, end, func(ctx context.Context) error {
			return portal.Run(ctx, portal.Options{ConfigFile: portalConfig, Logger: logs.portal, Extra: desk.open,
				Ready: func() { fmt.Fprint(s.o.Out, s.o.welcome(s.dir)) }})
		})
		liven(ctx, s.o.Relay, box)
	case <-ctx.Done():
	}
	<-ctx.Done()
	return errors.Join(faces.finish(), relay.finish(), hop.finish())
}

// A part is something that runs beside the others.
type part struct {
	end  context.CancelFunc
	done chan error
}

// begin runs one part, whose end, for whatever reason, ends all of them. It is
// not told of the end of ctx: finish tells it when it is its turn.
func begin(ctx context.Context, all func(), run func(context.Context) error) *part {
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	p := &part{end: end, done: make(chan error, 1)}
	go func() {
		defer all()
		p.done <- run(own)
	}()
	return p
}

// finish ends the part and waits for it; a part that never began has ended.
func (p *part) finish() error {
	if p == nil {
		return nil
	}
	p.end()
	return <-p.done
}

// logs are those of the relay and of the portal, in files.
type logs struct {
	relay, portal *slog.Logger
	files         []*os.File
}

func (s stage) logs() (*logs, error) {
	l := &logs{}
	for name, to := range map[string]**slog.Logger{"relay.log": &l.relay, "portal.log": &l.portal} {
		f, err := os.Create(s.path(name))
		if err != nil {
			l.close()
			return nil, fmt.Errorf("demo: %w", err)
		}
		l.files = append(l.files, f)
		*to = slog.New(slog.NewTextHandler(f, nil))
	}
	return l, nil
}

func (l *logs) close() {
	for _, f := range l.files {
		f.Close()
	}
}

// welcome is what a visitor reads first: where to go, what to try in a terminal,
// and where things are. Every command works when it is pasted, and no line is
// wider than a terminal.
func (o Options) welcome(dir string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	send := shellWord(o.Program) + " demo send"
	if o.Relay != RelayAddr {
		send += " --server " + o.Relay
	}
	line("Gatepost is running on loopback; Ctrl-C ends it. Open it in a browser:")
	line("")
	line("  http://%s/demo", o.Portal)
	line("")
	line("Or in a second terminal, from here: 127.0.0.1 is registered, 127.0.0.2 is not.")
	line("  1. %s                      accepted; it arrives below", send)
	line("  2. %s --from-ip 127.0.0.2  refused; the reply says why", send)
	line("  3. sh %s", shellWord(filepath.Join(dir, scriptName)))
	line("     registers it, by a merge in git: a confirmation arrives below, and 2 works")
	line("Relay: %s (as port 25), %s (as 587, with STARTTLS)", o.Relay, o.Submission)
	line("Register, configuration, logs, mails: %s", dir)
	return b.String()
}

// shellWord writes one word as a POSIX shell reads it.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func today() time.Time { return time.Now().UTC() }
func clock() string    { return time.Now().Format("15:04:05") }
