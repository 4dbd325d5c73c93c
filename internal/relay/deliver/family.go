package deliver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// A Family says which addresses of a next hop are tried, and which first.
type Family string

// The families. Where both are tried they take turns, so that one of them that
// leads nowhere does not use up all attempts.
const (
	IPv6First Family = "ipv6" // as does the zero value
	IPv4First Family = "ipv4"
	IPv6Only  Family = "ipv6only"
	IPv4Only  Family = "ipv4only"
)

// families are the words of Family. Read-only.
var families = []Family{"", IPv6First, IPv4First, IPv6Only, IPv4Only}

// order puts addresses into the order in which they are tried, each family in
// the order given.
func (f Family) order(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case a.Is4() == (f == IPv4First || f == IPv4Only):
			first = append(first, a)
		case f != IPv4Only && f != IPv6Only:
			second = append(second, a)
		}
	}
	var out []netip.Addr
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}

// none is the error for a host whose addresses are all of the other family.
func (f Family) none(h host) error {
	return fmt.Errorf("deliver: %s: %w", h.name, &net.DNSError{Err: "no address of the family that this relay uses (" + string(f) + ")", Name: h.name, IsNotFound: true})
}

// A sourceDialer connects from one address of each family.
type sourceDialer struct{ v4, v6 net.Dialer }

// DialFrom makes a Dialer that connects from the given addresses, one of each
// family at most; for a family without one the system chooses.
func DialFrom(addrs []netip.Addr) (Dialer, error) {
	d := &sourceDialer{}
	for _, a := range addrs {
		one := &d.v6
		if a = a.Unmap(); a.Is4() {
			one = &d.v4
		}
		switch {
		case !a.IsValid() || a.IsUnspecified() || a.IsMulticast():
			return nil, fmt.Errorf("deliver: %v is no address to connect from", a)
		case one.LocalAddr != nil:
			return nil, errors.New("deliver: two addresses of one family to connect from")
		}
		one.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	return d, nil
}

// DialContext connects from the address of the family of what it connects to.
func (d *sourceDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err == nil && at.Addr().Unmap().Is4() {
		return d.v4.DialContext(ctx, network, address)
	}
	return d.v6.DialContext(ctx, network, address)
}

func (f Family) valid() bool { return slices.Contains(families, f) }
