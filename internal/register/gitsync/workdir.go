package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	git "github.com/go-git/go-git/v5"
)

// A Workdir is a department's checkout of the register, for the command line:
// its commits are read through the Repo, the work in progress from the disk.
// Outside a git repository the disk can be read all the same, and every
// question to the Repo is answered by ErrNoRepository.
type Workdir struct {
	*Repo
	top  string
	root *os.Root
}

// OpenWorkdir opens the checkout that dir is in, from its topmost folder on.
func OpenWorkdir(dir string) (*Workdir, error) {
	fail := func(err error) (*Workdir, error) { return nil, fmt.Errorf("gitsync: opening %s: %w", dir, err) }
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fail(err)
	}
	top, inGit := topOf(abs)
	root, err := os.OpenRoot(top)
	if err != nil {
		return fail(err)
	}
	open := func() (*git.Repository, error) { return nil, ErrNoRepository }
	if inGit {
		open = func() (*git.Repository, error) { return openAt(top) }
	}
	return &Workdir{Repo: newRepo(time.Minute, open), top: top, root: root}, nil
}

// topOf finds the folder with .git in it, from dir upwards.
func topOf(dir string) (string, bool) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return at, true
		}
		if at == filepath.Dir(at) {
			return dir, false
		}
	}
}

// Top is the topmost folder of the checkout; paths are relative to it. Outside
// of git it is the folder given.
func (w *Workdir) Top() string { return w.top }

// Close lets go of the folder.
func (w *Workdir) Close() error { return w.root.Close() }

// DiskFiles lists the files on the disk below the given paths (all without
// any), as Files does for a commit: nothing of .git, symlinks as symlinks, a
// folder with a repository of its own as a submodule.
func (w *Workdir) DiskFiles(ctx context.Context, under ...string) ([]Entry, error) {
	if len(under) == 0 {
		under = []string{"."}
	}
	var found []Entry
	for _, p := range under {
		p = strings.Trim(path.Clean(p), "/")
		if p == "" {
			p = "."
		}
		if err := w.list(ctx, p, &found); err != nil {
			return nil, fmt.Errorf("gitsync: listing %s: %w", filepath.Join(w.top, printable(p)), err)
		}
	}
	return settle(found), nil
}

// list adds what is at p to found.
func (w *Workdir) list(ctx context.Context, p string, found *[]Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := w.lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	e := Entry{Path: p, Mode: diskMode(info.Mode()), Size: info.Size()}
	if p != "." {
		if e.Odd = badName(path.Base(p)); e.Odd == "" && len(p) > maxPath {
			e.Odd = fmt.Sprintf("the path is longer than %d bytes", maxPath)
		}
	}
	if info.IsDir() && e.Odd == "" {
		if p != "." {
			if _, err := w.root.Lstat(p + "/.git"); err == nil {
				e.Mode, e.Size = Submodule, 0
				return w.note(e, found)
			}
		}
		if p == "." || strings.Count(p, "/") < maxDepth {
			return w.listFolder(ctx, p, found)
		}
		e.Odd = tooDeep
	}
	return w.note(e, found)
}

func (w *Workdir) note(e Entry, found *[]Entry) error {
	if len(*found) >= maxFiles {
		return fmt.Errorf("%w: more than %d", ErrTooMany, maxFiles)
	}
	*found = append(*found, unusable(e))
	return nil
}

func (w *Workdir) listFolder(ctx context.Context, p string, found *[]Entry) error {
	d, err := w.root.Open(p)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1024)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(names) == 0 {
			return nil
		}
		slices.Sort(names)
		for _, name := range names {
			if name == ".git" {
				continue
			}
			if err := w.list(ctx, path.Join(p, name), found); err != nil {
				return err
			}
		}
	}
}

// lstat looks at a path without following a symlink at its end or on the way
// there: what is behind one is not there.
func (w *Workdir) lstat(p string) (fs.FileInfo, error) {
	for i, c := range p {
		if c != '/' {
			continue
		}
		info, err := w.root.Lstat(p[:i])
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
		}
	}
	return w.root.Lstat(p)
}

func diskMode(m fs.FileMode) Mode {
	switch {
	case m.IsRegular() && m&0o100 != 0:
		return Executable
	case m.IsRegular():
		return Regular
	case m&fs.ModeSymlink != 0:
		return Symlink
	}
	return Other
}

// DiskRead is the content of a regular file on the disk. One of more than max
// bytes is not read; the error is then a *TooLarge.
func (w *Workdir) DiskRead(_ context.Context, p string, max int64) ([]byte, error) {
	data, err := w.read(p, max)
	if err != nil {
		return nil, fmt.Errorf("gitsync: reading %s: %w", printable(p), err)
	}
	return data, nil
}

func (w *Workdir) read(p string, max int64) ([]byte, error) {
	if !fs.ValidPath(p) {
		return nil, fs.ErrInvalid
	}
	before, err := w.lstat(p)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("it is a %s: %w", diskMode(before.Mode()), fs.ErrInvalid)
	}
	// Not blocking: were it a pipe by now, opening it would wait for ever.
	f, err := w.root.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(before, info) {
		return nil, errors.New("it was exchanged while being opened")
	}
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, &TooLarge{Size: info.Size(), Max: max}
	}
	return data, nil
}
