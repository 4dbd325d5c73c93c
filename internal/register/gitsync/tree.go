package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"example.edu/gatepost/internal/register/registration"
)

// Files lists the files of a commit below the given paths (folders or single
// files; none means all), sorted by path. A path that is not there adds
// nothing. Sizes are not filled in.
func (r *Repo) Files(ctx context.Context, h Hash, under ...string) ([]Entry, error) {
	var out []Entry
	err := r.use(ctx, "listing the files of "+h.String(), func(ctx context.Context, g *git.Repository) error {
		c, err := commit(g, h)
		if err != nil {
			return err
		}
		w := walk{ctx: ctx, repo: g, empty: make(map[plumbing.Hash]bool)}
		if len(under) == 0 {
			err = w.tree(c.TreeHash, "", 0)
		}
		for _, p := range under {
			if err == nil {
				err = w.below(c.TreeHash, strings.Trim(path.Clean(p), "/"))
			}
		}
		out = w.found
		return err
	})
	if err != nil {
		return nil, err
	}
	return settle(out), nil
}

// A walk collects the files of a tree.
type walk struct {
	ctx   context.Context
	repo  *git.Repository
	found []Entry
	empty map[plumbing.Hash]bool // folders without a file: a tree can name one again and again
}

// below collects what is at one path: a file or all files of a folder.
func (w *walk) below(root plumbing.Hash, p string) error {
	if p == "." || p == "" {
		return w.tree(root, "", 0)
	}
	e, err := lookup(w.repo, root, p)
	if err != nil || e.Hash.IsZero() {
		return err
	}
	if e.Mode == filemode.Dir {
		return w.tree(e.Hash, p, strings.Count(p, "/")+1)
	}
	return w.add(p, e)
}

func (w *walk) tree(h plumbing.Hash, prefix string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.empty[h] {
		return nil
	}
	before := len(w.found)
	t, err := object.GetTree(w.repo.Storer, h)
	if err != nil {
		return err
	}
	for _, e := range t.Entries {
		p := e.Name
		if prefix != "" {
			p = prefix + "/" + e.Name
		}
		// A folder with an impossible name is not entered: whatever is in it
		// could not be told from what is elsewhere. One that is too deep is not
		// entered either, and holds nobody else up.
		if e.Mode == filemode.Dir && badName(e.Name) == "" && depth < maxDepth {
			err = w.tree(e.Hash, p, depth+1)
		} else {
			err = w.add(p, e)
		}
		if err != nil {
			return err
		}
	}
	if len(w.found) == before {
		w.empty[h] = true
	}
	return nil
}

func (w *walk) add(p string, e object.TreeEntry) error {
	if len(w.found) >= maxFiles {
		return fmt.Errorf("%w: more than %d", ErrTooMany, maxFiles)
	}
	out := Entry{Path: p, Mode: mode(e.Mode), Hash: Hash(e.Hash), Size: -1}
	if out.Odd = badName(path.Base(p)); out.Odd == "" && len(p) > maxPath {
		out.Odd = fmt.Sprintf("the path is longer than %d bytes", maxPath)
	}
	if out.Odd == "" && e.Mode == filemode.Dir {
		out.Odd = tooDeep
	}
	if e.Name != "" && strings.Contains(e.Name, "/") {
		out.Odd = badName(e.Name)
	}
	w.found = append(w.found, unusable(out))
	return nil
}

// What is odd about a folder that is not entered, and about a path that a
// malformed tree holds more than once.
const (
	tooDeep = "it is a folder inside too many others"
	twice   = "the name stands twice in its folder"
)

// unusable settles how an entry with an odd name is shown.
func unusable(e Entry) Entry {
	if e.Odd != "" {
		e.Unusable = true
		e.Path = strings.ToValidUTF8(e.Path, "\uFFFD")
		e.Path = strings.Map(func(c rune) rune {
			if unicode.IsControl(c) {
				return '\uFFFD'
			}
			return c
		}, e.Path)
		if len(e.Path) > maxPath {
			e.Path = strings.ToValidUTF8(e.Path[:maxPath], "")
		}
	}
	return e
}

// badName says what is wrong with the name of a file or folder, "" if nothing.
func badName(name string) string {
	switch {
	case name == "" || name == "." || name == ".." || strings.EqualFold(name, ".git"):
		return "the name is not possible for a file"
	case !utf8.ValidString(name):
		return "the name is not valid UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "the name holds a control character"
	case strings.ContainsAny(name, `/\`):
		return "the name holds a slash or backslash"
	case len(name) > 255:
		return "the name is longer than 255 bytes"
	}
	return ""
}

// settle sorts a list of files and marks names that stand for two files: those
// that differ only in case, which are one on a Mac or under Windows, and those
// that a malformed tree holds twice, of which nobody knows which one counts.
func settle(list []Entry) []Entry {
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	list = slices.CompactFunc(list, func(a, b Entry) bool { return a == b }) // overlapping paths were asked for
	for i := 1; i < len(list); i++ {
		if list[i].Path == list[i-1].Path {
			for j := i - 1; j <= i; j++ {
				list[j].Odd, list[j].Unusable = twice, true
			}
		}
	}
	registration.Twins(len(list), func(i int) string { return list[i].Path }, func(i int, odd string) {
		if list[i].Odd == "" {
			list[i].Odd = odd
		}
	})
	return list
}

func mode(m filemode.FileMode) Mode {
	switch m {
	case filemode.Regular, filemode.Deprecated:
		return Regular
	case filemode.Executable:
		return Executable
	case filemode.Symlink:
		return Symlink
	case filemode.Submodule:
		return Submodule
	}
	return Other
}

// lookup finds the entry at a path of a tree; the zero entry if there is none.
func lookup(g *git.Repository, root plumbing.Hash, p string) (object.TreeEntry, error) {
	at := object.TreeEntry{Mode: filemode.Dir, Hash: root}
	for name := range strings.SplitSeq(p, "/") {
		if at.Mode != filemode.Dir {
			return object.TreeEntry{}, nil
		}
		t, err := object.GetTree(g.Storer, at.Hash)
		if err != nil {
			return object.TreeEntry{}, err
		}
		i := slices.IndexFunc(t.Entries, func(e object.TreeEntry) bool { return e.Name == name })
		if i < 0 {
			return object.TreeEntry{}, nil
		}
		at = t.Entries[i]
	}
	return at, nil
}

// Size is the length of a blob in bytes.
func (r *Repo) Size(ctx context.Context, blob Hash) (int64, error) {
	var size int64
	err := r.use(ctx, "measuring "+blob.String(), func(_ context.Context, g *git.Repository) (err error) {
		size, err = g.Storer.EncodedObjectSize(plumbing.Hash(blob))
		return err
	})
	return size, err
}

// Read is the content of a blob. One of more than max bytes is not read;
// the error is then a *TooLarge.
func (r *Repo) Read(ctx context.Context, blob Hash, max int64) ([]byte, error) {
	var data []byte
	err := r.use(ctx, "reading "+blob.String(), func(_ context.Context, g *git.Repository) (err error) {
		data, err = readBlob(g, plumbing.Hash(blob), max)
		return err
	})
	return data, err
}

// A TooLarge says how large what was not read is. It is an ErrTooLarge.
type TooLarge struct {
	Size, Max int64 // bytes
}

// Error names both sizes.
func (e *TooLarge) Error() string {
	return fmt.Sprintf("%d bytes, %v of %d", e.Size, ErrTooLarge, e.Max)
}

// Is makes a TooLarge an ErrTooLarge.
func (e *TooLarge) Is(target error) bool { return target == ErrTooLarge }

func readBlob(g *git.Repository, h plumbing.Hash, max int64) (data []byte, err error) {
	size, err := g.Storer.EncodedObjectSize(h)
	if err != nil {
		return nil, err
	}
	if size > max {
		return nil, &TooLarge{Size: size, Max: max}
	}
	b, err := object.GetBlob(g.Storer, h)
	if err != nil {
		return nil, err
	}
	in, err := b.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	data, err = io.ReadAll(io.LimitReader(in, max+1))
	if err == nil && int64(len(data)) != size {
		return nil, fmt.Errorf("%w: blob %s has %d bytes instead of %d", ErrDamaged, h, len(data), size)
	}
	return data, err
}

// A Name is what stands at a name of a folder.
type Name struct {
	Hash   Hash // of the content, or of the folder
	Mode   Mode // of what is no folder
	Folder bool
}

// Folder is what is in a folder of a commit ("" is the root), by name, as it is
// stored; nil where there is no such folder.
func (r *Repo) Folder(ctx context.Context, h Hash, dir string) (map[string]Name, error) {
	var out map[string]Name
	err := r.use(ctx, "reading a folder of "+h.String(), func(_ context.Context, g *git.Repository) error {
		out = nil
		c, err := commit(g, h)
		if err != nil {
			return err
		}
		at := object.TreeEntry{Mode: filemode.Dir, Hash: c.TreeHash}
		if dir != "" {
			if at, err = lookup(g, c.TreeHash, dir); err != nil {
				return err
			}
		}
		if at.Mode != filemode.Dir {
			return nil
		}
		t, err := object.GetTree(g.Storer, at.Hash)
		if err != nil {
			return err
		}
		out = make(map[string]Name, len(t.Entries))
		for _, e := range t.Entries {
			out[e.Name] = Name{Hash: Hash(e.Hash), Mode: mode(e.Mode), Folder: e.Mode == filemode.Dir}
		}
		return nil
	})
	return out, err
}
