package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-github/v60/github"
)

// Remarks is what was said on a pull request: comments on it, reviews, and
// comments on its lines. Of a review that says nothing and decides nothing, whose
// comments on lines say it all, there is none.
func (g *GitHub) Remarks(ctx context.Context, number int) ([]Remark, error) {
	doing := fmt.Sprintf("reading what was said on pull request %d", number)
	var out []Remark
	add := func(kind string, id int64, by *github.User, r Remark) {
		r.ID = kind + "-" + strconv.FormatInt(id, 10)
		r.Author = Account{ID: by.GetID(), Login: by.GetLogin()} // none: the account is gone
		r.At, r.Body = sane(r.At), saying(r.Body)
		if !isCommit(r.Commit) {
			r.Commit = ""
		}
		out = append(out, r)
	}
	var tooMuch error
	for _, list := range []func(context.Context, github.ListOptions) (*github.Response, error){
		func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
			page, resp, err := g.client.Issues.ListComments(ctx, g.owner, g.name, number, &github.IssueListCommentsOptions{ListOptions: o})
			for _, c := range page {
				add("comment", c.GetID(), c.User, Remark{Kind: Said, At: c.GetCreatedAt().Time, Body: c.GetBody()})
			}
			return resp, err
		},
		func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
			page, resp, err := g.client.PullRequests.ListReviews(ctx, g.owner, g.name, number, &o)
			for _, v := range page {
				kind := map[string]RemarkKind{"APPROVED": Approved, "CHANGES_REQUESTED": Wanted, "DISMISSED": Dismissed, "COMMENTED": Said}[v.GetState()]
				if kind == "" || kind == Said && v.GetBody() == "" { // one that is pending is nobody's word yet
					continue
				}
				add("review", v.GetID(), v.User, Remark{Kind: kind, At: v.GetSubmittedAt().Time, Body: v.GetBody(), Commit: v.GetCommitID()})
			}
			return resp, err
		},
		func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
			page, resp, err := g.client.PullRequests.ListComments(ctx, g.owner, g.name, number, &github.PullRequestListCommentsOptions{ListOptions: o})
			for _, c := range page {
				add("line", c.GetID(), c.User, Remark{Kind: Said, At: c.GetCreatedAt().Time, Body: c.GetBody(), Commit: c.GetCommitID()})
			}
			return resp, err
		},
	} {
		if err := g.pages(ctx, doing, maxRemarks/perPage, list); errors.Is(err, ErrTooMuch) {
			tooMuch = err
		} else if err != nil {
			return nil, err
		}
	}
	if err := g.own(ctx, out); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b Remark) int { return a.At.Compare(b.At) })
	// A page that moved between two calls repeats what was on the one before.
	seen := map[string]bool{}
	out = slices.DeleteFunc(out, func(r Remark) bool {
		again := seen[r.ID]
		seen[r.ID] = true
		return again
	})
	if len(out) > maxRemarks {
		out, tooMuch = out[:maxRemarks], fmt.Errorf("forge: %s: %w: more than %d remarks", doing, ErrTooMuch, maxRemarks)
	}
	return out, tooMuch
}

// own takes the marks out of one's own comments.
func (g *GitHub) own(ctx context.Context, list []Remark) error {
	self, known := int64(0), false
	for i, r := range list {
		mark, rest := markOf(r.Body)
		if mark == "" || !strings.HasPrefix(r.ID, "comment-") {
			continue
		}
		if !known {
			var err error
			if self, err = g.account(ctx); err != nil {
				return err
			}
			known = true
		}
		if r.Author.ID == self {
			list[i].Mark, list[i].Body = mark, rest
		}
	}
	return nil
}

// Comment says something on a pull request, as the account of the token.
func (g *GitHub) Comment(ctx context.Context, number int, _ Person, body string) error {
	text := clip(body, maxComment)
	if mark, _ := markOf(text); mark != "" || strings.TrimSpace(text) == "" {
		return fmt.Errorf("forge: commenting: %w: there is nothing to say, or it begins with a mark", ErrInvalid)
	}
	return g.write(ctx, "commenting", func(ctx context.Context) (*github.Response, error) {
		_, resp, err := g.client.Issues.CreateComment(ctx, g.owner, g.name, number, &github.IssueComment{Body: &text})
		return resp, err
	})
}

// Close closes a pull request; its branch stays, as the forge can open it again.
func (g *GitHub) Close(ctx context.Context, number int) error {
	doing := fmt.Sprintf("closing pull request %d", number)
	r, err := g.Get(ctx, number)
	if err != nil {
		return err
	}
	if r.State == Open {
		var pr *github.PullRequest
		err := g.write(ctx, doing, func(ctx context.Context) (resp *github.Response, err error) {
			pr, resp, err = g.client.PullRequests.Edit(ctx, g.owner, g.name, number, &github.PullRequest{State: github.String("closed")})
			return resp, err
		})
		if err != nil {
			return err
		}
		if r, err = request(pr); err != nil {
			return err
		}
	}
	switch r.State {
	case Merged:
		return fmt.Errorf("forge: %s: %w: it is merged", doing, ErrConflict)
	case Closed:
		return nil
	}
	return fmt.Errorf("forge: %s: %w: it is still open", doing, ErrIncomplete)
}

// Recent is the pull requests that are open, or that had something happen to them
// since. The open ones are listed first, as an old one may not have been touched
// for long, and then all others by when they were, until that is long enough ago.
func (g *GitHub) Recent(ctx context.Context, since time.Time) ([]Request, error) {
	found, err := g.List(ctx, Open)
	if errors.Is(err, ErrTooMuch) {
		found, err = nil, fmt.Errorf("forge: listing pull requests: %w: more than %d are open", ErrTooMuch, maxList)
	}
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	for _, r := range found {
		seen[r.Number] = true
	}
	var all []*github.PullRequest
	err = g.pages(ctx, "listing pull requests", maxList/perPage, func(ctx context.Context, o github.ListOptions) (*github.Response, error) {
		page, resp, err := g.client.PullRequests.List(ctx, g.owner, g.name, &github.PullRequestListOptions{
			State: "closed", Sort: "updated", Direction: "desc", ListOptions: o,
		})
		for _, pr := range page {
			if pr.GetUpdatedAt().Before(since) {
				resp.NextPage = 0
				break
			}
			all = append(all, pr)
		}
		return resp, err
	})
	if err != nil && !errors.Is(err, ErrTooMuch) {
		return nil, err
	}
	for _, pr := range all {
		r, err := request(pr)
		if err != nil {
			return nil, err
		}
		if !seen[r.Number] && r.recent(since) {
			found = append(found, r)
		}
		seen[r.Number] = true
	}
	slices.SortFunc(found, func(a, b Request) int { return b.Number - a.Number })
	return found[:min(len(found), maxList)], nil
}

// MayWrite asks whether an account may change the repository. The login is only
// how GitHub is asked; the number in the answer must be the account's.
func (g *GitHub) MayWrite(ctx context.Context, who Account) (bool, error) {
	if who.ID == 0 || !loginName(who.Login) {
		return false, nil
	}
	var level *github.RepositoryPermissionLevel
	err := g.read(ctx, "asking what an account may do", func(ctx context.Context) (resp *github.Response, err error) {
		level, resp, err = g.client.Repositories.GetPermissionLevel(ctx, g.owner, g.name, who.Login)
		return resp, err
	})
	if errors.Is(err, ErrNotFound) { // nobody of that name, or nobody who is anything here
		return false, nil
	}
	if err != nil {
		return false, err
	}
	may := level.GetPermission() == "admin" || level.GetPermission() == "write" // "maintain" is told as write
	return may && level.GetUser().GetID() == who.ID, nil
}

// loginName reports whether a text can be the name of an account: it becomes part
// of a path.
func loginName(s string) bool {
	s = strings.TrimSuffix(s, "[bot]")
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}
