package smtpd

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"example.edu/gatepost/internal/mail"
)

// How many refused connections are logged, a line each. A storm of them must
// not fill the disk, nor take the time of the clients that are served. The
// refusals of sessions are bounded by the error budget.
const (
	refusalLines  = 1000 // in each
	refusalWindow = 10 * time.Second

	refusalMoment = 100 * time.Millisecond // for the kernel to take a refusal, in a storm
)

// A refusalLog bounds the lines. Its methods may be called from any goroutine.
type refusalLog struct {
	mu     sync.Mutex // guards what follows
	since  time.Time  // beginning of the window
	lines  int        // in it
	missed int        // connections without a line, in it
}

// due reports whether there may be a line now. missed is how many had none in
// the window before, to be told once.
func (l *refusalLog) due(now time.Time) (missed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := now.Sub(l.since); d >= refusalWindow || d < 0 {
		missed = l.missed
		l.since, l.lines, l.missed = now, 0, 0
	}
	if l.lines == refusalLines {
		l.missed++
		return 0, false
	}
	l.lines++
	return missed, true
}

// mayLog says whether one more connection that got no session is logged, and
// tells of those that were not. If not, there is a storm of them.
func (s *Server) mayLog() bool {
	missed, ok := s.refusals.due(s.now())
	if ok && missed > 0 {
		s.log.Warn("more connections were refused than are logged one by one", "event", "smtp.storm", "count", missed)
	}
	return ok
}

// logRefusal writes the one line of a refusal.
func (s *Server) logRefusal(who caller, stage string, r reply, from *mail.Address) {
	var sender slog.Attr // left out where there is none
	if from != nil {
		sender = slog.String("from", from.String())
	}
	log := s.logger(who)
	log.LogAttrs(context.Background(), slog.LevelInfo, "refused", slog.String("event", "smtp.refused"),
		slog.Any("client", who.addr), slog.String("stage", stage), slog.Int("code", int(r.code)), slog.String("reason", r.word), sender)
}
