package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"example.edu/gatepost/internal/register/registration"
)

// strict decodes JSON and refuses what the type does not have.
func strict(ts *testscript.TestScript, file string, into any) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	dec.DisallowUnknownFields()
	ts.Check(dec.Decode(into))
}

// rules wants the problems in a JSON report to be complete, and to break every
// rule that there is.
func rules(ts *testscript.TestScript, neg bool, args []string) {
	var problems []struct {
		File, Rule, Severity, Message, Hint string
		Line, Column                        *int
	}
	strict(ts, args[0], &problems)
	seen := map[string]bool{}
	for _, p := range problems {
		seen[p.Rule] = true
		if p.File == "" || p.Line == nil || p.Column == nil || p.Message == "" || p.Hint == "" || p.Severity != "error" && p.Severity != "warning" {
			ts.Fatalf("incomplete: %+v", p)
		}
	}
	for _, rule := range registration.Rules() {
		if !seen[string(rule)] {
			ts.Fatalf("nothing breaks rule %s", rule)
		}
	}
}

// places compares check's text with a file that has place and rule of each
// problem: what they are about, not how the rules' owners word it.
func places(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: places GOT WANT")
	}
	var got strings.Builder
	hinted := true
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if strings.HasPrefix(line, "  hint: ") {
			hinted = true
			continue
		}
		parts := strings.SplitN(line, ": ", 3)
		if !hinted || len(parts) != 3 {
			ts.Fatalf("not a problem with a hint: %s", line)
		}
		hinted = false
		got.WriteString(parts[0] + ": " + parts[1] + "\n")
	}
	if want := ts.ReadFile(args[1]); got.String() != want || !hinted {
		ts.Fatalf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

// sarif wants a report that code scanning would take: each result with a known
// rule, a level, a text and a place.
func sarif(ts *testscript.TestScript, neg bool, args []string) {
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name, Version string
					Rules         []struct {
						ID               string
						ShortDescription struct{ Text string }
					}
				}
			}
			ColumnKind string
			Results    []struct {
				RuleID, Level string
				RuleIndex     *int
				Message       struct{ Text string }
				Locations     []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI, URIBaseID string }
						Region           struct{ StartLine, StartColumn int }
					}
				}
			}
		}
	}
	strict(ts, args[0], &log)
	if log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name != "gatepost" {
		ts.Fatalf("not one run of gatepost in SARIF 2.1.0")
	}
	run := log.Runs[0]
	for _, rule := range run.Tool.Driver.Rules {
		if rule.ShortDescription.Text == "" || rule.ShortDescription.Text == rule.ID {
			ts.Fatalf("rule %s is not described", rule.ID)
		}
	}
	for _, r := range run.Results {
		ok := r.RuleIndex != nil && run.Tool.Driver.Rules[*r.RuleIndex].ID == r.RuleID &&
			slices.Contains([]string{"error", "warning"}, r.Level) && r.Message.Text != "" && len(r.Locations) == 1
		if !ok {
			ts.Fatalf("incomplete: %+v", r)
		}
		at := r.Locations[0].PhysicalLocation
		if !strings.HasPrefix(at.ArtifactLocation.URI, "registrations/") || at.Region.StartLine < 1 || at.Region.StartColumn < 1 {
			ts.Fatalf("no place: %+v", r)
		}
	}
	if len(run.Results) == 0 {
		ts.Fatalf("no results")
	}
}

// tooLarge makes a file one byte too large for a registration.
func tooLarge(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Repeat([]byte("/"), registration.MaxFile+1), 0o666))
}
