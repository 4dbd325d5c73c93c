package review

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/evidence"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// Bounds on a comment: a forge refuses one of over 65,536 characters, and then
// nobody would see what merging does.
const (
	maxRows     = 100    // of a table
	maxProblems = 12_000 // octets of the list of problems
	maxWarnings = 5_000  // octets of the list of warnings
	maxPlan     = 38_000 // octets up to the end of the tables of addresses; each gets a fair share, so that none crowds another out
	maxComment  = 58_000 // octets, senders, confirmations and evidence included; package forge adds a line of its own
)

// Markdown is the plan, and what was found of its addresses, for a comment or a
// summary. Everything that comes from the register stands in code spans, where
// the forge makes nothing of it.
func (p Plan) Markdown(w *Witnesses) string {
	var b bytes.Buffer
	p.markdown(&b, w)
	return b.String()
}

func (p Plan) markdown(b *bytes.Buffer, w *Witnesses) {
	fmt.Fprintf(b, "### What merging this does\n\n**%s**: %s\n", p.Totals(), p.Summary())
	if p.Faulty > 0 {
		fmt.Fprintf(b, "\n> **Not the whole story:** %s with errors left out; `gatepost check` says what is wrong.\n", Count(p.Faulty, "file", "files"))
	}
	if n := len(p.Warnings); n > 0 {
		fmt.Fprintf(b, "\n#### Look twice (%s)\n\nWhat the files of those concerned do not show:\n\n", Thousands(n))
		shown := rows(b, b.Len()+maxWarnings, p.Warnings, func(w policy.PlanWarning) string {
			return fmt.Sprintf("- %s (%s)\n", span(w.Message), span(Place(w)))
		})
		more(b, n-shown)
	}
	sections := slices.DeleteFunc(p.Sections(), func(s Section) bool { return len(s.Entries) == 0 })
	for i, s := range sections {
		limit := b.Len() + (maxPlan-b.Len())/(len(sections)-i)
		fmt.Fprintf(b, "\n#### %s (%s)\n\n| address | registration | department | contact | |\n|---|---|---|---|---|\n", s.Title, Thousands(len(s.Entries)))
		shown := rows(b, limit, s.Entries, func(e policy.PlanEntry) string {
			details := Detail(e)
			cells := make([]string, len(details))
			for i, d := range details {
				cells[i] = code(d)
			}
			return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", code(e.IP), code(e.Registration),
				code(e.Department), code(e.Contact), strings.Join(cells, "<br>"))
		})
		more(b, len(s.Entries)-shown)
	}
	if n := len(p.Senders); n > 0 {
		fmt.Fprintf(b, "\n#### Senders newly allowed (%s)\n\n| address | registration | may send as |\n|---|---|---|\n", Thousands(n))
		shown := rows(b, maxPlan+6_000, p.Senders, func(s policy.PlanSender) string {
			return fmt.Sprintf("| %s | %s | %s |\n", code(s.IP), code(s.Registration), code(Senders(s)))
		})
		more(b, n-shown)
	}
	if n := len(p.Confirmations); n > 0 {
		fmt.Fprintf(b, "\n#### Confirmations (%s)\n\n| address | to |\n|---|---|\n", Thousands(n))
		shown := rows(b, maxPlan+12_000, p.Confirmations, func(c policy.PlanConfirmation) string {
			return fmt.Sprintf("| %s | %s |\n", code(c.IP), code(c.To))
		})
		more(b, n-shown)
	}
	evidenceMarkdown(b, w)
	fmt.Fprintf(b, "\n`%s`\n", p.Digest)
}

// Comment is what a request is told: a first line of the caller's own, what is
// wrong and what merging does, each where there is something. It fits into one
// comment of GitHub's.
func Comment(lead string, problems []registration.Problem, plan *Plan, w *Witnesses) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\n", lead)
	if len(problems) > 0 {
		problemsMarkdown(&b, problems)
		b.WriteByte('\n')
	}
	if plan != nil {
		plan.markdown(&b, w)
	}
	return b.String()
}

// problemsMarkdown is a table of problems, errors first: where they are, and
// what to do.
func problemsMarkdown(b *bytes.Buffer, problems []registration.Problem) {
	fmt.Fprintf(b, "| place | | what is wrong |\n|---|---|---|\n")
	listed := slices.Clone(problems)
	slices.SortStableFunc(listed, func(a, b registration.Problem) int { return rank(a) - rank(b) })
	shown := rows(b, b.Len()+maxProblems, listed, func(p registration.Problem) string {
		mark := "**error**"
		if p.Severity == registration.Warning {
			mark = "warning"
		}
		return fmt.Sprintf("| %s | %s %s | %s<br>%s |\n", code(fmt.Sprintf("%s:%d", p.File, max(p.Line, 1))), mark, code(string(p.Rule)), code(p.Message), code("hint: "+p.Hint))
	})
	if n := len(listed) - shown; n > 0 {
		fmt.Fprintf(b, "\n… and %s more: `gatepost check`\n", Thousands(n))
	}
}

func rank(p registration.Problem) int {
	if p.Severity == registration.Warning {
		return 1
	}
	return 0
}

// evidenceMarkdown is a table of what was found.
func evidenceMarkdown(b *bytes.Buffer, w *Witnesses) {
	list := w.Entries()
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n#### Evidence (%s)\n\n| address | | source | |\n|---|---|---|---|\n", Thousands(len(list)))
	marks := map[evidence.Outcome]string{evidence.Confirmed: "✓", evidence.Contradicted: "✗", evidence.Unknown: "?"}
	shown := rows(b, maxComment, list[:min(len(list), maxRows/2)], func(e Witness) string {
		var lines strings.Builder
		for _, f := range e.Findings {
			cells := []string{code(f.Text)}
			for _, d := range f.Detail {
				cells = append(cells, code(d))
			}
			fmt.Fprintf(&lines, "| %s | %s %s | %s | %s |\n", code(e.IP.String()), marks[f.Outcome], f.Outcome, f.Source, strings.Join(cells, "<br>"))
		}
		return lines.String()
	})
	if n := len(list) - shown + w.Left; n > 0 {
		fmt.Fprintf(b, "\n… and %s more addresses: `gatepost check --evidence`\n", Thousands(n))
	}
}

// rows writes rows, as many as there is room for until b has limit octets, and
// says how many.
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
		fmt.Fprintf(b, "\n… and %s more: `gatepost plan --format json`\n", Thousands(n))
	}
}

// PathsMarkdown is a list of paths, one a line.
func PathsMarkdown(paths []string) string {
	var b bytes.Buffer
	shown := rows(&b, maxProblems, paths, func(p string) string { return "- " + span(p) + "\n" })
	if n := len(paths) - shown; n > 0 {
		fmt.Fprintf(&b, "- … and %s more\n", Thousands(n))
	}
	return b.String()
}

// NamesMarkdown is a few names in one line.
func NamesMarkdown(names []string) string {
	const most = 5
	var spans []string
	for _, n := range names[:min(most, len(names))] {
		spans = append(spans, span(n))
	}
	if n := len(names) - most; n > 0 {
		spans = append(spans, fmt.Sprintf("%s more", Thousands(n)))
	}
	return strings.Join(spans, ", ")
}
