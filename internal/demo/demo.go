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
	// Addresses to listen on; the constants above by default.
	Relay, Submission, Status string
}

// ErrNoGit means that the git command line is missing.
var ErrNoGit = errors.New("demo: git is not installed")

// Run shows the demo until ctx ends. Everything it makes is in a temporary
// folder, which goes with it.
func Run(ctx context.Context, o Options) (err error) {
	o.Relay = cmp.Or(o.Relay, RelayAddr)
	o.Submission = cmp.Or(o.Submission, SubmissionAddr)
	o.Status = cmp.Or(o.Status, StatusAddr)
	if _, err := exec.LookPath("git"); err != nil {
		return ErrNoGit
	}
	dir, err := os.MkdirTemp("", "gatepost-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	repository, err := makeRegister(ctx, dir, today())
	if err != nil {
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
	return errors.Join(inWords(err), <-hopDone)
}

// inWords adds what to do about the one thing that goes wrong in practice.
func inWords(err error) error {
	if err != nil && strings.Contains(err.Error(), "address already in use") {
		return fmt.Errorf("%w; is another demo running?", err)
	}
	return err
}

// welcome is what a visitor reads first: where everything is, and what to try.
func (o Options) welcome(dir string) string {
	register := filepath.Join(dir, "register")
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Gatepost is running, and ends with Ctrl-C. Everything is in %s; the relay's log is gatepost.log in it.", dir)
	line("  register  %s: a git repository in which 127.0.0.1 is registered and 127.0.0.2 is not", register)
	line("  relay     %s without encryption, as port 25; %s with STARTTLS, as port 587", o.Relay, o.Submission)
	line("  status    http://%s/status; next hop: mails that leave the relay are shown below and kept in %s", o.Status, filepath.Join(dir, "inbox"))
	line("Try these in another terminal, in this folder:")
	line("  1. %s demo send                      a mail from 127.0.0.1: accepted, and it arrives below", o.Program)
	line("  2. %s demo send --from-ip 127.0.0.2  refused, and the reply says what to do", o.Program)
	line("  3. (cd %s && git switch -qc scanner && cp ../scanner.cue registrations/%s/ && git add . && git commit -qm 'Register the scanner' &&", register, department)
	line("      git switch -q main && git merge --no-ff -m 'Merge pull request #1 from %s/scanner' scanner)", department)
	line("     127.0.0.2 is registered by a commit on a branch, and merged: its confirmation arrives within seconds. Now try 2 again.")
	return b.String()
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

func today() time.Time    { return time.Now().UTC() }
func farAhead() time.Time { return today().AddDate(1, 0, 0) }
func clock() string       { return time.Now().Format("15:04:05") }
