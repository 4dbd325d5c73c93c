package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A Judging says by what requests are judged. Forge, Repo, Branch and Now must be
// set.
type Judging struct {
	Forge  Forge
	Repo   *gitsync.Repo // has the branch with its history
	Branch string        // the one that the relay follows
	Now    func() time.Time

	// Base is the register as it is at a commit of the branch, if that is at hand
	// already: judging then costs what changes, and not what there is. It may be
	// nil, and so may its answer.
	Base func(commit string) *review.Base

	// Evidence asks the world about what a request adds; nil asks nobody.
	Evidence func(ctx context.Context, was, is *policy.Snapshot) (*review.Witnesses, error)
	Counter  *review.Counter // of files; may be nil
}

// A Forge is where a request is judged from: GitHub or Plain make one.
type Forge interface {
	// Tip is the commit that a branch stands at.
	Tip(ctx context.Context, branch string) (string, error)

	// changes is what head changes of the register, and the commit of the base's
	// history since which.
	changes(ctx context.Context, j Judging, tip gitsync.Hash, head string) (fork gitsync.Hash, files []forge.File, err error)
	// author is who opened a request, with those of their teams that decide. unread
	// are the teams that this token may not look into.
	author(ctx context.Context, change *review.Change, r *forge.Request) (author policy.Author, unread []registration.Team, err error)
	button() string    // how the forge's page brings a branch up to date
	where() string     // where the forge's page shows the problems
	incomplete() doubt // about what the forge told
}

// GitHub judges requests there. What they change is read over the API, and held
// against git's own names.
func GitHub(g *forge.GitHub) Forge { return github{g} }

// Plain judges requests of a plain git repository. Nobody there has an account, and
// whoever may push may write any author into a commit, so nobody's authority is
// judged: who merges answers for it.
func Plain(g *forge.Git) Forge { return plain{g} }

// Request judges one request at its head, against the branch as it is now. An error
// means that the forge or this machine is to blame, and not the request.
func (j Judging) Request(ctx context.Context, r forge.Request) (Verdict, error) {
	list, err := j.judge(ctx, r.Head, []subject{{&r}})
	if err != nil {
		return Verdict{}, err
	}
	return list[0], nil
}

// judge judges every subject at head. They change the same, but their authors
// may be others.
func (j Judging) judge(ctx context.Context, head string, subjects []subject) ([]Verdict, error) {
	tip, err := j.tip(ctx)
	if err != nil {
		return nil, err
	}
	all := func(v Verdict) []Verdict {
		list := make([]Verdict, len(subjects))
		for i := range list {
			v.Head, v.Base = head, tip.String()
			list[i] = v
		}
		return list
	}
	change, site, err := j.read(ctx, tip, head)
	if err != nil {
		d, ok := j.doubtOf(err)
		if !ok {
			return nil, err
		}
		return all(doubted(d)), nil
	}
	if change == nil {
		return all(moot(site)), nil
	}
	var seen *review.Witnesses
	if j.Evidence != nil {
		if seen, err = j.Evidence(ctx, change.Was(), change.Is()); err != nil {
			return nil, err
		}
	}
	plan := change.Plan()
	verdicts := all(Verdict{})
	for i, s := range subjects {
		author, unread := policy.Author{}, []registration.Team(nil)
		if s.request != nil { // a group of the merge queue has no author: whose requests are in it were judged before
			if author, unread, err = j.Forge.author(ctx, change, s.request); err != nil {
				return nil, err
			}
		}
		v := newVerdict(change.Problems(author), &plan, seen, unread, site, j.Forge.where())
		v.Head, v.Base = verdicts[i].Head, verdicts[i].Base
		verdicts[i] = v
	}
	return verdicts, nil
}

func (j Judging) unrelated() doubt {
	return doubt{"it has nothing in common with the register", fmt.Sprintf(
		"The history of this branch does not begin in `%s`. Make a new branch from there, and put the change on it.", j.Branch)}
}

func (j Judging) crossing() doubt {
	return doubt{"its history crosses that of the register", fmt.Sprintf(
		"This branch and `%s` were merged into one another more than once, so only merging tells what comes of it. %s", j.Branch, j.update())}
}

// github is requests at GitHub.
type github struct{ *forge.GitHub }

func (github) button() string { return " (the button “Update branch” does it)" }
func (github) where() string  { return "Each stands on its line under “Files changed”; " }
func (github) incomplete() doubt {
	return doubt{"GitHub did not tell everything that it changes", "What GitHub told of this request is not all of it, or a file's name cannot be told at all (it is not text, or no name for a file). Rename such a file; if there is none, run the workflow again."}
}

func (g github) changes(ctx context.Context, j Judging, tip gitsync.Hash, head string) (gitsync.Hash, []forge.File, error) {
	fork, err := g.fork(ctx, j, tip, head)
	if err != nil {
		return fork, nil, err
	}
	files, err := g.Since(ctx, head, j.folders(fork), review.Folder, review.SitePath)
	return fork, files, err
}

func (g github) author(ctx context.Context, change *review.Change, r *forge.Request) (author policy.Author, unread []registration.Team, err error) {
	author = policy.Author{Login: r.Author.Login, ID: r.Author.ID}
	for _, want := range change.Teams(author) {
		team, err := g.Team(ctx, want.Slug)
		switch {
		case errors.Is(err, forge.ErrNotFound), errors.Is(err, forge.ErrRefused):
			unread = append(unread, want)
			author.Unread = append(author.Unread, want.ID)
		case err != nil:
			return author, nil, err
		case team.ID == want.ID && team.Has(author.ID): // the slug may be another team's by now
			author.Teams = append(author.Teams, want.ID)
		}
	}
	return author, unread, nil
}

// plain is requests of a plain git repository.
type plain struct{ *forge.Git }

func (plain) button() string { return "" }
func (plain) where() string  { return "" }
func (plain) incomplete() doubt {
	return doubt{"the repository does not have all of it", "A commit or a file of this branch is not in the repository. Push the branch again."}
}

func (g plain) changes(ctx context.Context, j Judging, tip gitsync.Hash, head string) (gitsync.Hash, []forge.File, error) {
	fork, files, err := g.Since(ctx, j.Branch, head, review.Folder, review.SitePath)
	switch {
	case errors.Is(err, forge.ErrNotFound):
		return gitsync.Hash{}, nil, j.unrelated()
	case errors.Is(err, forge.ErrConflict):
		return gitsync.Hash{}, nil, j.crossing()
	case err != nil:
		return gitsync.Hash{}, nil, err
	}
	at, err := gitsync.ParseHash(fork)
	if err != nil {
		return at, nil, err
	}
	if has, err := j.has(ctx, tip, at); err != nil {
		return at, nil, err
	} else if !has { // the branch moved between the two questions
		return at, nil, fmt.Errorf("report: comparing %s with %s: %w", head, tip, ErrStale)
	}
	return at, files, nil
}

func (plain) author(context.Context, *review.Change, *forge.Request) (policy.Author, []registration.Team, error) {
	return policy.Author{}, nil, nil
}
