package forge

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/go-github/v60/github"
)

// maxAhead bounds how many commits of a request are looked at.
const maxAhead = 1000

// queueBranches is where GitHub's merge queue puts what it has tested before it
// is merged: gh-readonly-queue/BASE/pr-NUMBER-COMMIT.
const queueBranches = "gh-readonly-queue/"

// OpenAt is the open requests whose head is a commit, oldest first, those out of
// forks included. GitHub's own search by commit does not promise to know these,
// so the open ones are gone through.
func (g *GitHub) OpenAt(ctx context.Context, head string) ([]Request, error) {
	if !isCommit(head) {
		return nil, fmt.Errorf("forge: %q is no full commit hash", printable(head, 100))
	}
	var found []*github.PullRequest
	err := g.pages(ctx, "looking for the pull requests of "+head, maxList/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		page, resp, err := g.client.PullRequests.List(ctx, g.owner, g.name, &github.PullRequestListOptions{
			State: "open", Sort: "created", Direction: "asc", ListOptions: o,
		})
		for _, pr := range page {
			known := slices.ContainsFunc(found, func(f *github.PullRequest) bool { return f.GetNumber() == pr.GetNumber() })
			if pr.GetHead().GetSHA() == head && !known {
				found = append(found, pr)
			}
		}
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	var out []Request
	for _, pr := range found {
		r, err := request(pr)
		if err != nil {
			return nil, err
		}
		if r.State == Open && r.Head == head {
			out = append(out, r)
		}
	}
	return out, nil
}

// Queued reports whether a commit is the head of a group in the merge queue of
// a branch.
func (g *GitHub) Queued(ctx context.Context, branch, head string) (bool, error) {
	if !validBranch(branch) {
		return false, fmt.Errorf("forge: reading the merge queue: %w: %q is no branch", ErrInvalid, branch)
	}
	found := false
	err := g.pages(ctx, "reading the merge queue of "+branch, maxList/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		refs, resp, err := g.client.Git.ListMatchingRefs(ctx, g.owner, g.name, &github.ReferenceListOptions{
			Ref: "heads/" + queueBranches + branch + "/", ListOptions: o,
		})
		found = found || slices.ContainsFunc(refs, func(r *github.Reference) bool { return r.GetObject().GetSHA() == head })
		return resp, err
	})
	return found, err
}

// Tip is the commit that a branch stands at.
func (g *GitHub) Tip(ctx context.Context, branch string) (string, error) {
	if !validBranch(branch) {
		return "", fmt.Errorf("forge: reading a branch: %w: %q is no branch", ErrInvalid, branch)
	}
	return g.tip(ctx, branch)
}

// A Commit is one commit and those that it was made from.
type Commit struct {
	Hash    string
	Parents []string
}

// Ahead is the commits that head has in its history and base has not, both full
// hashes; none if base has head. The count is GitHub's own, and head is among
// them; a caller who has the history of base can tell whether all are there, as
// every parent is either another of them or in that history. The error is
// ErrNotFound if the two have no history in common.
func (g *GitHub) Ahead(ctx context.Context, base, head string) ([]Commit, error) {
	if !isCommit(base) || !isCommit(head) {
		return nil, fmt.Errorf("forge: comparing commits: %w: no full commit hash", ErrInvalid)
	}
	doing := "comparing " + base + " with " + head
	var out []Commit
	total := 0
	err := g.pages(ctx, doing, maxAhead/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		c, resp, err := g.client.Repositories.CompareCommits(ctx, g.owner, g.name, base, head, &o)
		if err != nil {
			return resp, err
		}
		total = c.GetTotalCommits()
		for _, commit := range c.Commits {
			one := Commit{Hash: commit.GetSHA()}
			for _, p := range commit.Parents {
				one.Parents = append(one.Parents, p.GetSHA())
			}
			out = append(out, one)
		}
		return resp, nil
	})
	if err != nil {
		return nil, err
	}
	hasHead := false
	for _, c := range out {
		hasHead = hasHead || c.Hash == head
		for _, hash := range append(c.Parents, c.Hash) {
			if !isCommit(hash) {
				return nil, fmt.Errorf("forge: %s: %w", doing, ErrIncomplete)
			}
		}
	}
	if len(out) != total || total > 0 && !hasHead {
		return nil, fmt.Errorf("forge: %s: %w: %d commits of %d", doing, ErrIncomplete, len(out), total)
	}
	return out, nil
}

// AccountOf is the account with a login, such as "github-actions[bot]", whom a
// workflow's own token stands for.
func (g *GitHub) AccountOf(ctx context.Context, login string) (Account, error) {
	var u *github.User
	err := g.read(ctx, "reading an account", func(ctx context.Context) (resp *github.Response, err error) {
		u, resp, err = g.client.Users.Get(ctx, login)
		return resp, err
	})
	if err == nil && (u.GetID() == 0 || u.GetLogin() != login) {
		err = fmt.Errorf("forge: reading an account: %w", ErrIncomplete)
	}
	return Account{ID: u.GetID(), Login: u.GetLogin()}, err
}
