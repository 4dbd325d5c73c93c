package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A branch is a request as the references tell it. Of one whose branch is gone
// the number is left, with the head that it began with.
type branch struct {
	number int
	name   plumbing.ReferenceName // "" when the branch is gone
	head   plumbing.Hash
}

// branches lists all requests, newest first.
func branches(ctx context.Context, repo *git.Repository) ([]branch, error) {
	found := map[int]branch{}
	err := eachReference(ctx, repo, func(ref *plumbing.Reference) error {
		b := branch{head: ref.Hash()}
		name := ref.Name().String()
		if rest, ok := strings.CutPrefix(name, requestBranches); ok {
			digits, _, _ := strings.Cut(rest, "-")
			b.number, b.name = numberOf(digits), ref.Name()
		} else if rest, ok := strings.CutPrefix(name, numbers); ok {
			b.number = numberOf(rest)
		}
		if b.number == 0 {
			return nil
		}
		// Two branches of one number: the name that sorts first is the request,
		// so that pushing another cannot take its place.
		if old, ok := found[b.number]; !ok || old.name == "" || b.name != "" && b.name < old.name {
			found[b.number] = b
		}
		return nil
	})
	list := make([]branch, 0, len(found))
	for _, b := range found {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b branch) int { return b.number - a.number })
	return list, err
}

// numberOf reads a number as it is given out; anything else is 0.
func numberOf(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxNumber || strconv.Itoa(n) != digits {
		return 0
	}
	return n
}

// Get is the request with a number.
func (g *Git) Get(ctx context.Context, number int) (Request, error) {
	var out Request
	err := g.with(ctx, fmt.Sprintf("reading request %d", number), func(ctx context.Context, repo *git.Repository) error {
		p, err := pastOf(ctx, repo, "")
		if err != nil {
			return err
		}
		b, err := find(ctx, repo, number)
		if err != nil {
			return err
		}
		if out, err = p.describe(ctx, b); err != nil {
			return err
		}
		files, err := p.changed(ctx, out)
		out.Files = len(files)
		if errors.Is(err, ErrTooMuch) {
			out.Files, err = -1, nil
		}
		return err
	})
	return out, err
}

func find(ctx context.Context, repo *git.Repository, number int) (branch, error) {
	list, err := branches(ctx, repo)
	if err != nil {
		return branch{}, err
	}
	i := slices.IndexFunc(list, func(b branch) bool { return b.number == number })
	if i < 0 {
		return branch{}, ErrNotFound
	}
	return list[i], nil
}

// List is the requests in a state, newest first.
func (g *Git) List(ctx context.Context, state State) ([]Request, error) {
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
		for _, b := range list {
			r, err := p.describe(ctx, b)
			if err != nil {
				return err
			}
			if state != "" && r.State != state {
				continue
			}
			if len(out) >= maxList {
				return fmt.Errorf("%w: more than %d requests", ErrTooMuch, maxList)
			}
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

// Files is what the request changes.
func (g *Git) Files(ctx context.Context, r Request) ([]File, error) {
	var out []File
	err := g.with(ctx, fmt.Sprintf("reading the files of request %d", r.Number), func(ctx context.Context, repo *git.Repository) error {
		p, err := pastOf(ctx, repo, r.Base)
		if err != nil {
			return err
		}
		b, err := find(ctx, repo, r.Number)
		if err != nil {
			return err
		}
		if b.head.String() != r.Head {
			return ErrMoved
		}
		now, err := p.describe(ctx, b)
		if err != nil {
			return err
		}
		out, err = p.changed(ctx, now)
		return err
	})
	return out, err
}

// A past is the history of the base branch: for each commit, with which of the
// commits that the branch itself stood at it came in. One walk answers all
// that is asked about requests.
type past struct {
	repo  *git.Repository
	base  string
	chain []plumbing.Hash       // where the branch stood, oldest first
	came  map[plumbing.Hash]int // index into chain
}

// pastOf walks the base branch once.
func pastOf(ctx context.Context, repo *git.Repository, base string) (*past, error) {
	if base == "" {
		var err error
		if base, err = baseBranch(repo); err != nil {
			return nil, err
		}
	}
	tip, err := repo.Reference(plumbing.NewBranchReferenceName(base), true)
	if err != nil {
		return nil, fmt.Errorf("%w: branch %s", ErrNotFound, base)
	}
	p := &past{repo: repo, base: base, came: map[plumbing.Hash]int{}}
	var chain []*object.Commit
	at, err := repo.CommitObject(tip.Hash())
	for ; err == nil; at, err = at.Parent(0) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if chain = append(chain, at); len(chain) > maxCommits {
			return nil, fmt.Errorf("%w: more than %d commits", ErrTooMuch, maxCommits)
		}
		if at.NumParents() == 0 {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	slices.Reverse(chain)
	for i, c := range chain {
		p.chain = append(p.chain, c.Hash)
		stop := func(h plumbing.Hash) bool { _, known := p.came[h]; return known }
		if err := walk(ctx, c, stop, func(h plumbing.Hash) { p.came[h] = i }); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// walk visits a commit and its past, nearest first, and goes no further where
// stop says so.
func walk(ctx context.Context, from *object.Commit, stop func(plumbing.Hash) bool, visit func(plumbing.Hash)) error {
	if stop(from.Hash) {
		return nil
	}
	visit(from.Hash)
	seen := map[plumbing.Hash]bool{from.Hash: true}
	for queue := []*object.Commit{from}; len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i, h := range queue[0].ParentHashes {
			if seen[h] || stop(h) {
				continue
			}
			if len(seen) >= maxCommits {
				return fmt.Errorf("%w: more than %d commits", ErrTooMuch, maxCommits)
			}
			seen[h] = true
			visit(h)
			c, err := queue[0].Parent(i)
			if err != nil {
				return err
			}
			queue = append(queue, c)
		}
	}
	return nil
}

// start is the commit of the base branch that a request was made from; nil if
// there is none. Once the request is merged, that is asked of the branch as it
// was before. One that came in without a merge of its own, by a fast-forward,
// is taken for a single commit.
func (p *past) start(ctx context.Context, r Request, head *object.Commit) (*object.Commit, error) {
	newest := len(p.chain) - 1
	if r.State == Merged {
		newest = p.came[head.Hash] - 1
	}
	var common *object.Commit
	nearest := func(h plumbing.Hash) bool {
		i, known := p.came[h]
		return known && i <= newest
	}
	if nearest(head.Hash) {
		return head, nil
	}
	seen := map[plumbing.Hash]bool{head.Hash: true}
	for queue := []*object.Commit{head}; len(queue) > 0 && common == nil; queue = queue[1:] {
		for i, h := range queue[0].ParentHashes {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if seen[h] {
				continue
			}
			if len(seen) >= maxCommits {
				return nil, fmt.Errorf("%w: more than %d commits", ErrTooMuch, maxCommits)
			}
			seen[h] = true
			c, err := queue[0].Parent(i)
			if err != nil {
				return nil, err
			}
			// A branch that took the base in again began, as a change, where it
			// last did: the newest commit in common counts.
			if nearest(h) {
				if common == nil || p.came[h] > p.came[common.Hash] {
					common = c
				}
				continue
			}
			queue = append(queue, c)
		}
	}
	return common, nil
}

// changed compares the head with the commit that it was made from.
func (p *past) changed(ctx context.Context, r Request) ([]File, error) {
	head, err := p.repo.CommitObject(plumbing.NewHash(r.Head))
	if err != nil {
		return nil, err
	}
	from := plumbing.ZeroHash
	start, err := p.start(ctx, r, head)
	if err != nil {
		return nil, err
	}
	if start != nil {
		from = start.TreeHash
	}
	d := diff{ctx: ctx, repo: p.repo}
	if err := d.trees(from, head.TreeHash, "", 0); err != nil {
		return nil, err
	}
	slices.SortFunc(d.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return d.files, nil
}

// Since is the one commit of a branch's history that head was made from, or last
// took in, and all that head changed since below the given paths (folders or
// files), sorted by path. The error is ErrNotFound if the two have nothing in
// common, and ErrConflict if they were merged into one another more than once, so
// that there is no such one commit.
func (g *Git) Since(ctx context.Context, branch, head string, under ...string) (fork string, files []File, err error) {
	if !isCommit(head) || !validBranch(branch) {
		return "", nil, fmt.Errorf("forge: reading what changed: %w: no full commit hash, or no branch", ErrInvalid)
	}
	err = g.with(ctx, "reading what changed", func(ctx context.Context, repo *git.Repository) error {
		past, err := pastOf(ctx, repo, branch)
		if err != nil {
			return err
		}
		meeting := plumbing.NewHash(head)
		if _, merged := past.came[meeting]; !merged {
			if meeting, err = past.meeting(ctx, meeting); err != nil {
				return err
			}
		}
		fork = meeting.String()
		var roots [2]*object.Tree
		for i, h := range []plumbing.Hash{meeting, plumbing.NewHash(head)} {
			c, err := repo.CommitObject(h)
			if err != nil {
				return err
			}
			if roots[i], err = c.Tree(); err != nil {
				return err
			}
		}
		d := diff{ctx: ctx, repo: repo}
		for _, p := range under {
			if err := d.below(roots, p); err != nil {
				return err
			}
		}
		slices.SortFunc(d.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
		files = d.files
		return nil
	})
	return fork, files, err
}

// below compares what stands at one path of two trees, which may be nothing.
func (d *diff) below(roots [2]*object.Tree, p string) error {
	var folders [2]plumbing.Hash
	var entries [2]object.TreeEntry
	for i, t := range roots {
		e, err := t.FindEntry(p)
		switch {
		case errors.Is(err, object.ErrEntryNotFound), errors.Is(err, object.ErrDirectoryNotFound):
			continue
		case err != nil:
			return err
		}
		if entries[i] = *e; e.Mode == filemode.Dir {
			folders[i] = e.Hash
		}
	}
	if err := d.trees(folders[0], folders[1], p, 1); err != nil {
		return err
	}
	if (isFile(entries[0]) || isFile(entries[1])) && !same(entries[0], entries[1]) {
		return d.file(p, entries[1])
	}
	return nil
}

// baseBranch is the branch that requests are merged into: the one that HEAD
// names in a bare repository, else main or master. What somebody has checked
// out says nothing.
func baseBranch(repo *git.Repository) (string, error) {
	if cfg, err := repo.Config(); err == nil && cfg.Core.IsBare {
		if head, err := repo.Storer.Reference(plumbing.HEAD); err == nil && head.Target().IsBranch() {
			return head.Target().Short(), nil
		}
	}
	for _, name := range []string{"main", "master"} {
		if _, err := repo.Storer.Reference(plumbing.NewBranchReferenceName(name)); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: a branch main", ErrNotFound)
}

// describe tells all about a request. Its title and description are those of
// its first commit, its author the author of that.
func (p *past) describe(ctx context.Context, b branch) (Request, error) {
	r := Request{Number: b.number, Base: p.base, Head: b.head.String(), Branch: strings.TrimPrefix(b.name.String(), "refs/heads/"), Files: -1, Commits: -1}
	head, err := p.repo.CommitObject(b.head)
	if err != nil {
		return r, err
	}
	r.State = Open
	if i, merged := p.came[b.head]; merged {
		r.State, r.MergedAs = Merged, p.chain[i].String()
		if c, err := p.repo.CommitObject(p.chain[i]); err == nil && c.NumParents() > 1 {
			r.MergedAt, r.MergedBy.Login = sane(c.Committer.When), named(c.Committer)
		}
	} else if b.name == "" {
		r.State, r.ClosedAt = Closed, closedAt(p.repo, b.number)
	}
	start, err := p.start(ctx, r, head)
	if err != nil {
		return r, err
	}
	first := head
	for range maxCommits {
		if first.NumParents() == 0 || start != nil && (first.Hash == start.Hash || first.ParentHashes[0] == start.Hash) {
			break
		}
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if first, err = first.Parent(0); err != nil {
			return r, err
		}
	}
	title, body, _ := strings.Cut(first.Message, "\n")
	r.Title, r.Body = printable(title, maxTitle), strings.TrimSpace(body)
	if len(r.Body) > maxBody {
		r.Body = strings.ToValidUTF8(r.Body[:maxBody], "")
	}
	r.Author.Login, r.OpenedAt = named(first.Author), sane(first.Committer.When)
	return r, nil
}

// named is how an account of a plain git repository is shown.
func named(s object.Signature) string {
	return printable(fmt.Sprintf("%s <%s>", s.Name, s.Email), maxTitle)
}

// sane is a time that somebody wrote, zero where it cannot be one: JSON knows no
// year beyond 9999, and nothing here is older than git's own beginning of time.
func sane(t time.Time) time.Time {
	if t.Unix() <= 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t.UTC()
}

// readAll reads exactly size bytes.
func readAll(in io.Reader, size int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, size+1))
	if err == nil && int64(len(data)) != size {
		err = fmt.Errorf("%w: %d bytes instead of %d", ErrIncomplete, len(data), size)
	}
	return data, err
}
