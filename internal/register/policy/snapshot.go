package policy

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"example.edu/gatepost/internal/register/registration"
)

// A Standing is what the register says of a client address.
type Standing uint8

// The standings, from least to most welcome.
const (
	NoRegister   Standing = iota // there is no snapshot yet
	OffCampus                    // not the university's address
	Blocked                      // by the register or by an operator
	Unregistered                 // on campus, but nobody registered it
	Expired                      // registered, and the date has passed
	Registered                   // live
)

// String names the standing for logs and as a metric label.
func (s Standing) String() string {
	switch s {
	case NoRegister:
		return "no-register"
	case OffCampus:
		return "off-campus"
	case Blocked:
		return "blocked"
	case Unregistered:
		return "unregistered"
	case Expired:
		return "expired"
	case Registered:
		return "registered"
	}
	return "unknown"
}

// A Verdict is the register's answer for one address at one time. It stays
// valid when the snapshot is replaced.
type Verdict struct {
	Standing     Standing
	Addr         netip.Addr
	Registration *registration.Registration // set for Expired and Registered, and for Blocked where there is one
	Host         *registration.Host         // the entry of Registration for Addr
	Block        *registration.Block        // set for Blocked
	Commit       string                     // the commit the answer is from
}

// An Entry is one registered address: the request and its line for the
// address. Both are shared and must not be changed.
type Entry struct {
	Registration *registration.Registration
	Host         *registration.Host
}

// A Holding says who holds a network, and which file says so.
type Holding struct {
	registration.Network
	File string
}

// A defined department says which file defines it.
type defined struct {
	*registration.Department
	file string
}

// A Snapshot is the immutable, indexed register at one commit. It is replaced,
// never edited; any number of goroutines may read it. All methods may be
// called on nil, which is the snapshot before there is one.
type Snapshot struct {
	commit      string
	hosts       *bart.Table[Entry]        // single addresses
	campus      *bart.Table[netip.Prefix] // each prefix maps to itself
	networks    *bart.Table[*Holding]
	departments map[string]defined
	portals     []registration.Account  // in order of the files that name them
	blocks      *bart.Table[*blockNode] // register and local together
	register    []registration.Block    // the register's blocks, by prefix and path
	local       []registration.Block    // break-glass blocks

	// Where the hosts were made of another snapshot's: its id, and all the
	// addresses that may differ. Blocks are no part of it.
	id      *byte
	parent  *byte
	touched []netip.Addr
}

// Lookup says how addr stands at now. It takes no lock and allocates nothing.
func (s *Snapshot) Lookup(addr netip.Addr, now time.Time) Verdict {
	addr = addr.Unmap().WithZone("")
	if s == nil {
		return Verdict{Standing: NoRegister, Addr: addr}
	}
	v := Verdict{Addr: addr, Commit: s.commit}
	entry, registered := s.hosts.Lookup(addr)
	v.Registration, v.Host = entry.Registration, entry.Host
	v.Block = s.Block(addr, now)
	switch {
	case v.Block != nil: // first: a block beats a registration, always
		v.Standing = Blocked
	case registered && now.Before(entry.Registration.Expires):
		v.Standing = Registered
	case registered:
		v.Standing = Expired
	case s.OnCampus(addr):
		v.Standing = Unregistered
	default:
		v.Standing = OffCampus
	}
	return v
}

// Commit is the commit that the snapshot was built from.
func (s *Snapshot) Commit() string {
	if s == nil {
		return ""
	}
	return s.commit
}

// Len is the number of registered addresses, live, blocked or expired.
func (s *Snapshot) Len() int {
	if s == nil {
		return 0
	}
	return s.hosts.Size()
}

// Find is the entry of a registered address, whatever its standing.
func (s *Snapshot) Find(addr netip.Addr) (Entry, bool) {
	if s == nil {
		return Entry{}, false
	}
	return s.hosts.Lookup(addr.Unmap().WithZone(""))
}

// All yields every registered address, live, blocked or expired, in order.
func (s *Snapshot) All() iter.Seq2[netip.Addr, Entry] {
	return func(yield func(netip.Addr, Entry) bool) {
		if s == nil {
			return
		}
		for p, e := range s.hosts.AllSorted() {
			if !yield(p.Addr(), e) {
				return
			}
		}
	}
}

// OnCampus reports whether addr lies in the university's address space.
func (s *Snapshot) OnCampus(addr netip.Addr) bool {
	return s != nil && s.campus.Contains(addr.Unmap())
}

// IsPortal reports whether a is an account that the portal opens requests as.
func (s *Snapshot) IsPortal(a Author) bool {
	return s != nil && slices.ContainsFunc(s.portals, func(p registration.Account) bool {
		return a.ID != 0 && p.ID == a.ID || a.ID == 0 && a.Login != "" && strings.EqualFold(p.GitHub, a.Login)
	})
}

// Campus yields the university's address space, in order.
func (s *Snapshot) Campus() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		if s == nil {
			return
		}
		for p := range s.campus.AllSorted() {
			if !yield(p) {
				return
			}
		}
	}
}

// Holder says who holds addr: the most specific network decides.
func (s *Snapshot) Holder(addr netip.Addr) (Holding, bool) {
	if s == nil {
		return Holding{}, false
	}
	h, ok := s.networks.Lookup(addr.Unmap())
	if !ok {
		return Holding{}, false
	}
	return *h, true
}

// Networks yields every network with its holder, in order of address.
func (s *Snapshot) Networks() iter.Seq[Holding] {
	return func(yield func(Holding) bool) {
		if s == nil {
			return
		}
		for _, h := range s.networks.AllSorted() {
			if !yield(*h) {
				return
			}
		}
	}
}

// Department is the department with that id, or nil. It must not be changed.
func (s *Snapshot) Department(id string) *registration.Department {
	if s == nil {
		return nil
	}
	return s.departments[id].Department
}

// Departments yields every department, in order of id.
func (s *Snapshot) Departments() iter.Seq[*registration.Department] {
	return func(yield func(*registration.Department) bool) {
		if s == nil {
			return
		}
		for _, id := range slices.Sorted(maps.Keys(s.departments)) {
			if !yield(s.departments[id].Department) {
				return
			}
		}
	}
}
