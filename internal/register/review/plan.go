package review

import (
	"fmt"
	"strings"

	"example.edu/gatepost/internal/register/policy"
)

// A Plan is what merging does, with what a reader wants to know besides.
type Plan struct {
	policy.Plan
	Faulty int // files with errors, which the plan leaves out
}

// Plan spells out what merging the request does.
func (c *Change) Plan() Plan {
	was, is := c.Was(), c.Is()
	p := Plan{Plan: policy.NewPlan(was, is), Faulty: c.is.LeftOut()}
	p.Warnings = p.Unexplained(was, is, touched(c.changed))
	if c.SiteChanges() {
		p.Warnings = append(p.Warnings, policy.PlanWarning{
			Message: "the site's rules change: they count from the merge on, and what they do is not in this plan", File: SitePath,
		})
	}
	return p
}

// Summary counts what happens, in one line.
func (p Plan) Summary() string {
	if p.Empty() {
		return "nothing changes for any address"
	}
	return fmt.Sprintf("%d added, %d removed, %d changed, %d blocked, %d unblocked",
		len(p.Added), len(p.Removed), len(p.Changed), len(p.Blocked), len(p.Unblocked))
}

// Totals tells the size of the allowlist before and after.
func (p Plan) Totals() string {
	return fmt.Sprintf("%s → %s", Thousands(p.Before), Count(p.After, "address", "addresses"))
}

// Place is where a warning comes from.
func Place(w policy.PlanWarning) string {
	if w.Line == 0 {
		return w.File
	}
	return fmt.Sprintf("%s:%d", w.File, w.Line)
}

// Senders says what an address may newly send as, and what before.
func Senders(s policy.PlanSender) string {
	text := strings.Join(s.Senders, ", ")
	if text == policy.AnySender {
		text = "any sender"
	}
	if len(s.Before) > 0 {
		text += "; before: " + strings.Join(s.Before, ", ")
	}
	return text
}

// A Section is one list of a plan.
type Section struct {
	Mark, Title string
	Entries     []policy.PlanEntry
	Claims      bool // they say something of an address that evidence may bear on
}

// Sections are the lists of a plan in the order in which they matter to a
// reviewer, also those that are empty.
func (p Plan) Sections() []Section {
	return []Section{
		{"-", "Removed", p.Removed, false}, {"!", "Blocked", p.Blocked, false}, {"+", "Added", p.Added, true},
		{"~", "Changed", p.Changed, true}, {"=", "Unblocked", p.Unblocked, false},
	}
}

// Detail is what there is to say of an entry beyond who and where, a line each.
func Detail(e policy.PlanEntry) []string {
	details := e.What
	if e.Block != "" {
		details = append(details[:len(details):len(details)], "by "+e.Block)
	}
	if e.Affects > 0 {
		details = append(details[:len(details):len(details)], Count(e.Affects, "registered address", "registered addresses"))
	}
	return details
}
