package gitsync

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	format "github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// maxIndex bounds the file that is read, in bytes: a quarter of a million files
// take less.
const maxIndex = 128 << 20

// An index tells what git found in a file when it looked last. The zero index
// knows nothing.
type index struct {
	entries map[string]*format.Entry
	written time.Time
}

// indexed reads git's index of the checkout. What cannot be read is not known,
// and then the files themselves tell.
func (w *Workdir) indexed(ctx context.Context) index {
	var known index
	_ = w.use(ctx, "reading the index", func(_ context.Context, g *git.Repository) error {
		s, ok := g.Storer.(*filesystem.Storage)
		if !ok {
			return nil
		}
		info, err := os.Stat(filepath.Join(s.Filesystem().Root(), "index"))
		if err != nil || info.Size() > maxIndex {
			return nil
		}
		all, err := s.Index()
		if err != nil {
			return nil
		}
		known.written = info.ModTime()
		known.entries = make(map[string]*format.Entry, len(all.Entries))
		for _, e := range all.Entries {
			const merged = 0 // the library's constant of that name is 1
			if e.Stage == merged && !e.IntentToAdd && !e.SkipWorktree {
				known.entries[e.Name] = e
			}
		}
		return nil
	})
	return known
}

// hash is git's name for the content of a file that has not changed since git
// looked; the zero Hash where that is not certain. As in git itself, a file
// that was changed when the index was written, or later, may have changed once
// more without a trace.
func (x index) hash(p string, st stat) Hash {
	e := x.entries[p]
	if e == nil || !st.mode.IsRegular() || st.size > math.MaxUint32 {
		return Hash{}
	}
	executable := e.Mode == filemode.Executable
	switch {
	case !executable && e.Mode != filemode.Regular,
		executable != (st.mode&0o100 != 0),
		uint32(st.size) != e.Size,
		uint32(st.inode) != e.Inode,
		!st.modified.Equal(e.ModifiedAt),
		!st.changed.Equal(e.CreatedAt), // of the inode: the time that nobody can set
		!st.modified.Before(x.written):
		return Hash{}
	}
	return Hash(e.Hash)
}

// BlobHash is git's name for a content.
func BlobHash(data []byte) Hash { return Hash(plumbing.ComputeHash(plumbing.BlobObject, data)) }
