package sts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/durable"
)

// A world is a domain, example.org, with its policy and its DNS, all of which
// can be changed, and a clock.
type world struct {
	t     *testing.T
	file  string
	roots *x509.CertPool
	at    string // the web server

	mu      sync.Mutex
	now     time.Time
	txt     []string
	txtErr  error
	addrs   []string
	serve   http.HandlerFunc
	lookups int
	fetches int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, file: filepath.Join(t.TempDir(), "mta-sts"), now: time.Now(), txt: []string{"v=STSv1; id=1"}, addrs: []string{"192.0.2.1"}, roots: x509.NewCertPool()}
	w.publish("enforce", "mx.example.org", "604800")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mta-sts.example.org"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w.roots.AddCert(leaf)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.fetches++
		serve := w.serve
		w.mu.Unlock()
		if r.Host != "mta-sts.example.org" || r.URL.Path != "/.well-known/mta-sts.txt" || r.Method != http.MethodGet {
			t.Errorf("asked for %s %s%s", r.Method, r.Host, r.URL.Path)
		}
		serve(rw, r)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // some tests refuse its certificate
	server.StartTLS()
	t.Cleanup(server.Close)
	w.at = server.Listener.Addr().String()
	return w
}

func (w *world) publish(mode, mx, age string) {
	w.answer("text/plain", "version: STSv1\nmode: "+mode+"\nmx: "+mx+"\nmax_age: "+age+"\n")
}

func (w *world) answer(kind, text string) {
	w.set(func() {
		w.serve = func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", kind)
			_, _ = rw.Write([]byte(text))
		}
	})
}

// status makes the server answer without a policy.
func (w *world) status(code int) {
	w.set(func() {
		w.serve = func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Location", "https://mta-sts.example.org/.well-known/mta-sts.txt")
			rw.Header().Set("Content-Type", "text/plain")
			rw.WriteHeader(code)
		}
	})
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) later(d time.Duration) { w.set(func() { w.now = w.now.Add(d) }) }

func (w *world) LookupTXT(_ context.Context, name string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups++
	if name != "_mta-sts.example.org." {
		w.t.Errorf("looked up %s", name)
	}
	if w.txtErr == nil && w.txt == nil {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	return w.txt, w.txtErr
}

func (w *world) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name != "mta-sts.example.org." {
		w.t.Errorf("looked up %s", name)
	}
	var out []netip.Addr
	for _, s := range w.addrs {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

func (w *world) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr != "192.0.2.1:443" {
		return nil, errors.New("nothing is at " + addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, w.at)
}

func (w *world) open() *Book {
	w.t.Helper()
	b, err := Open(Options{File: w.file, Resolver: w, Dialer: w, Roots: w.roots, Now: func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// found is the policy of example.org in a word.
func found(t *testing.T, b *Book) string {
	t.Helper()
	p, err := b.Find(t.Context(), "example.org")
	switch {
	case err != nil:
		return "unknown: " + err.Error()
	case p == nil:
		return "none"
	}
	return string(p.Mode) + " " + strings.Join(p.MX, " ")
}

// expect fails unless the book says so, after so many look-ups and fetches.
func (w *world) expect(b *Book, want string, lookups, fetches int) {
	w.t.Helper()
	got := found(w.t, b)
	w.mu.Lock()
	defer w.mu.Unlock()
	if got != want && (!strings.HasPrefix(want, "unknown") || !strings.HasPrefix(got, "unknown") || !strings.Contains(got, strings.TrimPrefix(want, "unknown: "))) || w.lookups != lookups || w.fetches != fetches {
		w.t.Errorf("%q after %d look-ups and %d fetches, want %q, %d, %d", got, w.lookups, w.fetches, want, lookups, fetches)
	}
}

// What is fetched, or not.
func TestFetch(t *testing.T) {
	const good = "version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 604800\n"
	for _, c := range []struct {
		name string
		set  func(*world)
		want string
	}{
		{"a policy", func(*world) {}, "enforce mx.example.org"},
		{"one that is tried out", func(w *world) { w.publish("testing", "mx.example.org", "1") }, "testing mx.example.org"},
		{"one that is given up", func(w *world) { w.publish("none", "mx.example.org", "1") }, "none"},
		{"no record", func(w *world) { w.txt = nil }, "none"},
		{"a record of something else", func(w *world) { w.txt = []string{"v=spf1 -all"} }, "none"},
		{"no DNS", func(w *world) { w.txtErr = &net.DNSError{Err: "server misbehaving", IsTemporary: true} }, "unknown: server misbehaving"},
		{"not found", func(w *world) { w.status(404) }, "unknown: the answer is 404"},
		{"no redirects", func(w *world) { w.status(301) }, "unknown: the answer is 301"},
		{"no other 2xx", func(w *world) { w.status(204) }, "unknown: the answer is 204"},
		{"a web page", func(w *world) { w.answer("text/html", good) }, "unknown: not text/plain"},
		{"not a policy", func(w *world) { w.answer("text/plain", "hello") }, "unknown: a line without a colon"},
		{"too long", func(w *world) { w.answer("text/plain", good+strings.Repeat("x: y\n", maxPolicy/5)) }, "unknown: longer than 65536 octets"},
		{"another certificate", func(w *world) { w.roots = x509.NewCertPool() }, "unknown: unknown authority"},
		{"no address", func(w *world) { w.addrs = nil }, "unknown: no address"},
		{"this machine", func(w *world) { w.addrs = []string{"127.0.0.1"} }, "unknown: 127.0.0.1 is no public address"},
		{"this machine, mapped", func(w *world) { w.addrs = []string{"::ffff:127.0.0.1"} }, "unknown: 127.0.0.1 is no public address"},
		{"the cloud's metadata", func(w *world) { w.addrs = []string{"169.254.169.254"} }, "unknown: no public address"},
		{"a public one among others", func(w *world) { w.addrs = []string{"10.0.0.1", "192.0.2.9", "192.0.2.1"} }, "enforce mx.example.org"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.set(w)
			got := found(t, w.open())
			if _, err := w.open().Find(t.Context(), "example.org"); errors.Is(err, ErrFetch) != (strings.HasPrefix(c.want, "unknown") && c.name != "no DNS") || errors.Is(err, ErrInvalid) != (c.name == "not a policy") {
				t.Errorf("%v is of another kind", err)
			}
			if got != c.want && (!strings.HasPrefix(c.want, "unknown: ") || !strings.HasPrefix(got, "unknown: ") || !strings.Contains(got, c.want[9:])) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A policy that was seen once stays to its end, whatever is suppressed.
func TestAPolicyIsKept(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	w.expect(b, "enforce mx.example.org", 1, 1)
	w.expect(b, "enforce mx.example.org", 1, 1)
	w.later(askAfter)
	w.expect(b, "enforce mx.example.org", 2, 1) // the same id
	w.later(askAfter)
	w.set(func() { w.txt = nil })
	w.expect(b, "enforce mx.example.org", 3, 1) // no record any more
	w.expect(b, "enforce mx.example.org", 3, 1)
	w.later(askAfter)
	w.set(func() { w.txtErr = errors.New("timeout") })
	w.expect(b, "enforce mx.example.org", 4, 1)
	w.expect(b, "enforce mx.example.org", 4, 1)
	w.later(unknownFor)
	w.set(func() { w.txt, w.txtErr = []string{"v=STSv1; id=2"}, nil })
	w.status(500)
	w.expect(b, "enforce mx.example.org", 5, 2) // there is a new one, and it cannot be had
	w.expect(b, "enforce mx.example.org", 5, 2)
	w.later(failedFor)
	w.publish("enforce", "other.example.org", "604800")
	w.expect(b, "enforce other.example.org", 6, 3)
	w.later(askAfter)
	w.set(func() { w.txt = nil })
	w.expect(b, "enforce other.example.org", 7, 3)
	w.later(604800 * time.Second)
	w.expect(b, "none", 8, 3) // its time is over
	w.expect(b, "none", 8, 3)
	w.later(absentFor)
	w.set(func() { w.txt = []string{"v=STSv1; id=3"} })
	w.expect(b, "enforce other.example.org", 9, 4)
}

// A domain gives its policy up by one that says so.
func TestAPolicyIsGivenUp(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	w.expect(b, "enforce mx.example.org", 1, 1)
	w.publish("none", "mx.example.org", "86400")
	w.set(func() { w.txt = []string{"v=STSv1; id=2"} })
	w.later(askAfter)
	w.expect(b, "none", 2, 2)
	w.later(askAfter)
	w.expect(b, "none", 3, 2)
}

// What cannot be had now is not asked for by each message.
func TestFailuresAreRemembered(t *testing.T) {
	w := newWorld(t)
	w.status(500)
	b := w.open()
	w.expect(b, "unknown: 500", 1, 1)
	w.expect(b, "unknown: 500", 1, 1)
	for n, wait := range []time.Duration{failedFor, 2 * failedFor, 4 * failedFor, 8 * failedFor, failedMost, failedMost} {
		w.later(wait - time.Second)
		w.expect(b, "unknown: 500", n+1, n+1)
		w.later(time.Second)
		w.expect(b, "unknown: 500", n+2, n+2)
	}
	w.later(failedMost)
	w.publish("enforce", "mx.example.org", "604800")
	w.expect(b, "enforce mx.example.org", 8, 8)
}

func TestPoliciesAreKeptOverRestarts(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	w.expect(b, "enforce mx.example.org", 1, 1)
	if err := b.save(); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.txtErr = errors.New("timeout") })
	w.expect(w.open(), "enforce mx.example.org", 2, 1)
	w.later(604800 * time.Second)
	w.expect(w.open(), "unknown: timeout", 3, 1)
	// A damaged file costs the policies, and not the start.
	for _, text := range []string{"{}", "", `{"version":1,"what":"gatepost mta-sts"}` + "\n{\"domain\":\"x\"}\n", `{"version":2,"what":"gatepost mta-sts"}`} {
		if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.open()
		if _, err := os.Stat(durable.Aside(w.file)); err != nil {
			t.Errorf("%q is not put aside: %v", text, err)
		}
		_ = os.Remove(durable.Aside(w.file))
	}
}

// Run saves, and at its end too.
func TestRunSaves(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.expect(b, "enforce mx.example.org", 1, 1)
	cancel()
	done.Wait()
	w.set(func() { w.txtErr = errors.New("timeout") })
	w.expect(w.open(), "enforce mx.example.org", 2, 1)
}

// A policy in use is fetched again before anybody can wait for its end.
func TestRefresh(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	w.expect(b, "enforce mx.example.org", 1, 1)
	b.refresh(t.Context())
	w.expect(b, "enforce mx.example.org", 1, 1) // it is new
	w.later(refreshAfter + time.Second)
	b.refresh(t.Context())
	w.expect(b, "enforce mx.example.org", 2, 2)
	w.later(604800*time.Second - 2*time.Second) // its first end has passed
	w.set(func() { w.txtErr = errors.New("timeout") })
	w.expect(b, "enforce mx.example.org", 3, 2)
	w.later(2 * time.Second)
	b.refresh(t.Context())
	if len(b.known) != 0 {
		t.Error("what has ended is still there")
	}
}

// Who wants the same domain at once waits for one look-up.
func TestOneLookupADomain(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got := found(t, b); got != "enforce mx.example.org" {
				t.Error(got)
			}
		})
	}
	all.Wait()
	w.expect(b, "enforce mx.example.org", 1, 1)
	// One that is given up leaves the next one to ask.
	w.later(2 * 604800 * time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Find(ctx, "example.org"); err == nil {
		t.Error("a cancelled look-up knows")
	}
	w.set(func() { w.lookups, w.fetches = 0, 0 })
	w.expect(b, "enforce mx.example.org", 1, 1)
}

// The policies that were used last stay.
func TestTheBookIsBounded(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	at := w.now
	b.mu.Lock()
	for i := range maxPolicies + 10 {
		at = at.Add(time.Second)
		b.keep(string(rune('a'+i%26))+big.NewInt(int64(i)).String(), &entry{policy: &Policy{Mode: Enforce, MX: []string{"x"}}, used: at})
	}
	for i := range maxAbsent + 10 {
		b.note("none"+big.NewInt(int64(i)).String(), asked{none: true}, w.now)
	}
	n, m, first := len(b.known), len(b.absent), b.known["a0"]
	b.mu.Unlock()
	if n != maxPolicies || m > maxAbsent || first != nil {
		t.Errorf("%d policies, %d without, %v", n, m, first)
	}
}

// Who waits for another's look-up and has no more time gets what is kept.
func TestWhoWaitsInVainHasWhatIsKept(t *testing.T) {
	w := newWorld(t)
	b := w.open()
	w.expect(b, "enforce mx.example.org", 1, 1)
	w.later(askAfter)
	b.mu.Lock()
	b.flying["example.org"] = make(chan struct{})
	b.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := b.Find(ctx, "example.org"); p == nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
}
