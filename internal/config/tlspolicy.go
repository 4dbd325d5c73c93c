package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"example.edu/gatepost/internal/mail"
)

// The values of Deliver.TLS and TLSRule.TLS.
const (
	TLSOpportunistic = "opportunistic"
	TLSEncrypt       = "encrypt"
	TLSVerify        = "verify"
	TLSDANE          = "dane"
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

// TLSRules are rules by domain, ".domain", or smarthost: lower case, an address
// without brackets.
type TLSRules map[string]TLSRule

// String is the rules as the file has them.
func (r TLSRules) String() string {
	list := make([]string, 0, len(r))
	for _, key := range slices.Sorted(maps.Keys(r)) {
		list = append(list, fmt.Sprintf("%q: %s", key, r[key]))
	}
	return "{" + strings.Join(list, ", ") + "}"
}

// TLSReports says whether domains are told how TLS with them went.
type TLSReports struct {
	Contact mail.Address // zero: they are not
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
func (d *document) tlsPolicy(raw map[string]TLSRule) TLSRules {
	const path = "deliver.tlsPolicy"
	if len(raw) > maxTLSRules {
		d.wrong(path, fmt.Sprintf("%s has %d entries, and may have %d", path, len(raw), maxTLSRules))
		return nil
	}
	var out TLSRules
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
			out = make(TLSRules, len(raw))
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

// resolver reads the address of a resolver that validates. It is believed, so
// nobody must be able to answer in its stead.
func (d *document) resolver(path, s string) netip.AddrPort {
	if s == "" && !d.has(path) {
		return netip.AddrPort{}
	}
	at, err := netip.ParseAddrPort(s)
	if ip, bare := netip.ParseAddr(strings.Trim(s, "[]")); err != nil && bare == nil {
		at, err = netip.AddrPortFrom(ip, 53), nil
	}
	switch {
	case err != nil || at.Port() == 0:
		d.wrong(path, fmt.Sprintf("%s: %q is no address with a port", path, s))
	case !at.Addr().Unmap().IsLoopback():
		d.reject(path, fmt.Sprintf("%s: %s is not on this machine, so anybody on the way could say that it has validated an answer", path, at),
			"run a validating resolver on this machine, such as unbound, and name it as \"127.0.0.1:53\"")
	default:
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return netip.AddrPort{}
}

// daneNeedsResolver holds what is asked to what can be found out.
func (d *document) daneNeedsResolver(c *Deliver) {
	if d.has("deliver.resolver") {
		return
	}
	const hint = "name a validating resolver on this machine: deliver: resolver: \"127.0.0.1:53\""
	if c.TLS == TLSDANE {
		d.reject("deliver.tls", "deliver.tls: \"dane\" needs deliver.resolver", hint)
	}
	for _, key := range slices.Sorted(maps.Keys(c.TLSPolicy)) {
		if c.TLSPolicy[key].TLS == TLSDANE {
			d.reject("deliver.tlsPolicy", fmt.Sprintf("deliver.tlsPolicy.%q: \"dane\" needs deliver.resolver", key), hint)
			return
		}
	}
}
