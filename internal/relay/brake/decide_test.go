package brake

import (
	"math/rand/v2"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// thresholds are those of the schema's defaults.
func thresholds() Thresholds {
	return Thresholds{
		Furthest: Blocked, VolumeFactor: 5, VolumeLeast: 500, RecipientsFactor: 10, RecipientsLeast: 500, SameBody: 1000,
		BouncePart: 0.5, BounceLeast: 100, SpamPart: 0.1, SpamLeast: 20,
		HoldAt: 2, BlockAt: 5, StepAfter: 10 * time.Minute, SlowEvery: 30 * time.Second, SlowFor: time.Hour, BlockFor: 24 * time.Hour,
	}
}

// tried are counts of n messages in an hour of 100 that are declared: the
// threshold is 500.
func tried(n int) Counts { return Counts{Declared: 100, Tried: n} }

func TestDecide(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	slowed := func(since time.Duration) State {
		return State{Step: Slowed, Since: ago(since), Until: ago(since).Add(time.Hour)}
	}
	held := func(since time.Duration) State { return State{Step: Held, Since: ago(since)} }
	blocked := func(since time.Duration) State {
		return State{Step: Blocked, Since: ago(since), Until: ago(since).Add(24 * time.Hour)}
	}
	milder := func(furthest Step) func(*Thresholds) { return func(t *Thresholds) { t.Furthest = furthest } }
	tests := []struct {
		name   string
		state  State
		counts Counts
		change func(*Thresholds)
		step   Step
		since  time.Time
		until  time.Time
	}{
		{name: "nothing is nothing", step: Free},
		{name: "on the threshold", counts: tried(500), step: Free},
		{name: "over it", counts: tried(501), step: Slowed, since: noon, until: noon.Add(time.Hour)},
		{name: "far over it, one step", counts: tried(1e6), step: Slowed, since: noon, until: noon.Add(time.Hour)},
		{name: "slowed, and too soon for more", state: slowed(9 * time.Minute), counts: tried(1e6), step: Slowed, since: ago(9 * time.Minute), until: noon.Add(time.Hour)},
		{name: "slowed, and still a little too much", state: slowed(30 * time.Minute), counts: tried(999), step: Slowed, since: ago(30 * time.Minute), until: noon.Add(time.Hour)},
		{name: "slowed, and still far too much", state: slowed(10 * time.Minute), counts: tried(1000), step: Held, since: noon},
		{name: "slowed, and quiet", state: slowed(59 * time.Minute), step: Slowed, since: ago(59 * time.Minute), until: noon.Add(time.Minute)},
		{name: "slowed, and quiet for long", state: slowed(time.Hour), step: Free},
		{name: "slowed, over, and it begins anew", state: slowed(time.Hour), counts: tried(501), step: Free},
		{name: "held, and quiet for a year", state: held(365 * 24 * time.Hour), step: Held, since: ago(365 * 24 * time.Hour)},
		{name: "held, and too soon for more", state: held(time.Minute), counts: tried(1e6), step: Held, since: ago(time.Minute)},
		{name: "held, and not enough for more", state: held(time.Hour), counts: tried(2499), step: Held, since: ago(time.Hour)},
		{name: "held, and it goes on", state: held(time.Hour), counts: tried(2500), step: Blocked, since: noon, until: noon.Add(24 * time.Hour)},
		{name: "blocked", state: blocked(23 * time.Hour), counts: tried(1e6), step: Blocked, since: ago(23 * time.Hour), until: noon.Add(time.Hour)},
		{name: "a block that ends goes back to holding", state: blocked(24 * time.Hour), step: Held, since: noon},
		{name: "and not at once to the next block", state: blocked(25 * time.Hour), counts: tried(1e6), step: Held, since: noon},
		{name: "an operator's word", state: State{FreeUntil: noon.Add(time.Second)}, counts: tried(1e6), step: Free},
		{name: "an operator's word that is over", state: State{FreeUntil: noon}, counts: tried(1e6), step: Slowed, since: noon, until: noon.Add(time.Hour)},
		{name: "off", change: milder(Free), counts: tried(1e6), step: Free},
		{name: "off, and held before", state: held(time.Hour), change: milder(Free), step: Free},
		{name: "no further than slow", state: slowed(time.Hour / 2), change: milder(Slowed), counts: tried(1e6), step: Slowed, since: ago(time.Hour / 2), until: noon.Add(time.Hour)},
		{name: "no further than slow, and held before", state: held(time.Hour), change: milder(Slowed), step: Slowed, since: noon, until: noon.Add(time.Hour)},
		{name: "no further than hold", state: held(time.Hour), change: milder(Held), counts: tried(1e6), step: Held, since: ago(time.Hour)},
		{name: "no further than hold, and blocked before", state: blocked(time.Hour), change: milder(Held), step: Held, since: noon},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			limits := thresholds()
			if tt.change != nil {
				tt.change(&limits)
			}
			got := Decide(tt.state, tt.counts, limits, noon)
			if got.Step != tt.step || !got.Since.Equal(tt.since) || !got.Until.Equal(tt.until) {
				t.Errorf("got %s since %s until %s", got.Step, got.Since, got.Until)
			}
			if again := Decide(got, tt.counts, limits, noon); tt.name != "slowed, over, and it begins anew" && again.Step != got.Step {
				t.Errorf("asked again at once it is %s", again.Step)
			}
		})
	}
}

func TestEvidence(t *testing.T) {
	tests := []struct {
		name   string
		counts Counts
		kind   string // "": nothing is too much
		over   float64
		words  string
	}{
		{"a printer", Counts{Declared: 200, Tried: 200, Recipients: 60, Usual: 40, SameBody: 3, Delivered: 900, Bounced: 4, Spam: 1}, "", 0, ""},
		{"a small volume, and a busy hour", Counts{Declared: 10, Tried: 400}, "", 0, ""},
		{"tried", Counts{Declared: 200, Tried: 1500}, "volume", 1.5, "1,500 different messages were tried in an hour; 200 are declared"},
		{"recipients", Counts{Usual: 100, Recipients: 2000}, "recipients", 2, "2,000 different recipients in a day; at most 100 is usual"},
		{"recipients, where few are usual", Counts{Usual: 3, Recipients: 499}, "", 0, ""},
		{"recipients, where many are usual", Counts{Usual: 3000, Recipients: 29_000}, "", 0, ""},
		{"one text", Counts{SameBody: 1001}, "same-body", 1.001, "the same text went to 1,001 different recipients in a day"},
		{"bounces", Counts{Delivered: 150, Bounced: 200}, "bounces", 2, "next hops refused 200 of 350 recipients in a day for good"},
		{"bounces among much that works", Counts{Delivered: 5000, Bounced: 200}, "", 0, ""},
		{"few bounces", Counts{Bounced: 100}, "", 0, ""},
		{"spam", Counts{Delivered: 100, Bounced: 30, Spam: 30}, "spam", 1.5, "next hops refused 30 of 130 recipients in a day as spam"},
		{"a filter that errs now and then", Counts{Delivered: 1000, Bounced: 30, Spam: 30}, "", 0, ""},
		{"bounces, as with everybody", Counts{Delivered: 10, Bounced: 300, OthersDelivered: 50, OthersBounced: 900}, "", 0, ""},
		{"bounces, and few elsewhere", Counts{Delivered: 10, Bounced: 300, OthersDelivered: 5000, OthersBounced: 900}, "bounces", 3, "next hops refused 300 of 310 recipients in a day for good"},
		{"bounces, and nobody else sends", Counts{Bounced: 300, OthersBounced: 100}, "bounces", 3, "next hops refused 300 of 300 recipients in a day for good"},
		{"spam, as with everybody", Counts{Delivered: 100, Bounced: 30, Spam: 30, OthersDelivered: 100, OthersBounced: 30, OthersSpam: 30}, "", 0, ""},
		{"the worst comes first", Counts{Tried: 600, SameBody: 3000}, "same-body", 3, "the same text went to 3,000 different recipients in a day"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := thresholds().evidence(tt.counts)
			if (tt.kind == "") != (len(list) == 0) {
				t.Fatalf("%+v", list)
			}
			if tt.kind != "" && (list[0].Kind != tt.kind || list[0].Words != tt.words || list[0].Over-tt.over > 1e-9 || tt.over-list[0].Over > 1e-9) {
				t.Errorf("%+v", list)
			}
		})
	}
}

// Whatever is counted when, no step is skipped, none is taken within StepAfter,
// and nothing but an operator and the clock lets go.
func TestDecideTakesOneStepAtATime(t *testing.T) {
	limits := thresholds()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		var s State
		now := noon
		for range 300 {
			now = now.Add(time.Duration(random.Int64N(int64(20 * time.Minute))))
			next := Decide(s, tried(random.IntN(5000)), limits, now)
			switch {
			case next.Step > s.Step+1:
				t.Fatalf("seed %d: from %s to %s", seed, s.Step, next.Step)
			case next.Step > s.Step && s.Step > Free && now.Sub(s.Since) < limits.StepAfter:
				t.Fatalf("seed %d: from %s to %s after %s", seed, s.Step, next.Step, now.Sub(s.Since))
			case next.Step < s.Step && (s.Until.IsZero() || now.Before(s.Until)):
				t.Fatalf("seed %d: from %s to %s before %s", seed, s.Step, next.Step, s.Until)
			case (next.Step == Free) != next.Since.IsZero(), next.Step > Free && len(next.Why) == 0:
				t.Fatalf("seed %d: %+v", seed, next)
			}
			s = next
		}
	}
}
