package forge

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-github/v60/github"

	"example.edu/gatepost/internal/register/registration"
)

// maxFolders bounds the folders of a request that are read to tell what it
// changes; one that is the same is not read.
const maxFolders = 300

// A Known is what stands at a name of a folder that the caller has.
type Known struct {
	Hash   string // git's name of the content, or of the folder
	Mode   registration.Mode
	Folder bool
}

// Folders tells what is in a folder of the commit that the caller has, by name;
// "" is the root. It is nil where there is no such folder.
type Folders func(ctx context.Context, dir string) (map[string]Known, error)

// Since is all that differs below the given paths (folders or files) between a
// commit at GitHub and one that the caller has, sorted by path. It asks for no
// list of what changed: it goes down where names of contents differ, and holds
// every folder that GitHub shows against the name of that folder. So it is
// certain that nothing was left out, whatever GitHub would list, as long as the
// commit is the one meant.
//
// A name that no folder can have, or that is not text, is ErrIncomplete.
func (g *GitHub) Since(ctx context.Context, commit string, was Folders, under ...string) ([]File, error) {
	at, err := g.treeOf(ctx, commit)
	if err != nil {
		return nil, err
	}
	d := &since{g: g, at: at, was: was}
	for _, p := range under {
		if err := d.below(ctx, p); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(d.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return settle("reading what changed", d.files)
}

// since is one run of Since.
type since struct {
	g       *GitHub
	at      *remoteTree
	was     Folders
	files   []File
	folders int
	bytes   int64
}

// below compares what stands at one path, which may be nothing.
func (d *since) below(ctx context.Context, p string) error {
	hash, dir := d.at.root, ""
	known, err := d.was(ctx, "")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(p, "/") {
		var is map[string]*github.TreeEntry
		if hash != "" {
			if is, err = d.at.read(ctx, dir, hash); err != nil {
				return err
			}
		}
		now, there := is[name]
		before, had := known[name]
		child := join(dir, name)
		if child == p {
			return d.entry(ctx, child, before, had, now)
		}
		hash, known, dir = "", nil, child
		if there && now.GetType() == "tree" {
			hash = now.GetSHA()
		}
		if had && before.Folder {
			if known, err = d.was(ctx, child); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry compares one name on both sides; now is nil where it is gone.
func (d *since) entry(ctx context.Context, p string, was Known, had bool, now *github.TreeEntry) error {
	folder := now.GetType() == "tree"
	if had && now != nil && was.Hash == now.GetSHA() && was.Folder == folder && (folder || was.Mode == entryMode(now)) {
		return nil
	}
	if had && was.Folder || folder {
		hash := ""
		if folder {
			hash = now.GetSHA()
		}
		if err := d.folder(ctx, p, had && was.Folder, hash); err != nil {
			return err
		}
	}
	switch {
	case now != nil && !folder:
		return d.add(ctx, p, now)
	case now == nil && had && !was.Folder, folder && had && !was.Folder:
		return d.note(File{Source: registration.Source{Path: p}, Removed: true})
	}
	return nil
}

// folder compares two folders of one name; hash is "" for one that is gone.
func (d *since) folder(ctx context.Context, dir string, had bool, hash string) error {
	if d.folders++; d.folders > maxFolders {
		return fmt.Errorf("forge: reading what changed: %w: more than %d folders", ErrTooMuch, maxFolders)
	}
	if strings.Count(dir, "/") >= maxDepth {
		return fmt.Errorf("forge: reading what changed: %w: more than %d folders above a file", ErrTooMuch, maxDepth)
	}
	var was map[string]Known
	var is map[string]*github.TreeEntry
	var err error
	if had {
		if was, err = d.was(ctx, dir); err != nil {
			return err
		}
	}
	if hash != "" {
		if is, err = d.at.read(ctx, dir, hash); err != nil {
			return err
		}
	}
	names := slices.Collect(maps.Keys(was))
	for name := range is {
		if _, had := was[name]; !had {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		before, had := was[name]
		if err := d.entry(ctx, dir+"/"+name, before, had, is[name]); err != nil {
			return err
		}
	}
	return nil
}

// add reads a file as it is now.
func (d *since) add(ctx context.Context, p string, e *github.TreeEntry) error {
	if !validPath(p) {
		return fmt.Errorf("forge: reading what changed: %w: %q is no name for a file", ErrIncomplete, printable(p, 200))
	}
	f, err := fileOf(p, e)
	if err != nil {
		return err
	}
	if most := wanted(p, f.Mode); most > 0 && f.Size <= most {
		if d.bytes += f.Size; d.bytes > maxContent {
			return fmt.Errorf("forge: reading what changed: %w: more than %d bytes", ErrTooMuch, maxContent)
		}
		if f.Data, err = d.g.blob(ctx, f.Blob, f.Size); err != nil {
			return err
		}
	}
	return d.note(f)
}

func (d *since) note(f File) error {
	if len(d.files) >= maxFiles {
		return fmt.Errorf("forge: reading what changed: %w: more than %d files", ErrTooMuch, maxFiles)
	}
	d.files = append(d.files, f)
	return nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// held reports whether a list of entries is all that a folder holds: whether it
// makes git's name of that folder.
func held(entries []*github.TreeEntry, hash string) bool {
	sorted := slices.Clone(entries)
	name := func(e *github.TreeEntry) string {
		if e.GetType() == "tree" {
			return e.GetPath() + "/"
		}
		return e.GetPath()
	}
	slices.SortStableFunc(sorted, func(a, b *github.TreeEntry) int { return cmp.Compare(name(a), name(b)) })
	var body []byte
	for _, e := range sorted {
		raw, err := hex.DecodeString(e.GetSHA())
		if err != nil || len(raw) != sha1.Size {
			return false
		}
		body = fmt.Appendf(body, "%s %s\x00", strings.TrimLeft(e.GetMode(), "0"), e.GetPath())
		body = append(body, raw...)
	}
	h := sha1.New()
	fmt.Fprintf(h, "tree %d\x00", len(body))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil)) == hash
}
