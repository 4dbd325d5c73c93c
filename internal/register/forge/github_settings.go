package forge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-github/v60/github"

	"example.edu/gatepost/internal/register/registration"
)

const (
	maxOwners    = 3 << 20 // bytes of CODEOWNERS; GitHub reads no more
	maxVariables = 1000
	maxRulesets  = 1000

	// AppVariable is the variable of the repository, or of the organisation, in
	// which the workflows find the number of the App that writes the check.
	AppVariable = "GATEPOST_APP_ID"
)

// A Seen is something that the forge says, or why it does not say it.
type Seen[T any] struct {
	Value  T
	Hidden error // ErrRefused or ErrNotFound: this token may not see it; nil where Value holds
}

// see takes what a token may not see for an answer, and any other failure for
// one.
func see[T any](v T, err error) (Seen[T], error) {
	if errors.Is(err, ErrRefused) || errors.Is(err, ErrNotFound) {
		return Seen[T]{Hidden: err}, nil
	}
	return Seen[T]{Value: v}, err
}

// Settings are what the settings of a repository say to a token, as far as a
// register depends on them.
type Settings struct {
	Repository   string // owner/name
	Organisation bool   // that is whose it is; a person has no teams
	Private      bool
	Admin        bool   // the token may change the settings
	Forkable     bool   // departments can work in forks
	Branch       string // that the relay reads
	Default      string // the branch as whose workflows the check is written
	Tip          string // the commit at the branch's tip

	Rules    Protection
	Inactive []string // rulesets that are there and not in force, each with how far it has come

	Files       []File // of the register's campus, the workflows, and CODEOWNERS
	Owners      *File  // the CODEOWNERS that GitHub reads; nil if there is none
	OwnersWrong Seen[[]OwnersError]
	Teams       map[string]Seen[TeamAccess] // by slug: those that CODEOWNERS names
	SeesTeams   bool                        // this token is shown teams of the organisation at all

	Actions Seen[ActionsSettings]
	Token   Seen[TokenSettings]
	Forks   Seen[ForkSettings]
	App     Seen[string] // what the variable AppVariable says; "" if there is none

	Accounts map[string]Seen[Account]    // by login: those that speak for a department
	Logins   map[int64]Seen[string]      // by number: where login and number do not go together
	Speaking map[string]Seen[TeamAccess] // by slug: the teams that speak for a department
	Skipped  int                         // accounts and teams that were not asked for: too many
}

// A TeamAccess is a team and what it may do in the repository.
type TeamAccess struct {
	ID     int64
	Secret bool
	Write  Seen[bool]
}

// ActionsSettings say whether workflows run.
type ActionsSettings struct {
	Enabled bool   `json:"enabled"`
	Allowed string `json:"allowed_actions"` // all, local_only, selected
}

// TokenSettings say what the token of a workflow may do that does not say so
// itself.
type TokenSettings struct {
	Default string `json:"default_workflow_permissions"`     // read or write
	Approve bool   `json:"can_approve_pull_request_reviews"` // a workflow may approve
}

// ForkSettings say what happens to workflows of pull requests out of forks.
// Policy is a public repository's, the rest a private one's.
type ForkSettings struct {
	Policy  string `json:"approval_policy"`
	Run     bool   `json:"run_workflows_from_fork_pull_requests"`
	Write   bool   `json:"send_write_tokens_to_workflows"`
	Secrets bool   `json:"send_secrets_and_variables"`
	Approve bool   `json:"require_approval_for_fork_pr_workflows"`
}

// ownersPaths are where GitHub looks for CODEOWNERS; the first that is there
// counts.
var ownersPaths = []string{".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS"}

// Settings reads the settings. branch is what the relay reads; "" is the
// repository's default. What the token may not see is Hidden; the repository
// itself and the branch it must see. Read Speakers afterwards: what they are is
// in Files.
func (g *GitHub) Settings(ctx context.Context, branch string) (*Settings, error) {
	s := &Settings{Repository: g.owner + "/" + g.name, Branch: branch, Teams: map[string]Seen[TeamAccess]{}}
	for _, read := range []func(context.Context, *Settings) error{
		g.repositorySettings, g.ruleSettings, g.fileSettings, g.ownerSettings, g.actionSettings, g.appSetting,
	} {
		if err := read(ctx, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ask reads one small answer of the repository's.
func ask[T any](ctx context.Context, g *GitHub, doing, path string) (T, error) {
	var v T
	err := g.read(ctx, doing, func(ctx context.Context) (*github.Response, error) {
		return g.get(ctx, path, &v)
	})
	return v, err
}

func (g *GitHub) at(path string) string {
	return "repos/" + g.owner + "/" + g.name + path
}

func (g *GitHub) repositorySettings(ctx context.Context, s *Settings) error {
	r, err := ask[struct {
		Private  bool   `json:"private"`
		Default  string `json:"default_branch"`
		Forkable *bool  `json:"allow_forking"`
		Owner    struct {
			Type string `json:"type"`
		} `json:"owner"`
		May struct {
			Admin bool `json:"admin"`
		} `json:"permissions"`
	}](ctx, g, "reading the repository", g.at(""))
	if err != nil {
		return err
	}
	s.Private, s.Organisation, s.Default = r.Private, r.Owner.Type == "Organization", r.Default
	s.Admin, s.Forkable = r.May.Admin, r.Forkable == nil || *r.Forkable
	if s.Branch == "" {
		s.Branch = s.Default
	}
	if !validBranch(s.Branch) {
		return fmt.Errorf("forge: reading the settings: %w: %q is no branch", ErrInvalid, printable(s.Branch, 100))
	}
	s.Tip, err = g.tip(ctx, s.Branch)
	return err
}

func (g *GitHub) ruleSettings(ctx context.Context, s *Settings) error {
	var err error
	if s.Rules, err = g.Protection(ctx, s.Branch); err != nil || s.Rules.InForce {
		return err
	}
	type ruleset struct {
		Name        string `json:"name"`
		Target      string `json:"target"`
		Enforcement string `json:"enforcement"`
	}
	var all []ruleset
	err = g.pages(ctx, "listing the rulesets", maxRulesets/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		var page []ruleset
		resp, err := g.get(ctx, g.at(fmt.Sprintf("/rulesets?includes_parents=true&per_page=%d&page=%d", o.PerPage, o.Page)), &page)
		all = append(all, page...)
		return resp, err
	})
	if _, err = see(all, err); err != nil {
		return err
	}
	for _, r := range all {
		if r.Target == "branch" && r.Enforcement != "active" {
			s.Inactive = append(s.Inactive, fmt.Sprintf("%s (%s)", printable(r.Name, 60), printable(r.Enforcement, 20)))
		}
	}
	return nil
}

// fileSettings reads what the branch's tip says of owners, speakers and
// workflows.
func (g *GitHub) fileSettings(ctx context.Context, s *Settings) error {
	none := func(context.Context, string) (map[string]Known, error) { return nil, nil }
	files, err := g.Since(ctx, s.Tip, none, append(slices.Clone(ownersPaths), "registrations/campus", ".github/workflows")...)
	if err != nil {
		return err
	}
	s.Files = files
	for _, p := range ownersPaths {
		i := slices.IndexFunc(files, func(f File) bool { return f.Path == p })
		if i < 0 {
			continue
		}
		s.Owners = &files[i]
		if f := s.Owners; f.Mode == registration.Regular && f.Size <= maxOwners {
			f.Data, err = g.blob(ctx, f.Blob, f.Size)
		}
		return err
	}
	return nil
}

// ownerSettings reads what GitHub makes of CODEOWNERS, and of the teams that it
// names.
func (g *GitHub) ownerSettings(ctx context.Context, s *Settings) error {
	if s.Organisation {
		visible, err := ask[[]struct{}](ctx, g, "listing the teams", "orgs/"+g.owner+"/teams?per_page=1")
		seen, err := see(visible, err)
		if err != nil {
			return err
		}
		s.SeesTeams = len(seen.Value) > 0
	}
	if s.Owners == nil {
		return nil
	}
	wrong, err := g.OwnersErrors(ctx, s.Branch)
	if s.OwnersWrong, err = see(wrong, err); err != nil {
		return err
	}
	for _, slug := range parseOwners(s.Owners.Data).teams(g.owner) {
		if len(s.Teams) >= maxSpeakers {
			return fmt.Errorf("forge: reading CODEOWNERS: %w: more than %d teams", ErrTooMuch, maxSpeakers)
		}
		if s.Teams[slug], err = g.teamAccess(ctx, slug, s); err != nil {
			return err
		}
	}
	return nil
}

// teamAccess is a team, and what it may do in a repository, if there is one.
func (g *GitHub) teamAccess(ctx context.Context, slug string, in *Settings) (Seen[TeamAccess], error) {
	path := "orgs/" + g.owner + "/teams/" + url.PathEscape(slug)
	t, err := ask[struct {
		ID      int64  `json:"id"`
		Privacy string `json:"privacy"`
	}](ctx, g, "reading team "+slug, path)
	seen, err := see(TeamAccess{ID: t.ID, Secret: t.Privacy == "secret"}, err)
	if err != nil || seen.Hidden != nil || in == nil {
		return seen, err
	}
	var there *github.Repository
	err = g.read(ctx, "reading what team "+slug+" may do", func(ctx context.Context) (resp *github.Response, err error) {
		there, resp, err = g.client.Teams.IsTeamRepoBySlug(ctx, g.owner, url.PathEscape(slug), g.owner, g.name)
		return resp, err
	})
	if errors.Is(err, ErrNotFound) && (in.Admin || !in.Private) { // nothing is hidden from this token, so it has no access
		return seen, nil
	}
	writes := there.GetPermissions()
	seen.Value.Write, err = see(writes["push"] || writes["maintain"] || writes["admin"], err)
	if err == nil && seen.Value.Write.Hidden == nil && len(writes) == 0 {
		seen.Value.Write.Hidden = ErrIncomplete
	}
	return seen, err
}

func (g *GitHub) actionSettings(ctx context.Context, s *Settings) error {
	actions, err := ask[ActionsSettings](ctx, g, "reading whether Actions are on", g.at("/actions/permissions"))
	if s.Actions, err = see(actions, err); err != nil {
		return err
	}
	token, err := ask[TokenSettings](ctx, g, "reading what workflows may do", g.at("/actions/permissions/workflow"))
	if s.Token, err = see(token, err); err != nil {
		return err
	}
	path := "/actions/permissions/fork-pr-contributor-approval"
	if s.Private {
		path = "/actions/permissions/fork-pr-workflows-private-repos"
	}
	forks, err := ask[ForkSettings](ctx, g, "reading what workflows of forks may do", g.at(path))
	s.Forks, err = see(forks, err)
	return err
}

// appSetting looks for the App's number among the variables of the repository,
// and then of the organisation. A list tells what is not there from what is
// hidden.
func (g *GitHub) appSetting(ctx context.Context, s *Settings) error {
	for _, path := range []string{"/actions/variables", "/actions/organization-variables"} {
		value, err := g.variable(ctx, path)
		if s.App, err = see(value, err); err != nil || s.App.Hidden != nil || value != "" {
			return err
		}
	}
	return nil
}

func (g *GitHub) variable(ctx context.Context, path string) (string, error) {
	const most = 30 // GitHub's, for variables
	found := ""
	err := g.pages(ctx, "reading the variables", maxVariables/most, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		var page struct {
			Variables []struct{ Name, Value string } `json:"variables"`
		}
		resp, err := g.get(ctx, g.at(fmt.Sprintf("%s?per_page=%d&page=%d", path, most, o.Page)), &page)
		for _, v := range page.Variables {
			if strings.EqualFold(v.Name, AppVariable) {
				found = printable(v.Value, 40)
			}
		}
		return resp, err
	})
	return found, err
}

// maxSpeakers bounds how many accounts, and how many teams, are looked up.
const maxSpeakers = 500

// Speakers looks up who speaks for departments: whether the logins and slugs are
// those of the numbers. Accounts that are named often are asked for once.
func (g *GitHub) Speakers(ctx context.Context, s *Settings, campus []*registration.Campus) error {
	s.Accounts, s.Logins, s.Speaking = map[string]Seen[Account]{}, map[int64]Seen[string]{}, map[string]Seen[TeamAccess]{}
	for portal := range portals(campus) {
		if err := g.speaker(ctx, s, portal); err != nil {
			return err
		}
	}
	for d := range departments(campus) {
		for _, p := range d.Speakers {
			if p.ID == 0 { // known to the portal alone
				continue
			}
			if err := g.speaker(ctx, s, p); err != nil {
				return err
			}
		}
		if _, known := s.Speaking[d.Team.Slug]; d.Team.ID == 0 || known {
			continue
		}
		if len(s.Speaking) >= maxSpeakers {
			s.Skipped++
			continue
		}
		seen, err := g.teamAccess(ctx, d.Team.Slug, nil)
		if err != nil {
			return err
		}
		s.Speaking[d.Team.Slug] = seen
	}
	return nil
}

func (g *GitHub) speaker(ctx context.Context, s *Settings, p registration.Speaker) error {
	account, known := s.Accounts[p.GitHub]
	if !known {
		if len(s.Accounts) >= maxSpeakers {
			s.Skipped++
			return nil
		}
		u, err := ask[Account](ctx, g, "reading account "+p.GitHub, "users/"+url.PathEscape(p.GitHub))
		if account, err = see(u, err); err != nil {
			return err
		}
		s.Accounts[p.GitHub] = account
	}
	if _, asked := s.Logins[p.ID]; asked || account.Hidden == nil && account.Value.ID == p.ID {
		return nil
	}
	u, err := ask[Account](ctx, g, fmt.Sprintf("reading account %d", p.ID), fmt.Sprintf("user/%d", p.ID))
	s.Logins[p.ID], err = see(printable(u.Login, 60), err)
	return err
}
