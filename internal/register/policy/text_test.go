package policy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// A register as people write it: path → text.
type texts map[string]string

const (
	campusText = `campus: ["127.0.0.0/8", "10.20.0.0/16", "141.211.0.0/16"]
networks: {
	"127.0.0.0/8": {department: "lab", use: "static"}
	"10.20.0.0/16": {department: "lab", use: "static"}
	"141.211.13.0/24": {department: "lab", use: "static"}
}
departments: lab: {name: "Lab", speakers: [{github: "ada", id: 1}], contactDomains: ["lab.umich.edu"]}
`
	mfpText = `// The printer.
department: "lab"
contact: {name: "IT", email: "it@lab.umich.edu"}
purpose:   "Scan-to-email."
whyNoAuth: "No SMTP AUTH client."
hosts: [
	{ip: "IP", name: "mfp.lab.umich.edu", kind: "printer"},
]
volume: {perHour: 100, perDay: 1000}
expires: "2027-11-30"
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`
)

func printer(ip string) string { return strings.Replace(mfpText, "IP\"", ip+"\"", 1) }

func (x texts) parse(t *testing.T) []*registration.File {
	t.Helper()
	p, err := registration.NewParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	files := []*registration.File{p.Parse(registration.Source{Path: "registrations/campus/all.cue", Data: []byte(campusText)})}
	for name, text := range x {
		files = append(files, p.Parse(registration.Source{Path: "registrations/" + name, Size: int64(len(text)), Data: []byte(text)}))
	}
	return files
}

func TestFromTextToVerdict(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		texts texts
		ip    string
		want  policy.Standing
		brief []string
	}{
		{"an ordinary address", texts{"lab/mfp.cue": printer("141.211.13.21")}, "141.211.13.21", policy.Registered, nil},
		{"private space that campus names", texts{"lab/mfp.cue": printer("10.20.1.1")}, "10.20.1.1", policy.Registered, nil},
		{"private space that it does not", texts{"lab/mfp.cue": printer("10.21.1.1")}, "10.21.1.1", policy.OffCampus, []string{"registrations/lab/mfp.cue:7:7: bad-ip"}},
		{"loopback that campus names", texts{"lab/mfp.cue": printer("127.0.0.2")}, "127.0.0.2", policy.Registered, nil},
		{"a range", texts{"lab/mfp.cue": printer("141.211.13.0/28")}, "141.211.13.1", policy.Unregistered, []string{"registrations/lab/mfp.cue:7:7: bad-ip"}},
		{"two files", texts{"lab/a.cue": printer("141.211.13.21"), "lab/b.cue": printer("141.211.13.21")}, "141.211.13.21", policy.Registered,
			[]string{"registrations/lab/b.cue:7:7: ip-duplicate"}},
		{"a block", texts{"lab/mfp.cue": printer("141.211.13.21"), "blocks/b.cue": `block: {prefix: "141.211.13.0/24", reason: "spam", since: "2026-11-23T08:00:00Z"}`},
			"141.211.13.21", policy.Blocked, []string{"registrations/lab/mfp.cue:7:7: ip-blocked"}},
		{"a file that cannot be read takes no other with it", texts{"lab/mfp.cue": printer("141.211.13.21"), "lab/b.cue": "hosts: ["}, "141.211.13.21", policy.Registered,
			[]string{"registrations/lab/b.cue: syntax"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, problems := policy.Build(tt.texts.parse(t), policy.Options{Now: now})
			var brief []string
			for _, p := range problems {
				if p.Rule == registration.RuleSyntax {
					brief = append(brief, fmt.Sprintf("%s: %s", p.File, p.Rule))
					continue
				}
				brief = append(brief, fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Rule))
			}
			if !slices.Equal(brief, tt.brief) {
				t.Errorf("problems %v, want %q", problems, tt.brief)
			}
			if v := s.Lookup(netip.MustParseAddr(tt.ip), now); v.Standing != tt.want {
				t.Errorf("%s is %v, want %v", tt.ip, v.Standing, tt.want)
			}
		})
	}
}

// An edit that changes no value is an edit all the same.
func TestJudgeSeesAChangedComment(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	base := texts{"lab/mfp.cue": printer("141.211.13.21")}
	head := texts{"lab/mfp.cue": strings.Replace(base["lab/mfp.cue"], "The printer", "My printer", 1)}
	stranger, ada := policy.Author{Login: "eve", ID: 2}, policy.Author{Login: "ada", ID: 1}
	if got := policy.Judge(base.parse(t), head.parse(t), stranger, now); len(got) != 1 || got[0].Rule != registration.RuleAuthorNotSpeaker {
		t.Errorf("a stranger: %v", got)
	}
	for _, got := range [][]registration.Problem{
		policy.Judge(base.parse(t), head.parse(t), ada, now),
		policy.Judge(base.parse(t), base.parse(t), stranger, now),
	} {
		if len(got) > 0 {
			t.Errorf("%v", got)
		}
	}
	if changes := mustDiff(t, base, head); len(changes) > 0 {
		t.Errorf("a comment changes nobody's mail: %v", changes)
	}
}

func mustDiff(t *testing.T, base, head texts) []policy.Change {
	t.Helper()
	a, _ := policy.Build(base.parse(t), policy.Options{})
	b, _ := policy.Build(head.parse(t), policy.Options{})
	return policy.Diff(a, b)
}
