package cli

import (
	"bytes"
	"fmt"
	"io"

	"example.edu/gatepost/internal/register/evidence"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// findingLines are what was found of one address, as they stand below it.
func findingLines(e *review.Witness) []string {
	if e == nil {
		return nil
	}
	var lines []string
	for _, f := range e.Findings {
		lines = append(lines, printable(fmt.Sprintf("%s: %s: %s", f.Source, f.Outcome, f.Text)))
		for _, d := range f.Detail {
			lines = append(lines, "  "+printable(d))
		}
	}
	return lines
}

// evidenceText is for people: the place and the address, then what was found.
func evidenceText(out io.Writer, w *review.Witnesses) error {
	var b bytes.Buffer
	for _, e := range w.Entries() {
		fmt.Fprintf(&b, "%s:%d:%d: evidence: %s %s\n", printable(e.File), max(e.Line, 1), max(e.Column, 1), e.IP, printable(e.Name))
		for _, line := range findingLines(&e) {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// evidenceGitHub annotates the lines of addresses that something is to be said
// against, or of which nothing is known. A runner shows few notes, so what is
// confirmed makes none.
func evidenceGitHub(out io.Writer, w *review.Witnesses) error {
	for _, e := range w.Entries() {
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
	Evidence []review.Witness       `json:"evidence"`
	NotAsked int                    `json:"notAsked"` // addresses over the bound
}

// printFindings writes problems and evidence in one of check's formats.
func printFindings(out io.Writer, format string, found findings, w *review.Witnesses) error {
	if format == "json" && w != nil {
		report := checkJSON{Problems: found.problems, Evidence: w.List, NotAsked: w.Left}
		if report.Problems == nil {
			report.Problems = []registration.Problem{}
		}
		if report.Evidence == nil {
			report.Evidence = []review.Witness{}
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
