package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/review"
)

// maxTold bounds the rows of each list: the comment has to hold the plan as well.
const maxTold = 20

// Told is what a comment says beyond the verdict. The zero Told is nothing.
type Told struct {
	Page   string  // where the request's page is; "" where there is none
	By     string  // who asked, where the request is by the portal's own account; any text
	Speaks bool    // By speaks for the department, as the portal checked
	Proofs []Proof // of the addresses that it adds
	Live   []Live  // where it is live, once it is merged

	MergedAt time.Time // zero: not merged
}

// A Proof says whether control of an address was proved.
type Proof struct {
	IP    netip.Addr
	At    time.Time // zero: not yet
	Relay string    // which saw it
}

// A Live says since when a relay has the request.
type Live struct {
	Relay string
	At    time.Time // zero: not yet
	Note  string    // why not, or how old that is; any text
}

// On is on how many of the relays it is live.
func (t Told) On() (n int) {
	for _, l := range t.Live {
		if !l.At.IsZero() {
			n++
		}
	}
	return n
}

// After is how long after the merge the last of the relays had it; 0 if not all
// have it, or it is not merged.
func (t Told) After() time.Duration {
	if t.MergedAt.IsZero() || len(t.Live) == 0 || t.On() < len(t.Live) {
		return 0
	}
	last := slices.MaxFunc(t.Live, func(a, b Live) int { return a.At.Compare(b.At) })
	return max(last.At.Sub(t.MergedAt), time.Second).Round(time.Second)
}

// Summary is one line about where it is live, for a commit status.
func (t Told) Summary() string {
	switch {
	case t.MergedAt.IsZero():
		return "waiting for merge"
	case len(t.Live) == 0:
		return "merged; no relay is asked"
	}
	line := fmt.Sprintf("live on %d of %s", t.On(), review.Count(len(t.Live), "relay", "relays"))
	if after := t.After(); after > 0 {
		line += ", " + lasting(after) + " after merge"
	}
	return line
}

// lasting is a length of time as one says it.
func lasting(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// markdown is what stands between the verdict and the plan.
func (t Told) markdown() string {
	var b strings.Builder
	if t.By != "" {
		if t.Speaks {
			fmt.Fprintf(&b, "Asked for in the portal by %s, who speaks for the department.\n\n", review.Span(t.By))
		} else {
			fmt.Fprintf(&b, "Asked for in the portal by %s, who is **not** listed as a speaker of the department.\n\n", review.Span(t.By))
		}
	}
	if t.Page != "" {
		fmt.Fprintf(&b, "The page of this request: <%s>\n\n", t.Page)
	}
	if !t.MergedAt.IsZero() && len(t.Live) > 0 {
		fmt.Fprintf(&b, "### Where it is live\n\n**%s**\n\n| relay | since |\n|---|---|\n", t.Summary())
		for _, l := range t.Live[:min(len(t.Live), maxTold)] {
			since := moment(l.At)
			if l.At.IsZero() {
				since = "not yet"
			}
			if l.Note != "" {
				since += " " + review.Cell(clip(l.Note))
			}
			fmt.Fprintf(&b, "| %s | %s |\n", review.Cell(l.Relay), since)
		}
		more(&b, len(t.Live))
	}
	if len(t.Proofs) > 0 {
		proved := 0
		for _, p := range t.Proofs {
			if !p.At.IsZero() {
				proved++
			}
		}
		fmt.Fprintf(&b, "### Control of the addresses (%d of %d proved)\n\n", proved, len(t.Proofs))
		b.WriteString("Whoever asked was told how to prove, from each machine, that it is theirs. No proof is needed; it is one thing more to go by.\n\n| address | |\n|---|---|\n")
		for _, p := range t.Proofs[:min(len(t.Proofs), maxTold)] {
			if p.At.IsZero() {
				fmt.Fprintf(&b, "| %s | not proved |\n", review.Cell(p.IP.String()))
				continue
			}
			fmt.Fprintf(&b, "| %s | ✓ proved %s, seen by %s |\n", review.Cell(p.IP.String()), moment(p.At), review.Cell(p.Relay))
		}
		more(&b, len(t.Proofs))
	}
	return strings.TrimSpace(b.String())
}

func more(b *strings.Builder, n int) {
	if n > maxTold {
		fmt.Fprintf(b, "\n… and %s more\n", review.Thousands(n-maxTold))
	}
	b.WriteByte('\n')
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// clip bounds a note in a cell.
func clip(s string) string {
	const most = 200
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
