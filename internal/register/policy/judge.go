package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// Judge says what a pull request that turns base into head breaks. It reports
// every problem of head, sorted; an Error is the pull request's own, a Warning
// stood there before:
//
//   - a problem in a file that the change touches is an Error;
//   - a problem in another file is an Error if the change causes it, and a
//     Warning if base had it too;
//   - ip-blocked is an Error for an address that the department had not
//     registered before, else a Warning: a block may come over a registration,
//     and the owner of a blocked one may still mend or renew it;
//   - what the parser itself calls a Warning stays one;
//   - author-not-speaker is an Error, but a Warning where a team decides that
//     could not be asked (Author.Unread). For every registration touched,
//     the author must speak for its department before the change and after it,
//     and for the one whose folder it is in, each as base knows it: nobody gives
//     himself a say in the same pull request. A rename is a removal and an
//     addition, so both ends count. It is a Warning, too, for the account that
//     base names as the portal's: who asked stands in the description.
//
// Files under campus/ and blocks/ need no speaker: who must review them is the
// business of CODEOWNERS. An unknown author (the zero Author) is not judged.
func Judge(base, head []*registration.File, author Author, now time.Time) []registration.Problem {
	return NewRegister(base, Options{Now: now}).Judge(head, author)
}

// Judge is the function of that name, for a base that has been built; now is
// when that was.
func (before *Register) Judge(head []*registration.File, author Author) []registration.Problem {
	touched := before.touched(sortedFiles(head))
	return before.judge(touched, before.made(touched), nil, author)
}

// JudgeChange is Judge for a head that differs from before at some paths only;
// nil for a file that is gone. It costs what changes, and what there is to tell.
func (before *Register) JudgeChange(changed map[string]*registration.File, author Author) []registration.Problem {
	touched := before.touchedBy(changed)
	return before.judge(touched, before.made(touched), nil, author)
}

// Blame is JudgeChange less the warnings in files that the change does not
// touch, and costs what changes alone.
func (before *Register) Blame(changed map[string]*registration.File, author Author) []registration.Problem {
	touched := before.touchedBy(changed)
	after := before.made(touched)
	problems := before.judge(touched, after, after.fresh, author)
	return slices.DeleteFunc(problems, func(p registration.Problem) bool {
		_, isTouched := touched[p.File]
		return !isTouched && p.Severity == registration.Warning
	})
}

// made is what before becomes with what is touched. Unlike a snapshot, the
// claims count what could not be built: it came first all the same.
func (before *Register) made(touched map[string]touch) *Register {
	changed := make(map[string]*registration.File, len(touched))
	for path, t := range touched {
		changed[path] = t.head
	}
	return before.with(changed, Options{Now: before.o.Now, Incumbents: before.snapshot}, before.claimant)
}

// judge tells of the files at paths, or of all if that is nil.
func (before *Register) judge(touched map[string]touch, after *Register, paths map[string]bool, author Author) []registration.Problem {
	told := func(r *Register) []registration.Problem {
		if paths == nil {
			return r.Problems()
		}
		var files []*judged
		for path := range paths {
			if j := r.find(path); j != nil {
				files = append(files, j)
			}
		}
		slices.SortFunc(files, compareJudged)
		return r.problemsOf(files)
	}
	problems := told(after)
	known := make(map[finding]bool)
	for _, p := range told(before) {
		known[findingOf(p)] = true
	}
	for i, p := range problems {
		t, isTouched := touched[p.File]
		raise := false
		switch {
		case p.Rule == registration.RuleIPBlocked:
			raise = newlyClaimed(p, t.head, before.claimant)
		case p.Severity == registration.Warning && p.Rule != registration.RuleExpired:
			// Advice of the parser's about one file stays advice.
		case isTouched:
			raise = true
		case known[findingOf(p)], before.campusBroken && !isCampus(p.File):
			// With its campus files broken, base could not tell; whoever mends
			// them is not to blame for what comes to light.
		default:
			raise = true
		}
		problems[i].Severity = registration.Warning
		if raise {
			problems[i].Severity = registration.Error
		}
	}
	if author.known() {
		for _, t := range touched {
			problems = append(problems, t.authority(before.snapshot, author)...)
		}
	}
	sortProblems(problems)
	return problems
}

// A finding is what makes a problem of base and one of head the same, in a
// file that did not change. The message is no part of it: it may name a line of
// another file that moved.
type finding struct {
	file         string
	line, column int
	rule         registration.Rule
}

func findingOf(p registration.Problem) finding { return finding{p.File, p.Line, p.Column, p.Rule} }

// A touch is one file that differs; base or head is nil where it is not there.
type touch struct {
	path       string
	base, head *registration.File
}

// touched are the files that differ from head, which is in order of path.
func (before *Register) touched(head []*registration.File) map[string]touch {
	m := make(map[string]touch)
	rest := before.files
	for _, f := range head {
		for len(rest) > 0 && rest[0].file.Path < f.Path {
			m[rest[0].file.Path] = touch{path: rest[0].file.Path, base: rest[0].file}
			rest = rest[1:]
		}
		t := touch{path: f.Path, head: f}
		if len(rest) > 0 && rest[0].file.Path == f.Path {
			t.base, rest = rest[0].file, rest[1:]
			if t.idle() {
				continue
			}
		}
		m[f.Path] = t
	}
	for _, j := range rest {
		m[j.file.Path] = touch{path: j.file.Path, base: j.file}
	}
	return m
}

// touchedBy are those of changed that differ.
func (before *Register) touchedBy(changed map[string]*registration.File) map[string]touch {
	m := make(map[string]touch, len(changed))
	for path, f := range changed {
		if t := (touch{path: path, base: before.File(path), head: f}); !t.idle() {
			m[path] = t
		}
	}
	return m
}

// idle reports whether nothing differs.
func (t touch) idle() bool {
	if t.base == t.head {
		return true
	}
	return t.base != nil && t.head != nil && t.base.Sum == t.head.Sum && reflect.DeepEqual(t.base, t.head)
}

// newlyClaimed reports whether the host at p's place is one that its
// department had not registered before.
func newlyClaimed(p registration.Problem, f *registration.File, holder func(netip.Addr) (seat, bool)) bool {
	if f == nil || f.Registration == nil {
		return false
	}
	for _, h := range f.Registration.Hosts {
		if int(h.At.Line) == p.Line && int(h.At.Column) == p.Column {
			held, ok := holder(h.IP)
			return !ok || held.department != f.Registration.Department
		}
	}
	return false
}

// departments are those that the author of t must speak for: that of the folder
// and those of the file before and after. Files of the campus and blocks have
// none.
func (t touch) departments() []string {
	if dir := folder(t.path); dir == "" || isCampus(t.path) || isBlock(t.path) {
		return nil
	}
	departments := []string{folder(t.path)}
	for _, f := range []*registration.File{t.base, t.head} {
		if f != nil && f.Registration != nil && !slices.Contains(departments, f.Registration.Department) {
			departments = append(departments, f.Registration.Department)
		}
	}
	return departments
}

// authority says for which departments of t the author may not speak.
func (t touch) authority(before *Snapshot, author Author) []registration.Problem {
	var at registration.Pos
	if t.head != nil && t.head.Registration != nil {
		at = t.head.Registration.At.Department
	}
	var problems []registration.Problem
	for _, id := range t.departments() {
		d := before.Department(id)
		if author.SpeaksFor(d) {
			continue
		}
		p := registration.Problem{
			File: t.path, Line: int(at.Line), Column: int(at.Column),
			Rule: registration.RuleAuthorNotSpeaker, Severity: registration.Error,
			Message: fmt.Sprintf("%s does not speak for %s", author.name(), id),
			Hint:    "ask one of its speakers to open the pull request; registrations/campus/departments.cue names them",
		}
		switch {
		case d == nil:
			p.Message = fmt.Sprintf("%s does not speak for %s, which is no department yet", author.name(), id)
			p.Hint = "a department and its speakers are merged first, in a pull request of their own"
		case before.IsPortal(author):
			p.Severity = registration.Warning
			p.Message = fmt.Sprintf("%s opened this for somebody who signed in to the portal: the description of the request tells who, and whether they speak for %s", author.name(), id)
			p.Hint = "read it there before you approve; the portal has checked it, and says so in its comment as well"
		case d.Team.ID != 0 && slices.Contains(author.Unread, d.Team.ID):
			p.Severity = registration.Warning
			p.Message = fmt.Sprintf("it could not be told whether %s speaks for %s: its team %s decides, and who is in that cannot be seen here", author.name(), id, d.Team.Slug)
			p.Hint = "the check of the pull request asks the forge, and decides; a speaker that registrations/campus/departments.cue names is sure to pass"
		}
		problems = append(problems, p)
	}
	return problems
}

// Teams are the teams that could make author a speaker where Judge asks for one
// and the account alone is none: those whose members its caller must know.
// They are sorted by number.
func (before *Register) Teams(head []*registration.File, author Author) []registration.Team {
	if !author.known() {
		return nil
	}
	return before.teams(before.touched(sortedFiles(head)), author)
}

// TeamsOfChange is Teams for a head that differs at some paths only, as
// JudgeChange takes it.
func (before *Register) TeamsOfChange(changed map[string]*registration.File, author Author) []registration.Team {
	if !author.known() {
		return nil
	}
	return before.teams(before.touchedBy(changed), author)
}

func (before *Register) teams(touched map[string]touch, author Author) []registration.Team {
	var teams []registration.Team
	for _, t := range touched {
		for _, id := range t.departments() {
			d := before.snapshot.Department(id)
			if d != nil && d.Team.ID != 0 && !author.SpeaksFor(d) && !before.snapshot.IsPortal(author) && !slices.Contains(teams, d.Team) {
				teams = append(teams, d.Team)
			}
		}
	}
	slices.SortFunc(teams, func(a, b registration.Team) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), strings.Compare(a.Slug, b.Slug))
	})
	return teams
}
