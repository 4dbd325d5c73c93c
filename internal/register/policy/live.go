package policy

import (
	"sync"
	"sync/atomic"

	"example.edu/gatepost/internal/register/registration"
)

// Live holds the snapshot in force. The zero value is ready and holds none.
// Readers Load once a transaction and keep what they got.
//
// It also joins the register with the break-glass blocks, which come from
// another hand at another time, so that neither can undo the other.
type Live struct {
	current atomic.Pointer[Snapshot]

	mu      sync.Mutex           // serialises writers; readers of current never take it
	local   []registration.Block // guarded by mu
	changed chan struct{}        // guarded by mu; closed at the next change; nil until asked for
}

// Load is the snapshot in force, nil if there is none yet. It takes no lock.
func (l *Live) Load() *Snapshot { return l.current.Load() }

// Store puts s in force, with the blocks that SetBlocks gave.
func (l *Live) Store(s *Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.local) > 0 {
		s = s.WithBlocks(l.local)
	}
	l.put(s)
}

// SetBlocks puts local in force over the register, in place of the break-glass
// blocks before, and keeps them over every later Store.
func (l *Live) SetBlocks(local []registration.Block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.local = append([]registration.Block(nil), local...)
	l.put(l.current.Load().WithBlocks(l.local))
}

// put stores s and then wakes: whoever wakes up sees s. The caller holds mu.
func (l *Live) put(s *Snapshot) {
	l.current.Store(s)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Changed is closed at the next change. Ask for it before Load, and no change
// is missed:
//
//	for {
//		changed := live.Changed()
//		use(live.Load())
//		<-changed // or ctx.Done()
//	}
func (l *Live) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}
