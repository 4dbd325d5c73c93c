package deliver

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"example.edu/gatepost/internal/mail"
)

// A Guard says what must hold of the connection to a next hop before mail goes
// over it. It is asked once for each host of an attempt that needs a new
// connection, may look things up within ctx, and is safe for concurrent use.
type Guard interface {
	Demand(ctx context.Context, hop Hop) Demand
}

// A Hop is one host that mail could go to.
type Hop struct {
	Domain     string // whose mail it is: lower case and A-labels, or an address literal in brackets; "" for a smarthost
	Host       string // lower case; an address in brackets
	Port       string
	Smart      bool // a smarthost: named by the configuration
	RequireTLS bool // a message that is to go there says REQUIRETLS. RFC 8689
}

// A Use is whether TLS is used.
type Use uint8

// The uses.
const (
	Opportunistic Use = iota // wherever it is offered and works, else clear text. RFC 7435
	Never                    // STARTTLS is not tried
	Always                   // no mail without it
)

// A Protection is what protects a connection to a next hop, the least first.
type Protection uint8

// The protections.
const (
	Clear      Protection = iota
	Unverified            // TLS with whoever answers
	Verified              // with whom an authority vouches for, by the host's name
	STS                   // the same, with a host that the domain's MTA-STS policy names. RFC 8461
	DANE                  // with whom the DNS vouches for. RFC 7672
)

// protections is how many there are.
const protections = DANE + 1

// String is the word used in logs and metrics.
func (p Protection) String() string {
	return [...]string{"none", "unverified", "verified", "sts", "dane"}[p]
}

// A Demand is what must hold of the connection with one host. The zero Demand
// is opportunistic TLS.
type Demand struct {
	Use Use
	// PKIX asks for a certificate for the host's name, by an authority that
	// Options.TLS trusts. RFC 9525.
	PKIX bool
	// Verify, if set, judges the certificates in the handshake. RFC 7672 §3.1.
	Verify func(tls.ConnectionState) error
	// Name is told in the handshake; "": the host's. RFC 7672 §8.1.
	Name string
	// As is what a connection is that meets PKIX or Verify.
	As Protection
	// Secure: it is known that this host is one of the domain's, by more than
	// DNS that anybody can forge. RFC 8689 §4.2.1.
	Secure bool
	// Why says who demands it, for the operator: it follows "as ".
	Why string
	// Seen, if set, is told what came of TLS on each connection that was made
	// under this demand, also one that is only tried. It must not block.
	Seen func(Handshake)
	// Watch asks for the certificate to be judged as by PKIX for Seen alone.
	Watch bool
	// Refused, if set, is why no mail goes to this host now.
	Refused *mail.Result

	lax     bool  // less than the guard might want
	watched error // what Watch found
}

// saw tells Seen about a connection.
func (d *Demand) saw(s *session, err error) {
	if d.Seen == nil {
		return
	}
	hs := Handshake{Host: s.hop, Err: err}
	if a, ok := s.raw.LocalAddr().(*net.TCPAddr); ok {
		hs.Local = a.AddrPort().Addr().Unmap()
	}
	if a, ok := s.raw.RemoteAddr().(*net.TCPAddr); ok {
		hs.Remote = a.AddrPort().Addr().Unmap()
	}
	d.Seen(hs)
}

// A Handshake is what came of TLS on one connection.
type Handshake struct {
	Host          string
	Local, Remote netip.Addr // invalid if not known
	// Err is nil if it is as demanded. ErrNoTLS: the host did not take STARTTLS.
	Err error
}

// errCertificate is a certificate that is not what was demanded.
var errCertificate = errors.New("the certificate is not as demanded")

// opportunistic is the Guard of a Courier that was given none.
type opportunistic struct{}

// Demand is TLS if it is there, and what REQUIRETLS needs at least.
func (opportunistic) Demand(_ context.Context, hop Hop) Demand {
	if hop.RequireTLS {
		return Demand{Use: Always, PKIX: true, As: Verified, Secure: true, Why: "REQUIRETLS demands"}
	}
	return Demand{}
}

// demand asks the guard about a host. Mail that is to go even where TLS fails
// needs no answer; what it goes over is not kept for mail that does.
func (c *Courier) demand(ctx context.Context, destination string, h host, env *mail.Envelope) Demand {
	if env.AnyTLS {
		return Demand{lax: true}
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeouts.Guard)
	defer cancel()
	hop := Hop{Domain: destination, Host: h.name, Port: h.port, Smart: h.smart, RequireTLS: env.RequireTLS}
	if h.smart {
		hop.Domain = ""
	}
	return c.o.Guard.Demand(ctx, hop)
}

// config is that of the handshake with a host.
func (d *Demand) config(base *tls.Config, h host) *tls.Config {
	config := base.Clone()
	config.ServerName = cmp.Or(d.Name, strings.Trim(h.name, "[]"))
	if d.Use == Always { // whoever is strict about TLS is so about its age: RFC 8461 §4.2, RFC 8996
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	}
	if d.PKIX {
		config.ServerName = strings.Trim(h.name, "[]")
		config.InsecureSkipVerify = false
	}
	if d.Watch {
		config.VerifyConnection = func(state tls.ConnectionState) error {
			d.watched = vouched(state, config.RootCAs, strings.Trim(h.name, "[]"))
			return nil
		}
	}
	if d.Verify != nil {
		config.InsecureSkipVerify = true // of authorities; this judges instead
		config.VerifyConnection = func(state tls.ConnectionState) error {
			if err := d.Verify(state); err != nil {
				return fmt.Errorf("%w: %w", errCertificate, err)
			}
			return nil
		}
	}
	return config
}

// vouched judges a certificate as crypto/tls does. RFC 5280, RFC 9525.
func vouched(state tls.ConnectionState, roots *x509.CertPool, name string) error {
	o := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := state.PeerCertificates[0].Verify(o); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// protection is what a connection is that came about under the demand.
func (d *Demand) protection(version string) Protection {
	switch {
	case version == "":
		return Clear
	case d.PKIX || d.Verify != nil:
		return d.As
	}
	return Unverified
}

// because adds to an error that ended a connection who wanted it so.
func (d *Demand) because(err error) error {
	if d.Use != Always || d.Why == "" || !unmet(err) {
		return err
	}
	return fmt.Errorf("%w; without it no mail goes there, as %s", err, d.Why)
}

// unmet reports whether it was TLS that was wanting.
func unmet(err error) bool {
	return errors.Is(err, ErrNoTLS) || errors.Is(err, errHandshake)
}

// untrusted reports whether it was the certificate.
func untrusted(err error) bool {
	_, pkix := errors.AsType[*tls.CertificateVerificationError](err)
	return pkix || errors.Is(err, errCertificate)
}
