package deliver

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// health remembers which smarthosts could not be reached a moment ago, or
// closed a session before they asked for the message. They
// are tried last, never left out: the memory saves a timeout a message, and
// being wrong costs nothing but the order.
type health struct {
	mu   sync.Mutex
	down map[string]time.Time // guarded by mu; host and port → until; bounded by the configured smarthosts
}

// order is hosts by preference, those of one preference in an order that
// shuffle makes, and those that are down at the end.
func (h *health) order(hosts []host, now time.Time, shuffle func(n int, swap func(i, j int))) []host {
	if len(hosts) == 1 {
		return hosts
	}
	out := slices.Clone(hosts)
	shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortStableFunc(out, func(a, b host) int {
		return cmp.Or(cmp.Compare(h.last(a, now), h.last(b, now)), cmp.Compare(a.pref, b.pref))
	})
	return out
}

// last is 1 for a host that is down, else 0. Callers hold mu.
func (h *health) last(x host, now time.Time) int {
	if now.Before(h.down[x.name+":"+x.port]) {
		return 1
	}
	return 0
}

// note records whether a smarthost is of use.
func (h *health) note(x host, up bool, now time.Time) {
	if !x.smart {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if up {
		delete(h.down, x.name+":"+x.port)
	} else {
		h.down[x.name+":"+x.port] = now.Add(downFor)
	}
}
