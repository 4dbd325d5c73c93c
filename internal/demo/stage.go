package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A stage is where everything is, all of it below one folder.
type stage struct {
	dir        string
	repository string // of the register
	nextHop    string // host:port, and so are the next two
	door       string // where the relay tells the portal how it stands, over HTTPS
	o          Options
}

func (s stage) path(name string) string { return filepath.Join(s.dir, name) }

// url is the portal's.
func (s stage) url() string { return "http://" + s.o.Portal }

// secrets are files of one secret each, which the relay and the portal share.
var secrets = []string{"proof.secret", "read.token", "operator.token"}

// configure writes the configurations of the relay and of the portal, and the
// secrets that they share. All of it is made anew for each demo.
func (s stage) configure() (relay, portal string, err error) {
	if err := selfSigned(s.path("cert.pem"), s.path("key.pem")); err != nil {
		return "", "", fmt.Errorf("demo: making a certificate: %w", err)
	}
	files := map[string]string{"relay.cue": s.relayCUE(), "portal.cue": s.portalCUE()}
	for _, name := range secrets {
		files[name] = rand.Text() + rand.Text() + "\n"
	}
	for name, text := range files {
		if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
			return "", "", fmt.Errorf("demo: %w", err)
		}
	}
	return s.path("relay.cue"), s.path("portal.cue"), nil
}

func (s stage) relayCUE() string {
	return fmt.Sprintf(`// The configuration of the demo's relay. A real one differs in names and ports.
hostname:   "relay.demo.example"
postmaster: "postmaster@demo.example"
portal:     %q
listen: {
	relay:      [%q]
	submission: [%q]
	http:       %q
	socket:     %q
	portal: {address: %q, tokenFile: %q, operatorTokenFile: %q}
}
tls: {certificate: %q, key: %q}
register: {repository: %q, poll: "1s"}
state: %q
deliver: smarthosts: [%q]
confirm: true
proof: secretFile: %q
`, s.url(), s.o.Relay, s.o.Submission, s.o.Status, s.path("relay.sock"), s.door, s.path("read.token"), s.path("operator.token"),
		s.path("cert.pem"), s.path("key.pem"), s.repository, s.path("state"), s.nextHop, s.path("proof.secret"))
}

func (s stage) portalCUE() string {
	var cast strings.Builder
	for _, p := range people {
		fmt.Fprintf(&cast, "\t{name: %q, email: %q, postmaster: %v},\n", p.name, p.email, p.postmaster)
	}
	return fmt.Sprintf(`// The configuration of the demo's portal. In a real one, signIn names the
// university's own sign-in.
url:    %q
listen: %q
state:  %q
site: {name: "Loopback University", postmaster: "postmaster@demo.example"}
register: {repository: %q, poll: "1s"}
signIn: development: people: [
%s]
relays: [{name: "relay1", url: %q, tokenFile: %q, operatorTokenFile: %q, caFile: %q}]
proof: {secretFile: %q, hostname: "relay.demo.example", server: %q}
mail: {server: %q, from: "portal@demo.example"}
`, s.url(), s.o.Portal, s.path("portal-state"), s.repository, cast.String(), "https://"+s.door, s.path("read.token"), s.path("operator.token"),
		s.path("cert.pem"), s.path("proof.secret"), s.o.Relay, s.o.Relay)
}

// freeOr is addr, or another port of its host if addr is taken or "".
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
