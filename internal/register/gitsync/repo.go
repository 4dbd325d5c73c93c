package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// A Repo answers questions about the commits of one repository on this disk.
// It is safe for concurrent use; questions are answered one at a time.
type Repo struct {
	timeout time.Duration
	open    func() (*git.Repository, error)

	turn    chan struct{}   // holds one token: whoever has it may use git
	git     *git.Repository // guarded by turn; nil: open again before use
	stale   atomic.Bool     // there is something new on the disk: open again
	damaged atomic.Bool     // reading failed in a way that only a new clone can mend
}

func newRepo(timeout time.Duration, open func() (*git.Repository, error)) *Repo {
	r := &Repo{timeout: timeout, open: open, turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

// drop lets go of what was opened, so that it is opened again before use. The
// caller has the turn.
func (r *Repo) drop() {
	if r.git != nil {
		shut(r.git)
		r.git = nil
	}
}

// shut closes the files of a repository that openAt has opened.
func shut(g *git.Repository) {
	if s, ok := g.Storer.(*filesystem.Storage); ok {
		_ = s.Close() // it was only read
	}
}

// acquire waits for the right to use git. The caller must call release.
func (r *Repo) acquire(ctx context.Context) error {
	select {
	case <-r.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Repo) release() { r.turn <- struct{}{} }

// use runs f with the repository. Another process may have repacked what was
// opened, so a failure for want of an object is tried once more on a fresh
// view. What then still fails, without being one of the caller's mistakes, is
// damage.
func (r *Repo) use(ctx context.Context, doing string, f func(context.Context, *git.Repository) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if err := r.acquire(ctx); err != nil {
		return fmt.Errorf("gitsync: %s: %w", doing, err)
	}
	defer r.release()
	fresh := r.git == nil || r.stale.Load()
	err := r.attempt(ctx, f)
	if !fresh && (isDamage(err) || errors.Is(err, ErrNoCommit)) {
		r.drop()
		err = r.attempt(ctx, f)
	}
	if err == nil {
		return nil
	}
	if isDamage(err) {
		r.drop()
		r.damaged.Store(true)
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fmt.Errorf("gitsync: %s: %w", doing, err)
}

// attempt opens the repository if need be and runs f once. go-git indexes
// into files that it reads, so damage can come as a panic. The caller holds
// the turn.
func (r *Repo) attempt(ctx context.Context, f func(context.Context, *git.Repository) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	if r.stale.Swap(false) {
		r.drop()
	}
	if r.git == nil {
		if r.git, err = r.open(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f(ctx, r.git)
}

// isDamage tells a repository that cannot be read from a question that has no
// answer.
func isDamage(err error) bool {
	for _, harmless := range []error{
		nil, context.Canceled, context.DeadlineExceeded,
		ErrNoCommit, ErrNoPath, ErrTooLarge, ErrTooMany, ErrNoRepository, ErrBranchGone, fs.ErrPermission,
	} {
		if errors.Is(err, harmless) {
			return false
		}
	}
	return true
}

// commit reads the commit that a caller names. Not having it is the caller's
// matter; not being able to read it is damage.
func commit(g *git.Repository, h Hash) (*object.Commit, error) {
	c, err := g.CommitObject(plumbing.Hash(h))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoCommit, h)
	}
	return c, err
}

// Describe tells who made a commit, and when.
func (r *Repo) Describe(ctx context.Context, h Hash) (Commit, error) {
	var out Commit
	err := r.use(ctx, "reading commit "+h.String(), func(_ context.Context, g *git.Repository) error {
		c, err := commit(g, h)
		if err != nil {
			return err
		}
		out = Commit{
			Hash: h, Author: person(c.Author), Committer: person(c.Committer),
			Time: c.Committer.When, Subject: subject(c.Message),
		}
		for _, p := range c.ParentHashes {
			out.Parents = append(out.Parents, Hash(p))
		}
		return nil
	})
	return out, err
}

// Relation tells how commit new stands to commit old.
func (r *Repo) Relation(ctx context.Context, old, new Hash) (Relation, error) {
	if old == new {
		return Same, nil
	}
	answer := Unknown
	err := r.use(ctx, "comparing commits", func(ctx context.Context, g *git.Repository) error {
		newer, err := commit(g, new)
		if err != nil {
			return err
		}
		older, err := commit(g, old)
		if errors.Is(err, ErrNoCommit) {
			return nil // Unknown
		}
		if err != nil {
			return err
		}
		if yes, err := reaches(ctx, newer, older.Hash); err != nil {
			return err
		} else if yes {
			answer = Descends
			return nil
		}
		yes, err := reaches(ctx, older, newer.Hash)
		if err != nil {
			return err
		}
		answer = Diverged
		if yes {
			answer = Rewound
		}
		return nil
	})
	return answer, err
}

// reaches walks from a commit towards its past, nearest first, until it meets
// target or has seen everything.
func reaches(ctx context.Context, from *object.Commit, target plumbing.Hash) (bool, error) {
	seen := map[plumbing.Hash]bool{from.Hash: true}
	for queue := []*object.Commit{from}; len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		for i, h := range queue[0].ParentHashes {
			if h == target {
				return true, nil
			}
			if seen[h] {
				continue
			}
			if len(seen) >= maxWalk {
				return false, fmt.Errorf("%w: more than %d commits", ErrTooMany, maxWalk)
			}
			seen[h] = true
			p, err := queue[0].Parent(i)
			if err != nil {
				return false, err
			}
			queue = append(queue, p)
		}
	}
	return false, nil
}

// Resolve turns what a person writes for a commit into its hash: a branch, a
// tag, HEAD, HEAD~1, a hash or the first digits of one.
func (r *Repo) Resolve(ctx context.Context, rev string) (Hash, error) {
	if rev == "" || len(rev) > 256 || strings.HasPrefix(rev, "-") {
		return Hash{}, fmt.Errorf("gitsync: %q names no commit: %w", rev, ErrNoCommit)
	}
	var out Hash
	err := r.use(ctx, "looking up "+rev, func(_ context.Context, g *git.Repository) error {
		h, err := g.ResolveRevision(plumbing.Revision(rev))
		if err != nil {
			return fmt.Errorf("%w: %v", ErrNoCommit, err)
		}
		if _, err := commit(g, Hash(*h)); err != nil {
			return err
		}
		out = Hash(*h)
		return nil
	})
	return out, err
}

// At is the commit that the branch stood at at time t: the newest one not
// after t, walking back from head along first parents.
func (r *Repo) At(ctx context.Context, head Hash, t time.Time) (Hash, error) {
	var out Hash
	err := r.use(ctx, "going back in time", func(ctx context.Context, g *git.Repository) error {
		c, err := commit(g, head)
		if err != nil {
			return err
		}
		for range maxWalk {
			if !c.Committer.When.After(t) {
				out = Hash(c.Hash)
				return nil
			}
			if c.NumParents() == 0 {
				return fmt.Errorf("%w: the history begins after %s", ErrNoCommit, t.Format(time.RFC3339))
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if c, err = c.Parent(0); err != nil {
				return err
			}
		}
		return ErrTooMany
	})
	return out, err
}

// subject is the first line of a commit message, fit for a terminal.
func subject(message string) string {
	line, _, _ := strings.Cut(strings.TrimLeft(message, "\r\n\t "), "\n")
	return printable(line)
}

// person is "Name <address>", fit for a terminal.
func person(s object.Signature) string {
	return printable(fmt.Sprintf("%s <%s>", s.Name, s.Email))
}

// printable takes control characters and broken UTF-8 out of a text and cuts
// it at 200 characters.
func printable(s string) string {
	var b strings.Builder
	n := 0
	for _, c := range s {
		if n++; n > 200 {
			break
		}
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			c = ' '
		}
		b.WriteRune(c)
	}
	return strings.TrimSpace(b.String())
}
