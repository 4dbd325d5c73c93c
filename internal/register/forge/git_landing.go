package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

const (
	// followed is where a clone keeps the branches of requests of its origin.
	followed = "refs/remotes/origin/request/"

	maxOwn = 100 // commits of one request that are looked at
)

// A Landing is a request that came into a branch without a merge of its own.
// The zero Landing is none.
type Landing struct {
	Number  int
	Branch  string // its branch, or that of the origin; "" when it is gone
	Forward bool   // by a fast-forward, which records nobody; else its content as one commit, by who committed that
	Author  string // of the request's newest commit, "Name <address>"
	Title   string // the first line of its message
}

// Landing finds the request that commit brought path in with, where the commit's
// message does not say: one that begins or ends with the commit itself (a
// fast-forward), or else the only one that made of path what the commit made of
// it, and whose own commits are not in the branch (a squash). A commit that has
// not one parent, or that is not here, has none.
func (g *Git) Landing(ctx context.Context, commit, path string) (Landing, error) {
	var out Landing
	if !isCommit(commit) {
		return out, fmt.Errorf("forge: %w: %q is no full commit hash", ErrInvalid, commit)
	}
	err := g.with(ctx, "looking for the request of "+commit, func(ctx context.Context, repo *git.Repository) error {
		c, err := repo.CommitObject(plumbing.NewHash(commit))
		if errors.Is(err, plumbing.ErrObjectNotFound) || err == nil && c.NumParents() != 1 {
			return nil
		}
		if err != nil {
			return err
		}
		heads, err := headsOfRequests(ctx, repo)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(heads, func(b branch) bool { return b.head == c.Hash }); i >= 0 {
			out, err = landing(repo, heads, heads[i], true)
			return err
		}
		var found *branch
		for i, b := range heads {
			same, err := wroteTheSame(ctx, repo, b, c, path)
			switch {
			case err != nil:
				return err
			case same && found != nil && found.number != b.number: // which of them it was is not to be told
				return nil
			case same && found == nil:
				found = &heads[i]
			}
		}
		if found != nil {
			out, err = landing(repo, heads, *found, false)
		}
		return err
	})
	return out, err
}

func landing(repo *git.Repository, heads []branch, b branch, forward bool) (Landing, error) {
	head, err := repo.CommitObject(b.head)
	if err != nil {
		return Landing{}, err
	}
	title, _, _ := strings.Cut(head.Message, "\n")
	l := Landing{
		Number: b.number, Forward: forward,
		Author: printable(fmt.Sprintf("%s <%s>", head.Author.Name, head.Author.Email), maxTitle), Title: printable(title, maxTitle),
	}
	for _, other := range heads { // the reference of its number has no name
		if name := other.name.String(); other.number == b.number && name != "" {
			l.Branch = strings.TrimPrefix(strings.TrimPrefix(name, "refs/heads/"), "refs/remotes/")
		}
	}
	return l, nil
}

// headsOfRequests are all commits that a request has or began with, by number.
func headsOfRequests(ctx context.Context, repo *git.Repository) ([]branch, error) {
	var heads []branch
	err := eachReference(ctx, repo, func(ref *plumbing.Reference) error {
		b, name := branch{head: ref.Hash()}, ref.Name().String()
		if rest, ok := strings.CutPrefix(name, numbers); ok {
			b.number = numberOf(rest)
		}
		for _, where := range []string{requestBranches, followed} {
			if rest, ok := strings.CutPrefix(name, where); ok {
				digits, _, _ := strings.Cut(rest, "-")
				b.number, b.name = numberOf(digits), ref.Name()
			}
		}
		if b.number == 0 {
			return nil
		}
		if heads = append(heads, b); len(heads) > 4*maxList {
			return fmt.Errorf("%w: more than %d requests", ErrTooMuch, maxList)
		}
		return nil
	})
	slices.SortStableFunc(heads, func(a, b branch) int { return a.number - b.number })
	return heads, err
}

// wroteTheSame reports whether a commit of request b, and none that is in the
// past of c, made path what c made it. What is not here was not that.
func wroteTheSame(ctx context.Context, repo *git.Repository, b branch, c *object.Commit, path string) (bool, error) {
	want, err := blobAt(c, path)
	if err != nil {
		return false, err
	}
	at, err := repo.CommitObject(b.head)
	if err != nil {
		return false, nil
	}
	if has, err := blobAt(at, path); err != nil || has != want {
		return false, err
	}
	for range maxOwn {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if at.Hash == c.Hash || at.NumParents() != 1 {
			return false, nil
		}
		before, err := at.Parent(0)
		if err != nil {
			return false, nil
		}
		has, err := blobAt(before, path)
		if err != nil {
			return false, err
		}
		if has != want {
			old := false
			err := walk(ctx, c, func(plumbing.Hash) bool { return old }, func(h plumbing.Hash) { old = old || h == at.Hash })
			return !old, err
		}
		at = before
	}
	return false, nil
}

// blobAt is what path is in a commit, zero if it is not there.
func blobAt(c *object.Commit, path string) (plumbing.Hash, error) {
	t, err := c.Tree()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	e, err := t.FindEntry(path)
	if errors.Is(err, object.ErrEntryNotFound) || errors.Is(err, object.ErrDirectoryNotFound) {
		return plumbing.ZeroHash, nil
	}
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return e.Hash, nil
}
