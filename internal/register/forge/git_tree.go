package forge

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"example.edu/gatepost/internal/register/registration"
)

// maxDepth bounds the folders above a file.
const maxDepth = 16

// encoder is what can be stored.
type encoder interface {
	Encode(plumbing.EncodedObject) error
}

// store writes one object and returns its name.
func store(repo *git.Repository, o encoder) (plumbing.Hash, error) {
	e := repo.Storer.NewEncodedObject()
	if err := o.Encode(e); err != nil {
		return plumbing.ZeroHash, err
	}
	return repo.Storer.SetEncodedObject(e)
}

func storeBlob(repo *git.Repository, data []byte) (plumbing.Hash, error) {
	e := repo.Storer.NewEncodedObject()
	e.SetType(plumbing.BlobObject)
	w, err := e.Writer()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if _, err := w.Write(data); err != nil {
		return plumbing.ZeroHash, err
	}
	if err := w.Close(); err != nil {
		return plumbing.ZeroHash, err
	}
	return repo.Storer.SetEncodedObject(e)
}

// grow is tree root with the changes made: only the folders on the way to a
// change are read and written.
func grow(repo *git.Repository, root plumbing.Hash, changes []Change) (plumbing.Hash, error) {
	var entries []object.TreeEntry
	if !root.IsZero() {
		t, err := object.GetTree(repo.Storer, root)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		entries = slices.Clone(t.Entries)
	}
	below := map[string][]Change{}
	for _, c := range changes {
		name, rest, deeper := strings.Cut(c.Path, "/")
		i := slices.IndexFunc(entries, func(e object.TreeEntry) bool { return e.Name == name })
		if deeper {
			if i >= 0 && entries[i].Mode != filemode.Dir && !c.Remove {
				return plumbing.ZeroHash, fmt.Errorf("%w: %s is no folder", ErrInvalid, name)
			}
			c.Path = rest
			below[name] = append(below[name], c)
			continue
		}
		switch {
		case c.Remove && (i < 0 || entries[i].Mode == filemode.Dir):
			return plumbing.ZeroHash, fmt.Errorf("%w: there is no file %s to remove", ErrInvalid, name)
		case c.Remove:
			entries = slices.Delete(entries, i, i+1)
		case i >= 0 && entries[i].Mode == filemode.Dir:
			return plumbing.ZeroHash, fmt.Errorf("%w: %s is a folder", ErrInvalid, name)
		default:
			blob, err := storeBlob(repo, c.Data)
			if err != nil {
				return plumbing.ZeroHash, err
			}
			e := object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: blob}
			if i >= 0 {
				entries[i] = e
			} else {
				entries = append(entries, e)
			}
		}
	}
	for name, changes := range below {
		i := slices.IndexFunc(entries, func(e object.TreeEntry) bool { return e.Name == name })
		from := plumbing.ZeroHash
		if i >= 0 && entries[i].Mode == filemode.Dir {
			from = entries[i].Hash
		}
		sub, err := grow(repo, from, changes)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if i >= 0 {
			entries = slices.Delete(entries, i, i+1)
		}
		if !sub.IsZero() {
			entries = append(entries, object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: sub})
		}
	}
	if len(entries) == 0 && !root.IsZero() {
		return plumbing.ZeroHash, nil // git knows no empty folder
	}
	slices.SortFunc(entries, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	return store(repo, &object.Tree{Entries: entries})
}

// sortName is what git sorts a tree by: folders as if their names ended in a
// slash.
func sortName(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}

// A diff collects the files in which two trees differ. Folders that are the
// same are not read.
type diff struct {
	ctx   context.Context
	repo  *git.Repository
	files []File
	bytes int64
}

// trees compares two folders; a zero hash is an empty one.
func (d *diff) trees(from, to plumbing.Hash, prefix string, depth int) error {
	if from == to {
		return nil
	}
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("%w: more than %d folders above a file", ErrTooMuch, maxDepth)
	}
	was, err := d.entries(from)
	if err != nil {
		return err
	}
	is, err := d.entries(to)
	if err != nil {
		return err
	}
	for name := range was {
		if _, ok := is[name]; !ok {
			is[name] = object.TreeEntry{Name: name}
		}
	}
	for name, after := range is {
		before := was[name]
		if before.Hash == after.Hash && before.Mode == after.Mode {
			continue
		}
		var folders [2]plumbing.Hash
		if before.Mode == filemode.Dir {
			folders[0] = before.Hash
		}
		if after.Mode == filemode.Dir {
			folders[1] = after.Hash
		}
		p := path.Join(prefix, name)
		if err := d.trees(folders[0], folders[1], p, depth+1); err != nil {
			return err
		}
		if isFile(before) || isFile(after) {
			if err := d.file(p, after); err != nil {
				return err
			}
		}
	}
	return nil
}

func isFile(e object.TreeEntry) bool { return !e.Hash.IsZero() && e.Mode != filemode.Dir }

func (d *diff) entries(h plumbing.Hash) (map[string]object.TreeEntry, error) {
	m := map[string]object.TreeEntry{}
	if h.IsZero() {
		return m, nil
	}
	t, err := object.GetTree(d.repo.Storer, h)
	if err != nil {
		return nil, err
	}
	for _, e := range t.Entries {
		m[e.Name] = e
	}
	return m, nil
}

// file notes one path; e is what is there now.
func (d *diff) file(p string, e object.TreeEntry) error {
	if len(d.files) >= maxFiles {
		return fmt.Errorf("%w: more than %d files", ErrTooMuch, maxFiles)
	}
	f := File{Source: registration.Source{Path: p}, Removed: !isFile(e)}
	if !f.Removed {
		f.Blob, f.Mode = e.Hash.String(), modeOf(e.Mode)
	}
	if f.Removed || f.Mode != registration.Regular {
		d.files = append(d.files, f)
		return nil
	}
	var err error
	if f.Size, err = d.repo.Storer.EncodedObjectSize(e.Hash); err != nil {
		return err
	}
	if f.Size <= wanted(p, f.Mode) {
		if d.bytes += f.Size; d.bytes > maxContent {
			return fmt.Errorf("%w: more than %d bytes", ErrTooMuch, maxContent)
		}
		if f.Data, err = readBlob(d.repo, e.Hash, f.Size); err != nil {
			return err
		}
	}
	d.files = append(d.files, f)
	return nil
}

func modeOf(m filemode.FileMode) registration.Mode {
	switch m {
	case filemode.Regular, filemode.Deprecated, filemode.Executable:
		return registration.Regular
	case filemode.Symlink:
		return registration.Symlink
	case filemode.Submodule:
		return registration.Submodule
	}
	return registration.Other
}

func readBlob(repo *git.Repository, h plumbing.Hash, size int64) ([]byte, error) {
	b, err := object.GetBlob(repo.Storer, h)
	if err != nil {
		return nil, err
	}
	in, err := b.Reader()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return readAll(in, size)
}

// changedObjects are all that a tree has of its own after changes: itself, the
// folders above each path, and what stands at the path.
func changedObjects(repo *git.Repository, root plumbing.Hash, changes []Change) ([]plumbing.Hash, error) {
	seen := map[plumbing.Hash]bool{root: true}
	list := []plumbing.Hash{root}
	for _, c := range changes {
		at := root
		for name := range strings.SplitSeq(c.Path, "/") {
			t, err := object.GetTree(repo.Storer, at)
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(t.Entries, func(e object.TreeEntry) bool { return e.Name == name })
			if i < 0 {
				break // it was removed
			}
			if at = t.Entries[i].Hash; !seen[at] {
				seen[at], list = true, append(list, at)
			}
			if t.Entries[i].Mode != filemode.Dir {
				break
			}
		}
	}
	return list, nil
}
