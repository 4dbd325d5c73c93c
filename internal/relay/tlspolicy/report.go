package tlspolicy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"example.edu/gatepost/internal/relay/dane"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/sts"
	"example.edu/gatepost/internal/relay/tlsreport"
)

// Reports counts how TLS with a domain's hosts went, for the domain. f is nil if
// all went well. *tlsreport.Book is one.
type Reports interface {
	Session(domain string, p tlsreport.Policy, f *tlsreport.Failure)
}

var _ Reports = (*tlsreport.Book)(nil)

// report has what comes of a demand counted. What an entry of the site asks, and
// mail to smarthosts and addresses, are no domain's business.
func (p *Policy) report(d *deliver.Demand, k known, hop deliver.Hop) {
	policy := reported(k, hop)
	if result, ok := fetching(k.polErr); ok { // RFC 8460 §4.3.2.2
		p.reports.Session(hop.Domain, tlsreport.Policy{Type: tlsreport.STS, Domain: hop.Domain},
			&tlsreport.Failure{Result: result, Info: k.polErr.Error()})
	}
	if d.Refused != nil {
		if hop.RequireTLS && k.findErr == nil && policy.Type == tlsreport.None {
			return // that was the message's demand
		}
		f := &tlsreport.Failure{Result: tlsreport.Invalid, Host: hop.Host, Info: d.Refused.Status.Text}
		switch {
		case k.findErr != nil:
			f.Result = tlsreport.DNSSECInvalid
		case d.As == deliver.DANE:
			f.Result = tlsreport.DANERequired
		}
		p.reports.Session(hop.Domain, policy, f)
		return
	}
	trying := policy.Type == tlsreport.STS && k.policy.Mode == sts.Testing
	d.Watch = trying && d.Use == deliver.Opportunistic
	d.Seen = func(hs deliver.Handshake) {
		if hs.Err == nil && trying && !k.policy.Names(hop.Host) {
			hs.Err = errors.New(unnamed(hop))
		}
		if hs.Err == nil {
			p.reports.Session(hop.Domain, policy, nil)
			return
		}
		p.reports.Session(hop.Domain, policy, &tlsreport.Failure{
			Result: result(hs.Err), Host: hs.Host, Sending: hs.Local, Receiving: hs.Remote, Info: hs.Err.Error(),
		})
	}
}

// reported is the policy that a host was delivered to under.
func reported(k known, hop deliver.Hop) tlsreport.Policy {
	switch {
	case k.findErr != nil, k.finding.Standing >= dane.Unusable:
		p := tlsreport.Policy{Type: tlsreport.TLSA, Domain: hop.Domain, MX: []string{hop.Host}}
		if k.findErr == nil {
			p.String = k.finding.Records()
		}
		return p
	case k.policy != nil:
		return tlsreport.Policy{Type: tlsreport.STS, Domain: hop.Domain, String: k.policy.Lines(), MX: k.policy.MX}
	}
	return tlsreport.Policy{Type: tlsreport.None, Domain: hop.Domain}
}

// fetching is what is told of a policy that could not be had.
func fetching(err error) (tlsreport.Result, bool) {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case errors.Is(err, sts.ErrInvalid):
		return tlsreport.STSInvalid, true
	case untrusted:
		return tlsreport.STSWebPKIError, true
	case errors.Is(err, sts.ErrFetch):
		return tlsreport.STSFetchError, true
	}
	return "", false
}

// result is what is told of a handshake. RFC 8460 §4.3.1.
func result(err error) tlsreport.Result {
	if errors.Is(err, deliver.ErrNoTLS) {
		return tlsreport.NoSTARTTLS
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return tlsreport.HostMismatch
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return tlsreport.NotTrusted
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return tlsreport.Expired
	}
	return tlsreport.Invalid
}
