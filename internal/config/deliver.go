package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// maxSmarthosts bounds what is looked through for each connection.
const maxSmarthosts = 32

// A Smarthost is one next hop of a relay that does not look for each domain's MX.
type Smarthost struct {
	Host       string // "host:port"
	Preference int    // as of an MX record, the lowest first; of a list without any, the place in it
}

// String is the smarthost as the file may have it.
func (s Smarthost) String() string {
	return fmt.Sprintf("{host: %q, preference: %d}", s.Host, s.Preference)
}

// DKIM is one key that mail is signed with.
type DKIM struct {
	Domain     string // lower case, without a final dot
	Selector   string
	KeyFile    string // an absolute path
	Subdomains bool
}

// String is the key as the file may have it.
func (k DKIM) String() string {
	return fmt.Sprintf("{domain: %q, selector: %q, keyFile: %q, subdomains: %v}", k.Domain, k.Selector, k.KeyFile, k.Subdomains)
}

// maxKeys bounds what is looked through for each message.
const maxKeys = 32

// dkim reads the keys that mail is signed with.
func (d *document) dkim(path string, list []DKIM) []DKIM {
	if len(list) > maxKeys {
		d.wrong(path, fmt.Sprintf("%s has %d keys, and may have %d", path, len(list), maxKeys))
		return nil
	}
	var out []DKIM
	for i, k := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		k.Domain = strings.ToLower(strings.TrimSuffix(k.Domain, "."))
		if d.has(at+".domain") && (!hostName(k.Domain) || !strings.Contains(k.Domain, ".")) {
			d.wrong(at+".domain", fmt.Sprintf("%s.domain: %q is no full domain name", at, k.Domain))
		}
		if d.has(at+".selector") && !hostName(k.Selector) {
			d.wrong(at+".selector", fmt.Sprintf("%s.selector: %q is no name in the DNS", at, k.Selector))
		}
		k.KeyFile = d.absolute(at+".keyFile", k.KeyFile)
		if slices.ContainsFunc(out, func(o DKIM) bool { return o.Domain == k.Domain && o.Selector == k.Selector }) {
			d.reject(at, fmt.Sprintf("%s: %s has a key of the selector %s before", at, k.Domain, k.Selector), "give each key of a domain a selector of its own")
		}
		out = append(out, k)
	}
	return out
}

// The values of Deliver.EightBit.
const (
	EightBitSend   = "send"
	EightBitBounce = "bounce"
)

// source reads the addresses to connect from.
func (d *document) source(path string, list []string) []netip.Addr {
	var out []netip.Addr
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		a, err := netip.ParseAddr(s)
		switch {
		case s == "" && !d.has(at): // told already
		case err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast():
			d.wrong(at, fmt.Sprintf("%s: %q is no address to connect from", at, s))
		case slices.ContainsFunc(out, func(o netip.Addr) bool { return o.Is4() == a.Is4() }):
			d.wrong(at, fmt.Sprintf("%s: %s is the second of its family", at, s))
		default:
			out = append(out, a)
		}
	}
	return out
}

// smarthosts reads the next hops: all as texts, or all with their preference,
// since it could not be told how the two would stand to each other.
func (d *document) smarthosts(path string, list []any) []Smarthost {
	if len(list) > maxSmarthosts {
		d.wrong(path, fmt.Sprintf("%s has %d entries, and may have %d", path, len(list), maxSmarthosts))
		return nil
	}
	var out []Smarthost
	texts := 0
	for i, entry := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch entry := entry.(type) {
		case string:
			texts++
			out = append(out, Smarthost{d.smarthost(at, entry), i})
		case map[string]any:
			out = append(out, d.preferred(at, entry))
		default:
			d.wrong(at, at+" is neither a text nor {host, preference}")
		}
	}
	if texts > 0 && texts < len(out) {
		d.reject(path, path+" has entries with a preference and others without", "give each of them one, as {host: \"mx1.example.edu:25\", preference: 10}")
	}
	return out
}

// preferred reads {host, preference}.
func (d *document) preferred(path string, fields map[string]any) Smarthost {
	var s Smarthost
	host, ok := fields["host"].(string)
	if !ok {
		d.wrong(path, path+" has no host, as a text")
	} else {
		s.Host = d.smarthost(path+".host", host)
	}
	n, ok := number(fields["preference"])
	if !ok || n < 0 || n > 65535 {
		d.wrong(path, path+" has no preference, a whole number from 0 to 65535")
	}
	s.Preference = n
	for name := range fields {
		if name != "host" && name != "preference" {
			d.wrong(path+"."+name, fmt.Sprintf("there is no field %q in %s", name, path))
		}
	}
	return s
}

// number is a whole number, in whatever form it was decoded.
func number(v any) (int, bool) {
	switch v := v.(type) {
	case int:
		return v, true
	case int64:
		return int(v), v == int64(int(v))
	case float64:
		return int(v), v == float64(int(v))
	}
	return 0, false
}

func (d *document) smarthost(path, s string) string {
	if s == "" && !d.has(path) {
		return ""
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || !portNumber(port, false) {
		d.wrong(path, fmt.Sprintf("%s: %q is not of the form host:port", path, s))
		return s
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return s
	}
	if !hostName(host) {
		d.wrong(path, fmt.Sprintf("%s: %q is neither a host name nor an IP address", path, host))
	}
	return s
}
