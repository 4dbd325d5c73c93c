package review

import (
	"context"
	"errors"
	"fmt"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// Folder is where the register is in its repository.
const Folder = "registrations"

// maxSite bounds what is read of the site's rules, in bytes; the parser has a
// bound of its own.
const maxSite = 1 << 20

// ErrTooLarge says that the files of a register are more than the relay takes
// over.
var ErrTooLarge = fmt.Errorf("the files below %s/ have more than %d MiB together", Folder, registration.MaxRegister>>20)

// Commits are those of a repository on this disk; a gitsync.Repo is one.
type Commits interface {
	Files(ctx context.Context, commit gitsync.Hash, under ...string) ([]gitsync.Entry, error)
	Read(ctx context.Context, blob gitsync.Hash, max int64) ([]byte, error)
}

// At reads the register as it is in a commit. What the shelf, which may be nil,
// knows is left where it is.
func At(ctx context.Context, c Commits, commit gitsync.Hash, shelf *Shelf) (Tree, error) {
	return read(ctx, c, commit, func(site []byte) func(gitsync.Entry, int64) ([]byte, error) {
		return shelf.Left(site, func(e gitsync.Entry, max int64) ([]byte, error) { return c.Read(ctx, e.Hash, max) })
	})
}

// NamesAt is At with the names of the contents alone, for Merge.
func NamesAt(ctx context.Context, c Commits, commit gitsync.Hash) (Tree, error) {
	return read(ctx, c, commit, func([]byte) func(gitsync.Entry, int64) ([]byte, error) {
		return func(gitsync.Entry, int64) ([]byte, error) { return nil, nil }
	})
}

func read(ctx context.Context, c Commits, commit gitsync.Hash, content func(site []byte) func(gitsync.Entry, int64) ([]byte, error)) (Tree, error) {
	t := Tree{Commit: commit.String()}
	entries, err := c.Files(ctx, commit, SitePath)
	if err != nil {
		return t, err
	}
	if t.Site, err = Site(entries, func(e gitsync.Entry, max int64) ([]byte, error) { return c.Read(ctx, e.Hash, max) }); err != nil {
		return t, err
	}
	if entries, err = c.Files(ctx, commit, Folder); err != nil {
		return t, err
	}
	t.Sources, err = Sources(entries, content(t.Site))
	return t, err
}

// Sources reads what the parser wants to see of entries: nothing of files that
// are none of the register's, no content of what is no regular file, and of a
// file over the limit its size alone (content says so with a gitsync.TooLarge), or
// of one that is known (ErrLeft).
func Sources(entries []gitsync.Entry, content func(e gitsync.Entry, max int64) ([]byte, error)) ([]Source, error) {
	sources := make([]Source, 0, len(entries))
	total := int64(0)
	for _, e := range entries {
		kind := registration.Kind(e.Path)
		if kind == registration.KindIgnored {
			continue
		}
		s := Source{
			Source: registration.Source{Path: e.Path, Mode: e.Mode.Register(), Size: max(e.Size, 0)},
			Odd:    e.Odd, Unusable: e.Unusable, Blob: e.Hash.String(),
		}
		if s.Mode == registration.Regular && !s.Unusable && kind != registration.KindMisplaced {
			data, err := content(e, maxSize(kind))
			if tooLarge, ok := errors.AsType[*gitsync.TooLarge](err); ok {
				s.Size = tooLarge.Size
			} else if errors.Is(err, ErrLeft) {
				s.Left = true
			} else if err != nil {
				return nil, err
			} else {
				s.Data, s.Size = data, int64(len(data))
			}
		}
		if total += int64(len(s.Data)); total > registration.MaxRegister {
			return nil, ErrTooLarge
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// Site reads the site's rules out of what stands at SitePath, which may be
// nothing.
func Site(entries []gitsync.Entry, content func(e gitsync.Entry, max int64) ([]byte, error)) ([]byte, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	if entries[0].Mode.Register() != registration.Regular {
		return nil, fmt.Errorf("%w: it is a %s, and must be a regular file", ErrSite, entries[0].Mode)
	}
	return content(entries[0], maxSite)
}

func maxSize(kind registration.FileKind) int64 {
	if kind == registration.KindCampus {
		return registration.MaxCampusFile
	}
	return registration.MaxFile
}
