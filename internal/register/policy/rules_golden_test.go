package policy_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	rulesDir  = "testdata/rules"
	singleDir = "../registration/testdata" // the cases of one file alone
)

func goldenNow() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// A ruleCase is testdata/rules/NNN-name.cue: one file that a request puts on
// top of testdata/register. Lines at its head say how, each after "//":
//
//	path: where the file goes; registrations/lsa-physics/new.cue without
//	author: LOGIN:ID [TEAM], or nobody; octocat, who speaks for physics, without
//	remove: a file of the register that the request takes away
//	base: a file under campus/ that is there before and after
//	also: a folder of testdata whose files are there before and after
//	site: the site rules
//	cap: the relay's cap, PERHOUR PERDAY
//	mode: symlink, submodule or other
//	odd: what is odd about the name; unusable: true: the name is no path
//	at: RULE WORD: a problem of that rule stands at the first such word
type ruleCase struct {
	said   map[string]string
	at     []string
	source registration.Source
}

func readRuleCase(t *testing.T, file string) ruleCase {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := ruleCase{said: map[string]string{"path": "registrations/lsa-physics/new.cue", "author": "octocat:583231"}}
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "//"), ": ")
		switch {
		case !strings.HasPrefix(line, "//") || !ok:
		case key == "at":
			c.at = append(c.at, value)
			continue
		case slices.Contains([]string{"path", "author", "remove", "base", "also", "site", "cap", "mode", "odd", "unusable"}, key):
			c.said[key] = value
			continue
		default:
			t.Fatalf("%s: what is %q?", file, key)
		}
		break
	}
	modes := map[string]registration.Mode{"symlink": registration.Symlink, "submodule": registration.Submodule, "other": registration.Other}
	c.source = registration.Source{Path: c.said["path"], Mode: modes[c.said["mode"]], Size: int64(len(data)), Data: data}
	return c
}

// author is who opens the request.
func (c ruleCase) author(t *testing.T) policy.Author {
	t.Helper()
	name := c.said["author"]
	if name == "nobody" {
		return policy.Author{}
	}
	name, team, hasTeam := strings.Cut(name, " ")
	login, id, _ := strings.Cut(name, ":")
	a := policy.Author{Login: login}
	var err error
	if a.ID, err = strconv.ParseInt(id, 10, 64); err != nil {
		t.Fatal(err)
	}
	if hasTeam {
		n, err := strconv.ParseInt(team, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		a.Teams = []int64{n}
	}
	return a
}

// judge is what check says of the request, what the relay says of the register
// after it, and how the addresses of the file then stand.
func (c ruleCase) judge(t *testing.T) (problems []registration.Problem, golden string) {
	t.Helper()
	var site []byte
	if text, ok := c.said["site"]; ok {
		site = []byte(text)
	}
	parser, err := registration.NewParser(site)
	if err != nil {
		t.Fatal(err)
	}
	base := parseRegister(t, parser, "testdata/register")
	if text, ok := c.said["base"]; ok {
		base = append(base, parser.Parse(registration.Source{Path: "registrations/campus/base.cue", Size: int64(len(text)), Data: []byte(text)}))
	}
	if dir, ok := c.said["also"]; ok {
		base = append(base, parseRegister(t, parser, filepath.Join("testdata", dir))...)
	}
	file := parser.ParseOdd(c.source, c.said["odd"], c.said["unusable"] == "true")
	head := []*registration.File{file}
	for _, f := range base {
		if f.Path != file.Path && f.Path != c.said["remove"] {
			head = append(head, f)
		}
	}
	problems = policy.Judge(base, head, c.author(t), goldenNow())

	var o policy.Options
	o.Now = goldenNow()
	o.Incumbents, _ = policy.Build(base, o)
	fmt.Sscan(c.said["cap"], &o.MaxVolume.PerHour, &o.MaxVolume.PerDay)
	snapshot, all := policy.Build(head, o)

	var b strings.Builder
	say := func(title string, list []registration.Problem) {
		fmt.Fprintf(&b, "%s:\n", title)
		for _, p := range list {
			fmt.Fprintf(&b, "  %s:%d:%d: %s: %s: %s\n    hint: %s\n", p.File, p.Line, p.Column, p.Rule, p.Severity, p.Message, p.Hint)
		}
	}
	say("the request of "+c.said["author"], problems)
	if slices.Equal(problems, all) {
		b.WriteString("the register after it: the same\n")
	} else {
		say("the register after it", all)
	}
	fmt.Fprintf(&b, "the addresses of the file:\n")
	if r := file.Registration; r != nil {
		for _, h := range r.Hosts {
			v := snapshot.Lookup(h.IP, goldenNow())
			by := ""
			if v.Registration != nil && v.Registration.Path != file.Path {
				by = " by " + v.Registration.Path
			}
			fmt.Fprintf(&b, "  %s %s%s\n", h.IP, v.Standing, by)
		}
	}
	return problems, b.String()
}

// TestRulesGolden holds each case to its golden text, and the problems that it
// is about to the places that a person has found for them.
func TestRulesGolden(t *testing.T) {
	for _, file := range caseFiles(t, rulesDir) {
		t.Run(caseName(file), func(t *testing.T) {
			c := readRuleCase(t, file)
			problems, got := c.judge(t)
			golden := strings.TrimSuffix(file, ".cue") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, at := range c.at {
				c.checkPlace(t, at, problems)
			}
		})
	}
}

func (c ruleCase) checkPlace(t *testing.T, at string, problems []registration.Problem) {
	t.Helper()
	rule, word, _ := strings.Cut(at, " ")
	text := string(c.source.Data)
	start := 0
	for strings.HasPrefix(text[start:], "//") {
		start += strings.IndexByte(text[start:], '\n') + 1
	}
	i := strings.Index(text[start:], word)
	if i < 0 {
		t.Fatalf("%s is not in the file", word)
	}
	i += start
	line, column := 1+strings.Count(text[:i], "\n"), i-strings.LastIndexByte(text[:i], '\n')
	if !slices.ContainsFunc(problems, func(p registration.Problem) bool {
		return p.File == c.source.Path && string(p.Rule) == rule && p.Line == line && p.Column == column
	}) {
		t.Errorf("no problem of rule %s at %d:%d, where %s stands", rule, line, column, word)
	}
}

func caseFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "[0-9][0-9][0-9]-*.cue"))
	if err != nil || len(files) == 0 {
		t.Fatal("no cases in", dir, err)
	}
	return files
}

func caseName(file string) string { return strings.TrimSuffix(filepath.Base(file), ".cue") }

// TestEveryRuleHasGoldenCases: for each rule there is a case that breaks it, and
// beside it, at most ten numbers away, one that does nearly the same and breaks
// no rule. Rules of files together have theirs here; a request of one file alone
// is judged in package registration.
func TestEveryRuleHasGoldenCases(t *testing.T) {
	together := []registration.Rule{
		registration.RulePath, registration.RuleNotRegular, registration.RuleBadIP, registration.RuleIPNotCampus, registration.RuleIPNotOwned,
		registration.RuleIPPool, registration.RuleIPDuplicate, registration.RuleIPBlocked, registration.RuleUnknownDepartment, registration.RuleSchema,
		registration.RuleContactDomain, registration.RuleExpired, registration.RuleExpiryTooFar, registration.RuleAccept, registration.RuleVolume,
		registration.RuleAuthorNotSpeaker,
	}
	alone := slices.DeleteFunc(registration.Rules(), func(r registration.Rule) bool {
		return slices.Contains([]registration.Rule{
			registration.RuleIPNotCampus, registration.RuleIPNotOwned, registration.RuleIPPool, registration.RuleIPBlocked, registration.RuleUnknownDepartment,
			registration.RuleContactDomain, registration.RuleExpired, registration.RuleExpiryTooFar, registration.RuleAuthorNotSpeaker,
		}, r)
	})
	for _, where := range []struct {
		dir   string
		rules []registration.Rule
	}{{rulesDir, together}, {singleDir, alone}} {
		for _, rule := range where.rules {
			checkCases(t, where.dir, rule)
		}
	}
	for _, rule := range registration.Rules() {
		if !slices.Contains(together, rule) && !slices.Contains(alone, rule) {
			t.Errorf("rule %s has no place for its cases", rule)
		}
	}
}

// checkCases wants the cases of one rule in a folder, by their names and by what
// their golden texts say.
func checkCases(t *testing.T, dir string, rule registration.Rule) {
	t.Helper()
	var broken, valid []int
	for _, file := range caseFiles(t, dir) {
		name := caseName(file)
		number, err := strconv.Atoi(name[:3])
		golden, errGolden := os.ReadFile(strings.TrimSuffix(file, ".cue") + ".golden")
		if err != nil || errGolden != nil {
			t.Fatal(file, err, errGolden)
		}
		about := func(prefix string) bool {
			rest, ok := strings.CutPrefix(name[4:], prefix)
			return ok && (rest == "" || rest[0] == '-')
		}
		breaks := strings.Contains(string(golden), ": "+string(rule)+": ")
		switch {
		case about(string(rule)) && !breaks:
			t.Errorf("%s does not break %s", file, rule)
		case about(string(rule)):
			broken = append(broken, number)
		case about("valid-"+string(rule)) && (breaks || strings.Contains(string(golden), "the request of") && requestFails(string(golden))):
			t.Errorf("%s is not valid:\n%s", file, golden)
		case about("valid-" + string(rule)):
			valid = append(valid, number)
		}
	}
	if len(broken) == 0 {
		t.Errorf("no case in %s breaks %s", dir, rule)
	}
	if !slices.ContainsFunc(valid, func(v int) bool {
		return slices.ContainsFunc(broken, func(b int) bool { return max(v-b, b-v) <= 10 })
	}) {
		t.Errorf("no valid case stands beside those in %s that break %s", dir, rule)
	}
}

// requestFails reports whether a golden text holds an error of the request.
func requestFails(golden string) bool {
	request, _, _ := strings.Cut(golden, "the register after it")
	return strings.Contains(request, ": error: ")
}
