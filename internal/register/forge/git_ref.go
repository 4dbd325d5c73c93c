package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"example.edu/gatepost/internal/durable"
)

const (
	lockFor   = 2 * time.Second // that another program may hold a reference
	lockRetry = 20 * time.Millisecond
)

// errRaced says that a reference is no longer what it was when it was read.
var errRaced = errors.New("another program was faster")

// refFile writes a complete reference to a file of its own, synced, and returns
// how to remove it. It is not among the references: git would take a left-over
// for one.
func (g *Git) refFile(head plumbing.Hash) (path string, drop func() error, err error) {
	f, err := os.CreateTemp(g.gitDir, "gatepost-ref-*")
	if err != nil {
		return "", nil, err
	}
	drop = func() error {
		if err := os.Remove(f.Name()); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	_, err = fmt.Fprintln(f, head)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return "", nil, errors.Join(err, drop())
	}
	return f.Name(), drop, nil
}

// link makes a reference that must not be there yet.
func (g *Git) link(from, ref string) error {
	to := filepath.Join(g.gitDir, filepath.FromSlash(ref))
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	if err := os.Link(from, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// swap moves a reference from one commit to another, by git's own protocol, so
// that a push at the same time and this exclude one another: whoever makes
// REF.lock may read REF and replace it by renaming. was is zero for one that is
// not there yet. The error is errRaced if it is something else by now. When swap
// returns nil, the change is on stable storage.
//
// A crash within leaves the lock, as one of git's would, and every later change
// is refused with its name until somebody removes it.
func (g *Git) swap(ctx context.Context, repo *git.Repository, name plumbing.ReferenceName, was, is plumbing.Hash) (err error) {
	file, drop, err := g.refFile(is)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	ref := filepath.Join(g.gitDir, filepath.FromSlash(name.String()))
	unlock, err := lock(ctx, file, ref)
	if err != nil {
		return err
	}
	now := plumbing.ZeroHash
	if at, err := repo.Storer.Reference(name); err == nil {
		now = at.Hash()
	} else if !errors.Is(err, plumbing.ErrReferenceNotFound) {
		return errors.Join(err, unlock())
	}
	if now != was {
		return errors.Join(fmt.Errorf("%w: %s is %s", errRaced, name, now), unlock())
	}
	if err := os.Rename(ref+".lock", ref); err != nil {
		return errors.Join(err, unlock())
	}
	return durable.SyncDir(filepath.Dir(ref))
}

// remove takes a reference away, if it is still what it was.
func (g *Git) remove(ctx context.Context, repo *git.Repository, name plumbing.ReferenceName, was plumbing.Hash) (err error) {
	file, drop, err := g.refFile(was)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	ref := filepath.Join(g.gitDir, filepath.FromSlash(name.String()))
	unlock, err := lock(ctx, file, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	at, err := repo.Storer.Reference(name)
	if err != nil {
		return err
	}
	if at.Hash() != was {
		return fmt.Errorf("%w: %s is %s", errRaced, name, at.Hash())
	}
	if err := repo.Storer.RemoveReference(name); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(ref))
}

// lock makes REF.lock, waiting a moment for whoever has it. The file that it is
// made of is complete: a lock that is left over says what it was to become.
func lock(ctx context.Context, file, ref string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(ref), 0o777); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockFor)
	defer cancel()
	for {
		err := os.Link(file, ref+".lock")
		if err == nil {
			return func() error { return os.Remove(ref + ".lock") }, nil
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		timer := time.NewTimer(lockRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w: %s.lock is there: another program is changing this reference, or died while it did", ErrConflict, ref)
		}
	}
}

// settle makes objects durable that were written just now. Those that are in no
// file of their own are in a pack, and were there before.
func (g *Git) settle(made ...plumbing.Hash) error {
	for _, h := range made {
		dir := filepath.Join(g.gitDir, "objects", h.String()[:2])
		f, err := os.Open(filepath.Join(dir, h.String()[2:]))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close(), durable.SyncDir(dir)); err != nil {
			return err
		}
	}
	return durable.SyncDir(filepath.Join(g.gitDir, "objects"))
}
