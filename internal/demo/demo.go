// Package demo shows the whole of Gatepost on the loopback network: a register
// in a real git repository, the relay daemon of the product, and a next hop
// that shows what arrives. It needs no root, no configuration and no network.
//
// It owns the stage only. Whatever acts on it is the product's own code.
package demo

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
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
)

// Options of Run. Out must be set.
type Options struct {
	Out     io.Writer // what the visitor reads
	Program string    // how the visitor started the demo, for the commands to try
	// Addresses to listen on. By default the constants above, or where
	// something else listens already, such as another demo, a port that is free.
	Relay, Submission, Status string
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
	box := &inbox{dir: filepath.Join(dir, "inbox"), out: o.Out}
	if err := os.Mkdir(box.dir, 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	config, err := o.configure(dir, repository, hop.Addr().String())
	if err != nil {
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
	err = daemon.Run(relayCtx, daemon.Options{
		ConfigFile: config,
		Logger:     slog.New(slog.NewTextHandler(log, nil)),
		Ready:      func() { fmt.Fprint(o.Out, o.welcome(dir)) },
	})
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

// freeOr is addr, or another port of its host if addr is taken.
func freeOr(ctx context.Context, addr string) string {
	var l net.ListenConfig
	ln, err := l.Listen(ctx, "tcp", addr)
	if err != nil {
		if ln, err = l.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return addr // the relay will say what is wrong
		}
	}
	defer ln.Close()
	return ln.Addr().String()
}

// configure writes the relay's configuration.
func (o Options) configure(dir, repository, nextHop string) (path string, err error) {
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := selfSigned(cert, key); err != nil {
		return "", fmt.Errorf("demo: making a certificate: %w", err)
	}
	path = filepath.Join(dir, "relay.cue")
	text := fmt.Sprintf(`// The configuration of the demo's relay. A real one differs in names and ports.
hostname:   "relay.demo.example"
postmaster: "postmaster@demo.example"
listen: {
	relay:      [%q]
	submission: [%q]
	http:       %q
	socket:     %q
}
tls: {certificate: %q, key: %q}
register: {repository: %q, poll: "1s"}
state: %q
deliver: smarthosts: [%q]
confirm: true
`, o.Relay, o.Submission, o.Status, filepath.Join(dir, "relay.sock"), cert, key, repository, filepath.Join(dir, "state"), nextHop)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	return path, nil
}

// selfSigned makes a certificate that nobody trusts, for a month.
func selfSigned(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "relay.demo.example"},
		DNSNames:     []string{"relay.demo.example", "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 1, 0),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
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

func today() time.Time    { return time.Now().UTC() }
func farAhead() time.Time { return today().AddDate(1, 0, 0) }
func clock() string       { return time.Now().Format("15:04:05") }
