package forge_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/registration"
)

// rulesInForce is what a site should switch on, in GitHub's words.
func rulesInForce() []map[string]any {
	rule := func(kind string, parameters map[string]any) map[string]any {
		m := map[string]any{"type": kind, "ruleset_id": 9, "ruleset_source_type": "Repository", "ruleset_source": repository}
		if parameters != nil {
			m["parameters"] = parameters
		}
		return m
	}
	return []map[string]any{
		rule("deletion", nil), rule("non_fast_forward", nil),
		rule("pull_request", map[string]any{
			"dismiss_stale_reviews_on_push": true, "require_code_owner_review": true, "require_last_push_approval": false,
			"required_approving_review_count": 1, "required_review_thread_resolution": false,
		}),
		rule("required_status_checks", map[string]any{
			"strict_required_status_checks_policy": true, "required_status_checks": []map[string]any{{"context": "gatepost", "integration_id": 7}},
		}),
	}
}

// goodSettings are all as a register needs them.
func goodSettings() forgetest.Settings {
	return forgetest.Settings{
		Protected: true,
		Actions:   map[string]any{"enabled": true, "allowed_actions": "all"},
		Token:     map[string]any{"default_workflow_permissions": "read", "can_approve_pull_request_reviews": false},
		Forks:     map[string]any{"approval_policy": "first_time_contributors"},
		PrivateFork: map[string]any{"run_workflows_from_fork_pull_requests": true, "send_write_tokens_to_workflows": false,
			"send_secrets_and_variables": false, "require_approval_for_fork_pr_workflows": true},
		Variables: map[string]string{"OTHER": "x", "GATEPOST_APP_ID": "7"},
		Writes:    []string{"postmasters", "network"},
	}
}

const (
	goodOwners = "* @umich/postmasters\n/registrations/campus/ @umich/network @umich/postmasters # both\n"
	goodCampus = `departments: {
	its: {name: "ITS", speakers: [{github: "octocat", id: 583231}], team: {slug: "its", id: 43}, contactDomains: ["umich.edu"]}
	art: {name: "Art", speakers: [{github: "octocat", id: 583231}], contactDomains: ["umich.edu"]}
}
`
)

// settle makes all as a register needs it.
func settle(hub *forgetest.Hub) {
	hub.SetSettings(goodSettings())
	hub.SetRules(rulesInForce(), []map[string]any{})
	hub.SetOwnersErrors()
	hub.AddTeam(42, "postmasters")
	hub.AddTeam(44, "network")
	hub.AddTeam(43, "its")
	hub.Commit("main", "What a register needs",
		forgetest.Change{Path: "CODEOWNERS", Content: goodOwners},
		forgetest.Change{Path: "registrations/campus/departments.cue", Content: goodCampus},
		forgetest.Change{Path: ".github/workflows/validate.yml", Content: "on: pull_request\n"},
		forgetest.Change{Path: ".github/workflows/report.yml", Content: "on: workflow_run\n"})
}

// campusOf parses what was read of the campus.
func campusOf(t *testing.T, s *forge.Settings) []*registration.Campus {
	t.Helper()
	parser, err := registration.NewParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []*registration.Campus
	for _, f := range s.Files {
		if registration.Kind(f.Path) == registration.KindCampus {
			if c := parser.Parse(f.Source).Campus; c != nil {
				out = append(out, c)
			}
		}
	}
	return out
}

// audit reads and judges the settings.
func audit(t *testing.T, g *forge.GitHub) []forge.Finding {
	t.Helper()
	s, err := g.Settings(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	campus := campusOf(t, s)
	if err := g.Speakers(t.Context(), s, campus); err != nil {
		t.Fatal(err)
	}
	return s.Audit(forge.Want{Check: "gatepost", Campus: campus})
}

// troubles are the findings that are not fine, each as a line.
func troubles(findings []forge.Finding) []string {
	out := []string{}
	for _, f := range findings {
		if f.State != forge.Fine {
			out = append(out, fmt.Sprintf("%s: %s: %s; %s", f.State, f.Check, f.Message, f.Remedy))
		}
	}
	return out
}

// TestAudit: where all is as it has to be nothing is said, and each thing that
// is not is named, alone, with what to do about it.
func TestAudit(t *testing.T) {
	t.Parallel()
	settings := func(change func(*forgetest.Settings)) func(*forgetest.Hub) {
		return func(hub *forgetest.Hub) {
			s := goodSettings()
			change(&s)
			hub.SetSettings(s)
		}
	}
	rule := func(kind, field string, value any) func(*forgetest.Hub) {
		return func(hub *forgetest.Hub) {
			rules := rulesInForce()
			i := slices.IndexFunc(rules, func(r map[string]any) bool { return r["type"] == kind })
			if field == "" {
				rules = slices.Delete(rules, i, i+1)
			} else {
				rules[i]["parameters"].(map[string]any)[field] = value
			}
			hub.SetRules(rules, []map[string]any{})
		}
	}
	checks := func(list ...map[string]any) func(*forgetest.Hub) {
		return rule("required_status_checks", "required_status_checks", list)
	}
	put := func(path, content string) func(*forgetest.Hub) {
		return func(hub *forgetest.Hub) {
			hub.Commit("main", "Another one", forgetest.Change{Path: path, Content: content, Remove: content == ""})
		}
	}
	classic := func(body string) func(*forgetest.Hub) {
		return func(hub *forgetest.Hub) {
			hub.SetRules(nil, nil)
			hub.Fail(forgetest.Failure{Method: "GET", Path: "/protection", Status: 200, Times: -1, Body: body})
		}
	}
	for name, tt := range map[string]struct {
		change func(*forgetest.Hub)
		want   []string // what each line begins with, and says
	}{
		"all is well": {func(*forgetest.Hub) {}, nil},
		"no pull request": {rule("pull_request", "", nil), []string{
			"missing: pull-request: changes need not", "missing: approvals: no approving review", "missing: code-owners:", "missing: stale-approvals:"}},
		"no approval":         {rule("pull_request", "required_approving_review_count", 0), []string{"missing: approvals: no approving review is required; Settings → Rules → Rulesets: Require a pull request before merging, Required approvals: 1"}},
		"no owners' approval": {rule("pull_request", "require_code_owner_review", false), []string{"missing: code-owners: the owners of a file need not approve; Settings → Rules"}},
		"stale approvals":     {rule("pull_request", "dismiss_stale_reviews_on_push", false), []string{"missing: stale-approvals: an approval stays"}},
		"the last push": {func(hub *forgetest.Hub) {
			rules := rulesInForce()
			rules[2]["parameters"].(map[string]any)["dismiss_stale_reviews_on_push"], rules[2]["parameters"].(map[string]any)["require_last_push_approval"] = false, true
			hub.SetRules(rules, []map[string]any{})
		}, nil},
		"force pushes":      {rule("non_fast_forward", "", nil), []string{"missing: force-pushes: force pushes are not blocked; Settings → Rules → Rulesets: Block force pushes"}},
		"deletion":          {rule("deletion", "", nil), []string{"missing: deletion: the branch can be deleted; Settings → Rules → Rulesets: Restrict deletions"}},
		"no check":          {checks(), []string{"missing: required-check: the check gatepost is not required"}},
		"another check":     {checks(map[string]any{"context": "validate", "integration_id": 7}), []string{"missing: required-check:"}},
		"not pinned":        {checks(map[string]any{"context": "gatepost"}), []string{"missing: check-app: the check gatepost may come from anybody"}},
		"pinned to Actions": {checks(map[string]any{"context": "gatepost", "integration_id": 15368}), []string{"missing: check-app: the check gatepost is taken from GitHub Actions"}},
		"pinned to another": {checks(map[string]any{"context": "gatepost", "integration_id": 8}), []string{"missing: check-app: the check gatepost is taken from App 8, and App 7 writes it"}},
		"no up to date":     {rule("required_status_checks", "strict_required_status_checks_policy", false), []string{"optional: merge-queue: two requests"}},
		"a merge queue": {func(hub *forgetest.Hub) {
			rules := append(rulesInForce(), map[string]any{"type": "merge_queue", "ruleset_id": 9, "parameters": map[string]any{"merge_method": "MERGE"}})
			rules[3]["parameters"].(map[string]any)["strict_required_status_checks_policy"] = false
			hub.SetRules(rules, []map[string]any{})
		}, nil},
		"a rule of tomorrow": {func(hub *forgetest.Hub) {
			hub.SetRules(append(rulesInForce(), map[string]any{"type": "a_rule_of_tomorrow", "parameters": map[string]any{"x": 1}, "ruleset_id": 9}), []map[string]any{})
		}, nil},
		"somebody who may bypass": {func(hub *forgetest.Hub) {
			hub.SetRules(rulesInForce(), []map[string]any{{"actor_id": nil, "actor_type": "OrganizationAdmin", "bypass_mode": "always"}, {"actor_id": 42, "actor_type": "Team", "bypass_mode": "pull_request"}})
		}, []string{"missing: bypass: OrganizationAdmin may bypass the rules", "missing: bypass: Team 42 may bypass"}},
		"bypasses unseen": {func(hub *forgetest.Hub) { hub.SetRules(rulesInForce(), nil) }, []string{"unknown: bypass: who may bypass the rules cannot be seen"}},
		"no rules": {func(hub *forgetest.Hub) { hub.SetRules(nil, nil) }, []string{
			"missing: ruleset: no rule is in force on main; Settings → Rules → Rulesets: a branch ruleset", "missing: pull-request:", "missing: approvals:", "missing: code-owners:",
			"missing: stale-approvals:", "missing: force-pushes:", "missing: deletion:", "optional: merge-queue:", "missing: required-check:"}},
		"a ruleset that is only tried": {func(hub *forgetest.Hub) {
			hub.SetRules(nil, nil)
			settings(func(s *forgetest.Settings) {
				s.Rulesets = []map[string]any{{"id": 9, "name": "main", "target": "branch", "enforcement": "evaluate"}, {"id": 8, "name": "tags", "target": "tag", "enforcement": "disabled"}}
			})(hub)
		}, []string{"missing: ruleset: no rule is in force on main; not active: main (evaluate); ", "missing: pull-request:", "missing: approvals:", "missing: code-owners:",
			"missing: stale-approvals:", "missing: force-pushes:", "missing: deletion:", "optional: merge-queue:", "missing: required-check:"}},
		"classic protection, not for administrators": {classic(`{"required_pull_request_reviews": {"required_approving_review_count": 2, "require_code_owner_reviews": true, "dismiss_stale_reviews": true},
			"required_status_checks": {"strict": true, "checks": [{"context": "gatepost", "app_id": 7}]}, "enforce_admins": {"enabled": false}, "allow_force_pushes": {"enabled": false}, "allow_deletions": {"enabled": false}}`),
			[]string{"missing: bypass: every administrator may bypass the rules"}},
		"classic protection": {classic(`{"required_pull_request_reviews": {"required_approving_review_count": 1, "require_code_owner_reviews": true, "dismiss_stale_reviews": true},
			"required_status_checks": {"strict": true, "checks": [{"context": "gatepost", "app_id": 7}]}, "enforce_admins": {"enabled": true}, "allow_force_pushes": {"enabled": false}, "allow_deletions": {"enabled": false}}`), nil},

		"no variable":          {settings(func(s *forgetest.Settings) { s.Variables = nil }), []string{"missing: app: the variable GATEPOST_APP_ID is not set"}},
		"the organisation's":   {settings(func(s *forgetest.Settings) { s.Variables, s.OrgVars = nil, map[string]string{"GATEPOST_APP_ID": "7"} }), nil},
		"a variable of words":  {settings(func(s *forgetest.Settings) { s.Variables["GATEPOST_APP_ID"] = "seven" }), []string{"missing: app: the variable GATEPOST_APP_ID is no number"}},
		"a person's":           {settings(func(s *forgetest.Settings) { s.Person = true }), []string{"missing: organisation: the repository is a person's", "unknown: "}[:1]},
		"Actions off":          {settings(func(s *forgetest.Settings) { s.Actions["enabled"] = false }), []string{"missing: actions: Actions are off"}},
		"local actions only":   {settings(func(s *forgetest.Settings) { s.Actions["allowed_actions"] = "local_only" }), []string{"missing: actions: actions of others"}},
		"a token that writes":  {settings(func(s *forgetest.Settings) { s.Token["default_workflow_permissions"] = "write" }), []string{"missing: actions-token: a workflow that says nothing may write; Settings → Actions → General → Workflow permissions"}},
		"workflows approve":    {settings(func(s *forgetest.Settings) { s.Token["can_approve_pull_request_reviews"] = true }), []string{"missing: actions-approve:"}},
		"forks of anybody":     {settings(func(s *forgetest.Settings) { s.Forks["approval_policy"] = "first_time_contributors_new_to_github" }), []string{"missing: actions-forks: workflows of strangers run without approval"}},
		"a private repository": {settings(func(s *forgetest.Settings) { s.Private = true }), nil},
		"private, all wrong": {settings(func(s *forgetest.Settings) {
			s.Private, s.NoForks = true, true
			s.PrivateFork = map[string]any{"run_workflows_from_fork_pull_requests": false, "send_write_tokens_to_workflows": true, "send_secrets_and_variables": true, "require_approval_for_fork_pr_workflows": false}
		}), []string{"missing: actions-forks: workflows of forks do not run", "missing: actions-forks: workflows of forks get a token that may write",
			"missing: actions-forks: workflows of forks get the repository's secrets", "missing: actions-forks: workflows of forks run without approval", "optional: forks: "}},

		"no CODEOWNERS": {put("CODEOWNERS", ""), []string{"missing: owners-file: there is no CODEOWNERS on main"}},
		"an unknown owner": {func(hub *forgetest.Hub) {
			hub.SetOwnersErrors(map[string]any{"line": 3, "column": 1, "kind": "Unknown owner", "source": "x", "message": "Unknown owner on line 3: make sure\nmore", "path": "CODEOWNERS", "suggestion": nil})
		}, []string{"missing: owners-file: CODEOWNERS:3:1: Unknown owner on line 3: make sure; mend the line"}},
		"the other CODEOWNERS counts": {put(".github/CODEOWNERS", "docs/ @umich/postmasters\n"), []string{"missing: owners: nobody owns registrations/department/machine.cue, "}},
		"blocks are nobody's":         {put("CODEOWNERS", goodOwners+"/registrations/blocks\n"), []string{"missing: owners: nobody owns registrations/blocks/block.cue, so nobody must approve a change; CODEOWNERS: "}},
		"a star goes no deeper":       {put("CODEOWNERS", "/* @umich/postmasters\n.github/* @umich/postmasters\n/schema/** @umich/network\nregistrations/**/*.cue @umich/network\n"), []string{"missing: owners: nobody owns .github/workflows/report.yml, so"}},
		"names anywhere":              {put("CODEOWNERS", "registrations @umich/postmasters\nworkflows/ @umich/network\ngatepost @umich/network\nsite.cu? @umich/network\nCODEOWNERS @umich/network\n"), nil},
		"patterns of another kind":    {put("CODEOWNERS", goodOwners+"!/x @umich/network\n"), []string{"unknown: owners: CODEOWNERS has patterns that are not read here"}},
		"a link for CODEOWNERS": {func(hub *forgetest.Hub) {
			hub.Commit("main", "A link", forgetest.Change{Path: "CODEOWNERS", Content: "README.md", Mode: "120000"})
		}, []string{"missing: owners: nobody owns "}},
		"a team that is none":       {put("CODEOWNERS", goodOwners+"*.md @umich/nobody @else/where mail@umich.edu\n"), []string{"missing: team nobody: there is no such team, or it is secret"}},
		"a team that reads":         {settings(func(s *forgetest.Settings) { s.Writes, s.Reads = []string{"network"}, []string{"postmasters"} }), []string{"missing: team postmasters: it may not write to the repository"}},
		"a team without access":     {settings(func(s *forgetest.Settings) { s.Writes = []string{"network"} }), []string{"missing: team postmasters: it may not write to the repository"}},
		"… of a private repository": {settings(func(s *forgetest.Settings) { s.Writes, s.Private, s.NotAdmin = []string{"network"}, true, true }), []string{"unknown: team postmasters: what it may do here cannot be seen"}},
		"a secret team":             {settings(func(s *forgetest.Settings) { s.Secret = []string{"network"} }), []string{"missing: team network: it is a secret team"}},
		"no workflow":               {put(".github/workflows/report.yml", ""), []string{"missing: workflow report.yml: there is no .github/workflows/report.yml on main"}},

		"a login that is another's": {func(hub *forgetest.Hub) {
			hub.AddUser(7001, "octocat", octocat)
			hub.AddUser(583231, "octocat-old", "")
		}, []string{"missing: speaker octocat: octocat has the number 7001; the number 583231 is octocat-old's, who speaks for its; registrations/campus/departments.cue:2: write",
			"missing: speaker octocat: octocat has the number 7001; the number 583231 is octocat-old's, who speaks for art; registrations/campus/departments.cue:3: write"}},
		"a login that is nobody's": {put("registrations/campus/departments.cue", strings.Replace(goodCampus, `"octocat", id: 583231`, `"ocotcat", id: 583232`, 1)),
			[]string{"missing: speaker ocotcat: there is no account of that name, or it is hidden from this token; no account has the number 583232; registrations/campus/departments.cue:2"}},
		"the portal's account is another's": {put("registrations/campus/departments.cue", "portal: {github: \"octocat\", id: 900}\n"+goodCampus),
			[]string{"missing: portal octocat: octocat has the number 583231; no account has the number 900, as which the portal opens requests; registrations/campus/departments.cue: write"}},
		"the portal's account, and who is known to the portal alone": {put("registrations/campus/departments.cue",
			"portal: {github: \"octocat\", id: 583231}\n"+strings.Replace(goodCampus, `{github: "octocat", id: 583231}`, `{email: "ada@umich.edu"}`, 1)), nil},
		"a team of another number": {func(hub *forgetest.Hub) { hub.AddTeam(99, "its") }, []string{"missing: team its: it has the number 99, and departments.cue says 43; registrations/campus/departments.cue:2"}},
		"a team that is gone":      {put("registrations/campus/departments.cue", strings.Replace(goodCampus, `slug: "its"`, `slug: "itz"`, 1)), []string{"missing: team itz: there is no such team"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
				settle(hub)
				tt.change(hub)
				got := troubles(audit(t, g))
				if len(got) != len(tt.want) {
					t.Fatalf("%d findings, want %d:\n%s", len(got), len(tt.want), strings.Join(got, "\n"))
				}
				for i, want := range tt.want {
					if !strings.HasPrefix(got[i], want) {
						t.Errorf("%q, want %q", got[i], want)
					}
				}
			})
		})
	}
}

// TestAuditOfAnotherBranch: workflows report as they are on the default branch.
func TestAuditOfAnotherBranch(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		settle(hub)
		hub.Commit("trunk", "Another branch", forgetest.Change{Path: "x", Content: "x"})
		s, err := g.Settings(t.Context(), "trunk")
		if err != nil {
			t.Fatal(err)
		}
		got := troubles(s.Audit(forge.Want{Check: "gatepost", Unread: "a quote is missing"}))
		if len(got) != 2 || !strings.HasPrefix(got[0], "missing: default-branch: workflows report as they are on main, and the relay reads trunk") || !strings.HasPrefix(got[1], "unknown: speakers: who speaks for the departments cannot be read: a quote is missing") {
			t.Errorf("%q", got)
		}
	})
}

// TestWhatIsHiddenIsNeverFine: whichever answer a token does not get, all that
// was fine with it and is no more is unknown or missing, and something is.
func TestWhatIsHiddenIsNeverFine(t *testing.T) {
	t.Parallel()
	for path, want := range map[string][]string{
		"/branches/main/protection": nil, // the rulesets say it all
		"/rulesets/9":               {"bypass"},
		"/actions/permissions":      {"actions", "actions-approve", "actions-forks", "actions-token"}, // and all below
		"/permissions/workflow":     {"actions-approve", "actions-token"},
		"/fork-pr-contributor":      {"actions-forks"},
		"/actions/variables":        {"app", "check-app"},
		"/codeowners/errors":        {"owners-file"},
		"/orgs/umich/teams":         {"team its", "team network", "team postmasters"},
		"/postmasters/repos":        {"team postmasters"},
		"/users/octocat":            {"speaker octocat"},
	} {
		for _, status := range []int{403, 404} {
			t.Run(fmt.Sprintf("%s %d", path, status), func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
					settle(hub)
					fine := map[string]bool{}
					for _, f := range audit(t, g) {
						fine[f.Check] = fine[f.Check] || f.State == forge.Fine
					}
					hub.Fail(forgetest.Failure{Method: "GET", Path: path, Status: status, Times: -1})
					bad := map[string]bool{}
					for _, f := range audit(t, g) {
						delete(fine, f.Check)
						if f.State == forge.Unknown || f.State == forge.Missing {
							bad[f.Check] = true
						}
						if path != "/users/octocat" && path != "/postmasters/repos" && f.State == forge.Missing {
							t.Errorf("%s is missing: %s", f.Check, f.Message)
						}
					}
					if got := slices.Sorted(maps.Keys(bad)); !slices.Equal(got, want) {
						t.Errorf("not fine: %q, want %q", got, want)
					}
					for check := range fine {
						if check != "speakers" || len(bad) == 0 {
							t.Errorf("%s was fine, and nothing is said of it now", check)
						}
					}
				})
			})
		}
	}
}

// TestClassicProtectionThatIsHidden: to a token that is no administrator's, a
// branch may have it; then what no ruleset says is unknown.
func TestClassicProtectionThatIsHidden(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		protected bool
		hidden    bool // whether the branch has protection cannot be seen either
		want      forge.FindingState
	}{
		"none":               {false, false, forge.Missing},
		"of some kind":       {true, false, forge.Unknown},
		"nobody knows":       {false, true, forge.Unknown},
		"nobody knows, some": {true, true, forge.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
				settle(hub)
				s := goodSettings()
				s.Protected = tt.protected
				hub.SetSettings(s)
				hub.SetRules(nil, nil)
				hub.Fail(forgetest.Failure{Method: "GET", Path: "/protection", Status: 404, Times: -1})
				if tt.hidden {
					hub.Fail(forgetest.Failure{Method: "GET", Path: repository + "/branches/main", Status: 403, Times: -1})
				}
				states := map[forge.FindingState]int{}
				for _, f := range audit(t, g) {
					if slices.Contains([]string{"ruleset", "pull-request", "approvals", "code-owners", "stale-approvals", "force-pushes", "deletion", "required-check"}, f.Check) {
						states[f.State]++
					}
				}
				if states[tt.want] != 8 || len(states) != 1 {
					t.Errorf("%v", states)
				}
			})
		})
	}
}

// TestSettingsOfNoRepository: without the repository, or the branch, or an
// answer, there is nothing to find.
func TestSettingsOfNoRepository(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, hub *forgetest.Hub, g *forge.GitHub) {
		settle(hub)
		if _, err := g.Settings(t.Context(), "nowhere"); err == nil || !strings.Contains(err.Error(), "reading branch nowhere") {
			t.Errorf("a branch that is none: %v", err)
		}
		if _, err := g.Settings(t.Context(), "a..b"); err == nil {
			t.Error("no branch was taken")
		}
		for _, path := range []string{"/rules/branches", "/actions/permissions", "/codeowners", "/teams", "/variables", "/git/trees", "/rulesets"} {
			hub.Fail(forgetest.Failure{Method: "GET", Path: path, Status: 500, Times: 1})
			if s, err := g.Settings(t.Context(), ""); err == nil {
				t.Errorf("%s failed, and there are settings: %+v", path, s)
			}
		}
	})
}
