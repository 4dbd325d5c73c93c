package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"
)

const (
	maxRules   = 1000
	maxReviews = 3000
	maxEvents  = 3000 // of one request
	maxMembers = 3000
)

// An OwnersError is something wrong in CODEOWNERS. A line that GitHub cannot
// read asks nobody for a review, without a word.
type OwnersError struct {
	Path         string
	Line, Column int
	Kind         string
	Message      string
}

// OwnersErrors is what is wrong with CODEOWNERS at ref, a branch or a commit.
func (g *GitHub) OwnersErrors(ctx context.Context, ref string) ([]OwnersError, error) {
	var got *github.CodeownersErrors
	err := g.read(ctx, "checking CODEOWNERS", func(ctx context.Context) (resp *github.Response, err error) {
		got, resp, err = g.client.Repositories.GetCodeownersErrors(ctx, g.owner, g.name, &github.GetCodeownersErrorsOptions{Ref: ref})
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	out := make([]OwnersError, 0, len(got.Errors))
	for _, e := range got.Errors {
		message, _, _ := strings.Cut(e.Message, "\n") // below it GitHub shows the line, with an arrow
		out = append(out, OwnersError{
			Path: printable(e.Path, maxPath), Line: e.Line, Column: e.Column, Kind: printable(e.Kind, 100), Message: printable(message, 500),
		})
	}
	return out, nil
}

// A Protection is what must be true before anything comes into a branch, from
// rulesets and classic branch protection together.
type Protection struct {
	PullRequest   bool // changes come by pull request only
	Approvals     int
	CodeOwners    bool // owners must approve what is theirs
	DismissStale  bool // a push takes approvals back
	LastPush      bool // somebody other than the last to push must approve
	Checks        []RequiredCheck
	UpToDate      bool // a request must contain the branch's tip before it is merged
	NoForcePush   bool
	NoDeletion    bool
	MergeQueue    bool     // requests are merged by a queue, which tests them together
	Bypass        []string // who need not keep to it: "OrganizationAdmin", "Team 42"
	BypassUnknown bool     // this token may not see that
	InForce       bool     // there is a rule at all
	MoreUnknown   bool     // there may be classic protection beside it, which this token may not see
}

// A RequiredCheck must pass. App is the number of the App that must say so; 0
// is anybody who may write.
type RequiredCheck struct {
	Name string
	App  int64
}

// Protection reads the rules of a branch.
func (g *GitHub) Protection(ctx context.Context, branch string) (Protection, error) {
	var p Protection
	if !validBranch(branch) {
		return p, fmt.Errorf("forge: reading the rules: %w: %q is no branch", ErrInvalid, branch)
	}
	sets, err := g.rules(ctx, branch, &p)
	if err != nil {
		return p, err
	}
	for _, id := range sets {
		if err := g.bypasses(ctx, id, &p); err != nil {
			return p, err
		}
	}
	err = g.classic(ctx, branch, &p)
	slices.Sort(p.Bypass)
	p.Bypass = slices.Compact(p.Bypass)
	return p, err
}

// A branchRule is one rule in force. go-github knows the parameters of some
// rules only, and gives up on others.
type branchRule struct {
	Type       string          `json:"type"`
	Ruleset    int64           `json:"ruleset_id"`
	Parameters json.RawMessage `json:"parameters"`
}

// rules adds what the rulesets say and returns their numbers.
func (g *GitHub) rules(ctx context.Context, branch string, p *Protection) ([]int64, error) {
	var all []branchRule
	err := g.pages(ctx, "reading the rules of "+branch, maxRules/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		var page []branchRule
		resp, err := g.get(ctx, fmt.Sprintf("repos/%s/%s/rules/branches/%s?per_page=%d&page=%d", g.owner, g.name, url.PathEscape(branch), o.PerPage, o.Page), &page)
		all = append(all, page...)
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	var sets []int64
	p.InForce = len(all) > 0
	for _, r := range all {
		if err := r.add(p); err != nil {
			return nil, fmt.Errorf("forge: reading the rules of %s: %w: %s", branch, ErrIncomplete, printable(r.Type, 100))
		}
		if r.Ruleset != 0 && !slices.Contains(sets, r.Ruleset) {
			sets = append(sets, r.Ruleset)
		}
	}
	return sets, nil
}

func (g *GitHub) get(ctx context.Context, path string, into any) (*github.Response, error) {
	req, err := g.client.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return g.client.Do(ctx, req, into)
}

func (r branchRule) add(p *Protection) error {
	switch r.Type {
	case "pull_request":
		var v struct {
			Approvals    int  `json:"required_approving_review_count"`
			CodeOwners   bool `json:"require_code_owner_review"`
			DismissStale bool `json:"dismiss_stale_reviews_on_push"`
			LastPush     bool `json:"require_last_push_approval"`
		}
		if err := json.Unmarshal(r.Parameters, &v); err != nil {
			return err
		}
		p.PullRequest = true
		p.Approvals = max(p.Approvals, v.Approvals)
		p.CodeOwners = p.CodeOwners || v.CodeOwners
		p.DismissStale = p.DismissStale || v.DismissStale
		p.LastPush = p.LastPush || v.LastPush
	case "required_status_checks":
		var v struct {
			Strict bool `json:"strict_required_status_checks_policy"`
			Checks []struct {
				Context string `json:"context"`
				App     int64  `json:"integration_id"`
			} `json:"required_status_checks"`
		}
		if err := json.Unmarshal(r.Parameters, &v); err != nil {
			return err
		}
		p.UpToDate = p.UpToDate || v.Strict
		for _, c := range v.Checks {
			p.addCheck(RequiredCheck{Name: c.Context, App: max(c.App, 0)})
		}
	case "non_fast_forward":
		p.NoForcePush = true
	case "deletion":
		p.NoDeletion = true
	case "merge_queue":
		p.MergeQueue = true
	}
	return nil
}

// addCheck notes a required check once, pinned if any rule pins it.
func (p *Protection) addCheck(c RequiredCheck) {
	i := slices.IndexFunc(p.Checks, func(o RequiredCheck) bool { return o.Name == c.Name })
	switch {
	case i < 0:
		p.Checks = append(p.Checks, c)
	case p.Checks[i].App == 0:
		p.Checks[i].App = c.App
	}
}

// bypasses adds who need not keep to a ruleset. GitHub leaves the list out for
// those who may not change it.
func (g *GitHub) bypasses(ctx context.Context, id int64, p *Protection) error {
	var set struct {
		Actors *[]struct {
			ID   int64  `json:"actor_id"`
			Type string `json:"actor_type"`
		} `json:"bypass_actors"`
	}
	err := g.read(ctx, "reading a ruleset", func(ctx context.Context) (*github.Response, error) {
		return g.get(ctx, fmt.Sprintf("repos/%s/%s/rulesets/%d?includes_parents=true", g.owner, g.name, id), &set)
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrRefused) || err == nil && set.Actors == nil {
		p.BypassUnknown = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, a := range *set.Actors {
		who := printable(a.Type, 60)
		if a.ID != 0 {
			who += " " + strconv.FormatInt(a.ID, 10)
		}
		p.Bypass = append(p.Bypass, who)
	}
	return nil
}

// classic adds what classic branch protection says. Only an administrator's
// token may see it; others may see whether the branch has any protection.
func (g *GitHub) classic(ctx context.Context, branch string, p *Protection) error {
	var c *github.Protection
	err := g.read(ctx, "reading the protection of "+branch, func(ctx context.Context) (resp *github.Response, err error) {
		c, resp, err = g.client.Repositories.GetBranchProtection(ctx, g.owner, g.name, branch)
		if errors.Is(err, github.ErrBranchNotProtected) {
			return resp, nil
		}
		return resp, err
	})
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrRefused):
		b, err := ask[struct {
			Protected *bool `json:"protected"`
		}](ctx, g, "reading branch "+branch, g.at("/branches/"+url.PathEscape(branch)))
		seen, err := see(b, err)
		p.MoreUnknown = seen.Hidden != nil || b.Protected == nil || *b.Protected
		return err
	case err != nil || c == nil:
		return err
	}
	p.InForce = true
	if !p.PullRequest && (c.EnforceAdmins == nil || !c.EnforceAdmins.Enabled) {
		p.Bypass = append(p.Bypass, "every administrator")
	}
	if r := c.RequiredPullRequestReviews; r != nil {
		p.PullRequest = true
		p.Approvals = max(p.Approvals, r.RequiredApprovingReviewCount)
		p.CodeOwners = p.CodeOwners || r.RequireCodeOwnerReviews
		p.DismissStale = p.DismissStale || r.DismissStaleReviews
		p.LastPush = p.LastPush || r.RequireLastPushApproval
	}
	if s := c.RequiredStatusChecks; s != nil {
		p.UpToDate = p.UpToDate || s.Strict
		if s.Checks != nil {
			for _, check := range *s.Checks {
				p.addCheck(RequiredCheck{Name: check.Context, App: max(check.GetAppID(), 0)})
			}
		}
	}
	p.NoForcePush = p.NoForcePush || c.AllowForcePushes != nil && !c.AllowForcePushes.Enabled
	p.NoDeletion = p.NoDeletion || c.AllowDeletions != nil && !c.AllowDeletions.Enabled
	return nil
}

// A Team is a team of the organisation.
type Team struct {
	ID      int64
	Slug    string
	Members []Account
}

// Team lists a team's members, those of the teams below it included. The
// number decides whether it is the team that was meant.
func (g *GitHub) Team(ctx context.Context, slug string) (Team, error) {
	var team *github.Team
	err := g.read(ctx, "reading team "+slug, func(ctx context.Context) (resp *github.Response, err error) {
		team, resp, err = g.client.Teams.GetTeamBySlug(ctx, g.owner, url.PathEscape(slug))
		return resp, err
	})
	if err != nil {
		return Team{}, err
	}
	out := Team{ID: team.GetID(), Slug: team.GetSlug()}
	err = g.pages(ctx, "reading the members of team "+slug, maxMembers/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		page, resp, err := g.client.Teams.ListTeamMembersBySlug(ctx, g.owner, url.PathEscape(slug), &github.TeamListTeamMembersOptions{ListOptions: o})
		for _, u := range page {
			out.Members = append(out.Members, Account{ID: u.GetID(), Login: u.GetLogin()})
		}
		return resp, err
	})
	return out, err
}

// Has reports whether an account is in the team.
func (t Team) Has(id int64) bool {
	return id != 0 && slices.ContainsFunc(t.Members, func(a Account) bool { return a.ID == id })
}

// Approvals is who approves of a request as it is at its head, with their last
// word, and is not its author. Who of them counts is for the caller to say (see
// Team). A review of before the request was made to go into another branch does
// not count: what its author saw was what the head brings to the one before.
func (g *GitHub) Approvals(ctx context.Context, r Request) ([]Account, error) {
	last := map[int64]*github.PullRequestReview{}
	err := g.pages(ctx, fmt.Sprintf("reading the reviews of pull request %d", r.Number), maxReviews/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		page, resp, err := g.client.PullRequests.ListReviews(ctx, g.owner, g.name, r.Number, &o)
		for _, review := range page { // oldest first
			switch review.GetState() {
			case "APPROVED", "CHANGES_REQUESTED", "DISMISSED":
				last[review.GetUser().GetID()] = review
			}
		}
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(last, func(id int64, review *github.PullRequestReview) bool {
		return id == 0 || id == r.Author.ID || review.GetState() != "APPROVED" || review.GetCommitID() != r.Head
	})
	if len(last) == 0 {
		return nil, nil
	}
	since, err := g.retargeted(ctx, r)
	if err != nil {
		return nil, err
	}
	var out []Account
	for id, review := range last {
		if at := review.GetSubmittedAt(); !at.IsZero() && at.After(since) || since.IsZero() {
			out = append(out, Account{ID: id, Login: review.GetUser().GetLogin()})
		}
	}
	slices.SortFunc(out, func(a, b Account) int { return int(a.ID - b.ID) })
	return out, nil
}

// retargeted is when a request was last made to go into another branch, by
// somebody or by the forge; zero if it never was.
func (g *GitHub) retargeted(ctx context.Context, r Request) (at time.Time, err error) {
	err = g.pages(ctx, fmt.Sprintf("reading the events of pull request %d", r.Number), maxEvents/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		page, resp, err := g.client.Issues.ListIssueEvents(ctx, g.owner, g.name, r.Number, &o)
		for _, e := range page {
			switch e.GetEvent() {
			case "base_ref_changed", "automatic_base_change_succeeded":
				if e.CreatedAt == nil {
					return resp, fmt.Errorf("%w: an event without a time", ErrIncomplete)
				}
				if e.CreatedAt.After(at) {
					at = e.CreatedAt.Time
				}
			}
		}
		return resp, err
	})
	return at, err
}
