// Package tlspolicy decides what is demanded of TLS with each next hop. It joins
// what the configuration says of a domain or a smarthost with what domains say
// of themselves, and answers the one question of package deliver.
//
// It decides only: it makes no connection, judges no certificate itself, and
// keeps nothing.
//
// The order:
//
//  1. A rule of the configuration for the domain, or for the smarthost, is the
//     last word: it holds instead of all that follows, so that an operator can
//     mend what a domain publishes wrongly.
//  2. The configuration's default is the least for all others.
//  3. What the DNS, signed, says of a host's certificates (package dane). Where
//     it says something that can be held to, that alone counts.
//  4. What the domain's MTA-STS policy says (package sts).
//  5. REQUIRETLS asks for a certificate that can be judged and a host that is
//     known to be the domain's, whatever the rule.
//
// RFC 7435 (opportunistic), RFC 7672 (DANE), RFC 8461 (MTA-STS), RFC 8689
// (REQUIRETLS).
package tlspolicy

import (
	"context"
	"fmt"
	"strings"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/dane"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/sts"
)

// A Level is what the site asks of TLS with a next hop.
type Level string

// The levels, the least first.
const (
	Off           Level = "off"           // never TLS
	Opportunistic Level = "opportunistic" // where it is offered and works, else clear text
	Encrypt       Level = "encrypt"       // always, with whatever certificate
	Verify        Level = "verify"        // … with one for the host's name by a public authority
	DANE          Level = "dane"          // … with one that the DNS, signed, says it has
)

// A Rule is what the site asks for one domain or smarthost.
type Rule struct {
	Level Level
	// MX are the hosts that mail of the domain may go to: names, or "*.name" for
	// those one label below. Empty: those that the DNS names, whoever forges it.
	MX []string
}

// A Policy is what the site asks. It is never changed, and safe for concurrent use.
type Policy struct {
	least   Level
	rules   map[string]Rule
	dnssec  DNSSEC  // nil: nobody to ask
	sts     STS     // nil: nobody to ask
	reports Reports // nil: nobody counts
}

// DNSSEC says what the DNS, signed, has on a host's certificates. An error is
// that nobody knows. *dane.Resolver is one.
type DNSSEC interface {
	Find(ctx context.Context, domain, host, port string) (*dane.Finding, error)
}

// STS says which MTA-STS policy of a domain is in force; nil: none. An error is
// that nobody knows, which counts as none but where one is needed. *sts.Book is
// one.
type STS interface {
	Find(ctx context.Context, domain string) (*sts.Policy, error)
}

var (
	_ DNSSEC = (*dane.Resolver)(nil)
	_ STS    = (*sts.Book)(nil)
)

var _ deliver.Guard = (*Policy)(nil)

// Options of a Policy.
type Options struct {
	Least Level // for all that no rule is for; "": Opportunistic
	// Rules by domain in lower case and A-labels, or by ".domain" for all below
	// it; smarthosts by host name or bare address.
	Rules   map[string]Rule
	STS     STS     // nil: no MTA-STS
	Reports Reports // nil: nobody counts
	DNSSEC  DNSSEC  // nil: no DANE. It must be what package deliver looks MX and addresses up with
}

// New makes a Policy.
func New(o Options) *Policy {
	p := &Policy{least: o.Least, rules: o.Rules, dnssec: o.DNSSEC, sts: o.STS, reports: o.Reports}
	if p.least == "" {
		p.least = Opportunistic
	}
	return p
}

// Demand is what is demanded of a host. It implements deliver.Guard.
func (p *Policy) Demand(ctx context.Context, hop deliver.Hop) deliver.Demand {
	r := p.ruling(hop)
	k := p.find(ctx, r, hop)
	d := decide(r, k, hop)
	if p.reports != nil && !r.own && r.Level != Off && !hop.Smart && !literal(hop.Domain) {
		p.report(&d, k, hop)
	}
	return d
}

// A ruling is what the site asks of one host.
type ruling struct {
	Rule
	key string // of the rule
	own bool   // there is one; else it is the default
}

func (p *Policy) ruling(hop deliver.Hop) ruling {
	name := hop.Domain
	if hop.Smart {
		name = hop.Host
	}
	if rule, key, own := p.rule(name); own {
		return ruling{rule, key, true}
	}
	return ruling{Rule: Rule{Level: p.least}}
}

// why is who asks, for people.
func (r *ruling) why() string {
	if r.own {
		return fmt.Sprintf("deliver.tlsPolicy %q demands", r.key)
	}
	return "deliver.tls demands"
}

// foreign reports whether a host is none of those that the rule names.
func (r *ruling) foreign(hop deliver.Hop) bool {
	named := sts.Policy{MX: r.MX}
	return len(r.MX) > 0 && !hop.Smart && !named.Names(hop.Host)
}

// known is what a domain says of itself, as far as it was asked.
type known struct {
	finding *dane.Finding // never nil if findErr is
	findErr error
	policy  *sts.Policy // nil: none
	polErr  error       // why nobody knows
}

// find asks what can make a difference.
func (p *Policy) find(ctx context.Context, r ruling, hop deliver.Hop) known {
	k := known{finding: &dane.Finding{}}
	if r.foreign(hop) || r.Level != DANE && (r.Level == Off || r.own && !hop.RequireTLS) {
		return k
	}
	if p.dnssec != nil && !literal(hop.Host) {
		if k.finding, k.findErr = p.dnssec.Find(ctx, hop.Domain, hop.Host, hop.Port); k.findErr != nil {
			return k
		}
	}
	if p.sts != nil && k.finding.Standing != dane.Usable && !hop.Smart && !literal(hop.Domain) {
		k.policy, k.polErr = p.sts.Find(ctx, hop.Domain)
	}
	return k
}

// decide is the order of the package comment. It is pure.
func decide(r ruling, k known, hop deliver.Hop) deliver.Demand {
	if r.foreign(hop) {
		return refuse(7, 5, fmt.Sprintf("%s is none of the mail servers that deliver.tlsPolicy %q names", hop.Host, r.key), deliver.Demand{As: deliver.Verified})
	}
	d := r.demand()
	d.Why = r.why()
	// A smarthost is named by the site; a domain's host by who can forge DNS,
	// unless the rule names it.
	d.Secure = hop.Smart || len(r.MX) > 0
	if k.findErr != nil {
		d.As = deliver.DANE
		return refuse(4, 3, "the DNS gives no signed answer about "+hop.Host+" now: "+k.findErr.Error(), d)
	}
	if d = withFinding(d, k.finding, hop, r.Level == DANE); d.Refused == nil && d.As != deliver.DANE {
		d = withSTS(d, k.policy, hop)
	}
	if hop.RequireTLS && d.Refused == nil {
		return requireTLS(d, hop, k.polErr)
	}
	return d
}

// literal reports whether a domain or a host is an address.
func literal(name string) bool { return strings.HasPrefix(name, "[") }

// withFinding raises a demand to what the DNS says of a host; it is pure. RFC
// 7672 §2.2: records that can be used are held to; others ask for TLS with
// anybody.
func withFinding(d deliver.Demand, f *dane.Finding, hop deliver.Hop, must bool) deliver.Demand {
	d.Secure = d.Secure || f.SecureMX
	switch {
	case f.Standing == dane.Usable:
		d.Use, d.PKIX, d.Verify, d.Name, d.As = deliver.Always, false, f.Verify, f.Base, deliver.DANE
		d.Why = "the TLSA records of " + f.Base + " demand"
	case must:
		d.As = deliver.DANE
		return refuse(7, 5, "the DNS has no TLSA records of "+hop.Host+" that are signed and can be used, as "+d.Why, d)
	case f.Standing == dane.Unusable && d.Use == deliver.Opportunistic:
		d.Use, d.As, d.Why = deliver.Always, deliver.Unverified, "the TLSA records of "+f.Base+" demand, though none can be used"
	}
	return d
}

// withSTS raises a demand to what a domain's policy asks; it is pure. RFC 8461
// §5: one that is only tried out asks nothing.
func withSTS(d deliver.Demand, p *sts.Policy, hop deliver.Hop) deliver.Demand {
	if p == nil || p.Mode != sts.Enforce {
		return d
	}
	d.Use, d.PKIX, d.As, d.Secure = deliver.Always, true, deliver.STS, true
	d.Why = "the MTA-STS policy of " + hop.Domain + " demands"
	if !p.Names(hop.Host) {
		return refuse(7, 5, unnamed(hop), d)
	}
	return d
}

// unnamed is a host that is not in the policy of its domain.
func unnamed(hop deliver.Hop) string {
	return hop.Host + " is none of the mail servers that the MTA-STS policy of " + hop.Domain + " names"
}

// rule is the one for a name: its own, or that of the closest domain above it.
// The form is that of Postfix's smtp_tls_policy_maps.
func (p *Policy) rule(name string) (Rule, string, bool) {
	name = strings.Trim(name, "[]")
	if r, ok := p.rules[name]; ok {
		return r, name, true
	}
	for rest := name; ; {
		at := strings.IndexByte(rest, '.')
		if at < 0 {
			return Rule{}, "", false
		}
		if r, ok := p.rules[rest[at:]]; ok {
			return r, rest[at:], true
		}
		rest = rest[at+1:]
	}
}

func (r Rule) demand() deliver.Demand {
	switch r.Level {
	case Off:
		return deliver.Demand{Use: deliver.Never}
	case Encrypt:
		return deliver.Demand{Use: deliver.Always, As: deliver.Unverified}
	case Verify, DANE:
		return deliver.Demand{Use: deliver.Always, PKIX: true, As: deliver.Verified}
	}
	return deliver.Demand{}
}

// requireTLS raises a demand to what REQUIRETLS needs. unknown, if set, is why
// it is not known what the domain says of itself. RFC 8689 §4.2.1.
func requireTLS(d deliver.Demand, hop deliver.Hop, unknown error) deliver.Demand {
	switch {
	case d.Use == deliver.Never:
		return refuseForGood("the message asks for REQUIRETLS, and "+d.Why+" mail without TLS", d)
	case !d.Secure && unknown != nil:
		return refuse(4, 3, "REQUIRETLS needs to know that "+hop.Host+" is a mail server of "+hop.Domain+", and nobody says so now: "+unknown.Error(), d)
	case !d.Secure:
		return refuseForGood("the message asks for REQUIRETLS, and neither DNSSEC nor MTA-STS says that "+hop.Host+" is a mail server of "+hop.Domain, d)
	case d.As < deliver.Verified:
		d.Use, d.PKIX, d.As, d.Why = deliver.Always, true, deliver.Verified, "REQUIRETLS demands"
	}
	return d
}

// refuse is for a host to which no mail goes now.
func refuse(subject, detail int, text string, d deliver.Demand) deliver.Demand {
	d.Refused = &mail.Result{
		Status: mail.Status{Code: mail.CodeLocalError, Enhanced: mail.Enhanced{4, subject, detail}, Text: mail.Printable(text, maxText)},
		Cause:  "tlspolicy: " + text,
	}
	return d
}

// refuseForGood is for a host to which this message can never go.
func refuseForGood(text string, d deliver.Demand) deliver.Demand {
	d.Refused = &mail.Result{
		Outcome: mail.Failed,
		Status:  mail.Status{Code: mail.CodeRefused, Enhanced: mail.Enhanced{5, 7, 10}, Text: mail.Printable(text, maxText)},
		Cause:   "tlspolicy: " + text,
	}
	return d
}

// maxText bounds what a status says, in octets.
const maxText = 400
