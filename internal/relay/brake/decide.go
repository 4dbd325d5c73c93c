package brake

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A Step is how hard a registration is braked.
type Step uint8

// The steps, in the order in which they are taken.
const (
	Free    Step = iota // not braked
	Slowed              // one message now and then; the rest is asked to come later
	Held                // queued mail waits, new mail is asked to come later; until somebody releases it
	Blocked             // as Held, and its machines are turned away; for a time
)

// String is the word used in logs, metrics and JSON.
func (s Step) String() string { return [...]string{"free", "slow", "hold", "block"}[s] }

// MarshalText writes the word of String.
func (s Step) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word of String.
func (s *Step) UnmarshalText(text []byte) error {
	for step := Free; step <= Blocked; step++ {
		if step.String() == string(text) {
			*s = step
			return nil
		}
	}
	return fmt.Errorf("brake: %.20q is no step", text)
}

// A State is how one registration stands to the brake.
type State struct {
	Step      Step       `json:"step"`
	Since     time.Time  `json:"since,omitzero"`     // when this step was taken
	Until     time.Time  `json:"until,omitzero"`     // when it ends by itself; zero: it does not
	Why       []Evidence `json:"why,omitempty"`      // what it was taken for
	FreeUntil time.Time  `json:"freeUntil,omitzero"` // an operator's word: no step is taken before
}

// Thresholds say what is too much, and what follows. All must be above zero.
type Thresholds struct {
	Furthest Step // no step beyond it is taken; Free: the brake is off

	// Different messages tried in an hour, accepted or not: over VolumeFactor
	// times what was declared, and over VolumeLeast.
	VolumeFactor, VolumeLeast int
	// Different recipients of a day: over RecipientsFactor times the most of the
	// seven days before, and over RecipientsLeast.
	RecipientsFactor, RecipientsLeast int
	// Different recipients of one and the same body in a day.
	SameBody int
	// Recipients that next hops refused for good in a day: over BounceLeast, and
	// over this part of all.
	BouncePart  float64
	BounceLeast int
	// The same of those that were refused as spam.
	SpamPart  float64
	SpamLeast int

	HoldAt, BlockAt float64       // how many times over a threshold it takes for the step
	StepAfter       time.Duration // from one step to the next, at least
	SlowEvery       time.Duration // from one message to the next, when slowed
	SlowFor         time.Duration // that nothing is too much any more before slowing ends
	BlockFor        time.Duration
}

// Counts are what is known of a registration at one time.
type Counts struct {
	Declared   int `json:"declared"`   // messages an hour
	Tried      int `json:"tried"`      // different messages in the last hour, accepted or not
	Recipients int `json:"recipients"` // different ones today (UTC)
	Usual      int `json:"usual"`      // the most of them on one of the seven days before; Declared, if there was none
	SameBody   int `json:"sameBody"`   // different recipients of one body today
	Delivered  int `json:"delivered"`  // recipients, by next hops, in the last 24 hours
	Bounced    int `json:"bounced"`    // refused for good, those as spam among them
	Spam       int `json:"spam"`       // refused as spam

	// The same of all other registrations: where they fare as badly, it is not
	// this one.
	OthersDelivered int `json:"othersDelivered"`
	OthersBounced   int `json:"othersBounced"`
	OthersSpam      int `json:"othersSpam"`
}

// An Evidence is one thing that is too much.
type Evidence struct {
	Kind  string  `json:"kind"`  // volume, recipients, same-body, bounces, spam
	Over  float64 `json:"over"`  // how many times over the threshold
	Words string  `json:"words"` // for people
}

// evidence lists what is too much in c, the worst first.
func (t Thresholds) evidence(c Counts) (list []Evidence) {
	// The words are made only for what is too much: this is asked for each message.
	over := func(kind string, measured, threshold int, format string, numbers ...int) {
		if threshold <= 0 || measured <= threshold {
			return
		}
		words := make([]any, len(numbers))
		for i, n := range numbers {
			words[i] = number(n)
		}
		list = append(list, Evidence{kind, float64(measured) / float64(threshold), fmt.Sprintf(format, words...)})
	}
	over("volume", c.Tried, max(t.VolumeLeast, t.VolumeFactor*c.Declared),
		"%s different messages were tried in an hour; %s are declared", c.Tried, c.Declared)
	over("recipients", c.Recipients, max(t.RecipientsLeast, t.RecipientsFactor*c.Usual),
		"%s different recipients in a day; at most %s is usual", c.Recipients, c.Usual)
	over("same-body", c.SameBody, t.SameBody,
		"the same text went to %s different recipients in a day", c.SameBody)
	all, others := float64(c.Delivered+c.Bounced), float64(c.OthersDelivered+c.OthersBounced)
	// A next hop that refuses everybody's mail, by mistake, brakes nobody.
	everybody := func(refused, least int, part float64) bool {
		return refused > least && float64(refused)/max(1, others) > part
	}
	if part := float64(c.Bounced) / max(1, all); part > t.BouncePart && !everybody(c.OthersBounced, t.BounceLeast, t.BouncePart) {
		over("bounces", c.Bounced, t.BounceLeast,
			"next hops refused %s of %s recipients in a day for good", c.Bounced, int(all))
	}
	if part := float64(c.Spam) / max(1, all); part > t.SpamPart && !everybody(c.OthersSpam, t.SpamLeast, t.SpamPart) {
		over("spam", c.Spam, t.SpamLeast,
			"next hops refused %s of %s recipients in a day as spam", c.Spam, int(all))
	}
	slices.SortStableFunc(list, func(a, b Evidence) int { return cmp.Compare(b.Over, a.Over) })
	return list
}

// Decide is what becomes of s, given what is known at now. It is pure, and takes
// one step at most: slow at once; hold and block only after StepAfter in the step
// before, and if it is HoldAt or BlockAt times too much. A block that ends goes
// back to holding, since what is queued should be looked at by somebody.
func Decide(s State, c Counts, t Thresholds, now time.Time) State {
	if t.Furthest == Free || now.Before(s.FreeUntil) {
		return State{FreeUntil: s.FreeUntil}
	}
	if s.Step > t.Furthest { // the configuration became milder
		s = State{Step: t.Furthest, Since: now, Why: s.Why}
		if s.Step == Slowed {
			s.Until = now.Add(t.SlowFor)
		}
	}
	if !s.Until.IsZero() && !now.Before(s.Until) {
		if s.Step != Blocked {
			return State{}
		}
		s = State{Step: Held, Since: now, Why: s.Why}
	}
	why := t.evidence(c)
	if len(why) == 0 {
		return s
	}
	long := now.Sub(s.Since) >= t.StepAfter
	switch over := why[0].Over; {
	case s.Step == Free:
		return State{Step: Slowed, Since: now, Until: now.Add(t.SlowFor), Why: why}
	case s.Step == Slowed && long && over >= t.HoldAt && t.Furthest >= Held:
		return State{Step: Held, Since: now, Why: why}
	case s.Step == Slowed:
		s.Until, s.Why = now.Add(t.SlowFor), why
	case s.Step == Held && long && over >= t.BlockAt && t.Furthest >= Blocked:
		return State{Step: Blocked, Since: now, Until: now.Add(t.BlockFor), Why: why}
	}
	return s
}

// number writes n with commas.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
