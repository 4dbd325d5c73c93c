package deliver

import (
	"sync"
	"time"
)

// health remembers which smarthosts could not be reached a moment ago. They
// are tried last, never left out: the memory saves a timeout a message, and
// being wrong costs nothing but the order.
type health struct {
	mu   sync.Mutex
	down map[string]time.Time // guarded by mu; host and port → until; bounded by the configured smarthosts
}

// order is hosts with those that are down at the end.
func (h *health) order(hosts []host, now time.Time) []host {
	h.mu.Lock()
	defer h.mu.Unlock()
	up, down := make([]host, 0, len(hosts)), []host(nil)
	for _, x := range hosts {
		if now.Before(h.down[x.name+":"+x.port]) {
			down = append(down, x)
		} else {
			up = append(up, x)
		}
	}
	return append(up, down...)
}

// note records whether a smarthost could be reached.
func (h *health) note(x host, reached bool, now time.Time) {
	if !x.smart {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if reached {
		delete(h.down, x.name+":"+x.port)
	} else {
		h.down[x.name+":"+x.port] = now.Add(downFor)
	}
}
