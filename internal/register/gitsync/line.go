package gitsync

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// maxCommit is the largest commit object that Signed reads, in bytes.
const maxCommit = 1 << 20

// A Step is one commit of a branch: what somebody let in at one time.
type Step struct {
	Commit Hash
	Base   Hash // the commit of the branch before it
	// Jump says that Base is not the first parent: the branch came here by a
	// push of something else than a commit, or a merge, on top of it.
	Jump bool
}

// Line is how a branch came from commit old to new: its commits along first
// parents, oldest first. The error is ErrTooMany for more than max of them, and
// ErrNoPath if new does not descend from old.
//
// First parents may lead past old, where a push made another branch's tip the
// head and old came in as a second parent. The oldest commit of that line which
// has old in its history is then a Jump from old, and takes everything between
// into one step.
func (r *Repo) Line(ctx context.Context, old, new Hash, max int) ([]Step, error) {
	var out []Step
	err := r.use(ctx, "following the branch to "+new.String(), func(ctx context.Context, g *git.Repository) error {
		out = nil
		c, err := commit(g, new)
		if err != nil {
			return err
		}
		chain := []*object.Commit{}
		for c.Hash != plumbing.Hash(old) {
			if len(chain) >= maxWalk {
				return fmt.Errorf("%w: more than %d commits", ErrTooMany, maxWalk)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			chain = append(chain, c)
			if c.NumParents() == 0 {
				chain, err = onto(ctx, chain, plumbing.Hash(old))
				if err != nil {
					return err
				}
				break
			}
			if c, err = c.Parent(0); err != nil {
				return err
			}
		}
		if len(chain) > max {
			return fmt.Errorf("%w: %d commits", ErrTooMany, len(chain))
		}
		base := old
		for _, c := range slices.Backward(chain) {
			out = append(out, Step{Commit: Hash(c.Hash), Base: base, Jump: c.NumParents() == 0 || c.ParentHashes[0] != plumbing.Hash(base)})
			base = Hash(c.Hash)
		}
		return nil
	})
	return out, err
}

// onto cuts a line of first parents, newest first, behind the oldest commit
// that has target in its history. If a commit has, all newer ones have.
func onto(ctx context.Context, chain []*object.Commit, target plumbing.Hash) ([]*object.Commit, error) {
	var failed error
	n := sort.Search(len(chain), func(i int) bool {
		if failed != nil {
			return true
		}
		yes, err := reaches(ctx, chain[i], target)
		failed = err
		return !yes
	})
	if failed == nil && n == 0 {
		failed = fmt.Errorf("%w: %s is not in the history of %s", ErrNoPath, target, chain[0].Hash)
	}
	return chain[:n], failed
}

// Fork is the newest commit that two have both in their history: where a
// branch that is to be merged began, or last took the other in. The error is
// ErrNoPath if there is none, or no single one.
func (r *Repo) Fork(ctx context.Context, a, b Hash) (Hash, error) {
	var out Hash
	err := r.use(ctx, "finding where "+b.String()+" began", func(ctx context.Context, g *git.Repository) error {
		ours, err := commit(g, a)
		if err != nil {
			return err
		}
		theirs, err := commit(g, b)
		if err != nil {
			return err
		}
		past, err := history(ctx, ours)
		if err != nil {
			return err
		}
		shared, err := firstOf(ctx, theirs, past)
		if err != nil {
			return err
		}
		const most = 32 // beyond, nobody tells what such a history means
		if len(shared) > most {
			return fmt.Errorf("%w: more than %d commits where the two meet", ErrNoPath, most)
		}
		var best []plumbing.Hash
		for i, c := range shared {
			covered := false
			for j, o := range shared {
				if i == j || covered {
					continue
				}
				if covered, err = reaches(ctx, o, c.Hash); err != nil {
					return err
				}
			}
			if !covered {
				best = append(best, c.Hash)
			}
		}
		if len(best) != 1 {
			return fmt.Errorf("%w: the two have %d newest commits in common", ErrNoPath, len(best))
		}
		out = Hash(best[0])
		return nil
	})
	return out, err
}

// history is a commit and all before it.
func history(ctx context.Context, from *object.Commit) (map[plumbing.Hash]bool, error) {
	seen := map[plumbing.Hash]bool{from.Hash: true}
	for queue := []*object.Commit{from}; len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for i, h := range queue[0].ParentHashes {
			if seen[h] {
				continue
			}
			if len(seen) >= maxWalk {
				return nil, fmt.Errorf("%w: more than %d commits", ErrTooMany, maxWalk)
			}
			seen[h] = true
			p, err := queue[0].Parent(i)
			if err != nil {
				return nil, err
			}
			queue = append(queue, p)
		}
	}
	return seen, nil
}

// firstOf walks from a commit towards its past and gives the commits of past
// that it comes upon, and does not go beyond them.
func firstOf(ctx context.Context, from *object.Commit, past map[plumbing.Hash]bool) ([]*object.Commit, error) {
	var found []*object.Commit
	seen := map[plumbing.Hash]bool{from.Hash: true}
	for queue := []*object.Commit{from}; len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := queue[0]
		if past[c.Hash] {
			found = append(found, c)
			continue
		}
		for i, h := range c.ParentHashes {
			if seen[h] {
				continue
			}
			if len(seen) >= maxWalk {
				return nil, fmt.Errorf("%w: more than %d commits", ErrTooMany, maxWalk)
			}
			seen[h] = true
			p, err := c.Parent(i)
			if err != nil {
				return nil, err
			}
			queue = append(queue, p)
		}
	}
	return found, nil
}

// Raw is a commit object as it is stored, byte for byte, and nothing else: what
// a signature is over, once it is cut out. It is held against its name. The
// error is a *TooLarge for one of more than a mebibyte.
func (r *Repo) Raw(ctx context.Context, h Hash) ([]byte, error) {
	var data []byte
	err := r.use(ctx, "reading commit "+h.String(), func(_ context.Context, g *git.Repository) (err error) {
		o, err := g.Storer.EncodedObject(plumbing.CommitObject, plumbing.Hash(h))
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return fmt.Errorf("%w: %s", ErrNoCommit, h)
		}
		if err != nil {
			return err
		}
		if o.Size() > maxCommit {
			return &TooLarge{Size: o.Size(), Max: maxCommit}
		}
		in, err := o.Reader()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		if data, err = io.ReadAll(io.LimitReader(in, maxCommit+1)); err != nil {
			return err
		}
		sum := sha1.New()
		fmt.Fprintf(sum, "commit %d\x00", len(data))
		sum.Write(data)
		if Hash(sum.Sum(nil)) != h {
			return fmt.Errorf("%w: commit %s is not what its name says", ErrDamaged, h)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}
