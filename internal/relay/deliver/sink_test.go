package deliver

import (
	"bufio"
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
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// A sink is a server that follows scripts, one for each connection in turn; a
// connection beyond the last script is an error. A script is lines:
//
//	S 250 ok     send the line
//	R raw\r\n    send what a Go string of this text would hold
//	A no         wait for an octet, then send the line
//	C MAIL       read a line, which must begin so
//	B            read a body up to the final dot
//	D 12 LAST    read BDAT with these words, and its octets
//	T            become a TLS server
//	W            wait until the client hangs up
//	H            close the sending half
//	Z            read nothing any more
//	X            close at once (as does the end of the script)
//
// Before any of them, "P " says: only if the script offers PIPELINING.
type sink struct {
	t    *testing.T
	l    net.Listener
	tls  *tls.Config
	done sync.WaitGroup
	over chan struct{} // closed when the test ends

	mu    sync.Mutex
	got   []string // lines that were read, bodies as one
	heard func()   // if set, called after each of them
	conns int
}

func newSink(t *testing.T, scripts ...string) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{t: t, l: l, over: make(chan struct{})}
	s.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			n := s.conns
			s.conns++
			s.mu.Unlock()
			if n >= len(scripts) {
				t.Errorf("connection %d is one too many", n+1)
				_ = conn.Close()
				continue
			}
			s.done.Go(func() { s.serve(conn, scripts[n]) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		close(s.over)
		s.done.Wait()
	})
	return s
}

func (s *sink) addr() string { return s.l.Addr().String() }

func (s *sink) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

// onLine has f called after each line that is read.
func (s *sink) onLine(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = f
}

func (s *sink) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, line)
	if s.heard != nil {
		s.heard()
	}
}

func (s *sink) serve(raw net.Conn, script string) {
	conn := raw
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(conn)
	pipelining := strings.Contains(script, "PIPELINING")
	for step := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		step = strings.TrimLeft(step, "\t ")
		if rest, ok := strings.CutPrefix(step, "P "); ok {
			if !pipelining {
				continue
			}
			step = rest
		}
		verb, arg, _ := strings.Cut(step, " ")
		switch verb {
		case "S":
			_, _ = io.WriteString(conn, arg+"\r\n")
		case "A":
			_, _ = r.ReadByte()
			_, _ = io.WriteString(conn, arg+"\r\n")
		case "R":
			_, _ = io.WriteString(conn, strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00").Replace(arg))
		case "C":
			line, err := r.ReadString('\n')
			if err != nil {
				s.t.Errorf("script wants %q: %v", arg, err)
				return
			}
			if !strings.HasPrefix(line, arg) || !strings.HasSuffix(line, "\r\n") {
				s.t.Errorf("script wants %q, client says %q", arg, line)
				return
			}
			s.note(strings.TrimSuffix(line, "\r\n"))
		case "B":
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(line)
			}
			s.note(b.String())
		case "D":
			line, err := r.ReadString('\n')
			if want := "BDAT " + arg + "\r\n"; err != nil || line != want {
				s.t.Errorf("script wants %q, client says %q (%v)", want, line, err)
				return
			}
			size, _, _ := strings.Cut(arg, " ")
			n, _ := strconv.Atoi(size)
			octets := make([]byte, n)
			if _, err := io.ReadFull(r, octets); err != nil {
				return
			}
			s.note(string(octets))
		case "T":
			t := tls.Server(raw, s.tls)
			if t.Handshake() != nil {
				return
			}
			conn, r = t, bufio.NewReader(t)
		case "W":
			_, _ = io.Copy(io.Discard, conn)
			return
		case "H":
			_ = raw.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			return
		case "Z":
			<-s.over
			return
		case "X":
			return
		default:
			s.t.Errorf("script: %q", step)
		}
	}
	if strings.HasSuffix(strings.TrimSpace(script), "C QUIT") {
		_, _ = io.WriteString(conn, "221 bye\r\n")
	}
}

// certificate makes a self-signed certificate for name, and a pool that trusts it.
func certificate(t *testing.T, name string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

// fast is what tests wait for at most where something is meant to stall.
func fast() Timeouts {
	d := 300 * time.Millisecond
	return Timeouts{Lookup: d, Connect: d, Greeting: d, Command: d, Data: d, Block: d, End: d, Quit: d, Drain: d}
}

// patient is for tests where nothing is.
func patient() Timeouts {
	d := 5 * time.Second
	return Timeouts{Lookup: d, Connect: d, Greeting: d, Command: d, Data: d, Block: d, End: d, Quit: d, Drain: d}
}

func newCourier(t *testing.T, o Options) *Courier {
	t.Helper()
	if o.Hostname == "" {
		o.Hostname = "relay.example.edu"
	}
	if o.Timeouts == (Timeouts{}) {
		o.Timeouts = patient()
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s, true)
	if err != nil {
		panic(err)
	}
	return a
}

// entry is a message to n recipients r0@example.org, r1@… .
func entry(n int) *spool.Entry {
	e := &spool.Entry{ID: "01TEST", Size: int64(len(content)), Envelope: mail.Envelope{From: address("s@example.edu")}}
	for i := range n {
		e.Envelope.To = append(e.Envelope.To, mail.Recipient{Address: address("r" + string(rune('0'+i%10)) + "@example.org")})
	}
	return e
}

const content = "Subject: test\r\n\r\nhello\r\n.\r\n..dots\r\nbye\r\n"

func bodyOf(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

// brokenBody fails after some octets.
func brokenBody(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(s), failingReader{})), nil
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("disk gone") }

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func outcomes(rs []mail.Result) string {
	var words []string
	for _, r := range rs {
		words = append(words, r.Outcome.String())
	}
	return strings.Join(words, " ")
}

// A dialMap connects to where a map says; anything else is refused.
type dialMap map[string]string

func (d dialMap) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := d[addr]
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("refused by the test: " + addr)}
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, to)
}

// A zone is a Resolver of fixed answers.
type zone struct {
	mx map[string][]*net.MX
	ip map[string][]string
}

func (z zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	if mx, ok := z.mx[name]; ok {
		return mx, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z zone) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range z.ip[name] {
		out = append(out, netip.MustParseAddr(s))
	}
	if len(out) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return out, nil
}
