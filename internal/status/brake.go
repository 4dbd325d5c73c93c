package status

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// The values of Braked.Step but for one that is not braked, "free".
const (
	BrakeSlow  = "slow"  // one message now and then
	BrakeHold  = "hold"  // queued mail waits, new mail is asked to come later
	BrakeBlock = "block" // and the machines are blocked
)

// ByBrake begins the reason of a block that the brake made.
const ByBrake = "the brake: "

// A Braked is a registration as the abuse brake has it.
type Braked struct {
	Registration string         `json:"registration"` // the file
	Step         string         `json:"step"`
	Since        time.Time      `json:"since,omitzero"`
	Until        time.Time      `json:"until,omitzero"`     // when the step ends by itself; zero: it does not
	FreeUntil    time.Time      `json:"freeUntil,omitzero"` // an operator's word: not braked before
	Why          []string       `json:"why,omitempty"`      // the worst first
	Machines     []BrakeMachine `json:"machines,omitempty"` // that sent, the busiest first
	Counts       BrakeCounts    `json:"counts"`
}

// A BrakeMachine is one that sent, and how many messages it tried.
type BrakeMachine struct {
	IP       netip.Addr `json:"ip"`
	Messages int        `json:"messages"`
}

// BrakeCounts are what the brake knows of a registration.
type BrakeCounts struct {
	Declared   int `json:"declared"`   // messages an hour
	Tried      int `json:"tried"`      // different messages in the last hour, accepted or not
	Recipients int `json:"recipients"` // different ones today (UTC)
	Usual      int `json:"usual"`      // the most of them on one of the seven days before
	SameBody   int `json:"sameBody"`   // different recipients of one text today
	Delivered  int `json:"delivered"`  // recipients, in the last 24 hours
	Bounced    int `json:"bounced"`    // refused for good, those as spam among them
	Spam       int `json:"spam"`       // refused as spam

	OthersDelivered int `json:"othersDelivered"` // the same of all other registrations
	OthersBounced   int `json:"othersBounced"`
	OthersSpam      int `json:"othersSpam"`
}

// A BrakeReleased is what a release has led to.
type BrakeReleased struct {
	Registration string `json:"registration"`
	Before       string `json:"before"`  // the step that it was at
	Queued       int    `json:"queued"`  // its messages in the queue, which go on
	FreeFor      string `json:"freeFor"` // how long the brake does not look at it: "1d"
}

// what is the step in words.
func (k Braked) what() string {
	text, known := map[string]string{
		BrakeSlow:  "slowed down",
		BrakeHold:  "held",
		BrakeBlock: "held, its machines are blocked",
	}[k.Step]
	if !known {
		text = visible(k.Step)
	}
	if k.Until.IsZero() {
		return text + " until it is released"
	}
	return text + " until " + stamp(k.Until)
}

// BrakedText lists who is braked, some lines each. Text of strangers in it cannot
// steer a terminal.
func BrakedText(list []Braked) string {
	var b strings.Builder
	for _, k := range list {
		fmt.Fprintf(&b, "%s\n  %s, since %s\n", visible(k.Registration), k.what(), stamp(k.Since))
		for _, why := range k.Why {
			fmt.Fprintf(&b, "  %s\n", visible(why))
		}
		var machines []string
		for _, m := range k.Machines[:min(shown, len(k.Machines))] {
			machines = append(machines, fmt.Sprintf("%s (%s tried)", m.IP, thousands(int64(m.Messages))))
		}
		if more := len(k.Machines) - shown; more > 0 {
			machines = append(machines, fmt.Sprintf("and %d more", more))
		}
		fmt.Fprintf(&b, "  from %s\n", strings.Join(machines, ", "))
	}
	return b.String()
}

// judgeBrake tells of the registrations that are braked: of each that waits for
// somebody, and of the others together.
func judgeBrake(r *Report, look func(do, format string, args ...any)) {
	hard, slow := 0, []Braked{}
	for _, k := range r.Brake {
		if k.Step == BrakeSlow {
			slow = append(slow, k)
			continue
		}
		if hard++; hard > shown {
			continue
		}
		why := "it sent too much"
		if len(k.Why) > 0 {
			why = k.Why[0]
		}
		look("gatepost queue list --registration "+k.Registration+" shows what waits; then gatepost brake release "+k.Registration+" --reason '…'",
			"the abuse brake has %s %s: %s", k.Registration, k.what(), why)
	}
	if hard > shown {
		look("gatepost brake list shows all", "the abuse brake holds %s", count(hard-shown, "more registration", "more registrations"))
	}
	if len(slow) > 0 {
		also := ""
		if len(slow) > 1 {
			also = ", such as"
		}
		look("find out what they send: gatepost brake list; it ends by itself", "the abuse brake slows down %s%s %s",
			count(len(slow), "registration:", "registrations"), also, slow[0].Registration)
	}
}
