package brake

import (
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/axiomhq/hyperloglog"

	"example.edu/gatepost/internal/mail"
)

const (
	places    = 12              // of a window
	inHour    = 5 * time.Minute // a place of the window of an hour
	inDay     = 2 * time.Hour   // a place of the window of a day
	history   = 7               // days
	bodies    = 6               // that are told apart at one time
	clients   = 64              // machines of a registration; the schema allows no more
	precision = 12              // of a sketch: 4 KiB at most, 1.6 % off
)

// A window counts what happened in the last places spans of time, to the span.
type window struct {
	newest int64 // number of the newest span counted
	n      [places]uint32
}

func (w *window) add(now time.Time, span time.Duration, n int) {
	w.move(now.UnixNano() / int64(span))
	c := &w.n[w.newest%places]
	*c = uint32(min(int64(*c)+int64(n), math.MaxUint32))
}

// move forgets what is too old at a span. One before the newest, of a clock that
// was set back, counts as the newest if it is close, and else begins anew.
func (w *window) move(span int64) {
	switch ahead := span - w.newest; {
	case ahead < 0 && ahead >= -1:
		return
	case ahead < 0 || ahead >= places:
		w.n = [places]uint32{}
	default:
		for s := w.newest + 1; s <= span; s++ {
			w.n[s%places] = 0
		}
	}
	w.newest = span
}

// take takes out of w what o has counted and is a part of it.
func (w *window) take(o *window, now time.Time, span time.Duration) {
	v, number := *o, now.UnixNano()/int64(span)
	v.move(number)
	w.move(number)
	for i := range w.n {
		w.n[i] -= min(w.n[i], v.n[i])
	}
}

func (w *window) sum(now time.Time, span time.Duration) (total int) {
	v := *w
	v.move(now.UnixNano() / int64(span))
	for _, n := range v.n {
		total += int(n)
	}
	return total
}

// A sketch counts different things, of which it sees hashes, in bounded memory.
// The zero sketch is empty.
type sketch struct{ s *hyperloglog.Sketch }

func (k *sketch) add(hash uint64) {
	if k.s == nil {
		k.s, _ = hyperloglog.NewSketch(precision, true) // fails for a precision that is none
	}
	k.s.InsertHash(hash)
}

func (k sketch) count() int {
	if k.s == nil {
		return 0
	}
	return int(k.s.Estimate())
}

// A repeated is one body, and who got it. Most bodies go to one recipient, and
// then there is no sketch.
type repeated struct {
	digest, first uint64
	others        sketch
}

func (r repeated) count() int {
	if r.digest == 0 {
		return 0
	}
	return max(1, r.others.count())
}

// A tracker is what is known of one registration.
type tracker struct {
	state    State
	client   Client // the newest
	machines []Machine
	touched  int64     // Unix seconds
	let      time.Time // when a message was let through last, while slowed
	accepted window

	hour              int64  // number of the clock hour of refused
	refused, refusedB sketch // different messages, of that hour and the one before

	day    int64 // number of the day (UTC) of today
	today  sketch
	base   uint32          // recipients of today that were counted before a restart
	days   [history]uint32 // recipients of the days before, yesterday's first
	known  bool            // there was a day before
	bodies [bodies]repeated

	results
}

// results are what next hops said of recipients.
type results struct{ delivered, bounced, spam *window } // nil: none

// turn begins a new hour or day where the clock has.
func (t *tracker) turn(now time.Time) {
	t.touched = now.Unix()
	if hour := now.Unix() / 3600; hour != t.hour {
		t.refusedB = sketch{}
		if hour == t.hour+1 {
			t.refusedB = t.refused
		}
		t.hour, t.refused = hour, sketch{}
	}
	day := now.Unix() / 86400
	switch passed := day - t.day; {
	case passed == 0:
		return
	case t.day == 0:
	case passed > 0 && passed <= history:
		copy(t.days[passed:], t.days[:])
		clear(t.days[:passed])
		t.days[passed-1] = uint32(t.recipients())
		t.known = true
	default: // long ago, or the clock was set back
		t.days, t.known = [history]uint32{}, false
	}
	if t.state.Step == Free {
		t.machines = nil
	}
	t.day, t.base, t.today, t.bodies = day, 0, sketch{}, [bodies]repeated{}
}

// recipients are the different ones of today, or a few less after a restart.
func (t *tracker) recipients() int { return max(int(t.base), t.today.count()) }

// met notes which machine it was.
func (t *tracker) met(c Client) {
	t.client = c
	i := slices.IndexFunc(t.machines, func(m Machine) bool { return m.Addr == c.Addr })
	switch {
	case i >= 0:
		t.machines[i].Messages++
	case len(t.machines) < clients:
		t.machines = append(t.machines, Machine{c.Addr, 1})
	}
}

// took notes an accepted message.
func (t *tracker) took(seed maphash.Seed, m Message, now time.Time) {
	t.accepted.add(now, inHour, 1)
	slot := t.slot(m.Body)
	for _, to := range m.To {
		h := hash(seed, to.Address)
		t.today.add(h)
		if slot == nil {
			continue
		}
		switch {
		case slot.first == 0:
			slot.first = h
		case slot.others.s == nil && slot.first != h:
			slot.others.add(slot.first)
			slot.others.add(h)
		case slot.others.s != nil:
			slot.others.add(h)
		}
	}
}

// slot is the place of a body, which it takes from the one with the fewest
// recipients if it has none; nil for a body that is empty.
func (t *tracker) slot(digest uint64) *repeated {
	if digest == 0 {
		return nil
	}
	least := &t.bodies[0]
	for i := range t.bodies {
		b := &t.bodies[i]
		if b.digest == digest {
			return b
		}
		if b.count() < least.count() {
			least = b
		}
	}
	*least = repeated{digest: digest}
	return least
}

// refuse notes a message that was asked to come later. One that comes again is
// the same: a queue that tries again is no flood.
func (t *tracker) refuse(seed maphash.Seed, m Message) {
	h := maphash.Hash{}
	h.SetSeed(seed)
	h.WriteString(strings.ToLower(m.From.String()))
	for _, to := range m.To[:min(1, len(m.To))] {
		h.WriteString("\n" + strings.ToLower(to.Address.String()))
	}
	h.WriteString("\n" + strconv.FormatInt(m.Octets, 10))
	t.refused.add(h.Sum64())
}

// got notes a result.
func (t *results) got(r mail.Result, now time.Time) {
	note := func(w **window) {
		if *w == nil {
			*w = &window{}
		}
		(*w).add(now, inDay, 1)
	}
	switch {
	case r.Outcome == mail.Delivered:
		note(&t.delivered)
	case r.Outcome == mail.Failed && r.RemoteMTA != "" && r.Status.Code.Permanent():
		note(&t.bounced)
		if isSpam(r.Status) {
			note(&t.spam)
		}
	}
}

// isSpam reports whether a next hop refuses a message for what it is: by a
// status of security or policy (RFC 3463 §3.8), or in words.
func isSpam(s mail.Status) bool {
	if s.Enhanced[0] == 5 && s.Enhanced[1] == 7 {
		return true
	}
	text := strings.ToLower(s.Text)
	return strings.Contains(text, "spam") || strings.Contains(text, "unsolicited") || strings.Contains(text, "blocklist") || strings.Contains(text, "blacklist")
}

func hash(seed maphash.Seed, a mail.Address) uint64 {
	return maphash.String(seed, strings.ToLower(a.String()))
}

// take takes out what o has and is a part of it.
func (t *results) take(o results, now time.Time) {
	for w, part := range map[*window]*window{t.delivered: o.delivered, t.bounced: o.bounced, t.spam: o.spam} {
		if w != nil && part != nil {
			w.take(part, now, inDay)
		}
	}
}

// sums are those of the last 24 hours.
func (t *results) sums(now time.Time) (delivered, bounced, spam int) {
	sum := func(w *window) int {
		if w == nil {
			return 0
		}
		return w.sum(now, inDay)
	}
	return sum(t.delivered), sum(t.bounced), sum(t.spam)
}

// counts sums up, after turn; all are the results of all registrations.
func (t *tracker) counts(now time.Time, all *results) Counts {
	left := 1 - float64(now.Unix()%3600)/3600 // of the hour before
	c := Counts{
		Declared:   t.client.PerHour,
		Tried:      t.accepted.sum(now, inHour) + t.refused.count() + int(left*float64(t.refusedB.count())),
		Recipients: t.recipients(),
		Usual:      t.client.PerHour,
	}
	if t.known {
		c.Usual = int(slices.Max(t.days[:]))
	}
	for _, b := range t.bodies {
		c.SameBody = max(c.SameBody, b.count())
	}
	c.Delivered, c.Bounced, c.Spam = t.sums(now)
	d, b, s := all.sums(now)
	c.OthersDelivered, c.OthersBounced, c.OthersSpam = max(0, d-c.Delivered), max(0, b-c.Bounced), max(0, s-c.Spam)
	return c
}

// forget begins anew, but for what is usual.
func (t *tracker) forget() {
	t.accepted, t.refused, t.refusedB = window{}, sketch{}, sketch{}
	t.base, t.today, t.bodies = 0, sketch{}, [bodies]repeated{}
	t.results = results{}
	t.machines = nil
}
