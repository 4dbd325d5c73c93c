// Package demo shows the whole of Gatepost on the loopback network: a register
// in a real git repository, the relay daemon of the product, and a next hop
// that shows what arrives. It needs no root, no configuration and no network.
//
// It owns the stage only. Whatever acts on it is the product's own code.
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
	config, _, err := st.configure()
	if err != nil {
		return err
	}
	if err := remember(st.path("state"), today()); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "gatepost.log"))
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer log.Close()

	// The relay ends before its next hop, so that what is under way arrives.
	hopCtx, endHop := context.WithCancel(context.WithoutCancel(ctx))
	hopDone := make(chan error, 1)
	relayCtx, endRelay := context.WithCancel(ctx)
	defer endRelay()
	go func() {
		hopDone <- box.serve(hopCtx, hop)
		endRelay() // without a next hop there is nothing to show
	}()
	livened := make(chan struct{})
	go func() {
		defer close(livened)
		liven(relayCtx, o.Relay, box)
	}()
	err = daemon.Run(relayCtx, daemon.Options{
		ConfigFile: config,
		Logger:     slog.New(slog.NewTextHandler(log, nil)),
		Ready:      func() { fmt.Fprint(o.Out, o.welcome(dir)) },
	})
	endRelay()
	<-livened
	endHop()
	return errors.Join(err, <-hopDone)
}

// welcome is what a visitor reads first: what to try, then where things are.
// Every command works when it is pasted, and no line is wider than a terminal.
func (o Options) welcome(dir string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Gatepost is running on loopback, and ends with Ctrl-C.")
	line("127.0.0.1 is registered, 127.0.0.2 is not. Try, in a second terminal, from here:")
	line("")
	send := shellWord(o.Program) + " demo send"
	if o.Relay != RelayAddr {
		send += " --server " + o.Relay
	}
	line("  1. %s                      accepted; it arrives below", send)
	line("  2. %s --from-ip 127.0.0.2  refused; the reply says why", send)
	line("  3. sh %s", shellWord(filepath.Join(dir, scriptName)))
	line("     registers it, by a merge in git: a confirmation arrives below, and 2 works")
	line("")
	line("Relay: %s (as port 25), %s (as 587, with STARTTLS)", o.Relay, o.Submission)
	line("How it is: http://%s/status", o.Status)
	line("Register, configuration, log, mails: %s", dir)
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
