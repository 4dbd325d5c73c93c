package smtpd

import (
	"net/netip"
	"sync"

	"example.edu/gatepost/internal/register/policy"
)

// A crowding is what there is no more room for.
type crowding uint8

const (
	roomForAll       crowding = iota
	fullRelay                 // all clients together
	fullAddress               // this address
	fullRegistration          // all machines of this registration
)

// A crowd counts sessions, in all, for each address and for each registration.
// Those that may not send have a quarter of the places between them: whatever a
// campus full of scanners and lost laptops does, the registered get in.
type crowd struct {
	most, mostEach, mostFile int

	mu        sync.Mutex // guards what follows
	all       int
	strangers int // of all
	each      map[netip.Addr]int
	files     map[string]int // by path of the registration
}

func newCrowd(l Limits) *crowd {
	return &crowd{most: l.Sessions, mostEach: l.SessionsPerAddress, mostFile: l.SessionsPerRegistration,
		each: map[netip.Addr]int{}, files: map[string]int{}}
}

// enter takes a place for the client of v, or says of what there is none.
func (c *crowd) enter(v policy.Verdict) (leave func(), full crowding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	file, stranger := "", 1
	if v.Standing == policy.Registered {
		file, stranger = pathOf(v), 0
	}
	switch {
	case c.each[v.Addr] >= c.mostEach:
		return nil, fullAddress
	case file != "" && c.files[file] >= c.mostFile:
		return nil, fullRegistration
	case c.all >= c.most || c.strangers+stranger > max(1, c.most/4):
		return nil, fullRelay
	}
	c.count(v.Addr, file, stranger, 1)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.count(v.Addr, file, stranger, -1)
	}, roomForAll
}

// count adds n sessions, and forgets who has none. The caller holds mu.
func (c *crowd) count(a netip.Addr, file string, stranger, n int) {
	c.all += n
	c.strangers += n * stranger
	if c.each[a] += n; c.each[a] == 0 {
		delete(c.each, a)
	}
	if file == "" {
		return
	}
	if c.files[file] += n; c.files[file] == 0 {
		delete(c.files, file)
	}
}
