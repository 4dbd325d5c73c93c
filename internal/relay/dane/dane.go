// Package dane finds out from the DNS which certificates the next hops of a
// domain may have, and judges them: DANE for SMTP.
//
// It has two halves. A Resolver asks one validating resolver, and believes its
// AD bit; so that nobody can put in a bit of his own, that resolver is to be on
// the same machine. A Finding is what came of it for one host, and judges the
// certificates of a handshake; that half is pure.
//
// Invariants:
//   - What the DNS answers is believed only if the resolver says that it has
//     validated it; that there is none is believed on the same terms.
//   - An answer that fails to validate, or that does not come, is an error, and
//     never "there is none": whoever can suppress an answer gains nothing.
//   - Nothing is kept: the resolver has a cache, which knows for how long.
//
// RFC 7672 (SMTP), RFC 6698 and RFC 7671 (TLSA), RFC 4035 (AD).
package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The parts of a record that are used. RFC 6698 §2.1.
const (
	usageTA = 2 // the key, or its certificate, vouches for the host's
	usageEE = 3 // it is the host's own

	selectCert = 0
	selectKey  = 1

	matchFull   = 0
	matchSHA256 = 1
	matchSHA512 = 2
)

// maxRecords bounds what one handshake is compared with.
const maxRecords = 64

// A Record is one TLSA record. RFC 6698 §2.1.
type Record struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// String is the record as a zone has it: "3 1 1 aabb…".
func (r Record) String() string {
	return fmt.Sprintf("%d %d %d %x", r.Usage, r.Selector, r.Matching, r.Data)
}

// usable reports whether a record can be met at all. Usages 0 and 1 mean public
// authorities too, which has no sense here: RFC 7672 §3.1.3.
func (r Record) usable() bool {
	switch {
	case r.Usage != usageTA && r.Usage != usageEE, r.Selector > selectKey:
		return false
	case r.Matching == matchSHA256:
		return len(r.Data) == sha256.Size
	case r.Matching == matchSHA512:
		return len(r.Data) == sha512.Size
	case r.Matching != matchFull:
		return false
	case r.Selector == selectCert:
		_, err := x509.ParseCertificate(r.Data)
		return err == nil
	}
	_, err := x509.ParsePKIXPublicKey(r.Data)
	return err == nil
}

// usable are the records that count: of those for the same part of the same
// certificate, the strongest digest. RFC 7671 §9.
func usable(all []Record) []Record {
	var out []Record
	for _, r := range all[:min(len(all), maxRecords)] {
		if r.usable() {
			out = append(out, r)
		}
	}
	return slices.DeleteFunc(out, func(r Record) bool {
		return r.Matching == matchSHA256 && slices.ContainsFunc(out, func(o Record) bool {
			return o.Usage == r.Usage && o.Selector == r.Selector && o.Matching == matchSHA512
		})
	})
}

// matches reports whether a certificate is the one of a record.
func (r Record) matches(c *x509.Certificate) bool {
	part := c.Raw
	if r.Selector == selectKey {
		part = c.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case matchSHA256:
		sum := sha256.Sum256(part)
		return bytes.Equal(sum[:], r.Data)
	case matchSHA512:
		sum := sha512.Sum512(part)
		return bytes.Equal(sum[:], r.Data)
	}
	return bytes.Equal(part, r.Data)
}

// A Standing is what the DNS says of a host.
type Standing uint8

// The standings.
const (
	Insecure Standing = iota // its zone, or one on the way to it, is not signed
	None                     // signed, and there is no record
	Unusable                 // there are records, and none that can be met: TLS, with anybody. RFC 7672 §2.2
	Usable
)

// A Finding is what the DNS says of the certificates of one host.
type Finding struct {
	Standing Standing
	// SecureMX: that the host is the domain's is signed.
	SecureMX bool
	// Base is where the records are, and what is told in the handshake. RFC 7672 §8.1.
	Base string

	records []Record
	names   []string // that a certificate may have which an authority vouches for
	now     func() time.Time
}

// Records are those that can be met, as a zone has them.
func (f *Finding) Records() []string {
	out := make([]string, len(f.records))
	for i, r := range f.records {
		out[i] = r.String()
	}
	return out
}

// ErrNoMatch is a host with other certificates than the DNS has.
var ErrNoMatch = errors.New("dane: no TLSA record matches the certificates")

// Verify judges the certificates of a handshake. A host's own key or certificate
// counts whatever its names and its end (RFC 7672 §3.1.1); one that an authority
// vouches for must have one of the names, and be in force (§3.1.2).
func (f *Finding) Verify(state tls.ConnectionState) error {
	chain := state.PeerCertificates
	if len(chain) == 0 {
		return errors.New("dane: there is no certificate")
	}
	for _, r := range f.records {
		if r.Usage == usageEE && r.matches(chain[0]) {
			return nil
		}
	}
	roots := f.anchors(chain)
	if len(roots) == 0 {
		return ErrNoMatch
	}
	if !slices.ContainsFunc(f.names, func(name string) bool { return chain[0].VerifyHostname(name) == nil }) {
		return fmt.Errorf("dane: the certificate is for %q, and not for any of %q", chain[0].DNSNames[:min(len(chain[0].DNSNames), 5)], f.names)
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: f.now()}
	for _, c := range roots {
		o.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return fmt.Errorf("dane: %w", err)
	}
	return nil
}

// anchors are the certificates that the records make authorities: of those that
// the host sent, which has to send them (RFC 7672 §3.1.2), or out of the record.
func (f *Finding) anchors(chain []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, r := range f.records {
		if r.Usage != usageTA {
			continue
		}
		for _, c := range chain[1:] {
			if r.matches(c) {
				out = append(out, c)
			}
		}
		if r.Selector == selectCert && r.Matching == matchFull {
			if c, err := x509.ParseCertificate(r.Data); err == nil {
				out = append(out, c)
			}
		}
	}
	return out
}
