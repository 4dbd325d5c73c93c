package portal

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/forge"
)

// A course is what is known of how far a request has come.
type course struct {
	State    forge.State
	Opened   time.Time
	By       string // who asked, for display
	Checked  bool   // it could be judged
	Errors   int
	Added    []netip.Addr // that it newly registers
	Proved   map[netip.Addr]time.Time
	Approved []approval
	Merged   time.Time
	MergedBy string
	Closed   time.Time
	Relays   []liveness
	Told     map[netip.Addr]time.Time // when the confirmation of an address was sent
}

// An approval is a postmaster's review.
type approval struct {
	By string
	At time.Time
}

// A liveness is whether one relay has a request in force.
type liveness struct {
	Relay string
	Known bool // the relay has answered of late
	Live  bool
	Why   string    // it is not, though it has the commit; "" for others
	Since time.Time // when it was first seen so; zero: not known
}

// A mark says how a step of a request stands.
type mark string

// The marks. Each is told by a sign and in words, never by colour alone.
const (
	done mark = "done"
	next mark = "now"
	todo mark = "todo"
	bad  mark = "bad"
)

// A step is one line of a request's timeline.
type step struct {
	Mark  mark
	Title string
	Text  string
	At    time.Time // zero: not, or not known
}

// Sign is what stands in the circle.
func (s step) Sign() string {
	return map[mark]string{done: "✓", next: "…", bad: "!", todo: ""}[s.Mark]
}

// Word is the sign for those who do not see it.
func (s step) Word() string {
	return map[mark]string{done: "done", next: "under way", bad: "needs attention", todo: "to come"}[s.Mark]
}

// steps is the timeline of a request, in the words of whoever asked for it.
func (c course) steps() []step {
	list := []step{{Mark: done, Title: "Submitted", Text: by(c.By), At: c.Opened}, c.check()}
	if c.State == forge.Closed {
		return append(list, step{Mark: bad, Title: "Closed without being approved", Text: "Nothing has changed for any address. If there was a reason, it stands below.", At: c.Closed})
	}
	if len(c.Added) > 0 {
		list = append(list, c.proof())
	}
	list = append(list, c.approval(), c.live())
	if len(c.Added) > 0 {
		list = append(list, c.confirmation())
	}
	return list
}

// over reports whether nothing more will happen.
func (c course) over() bool {
	if c.State == forge.Closed {
		return true
	}
	for _, s := range c.steps() {
		if s.Mark != done && s.Title != titleProof {
			return false
		}
	}
	return true
}

func (c course) check() step {
	s := step{Mark: done, Title: "Checked", Text: "Nothing is wrong with it."}
	switch {
	case c.State == forge.Merged: // it is history
		s.Text = ""
	case !c.Checked:
		s.Mark, s.Text = next, "It could not be checked just now."
	case c.Errors > 0:
		s.Mark, s.Text = bad, fmt.Sprintf("%s must be mended before it can be approved; see below.", plural(c.Errors, "problem", "problems"))
	}
	return s
}

const titleProof = "Control of the address shown"

func (c course) proof() step {
	s := step{Mark: next, Title: titleProof}
	have, latest := c.among(c.Proved)
	switch {
	case have == len(c.Added):
		s.Mark, s.At = done, latest
	case c.State == forge.Merged:
		s.Mark, s.Text = done, "It was approved without."
	case len(c.Added) == 1:
		s.Text = "Send one message from the machine, as described below. It makes the approval quicker."
	default:
		s.Text = fmt.Sprintf("%d of %s so far. Send one message from each machine, as described below.", have, plural(len(c.Added), "address", "addresses"))
	}
	return s
}

func (c course) approval() step {
	s := step{Mark: todo, Title: "Approved by the Postmaster team", At: c.Merged}
	switch {
	case c.State == forge.Merged:
		s.Mark, s.Text = done, by(c.MergedBy)
	case len(c.Approved) > 0:
		last := c.Approved[len(c.Approved)-1]
		s.Mark, s.Text, s.At = next, "Reviewed "+by(last.By)+"; it is to be merged.", last.At
	case c.Errors == 0:
		s.Mark, s.Text = next, "The Postmaster team looks at it. If they have a question, the contact gets it by mail, and it stands here."
	}
	return s
}

func (c course) live() step {
	s := step{Mark: todo, Title: "Live on the relays"}
	if c.State != forge.Merged {
		return s
	}
	if len(c.Relays) == 0 {
		s.Mark, s.Text = next, "The relays take it over by themselves, within a minute or so."
		return s
	}
	live, silent := 0, []string(nil)
	var latest time.Time
	for _, r := range c.Relays {
		switch {
		case r.Live:
			live++
			if r.Since.After(latest) {
				latest = r.Since
			}
		case !r.Known:
			silent = append(silent, r.Relay)
		}
	}
	s.Mark, s.Title = next, fmt.Sprintf("Live on %d of %s", live, plural(len(c.Relays), "relay", "relays"))
	if live == len(c.Relays) {
		s.Mark, s.At = done, latest
		if d := latest.Sub(c.Merged); !c.Merged.IsZero() && d >= 0 && !latest.IsZero() && d < 24*time.Hour {
			s.Text = took(d) + " after it was approved."
		}
		return s
	}
	s.Text = "The relays take it over by themselves."
	for _, r := range c.Relays {
		if !r.Live && r.Why != "" {
			s.Mark, s.Text = bad, r.Relay+": "+r.Why+". The Postmaster team has to look at it."
			return s
		}
	}
	if len(silent) > 0 {
		s.Text = "No answer from " + strings.Join(silent, ", ") + " of late, so whether it is live there is not known."
	}
	return s
}

func (c course) confirmation() step {
	s := step{Mark: todo, Title: "Confirmation sent"}
	if c.State != forge.Merged {
		return s
	}
	have, latest := c.among(c.Told)
	switch {
	case have == len(c.Added):
		s.Mark, s.At = done, latest
		s.Text = "The contact has it: one message for each address."
	default:
		s.Mark = next
		s.Text = fmt.Sprintf("%d of %s so far; one message for each address, to the contact.", have, plural(len(c.Added), "address", "addresses"))
	}
	return s
}

// awaited are the new addresses of which something is still to come that a relay
// knows first: the proof of an open request, the confirmation of a merged one. So a
// page that is looked at for long asks about these alone.
func (c course) awaited() (list []netip.Addr) {
	known := c.Proved
	if c.State == forge.Merged {
		known = c.Told
	}
	for _, ip := range c.Added {
		if _, ok := known[ip]; !ok && c.State != forge.Closed {
			list = append(list, ip)
		}
	}
	return list
}

// among is for how many of the new addresses something is known, and when it came
// last.
func (c course) among(when map[netip.Addr]time.Time) (have int, latest time.Time) {
	for _, ip := range c.Added {
		if at, ok := when[ip]; ok {
			have++
			if at.After(latest) {
				latest = at
			}
		}
	}
	return have, latest
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return "by " + who
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// took is a length of time as people say it.
func took(d time.Duration) string {
	if d < 2*time.Minute {
		return plural(int(d/time.Second), "second", "seconds")
	}
	if d < 2*time.Hour {
		return plural(int(d/time.Minute), "minute", "minutes")
	}
	return plural(int(d/time.Hour), "hour", "hours")
}
