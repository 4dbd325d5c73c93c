package deliver

import (
	"slices"
	"sync"
	"time"
)

// A pool keeps idle connections, by destination, for a short while. Only a
// connection whose last transaction ended in a clean 2xx gets in; what comes
// out may still be dead, and its user must be ready for that.
type pool struct {
	reuse Reuse
	now   func() time.Time
	count func(idle int) // tells the gauge; called with mu held

	mu     sync.Mutex
	idle   map[string][]*session // guarded by mu; newest last
	total  int                   // guarded by mu
	closed bool                  // guarded by mu
	ending sync.WaitGroup        // connections being said goodbye to by their timer
}

// get takes the newest idle connection to a destination out that is fit for what
// it is wanted for; nil if there is none.
func (p *pool) get(destination string, fit func(*session) bool) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[destination]
	for i := len(list) - 1; i >= 0; i-- {
		s := list[i]
		if !fit(s) {
			continue
		}
		list = slices.Delete(list, i, i+1)
		p.take(destination, list)
		s.timer.Stop()
		if p.now().Sub(s.born) < p.reuse.Age {
			return s
		}
		s.drop()
	}
	return nil
}

// put keeps s for the next message, or ends it.
func (p *pool) put(destination string, s *session) {
	if s.used >= p.reuse.Messages || p.now().Sub(s.born) >= p.reuse.Age || !p.add(destination, s) {
		s.quit()
	}
}

func (p *pool) add(destination string, s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.total >= p.reuse.Total || len(p.idle[destination]) >= p.reuse.PerDestination {
		return false
	}
	p.idle[destination] = append(p.idle[destination], s)
	p.total++
	p.count(p.total)
	s.timer = time.AfterFunc(p.reuse.Idle, func() { p.expire(destination, s) })
	return true
}

// expire ends s if it is still idle.
func (p *pool) expire(destination string, s *session) {
	if p.remove(destination, s) {
		defer p.ending.Done()
		s.quit()
	}
}

// remove takes s out and reports whether it was there; then p.ending counts it.
func (p *pool) remove(destination string, s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[destination]
	for i := range list {
		if list[i] == s {
			p.take(destination, append(list[:i:i], list[i+1:]...))
			p.ending.Add(1)
			return true
		}
	}
	return false
}

// take stores the list of a destination from which one was taken. Callers hold mu.
func (p *pool) take(destination string, list []*session) {
	if len(list) == 0 {
		delete(p.idle, destination)
	} else {
		p.idle[destination] = list
	}
	p.total--
	p.count(p.total)
}

// close ends all idle connections and waits for those that are ending. Nothing
// is kept afterwards.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []*session
	for _, list := range p.idle {
		all = append(all, list...)
	}
	clear(p.idle)
	p.total = 0
	p.count(0)
	p.mu.Unlock()
	for _, s := range all {
		s.timer.Stop()
		s.drop()
	}
	p.ending.Wait()
}
