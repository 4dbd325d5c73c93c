package tlspolicy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/dane"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/spool"
	"example.edu/gatepost/internal/relay/sts"
	"example.edu/gatepost/internal/relay/tlspolicy"
)

// validating is a resolver on loopback that says of all but insecure.example
// that it has validated it, and fails for bogus names.
func validating(t *testing.T, zone string) *dane.Resolver {
	t.Helper()
	known := map[string][]dns.RR{}
	zp := dns.NewZoneParser(strings.NewReader(zone), ".", "test")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		known[rr.Header().Name] = append(known[rr.Header().Name], rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		name := strings.ToLower(q.Question[0].Name)
		rrs, exists := known[name]
		m.AuthenticatedData = q.AuthenticatedData && !strings.Contains(name, "insecure.example")
		switch {
		case strings.HasPrefix(name, "_25._tcp.bogus"):
			m.Rcode, m.AuthenticatedData = dns.RcodeServerFailure, false
		case !exists:
			m.Rcode = dns.RcodeNameError
		}
		for _, rr := range rrs {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	var done sync.WaitGroup
	done.Go(func() { _ = server.ActivateAndServe() })
	t.Cleanup(func() {
		_ = conn.Close()
		done.Wait()
	})
	r, err := dane.New(dane.Options{Server: conn.LocalAddr().(*net.UDPAddr).AddrPort()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A sink takes all mail.
type sink struct{}

func (sink) NewSession(*smtp.Conn) (smtp.Session, error) { return sink{}, nil }
func (sink) Mail(string, *smtp.MailOptions) error        { return nil }
func (sink) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (sink) Reset()                                      {}
func (sink) Logout() error                               { return nil }
func (sink) Data(r io.Reader) error                      { _, err := io.Copy(io.Discard, r); return err }

// nextHop starts a mail server with a certificate, or without TLS.
func nextHop(t *testing.T, cert *tls.Certificate) string {
	t.Helper()
	server := smtp.NewServer(sink{})
	server.Domain, server.EnableREQUIRETLS = "mx", true
	if cert != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		done.Wait()
	})
	return l.Addr().String()
}

// certificate is a self-signed one, and the digest of its key as TLSA has it.
func certificate(t *testing.T, names ...string) (*tls.Certificate, *x509.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf, hex.EncodeToString(sum[:])
}

// dialMap connects to where it says, and nowhere else.
type dialMap map[string]string

func (d dialMap) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := d[addr]
	if !ok {
		return nil, errors.New("nothing is at " + addr)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, to)
}

// attempt makes one attempt for a mailbox of a domain.
func attempt(t *testing.T, o deliver.Options, domain string, requireTLS bool) mail.Result {
	t.Helper()
	o.Hostname = "relay.example.edu"
	c, err := deliver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const body = "Subject: x\r\n\r\nx\r\n"
	e := &spool.Entry{ID: "01", Size: int64(len(body)), Envelope: mail.Envelope{
		From: mail.Address{Local: "s", Domain: "example.edu"}, RequireTLS: requireTLS,
		To: []mail.Recipient{{Address: mail.Address{Local: "r", Domain: domain}}},
	}}
	return c.Deliver(t.Context(), e, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }, []int{0})[0]
}

// From the DNS to the handshake: mail goes to whom the signed DNS vouches for,
// and to nobody else. RFC 7672.
func TestDANE(t *testing.T) {
	cert, _, digest := certificate(t, "any.name.example")
	_, _, other := certificate(t, "mx")
	resolver := validating(t, strings.ReplaceAll(strings.ReplaceAll(`
good.example.               60 IN MX 10 mx.good.example.
mx.good.example.            60 IN A 192.0.2.1
_25._tcp.mx.good.example.   60 IN TLSA 3 1 1 DIGEST
wrong.example.              60 IN MX 10 mx.wrong.example.
mx.wrong.example.           60 IN A 192.0.2.1
_25._tcp.mx.wrong.example.  60 IN TLSA 3 1 1 OTHER
clear.example.              60 IN MX 10 mx.clear.example.
mx.clear.example.           60 IN A 192.0.2.2
_25._tcp.mx.clear.example.  60 IN TLSA 3 1 1 DIGEST
unusable.example.           60 IN MX 10 mx.unusable.example.
mx.unusable.example.        60 IN A 192.0.2.1
_25._tcp.mx.unusable.example. 60 IN TLSA 1 1 1 OTHER
suppressed.example.         60 IN MX 10 bogus.suppressed.example.
bogus.suppressed.example.   60 IN A 192.0.2.1
none.example.               60 IN MX 10 mx.none.example.
mx.none.example.            60 IN A 192.0.2.2
second.example.             60 IN MX 10 mx.wrong.example.
second.example.             60 IN MX 20 mx.good.example.
insecure.example.           60 IN MX 10 mx.insecure.example.
mx.insecure.example.        60 IN A 192.0.2.2
_25._tcp.mx.insecure.example. 60 IN TLSA 3 1 1 OTHER
`, "DIGEST", digest), "OTHER", other))
	o := deliver.Options{
		Resolver: resolver,
		Dialer:   dialMap{"192.0.2.1:25": nextHop(t, cert), "192.0.2.2:25": nextHop(t, nil)},
		Guard:    tlspolicy.New(tlspolicy.Options{DNSSEC: resolver}),
	}
	for _, c := range []struct {
		domain  string
		outcome mail.Outcome
		tls     string
		status  string
		cause   string
	}{
		{domain: "good.example", outcome: mail.Delivered, tls: "TLS 1.3, dane"},
		{domain: "wrong.example", status: "4.7.5", cause: "no TLSA record matches the certificates; without it no mail goes there, as the TLSA records of mx.wrong.example demand"},
		{domain: "clear.example", status: "4.7.10", cause: "as the TLSA records of mx.clear.example demand"},
		{domain: "unusable.example", outcome: mail.Delivered, tls: "TLS 1.3"},
		{domain: "suppressed.example", status: "4.4.3", cause: "SERVFAIL"},
		{domain: "none.example", outcome: mail.Delivered},
		{domain: "second.example", outcome: mail.Delivered, tls: "TLS 1.3, dane"},
		{domain: "insecure.example", outcome: mail.Delivered},
	} {
		t.Run(c.domain, func(t *testing.T) {
			r := attempt(t, o, c.domain, false)
			if r.Outcome != c.outcome || c.outcome == mail.Delivered && r.TLS != c.tls || c.status != "" && r.Status.Enhanced.String() != c.status || !strings.Contains(r.Cause, c.cause) {
				t.Errorf("%+v", r)
			}
		})
	}
	// A literal has no name to look up.
	if r := attempt(t, o, "[192.0.2.2]", false); r.Outcome != mail.Delivered {
		t.Errorf("%+v", r)
	}
}

// enforcing is an MTA-STS policy of every domain.
type enforcing []string

func (e enforcing) Find(context.Context, string) (*sts.Policy, error) {
	return &sts.Policy{Mode: sts.Enforce, MX: e}, nil
}

// Under a policy that is enforced mail goes to a host that it names and whose
// certificate an authority vouches for. RFC 8461 §5.
func TestMTASTS(t *testing.T) {
	good, leaf, _ := certificate(t, "mx.good.example")
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	self, _, _ := certificate(t, "mx.self.example")
	resolver := validating(t, `
good.insecure.example.    60 IN MX 10 mx.good.example.
mx.good.example.          60 IN A 192.0.2.1
other.insecure.example.   60 IN MX 10 mx.evil.example.
mx.evil.example.          60 IN A 192.0.2.1
name.insecure.example.    60 IN MX 10 mx.name.example.
mx.name.example.          60 IN A 192.0.2.1
self.insecure.example.    60 IN MX 10 mx.self.example.
mx.self.example.          60 IN A 192.0.2.2
clear.insecure.example.   60 IN MX 10 mx.clear.example.
mx.clear.example.         60 IN A 192.0.2.3
second.insecure.example.  60 IN MX 10 mx.evil.example.
second.insecure.example.  60 IN MX 20 mx.clear.example.
second.insecure.example.  60 IN MX 30 mx.good.example.
`)
	o := deliver.Options{
		Resolver: resolver,
		Dialer:   dialMap{"192.0.2.1:25": nextHop(t, good), "192.0.2.2:25": nextHop(t, self), "192.0.2.3:25": nextHop(t, nil)},
		TLS:      &tls.Config{RootCAs: roots, InsecureSkipVerify: true},
		Guard:    tlspolicy.New(tlspolicy.Options{STS: enforcing{"mx.good.example", "mx.name.example", "mx.self.example", "mx.clear.example"}}),
	}
	for _, c := range []struct {
		domain  string
		strict  bool
		outcome mail.Outcome
		status  string
		cause   string
	}{
		{domain: "good.insecure.example", outcome: mail.Delivered},
		{domain: "good.insecure.example", strict: true, outcome: mail.Delivered},
		{domain: "other.insecure.example", status: "4.7.5", cause: "mx.evil.example is none of the mail servers that the MTA-STS policy of other.insecure.example names"},
		{domain: "name.insecure.example", status: "4.7.5", cause: "not mx.name.example; without it no mail goes there, as the MTA-STS policy of name.insecure.example demands"},
		{domain: "self.insecure.example", status: "4.7.5", cause: "unknown authority"},
		{domain: "clear.insecure.example", status: "4.7.10"},
		{domain: "second.insecure.example", outcome: mail.Delivered},
	} {
		t.Run(c.domain, func(t *testing.T) {
			r := attempt(t, o, c.domain, c.strict)
			if r.Outcome != c.outcome || c.outcome == mail.Delivered && r.TLS != "TLS 1.3, sts" || c.status != "" && r.Status.Enhanced.String() != c.status || !strings.Contains(r.Cause, c.cause) {
				t.Errorf("%+v", r)
			}
		})
	}
}
