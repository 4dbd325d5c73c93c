package deliver

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"example.edu/gatepost/internal/mail"
)

// self knows where this relay listens itself: a connection to such a place
// would bring the message back. RFC 5321 §5.1, §6.3. It is safe for concurrent
// use.
type self struct {
	ports      map[uint16]bool         // listened on at some address
	at         map[netip.AddrPort]bool // listened on at this address
	everywhere map[uint16]bool         // listened on at every address of this machine
	interfaces func() ([]net.Addr, error)

	mu    sync.Mutex
	own   map[netip.Addr]bool // addresses of this machine; guarded by mu
	until time.Time           // when they are looked up again; guarded by mu
}

// ownFor is how long this machine's addresses are believed.
const ownFor = 30 * time.Second

// newSelf takes listen addresses as net.Listen does; one without a literal
// address counts for every address.
func newSelf(listeners []string, interfaces func() ([]net.Addr, error)) *self {
	s := &self{ports: map[uint16]bool{}, at: map[netip.AddrPort]bool{}, everywhere: map[uint16]bool{}, interfaces: interfaces}
	for _, l := range listeners {
		at, err := netip.ParseAddrPort(l)
		if err != nil { // ":25"
			_, port, found := strings.Cut(l, ":")
			if at, err = netip.ParseAddrPort("[::]:" + port); !found || err != nil {
				continue
			}
		}
		s.ports[at.Port()] = true
		if at.Addr().IsUnspecified() {
			s.everywhere[at.Port()] = true
		} else {
			s.at[netip.AddrPortFrom(at.Addr().Unmap(), at.Port())] = true
		}
	}
	return s
}

// is reports whether a connection to a host's address would end here.
func (s *self) is(h host, addr netip.Addr, now time.Time) bool {
	at, err := netip.ParseAddrPort(where(h, addr))
	switch {
	case err != nil || !s.ports[at.Port()]:
		return false
	case addr.IsUnspecified(): // by which the kernel means this machine
		return true
	case s.at[at]:
		return true
	case !s.everywhere[at.Port()]:
		return false
	}
	return addr.IsLoopback() || s.owns(addr, now)
}

// owns reports whether this machine has an address. If that cannot be found
// out it has none: the name in EHLO is the second look.
func (s *self) owns(addr netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now.Before(s.until) {
		s.own, s.until = map[netip.Addr]bool{}, now.Add(ownFor)
		list, _ := s.interfaces()
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				s.own[p.Addr().Unmap().WithZone("")] = true
			}
		}
	}
	return s.own[addr.WithZone("")]
}

// names reports whether a peer's reply to EHLO gives our own name: we talk to
// ourselves, by whatever way. On a port that no MTA listens on it may be a
// filter beside us, which often has the name of the machine.
func (s *self) names(hostname string, h host, r reply) bool {
	name, _, _ := strings.Cut(strings.TrimSpace(r.lines[0]), " ")
	if !strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(hostname, ".")) {
		return false
	}
	at, err := netip.ParseAddrPort("[::]:" + h.port)
	return err == nil && (at.Port() == 25 || s.ports[at.Port()])
}

// loops is the result for a host that is this relay itself: of a smarthost it
// is our own misconfiguration, and the mail waits until it is mended.
func loops(h host, how string) mail.Result {
	r := failed(mail.CodeFailed, mail.Enhanced{5, 4, 6}, "mail would come back to this relay: "+h.name+" is this relay itself, "+how)
	if h.smart {
		r.Outcome, r.Status = mail.Deferred, temporary(4, 6, r.Status.Text)
	}
	return r
}

// looped reports whether a result says that a host which a domain names is
// ourselves. Hosts of no better preference are not tried then: RFC 5321 §5.1.
func looped(r *mail.Result) bool {
	return r.RemoteMTA == "" && r.Outcome == mail.Failed && r.Status.Enhanced == mail.Enhanced{5, 4, 6}
}
