package guard

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxForwarded is how long a chain of web servers may be.
const maxForwarded = 16

type visitorKey struct{}

// Client is the address that a request comes from, as the guard in front of the
// handler found it; the zero Addr without one.
func Client(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(visitorKey{}).(netip.Addr)
	return a
}

// peer is the address of the connection; the zero Addr if it has none.
func peer(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap().WithZone("")
}

func (g *Guard) isProxy(a netip.Addr) bool {
	return slices.ContainsFunc(g.o.Proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// client is where a request comes from, and whether it came over https. Of a
// chain of addresses the last one counts that is no web server of ours: what
// stands before it may be made up. A chain that makes no sense says nothing.
func (g *Guard) client(r *http.Request) (from netip.Addr, https bool) {
	from, https = peer(r), r.TLS != nil
	if !g.isProxy(from) {
		return from, https
	}
	// Only where all of a chain say that it was not encrypted is that believed:
	// many web servers in front do not say, and a second one may say it of itself.
	proto := strings.ToLower(strings.Join(r.Header.Values("X-Forwarded-Proto"), ","))
	https = strings.TrimSpace(proto) == "" || strings.Contains(proto, "https")
	chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(chain) - 1; i >= 0 && len(chain)-i <= maxForwarded; i-- {
		a, ok := forwarded(chain[i])
		if !ok {
			break
		}
		if from = a; !g.isProxy(a) {
			break
		}
	}
	return from, https
}

// forwarded reads one address of a chain, with or without a port.
func forwarded(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

// block is what shares a budget: an IPv4 address, or a /64 of IPv6, which one
// machine can have all of.
func block(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
