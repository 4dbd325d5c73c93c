package forge

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/go-github/v60/github"
)

// maxAuthored is how many commits of a request GitHub tells of.
const maxAuthored = 250

// Authors is who wrote or committed the commits of a request, as far as the
// forge knows the addresses in them for those of accounts: whoever makes a
// commit can put any address there. The request is one that Get gave.
func (g *GitHub) Authors(ctx context.Context, r Request) ([]Account, error) {
	doing := fmt.Sprintf("reading the commits of pull request %d", r.Number)
	if r.Commits > maxAuthored {
		return nil, fmt.Errorf("forge: %s: %w: it has %d commits", doing, ErrTooMuch, r.Commits)
	}
	var all []*github.RepositoryCommit
	err := g.pages(ctx, doing, maxAuthored/perPage+1, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		page, resp, err := g.client.PullRequests.ListCommits(ctx, g.owner, g.name, r.Number, &o)
		all = append(all, page...)
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	if len(all) != r.Commits || !slices.ContainsFunc(all, func(c *github.RepositoryCommit) bool { return c.GetSHA() == r.Head }) {
		return nil, fmt.Errorf("forge: %s: %w: %d commits of %d", doing, ErrIncomplete, len(all), r.Commits)
	}
	var out []Account
	for _, c := range all {
		for _, u := range []*github.User{c.Author, c.Committer} {
			a := Account{ID: u.GetID(), Login: u.GetLogin()}
			if a.ID != 0 && !slices.ContainsFunc(out, func(o Account) bool { return o.ID == a.ID }) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, func(a, b Account) int { return int(a.ID - b.ID) })
	return out, nil
}
