package deliver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

// Bounds on where one attempt goes: a domain decides how many hosts it names,
// we decide how many we try.
const (
	maxHosts     = 5
	maxAddresses = 10 // over all hosts
)

// smarthosts is the one destination of a relay that has smarthosts.
const smarthosts = "smarthosts"

// downFor is how long a smarthost that was of no use is tried last.
const downFor = 30 * time.Second

// A host is one place to try.
type host struct {
	name     string // as configured, or from the MX record; an address literal in brackets
	port     string
	addr     netip.Addr // valid if no lookup is needed
	pref     int        // of a smarthost: the lowest is tried first, at random within one
	smart    bool       // a smarthost: its refusals are our misconfiguration, never the sender's fault
	implicit bool       // the domain itself, for want of an MX
}

// Destination names where mail for a domain goes: recipients of the same
// destination share a transaction, and connections are kept by it. With
// smarthosts there is only one; otherwise it is the domain in lower case and
// A-labels, or an address literal.
func (c *Courier) Destination(domain string) string {
	if len(c.smart) > 0 {
		return smarthosts
	}
	if domain == "" { // Postmaster without a domain: ours, RFC 5321 §4.5.1
		domain = c.o.Hostname
	}
	if name, err := aLabels(domain); err == nil {
		return name
	}
	return strings.ToLower(domain)
}

// route lists the hosts of a destination, best first; or gives the result for
// all recipients when there is nowhere to go. RFC 5321 §5.1.
func (c *Courier) route(ctx context.Context, destination string) ([]host, *mail.Result) {
	if len(c.smart) > 0 {
		return c.health.order(c.smart, c.o.Now(), rand.Shuffle), nil
	}
	if literal, ok := strings.CutPrefix(destination, "["); ok { // RFC 5321 §4.1.3
		addr, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimSuffix(literal, "]"), "ipv6:"))
		if err != nil {
			return nil, ptr(failed(mail.CodeRefused, mail.Enhanced{5, 1, 2}, destination+" is no address"))
		}
		return []host{{name: destination, port: "25", addr: addr.Unmap()}}, nil
	}
	if ascii, err := aLabels(destination); err != nil || ascii != destination || destination == "" {
		return nil, ptr(failed(mail.CodeRefused, mail.Enhanced{5, 1, 2}, destination+" is no domain name"))
	}
	lookup, cancel := context.WithTimeout(ctx, c.o.Timeouts.Lookup)
	defer cancel()
	mxs, err := c.o.Resolver.LookupMX(lookup, destination+".")
	if len(mxs) == 0 && err != nil && !notFound(err) { // records beside an error are the valid ones among bad ones
		return nil, &mail.Result{Status: statusDNS(destination), Cause: fmt.Sprintf("deliver: looking up the MX of %s: %v", destination, err)}
	}
	names, problem := choose(destination, c.o.Hostname, mxs, rand.Shuffle)
	if problem != nil {
		return nil, problem
	}
	hosts := make([]host, 0, len(names))
	for _, name := range names {
		h := host{name: name, port: "25", implicit: len(mxs) == 0}
		if addr, err := netip.ParseAddr(name); err == nil { // against RFC 5321 §5.1, but seen
			h.addr = addr.Unmap()
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// choose puts the names of MX records in the order in which they are tried:
// by preference, at random within one, and none at or behind ourselves, which
// would be a loop. RFC 5321 §5.1. It is pure but for shuffle.
func choose(domain, self string, mxs []*net.MX, shuffle func(n int, swap func(i, j int))) ([]string, *mail.Result) {
	loop := failed(mail.CodeFailed, mail.Enhanced{5, 4, 6}, "mail for "+domain+" would come back to this relay")
	self = strings.ToLower(strings.TrimSuffix(self, "."))
	if len(mxs) == 0 { // the implicit MX
		if domain == self {
			return nil, &loop
		}
		return []string{domain}, nil
	}
	if len(mxs) == 1 && strings.TrimSuffix(mxs[0].Host, ".") == "" { // RFC 7505 §3
		return nil, ptr(failed(mail.CodeRefused, mail.Enhanced{5, 1, 10}, domain+" accepts no mail (null MX)"))
	}
	mxs = slices.Clone(mxs)
	shuffle(len(mxs), func(i, j int) { mxs[i], mxs[j] = mxs[j], mxs[i] })
	slices.SortStableFunc(mxs, func(a, b *net.MX) int { return int(a.Pref) - int(b.Pref) })
	var names []string
	for i, mx := range mxs {
		name := strings.ToLower(strings.TrimSuffix(mx.Host, "."))
		if name == self {
			// Those of equal preference may stand before it: they go as well.
			for len(names) > 0 && mxs[i-1].Pref == mx.Pref {
				names, i = names[:len(names)-1], i-1
			}
			if len(names) == 0 {
				return nil, &loop
			}
			break
		}
		names = append(names, name) // a "." among others leads nowhere, as any other dead name
	}
	return names[:min(len(names), maxHosts)], nil
}

// addresses looks a host up: as a rule IPv6 and IPv4 in turns, so that a host
// with many addresses of one family that we cannot reach is still reached by
// the other.
func (c *Courier) addresses(ctx context.Context, h host) ([]netip.Addr, error) {
	if h.addr.IsValid() {
		if found := c.o.Family.order([]netip.Addr{h.addr}); len(found) > 0 {
			return found, nil
		}
		return nil, c.o.Family.none(h)
	}
	name := h.name
	if !h.smart {
		name += "." // absolute: no search list
	}
	lookup, cancel := context.WithTimeout(ctx, c.o.Timeouts.Lookup)
	defer cancel()
	found, err := c.o.Resolver.LookupNetIP(lookup, "ip", name)
	for _, family := range []string{"ip6", "ip4"} {
		// A question about both that fails in one family and finds nothing in
		// the other may say that there is none: nobody is failed on that word.
		if len(found) == 0 && notFound(err) {
			found, err = c.o.Resolver.LookupNetIP(lookup, family, name)
		}
	}
	if len(found) == 0 {
		if err == nil {
			err = &net.DNSError{Err: "no address", Name: h.name, IsNotFound: true}
		}
		return nil, fmt.Errorf("deliver: looking up %s: %w", h.name, err)
	}
	if found = c.o.Family.order(found); len(found) == 0 {
		return nil, c.o.Family.none(h)
	}
	return found, nil
}

// parseSmarthost reads host, host:port, address or [address]:port.
func parseSmarthost(s string) (host, error) {
	h := host{name: s, port: "25", smart: true}
	if addr, err := netip.ParseAddr(s); err == nil {
		h.addr, h.name = addr.Unmap(), "["+s+"]"
		return h, nil
	}
	if name, port, err := net.SplitHostPort(s); err == nil {
		h.name, h.port = name, port
	}
	if addr, err := netip.ParseAddr(strings.Trim(h.name, "[]")); err == nil {
		h.addr, h.name = addr.Unmap(), "["+addr.String()+"]"
		return h, nil
	}
	h.name = strings.ToLower(strings.TrimSuffix(h.name, "."))
	if strings.HasPrefix(s, "[") || h.name == "" || h.port == "" || strings.ContainsAny(h.name, " :[]/@") {
		return host{}, fmt.Errorf("deliver: smarthost %q: want host:port", s)
	}
	return h, nil
}

// notFound reports whether the DNS said that there is none, as opposed to
// saying nothing.
func notFound(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound
}

func ptr[T any](v T) *T { return &v }
