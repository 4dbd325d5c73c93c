package fleet

import (
	"math"
	"time"

	"example.edu/gatepost/internal/status"
)

// How much is remembered of a relay: a point each quarter of a minute, for a
// day; 700 KB.
const (
	Step   = 15 * time.Second
	Memory = 24 * time.Hour
	points = int(Memory / Step)
)

// A Point is what a relay said at one time. The counts are since its start.
type Point struct {
	At      time.Time
	Up      bool      // it answered; else nothing below is known
	Started time.Time // the relay itself

	Queue    int // messages
	Held     int // transactions
	Sessions int

	Accepted, Refused            int64 // messages; messages and connections
	Delivered, Deferred, Bounced int64 // recipients
}

func pointOf(r *status.Report, now time.Time) Point {
	return Point{
		At: now, Up: true, Started: r.Started,
		Queue: r.Queue.Entries, Held: r.Queue.Depth["held"], Sessions: r.Relay.Sessions,
		Accepted: r.Relay.Accepted, Refused: r.Relay.Refused,
		Delivered: r.Queue.Delivered, Deferred: r.Queue.Deferred, Bounced: r.Queue.Bounced,
	}
}

// A ring holds the newest points, one for each Step of the clock: of several in
// one the last with an answer. The zero value is ready.
type ring struct {
	all  []Point // in order from next on, if it is full
	next int     // where the oldest is, and the next one goes
}

func (g *ring) add(p Point) {
	if n := len(g.all); n > 0 {
		last := &g.all[(g.next+n-1)%n]
		if last.At.Truncate(Step).Equal(p.At.Truncate(Step)) {
			if p.Up || !last.Up {
				*last = p
			}
			return
		}
	}
	if len(g.all) < points {
		g.all = append(g.all, p)
		return
	}
	g.all[g.next] = p
	g.next = (g.next + 1) % points
}

func (g *ring) since(t time.Time) []Point {
	var out []Point
	for i := range g.all {
		if p := g.all[(g.next+i)%len(g.all)]; !p.At.Before(t) {
			out = append(out, p)
		}
	}
	return out
}

// A Count is one of the counts of a Point.
type Count func(Point) int64

// Accepted is a Count, and so are those that follow.
func Accepted(p Point) int64 { return p.Accepted }

// Refused counts messages and connections.
func Refused(p Point) int64 { return p.Refused }

// Delivered counts recipients, as Deferred and Bounced do.
func Delivered(p Point) int64 { return p.Delivered }

// Deferred counts attempts.
func Deferred(p Point) int64 { return p.Deferred }

// Bounced counts those that were given back.
func Bounced(p Point) int64 { return p.Bounced }

// Rates is how much was counted a minute, in n spans of equal length from from
// on; NaN where nobody knows. The count of a relay that was started anew begins
// at 0. What was counted while nobody asked is spread over that time.
func Rates(list []Point, what Count, from time.Time, span time.Duration, n int) []float64 {
	sums, known := make([]float64, n), make([]time.Duration, n)
	var before *Point
	for i := range list {
		p := &list[i]
		if !p.Up {
			continue
		}
		if b := before; b != nil && p.At.After(b.At) {
			more := what(*p) - what(*b)
			if !p.Started.Equal(b.Started) || more < 0 {
				more = what(*p)
			}
			spread(sums, known, float64(more), b.At.Sub(from), p.At.Sub(from), span)
		}
		before = p
	}
	for i := range sums {
		if known[i] < span/2 && known[i] < Step {
			sums[i] = math.NaN()
			continue
		}
		sums[i] *= float64(time.Minute) / float64(known[i])
	}
	return sums
}

// spread adds an amount to the spans that lie between two times, each by its
// part.
func spread(sums []float64, known []time.Duration, amount float64, begin, end, span time.Duration) {
	whole := float64(end - begin)
	for i := max(0, int(begin/span)); i < len(sums) && time.Duration(i)*span < end; i++ {
		part := min(end, time.Duration(i+1)*span) - max(begin, time.Duration(i)*span)
		if part > 0 {
			sums[i] += amount * float64(part) / whole
			known[i] += part
		}
	}
}

// A Level is one of the numbers of a Point that go up and down.
type Level func(Point) int

// Queued is a Level: messages in the queue.
func Queued(p Point) int { return p.Queue }

// Held is a Level: of these, what attempts are stopped for.
func Held(p Point) int { return p.Held }

// Levels is the highest that a number was, in n spans of equal length from from
// on; NaN where nobody knows.
func Levels(list []Point, what Level, from time.Time, span time.Duration, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = math.NaN()
	}
	for _, p := range list {
		if i := int(p.At.Sub(from) / span); p.Up && !p.At.Before(from) && i < n {
			if v := float64(what(p)); math.IsNaN(out[i]) || v > out[i] {
				out[i] = v
			}
		}
	}
	return out
}

// Add is the sum of the values of several relays; where nobody knows one, that
// of the others.
func Add(lists ...[]float64) []float64 {
	var out []float64
	for _, list := range lists {
		for i, v := range list {
			if i == len(out) {
				out = append(out, math.NaN())
			}
			switch {
			case math.IsNaN(v):
			case math.IsNaN(out[i]):
				out[i] = v
			default:
				out[i] += v
			}
		}
	}
	return out
}
