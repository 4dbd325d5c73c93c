package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/evidence"
	"example.edu/gatepost/internal/register/registration"
)

// summary counts the findings; "" where none was asked for.
func (w *witnesses) summary() string {
	if w == nil {
		return ""
	}
	var n [3]int
	for _, e := range w.list {
		for _, f := range e.Findings {
			n[f.Outcome]++
		}
	}
	text := fmt.Sprintf("evidence on %s: %d confirmed, %d contradicted, %d unknown", count(len(w.list), "address", "addresses"),
		n[evidence.Confirmed], n[evidence.Contradicted], n[evidence.Unknown])
	if w.left > 0 {
		text += fmt.Sprintf("; nobody was asked about %s more", thousands(w.left))
	}
	return text
}

// entries are those to render; none where none was asked for.
func (w *witnesses) entries() []witness {
	if w == nil {
		return nil
	}
	return w.list
}

// lines are what was found of one address, as they stand below it.
func (e witness) lines() []string {
	var lines []string
	for _, f := range e.Findings {
		lines = append(lines, printable(fmt.Sprintf("%s: %s: %s", f.Source, f.Outcome, f.Text)))
		for _, d := range f.Detail {
			lines = append(lines, "  "+printable(d))
		}
	}
	return lines
}

// about are the lines on one address, if there are any.
func (w *witnesses) about(ip string) []string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return nil
	}
	list := w.entries()
	i, found := slices.BinarySearchFunc(list, addr, func(e witness, a netip.Addr) int { return e.IP.Compare(a) })
	if !found {
		return nil
	}
	return list[i].lines()
}

// evidenceText is for people: the place and the address, then what was found.
func evidenceText(out io.Writer, w *witnesses) error {
	var b bytes.Buffer
	for _, e := range w.entries() {
		fmt.Fprintf(&b, "%s:%d:%d: evidence: %s %s\n", printable(e.File), max(e.Line, 1), max(e.Column, 1), e.IP, printable(e.Name))
		for _, line := range e.lines() {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// evidenceGitHub annotates the lines of addresses that something is to be said
// against, or of which nothing is known. A runner shows few notes, so what is
// confirmed makes none.
func evidenceGitHub(out io.Writer, w *witnesses) error {
	for _, e := range w.entries() {
		for _, f := range e.Findings {
			command := "notice"
			switch f.Outcome {
			case evidence.Confirmed:
				continue
			case evidence.Contradicted:
				command = "warning"
			}
			_, err := fmt.Fprintf(out, "::%s file=%s,line=%d,col=%d,title=%s::%s\n", command, workflowProperty(e.File), max(e.Line, 1), max(e.Column, 1),
				workflowProperty("evidence: "+f.Source), workflowData(printable(f.Outcome.String()+": "+f.Text)))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// checkJSON is the form of check's JSON with --evidence: problems as without
// it, and what was found.
type checkJSON struct {
	Problems []registration.Problem `json:"problems"`
	Evidence []witness              `json:"evidence"`
	NotAsked int                    `json:"notAsked"` // addresses over the bound
}

// printFindings writes problems and evidence in one of check's formats.
func printFindings(out io.Writer, format string, found findings, w *witnesses) error {
	if format == "json" && w != nil {
		report := checkJSON{Problems: found.problems, Evidence: w.list, NotAsked: w.left}
		if report.Problems == nil {
			report.Problems = []registration.Problem{}
		}
		if report.Evidence == nil {
			report.Evidence = []witness{}
		}
		return writeJSON(out, report)
	}
	if err := printProblems(out, format, found.problems, found.source); err != nil {
		return err
	}
	if format == "github" {
		return evidenceGitHub(out, w)
	}
	return evidenceText(out, w)
}

// evidenceMarkdown is a table for a pull request's comment.
func evidenceMarkdown(b *bytes.Buffer, w *witnesses) {
	list := w.entries()
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n#### Evidence (%s)\n\n| address | | source | |\n|---|---|---|---|\n", thousands(len(list)))
	marks := map[evidence.Outcome]string{evidence.Confirmed: "✓", evidence.Contradicted: "✗", evidence.Unknown: "?"}
	shown := rows(b, maxComment, list[:min(len(list), maxRows/2)], func(e witness) string {
		var lines strings.Builder
		for _, f := range e.Findings {
			cells := []string{markdownCell(f.Text)}
			for _, d := range f.Detail {
				cells = append(cells, markdownCell(d))
			}
			fmt.Fprintf(&lines, "| %s | %s %s | %s | %s |\n", markdownCell(e.IP.String()), marks[f.Outcome], f.Outcome, f.Source, strings.Join(cells, "<br>"))
		}
		return lines.String()
	})
	if n := len(list) - shown + w.left; n > 0 {
		fmt.Fprintf(b, "\n… and %s more addresses: `gatepost check --evidence`\n", thousands(n))
	}
}
