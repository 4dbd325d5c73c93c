package tlspolicy

import (
	"context"
	"errors"
	"strings"
	"testing"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/dane"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/sts"
)

// word is a demand in a word.
func word(d deliver.Demand) string {
	switch {
	case d.Refused != nil:
		return d.Refused.Outcome.String() + " " + d.Refused.Status.Enhanced.String()
	case d.Use == deliver.Never:
		return "never"
	case d.Use == deliver.Opportunistic:
		return "opportunistic"
	case d.Secure:
		return d.As.String() + ", secure"
	}
	return d.As.String()
}

func TestRules(t *testing.T) {
	rules := map[string]Rule{
		"clear.example":       {Level: Off},
		"tls.example":         {Level: Encrypt},
		"strict.example":      {Level: Verify},
		"named.example":       {Level: Verify, MX: []string{"mx.named.example", "*.mail.example"}},
		".below.example":      {Level: Encrypt},
		".far.below.example":  {Level: Verify},
		"not.below.example":   {Level: Opportunistic},
		"mx1.campus.example":  {Level: Verify},
		"192.0.2.1":           {Level: Encrypt},
		"outlook.smart":       {Level: Verify, MX: nil},
		".smart.example":      {Level: Encrypt},
		"xn--mnchen-3ya.test": {Level: Encrypt},
	}
	for _, c := range []struct {
		name  string
		least Level
		hop   deliver.Hop
		want  string
		why   string
	}{
		{name: "no rule", hop: deliver.Hop{Domain: "example.org", Host: "mx.example.org"}, want: "opportunistic"},
		{name: "no rule, the default", least: Verify, hop: deliver.Hop{Domain: "example.org", Host: "mx.example.org"}, want: "verified", why: "deliver.tls demands"},
		{name: "no rule, no TLS", least: Off, hop: deliver.Hop{Domain: "example.org", Host: "mx.example.org"}, want: "never"},
		{name: "off", least: Verify, hop: deliver.Hop{Domain: "clear.example", Host: "mx.example.org"}, want: "never"},
		{name: "encrypt", hop: deliver.Hop{Domain: "tls.example", Host: "mx.example.org"}, want: "unverified", why: `deliver.tlsPolicy "tls.example" demands`},
		{name: "less than the default", least: Verify, hop: deliver.Hop{Domain: "tls.example", Host: "mx.example.org"}, want: "unverified"},
		{name: "verify", hop: deliver.Hop{Domain: "strict.example", Host: "mx.example.org"}, want: "verified"},
		{name: "a name", hop: deliver.Hop{Domain: "named.example", Host: "mx.named.example"}, want: "verified, secure"},
		{name: "a name by a pattern", hop: deliver.Hop{Domain: "named.example", Host: "a.mail.example"}, want: "verified, secure"},
		{name: "two labels for one", hop: deliver.Hop{Domain: "named.example", Host: "b.a.mail.example"}, want: "deferred 4.7.5"},
		{name: "none for one", hop: deliver.Hop{Domain: "named.example", Host: "mail.example"}, want: "deferred 4.7.5"},
		{name: "the host of a forger", hop: deliver.Hop{Domain: "named.example", Host: "mx.evil.example"}, want: "deferred 4.7.5"},
		{name: "an exact rule is not for what is below", hop: deliver.Hop{Domain: "a.tls.example", Host: "mx.example.org"}, want: "opportunistic"},
		{name: "a rule for what is below", hop: deliver.Hop{Domain: "a.b.below.example", Host: "mx.example.org"}, want: "unverified", why: `".below.example"`},
		{name: "… is not for the domain", hop: deliver.Hop{Domain: "below.example", Host: "mx.example.org"}, want: "opportunistic"},
		{name: "… and the closest counts", hop: deliver.Hop{Domain: "a.far.below.example", Host: "mx.example.org"}, want: "verified"},
		{name: "… and the exact one before it", hop: deliver.Hop{Domain: "not.below.example", Host: "mx.example.org"}, want: "opportunistic"},
		{name: "a host's name is no domain", hop: deliver.Hop{Domain: "example.org", Host: "tls.example"}, want: "opportunistic"},
		{name: "an address literal", hop: deliver.Hop{Domain: "[192.0.2.1]", Host: "[192.0.2.1]"}, want: "unverified"},
		{name: "a smarthost", hop: deliver.Hop{Host: "mx1.campus.example", Smart: true}, want: "verified, secure"},
		{name: "a smarthost's address", hop: deliver.Hop{Host: "[192.0.2.1]", Smart: true}, want: "unverified, secure"},
		{name: "a smarthost below", hop: deliver.Hop{Host: "out.smart.example", Smart: true}, want: "unverified, secure"},
		{name: "a smarthost without a rule", hop: deliver.Hop{Host: "mx9.campus.example", Smart: true}, want: "opportunistic"},
		{name: "REQUIRETLS", hop: deliver.Hop{Domain: "example.org", Host: "mx.example.org", RequireTLS: true}, want: "failed 5.7.10"},
		{name: "REQUIRETLS over a weaker rule", hop: deliver.Hop{Domain: "tls.example", Host: "mx.example.org", RequireTLS: true}, want: "failed 5.7.10"},
		{name: "REQUIRETLS and a name", hop: deliver.Hop{Domain: "named.example", Host: "mx.named.example", RequireTLS: true}, want: "verified, secure"},
		{name: "REQUIRETLS at a smarthost", hop: deliver.Hop{Host: "mx9.campus.example", Smart: true, RequireTLS: true}, want: "verified, secure", why: "REQUIRETLS demands"},
		{name: "REQUIRETLS where there is no TLS", hop: deliver.Hop{Domain: "clear.example", Host: "mx.example.org", RequireTLS: true}, want: "failed 5.7.10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := New(Options{Least: c.least, Rules: rules}).Demand(t.Context(), c.hop)
			if word(got) != c.want || !strings.Contains(got.Why, c.why) {
				t.Errorf("%s (%s), want %s", word(got), got.Why, c.want)
			}
			if r := got.Refused; r != nil && (r.Cause == "" || r.Status.Text == "" || r.Outcome == mail.Delivered) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// signed is a DNSSEC of fixed answers, by host; others are not signed.
type signed map[string]*dane.Finding

func (s signed) Find(_ context.Context, domain, host, _ string) (*dane.Finding, error) {
	if host == "bogus.example" || domain == "bogus.example" {
		return nil, errors.New("SERVFAIL")
	}
	if f := s[host]; f != nil {
		return f, nil
	}
	return &dane.Finding{}, nil
}

func TestWhatTheDNSSays(t *testing.T) {
	dns := signed{
		"usable.example":   {Standing: dane.Usable, SecureMX: true, Base: "base.example"},
		"unusable.example": {Standing: dane.Unusable, SecureMX: true, Base: "unusable.example"},
		"none.example":     {Standing: dane.None, SecureMX: true},
	}
	rules := map[string]Rule{"mended.example": {Level: Opportunistic}, "must.example": {Level: DANE}, "clear.example": {Level: Off}, "usable.example": {Level: Encrypt}}
	hop := func(domain, host string) deliver.Hop { return deliver.Hop{Domain: domain, Host: host, Port: "25"} }
	strict := func(h deliver.Hop) deliver.Hop { h.RequireTLS = true; return h }
	for _, c := range []struct {
		name  string
		least Level
		hop   deliver.Hop
		want  string
	}{
		{name: "records", hop: hop("example.org", "usable.example"), want: "dane, secure"},
		{name: "records beat the default", least: Verify, hop: hop("example.org", "usable.example"), want: "dane, secure"},
		{name: "records of no use", hop: hop("example.org", "unusable.example"), want: "unverified, secure"},
		{name: "records of no use, and the default", least: Verify, hop: hop("example.org", "unusable.example"), want: "verified, secure"},
		{name: "no records", hop: hop("example.org", "none.example"), want: "opportunistic"},
		{name: "no records, the default", least: Encrypt, hop: hop("example.org", "none.example"), want: "unverified, secure"},
		{name: "not signed", hop: hop("example.org", "mx.example"), want: "opportunistic"},
		{name: "bogus", hop: hop("example.org", "bogus.example"), want: "deferred 4.4.3"},
		{name: "bogus MX", hop: hop("bogus.example", "mx.example"), want: "deferred 4.4.3"},
		{name: "the site has another rule", hop: hop("mended.example", "bogus.example"), want: "opportunistic"},
		{name: "no TLS at all", least: Off, hop: hop("example.org", "usable.example"), want: "never"},
		{name: "DANE or nothing", hop: hop("must.example", "usable.example"), want: "dane, secure"},
		{name: "DANE or nothing, no records", hop: hop("must.example", "none.example"), want: "deferred 4.7.5"},
		{name: "DANE or nothing, none of use", hop: hop("must.example", "unusable.example"), want: "deferred 4.7.5"},
		{name: "DANE or nothing, an address", hop: hop("must.example", "[192.0.2.1]"), want: "deferred 4.7.5"},
		{name: "DANE for all", least: DANE, hop: hop("example.org", "mx.example"), want: "deferred 4.7.5"},
		{name: "a smarthost", hop: deliver.Hop{Host: "none.example", Smart: true, RequireTLS: true}, want: "verified, secure"},
		{name: "a smarthost with a rule", hop: deliver.Hop{Host: "usable.example", Smart: true}, want: "unverified, secure"},
		{name: "REQUIRETLS", hop: strict(hop("example.org", "usable.example")), want: "dane, secure"},
		{name: "REQUIRETLS, no records", hop: strict(hop("example.org", "none.example")), want: "verified, secure"},
		{name: "REQUIRETLS, none of use", hop: strict(hop("example.org", "unusable.example")), want: "verified, secure"},
		{name: "REQUIRETLS, bogus", hop: strict(hop("example.org", "bogus.example")), want: "deferred 4.4.3"},
		{name: "REQUIRETLS and a rule", hop: strict(hop("mended.example", "usable.example")), want: "dane, secure"},
		{name: "REQUIRETLS and no TLS", hop: strict(hop("clear.example", "usable.example")), want: "failed 5.7.10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := New(Options{Least: c.least, Rules: rules, DNSSEC: dns}).Demand(t.Context(), c.hop)
			if word(got) != c.want {
				t.Errorf("%s (%s), want %s", word(got), got.Why, c.want)
			}
			if got.As == deliver.DANE && got.Refused == nil && (got.Verify == nil || got.Name != "base.example" || got.PKIX) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// policies is an STS of fixed answers, by domain.
type policies map[string]*sts.Policy

func (p policies) Find(_ context.Context, domain string) (*sts.Policy, error) {
	if domain == "unknown.example" {
		return nil, errors.New("timeout")
	}
	return p[domain], nil
}

func TestWhatThePolicyOfADomainSays(t *testing.T) {
	known := policies{
		"strict.example":  {Mode: sts.Enforce, MX: []string{"*.strict.example", "usable.example"}},
		"trying.example":  {Mode: sts.Testing, MX: []string{"mx.trying.example"}},
		"mended.example":  {Mode: sts.Enforce, MX: []string{"mx.mended.example"}},
		"clear.example":   {Mode: sts.Enforce, MX: []string{"mx.clear.example"}},
		"[192.0.2.1]":     {Mode: sts.Enforce, MX: []string{"never.asked.example"}},
		"usable.example":  {Mode: sts.Enforce, MX: []string{"never.asked.example"}},
		"smart.example":   {Mode: sts.Enforce, MX: []string{"never.asked.example"}},
		"weakest.example": {Mode: sts.Enforce, MX: []string{"unusable.example", "none.example", "bogus.example"}},
	}
	dns := signed{
		"usable.example":   {Standing: dane.Usable, SecureMX: true, Base: "base.example"},
		"unusable.example": {Standing: dane.Unusable, SecureMX: true, Base: "unusable.example"},
		"none.example":     {Standing: dane.None, SecureMX: true},
	}
	rules := map[string]Rule{"mended.example": {Level: Opportunistic}, "clear.example": {Level: Off}}
	hop := func(domain, host string) deliver.Hop { return deliver.Hop{Domain: domain, Host: host, Port: "25"} }
	strict := func(h deliver.Hop) deliver.Hop { h.RequireTLS = true; return h }
	for _, c := range []struct {
		name  string
		least Level
		hop   deliver.Hop
		want  string
	}{
		{name: "enforced", hop: hop("strict.example", "mx.strict.example"), want: "sts, secure"},
		{name: "enforced, over the default", least: Encrypt, hop: hop("strict.example", "mx.strict.example"), want: "sts, secure"},
		{name: "enforced, another host", hop: hop("strict.example", "mx.evil.example"), want: "deferred 4.7.5"},
		{name: "enforced, the domain itself", hop: hop("strict.example", "strict.example"), want: "deferred 4.7.5"},
		{name: "tried out", hop: hop("trying.example", "mx.evil.example"), want: "opportunistic"},
		{name: "none", hop: hop("example.org", "mx.example.org"), want: "opportunistic"},
		{name: "nobody knows", hop: hop("unknown.example", "mx.example.org"), want: "opportunistic"},
		{name: "the site has another rule", hop: hop("mended.example", "mx.evil.example"), want: "opportunistic"},
		{name: "no TLS", hop: hop("clear.example", "mx.clear.example"), want: "never"},
		{name: "no TLS for anybody", least: Off, hop: hop("strict.example", "mx.strict.example"), want: "never"},
		{name: "DANE beats it", hop: hop("usable.example", "usable.example"), want: "dane, secure"},
		{name: "TLSA of no use do not", hop: hop("weakest.example", "unusable.example"), want: "sts, secure"},
		{name: "no TLSA do not", hop: hop("weakest.example", "none.example"), want: "sts, secure"},
		{name: "bogus TLSA stop it", hop: hop("weakest.example", "bogus.example"), want: "deferred 4.4.3"},
		{name: "an address", hop: hop("[192.0.2.1]", "[192.0.2.1]"), want: "opportunistic"},
		{name: "a smarthost", hop: deliver.Hop{Host: "smart.example", Smart: true}, want: "opportunistic"},
		{name: "REQUIRETLS", hop: strict(hop("strict.example", "mx.strict.example")), want: "sts, secure"},
		{name: "REQUIRETLS, tried out", hop: strict(hop("trying.example", "mx.trying.example")), want: "failed 5.7.10"},
		{name: "REQUIRETLS, none", hop: strict(hop("example.org", "mx.example.org")), want: "failed 5.7.10"},
		{name: "REQUIRETLS, nobody knows", hop: strict(hop("unknown.example", "mx.example.org")), want: "deferred 4.4.3"},
		{name: "REQUIRETLS, signed", hop: strict(hop("example.org", "none.example")), want: "verified, secure"},
		{name: "REQUIRETLS and a rule", hop: strict(hop("mended.example", "mx.mended.example")), want: "sts, secure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := New(Options{Least: c.least, Rules: rules, DNSSEC: dns, STS: known}).Demand(t.Context(), c.hop)
			if word(got) != c.want {
				t.Errorf("%s (%s), want %s", word(got), got.Why, c.want)
			}
			if got.As == deliver.STS && got.Refused == nil && (!got.PKIX || got.Use != deliver.Always) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// What the signed DNS says counts alone, even if a policy is known.
func TestDANEBeatsAPolicy(t *testing.T) {
	k := known{finding: &dane.Finding{Standing: dane.Usable, Base: "mx.example"}, policy: &sts.Policy{Mode: sts.Enforce, MX: []string{"other.example"}}}
	if d := decide(ruling{}, k, deliver.Hop{Domain: "example.org", Host: "mx.example"}); word(d) != "dane" {
		t.Errorf("%+v", d)
	}
}
