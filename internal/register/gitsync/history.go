package gitsync

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// History tells how a path came to be what it is at head, newest change
// first, at most a hundred. It walks the branch along first parents, so a
// merge counts as one change: the moment at which somebody let it in.
func (r *Repo) History(ctx context.Context, head Hash, path string) ([]Revision, error) {
	return r.history(ctx, head, path, maxHistory)
}

// Latest is the first of History, found without walking any further. The
// error is ErrNoPath if the path never was on the branch.
func (r *Repo) Latest(ctx context.Context, head Hash, path string) (Revision, error) {
	all, err := r.history(ctx, head, path, 1)
	if err != nil {
		return Revision{}, err
	}
	if len(all) == 0 {
		return Revision{}, fmt.Errorf("gitsync: %w: %s", ErrNoPath, printable(path))
	}
	return all[0], nil
}

func (r *Repo) history(ctx context.Context, head Hash, path string, limit int) ([]Revision, error) {
	var out []Revision
	err := r.use(ctx, "following "+printable(path), func(ctx context.Context, g *git.Repository) error {
		out = nil
		at, err := commit(g, head)
		if err != nil {
			return err
		}
		now, err := lookup(g, at.TreeHash, path)
		if err != nil {
			return err
		}
		for range maxWalk {
			if err := ctx.Err(); err != nil {
				return err
			}
			before, was, err := firstParent(g, at, now, path)
			if err != nil {
				return err
			}
			if was != now {
				rev, err := revision(ctx, g, at, now, path)
				if err != nil {
					return err
				}
				if out = append(out, rev); len(out) == limit {
					return nil
				}
			}
			if before == nil {
				return nil
			}
			at, now = before, was
		}
		return fmt.Errorf("%w: more than %d commits", ErrTooMany, maxWalk)
	})
	return out, err
}

// firstParent is the commit before c on its branch and what the path was
// there; nil and the zero entry at the beginning of history. now is what the
// path is in c.
func firstParent(g *git.Repository, c *object.Commit, now object.TreeEntry, path string) (*object.Commit, object.TreeEntry, error) {
	if c.NumParents() == 0 {
		return nil, object.TreeEntry{}, nil
	}
	p, err := c.Parent(0)
	if err != nil {
		return nil, object.TreeEntry{}, err
	}
	if p.TreeHash == c.TreeHash {
		return p, now, nil
	}
	was, err := lookup(g, p.TreeHash, path)
	return p, was, err
}

// revision describes the change that commit c of the branch made to the path.
func revision(ctx context.Context, g *git.Repository, c *object.Commit, now object.TreeEntry, path string) (Revision, error) {
	writer, err := writerOf(ctx, g, c, now, path)
	if err != nil {
		return Revision{}, err
	}
	rev := Revision{
		Commit: Hash(writer.Hash), Author: person(writer.Author), Subject: subject(writer.Message),
		Time: c.Committer.When, Landed: person(c.Committer), Removed: now.Hash.IsZero(),
	}
	// Only what stands on the branch itself is believed about the pull
	// request: the messages of a side branch are the contributor's.
	rev.Request, rev.Branch = request(c.Message)
	if writer.Hash != c.Hash {
		rev.Merge, rev.MergedBy = Hash(c.Hash).String(), person(c.Author)
	}
	return rev, nil
}

// writerOf finds the commit that wrote what commit c brought in: c itself,
// or, if c is a merge, a commit on the merged side.
func writerOf(ctx context.Context, g *git.Repository, c *object.Commit, now object.TreeEntry, path string) (*object.Commit, error) {
	const maxSide = 10_000 // commits on merged branches; beyond that the merge itself has to do
	at := c
	for steps := 0; steps < maxSide; {
		next := (*object.Commit)(nil)
		for i := range at.NumParents() {
			if at == c && i == 0 {
				continue // known to differ
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			steps++
			p, err := at.Parent(i)
			if err != nil {
				return nil, err
			}
			was, err := lookup(g, p.TreeHash, path)
			if err != nil {
				return nil, err
			}
			if was == now {
				next = p
				break
			}
		}
		if next == nil {
			return at, nil
		}
		at = next
	}
	return c, nil
}

// request reads the number of the pull request and the name of the merged
// branch out of the message that a forge, or git, gave a merge or a squash.
// What it does not recognise is 0 and "". A title in there is the contributor's
// and may hold another number, so the place decides: names of branches hold no
// blanks, and what the forge adds to a title comes last.
func request(message string) (number int, branch string) {
	first, _, _ := strings.Cut(strings.TrimLeft(message, "\r\n\t "), "\n") // whole: a cut could end in the wrong number
	first = strings.TrimSpace(first)
	switch {
	case strings.HasPrefix(first, "Merge pull request "): // GitHub "#12 from o/b", Gitea "'title' (#12) from b into main"
		rest := strings.TrimPrefix(first, "Merge pull request ")
		if i := strings.LastIndex(rest, "' (#"); i >= 0 && rest[0] == '\'' {
			number = digits(rest[i:], "(#")
		} else if rest[0] == '#' {
			number = digits(rest, "#")
		}
		if i := strings.LastIndex(rest, " from "); i >= 0 {
			branch, _, _ = strings.Cut(rest[i+len(" from "):], " ")
		}
	case strings.HasPrefix(first, "Merge branch '"), strings.HasPrefix(first, "Merge remote-tracking branch '"):
		_, rest, _ := strings.Cut(first, "'")
		branch, _, _ = strings.Cut(rest, "'")
		for line := range strings.SplitSeq(message, "\n") { // GitLab
			if strings.HasPrefix(line, "See merge request ") {
				number = digits(line, "!")
			}
		}
		if number == 0 { // a request of a plain repository: package forge names its branches so
			if rest, ok := strings.CutPrefix(strings.TrimPrefix(branch, "origin/"), "request/"); ok {
				number = digits("/"+rest, "/")
			}
		}
	case strings.HasPrefix(first, "Merged PR "): // Azure DevOps
		number = digits(first, "Merged PR ")
	case strings.HasSuffix(first, ")"): // a squash: "title (#12)"; Bitbucket: "Merged in b (pull request #12)"
		number = digits(first[strings.LastIndex(first, "(")+1:], "#")
	}
	return number, printable(branch)
}

// digits is the number directly after the first mark in s, 0 if there is none.
func digits(s, mark string) int {
	_, rest, ok := strings.Cut(s, mark)
	if !ok {
		return 0
	}
	end := 0
	for end < len(rest) && end < 9 && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil {
		return 0
	}
	return n
}
