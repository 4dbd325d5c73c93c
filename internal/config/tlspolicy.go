package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// The values of Deliver.TLS and TLSRule.TLS.
const (
	TLSOpportunistic = "opportunistic"
	TLSEncrypt       = "encrypt"
	TLSVerify        = "verify"
	TLSOff           = "off"
)

// Bounds on what is asked of next hops.
const (
	maxTLSRules = 1000
	maxTLSHosts = 50
)

// A TLSRule is what is asked of TLS with the next hops of one domain.
type TLSRule struct {
	TLS string
	MX  []string // hosts, or "*.host"; lower case; empty: any
}

// String is the rule as the file has it.
func (r TLSRule) String() string {
	if len(r.MX) == 0 {
		return fmt.Sprintf("{tls: %q}", r.TLS)
	}
	return fmt.Sprintf("{tls: %q, mx: [\"%s\"]}", r.TLS, strings.Join(r.MX, `", "`))
}

// tlsPolicy reads what is asked of some next hops. Its keys have dots, so that
// the paths of document do not reach below it.
func (d *document) tlsPolicy(raw map[string]TLSRule) map[string]TLSRule {
	const path = "deliver.tlsPolicy"
	if len(raw) > maxTLSRules {
		d.wrong(path, fmt.Sprintf("%s has %d entries, and may have %d", path, len(raw), maxTLSRules))
		return nil
	}
	var out map[string]TLSRule
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		rule := raw[key]
		wrong := func(message string, field ...string) {
			at := append([]string{"deliver", "tlsPolicy", key}, field...)
			d.add(d.data.At(at...), path+`."`+key+`"`+message, d.def.Hint(at...))
		}
		name, ok := tlsName(key)
		switch {
		case !ok:
			wrong(" is no domain, domain with a dot before it, host name or address; a domain beyond ASCII is written as xn--…")
		case out[name].TLS != "":
			wrong(" is written twice")
		case len(rule.MX) > 0 && rule.TLS != TLSVerify:
			wrong(`.mx is of no use but with tls: "verify"`, "mx")
		case len(rule.MX) > maxTLSHosts:
			wrong(fmt.Sprintf(".mx has %d entries, and may have %d", len(rule.MX), maxTLSHosts), "mx")
		}
		rule.MX = slices.Clone(rule.MX)
		for i, host := range rule.MX {
			host = strings.ToLower(strings.TrimSuffix(host, "."))
			if !hostName(strings.TrimPrefix(host, "*.")) {
				wrong(fmt.Sprintf(".mx[%d]: %q is no host name, nor one with \"*.\" before it", i, host), "mx")
			}
			rule.MX[i] = host
		}
		if out == nil {
			out = make(map[string]TLSRule, len(raw))
		}
		out[name] = rule
	}
	return out
}

// tlsName is a key in the form in which next hops are compared with it.
func tlsName(key string) (string, bool) {
	if ip, err := netip.ParseAddr(strings.Trim(key, "[]")); err == nil && ip.Zone() == "" {
		return ip.Unmap().String(), true
	}
	key = strings.ToLower(strings.TrimSuffix(key, "."))
	bare := strings.ReplaceAll(strings.TrimPrefix(key, "."), "_", "x") // some domains have one
	return key, hostName(bare)
}
