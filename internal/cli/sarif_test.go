package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"example.edu/gatepost/internal/register/registration"
)

// sarifSchema compiles the schema of SARIF 2.1.0, which .ci/run gets from a
// package of Microsoft's and which is never committed here.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir := os.Getenv("GATEPOST_CI_DIR")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(home, ".cache", "gatepost-ci")
	}
	file := filepath.Join(dir, "node_modules", "@microsoft", "jest-sarif", "lib", "schemas", "sarif-2.1.0-rtm.5.json")
	if _, err := os.Stat(file); err != nil {
		if os.Getenv("GATEPOST_NO_SKIP") != "" {
			t.Fatalf("%s is not installed; bash .ci/run does it", file)
		}
		t.Skipf("%s is not installed; bash .ci/run does it", file)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat() // uri, uri-reference
	schema, err := c.Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// What check says in SARIF is SARIF, whatever was found.
func TestSARIFIsValid(t *testing.T) {
	schema := sarifSchema(t)
	one := func(p registration.Problem) []registration.Problem {
		if p.Rule == "" {
			p.Rule = registration.RuleBadIP
		}
		if p.Severity == "" {
			p.Severity = registration.Error
		}
		p.Message, p.Hint = "m"+p.Message, "h"+p.Hint
		return []registration.Problem{p}
	}
	var every, many []registration.Problem
	for i, rule := range registration.Rules() {
		severity := registration.Error
		if i%2 == 1 {
			severity = registration.Warning
		}
		every = append(every, registration.Problem{File: "registrations/its/a.cue", Line: i, Column: i % 3, Rule: rule, Severity: severity, Message: "m", Hint: "h"})
	}
	for i := range 1000 {
		many = append(many, registration.Problem{File: fmt.Sprintf("registrations/its/%d.cue", i), Line: i, Column: 1, Rule: registration.Rules()[i%21], Severity: registration.Error, Message: "m", Hint: "h"})
	}
	for name, problems := range map[string][]registration.Problem{
		"none":                 nil,
		"each rule":            every,
		"a thousand":           many,
		"no line":              one(registration.Problem{File: "registrations/its/a.cue"}),
		"no column":            one(registration.Problem{File: "registrations/its/a.cue", Line: 3}),
		"behind the end":       one(registration.Problem{File: "registrations/its/a.cue", Line: 1 << 30, Column: 1 << 30}),
		"a blank":              one(registration.Problem{File: "registrations/its/a b.cue", Line: 1, Column: 1}),
		"a percent sign":       one(registration.Problem{File: "registrations/its/100%.cue", Line: 1, Column: 1}),
		"a colon first":        one(registration.Problem{File: "a:b.cue", Line: 1, Column: 1}),
		"a query":              one(registration.Problem{File: "registrations/its/a?b#c.cue", Line: 1, Column: 1}),
		"no UTF-8":             one(registration.Problem{File: "registrations/its/caf\xe9.cue", Line: 1, Column: 1, Message: "\xff"}),
		"another script":       one(registration.Problem{File: "registrations/its/物理.cue", Line: 1, Column: 1, Message: "物理"}),
		"control characters":   one(registration.Problem{File: "registrations/its/\x1b\n\x00.cue", Line: 1, Column: 1, Message: "\x00\x1b"}),
		"brackets":             one(registration.Problem{File: `registrations/its/[a]{b}\c"<d>^|` + "`.cue", Line: 1, Column: 1}),
		"two slashes":          one(registration.Problem{File: "//evil.example/a.cue", Line: 1, Column: 1}),
		"a rule of the future": one(registration.Problem{File: "registrations/its/a.cue", Rule: "new-rule", Line: 1, Column: 1}),
		"a command":            one(registration.Problem{File: "registrations/its/a.cue", Line: 1, Column: 1, Message: "##[add-mask]x"}),
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := printProblems(&b, "sarif", problems, func(string) []byte { return []byte("one\ntwo\n") }); err != nil {
				t.Fatal(err)
			}
			validateSARIF(t, schema, b.Bytes())
			if got := strings.Count(b.String(), `"ruleIndex"`); got != len(problems) {
				t.Errorf("%d results of %d problems", got, len(problems))
			}
		})
	}
	t.Run("the test can fail", func(t *testing.T) {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"version": "2.1.0", "runs": [{"tool": {"driver": {}}}]}`))
		if err != nil || schema.Validate(value) == nil {
			t.Error("a driver without a name is accepted", err)
		}
	})
}

func validateSARIF(t *testing.T, schema *jsonschema.Schema, text []byte) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}
