package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// What is said in a plain git repository is in references of their own, which no
// clone fetches unasked. Whoever may push can put anything there.
const (
	// discussions has a reference for each request on which something was said:
	// to a chain of commits with an empty tree, one a remark, the newest first.
	discussions = "refs/gatepost/discussion/"

	// marked has, below a request's number, a reference for each comment with a
	// mark: to one commit, which is replaced when the comment changes.
	marked = "refs/gatepost/comments/"

	// closings has a reference for each request that was closed: to a commit on
	// top of its last head, which so stays in the repository.
	closings = "refs/gatepost/closed/"

	maxRemarkObject = 2 * maxComment // bytes of a commit that is looked at
	maxMarks        = 16             // comments with a mark on one request
	maxRaces        = 8              // tries against others who write the same reference
)

// ourselves is who comments with a mark are by.
var ourselves = Person{Name: "Gatepost", Email: "gatepost@localhost"}

// Remarks is what was said on a request. There are no reviews: merging approves.
func (g *Git) Remarks(ctx context.Context, number int) ([]Remark, error) {
	var out, marks []Remark
	err := g.with(ctx, fmt.Sprintf("reading what was said on request %d", number), func(ctx context.Context, repo *git.Repository) error {
		_, err := find(ctx, repo, number)
		if err != nil {
			return err
		}
		if marks, err = g.marks(ctx, repo, number); err != nil {
			return err
		}
		at, err := tipOf(repo, discussions+strconv.Itoa(number))
		if err != nil {
			return err
		}
		for !at.IsZero() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if len(out) >= maxRemarks {
				return fmt.Errorf("%w: more than %d remarks", ErrTooMuch, maxRemarks)
			}
			c, err := remarkCommit(repo, at)
			if err != nil {
				return err
			}
			out = append(out, remark(c))
			if at = plumbing.ZeroHash; c.NumParents() > 0 {
				at = c.ParentHashes[0]
			}
		}
		return nil
	})
	slices.Reverse(out)
	// The order of the chain is how things came; what has a mark goes between by
	// its time.
	for _, m := range marks {
		at := slices.IndexFunc(out, func(r Remark) bool { return !r.At.Before(m.At) })
		if at < 0 {
			at = len(out)
		}
		out = slices.Insert(out, at, m)
	}
	return out, err
}

func remark(c *object.Commit) Remark {
	return Remark{
		ID: c.Hash.String(), Author: Account{Login: named(c.Author)}, At: sane(c.Author.When), Body: saying(c.Message), Kind: Said,
	}
}

// marks are the comments with a mark.
func (g *Git) marks(ctx context.Context, repo *git.Repository, number int) ([]Remark, error) {
	var out []Remark
	err := eachReference(ctx, repo, func(ref *plumbing.Reference) error {
		mark, ok := strings.CutPrefix(ref.Name().String(), marked+strconv.Itoa(number)+"/")
		if !ok || slug(mark) != mark || len(out) >= maxMarks {
			return nil
		}
		c, err := remarkCommit(repo, ref.Hash())
		if err != nil {
			return err
		}
		r := remark(c)
		r.ID, r.Mark = "mark-"+mark, mark
		out = append(out, r)
		return nil
	})
	return out, err
}

// tipOf is what a reference is, zero if it is not there.
func tipOf(repo *git.Repository, name string) (plumbing.Hash, error) {
	ref, err := repo.Storer.Reference(plumbing.ReferenceName(name))
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return plumbing.ZeroHash, nil
	}
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return ref.Hash(), nil // zero for one that only names another
}

// remarkCommit reads a commit of a discussion, if it is one and not too long.
func remarkCommit(repo *git.Repository, h plumbing.Hash) (*object.Commit, error) {
	size, err := repo.Storer.EncodedObjectSize(h)
	if err != nil {
		return nil, fmt.Errorf("%w: remark %s is not here", ErrIncomplete, h)
	}
	if size > maxRemarkObject {
		return nil, fmt.Errorf("%w: remark %s has %d bytes", ErrTooMuch, h, size)
	}
	c, err := repo.CommitObject(h)
	if err != nil {
		return nil, fmt.Errorf("%w: remark %s is no commit", ErrIncomplete, h)
	}
	return c, nil
}

// Comment adds a remark by a person. When it returns nil, the remark is on stable
// storage.
func (g *Git) Comment(ctx context.Context, number int, by Person, body string) error {
	doing := fmt.Sprintf("commenting on request %d", number)
	body = saying(body)
	if body == "" {
		return fmt.Errorf("forge: %s: %w: there is nothing to say", doing, ErrInvalid)
	}
	if err := by.valid(); err != nil {
		return fmt.Errorf("forge: %s: %w", doing, err)
	}
	name := discussions + strconv.Itoa(number)
	return g.with(ctx, doing, func(ctx context.Context, repo *git.Repository) error {
		if _, err := find(ctx, repo, number); err != nil {
			return err
		}
		return races(func() error {
			tip, err := tipOf(repo, name)
			if err != nil {
				return err
			}
			n := 0
			for at := tip; !at.IsZero(); n++ {
				if n >= maxRemarks {
					return fmt.Errorf("%w: more than %d remarks", ErrTooMuch, maxRemarks)
				}
				c, err := remarkCommit(repo, at)
				if err != nil {
					return err
				}
				if at = plumbing.ZeroHash; c.NumParents() > 0 {
					at = c.ParentHashes[0]
				}
			}
			return g.say(ctx, repo, name, tip, note{by: by, text: body, on: tip})
		})
	})
}

// A note is a commit that says something and holds no file.
type note struct {
	by   Person
	text string
	on   plumbing.Hash // its parent, if any
	made time.Time     // zero: now
}

// say writes a note and moves a reference to it.
func (g *Git) say(ctx context.Context, repo *git.Repository, name string, was plumbing.Hash, n note) error {
	tree, err := store(repo, &object.Tree{})
	if err != nil {
		return err
	}
	now := time.Now()
	if n.made.IsZero() {
		n.made = now
	}
	c := &object.Commit{
		Author:    object.Signature{Name: n.by.Name, Email: n.by.Email, When: n.made},
		Committer: object.Signature{Name: n.by.Name, Email: n.by.Email, When: now},
		Message:   n.text + "\n", TreeHash: tree,
	}
	if !n.on.IsZero() {
		c.ParentHashes = []plumbing.Hash{n.on}
	}
	made, err := store(repo, c)
	if err != nil {
		return err
	}
	if err := g.settle(tree, made); err != nil {
		return err
	}
	return g.swap(ctx, repo, plumbing.ReferenceName(name), was, made)
}

// SetComment keeps one comment with a mark. Its time is that of its first form.
func (g *Git) SetComment(ctx context.Context, number int, mark, body string) error {
	doing := fmt.Sprintf("commenting on request %d", number)
	if slug(mark) != mark {
		return fmt.Errorf("forge: %s: %w: mark %q", doing, ErrInvalid, printable(mark, 100))
	}
	body = saying(body)
	name := marked + strconv.Itoa(number) + "/" + mark
	return g.with(ctx, doing, func(ctx context.Context, repo *git.Repository) error {
		if _, err := find(ctx, repo, number); err != nil {
			return err
		}
		return races(func() error {
			tip, err := tipOf(repo, name)
			if err != nil {
				return err
			}
			n := note{by: ourselves, text: body}
			if !tip.IsZero() {
				if c, err := remarkCommit(repo, tip); err == nil { // what is none is replaced
					if saying(c.Message) == body {
						return nil
					}
					n.made = sane(c.Author.When)
				}
			}
			switch {
			case body == "" && tip.IsZero():
				return nil
			case body == "":
				return g.remove(ctx, repo, plumbing.ReferenceName(name), tip)
			}
			return g.say(ctx, repo, name, tip, n)
		})
	})
}

// races tries again where another program changed the same reference meanwhile.
func races(try func() error) error {
	var err error
	for range maxRaces {
		if err = try(); !errors.Is(err, errRaced) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrConflict, err)
}

// Close ends a request: its branch goes. Its number stays, and its last head, with
// the time. Nothing is left open by a crash in between that a second call would
// not end.
func (g *Git) Close(ctx context.Context, number int) error {
	return g.with(ctx, fmt.Sprintf("closing request %d", number), func(ctx context.Context, repo *git.Repository) error {
		return races(func() error {
			past, err := pastOf(ctx, repo, "")
			if err != nil {
				return err
			}
			b, err := find(ctx, repo, number)
			if err != nil {
				return err
			}
			if _, merged := past.came[b.head]; merged {
				return fmt.Errorf("%w: it is merged", ErrConflict)
			}
			if b.name == "" {
				return nil
			}
			if err := g.keepNumber(number, b.head); err != nil {
				return err
			}
			name := closings + strconv.Itoa(number)
			was, err := tipOf(repo, name)
			if err != nil {
				return err
			}
			if err := g.say(ctx, repo, name, was, note{by: ourselves, text: fmt.Sprintf("Close request %d", number), on: b.head}); err != nil {
				return err
			}
			return g.remove(ctx, repo, b.name, b.head)
		})
	})
}

// keepNumber makes the reference of a number, if somebody made the branch without.
func (g *Git) keepNumber(number int, head plumbing.Hash) (err error) {
	file, drop, err := g.refFile(head)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	if err := g.link(file, numbers+strconv.Itoa(number)); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// closedAt is when a request was closed, zero where nobody recorded it.
func closedAt(repo *git.Repository, number int) time.Time {
	at, err := tipOf(repo, closings+strconv.Itoa(number))
	if err != nil || at.IsZero() {
		return time.Time{}
	}
	c, err := remarkCommit(repo, at)
	if err != nil {
		return time.Time{}
	}
	return sane(c.Committer.When)
}

// Recent is the requests that are open or had something happen to them since.
func (g *Git) Recent(ctx context.Context, since time.Time) ([]Request, error) {
	var out []Request
	err := g.with(ctx, "listing requests", func(ctx context.Context, repo *git.Repository) error {
		p, err := pastOf(ctx, repo, "")
		if err != nil {
			return err
		}
		list, err := branches(ctx, repo)
		if err != nil {
			return err
		}
		for _, b := range list[:min(len(list), maxList)] {
			if p.longOver(b, since) {
				continue
			}
			r, err := p.describe(ctx, b)
			if err != nil {
				return err
			}
			if r.recent(since) {
				out = append(out, r)
			}
		}
		return nil
	})
	return out, err
}

// longOver reports whether a request certainly came to its end before a time,
// which costs less than to describe it.
func (p *past) longOver(b branch, since time.Time) bool {
	end := b.head
	if i, merged := p.came[b.head]; merged {
		end = p.chain[i]
	} else if b.name != "" || !closedAt(p.repo, b.number).Before(since) {
		return false
	}
	for _, h := range []plumbing.Hash{b.head, end} {
		c, err := p.repo.CommitObject(h)
		if err != nil || !c.Committer.When.Before(since) {
			return false
		}
	}
	return true
}

// MayWrite is true: only who may push can have said anything here.
func (g *Git) MayWrite(context.Context, Account) (bool, error) { return true, nil }

// Tip is the commit that a branch stands at.
func (g *Git) Tip(ctx context.Context, branch string) (string, error) {
	if !validBranch(branch) {
		return "", fmt.Errorf("forge: reading a branch: %w: %q is no branch", ErrInvalid, printable(branch, 100))
	}
	out := ""
	err := g.with(ctx, "reading branch "+branch, func(_ context.Context, repo *git.Repository) error {
		ref, err := repo.Storer.Reference(plumbing.NewBranchReferenceName(branch))
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			return fmt.Errorf("%w: branch %s", ErrNotFound, branch)
		}
		if err == nil {
			out = ref.Hash().String()
		}
		return err
	})
	return out, err
}
