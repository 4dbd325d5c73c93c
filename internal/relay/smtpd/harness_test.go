package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/register/registration"
)

// memStore keeps messages in memory; fail scripts what goes wrong.
type memStore struct {
	mu       sync.Mutex
	stored   []stored
	aborted  int
	failures map[string]error // "create", "write", "commit"
	hold     chan struct{}    // Commit waits for it, if not nil
	done     chan struct{}    // one value for each message that came to an end
}

type stored struct {
	env  mail.Envelope
	body string
}

func newMemStore() *memStore {
	return &memStore{failures: map[string]error{}, done: make(chan struct{}, 1000)}
}

func (m *memStore) fail(step string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures[step] = err
}

func (m *memStore) Create(_ context.Context, env mail.Envelope) (Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.failures["create"]; err != nil {
		return nil, err
	}
	return &memMessage{store: m, env: env}, nil
}

func (m *memStore) all() []stored {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]stored(nil), m.stored...)
}

type memMessage struct {
	store *memStore
	env   mail.Envelope
	b     bytes.Buffer
	ended bool
}

func (m *memMessage) Write(p []byte) (int, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := m.store.failures["write"]; err != nil {
		return 0, err
	}
	return m.b.Write(p)
}

func (m *memMessage) end() {
	if m.ended {
		panic("a message was ended twice")
	}
	m.ended = true
	m.store.done <- struct{}{}
}

func (m *memMessage) Commit(context.Context) (string, error) {
	if m.store.hold != nil {
		<-m.store.hold
	}
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	m.end()
	if err := m.store.failures["commit"]; err != nil {
		return "", err
	}
	m.store.stored = append(m.store.stored, stored{m.env, m.b.String()})
	return fmt.Sprintf("Q%d", len(m.store.stored)), nil
}

func (m *memMessage) Abort() {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	m.end()
	m.store.aborted++
}

// campus is the register of the tests, by the last octet of 127.0.0.x.
type campus struct {
	mu       sync.Mutex
	override map[netip.Addr]policy.Standing
}

const (
	strictClient = "127.0.0.2"
	fixClient    = "127.0.0.3"
)

func (c *campus) set(a string, s policy.Standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.override == nil {
		c.override = map[netip.Addr]policy.Standing{}
	}
	c.override[netip.MustParseAddr(a)] = s
}

func (c *campus) Lookup(a netip.Addr, _ time.Time) policy.Verdict {
	v := policy.Verdict{Addr: a, Standing: policy.Registered, Commit: "0123456789abcdef"}
	v.Registration = &registration.Registration{Path: "registrations/lsa-physics/mfp.cue", Expires: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	v.Host = &registration.Host{IP: a, Device: registration.Device{BareLF: "reject", TLS: "modern", Commands: "strict", AddHeaders: true}}
	none := func(s policy.Standing) { v.Standing, v.Registration, v.Host = s, nil, nil }
	switch a.As4()[3] {
	case 3:
		v.Host.Device.BareLF = "fix"
	case 4:
		none(policy.Blocked)
		v.Block = &registration.Block{Path: "registrations/blocks/2026-11-23-mfp1.cue"}
	case 5:
		none(policy.OffCampus)
	case 6, 15:
		none(policy.Unregistered)
	case 7:
		v.Standing = policy.Expired
	case 8:
		none(policy.NoRegister)
	case 9:
		v.Registration.Senders = []string{"*@physics.example.edu"}
	case 10:
		v.Host.Device.TLS = "off"
	case 11:
		v.Host.Device.TLS = "legacy"
	case 12:
		v.Host.Device.AddHeaders = false
	case 14:
		v.Host.Device.Commands = "sloppy"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.override[a]; ok {
		v.Standing = s
	}
	return v
}

// A prover is the real one, with a secret and a file of its own.
type prover struct {
	proof.Key
	*proof.Records
	file string
}

func newProver(t testing.TB) prover {
	t.Helper()
	key, err := proof.NewKey([]byte("a secret of at least 32 octets, for tests"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "proofs", "records")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	records, err := proof.OpenRecords(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return prover{key, records, file}
}

// token is one for addr that was made a day ago and is good for left.
func (p prover) token(t testing.TB, addr string, request int, left time.Duration) string {
	t.Helper()
	now := time.Now()
	token, err := p.Token(proof.Claim{Addr: netip.MustParseAddr(addr), Request: request, Expires: now.Add(left)}, now.Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// expand puts tokens in the place of $TOKEN, $OLD (expired) and $OTHER
// (another address's) in a line of a dialog.
func (p prover) expand(t testing.TB, from, line string) string {
	if !strings.Contains(line, "$") {
		return line
	}
	return strings.NewReplacer("$TOKEN", p.token(t, from, 7, 24*time.Hour), "$OLD", p.token(t, from, 7, -time.Hour), "$OTHER", p.token(t, "127.0.0.99", 7, time.Hour)).Replace(line)
}

// refusals is an Observer that keeps what it is told.
type refusals struct {
	mu    sync.Mutex
	told  []string
	taken []string
}

func (r *refusals) Accepted(addr netip.Addr, a Accepted) {
	var words []string
	a.Needed.each(func(word string) { words = append(words, word) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = append(r.taken, fmt.Sprintf("%s recipients=%d octets=%d tls=%s needed=%s", addr, a.Recipients, a.Octets, a.TLS, strings.Join(words, ",")))
}

func (r *refusals) Refused(addr netip.Addr, registered bool, stage, reason, said string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fmt.Sprintf("%s %v %s %s: %s", addr, registered, stage, reason, said))
}

func (r *refusals) newest() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken[len(r.taken)-1]
}

func (r *refusals) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

func testCertificate(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certificateOf(t, key)
}

func certificateOf(t testing.TB, key crypto.Signer) *tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"relay.example.edu"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// needs skips the test by name when a program is missing; in CI, where
// .ci/run installs them all, it fails instead.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("GATEPOST_NO_SKIP") != "" {
				t.Fatalf("%s is not installed", p)
			}
			t.Skipf("%s is not installed", p)
		}
	}
}

// A fixture is a server on loopback with everything around it in memory.
type fixture struct {
	srv    *Server
	store  *memStore
	campus *campus
	proofs prover
	told   refusals
	log    *lockedBuffer
	addr   map[port]string
	cancel context.CancelFunc
	served sync.WaitGroup
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testOptions(t testing.TB, f *fixture, limits Limits) Options {
	cert := testCertificate(t)
	return Options{
		Hostname: "relay.example.edu", Postmaster: "postmaster@example.edu", Portal: "https://relay.example.edu",
		Register: f.campus, Store: f.store, Limiter: &spent{}, Prover: f.proofs, Observer: &f.told, Limits: limits, RequireTLS: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		Logger:         slog.New(slog.NewTextHandler(f.log, nil)), Registerer: prometheus.NewRegistry(),
	}
}

func newFixture(t testing.TB, limits Limits, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{store: newMemStore(), campus: &campus{}, proofs: newProver(t), log: &lockedBuffer{}, addr: map[port]string{}}
	o := testOptions(t, f, limits)
	for _, c := range change {
		c(&o)
	}
	srv, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.srv = srv
	return f
}

// start serves on loopback until the test ends.
func start(t testing.TB, limits Limits, change ...func(*Options)) *fixture {
	t.Helper()
	f := newFixture(t, limits, change...)
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	for p, serve := range map[port]func(context.Context, net.Listener) error{relayPort: f.srv.ServeRelay, submissionPort: f.srv.ServeSubmission} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f.addr[p] = l.Addr().String()
		f.served.Go(func() {
			if err := serve(ctx, l); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		f.served.Wait()
	})
	return f
}

// A client is the test's end of a session.
type client struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func (f *fixture) dial(t testing.TB, from string, p port) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", f.addr[p])
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { _ = nc.Close() })
	return &client{t: t, nc: nc, r: bufio.NewReader(nc)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if err := c.trySend(s); err != nil {
		c.t.Fatalf("sending %.60q: %v", s, err)
	}
}

func (c *client) trySend(s string) error {
	_ = c.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := io.WriteString(c.nc, s)
	return err
}

// line reads one reply line; "" at the end of the connection.
func (c *client) line() string {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(10 * time.Minute))
	if _, ok := c.nc.(*net.TCPConn); ok {
		_ = c.nc.SetReadDeadline(time.Now().Add(8 * time.Second))
	}
	s, err := c.r.ReadString('\n')
	if err != nil && s == "" {
		if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
			c.t.Fatal("no reply: the client hangs")
		}
		return ""
	}
	if !strings.HasSuffix(s, "\r\n") || len(s) > maxReplyLine {
		c.t.Errorf("reply line %q is not CRLF-ended or too long", s)
	}
	return strings.TrimRight(s, "\r\n")
}

// reply reads a whole reply and returns its last line.
func (c *client) reply() string {
	c.t.Helper()
	for {
		s := c.line()
		if len(s) < 4 || s[3] != '-' {
			return s
		}
	}
}

func (c *client) want(prefix string) {
	c.t.Helper()
	if got := c.reply(); !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got reply %q, want %q", got, prefix)
	}
}

// do sends a line and wants a reply.
func (c *client) do(line, prefix string) {
	c.t.Helper()
	c.send(line + "\r\n")
	c.want(prefix)
}

func (c *client) wantClosed() {
	c.t.Helper()
	if got := c.line(); got != "" {
		c.t.Fatalf("got %q, want the connection closed", got)
	}
}

// begin goes as far as the 354.
func (c *client) begin() {
	c.t.Helper()
	c.want("220 ")
	c.do("EHLO client.example.edu", "250 ")
	c.transaction()
	c.do("DATA", "354 ")
}

func (c *client) transaction() {
	c.t.Helper()
	c.do("MAIL FROM:<a@example.edu>", "250 2.1.0")
	c.do("RCPT TO:<b@example.org>", "250 2.1.5")
}

func (c *client) startTLS(cfg *tls.Config) error {
	c.do("STARTTLS", "220 2.0.0")
	cfg.InsecureSkipVerify = true
	t := tls.Client(c.nc, cfg)
	_ = c.nc.SetDeadline(time.Now().Add(8 * time.Second))
	if err := t.Handshake(); err != nil {
		return err
	}
	c.nc, c.r = t, bufio.NewReader(t)
	return nil
}
