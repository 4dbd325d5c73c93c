package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"example.edu/gatepost/internal/register/policy"
)

// summary counts what happens, in one line.
func (r *planReport) summary() string {
	if r.Empty() {
		return "nothing changes for any address"
	}
	return fmt.Sprintf("%d added, %d removed, %d changed, %d blocked, %d unblocked",
		len(r.Added), len(r.Removed), len(r.Changed), len(r.Blocked), len(r.Unblocked))
}

// totals tells the size of the allowlist before and after.
func (r *planReport) totals() string {
	return fmt.Sprintf("%s → %s", thousands(r.before), count(r.after, "address", "addresses"))
}

// sections are the lists of a plan in the order in which they matter to a
// reviewer, with the mark and the title of each.
func (r *planReport) sections() []planSection {
	return []planSection{
		{"-", "Removed", r.Removed, false}, {"!", "Blocked", r.Blocked, false}, {"+", "Added", r.Added, true},
		{"~", "Changed", r.Changed, true}, {"=", "Unblocked", r.Unblocked, false},
	}
}

type planSection struct {
	mark, title string
	entries     []policy.PlanEntry
	claims      bool // they say something of an address that evidence may bear on
}

// detail is what there is to say beyond who and where.
func detail(e policy.PlanEntry) []string {
	details := e.What
	if e.Block != "" {
		details = append(details[:len(details):len(details)], "by "+e.Block)
	}
	if e.Affects > 0 {
		details = append(details[:len(details):len(details)], count(e.Affects, "registered address", "registered addresses"))
	}
	return details
}

// text is for a terminal.
func (r *planReport) text(w io.Writer) error {
	var b bytes.Buffer
	out := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, s := range r.sections() {
		for _, e := range s.entries {
			fmt.Fprintf(out, "%s %s\t%s\t%s\t%s\n", s.mark, printable(e.IP), printable(e.Registration), printable(e.Department), printable(e.Contact))
			for _, d := range detail(e) {
				fmt.Fprintf(out, "    %s\n", printable(d))
			}
			if s.claims {
				for _, line := range r.evidence.about(e.IP) {
					fmt.Fprintf(out, "    %s\n", line)
				}
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if !r.Empty() {
		b.WriteByte('\n')
	}
	for _, c := range r.Confirmations {
		fmt.Fprintf(&b, "confirmation of %s to %s\n", printable(c.IP), printable(c.To))
	}
	if text := r.evidence.summary(); text != "" {
		b.WriteString(text + "\n")
	}
	fmt.Fprintf(&b, "%s: %s\n%s\n", r.totals(), r.summary(), r.Digest)
	for line := range strings.Lines(b.String()) {
		// tabwriter pads cells that are empty.
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// Bounds on a comment: a forge refuses one of over 65,536 characters, and then
// nobody would see what merging does.
const (
	maxRows    = 100    // of a table
	maxPlan    = 45_000 // octets of the plan's tables; each gets a fair share, so that none crowds another out
	maxComment = 62_000 // octets, evidence included
)

// markdown is for a pull request's comment. Everything that comes from the
// register stands in code spans, where the forge makes nothing of it.
func (r *planReport) markdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "### What merging this does\n\n**%s**: %s\n", r.totals(), r.summary())
	if r.faulty > 0 {
		fmt.Fprintf(&b, "\n> **Not the whole story:** %s with errors left out; `gatepost check` says what is wrong.\n", count(r.faulty, "file", "files"))
	}
	sections := slices.DeleteFunc(r.sections(), func(s planSection) bool { return len(s.entries) == 0 })
	for i, s := range sections {
		limit := b.Len() + (maxPlan-b.Len())/(len(sections)-i)
		fmt.Fprintf(&b, "\n#### %s (%s)\n\n| address | registration | department | contact | |\n|---|---|---|---|---|\n", s.title, thousands(len(s.entries)))
		shown := rows(&b, limit, s.entries, func(e policy.PlanEntry) string {
			details := detail(e)
			cells := make([]string, len(details))
			for i, d := range details {
				cells[i] = markdownCell(d)
			}
			return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", markdownCell(e.IP), markdownCell(e.Registration),
				markdownCell(e.Department), markdownCell(e.Contact), strings.Join(cells, "<br>"))
		})
		more(&b, len(s.entries)-shown)
	}
	if n := len(r.Confirmations); n > 0 {
		fmt.Fprintf(&b, "\n#### Confirmations (%s)\n\n| address | to |\n|---|---|\n", thousands(n))
		shown := rows(&b, maxPlan+10_000, r.Confirmations, func(c policy.PlanConfirmation) string {
			return fmt.Sprintf("| %s | %s |\n", markdownCell(c.IP), markdownCell(c.To))
		})
		more(&b, n-shown)
	}
	evidenceMarkdown(&b, r.evidence)
	fmt.Fprintf(&b, "\n`%s`\n", r.Digest)
	_, err := w.Write(b.Bytes())
	return err
}

// json is the plan, and below it the evidence, where it was asked for. The
// digest is the plan's alone.
func (r *planReport) json(w io.Writer) error {
	if r.evidence == nil {
		return writeJSON(w, r.Plan)
	}
	return writeJSON(w, struct {
		policy.Plan
		Evidence []witness `json:"evidence"`
		NotAsked int       `json:"notAsked"`
	}{r.Plan, append([]witness{}, r.evidence.list...), r.evidence.left})
}

// rows writes a table's rows, as many as there is room for until b has limit
// octets, and says how many.
func rows[E any](b *bytes.Buffer, limit int, list []E, row func(E) string) (shown int) {
	for _, e := range list[:min(len(list), maxRows)] {
		text := row(e)
		if b.Len()+len(text) > limit {
			break
		}
		b.WriteString(text)
		shown++
	}
	return shown
}

// more says how many rows a table leaves out.
func more(b *bytes.Buffer, n int) {
	if n > 0 {
		fmt.Fprintf(b, "\n… and %s more: `gatepost plan --format json`\n", thousands(n))
	}
}
