package review

import (
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

func TestPrintableShowsWhatCouldSteerATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, ümläut → 日本": "plain text, ümläut → 日本",
		"":                        "",
		"two\nlines\r\tand a tab": `two\nlines\r\tand a tab`,
		"\x1b[31mred":             `\x1b[31mred`,
		"\u009b31mred":            `\u009b31mred`,
		"bad \xff utf-8":          `bad \xff utf-8`,
		"right\u202eto left":      `right\u202eto left`,
		"line\u2028separator":     `line\u2028separator`,
		"tag \U000e0041":          `tag \U000e0041`,
		"a real \ufffd":           `a real \ufffd`,
		"a ##[add-mask]b":         `a #\x23[add-mask]b`,      // of GitHub's runner
		"##vso[task.complete]":    `#\x23vso[task.complete]`, // of Azure's
		"###[x]":                  `#\x23#[x]`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMarkdownCellsCannotBeLeft(t *testing.T) {
	for in, want := range map[string]string{
		"physics-it@umich.edu":  "`physics-it@umich.edu`",
		"":                      "",
		"a`b``c":                "`a'b''c`",
		"| x | <script>":        "`\\| x \\| <script>`",
		"two\nlines":            "`two\\nlines`",
		"@octocat #1 https://x": "`@octocat #1 https://x`",
	} {
		if got := code(in); got != want {
			t.Errorf("code(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMarkdownOfALargePlanFitsAComment(t *testing.T) {
	r := Plan{Plan: policy.Plan{After: 100_000}}
	for range 100_000 {
		e := policy.PlanEntry{IP: "2607:f018:1111:2222:3333:4444:5555:6666", Registration: "registrations/lsa-physics/printers.cue", Department: "lsa-physics", Contact: "physics-it@umich.edu"}
		r.Added = append(r.Added, e)
		r.Removed = append(r.Removed, e)
		r.Changed = append(r.Changed, e)
		r.Confirmations = append(r.Confirmations, policy.PlanConfirmation{IP: e.IP, To: e.Contact})
		r.Senders = append(r.Senders, policy.PlanSender{IP: e.IP, Registration: e.Registration, Senders: []string{"*@physics.lsa.umich.edu"}})
		r.Warnings = append(r.Warnings, policy.PlanWarning{Message: strings.Repeat("w", 300), File: e.Registration, Line: 7})
	}
	for _, b := range []string{r.Markdown(nil), Comment("Errors.", many(200), &r, nil)} {
		if len(b) > 60_000 {
			t.Errorf("%d characters, and a comment holds 65,536 with what the forge adds", len(b))
		}
		if !strings.Contains(b, "more: `gatepost plan") || !strings.Contains(b, "0 → 100,000 addresses") || !strings.Contains(b, "#### Look twice (100,000)") || !strings.Contains(b, "#### Senders newly allowed (100,000)") {
			t.Errorf("the rest is not counted:\n%s", b[len(b)-500:])
		}
	}
	if b := r.Markdown(nil); !strings.Contains(b, "and 99,9") {
		t.Errorf("many rows, and the rest counted:\n%s", b[len(b)-500:])
	}
	if b := Comment("Errors.", many(200), nil, nil); strings.Count(b, "**error** `bad-ip`") < 20 || !strings.Contains(b, "more: `gatepost check`") {
		t.Errorf("few problems are shown:\n%s", b)
	}
}

// A request with long texts cannot keep its plan from being shown, nor what it
// adds by what it changes.
func TestMarkdownOfLongTextsFitsAComment(t *testing.T) {
	r := Plan{}
	long := strings.Repeat("x", 2000)
	for range 64 {
		r.Removed = append(r.Removed, policy.PlanEntry{IP: "141.211.13.1", Registration: "registrations/a/b.cue", What: []string{long}})
		r.Changed = append(r.Changed, policy.PlanEntry{IP: "141.211.13.2", Registration: "registrations/a/b.cue", What: []string{long, long}})
	}
	r.Added = append(r.Added, policy.PlanEntry{IP: "141.211.13.66", Registration: "registrations/a/evil.cue"})
	b := Comment("Three errors.", many(200), &r, nil)
	if len(b) > 65_536 {
		t.Errorf("%d characters, and a comment holds 65,536", len(b))
	}
	for _, want := range []string{"141.211.13.1`", "141.211.13.2`", "141.211.13.66`", "#### Removed (64)", "more: "} {
		if !strings.Contains(b, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestThousands(t *testing.T) {
	for in, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", 1000000: "1,000,000", -4321: "-4,321"} {
		if got := Thousands(in); got != want {
			t.Errorf("Thousands(%d) = %s, want %s", in, got, want)
		}
	}
}

// many are problems with long texts.
func many(n int) []registration.Problem {
	out := make([]registration.Problem, n)
	for i := range out {
		out[i] = registration.Problem{
			File: "registrations/lsa-physics/mfp.cue", Line: i + 1, Rule: registration.RuleBadIP, Severity: registration.Error,
			Message: strings.Repeat("m", 200), Hint: strings.Repeat("h", 200),
		}
	}
	return out
}
