package cli

import (
	"bytes"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/registration"
)

func TestTextIsOneLineAndAHintForEachProblem(t *testing.T) {
	var b bytes.Buffer
	err := printProblems(&b, "text", []registration.Problem{
		{File: "registrations/x\n::error::/y.cue", Line: 0, Column: 0, Rule: registration.RulePath, Severity: registration.Error, Message: "evil\n::error file=z::no", Hint: "mend\x1b[2J it"},
		{File: "registrations/x/y.cue", Line: 3, Column: 7, Rule: registration.RuleExpired, Severity: registration.Warning, Message: "over", Hint: "renew"},
	}, nil)
	want := "registrations/x\\n::error::/y.cue:1:1: path: evil\\n::error file=z::no\n  hint: mend\\x1b[2J it\n" +
		"registrations/x/y.cue:3:7: expired: warning: over\n  hint: renew\n"
	if err != nil || b.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, b.String(), want)
	}
}

func TestWorkflowCommandsCannotBeInjected(t *testing.T) {
	var b bytes.Buffer
	err := printProblems(&b, "github", []registration.Problem{
		{File: "registrations/a,line=1::b%0A.cue", Line: 2, Column: 3, Rule: "schema", Severity: registration.Error, Message: "100%\r\n::stop-commands::x", Hint: "a: b, c"},
		{File: "registrations/c.cue", Rule: "expired", Severity: registration.Warning, Message: "m", Hint: "h"},
	}, nil)
	want := "::error file=registrations/a%2Cline=1%3A%3Ab%250A.cue,line=2,col=3,title=schema::100%25%0D%0A::stop-commands::x%0Ahint: a: b, c\n" +
		"::warning file=registrations/c.cue,line=1,col=1,title=expired::m%0Ahint: h\n"
	if err != nil || b.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, b.String(), want)
	}
}

func TestNoProblemIsAnEmptyArray(t *testing.T) {
	var b bytes.Buffer
	if err := printProblems(&b, "json", nil, nil); err != nil || b.String() != "[]\n" {
		t.Errorf("got %v %q", err, b.String())
	}
}

func TestJSONIsTheContract(t *testing.T) {
	var b bytes.Buffer
	err := printProblems(&b, "json", []registration.Problem{
		{File: "registrations/a.cue", Line: 2, Column: 3, Rule: "bad-ip", Severity: registration.Error, Message: "<b> & \x1b ##[add-mask]", Hint: "h"},
	}, nil)
	want := `[
  {
    "file": "registrations/a.cue",
    "line": 2,
    "column": 3,
    "rule": "bad-ip",
    "severity": "error",
    "message": "<b> & \u001b #\u0023[add-mask]",
    "hint": "h"
  }
]
`
	if err != nil || b.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, b.String(), want)
	}
}

func TestColumnsOfSARIFAreCodePoints(t *testing.T) {
	data := []byte("first\nname: \"Zoë\", x\nlast")
	for _, c := range []struct{ line, column, want int }{
		{1, 1, 1},
		{2, 7, 7},
		{2, 14, 13}, // after the ë of two bytes
		{3, 5, 5},   // behind the end of the file
		{9, 4, 4},   // a line that is not there
		{0, 0, 1},
	} {
		if got := codePoints(data, c.line, c.column); got != c.want {
			t.Errorf("codePoints(%d, %d) = %d, want %d", c.line, c.column, got, c.want)
		}
	}
}

func TestCommandLineCanBePasted(t *testing.T) {
	for _, c := range []struct {
		args               []string
		wrong, right, want string
	}{
		{[]string{"chek", "--base", "main"}, "chek", "check", "gatepost check --base main"},
		{[]string{"check", "--base=mian"}, "mian", "main", "gatepost check --base=main"},
		{[]string{"accept", "x", "--reason", "it's $HOME; rm -rf"}, "x", "y", `gatepost accept y --reason 'it'\''s $HOME; rm -rf'`},
		{[]string{"why", ""}, "?", "!", "gatepost why ''"},
		{[]string{"fmt", "~"}, "?", "!", "gatepost fmt '~'"},
	} {
		if got := corrected(c.args, c.wrong, c.right); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"check", "plan", "fmt", "why", "status"}
	for in, want := range map[string]string{
		"chek": "check", "chekc": "check", "pl": "plan", "plna": "plan", "stats": "status", "frobnicate": "", "": "",
		strings.Repeat("x", 1000): "",
	} {
		if got := nearest(in, words, 2); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}
