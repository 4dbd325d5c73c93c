package policy

import (
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/registration"
)

var ( // read only
	physicist = Author{Login: "speaker-lsa-physics", ID: 101}
	engineer  = Author{Login: "speaker-engin-eecs", ID: 102}
)

func TestJudgeSeverities(t *testing.T) {
	expired := func(path string, ip ...string) *registration.File {
		return with(request(path, ip...), func(r *registration.Registration) { r.Expires = day("2026-01-01") })
	}
	old := request(mfpPath, "141.211.13.21")
	other := request("registrations/lsa-physics/new.cue", "141.211.13.30")
	aaa := "registrations/lsa-physics/aaa.cue"
	for _, tt := range []struct {
		name       string
		base, head []*registration.File // beside campus()
		want       []string
	}{
		{"nothing wrong", files(old), files(old, other), nil},
		{"what stood there before is a warning", files(request(mfpPath, "8.8.8.8"), expired(alarmPath, "141.212.1.1")),
			files(request(mfpPath, "8.8.8.8"), expired(alarmPath, "141.212.1.1"), other),
			[]string{"warning " + alarmPath + ":92:10: expired", "warning " + mfpPath + ":6:7: ip-not-campus"}},
		{"what the change touches is an error, expired too", files(expired(mfpPath, "141.211.13.21")), files(expired(mfpPath, "141.211.13.22")),
			[]string{"error " + mfpPath + ":92:10: expired"}},
		{"a new file that has expired", nil, files(expired(mfpPath, "141.211.13.21")), []string{"error " + mfpPath + ":92:10: expired"}},
		{"the newcomer is at fault for a duplicate, whatever its name", files(old), files(old, request(aaa, "141.211.13.21")),
			[]string{"error " + aaa + ":6:7: ip-duplicate"}},
		{"the newcomer is at fault even where the other is invalid", files(expired(mfpPath, "141.211.13.21", "8.8.8.8")), files(expired(mfpPath, "141.211.13.21", "8.8.8.8"), request(aaa, "141.211.13.21")),
			[]string{"error " + aaa + ":6:7: ip-duplicate", "warning " + mfpPath + ":7:7: ip-not-campus", "warning " + mfpPath + ":92:10: expired"}},
		{"a duplicate of old is a warning", files(old, request(aaa, "141.211.13.21")), files(old, request(aaa, "141.211.13.21"), other),
			[]string{"warning " + mfpPath + ":6:7: ip-duplicate"}},
		{"a move is no duplicate", files(old), files(request(aaa, "141.211.13.21")), nil},
		{"blocked, and registered anew", files(block("b", "141.211.13.0/24", "2026-11-01", "")), files(block("b", "141.211.13.0/24", "2026-11-01", ""), old),
			[]string{"error " + mfpPath + ":6:7: ip-blocked"}},
		{"a block over a registration", files(old), files(old, block("b", "141.211.13.0/24", "2026-11-01", "")),
			[]string{"warning " + mfpPath + ":6:7: ip-blocked"}},
		{"a blocked one is renewed, and grows", files(old, block("b", "141.211.13.0/24", "2026-11-01", "")),
			files(request(mfpPath, "141.211.13.21", "141.211.13.22"), block("b", "141.211.13.0/24", "2026-11-01", "")),
			[]string{"warning " + mfpPath + ":6:7: ip-blocked", "error " + mfpPath + ":7:7: ip-blocked"}},
		{"a blocked one moves", files(old, block("b", "141.211.13.0/24", "2026-11-01", "")), files(request(aaa, "141.211.13.21"), block("b", "141.211.13.0/24", "2026-11-01", "")),
			[]string{"warning " + aaa + ":6:7: ip-blocked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Judge(join(campus(), tt.base), join(campus(), tt.head), physicist, today())
			wantProblems(t, got, tt.want...)
		})
	}
	t.Run("what the change causes in a file that it leaves alone is an error", func(t *testing.T) {
		given := campus()
		given[0] = networks([]string{"141.211.0.0/16"}, "141.211.13.0/24 its static")
		got := Judge(append(campus(), old), append(given, old), physicist, today())
		wantProblems(t, got, "error "+mfpPath+":6:7: ip-not-owned")
	})
	t.Run("the parser's advice stays advice", func(t *testing.T) {
		f := request(mfpPath, "141.211.13.21")
		f.Problems = []registration.Problem{{File: mfpPath, Line: 91, Column: 9, Rule: registration.RuleVolume, Severity: registration.Warning, Message: "m", Hint: "h"}}
		wantProblems(t, Judge(campus(), append(campus(), f), physicist, today()), "warning "+mfpPath+":91:9: volume")
	})
	t.Run("whoever mends a broken campus file is not to blame for what comes to light", func(t *testing.T) {
		broken := &registration.File{Path: departmentsPath, Problems: []registration.Problem{{
			File: departmentsPath, Line: 1, Column: 1, Rule: registration.RuleSyntax, Severity: registration.Error, Message: "m", Hint: "h"}}}
		bad := request(mfpPath, "8.8.8.8")
		got := Judge(files(campus()[0], broken, bad), append(campus(), bad, request(alarmPath, "8.8.4.4")), Author{}, today())
		wantProblems(t, got, "error "+alarmPath+":6:7: ip-not-campus", "warning "+mfpPath+":6:7: ip-not-campus")
	})
	t.Run("a new campus file that seizes a department is at fault itself", func(t *testing.T) {
		seizure := &registration.Campus{Path: "registrations/campus/aaa.cue", Departments: []registration.Department{{ID: "lsa-physics", At: registration.Pos{Line: 3, Column: 2}}}}
		got := Judge(append(campus(), old), append(campus(), old, &registration.File{Path: seizure.Path, Campus: seizure}), Author{}, today())
		wantProblems(t, got, "error registrations/campus/aaa.cue:3:2: schema")
	})
}

func TestJudgeAuthority(t *testing.T) {
	mfp, alarm := request(mfpPath, "141.211.13.21"), request(alarmPath, "141.212.1.1")
	comment := &registration.File{Path: mfp.Path, Sum: [32]byte{1}, Registration: mfp.Registration}
	seized := with(mfp, func(r *registration.Registration) {
		r.Department = "engin-eecs"
		r.Hosts, r.Contact = alarm.Registration.Hosts, alarm.Registration.Contact
	})
	broken := &registration.File{Path: mfpPath, Problems: []registration.Problem{{File: mfpPath, Line: 3, Column: 1, Rule: registration.RuleSyntax, Severity: registration.Error, Message: "m", Hint: "h"}}}
	const no = "error " + mfpPath + ":1:13: author-not-speaker"
	const gone = "error " + mfpPath + ":0:0: author-not-speaker"
	for _, tt := range []struct {
		name       string
		base, head []*registration.File
		author     Author
		want       []string
	}{
		{"a speaker adds", nil, files(mfp), physicist, nil},
		{"a team adds", nil, files(mfp), Author{Login: "x", ID: 9, Teams: []int64{7, 201}}, nil},
		{"a stranger adds", nil, files(mfp), Author{Login: "x", ID: 9, Teams: []int64{7, 0}}, []string{no}},
		{"the number decides, not the login", nil, files(mfp), Author{Login: physicist.Login, ID: 9}, []string{no}},
		{"a login alone will do for a preview", nil, files(mfp), Author{Login: "Speaker-LSA-physics"}, nil},
		{"nobody in particular", nil, files(mfp), Author{}, nil},
		{"somebody else changes", files(mfp), files(with(mfp, func(r *registration.Registration) { r.Volume.PerDay++ })), engineer, []string{no}},
		{"somebody else changes a comment", files(mfp), files(comment), engineer, []string{no}},
		{"somebody else breaks", files(mfp), files(broken), engineer, []string{gone, "error " + mfpPath + ":3:1: syntax"}},
		{"somebody else mends what is broken", files(broken), files(mfp), engineer, []string{no}},
		{"somebody else removes", files(mfp), nil, engineer, []string{gone}},
		{"the owner removes", files(mfp), nil, physicist, nil},
		{"somebody else takes the file over", files(mfp), files(seized), engineer, []string{no}},
		{"the owner gives the file away", files(mfp), files(seized), physicist, []string{no}},
		{"a rename between departments needs both", files(mfp), files(alarm), engineer, []string{gone}},
		{"a rename between departments needs both, the other way", files(alarm), files(mfp), engineer, []string{no}},
		{"both", files(mfp), files(alarm), Author{Login: "dean", ID: 101, Teams: []int64{202}}, nil},
		{"untouched files ask for nobody", files(mfp), files(request(mfpPath, "141.211.13.21"), alarm), engineer, nil},
		{"blocks are for CODEOWNERS", nil, files(block("b", "141.211.0.0/16", "2026-11-01", "")), engineer, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantProblems(t, Judge(join(campus(), tt.base), join(campus(), tt.head), tt.author, today()), tt.want...)
		})
	}

	t.Run("nobody gives himself a say", func(t *testing.T) {
		head := campus()
		head[1] = departments("its", "engin-eecs", "lsa-physics") // the engineer's number now speaks for physics
		head[1].Campus.Departments[2].Speakers[0].ID = engineer.ID
		wantProblems(t, Judge(campus(), append(head, mfp), engineer, today()), no)
	})
	t.Run("a department made in the same pull request", func(t *testing.T) {
		head := campus()
		head[1] = departments("its", "lsa-physics", "engin-eecs", "zoo")
		head[0] = networks([]string{"141.211.0.0/16", "141.212.0.0/16"}, "141.211.0.0/16 zoo static")
		got := Judge(campus(), append(head, request("registrations/zoo/a.cue", "141.211.200.1")), Author{Login: "z", ID: 103}, today())
		wantProblems(t, got, "error registrations/zoo/a.cue:1:13: author-not-speaker")
		if !strings.Contains(got[0].Hint, "of their own") {
			t.Errorf("hint %q", got[0].Hint)
		}
	})
	t.Run("the first commit of a register has no base", func(t *testing.T) {
		wantProblems(t, Judge(nil, append(campus(), mfp), Author{}, today()))
	})
	t.Run("the arguments are left as they were", func(t *testing.T) {
		base, head := append(campus(), mfp), append(campus(), broken)
		was := slices.Clone(head)
		Judge(base, head, engineer, today())
		if !slices.Equal(was, head) || broken.Problems[0].Severity != registration.Error {
			t.Error("changed")
		}
	})
}

// TestTeamsThatCannotBeAsked: a team decides only where the account does not,
// and where nobody may look into it, that is a warning and no verdict.
func TestTeamsThatCannotBeAsked(t *testing.T) {
	team := registration.Team{Slug: "lsa-physics", ID: 42}
	base := campus()
	for _, f := range base {
		for i := range f.Campus.Departments {
			if f.Campus.Departments[i].ID == "lsa-physics" {
				f.Campus.Departments[i].Team = team
			}
		}
	}
	head := append(slices.Clone(base), request(mfpPath, "141.211.13.21"))
	register := NewRegister(base, Options{Now: today()})
	if got := register.Teams(head, engineer); len(got) != 1 || got[0] != team {
		t.Errorf("an engineer's teams: %v", got)
	}
	if got := register.Teams(head, physicist); len(got) != 0 {
		t.Errorf("a physicist's teams: %v", got)
	}
	if got := register.Teams(head, Author{}); len(got) != 0 {
		t.Errorf("nobody's teams: %v", got)
	}
	wantProblems(t, Judge(base, head, engineer, today()), "error "+mfpPath+":1:13: author-not-speaker")
	unread := engineer
	unread.Unread = []int64{42}
	wantProblems(t, Judge(base, head, unread, today()), "warning "+mfpPath+":1:13: author-not-speaker")
	unread.Unread = []int64{43}
	wantProblems(t, Judge(base, head, unread, today()), "error "+mfpPath+":1:13: author-not-speaker")
	unread.Unread, unread.Teams = []int64{42}, []int64{42}
	wantProblems(t, Judge(base, head, unread, today()))
}
