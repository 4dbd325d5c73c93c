package gitsync

import (
	"bytes"
	"cmp"
	"context"
	"path"
	"slices"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A Change is one path that is not the same in two commits.
type Change struct {
	Path     string
	Old, New Entry // what stands there; without a Path where nothing does
}

// Diff lists what differs between two commits below the given paths (folders
// or single files; none means all), sorted by path. Both sides are what Files
// says of them, but that a name which differs only in case from another is not
// marked: that takes the whole list. The zero Hash for old is a commit without
// files. Folders that are the same in both are not read, so the cost is that
// of the change.
func (r *Repo) Diff(ctx context.Context, old, new Hash, under ...string) ([]Change, error) {
	var out []Change
	err := r.use(ctx, "comparing "+old.String()+" with "+new.String(), func(ctx context.Context, g *git.Repository) error {
		side := func(h Hash) (plumbing.Hash, error) {
			if h.IsZero() {
				return plumbing.ZeroHash, nil
			}
			c, err := commit(g, h)
			if err != nil {
				return plumbing.ZeroHash, err
			}
			return c.TreeHash, nil
		}
		was, err := side(old)
		if err != nil {
			return err
		}
		is, err := side(new)
		if err != nil {
			return err
		}
		d := difference{
			was: walk{ctx: ctx, repo: g, empty: make(map[plumbing.Hash]bool)},
			is:  walk{ctx: ctx, repo: g, empty: make(map[plumbing.Hash]bool)},

			same: make(map[[2]plumbing.Hash]bool),
		}
		if len(under) == 0 {
			err = d.trees(was, is, "", 0)
		}
		for _, p := range under {
			if err == nil {
				err = d.below(was, is, strings.Trim(path.Clean(p), "/"))
			}
		}
		out = changes(d.was.found, d.is.found)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// A difference collects, on either side, the files of what is not the same on
// both.
type difference struct {
	was, is walk
	same    map[[2]plumbing.Hash]bool // pairs of folders that differ in no file: trees can name one again and again
}

// below compares what is at one path.
func (d *difference) below(was, is plumbing.Hash, p string) error {
	if p == "." || p == "" {
		return d.trees(was, is, "", 0)
	}
	old, err := d.was.at(was, p)
	if err != nil {
		return err
	}
	now, err := d.is.at(is, p)
	if err != nil {
		return err
	}
	depth := strings.Count(p, "/") + 1
	if old.Mode == filemode.Dir && now.Mode == filemode.Dir {
		return d.trees(old.Hash, now.Hash, p, depth)
	}
	if err := d.was.entry(old, p, depth); err != nil {
		return err
	}
	return d.is.entry(now, p, depth)
}

// at finds the entry at a path of a tree, which may be none at all.
func (w *walk) at(root plumbing.Hash, p string) (object.TreeEntry, error) {
	if root.IsZero() {
		return object.TreeEntry{}, nil
	}
	return lookup(w.repo, root, p)
}

// entry lists what one entry of a tree stands for; nothing for the zero entry.
func (w *walk) entry(e object.TreeEntry, p string, depth int) error {
	switch {
	case e.Hash.IsZero() && e.Name == "":
		return nil
	case e.Mode == filemode.Dir && badName(e.Name) == "" && depth <= maxDepth:
		return w.tree(e.Hash, p, depth)
	}
	return w.add(p, e)
}

// trees compares two folders of one name, entry by entry in git's own order. A
// folder out of order holds a name twice, perhaps; it is listed whole.
func (d *difference) trees(was, is plumbing.Hash, prefix string, depth int) error {
	pair := [2]plumbing.Hash{was, is}
	if was == is || d.same[pair] {
		return nil
	}
	if err := d.is.ctx.Err(); err != nil {
		return err
	}
	before := len(d.was.found) + len(d.is.found)
	old, err := d.was.entries(was)
	if err != nil {
		return err
	}
	now, err := d.is.entries(is)
	if err != nil {
		return err
	}
	if !inOrder(old) || !inOrder(now) {
		if err := d.was.list(old, prefix, depth); err != nil {
			return err
		}
		return d.is.list(now, prefix, depth)
	}
	for i, j := 0, 0; i < len(old) || j < len(now); {
		order := 0
		switch {
		case i == len(old):
			order = 1
		case j == len(now):
			order = -1
		default:
			order = strings.Compare(sortName(old[i]), sortName(now[j]))
		}
		var err error
		switch {
		case order < 0:
			err = d.was.entry(old[i], join(prefix, old[i].Name), depth+1)
		case order > 0:
			err = d.is.entry(now[j], join(prefix, now[j].Name), depth+1)
		case old[i] == now[j]:
		case old[i].Mode == filemode.Dir && now[j].Mode == filemode.Dir && badName(old[i].Name) == "" && depth < maxDepth:
			err = d.trees(old[i].Hash, now[j].Hash, join(prefix, old[i].Name), depth+1)
		default:
			if err = d.was.entry(old[i], join(prefix, old[i].Name), depth+1); err == nil {
				err = d.is.entry(now[j], join(prefix, now[j].Name), depth+1)
			}
		}
		if err != nil {
			return err
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			j++
		}
	}
	if len(d.was.found)+len(d.is.found) == before {
		d.same[pair] = true
	}
	return nil
}

// list lists all that some entries of a folder stand for.
func (w *walk) list(entries []object.TreeEntry, prefix string, depth int) error {
	for _, e := range entries {
		if err := w.entry(e, join(prefix, e.Name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// entries are those of a tree; none for the zero hash.
func (w *walk) entries(h plumbing.Hash) ([]object.TreeEntry, error) {
	if h.IsZero() {
		return nil, nil
	}
	t, err := object.GetTree(w.repo.Storer, h)
	if err != nil {
		return nil, err
	}
	return t.Entries, nil
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "/" + name
}

// sortName is what git sorts an entry by.
func sortName(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}

// inOrder reports whether a folder is sorted as git sorts it, each name once.
func inOrder(list []object.TreeEntry) bool {
	for i := 1; i < len(list); i++ {
		if sortName(list[i-1]) >= sortName(list[i]) {
			return false
		}
	}
	return true
}

// changes pairs two lists by path.
func changes(was, is []Entry) []Change {
	was, is = once(was), once(is)
	var out []Change
	for i, j := 0, 0; i < len(was) || j < len(is); {
		switch {
		case j == len(is) || i < len(was) && was[i].Path < is[j].Path:
			out = append(out, Change{Path: was[i].Path, Old: was[i]})
			i++
		case i == len(was) || is[j].Path < was[i].Path:
			out = append(out, Change{Path: is[j].Path, New: is[j]})
			j++
		default:
			if was[i] != is[j] {
				out = append(out, Change{Path: is[j].Path, Old: was[i], New: is[j]})
			}
			i, j = i+1, j+1
		}
	}
	return out
}

// once sorts a list and makes one entry, of no use, of a path that is in it
// more than once.
func once(list []Entry) []Entry {
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), bytes.Compare(a.Hash[:], b.Hash[:]), cmp.Compare(a.Mode, b.Mode))
	})
	out := list[:0]
	for _, e := range slices.Compact(list) {
		if n := len(out); n > 0 && out[n-1].Path == e.Path {
			out[n-1].Odd, out[n-1].Unusable = twice, true
			continue
		}
		out = append(out, e)
	}
	return out
}

// Plain reports whether a path can be judged without a look at all others: it
// is none that could differ from another only in case. Where all paths of a
// commit are plain and not odd, and those of a Diff too, the two together are
// what Files says of the other commit.
func Plain(path string) bool { return strings.ToLower(path) == path }
