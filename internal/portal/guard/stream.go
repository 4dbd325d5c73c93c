package guard

import (
	"context"
	"net/http"
	"sync"
	"time"

	"example.edu/gatepost/internal/config"
)

// How long one write of a stream may take, and how long a stream lives before
// the browser has to ask again: so a sign-in that has ended ends it, too.
const (
	streamPatience = 15 * time.Second
	streamLife     = 30 * time.Minute
)

// streams counts the pages that are being kept up to date.
type streams struct {
	most, mostOfOne int

	mu   sync.Mutex
	all  int            // guarded by mu
	each map[string]int // guarded by mu; by person, or by address of nobody
}

func newStreams(l config.PortalLimits) *streams {
	return &streams{most: l.Streams, mostOfOne: l.StreamsPerPerson, each: map[string]int{}}
}

func (s *streams) enter(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.most || s.each[name] >= s.mostOfOne {
		return false
	}
	s.all++
	s.each[name]++
	return true
}

func (s *streams) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.each[name]--; s.each[name] == 0 {
		delete(s.each, name)
	}
}

// Stream is for a handler that goes on and on (server-sent events): it may last
// longer than other answers, half an hour at most, and its number is bounded.
// The handler must end with the request's context, and be behind Handler.
func (g *Guard) Stream(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "person " + g.o.Person(r)
		if name == "person " {
			name = "address " + block(Client(r.Context()))
		}
		if !g.streams.enter(name) {
			g.metrics.refused.WithLabelValues("streams").Inc()
			w.Header().Set("Retry-After", "60")
			http.Error(w, "Too many pages are kept up to date at this time; this one is as it was when it was loaded.", http.StatusTooManyRequests)
			return
		}
		defer g.streams.leave(name)
		g.metrics.streams.Inc()
		defer g.metrics.streams.Dec()
		// The answer's deadline ends with this context; only the connection's
		// own end, and the portal's, still count.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), streamLife)
		defer cancel()
		if p, ok := r.Context().Value(passKey{}).(*pass); ok {
			stop := context.AfterFunc(p.whole, cancel)
			defer stop()
			p.answer.stream = true
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// A pass is what the guard knows of a request that it has let through.
type pass struct {
	whole  context.Context // without the answer's deadline
	answer *answer
}

type passKey struct{}
