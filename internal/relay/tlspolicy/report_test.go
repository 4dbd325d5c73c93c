package tlspolicy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	"example.edu/gatepost/internal/relay/dane"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/sts"
	"example.edu/gatepost/internal/relay/tlsreport"
)

// told is a Reports that keeps what it is told, in words.
type told []string

func (l *told) Session(domain string, p tlsreport.Policy, f *tlsreport.Failure) {
	word := domain + " " + string(p.Type)
	if f == nil {
		word += " ok"
	} else {
		word += " " + string(f.Result)
	}
	if p.Domain != domain || p.Type == tlsreport.None && len(p.String)+len(p.MX) > 0 {
		word = fmt.Sprintf("%+v", p)
	}
	*l = append(*l, word)
}

func cert(err error) error { return &tls.CertificateVerificationError{Err: err} }

// What is counted for a domain. RFC 8460 §4.3.
func TestReports(t *testing.T) {
	known := failing{policies{
		"strict.example": {Mode: sts.Enforce, MX: []string{"mx.strict.example"}},
		"trying.example": {Mode: sts.Testing, MX: []string{"mx.trying.example"}},
	}}
	dns := signed{
		"usable.example":   {Standing: dane.Usable, SecureMX: true, Base: "usable.example"},
		"unusable.example": {Standing: dane.Unusable, SecureMX: true, Base: "unusable.example"},
		"none.example":     {Standing: dane.None, SecureMX: true},
	}
	rules := map[string]Rule{"ruled.example": {Level: Encrypt}}
	for _, c := range []struct {
		name  string
		least Level
		hop   deliver.Hop
		err   error
		want  string
	}{
		{name: "nothing is known", hop: deliver.Hop{Domain: "example.org", Host: "mx.example.org"}, want: "example.org no-policy-found ok"},
		{name: "no TLS", hop: deliver.Hop{Domain: "example.org", Host: "mx.example.org"}, err: fmt.Errorf("x: %w", deliver.ErrNoTLS), want: "example.org no-policy-found starttls-not-supported"},
		{name: "a policy", hop: deliver.Hop{Domain: "strict.example", Host: "mx.strict.example"}, want: "strict.example sts ok"},
		{name: "another host", hop: deliver.Hop{Domain: "strict.example", Host: "mx.evil.example"}, want: "strict.example sts validation-failure"},
		{name: "another authority", hop: deliver.Hop{Domain: "strict.example", Host: "mx.strict.example"}, err: cert(x509.UnknownAuthorityError{}), want: "strict.example sts certificate-not-trusted"},
		{name: "another name", hop: deliver.Hop{Domain: "strict.example", Host: "mx.strict.example"}, err: cert(x509.HostnameError{Certificate: &x509.Certificate{}}), want: "strict.example sts certificate-host-mismatch"},
		{name: "ended", hop: deliver.Hop{Domain: "strict.example", Host: "mx.strict.example"}, err: cert(x509.CertificateInvalidError{Reason: x509.Expired}), want: "strict.example sts certificate-expired"},
		{name: "something else", hop: deliver.Hop{Domain: "strict.example", Host: "mx.strict.example"}, err: errors.New("reset"), want: "strict.example sts validation-failure"},
		{name: "tried out, another host", hop: deliver.Hop{Domain: "trying.example", Host: "mx.evil.example"}, want: "trying.example sts validation-failure"},
		{name: "tried out", hop: deliver.Hop{Domain: "trying.example", Host: "mx.trying.example"}, want: "trying.example sts ok"},
		{name: "a policy that cannot be had", hop: deliver.Hop{Domain: "away.example", Host: "mx.example"}, want: "away.example sts sts-policy-fetch-error, away.example no-policy-found ok"},
		{name: "a policy that is none", hop: deliver.Hop{Domain: "page.example", Host: "mx.example"}, want: "page.example sts sts-policy-invalid, page.example no-policy-found ok"},
		{name: "a policy by another", hop: deliver.Hop{Domain: "forged.example", Host: "mx.example"}, want: "forged.example sts sts-webpki-invalid, forged.example no-policy-found ok"},
		{name: "DANE", hop: deliver.Hop{Domain: "strict.example", Host: "usable.example"}, want: "strict.example tlsa ok"},
		{name: "DANE, another key", hop: deliver.Hop{Domain: "strict.example", Host: "usable.example"}, err: dane.ErrNoMatch, want: "strict.example tlsa validation-failure"},
		{name: "TLSA of no use", hop: deliver.Hop{Domain: "example.org", Host: "unusable.example"}, want: "example.org tlsa ok"},
		{name: "bogus", hop: deliver.Hop{Domain: "example.org", Host: "bogus.example"}, want: "example.org tlsa dnssec-invalid"},
		{name: "DANE or nothing", least: DANE, hop: deliver.Hop{Domain: "example.org", Host: "none.example"}, want: "example.org no-policy-found dane-required"},
		{name: "a rule of the site", hop: deliver.Hop{Domain: "ruled.example", Host: "mx.example"}, want: ""},
		{name: "no TLS at all", least: Off, hop: deliver.Hop{Domain: "example.org", Host: "mx.example"}, want: ""},
		{name: "a smarthost", hop: deliver.Hop{Host: "usable.example", Smart: true}, want: ""},
		{name: "an address", hop: deliver.Hop{Domain: "[192.0.2.1]", Host: "[192.0.2.1]"}, want: ""},
		{name: "the message's demand", hop: deliver.Hop{Domain: "example.org", Host: "mx.example", RequireTLS: true}, want: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got told
			d := New(Options{Least: c.least, Rules: rules, DNSSEC: dns, STS: known, Reports: &got}).Demand(t.Context(), c.hop)
			if d.Seen != nil {
				d.Seen(deliver.Handshake{Host: c.hop.Host, Err: c.err})
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if d.Watch != strings.HasPrefix(c.want, "trying") {
				t.Errorf("Watch: %v", d.Watch)
			}
		})
	}
}

// failing has policies, and some domains whose policy cannot be had.
type failing struct{ policies }

func (f failing) Find(ctx context.Context, domain string) (*sts.Policy, error) {
	switch domain {
	case "away.example":
		return nil, fmt.Errorf("%w: 404", sts.ErrFetch)
	case "page.example":
		return nil, fmt.Errorf("%w: %w", sts.ErrFetch, sts.ErrInvalid)
	case "forged.example":
		return nil, fmt.Errorf("%w: %w", sts.ErrFetch, cert(x509.UnknownAuthorityError{}))
	}
	return f.policies.Find(ctx, domain)
}
