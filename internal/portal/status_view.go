package portal

import (
	"cmp"
	"fmt"
	"html/template"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"example.edu/gatepost/internal/portal/chart"
	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/relay/blocks"
	"example.edu/gatepost/internal/status"
)

// How much of a list is on the status page.
const (
	rowsMost     = 50
	findingsMost = 20
	wordsMost    = 300 // characters of a relay's words
)

// behindLong is how long a relay may be without the branch's newest commit
// before it is told.
const behindLong = 2 * time.Minute

// A statusPage is the page /status. What only postmasters see is empty for
// others.
type statusPage struct {
	At         time.Time
	Postmaster bool
	Branch     string // the commit that the portal has of the branch, short; "": none
	Summary    string // a sentence, which changes with the state alone
	Good       bool   // nothing in it is bad
	Relays     []relayCard
	Charts     []template.HTML
	Blocks     []blockRow
	BlocksMore int // beyond those
	Brakes     []brakeRow
	BrakesMore int
	Strangers  []strangerRow
	StrangerN  int // all of them on the relay that has most
	Senders    []status.Sender
	Orders     []relayOrder // of late, the newest first
}

// A relayCard is one relay.
type relayCard struct {
	Name, Host, Version string
	State               string // "up", "not ready", "no answer", "not asked yet"
	Mark                string // good, bad, warn: the class of State
	Error               string // why there is no answer
	Since               time.Time
	At                  time.Time // of what is known
	Old                 bool      // At is long ago
	Up                  time.Duration

	Commit     string // short
	Newest     bool   // it is the branch's
	Behind     bool   // and has long not been
	AcceptedAt time.Time
	Contact    time.Duration // since the register's host answered; -1: never
	Addresses  int
	Live       int

	NotReady     []string
	Findings     []status.Finding
	FindingsMore int
	Queue        status.Queue
	Sessions     int
	Accepted     int64
	Refused      int64
	Trouble      []destinationRow
	Certificate  *status.Certificate
	Operates     bool
}

// A destinationRow is a next hop that does not take mail as it should.
type destinationRow struct {
	Name    string
	Entries int
	Text    string
	Until   time.Time
	Said    string
}

// A blockRow is a block of addresses, by command at some relays or by the
// register at all.
type blockRow struct {
	Prefix  string
	Reason  string
	Since   time.Time
	Until   time.Time
	Command bool     // by command; else by the register
	At      []string // relays that have it by command
	Missing []string // relays that have it not, where it is by command and not agreed
	File    string   // of the register that has it, or agrees
	Link    string   // to end it; "": not from here
}

// A brakeRow is a registration that is braked at one relay.
type brakeRow struct {
	Relay, Registration, Step string
	Since, Until              time.Time
	Why                       []string
	Link                      string // to release it; "": not from here
}

// A strangerRow is an address on campus that is not registered and tried to send.
type strangerRow struct {
	IP          netip.Addr
	First, Last time.Time
	Count       int
	Said        string
	Link        string // to register it
	Block       string // to block it
}

// statusOf makes the page of what is known; it is pure. list has a history
// for each relay, by its name.
func statusOf(relays []fleet.Relay, g *view.Register, postmaster bool, now time.Time) statusPage {
	p := statusPage{At: now, Postmaster: postmaster}
	branch, since := "", time.Time{}
	if g != nil {
		branch, since = g.Commit, g.At
		p.Branch = shortCommit(branch)
	}
	for _, r := range relays {
		card := cardOf(r, branch, since, now)
		if !postmaster {
			card = relayCard{Name: card.Name, State: card.State, Mark: card.Mark, Since: card.Since, Newest: card.Newest, Behind: card.Behind,
				Commit: card.Commit, Contact: card.Contact, AcceptedAt: card.AcceptedAt}
		}
		p.Relays = append(p.Relays, card)
	}
	p.Summary, p.Good = relaysInWords(p.Relays, branch != "")
	if postmaster {
		p.Blocks, p.BlocksMore = firstRows(blocksOf(relays, g, now))
		p.Brakes, p.BrakesMore = firstRows(brakesOf(relays))
		p.Strangers, p.StrangerN = strangersOf(relays)
		p.Senders = sendersOf(relays)
	}
	return p
}

// cardOf is one relay; branch is what the portal has of the branch, since since.
func cardOf(r fleet.Relay, branch string, since, now time.Time) relayCard {
	c := relayCard{Name: r.Name, Error: clipped(r.Error), Since: r.Since, At: r.At, Operates: r.Operates, Contact: -1}
	switch {
	case r.Error != "":
		c.State, c.Mark = "no answer", "bad"
	case r.Report == nil:
		c.State, c.Mark = "not asked yet", ""
	case !r.Report.Ready:
		c.State, c.Mark = "takes no mail", "bad"
	default:
		c.State, c.Mark = "takes mail", "good"
	}
	if r.Report == nil {
		return c
	}
	p := r.Report
	c.Old = now.Sub(r.At) > time.Minute
	c.Host, c.Version, c.Up = clipped(p.Host), clipped(p.Version), max(0, p.At.Sub(p.Started))
	g := p.Register
	c.Commit, c.AcceptedAt, c.Addresses, c.Live = shortCommit(g.Commit), g.AcceptedAt, g.Addresses, g.Live
	c.Newest = branch != "" && g.Commit == branch
	c.Behind = branch != "" && !c.Newest && now.Sub(since) > behindLong
	if g.AgeSeconds >= 0 {
		c.Contact = time.Duration(g.AgeSeconds)*time.Second + max(0, now.Sub(r.At))
	}
	for _, why := range p.NotReady {
		c.NotReady = append(c.NotReady, clipped(why))
	}
	for _, f := range p.Findings[:min(len(p.Findings), findingsMost)] {
		c.Findings = append(c.Findings, status.Finding{Level: f.Level, What: clipped(f.What), Do: clipped(f.Do)})
	}
	c.FindingsMore = len(p.Findings) - len(c.Findings)
	c.Queue, c.Sessions, c.Accepted, c.Refused, c.Certificate = p.Queue, p.Relay.Sessions, p.Relay.Accepted, p.Relay.Refused, p.Certificate
	for _, d := range p.Queue.Destinations {
		row := destinationRow{Name: clipped(d.Name), Entries: d.Entries, Until: d.BlockedUntil, Said: clipped(d.Said)}
		switch {
		case d.Failures > 0:
			row.Text = fmt.Sprintf("failed %s in a row", counted(d.Failures, "time", "times"))
		case d.Deferrals > 0:
			row.Text = fmt.Sprintf("put off %s in a row", counted(d.Deferrals, "attempt", "attempts"))
		case d.BlockedUntil.After(p.At):
			row.Text = "asked to come back later"
		default:
			continue
		}
		c.Trouble = append(c.Trouble, row)
	}
	return c
}

// relaysInWords is how the relays stand, in words that change with the state alone;
// good, if nothing has to be looked at.
func relaysInWords(relays []relayCard, branch bool) (text string, good bool) {
	if len(relays) == 0 {
		return "The portal has been told of no relays.", false
	}
	up, asked := 0, 0
	var bad, behind []string
	wrong := 0
	for _, r := range relays {
		if r.Mark != "" {
			asked++
		}
		switch r.Mark {
		case "good":
			up++
		case "bad":
			bad = append(bad, r.Name+": "+r.State)
		}
		if r.Behind {
			behind = append(behind, r.Name)
		}
		wrong += len(r.Findings) + r.FindingsMore
	}
	if asked == 0 {
		return "The relays have not been asked yet.", false
	}
	switch {
	case len(relays) > 1:
		text = fmt.Sprintf("%d of %d relays %s mail", up, len(relays), map[bool]string{true: "takes", false: "take"}[up == 1])
	case up == 1:
		text = "The relay takes mail"
	default:
		text = "The relay takes no mail, or nobody knows"
	}
	if len(bad) > 0 {
		text += " (" + strings.Join(bad, "; ") + ")"
	}
	switch {
	case len(behind) > 0:
		text += "; the newest register is not in force on " + strings.Join(behind, ", ")
	case branch && up == len(relays) && !slices.ContainsFunc(relays, func(r relayCard) bool { return !r.Newest }):
		text += ", with the newest register"
	}
	text += "."
	if wrong > 0 {
		text += " " + counted(wrong, "thing needs", "things need") + " a look."
	}
	return text, up == len(relays) && len(behind) == 0 && wrong == 0
}

// blocksOf are the blocks by command of all relays, and those of the register.
func blocksOf(relays []fleet.Relay, g *view.Register, now time.Time) []blockRow {
	rows := map[string]*blockRow{}
	var order []string
	for _, r := range relays {
		if r.Report == nil {
			continue
		}
		for _, d := range r.Report.Drift {
			row := rows[d.Prefix]
			if row == nil {
				row = &blockRow{Prefix: clipped(d.Prefix), Reason: clipped(d.Reason), Since: d.Since, Until: d.Until, Command: true, File: clipped(d.Agreed)}
				rows[d.Prefix] = row
				order = append(order, d.Prefix)
			}
			row.At = append(row.At, r.Name)
			if r.Operates {
				row.Link = orderLink("unblock", "prefix", d.Prefix)
			}
		}
	}
	var out []blockRow
	for _, prefix := range order {
		row := rows[prefix]
		for _, r := range relays {
			if row.File == "" && !slices.Contains(row.At, r.Name) {
				row.Missing = append(row.Missing, r.Name)
			}
		}
		out = append(out, *row)
	}
	if g != nil {
		for _, b := range g.Base.Snapshot().Blocks() {
			if b.Until.IsZero() || b.Until.After(now) {
				out = append(out, blockRow{Prefix: blocks.Text(b.Prefix), Reason: clipped(b.Reason), Since: b.Since, Until: b.Until, File: b.Path})
			}
		}
	}
	return out
}

// firstRows is as much of a list as the page shows, and how many more there are.
func firstRows[T any](list []T) ([]T, int) {
	shown := list[:min(len(list), rowsMost)]
	return shown, len(list) - len(shown)
}

// brakeStep is a step of the brake in words.
func brakeStep(step string) string {
	switch step {
	case status.BrakeSlow:
		return "slowed down"
	case status.BrakeHold:
		return "held"
	case status.BrakeBlock:
		return "held, and its machines blocked"
	}
	return clipped(step)
}

func brakesOf(relays []fleet.Relay) (out []brakeRow) {
	for _, r := range relays {
		if r.Report == nil {
			continue
		}
		for _, k := range r.Report.Brake {
			row := brakeRow{Relay: r.Name, Registration: clipped(k.Registration), Step: brakeStep(k.Step), Since: k.Since, Until: k.Until}
			for _, why := range k.Why[:min(len(k.Why), 3)] {
				row.Why = append(row.Why, clipped(why))
			}
			if r.Operates {
				row.Link = orderLink("release", "registration", k.Registration, "relay", r.Name)
			}
			out = append(out, row)
		}
	}
	return out
}

// strangersOf are the strangers of all relays, the newest first; all is how
// many there are at least, beyond those that relays tell of.
func strangersOf(relays []fleet.Relay) (out []strangerRow, all int) {
	at := map[netip.Addr]int{}
	for _, r := range relays {
		if r.Report == nil {
			continue
		}
		all = max(all, r.Report.Strangers.Count)
		for _, s := range r.Report.Strangers.Newest {
			i, known := at[s.IP]
			if !known {
				i = len(out)
				at[s.IP] = i
				out = append(out, strangerRow{IP: s.IP, First: s.First, Last: s.Last, Said: clipped(s.Said), Link: "/register?ip=" + s.IP.String(), Block: orderLink("block", "prefix", s.IP.String())})
			}
			row := &out[i]
			row.Count += s.Count
			if s.First.Before(row.First) {
				row.First = s.First
			}
			if s.Last.After(row.Last) {
				row.Last, row.Said = s.Last, clipped(s.Said)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b strangerRow) int { return b.Last.Compare(a.Last) })
	return out[:min(len(out), status.MaxStrangers)], max(all, len(out))
}

// sendersOf are the busiest registrations of all relays together.
func sendersOf(relays []fleet.Relay) (out []status.Sender) {
	at := map[string]int{}
	for _, r := range relays {
		if r.Report == nil {
			continue
		}
		for _, s := range r.Report.Senders.Top {
			s.Registration, s.Department = clipped(s.Registration), clipped(s.Department)
			i, known := at[s.Registration]
			if !known {
				at[s.Registration] = len(out)
				out = append(out, s)
				continue
			}
			sum := &out[i]
			sum.Day, sum.Week, sum.Month, sum.Refused = sum.Day+s.Day, sum.Week+s.Week, sum.Month+s.Month, sum.Refused+s.Refused
			sum.Addresses = max(sum.Addresses, s.Addresses)
			if s.Last.After(sum.Last) {
				sum.Last = s.Last
			}
		}
	}
	slices.SortStableFunc(out, func(a, b status.Sender) int {
		return cmp.Or(cmp.Compare(b.Day, a.Day), cmp.Compare(b.Week, a.Week), cmp.Compare(a.Registration, b.Registration))
	})
	return out[:min(len(out), status.MaxSenders)]
}

// A window is a time that is drawn.
type window struct {
	id, title string
	one       time.Duration // of one value
	n, rows   int           // values, and rows of the table
}

// windowsOf is what can be drawn of a history that began at some time: the last
// hour, and the day once there is more than an hour; a portal that has just been
// started draws what it has.
func windowsOf(began, now time.Time) []window {
	const early = 12 * time.Minute
	hour := window{"hour", "the last hour", time.Minute, 60, 12}
	switch age := now.Sub(began); {
	case age < early:
		return []window{{"quarter", "the last quarter of an hour", fleet.Step, 60, 15}}
	case age < time.Hour:
		return []window{hour}
	}
	return []window{hour, {"day", "the last day", 15 * time.Minute, 96, 24}}
}

// chartsOf draws the time that has just passed, for all relays together.
func chartsOf(history map[string][]fleet.Point, now time.Time) (out []template.HTML) {
	began := now
	for _, list := range history {
		if len(list) > 0 && list[0].At.Before(began) {
			began = list[0].At
		}
	}
	for _, span := range windowsOf(began, now) {
		from := now.Truncate(span.one).Add(-time.Duration(span.n-1) * span.one)
		sum := func(count fleet.Count) []float64 {
			var lists [][]float64
			for _, list := range history {
				lists = append(lists, fleet.Rates(list, count, from, span.one, span.n))
			}
			return fleet.Add(lists...)
		}
		level := func(l fleet.Level) []float64 {
			var lists [][]float64
			for _, list := range history {
				lists = append(lists, fleet.Levels(list, l, from, span.one, span.n))
			}
			return fleet.Add(lists...)
		}
		out = append(out,
			chart.Chart{ID: "mail-" + span.id, Title: "Mail of " + span.title, Unit: "a minute, all relays", From: from, Span: span.one, Rows: span.rows, Series: []chart.Series{
				{Name: "Messages accepted", Values: sum(fleet.Accepted)}, {Name: "Refused", Values: sum(fleet.Refused)},
				{Name: "Attempts put off", Values: sum(fleet.Deferred)}, {Name: "Recipients delivered", Values: sum(fleet.Delivered)},
			}}.HTML(),
			chart.Chart{ID: "queue-" + span.id, Title: "Queue of " + span.title, Unit: "messages, all relays", From: from, Span: span.one, Rows: span.rows, Series: []chart.Series{
				{Name: "In the queue", Values: level(fleet.Queued), Peak: true}}}.HTML())
	}
	return out
}

func shortCommit(commit string) string { return clipped(commit[:min(12, len(commit))]) }

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// clipped keeps a relay's words on one line and short.
func clipped(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > wordsMost {
		return string(runes[:wordsMost-1]) + "…"
	}
	return s
}
