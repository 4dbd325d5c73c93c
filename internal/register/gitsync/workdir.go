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
	"strings"
	"syscall"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"golang.org/x/sys/unix"
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

// Private is git's own folder of the checkout, where a program may keep what it
// knows of it: nothing that is committed gets there.
func (w *Workdir) Private(ctx context.Context) (string, error) {
	var dir string
	err := w.use(ctx, "looking for git's folder", func(_ context.Context, g *git.Repository) error {
		if s, ok := g.Storer.(*filesystem.Storage); ok {
			dir = s.Filesystem().Root()
		}
		return nil
	})
	return dir, err
}

// Close lets go of the folder. No question may be under way.
func (w *Workdir) Close() error {
	w.drop()
	return w.root.Close()
}

// DiskFiles lists the files on the disk below the given paths (all without
// any), as Files does for a commit: nothing of .git, symlinks as symlinks, a
// folder with a repository of its own as a submodule. The Hash is filled in
// where git's index knows it without a look into the file, see indexed.
func (w *Workdir) DiskFiles(ctx context.Context, under ...string) ([]Entry, error) {
	if len(under) == 0 {
		under = []string{"."}
	}
	l := listing{Workdir: w, index: w.indexed(ctx)}
	for _, p := range under {
		p = strings.Trim(path.Clean(p), "/")
		if p == "" {
			p = "."
		}
		if err := l.below(ctx, p); err != nil {
			return nil, fmt.Errorf("gitsync: listing %s: %w", filepath.Join(w.top, printable(p)), err)
		}
	}
	return settle(l.found), nil
}

// A listing collects files on the disk.
type listing struct {
	*Workdir
	index index
	found []Entry
}

// below adds what is at p.
func (l *listing) below(ctx context.Context, p string) error {
	info, err := l.lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fs.ErrInvalid
		}
		return l.note(p, stat{info.Mode(), st.Size, time.Unix(st.Mtim.Unix()), time.Unix(st.Ctim.Unix()), st.Ino})
	}
	d, err := l.root.Open(p)
	if err != nil {
		return err
	}
	defer d.Close()
	if p == "." {
		return l.folder(ctx, d, "")
	}
	return l.enter(ctx, d, p)
}

// enter adds a folder: its files, or itself where it is not to be entered.
func (l *listing) enter(ctx context.Context, d *os.File, p string) error {
	e := Entry{Path: p, Mode: Other, Odd: badName(path.Base(p))}
	if e.Odd == "" && len(p) > maxPath {
		e.Odd = fmt.Sprintf("the path is longer than %d bytes", maxPath)
	}
	if e.Odd == "" {
		if _, err := statAt(d, ".git"); err == nil {
			e.Mode = Submodule
			return l.add(e)
		}
		if strings.Count(p, "/") < maxDepth {
			return l.folder(ctx, d, p+"/")
		}
		e.Odd = tooDeep
	}
	return l.add(e)
}

// folder adds what is in an open folder; prefix is its path with a slash, or
// nothing.
func (l *listing) folder(ctx context.Context, d *os.File, prefix string) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		names, err := d.Readdirnames(1024)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(names) == 0 {
			return nil
		}
		for _, name := range names {
			if name == ".git" {
				continue
			}
			st, err := statAt(d, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone meanwhile
			}
			if err != nil {
				return err
			}
			if st.mode.IsDir() {
				err = l.descend(ctx, d, name, prefix+name)
			} else {
				err = l.note(prefix+name, st)
			}
			if err != nil {
				return err
			}
		}
	}
}

// descend enters a folder in an open one, if it is still one.
func (l *listing) descend(ctx context.Context, in *os.File, name, p string) error {
	fd, err := unix.Openat(int(in.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: p, Err: err}
	}
	d := os.NewFile(uintptr(fd), p)
	defer d.Close()
	return l.enter(ctx, d, p)
}

// A stat is what the disk says of a file.
type stat struct {
	mode              fs.FileMode
	size              int64 // bytes
	modified, changed time.Time
	inode             uint64
}

// statAt looks at a name in an open folder, and follows nothing.
func statAt(d *os.File, name string) (stat, error) {
	var s unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), name, &s, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return stat{}, &fs.PathError{Op: "lstat", Path: path.Join(d.Name(), name), Err: err}
	}
	mode := fs.FileMode(s.Mode & 0o777)
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return stat{mode, s.Size, time.Unix(s.Mtim.Unix()), time.Unix(s.Ctim.Unix()), s.Ino}, nil
}

// note adds a file.
func (l *listing) note(p string, st stat) error {
	e := Entry{Path: p, Mode: diskMode(st.mode), Size: st.size, Odd: badName(path.Base(p))}
	if e.Odd == "" && len(p) > maxPath {
		e.Odd = fmt.Sprintf("the path is longer than %d bytes", maxPath)
	}
	if e.Odd == "" {
		e.Hash = l.index.hash(p, st)
	}
	return l.add(e)
}

func (l *listing) add(e Entry) error {
	if len(l.found) >= maxFiles {
		return fmt.Errorf("%w: more than %d", ErrTooMany, maxFiles)
	}
	l.found = append(l.found, unusable(e))
	return nil
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
