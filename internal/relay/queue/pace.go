package queue

import (
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

// How a destination's window moves.
const (
	windowStart  = 2                // attempts at the same time to a destination that nothing is known of
	backoffBase  = 30 * time.Second // a destination that fails as a whole: from base, doubling, to limit
	backoffLimit = 15 * time.Minute
	pauseBase    = time.Second // one that is busy at one attempt at a time: the same
	pauseLimit   = 5 * time.Minute
)

// A pace is how many attempts a destination may have under way, and when it may
// have none. It is learnt from what becomes of them, as TCP learns of a path:
// a success opens the window by one until the destination was ever busy, and
// then more slowly; a failure closes it by half, once for all the attempts that
// were under way together. So one connection that breaks among sixteen that
// work costs eight slots for a moment, and not the destination.
//
// It fails as a whole when as many attempts in a row as the window had reached
// nobody. It is tried then by one attempt at a time, further and further apart.
// A destination that answers that it is busy has not failed: its window closes,
// and only at one attempt at a time it is paused.
type pace struct {
	limit  int // of window
	window int
	calm   int    // below it the window opens by one for each success; above, for each window of them
	grown  int    // successes since the window last opened
	round  uint32 // how often it was closed: who began before says nothing new

	missed int // attempts in a row that reached nobody
	cohort int // how many of these make a failure

	failures     int       // of the whole, in a row
	pauses       int       // in a row
	blockedUntil time.Time // no attempt before
}

func newPace(limit int) pace { return pace{limit: limit, window: min(windowStart, limit), calm: limit} }

// slots is how many attempts may be under way: one, as long as the destination
// has not recovered from failing as a whole.
func (p *pace) slots() int {
	if p.failures > 0 {
		return 1
	}
	return p.window
}

// How many windows are remembered of destinations that are owed nothing, and for
// how long: a next hop that took sixteen at a time a minute ago need not be
// asked anew.
const (
	restedMost = 4096
	restedFor  = 10 * time.Minute
)

// rested are the windows of destinations that are owed nothing, by name.
type rested map[string]struct {
	pace
	at time.Time
}

// keep remembers the window of a destination, if it is wide, in the place of any
// other if need be.
func (r rested) keep(name string, p pace, now time.Time) {
	if p.window <= windowStart || p.failures > 0 {
		return
	}
	if len(r) >= restedMost {
		for other := range r {
			delete(r, other)
			break
		}
	}
	kept := r[name]
	kept.pace, kept.at = p, now
	r[name] = kept
}

// pace is that of a destination that is owed something again.
func (r rested) pace(name string, limit int, now time.Time) pace {
	kept, ok := r[name]
	delete(r, name)
	if !ok || now.Sub(kept.at) > restedFor {
		return newPace(limit)
	}
	return kept.pace
}

// A verdict is what an attempt says of its destination.
type verdict uint8

const (
	unsaid  verdict = iota // nothing: what went wrong was ours
	reached                // it answers, whatever it thinks of the message
	busy                   // it answers that this is too much
	missed                 // nobody was reached
)

// learn takes in what an attempt says that began in a round, when so many were
// under way, itself included.
func (p *pace) learn(v verdict, round uint32, running int, now time.Time, jitter func(time.Duration) time.Duration) {
	switch v {
	case reached:
		p.missed, p.failures, p.pauses, p.blockedUntil = 0, 0, 0, time.Time{}
		if round == p.round && running >= p.window && p.window < p.limit { // what is not used up need not grow
			if p.grown++; p.window < p.calm || p.grown >= p.window {
				p.window, p.grown = p.window+1, 0
			}
		}
	case busy:
		p.missed, p.failures = 0, 0
		if round == p.round && p.close() {
			p.pauses++
			p.block(pauseBase, pauseLimit, p.pauses, now, jitter)
		}
	case missed:
		if now.Before(p.blockedUntil) {
			return // others of the same round found out before
		}
		if p.missed == 0 {
			p.cohort = p.window
		}
		p.missed++
		if round == p.round {
			p.close()
		}
		if p.failures > 0 || p.missed >= p.cohort {
			p.failures++
			p.window, p.calm = min(windowStart, p.limit), p.limit // it begins anew
			p.block(backoffBase, backoffLimit, p.failures, now, jitter)
		}
	}
}

// close halves the window, and tells whether it was at its end already.
func (p *pace) close() (shut bool) {
	shut = p.window == 1
	p.window = max(p.window/2, 1)
	p.calm, p.grown = p.window, 0
	p.round++
	return shut
}

// pardon lets a destination be tried at once, whatever it did before.
func (p *pace) pardon() { p.blockedUntil = time.Time{} }

// block lets no attempt begin for a time that doubles from base to limit.
func (p *pace) block(base, limit time.Duration, n int, now time.Time, jitter func(time.Duration) time.Duration) {
	p.blockedUntil = now.Add(jitter(min(base<<min(n-1, 20), limit)))
}

// whatWasSaid is the verdict of an attempt's results. ours: what went wrong may
// be no fault of the destination.
func whatWasSaid(results []mail.Result, ours bool) verdict {
	v := busy
	for _, r := range results {
		switch {
		case r.Outcome == mail.Delivered || r.Outcome == mail.Failed, r.RemoteMTA != "" && !tooMuch(r.Status):
			return reached
		case r.RemoteMTA == "":
			v = missed
		}
	}
	if len(results) == 0 {
		v = missed
	}
	if v == missed && ours {
		return unsaid
	}
	return v
}

// tooMuch tells whether a next hop says that it is busy, or that we send it too
// much at the same time, rather than something of a message: 421 (RFC 5321
// §3.8), X.3.2 and X.4.5 (RFC 3463), or in words. A greylist says neither.
func tooMuch(s mail.Status) bool {
	switch {
	case s.Code == mail.CodeShutdown:
		return true
	case !s.Code.Temporary():
		return false
	case s.Enhanced[1] == 3 && s.Enhanced[2] == 2, s.Enhanced[1] == 4 && s.Enhanced[2] == 5:
		return true
	}
	text := strings.ToLower(s.Text)
	return slices.ContainsFunc(busyWords[:], func(words string) bool { return strings.Contains(text, words) })
}

var busyWords = [...]string{ // read-only
	"too many connections", "too many concurrent", "too many sessions", "connection limit", "connection rate",
	"concurrent connection", "concurrency limit", "rate limit", "rate-limit", "throttl", "too fast", "server busy",
}
