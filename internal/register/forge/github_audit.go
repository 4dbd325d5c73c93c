package forge

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"

	"example.edu/gatepost/internal/register/registration"
)

// A FindingState is how a setting stands.
type FindingState string

// The states. Unknown is what the token may not see: it is never Fine.
const (
	Fine     FindingState = "fine"
	Missing  FindingState = "missing"
	Unknown  FindingState = "unknown"
	Optional FindingState = "optional" // as it is is no fault
)

// A Finding is one setting that a register depends on.
type Finding struct {
	Check   string       `json:"check"` // what was looked at: "code-owners", "team postmasters"
	State   FindingState `json:"state"`
	Message string       `json:"message"`          // how it is
	Remedy  string       `json:"remedy,omitempty"` // what to switch on and where; "" if it is Fine
}

// A Want is what the settings are held against.
type Want struct {
	Check  string                 // the name of the required check
	Campus []*registration.Campus // who speaks for whom, as the branch has it
	Unread string                 // why that could not be read; "" if it was
}

// Where things are, in GitHub's own words.
const (
	rulesPage   = "Settings → Rules → Rulesets"
	actionsPage = "Settings → Actions → General"
	actionsApp  = 15368 // "GitHub Actions" on github.com: the App of every workflow
)

// Audit says of each setting that a register depends on whether it is as it has
// to be. It is pure: what was read is in s.
func (s *Settings) Audit(w Want) []Finding {
	a := audit{s: s, w: w}
	a.rules()
	a.requiredCheck()
	a.bypasses()
	a.owners()
	a.actions()
	a.speakers()
	return a.found
}

type audit struct {
	s     *Settings
	w     Want
	found []Finding
}

func (a *audit) add(state FindingState, check, message, remedy string) {
	if state == Fine {
		remedy = ""
	}
	a.found = append(a.found, Finding{Check: check, State: state, Message: message, Remedy: remedy})
}

// want adds one finding that is fine or is not.
func (a *audit) want(ok bool, check, fine, missing, remedy string) {
	if ok {
		a.add(Fine, check, fine, "")
	} else {
		a.add(Missing, check, missing, remedy)
	}
}

// rule is want for a rule of the branch: where classic protection cannot be
// seen, what is not in a ruleset may be there.
func (a *audit) rule(ok bool, check, fine, missing, remedy string) {
	if !ok && a.s.Rules.MoreUnknown {
		a.add(Unknown, check, "no ruleset says so, and this token may not see classic branch protection", remedy)
		return
	}
	a.want(ok, check, fine, missing, remedy)
}

func (a *audit) rules() {
	p, branch := a.s.Rules, a.s.Branch
	pull := rulesPage + ": Require a pull request before merging"
	inForce := "no rule is in force on " + branch
	if len(a.s.Inactive) > 0 {
		inForce += "; not active: " + strings.Join(a.s.Inactive, ", ")
	}
	a.rule(p.InForce, "ruleset", "rules are in force on "+branch, inForce, rulesPage+": a branch ruleset, enforcement Active, target "+branch)
	a.rule(p.PullRequest, "pull-request", "changes come by pull request", "changes need not come by pull request", pull)
	a.rule(p.Approvals > 0, "approvals", fmt.Sprintf("%d approving %s required", p.Approvals, reviews(p.Approvals)), "no approving review is required", pull+", Required approvals: 1")
	a.rule(p.CodeOwners, "code-owners", "the owners of a file must approve", "the owners of a file need not approve", pull+", Require review from Code Owners")
	a.rule(p.DismissStale || p.LastPush, "stale-approvals", "a push takes approvals back, or wants a new one", "an approval stays when something else is pushed after it",
		pull+", Dismiss stale pull request approvals when new commits are pushed")
	a.rule(p.NoForcePush, "force-pushes", "force pushes are blocked", "force pushes are not blocked", rulesPage+": Block force pushes")
	a.rule(p.NoDeletion, "deletion", "the branch cannot be deleted", "the branch can be deleted", rulesPage+": Restrict deletions")
	switch {
	case p.MergeQueue:
		a.add(Fine, "merge-queue", "a merge queue tests requests together", "")
	case p.UpToDate:
		a.add(Fine, "merge-queue", "there is none, and a request must contain what others merged", "")
	default:
		a.add(Optional, "merge-queue", "two requests that are good alone may claim one address; the relay leaves the newer out", rulesPage+": Require branches to be up to date before merging, or Require merge queue")
	}
}

func reviews(n int) string {
	if n == 1 {
		return "review is"
	}
	return "reviews are"
}

// requiredCheck: the check is required, and from the App that writes it.
func (a *audit) requiredCheck() {
	p, name := a.s.Rules, a.w.Check
	here := rulesPage + ": Require status checks to pass, " + name
	i := slices.IndexFunc(p.Checks, func(c RequiredCheck) bool { return c.Name == name })
	a.rule(i >= 0, "required-check", "the check "+name+" is required", "the check "+name+" is not required", here)
	want, known := a.writer()
	if i < 0 {
		return
	}
	pinned := p.Checks[i].App
	const anybody = ", so any workflow of a request could say that it passed"
	switch {
	case pinned == 0:
		a.rule(false, "check-app", "", "the check "+name+" may come from anybody who may write"+anybody, here+", source: the App that writes it")
	case pinned == actionsApp:
		a.add(Missing, "check-app", "the check "+name+" is taken from GitHub Actions"+anybody, here+", source: an App of your own")
	case want != 0 && pinned != want:
		a.add(Missing, "check-app", fmt.Sprintf("the check %s is taken from App %d, and App %d writes it", name, pinned, want), here+", source: App "+strconv.FormatInt(want, 10))
	case want == 0 && !known:
		a.add(Unknown, "check-app", fmt.Sprintf("the check %s is taken from App %d; whether that is the one that writes it cannot be seen with this token", name, pinned), "a token with Variables: read sees it")
	default:
		a.add(Fine, "check-app", fmt.Sprintf("the check %s is taken from App %d alone", name, pinned), "")
	}
}

// writer is the number of the App that writes the check, and whether this token
// may see what the workflow is told of it.
func (a *audit) writer() (app int64, known bool) {
	const where = "Settings → Secrets and variables → Actions → Variables: " + AppVariable + ", the App's number"
	value := a.s.App
	number, err := strconv.ParseInt(strings.TrimSpace(value.Value), 10, 64)
	switch {
	case value.Hidden != nil:
		a.add(Unknown, "app", "the variable "+AppVariable+" cannot be seen with this token", where)
		return 0, false
	case value.Value == "":
		a.add(Missing, "app", "the variable "+AppVariable+" is not set, so the check is written as GitHub Actions, as any workflow can", where)
		return 0, true
	case err != nil || number <= 0:
		a.add(Missing, "app", "the variable "+AppVariable+" is no number", where)
		return 0, true
	}
	a.add(Fine, "app", fmt.Sprintf("App %d writes the check", number), "")
	return number, true
}

func (a *audit) bypasses() {
	p := a.s.Rules
	where := rulesPage + ": Bypass list"
	for _, who := range p.Bypass {
		a.add(Missing, "bypass", who+" may bypass the rules", where+", remove")
	}
	switch {
	case p.BypassUnknown:
		a.add(Unknown, "bypass", "who may bypass the rules cannot be seen with this token", where+" must be empty")
	case len(p.Bypass) == 0 && p.InForce:
		a.add(Fine, "bypass", "nobody may bypass the rules", "")
	}
}

// owned are paths each of which somebody has to own.
var owned = []string{
	"registrations/department/machine.cue", "registrations/campus/networks.cue", "registrations/campus/departments.cue",
	"registrations/blocks/block.cue", "schema/site.cue", ".github/workflows/report.yml", ".github/gatepost",
}

// owners: CODEOWNERS is there, says what it should, and its teams can answer.
func (a *audit) owners() {
	a.want(a.s.Organisation, "organisation", "the repository is an organisation's", "the repository is a person's, who has no teams to approve anything", "transfer it to an organisation: Settings → General → Transfer ownership")
	if a.s.Owners == nil {
		a.add(Missing, "owners-file", "there is no CODEOWNERS on "+a.s.Branch, "gatepost init makes one to begin with; it is committed like any file")
		return
	}
	name := a.s.Owners.Path
	wrong := a.s.OwnersWrong
	for _, e := range wrong.Value {
		a.add(Missing, "owners-file", fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Column, cmp.Or(e.Message, e.Kind)), "mend the line; a team must be visible and may write here")
	}
	switch {
	case wrong.Hidden != nil:
		a.add(Unknown, "owners-file", "what GitHub finds wrong with "+name+" cannot be seen with this token", "open the file at GitHub: it marks the lines")
	case len(wrong.Value) == 0:
		a.add(Fine, "owners-file", "GitHub finds nothing wrong with "+name, "")
	}
	read := parseOwners(a.s.Owners.Data)
	a.coverage(read)
	for _, slug := range read.teams(a.org()) {
		a.ownerTeam(slug)
	}
}

func (a *audit) org() string {
	org, _, _ := strings.Cut(a.s.Repository, "/")
	return org
}

// coverage: everything that counts is somebody's.
func (a *audit) coverage(read owners) {
	var nobody []string
	for _, p := range append(slices.Clone(owned), a.s.Owners.Path) {
		names, known := read.of(p)
		if !known {
			a.add(Unknown, "owners", a.s.Owners.Path+" has patterns that are not read here, so who owns what cannot be told", "look at it: GitHub shows the owners of a file above it")
			return
		}
		if len(names) == 0 {
			nobody = append(nobody, p)
		}
	}
	a.want(len(nobody) == 0, "owners", "all that counts has owners", "nobody owns "+strings.Join(nobody, ", ")+", so nobody must approve a change",
		a.s.Owners.Path+": a line for it; the last one that matches counts")
}

// ownerTeam: a team of CODEOWNERS exists, can be seen, and may write.
func (a *audit) ownerTeam(slug string) {
	check := "team " + slug
	t := a.s.Teams[slug]
	write := t.Value.Write
	grant := "Settings → Collaborators and teams: " + slug + ", role Write"
	switch {
	case t.Hidden != nil && a.s.SeesTeams:
		a.add(Missing, check, "there is no such team, or it is secret", "the organisation's Teams: make "+slug+", visible")
	case t.Hidden != nil:
		a.add(Unknown, check, "this token is not shown the organisation's teams", "a token with Members: read")
	case t.Value.Secret:
		a.add(Missing, check, "it is a secret team, which GitHub does not ask for a review", "the team's Settings: Visible")
	case write.Hidden != nil:
		a.add(Unknown, check, "what it may do here cannot be seen with this token", grant)
	default:
		a.want(write.Value, check, "it is there and may write", "it may not write to the repository, so its approval does not count", grant)
	}
}

func (a *audit) actions() {
	for _, name := range []string{"validate.yml", "report.yml"} {
		p := path.Join(".github/workflows", name)
		a.want(slices.ContainsFunc(a.s.Files, func(f File) bool { return f.Path == p }), "workflow "+name, "it is on "+a.s.Branch,
			"there is no "+p+" on "+a.s.Branch, "gatepost init makes one to begin with; it is committed like any file")
	}
	if a.s.Branch != a.s.Default {
		a.add(Missing, "default-branch", fmt.Sprintf("workflows report as they are on %s, and the relay reads %s", a.s.Default, a.s.Branch), "Settings → General → Default branch")
	}
	hidden := func(check string, err error) bool {
		if err != nil {
			a.add(Unknown, check, "it cannot be seen with this token", actionsPage+"; a token with Administration: read sees it")
		}
		return err != nil
	}
	if v := a.s.Actions; !hidden("actions", v.Hidden) {
		switch {
		case !v.Value.Enabled:
			a.add(Missing, "actions", "Actions are off, so nothing is judged", actionsPage+": Allow actions")
		case v.Value.Allowed == "local_only":
			a.add(Missing, "actions", "actions of others may not be used, and the workflows use actions/checkout", actionsPage+": Allow actions created by GitHub")
		default:
			a.add(Fine, "actions", "Actions are on", "")
		}
	}
	if v := a.s.Token; !hidden("actions-token", v.Hidden) {
		a.want(v.Value.Default == "read", "actions-token", "a workflow that says nothing may only read", "a workflow that says nothing may write", actionsPage+" → Workflow permissions: Read repository contents")
	}
	if v := a.s.Token; !hidden("actions-approve", v.Hidden) {
		a.want(!v.Value.Approve, "actions-approve", "workflows cannot approve pull requests", "a workflow can approve pull requests", actionsPage+" → Workflow permissions: Allow GitHub Actions to create and approve pull requests, off")
	}
	if v := a.s.Forks; !hidden("actions-forks", v.Hidden) {
		a.forks(v.Value)
	}
}

func (a *audit) forks(f ForkSettings) {
	const check = "actions-forks"
	if !a.s.Private {
		ok := f.Policy == "first_time_contributors" || f.Policy == "all_external_contributors"
		a.want(ok, check, "workflows of strangers wait for approval", "workflows of strangers run without approval",
			actionsPage+" → Approval for running fork pull request workflows: first-time contributors, or all external contributors")
		return
	}
	where := actionsPage + " → Fork pull request workflows: "
	before := len(a.found)
	for _, c := range []struct {
		bad             bool
		message, remedy string
	}{
		{!f.Run, "workflows of forks do not run, so their requests are never judged", "Run workflows from fork pull requests"},
		{f.Write, "workflows of forks get a token that may write", "Send write tokens to workflows, off"},
		{f.Secrets, "workflows of forks get the repository's secrets", "Send secrets and variables to workflows, off"},
		{!f.Approve, "workflows of forks run without approval", "Require approval for fork pull request workflows"},
	} {
		if c.bad {
			a.add(Missing, check, c.message, where+c.remedy)
		}
	}
	if len(a.found) == before {
		a.add(Fine, check, "workflows of forks wait for approval, and get nothing to write with", "")
	}
	if !a.s.Forkable {
		a.add(Optional, "forks", "the repository cannot be forked, so departments need the right to write", "Settings → General → Allow forking")
	}
}

// speakers: the numbers that decide are those of the logins and slugs that
// people read.
func (a *audit) speakers() {
	if a.w.Unread != "" {
		a.add(Unknown, "speakers", "who speaks for the departments cannot be read: "+a.w.Unread, "gatepost check says what is wrong")
		return
	}
	before, asked := len(a.found), 0
	for p, where := range portals(a.w.Campus) {
		asked++
		a.account("portal", p, where, "as which the portal opens requests")
	}
	for d, where := range departments(a.w.Campus) {
		for _, p := range d.Speakers {
			if p.ID == 0 { // known to the portal alone
				continue
			}
			asked++
			a.account("speaker", p, where, "who speaks for "+d.ID)
		}
		if d.Team.ID != 0 {
			asked++
			a.speakingTeam(d, where)
		}
	}
	if a.s.Skipped > 0 {
		a.add(Unknown, "speakers", fmt.Sprintf("%d accounts and teams were not looked up: too many", a.s.Skipped), "look at them by hand: https://api.github.com/users/LOGIN")
	}
	if len(a.found) == before && asked > 0 {
		a.add(Fine, "speakers", fmt.Sprintf("logins and numbers go together (%d)", asked), "")
	}
}

// departments are all of them, each with its place.
func departments(campus []*registration.Campus) iter.Seq2[registration.Department, string] {
	return func(yield func(registration.Department, string) bool) {
		for _, c := range campus {
			for _, d := range c.Departments {
				if !yield(d, fmt.Sprintf("%s:%d", c.Path, d.At.Line)) {
					return
				}
			}
		}
	}
}

// portals are the accounts that the portal opens requests as, each with its file.
func portals(campus []*registration.Campus) iter.Seq2[registration.Speaker, string] {
	return func(yield func(registration.Speaker, string) bool) {
		for _, c := range campus {
			if p := c.Portal; p.ID != 0 && !yield(registration.Speaker{GitHub: p.GitHub, ID: p.ID}, c.Path) {
				return
			}
		}
	}
}

// account holds a login to its number; what says what the account is for.
func (a *audit) account(kind string, p registration.Speaker, where, what string) {
	got, asked := a.s.Accounts[p.GitHub]
	if !asked || got.Hidden == nil && got.Value.ID == p.ID {
		return
	}
	check := kind + " " + printable(p.GitHub, 60)
	now := a.s.Logins[p.ID]
	owner := fmt.Sprintf("; no account has the number %d", p.ID)
	if now.Hidden == nil && now.Value != "" {
		owner = fmt.Sprintf("; the number %d is %s's", p.ID, now.Value)
	}
	if errors.Is(got.Hidden, ErrRefused) {
		a.add(Unknown, check, "the account cannot be seen with this token", "look at it by hand: https://api.github.com/users/LOGIN")
		return
	}
	if got.Hidden != nil {
		a.add(Missing, check, "there is no account of that name, or it is hidden from this token"+owner, where+": write the login and the number that belong together")
		return
	}
	a.add(Missing, check, fmt.Sprintf("%s has the number %d%s, %s", printable(got.Value.Login, 60), got.Value.ID, owner, what), where+": write the login and the number that belong together")
}

func (a *audit) speakingTeam(d registration.Department, where string) {
	got, asked := a.s.Speaking[d.Team.Slug]
	check := "team " + printable(d.Team.Slug, 100)
	switch {
	case !asked, got.Hidden == nil && got.Value.ID == d.Team.ID:
	case got.Hidden == nil:
		a.add(Missing, check, fmt.Sprintf("it has the number %d, and departments.cue says %d", got.Value.ID, d.Team.ID), where+": write the slug and the number that belong together")
	case a.s.SeesTeams:
		a.add(Missing, check, "there is no such team, or it is secret", where+": write the team that speaks for the department")
	default:
		a.add(Unknown, check, "this token is not shown the organisation's teams", "a token with Members: read")
	}
}
