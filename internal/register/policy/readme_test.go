package policy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// The examples in registrations/README.md are what a department really gets,
// for a slip in the sample register.
func TestReadmeShowsRealMessages(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "registrations", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	const mfp = "registrations/lsa-physics/mfp.cue"
	sample := readRegister(t, root)
	shown := map[registration.Rule]bool{}
	for _, tt := range []struct {
		rule           registration.Rule
		from, old, new string
		to             string // the file's path afterwards, if another
		author         policy.Author
		site           string            // site rules
		mode           registration.Mode // what the file is afterwards
	}{
		{rule: registration.RuleSyntax, old: `"141.211.13.21",`, new: `"141.211.13.21,`},
		{rule: registration.RuleNotData, old: "perDay: 1000", new: "perDay: 24*200"},
		{rule: registration.RuleTooLarge, old: "// Scan", new: strings.Repeat("// more\n", registration.MaxFile/8) + "// Scan"},
		{rule: registration.RuleNotRegular, mode: registration.Symlink},
		{rule: registration.RulePath, old: `department: "lsa-physics"`, new: `department: "engin-eecs"`},
		{rule: registration.RuleSchema, old: `"printer"}`, new: `"copier"}`},
		{rule: registration.RuleMissingField, old: `purpose:   "Scan-to-email from two multifunction printers."`, new: ""},
		{rule: registration.RuleUnknownField, old: "whyNoAuth", new: "whyNoAut"},
		{rule: registration.RuleAccept, old: "notBulk: true", new: "notBulk: false"},
		{rule: registration.RuleVolume, old: "perDay: 1000", new: "perDay: 4000", site: "#Registration: volume: perDay: <=2000"},

		{rule: registration.RuleBadIP, old: "141.211.13.21", new: "10.0.0.21"},
		{rule: registration.RuleIPNotCampus, old: "141.211.13.21", new: "142.211.13.21"},
		{rule: registration.RuleIPNotOwned, old: "141.211.13.21", new: "141.212.64.21"},
		{rule: registration.RuleIPPool, old: "141.211.13.21", new: "141.211.14.200"},
		{rule: registration.RuleIPDuplicate, old: "141.211.13.21", new: "141.211.13.77"},
		{rule: registration.RuleIPBlocked, from: "registrations/engin-eecs/batch.cue", old: "141.212.64.10", new: "141.212.66.140"},
		{rule: registration.RuleUnknownDepartment, to: "registrations/lsa-phisics/mfp.cue", old: `department: "lsa-physics"`, new: `department: "lsa-phisics"`},
		{rule: registration.RuleContactDomain, old: "physics-it@physics.lsa.umich.edu", new: "physics-it@gmail.com"},
		{rule: registration.RuleExpired, old: "2027-11-30", new: "2026-10-31"},
		{rule: registration.RuleExpiryTooFar, old: "2027-11-30", new: "2029-11-30"},
		{rule: registration.RuleAuthorNotSpeaker, old: "perDay: 1000", new: "perDay: 999", author: policy.Author{Login: "octocat", ID: 583231}},
	} {
		t.Run(string(tt.rule), func(t *testing.T) {
			from, to := tt.from, tt.to
			if from == "" {
				from = mfp
			}
			if to == "" {
				to = from
			}
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(from)))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), tt.old) {
				t.Fatalf("%s does not hold %q any more", from, tt.old)
			}
			text = []byte(strings.Replace(string(text), tt.old, tt.new, 1))
			shown[tt.rule] = true
			parser, err := registration.NewParser([]byte(tt.site))
			if err != nil {
				t.Fatal(err)
			}
			changed := parser.Parse(registration.Source{Path: to, Mode: tt.mode, Size: int64(len(text)), Data: text})
			head := []*registration.File{changed}
			for _, f := range sample {
				if f.Path != from {
					head = append(head, f)
				}
			}
			problems := policy.Judge(sample, head, tt.author, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
			i := slices.IndexFunc(problems, func(p registration.Problem) bool { return p.Rule == tt.rule })
			if i < 0 {
				t.Fatalf("no such problem: %v", problems)
			}
			if problems[i].Severity != registration.Error || !strings.Contains(string(readme), "    "+problems[i].String()+"\n") {
				t.Errorf("the README does not show (%s)\n    %s", problems[i].Severity, problems[i])
			}
		})
	}
	for _, rule := range registration.Rules() {
		if !shown[rule] {
			t.Errorf("nothing shows rule %s", rule)
		}
	}
}
