package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

const (
	maxMeetings  = 32     // commits of the base that a request was made from, or took in
	maxMerged    = 50_000 // names that are compared to merge one request
	maxContested = 10     // paths that an error names
)

// Merge merges a request into the base branch and returns the merge commit: its
// parents are the branch's tip and the request's head, its author and committer
// whoever merges, and its message is the one that git itself gives, with the
// request's branch, so that whoever reads the history knows the request.
//
// What was judged is what is merged, or nothing: the error is ErrMoved if the
// request has another head by now, and ErrConflict if it is closed, if the branch
// is somebody's checkout here, or if only a person can tell what comes of it: both
// sides changed a path and not to the same, or one emptied a folder into which the
// other put a file, or a file and a folder want one name, or the two histories
// cross. A request that is merged with that head already is no error, and the
// answer is how it came in.
//
// The order is: objects, synced, then the branch, moved only from the tip that was
// merged with. When Merge returns nil, the branch is on stable storage.
func (g *Git) Merge(ctx context.Context, number int, head string, by Person, at time.Time) (string, error) {
	doing := fmt.Sprintf("merging request %d", number)
	if err := by.valid(); err != nil {
		return "", fmt.Errorf("forge: %s: %w", doing, err)
	}
	if at.IsZero() || !isCommit(head) {
		return "", fmt.Errorf("forge: %s: %w: it needs a time, and the full hash of the head", doing, ErrInvalid)
	}
	out := ""
	err := g.with(ctx, doing, func(ctx context.Context, repo *git.Repository) error {
		return races(func() (err error) {
			out, err = g.merge(ctx, repo, number, head, object.Signature{Name: by.Name, Email: by.Email, When: at})
			return err
		})
	})
	return out, err
}

// merge is one try, against the branch as it is now.
func (g *Git) merge(ctx context.Context, repo *git.Repository, number int, head string, who object.Signature) (string, error) {
	past, err := pastOf(ctx, repo, "")
	if err != nil {
		return "", err
	}
	b, err := find(ctx, repo, number)
	if err != nil {
		return "", err
	}
	if b.head.String() != head {
		return "", ErrMoved
	}
	if i, merged := past.came[b.head]; merged {
		return past.chain[i].String(), nil
	}
	if b.name == "" {
		return "", fmt.Errorf("%w: it is closed", ErrConflict)
	}
	if where := g.checkedOut(past.base); where != "" {
		return "", fmt.Errorf("%w: %s is checked out in %s, whose files a merge here would leave behind; keep the register in a bare repository", ErrConflict, past.base, where)
	}
	tip := past.chain[len(past.chain)-1]
	m := merger{ctx: ctx, diff: diff{ctx: ctx, repo: repo}}
	trees := [3]plumbing.Hash{}
	meeting, err := past.meeting(ctx, b.head)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: it has nothing in common with %s", ErrConflict, past.base)
	}
	if err != nil {
		return "", err
	}
	for i, h := range []plumbing.Hash{meeting, tip, b.head} {
		c, err := repo.CommitObject(h)
		if err != nil {
			return "", err
		}
		trees[i] = c.TreeHash
	}
	tree, err := m.trees(trees, "", 0)
	if err != nil {
		return "", err
	}
	if len(m.contested) > 0 {
		slices.Sort(m.contested)
		m.contested = slices.Compact(m.contested)
		return "", fmt.Errorf("%w: %s changed in the request and on %s since", ErrConflict, listed(m.contested), past.base)
	}
	if tree.IsZero() { // nothing is left at all
		if tree, err = store(repo, &object.Tree{}); err != nil {
			return "", err
		}
		m.made = append(m.made, tree)
	}
	r, err := past.describe(ctx, b)
	if err != nil {
		return "", err
	}
	made, err := store(repo, &object.Commit{
		Author: who, Committer: who, TreeHash: tree, ParentHashes: []plumbing.Hash{tip, b.head},
		// The first line is what tells the request; the title is its author's text.
		Message: fmt.Sprintf("Merge branch '%s'\n\nRequest %d: %s\n", r.Branch, number, r.Title),
	})
	if err != nil {
		return "", err
	}
	if err := g.settle(append(m.made, made)...); err != nil {
		return "", err
	}
	return made.String(), g.swap(ctx, repo, plumbing.NewBranchReferenceName(past.base), tip, made)
}

// listed is a few paths in a line.
func listed(paths []string) string {
	more := ""
	if n := len(paths) - maxContested; n > 0 {
		paths, more = paths[:maxContested], fmt.Sprintf(" and %d more", n)
	}
	for i := range paths {
		paths[i] = printable(paths[i], 200)
	}
	return strings.Join(paths, ", ") + more
}

// meeting is the one commit of the base from which head was made, or which it
// last took in.
func (p *past) meeting(ctx context.Context, head plumbing.Hash) (plumbing.Hash, error) {
	var meetings []plumbing.Hash
	c, err := p.repo.CommitObject(head)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	known := func(h plumbing.Hash) bool {
		_, known := p.came[h]
		if known && !slices.Contains(meetings, h) && len(meetings) <= maxMeetings {
			meetings = append(meetings, h)
		}
		return known
	}
	if err := walk(ctx, c, known, func(plumbing.Hash) {}); err != nil {
		return plumbing.ZeroHash, err
	}
	if len(meetings) == 0 {
		return plumbing.ZeroHash, fmt.Errorf("%w: it has nothing in common with %s", ErrNotFound, p.base)
	}
	crossing := fmt.Errorf("%w: its history crosses that of %s: merge %s into it, and try again", ErrConflict, p.base, p.base)
	if len(meetings) > maxMeetings {
		return plumbing.ZeroHash, crossing
	}
	var newest []plumbing.Hash
	for _, h := range meetings {
		covered := false
		for _, other := range meetings {
			if other == h || covered {
				continue
			}
			c, err := p.repo.CommitObject(other)
			if err != nil {
				return plumbing.ZeroHash, err
			}
			err = walk(ctx, c, func(plumbing.Hash) bool { return covered }, func(at plumbing.Hash) { covered = covered || at == h })
			if err != nil {
				return plumbing.ZeroHash, err
			}
		}
		if !covered {
			newest = append(newest, h)
		}
	}
	if len(newest) != 1 {
		return plumbing.ZeroHash, crossing
	}
	return newest[0], nil
}

// A merger makes one tree of three: what the head changed since the ancestor is as
// the head has it, and the rest as the base has it.
type merger struct {
	ctx       context.Context
	diff      diff
	seen      int
	made      []plumbing.Hash // trees that were written
	contested []string
}

// trees merges one folder, given as the ancestor, the base and the head have it; a
// zero hash is an empty one, and so is the answer.
func (m *merger) trees(of [3]plumbing.Hash, prefix string, depth int) (plumbing.Hash, error) {
	ancestor, base, head := of[0], of[1], of[2]
	switch {
	case head == ancestor:
		return base, nil
	case base == ancestor, base == head:
		return head, nil
	}
	if depth > maxDepth {
		return plumbing.ZeroHash, fmt.Errorf("%w: more than %d folders above a file", ErrTooMuch, maxDepth)
	}
	if err := m.ctx.Err(); err != nil {
		return plumbing.ZeroHash, err
	}
	var sides [3]map[string]object.TreeEntry
	names := map[string]bool{}
	for i, h := range of {
		var err error
		if sides[i], err = m.diff.entries(h); err != nil {
			return plumbing.ZeroHash, err
		}
		for name := range sides[i] {
			names[name] = true
		}
	}
	if m.seen += len(names); m.seen > maxMerged {
		return plumbing.ZeroHash, fmt.Errorf("%w: more than %d names", ErrTooMuch, maxMerged)
	}
	m.moved(prefix, sides[0], sides[1], sides[2])
	m.moved(prefix, sides[0], sides[2], sides[1])
	var out []object.TreeEntry
	for name := range names {
		e, err := m.entry([3]object.TreeEntry{sides[0][name], sides[1][name], sides[2][name]}, path.Join(prefix, name), depth)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if !e.Hash.IsZero() {
			e.Name = name
			out = append(out, e)
		}
	}
	if len(out) == 0 || len(m.contested) > 0 {
		return plumbing.ZeroHash, nil
	}
	slices.SortFunc(out, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	made, err := store(m.diff.repo, &object.Tree{Entries: out})
	m.made = append(m.made, made)
	return made, err
}

// entry merges one name. A name that is not there has no hash.
func (m *merger) entry(of [3]object.TreeEntry, p string, depth int) (object.TreeEntry, error) {
	ancestor, base, head := of[0], of[1], of[2]
	switch {
	case same(head, ancestor):
		return base, nil
	case same(base, ancestor), same(base, head):
		return head, nil
	}
	var folders [3]plumbing.Hash
	for i, e := range of {
		if e.Mode == filemode.Dir {
			folders[i] = e.Hash
		}
	}
	// All that are there are folders: what differs is below.
	if !isFile(ancestor) && !isFile(base) && !isFile(head) {
		h, err := m.trees(folders, p, depth+1)
		return object.TreeEntry{Mode: filemode.Dir, Hash: h}, err
	}
	m.contested = append(m.contested, p)
	return object.TreeEntry{}, nil
}

func same(a, b object.TreeEntry) bool { return a.Hash == b.Hash && a.Mode == b.Mode }

// moved finds files that the others put into a folder which mover emptied: git may
// take it for a renamed one, and put them elsewhere.
func (m *merger) moved(dir string, ancestor, mover, others map[string]object.TreeEntry) {
	had, left := false, false
	for _, e := range ancestor {
		had = had || isFile(e)
	}
	for _, e := range mover {
		left = left || isFile(e)
	}
	if !had || left {
		return
	}
	for name, e := range others {
		if isFile(e) && !isFile(ancestor[name]) {
			m.contested = append(m.contested, path.Join(dir, name))
		}
	}
}

// checkedOut is where a branch is somebody's work tree, "" if it is nowhere.
func (g *Git) checkedOut(branch string) string {
	want := "ref: refs/heads/" + branch
	if repo, err := git.PlainOpenWithOptions(g.dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true}); err == nil {
		if cfg, err := repo.Config(); err == nil && !cfg.Core.IsBare {
			if head, err := readSmall(filepath.Join(g.gitDir, "HEAD"), 4096); err == nil && strings.TrimSpace(head) == want {
				return filepath.Dir(g.gitDir)
			}
		}
	}
	linked, err := os.ReadDir(filepath.Join(g.gitDir, "worktrees"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	for _, w := range linked {
		if head, err := readSmall(filepath.Join(g.gitDir, "worktrees", w.Name(), "HEAD"), 4096); err == nil && strings.TrimSpace(head) == want {
			return "a linked work tree (" + w.Name() + ")"
		}
	}
	return ""
}
