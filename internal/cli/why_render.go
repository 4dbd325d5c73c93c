package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// An explanation is the answer of "why". Its JSON is for programs; fields are
// added, never renamed.
type explanation struct {
	IP           netip.Addr             `json:"ip"`
	Standing     string                 `json:"standing"`
	Rule         registration.Rule      `json:"rule,omitempty"` // that keeps it from sending
	Commit       string                 `json:"commit"`         // of the register
	At           time.Time              `json:"at"`             // the moment that is judged
	Registration *whyRegistration       `json:"registration,omitempty"`
	Network      *whyNetwork            `json:"network,omitempty"`
	Block        *whyBlock              `json:"block,omitempty"`
	History      *origin                `json:"history,omitempty"` // how the address came in
	Changed      *origin                `json:"changed,omitempty"` // the newest change of the file, if that is another
	Removed      *removal               `json:"removed,omitempty"` // how it went, if it was registered once
	Faulty       []registration.Problem `json:"faulty,omitempty"`  // why a file that names the address is not in force
	Next         []string               `json:"next,omitempty"`    // what to do now
}

type whyRegistration struct {
	File       string   `json:"file"`
	Line       int      `json:"line"` // of the address
	Department string   `json:"department"`
	Name       string   `json:"departmentName"`
	Contact    string   `json:"contact"`
	Email      string   `json:"email"`
	Purpose    string   `json:"purpose"`
	Host       string   `json:"host"`
	Kind       string   `json:"kind"`
	Senders    []string `json:"senders,omitempty"`
	Bounces    string   `json:"bounces,omitempty"` // "contact", or nothing
	PerHour    int      `json:"perHour"`
	PerDay     int      `json:"perDay"`
	Expires    string   `json:"expires"` // the last day, as written
	expires    time.Time
}

type whyNetwork struct {
	Prefix     netip.Prefix `json:"prefix"`
	Department string       `json:"department"`
	Name       string       `json:"departmentName"`
	Use        string       `json:"use"`
	File       string       `json:"file"`
	Line       int          `json:"line"`
}

type whyBlock struct {
	Reference string       `json:"reference"`
	Prefix    netip.Prefix `json:"prefix"`
	Reason    string       `json:"reason"`
	Since     time.Time    `json:"since"`
	Until     time.Time    `json:"until,omitzero"`
	File      string       `json:"file"`
	Line      int          `json:"line"`
	History   *origin      `json:"history,omitempty"`
}

func explainRegistration(s *policy.Snapshot, r *registration.Registration, h *registration.Host) *whyRegistration {
	return &whyRegistration{
		File: r.Path, Line: int(h.At.Line),
		Department: r.Department, Name: departmentName(s, r.Department),
		Contact: r.Contact.Name, Email: r.Contact.Email,
		Purpose: r.Purpose, Host: h.Name, Kind: h.Kind, Senders: r.Senders, Bounces: r.Bounces,
		PerHour: r.Volume.PerHour, PerDay: r.Volume.PerDay,
		Expires: r.Expires.AddDate(0, 0, -1).Format(time.DateOnly), expires: r.Expires,
	}
}

func explainBlock(b *registration.Block) *whyBlock {
	return &whyBlock{
		Reference: strings.TrimSuffix(path.Base(b.Path), ".cue"), Prefix: b.Prefix, Reason: b.Reason,
		Since: b.Since, Until: b.Until, File: b.Path, Line: int(b.At.Line),
	}
}

func departmentName(s *policy.Snapshot, id string) string {
	if d := s.Department(id); d != nil {
		return d.Name
	}
	return ""
}

// print writes the text form: one sentence, then a table of what is known.
func (e *explanation) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, text string) {
		if text != "" {
			fmt.Fprintf(out, "  %s\t%s\n", name, printable(text))
		}
	}
	fmt.Fprintln(out, printable(e.sentence()))
	if e.Rule != "" {
		row("rule", string(e.Rule))
	}
	if b := e.Block; b != nil {
		row("block", fmt.Sprintf("%s:%d, of %s since %s%s", b.File, b.Line, b.Prefix, day(b.Since), until(b.Until)))
		row("reason", b.Reason)
		row("blocked by", b.History.story())
		row("approved by", b.History.approval())
	}
	if r := e.Registration; r != nil {
		row("registration", fmt.Sprintf("%s:%d", r.File, r.Line))
		row("host", r.Host+", "+r.Kind)
		row("department", named(r.Department, r.Name))
		row("contact", fmt.Sprintf("%s <%s>", r.Contact, r.Email))
		row("purpose", r.Purpose)
		row("senders", strings.Join(r.Senders, ", "))
		row("bounces", r.Bounces)
		row("volume", fmt.Sprintf("%s an hour, %s a day", thousands(r.PerHour), thousands(r.PerDay)))
		row("expires", r.Expires+distanceTo(r.expires, e.At))
	}
	if n := e.Network; n != nil {
		row("network", fmt.Sprintf("%s (%s), held by %s, %s:%d", n.Prefix, n.Use, named(n.Department, n.Name), n.File, n.Line))
	}
	if h := e.History; h != nil {
		row("since", h.story())
		row("approved by", h.approval())
		row("written by", h.written())
	}
	if r := e.Removed; r != nil {
		row("was in", fmt.Sprintf("%s:%d", r.File, r.Line))
		row("until", r.History.story())
		row("approved by", r.History.approval())
		row("removed by", r.History.written())
	}
	row("changed", e.Changed.story())
	for _, p := range e.Faulty {
		row("not in force", fmt.Sprintf("%s:%d: %s: %s", p.File, max(p.Line, 1), p.Rule, p.Message))
	}
	row("register", fmt.Sprintf("commit %s, as of %s", short(e.Commit), moment(e.At)))
	for _, step := range e.Next {
		row("next", step)
	}
	return out.Flush()
}

// sentence is the answer in one line.
func (e *explanation) sentence() string {
	ip := e.IP.String()
	switch e.Standing {
	case policy.Registered.String():
		return ip + " is registered and may send"
	case policy.Expired.String():
		return ip + " is registered, but expired, and may not send"
	case policy.Blocked.String():
		return ip + " is blocked and may not send"
	case policy.Unregistered.String():
		if len(e.Faulty) > 0 {
			return ip + " is not registered: a file names it, but is not in force"
		}
		return ip + " is on campus, but not registered, and may not send"
	case policy.OffCampus.String():
		return ip + " is off campus: it is not the university's address, and the relay turns it away"
	}
	return ip + ": " + e.Standing
}

// story is when a change came in, and by whose hand.
func (o *origin) story() string {
	if o == nil {
		return ""
	}
	text := moment(o.Since)
	if o.Request > 0 {
		text += fmt.Sprintf(", request #%d", o.Request)
		if o.Branch != "" {
			text += " from " + o.Branch
		}
	}
	if o.Merge != "" {
		return text + fmt.Sprintf(", merge %s by %s", short(o.Merge), o.MergedBy)
	}
	return text + fmt.Sprintf(", commit %s by %s", short(o.Commit), cmp.Or(o.by, o.Author))
}

// approval is who let a change in, and how that is known.
func (o *origin) approval() string {
	switch {
	case o == nil:
		return ""
	case o.Approval == "merged":
		return o.Approver + ", who merged it"
	case o.Approval == "committed":
		return o.Approver + ", who committed it; no merge tells of anybody else"
	case o.Approval == "unrecorded":
		return "not recorded: its branch was merged by a fast-forward, which leaves no trace (git merge --no-ff leaves one)"
	case o.Request > 0:
		return fmt.Sprintf("known to the forge, which made the commit: see request #%d", o.Request)
	}
	return "known to the forge, which made the commit"
}

// written is who wrote the change, and its title.
func (o *origin) written() string {
	return fmt.Sprintf("%s, commit %s: %s", o.Author, short(o.Commit), o.Subject)
}

func named(id, name string) string {
	if name == "" {
		return id
	}
	return id + " (" + name + ")"
}

func short(commit string) string { return commit[:min(len(commit), 12)] }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + moment(t)
}

// distanceTo is " (in 12 days)" or " (12 days ago)".
func distanceTo(t, now time.Time) string {
	days := int(t.Sub(now) / (24 * time.Hour))
	if t.After(now) {
		return " (in " + count(days, "day", "days") + ")"
	}
	return " (" + count(-days, "day", "days") + " ago)"
}
