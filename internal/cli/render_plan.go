package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/review"
)

// text is for a terminal.
func (r *planReport) text(w io.Writer) error {
	var b bytes.Buffer
	out := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, s := range r.Sections() {
		for _, e := range s.Entries {
			fmt.Fprintf(out, "%s %s\t%s\t%s\t%s\n", s.Mark, printable(e.IP), printable(e.Registration), printable(e.Department), printable(e.Contact))
			for _, d := range review.Detail(e) {
				fmt.Fprintf(out, "    %s\n", printable(d))
			}
			if s.Claims {
				for _, line := range findingLines(r.evidence.About(e.IP)) {
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
	for _, s := range r.Senders {
		fmt.Fprintf(&b, "%s may newly send as %s\n", printable(s.IP), printable(review.Senders(s)))
	}
	for _, c := range r.Confirmations {
		fmt.Fprintf(&b, "confirmation of %s to %s\n", printable(c.IP), printable(c.To))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s (%s)\n", printable(w.Message), printable(review.Place(w)))
	}
	if text := r.evidence.Summary(); text != "" {
		b.WriteString(text + "\n")
	}
	fmt.Fprintf(&b, "%s: %s\n%s\n", r.Totals(), r.Summary(), r.Digest)
	for line := range strings.Lines(b.String()) {
		// tabwriter pads cells that are empty.
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// json is the plan, and below it the evidence, where it was asked for. The
// digest is the plan's alone.
func (r *planReport) json(w io.Writer) error {
	if r.evidence == nil {
		return writeJSON(w, r.Plan.Plan)
	}
	return writeJSON(w, struct {
		policy.Plan
		Evidence []review.Witness `json:"evidence"`
		NotAsked int              `json:"notAsked"`
	}{r.Plan.Plan, append([]review.Witness{}, r.evidence.List...), r.evidence.Left})
}
