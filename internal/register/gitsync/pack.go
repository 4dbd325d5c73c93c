package gitsync

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// Bounds on what a pack unpacks to. go-git holds each object in memory while it
// indexes a pack, and a megabyte of pack can hold a gigabyte of zeros, in a
// commit of a pull request that a later one takes back so that nobody sees it.
const (
	defaultMaxObject = 128 << 20 // bytes of one object
	maxUnpacked      = 32 << 30  // bytes of all objects of one pack
)

// store puts a pack into the repository at dir, after a look at what it would
// unpack to. It is in place as a whole or not at all.
func store(ctx context.Context, dir string, g *git.Repository, pack io.Reader, maxObject int64) (err error) {
	folder := filepath.Join(dir, "objects", "pack")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, "tmp_incoming_*") // after a crash, prepare removes it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := io.Copy(f, pack); err != nil {
		return err
	}
	for _, use := range []func(io.Reader) error{
		func(r io.Reader) error { return inspect(ctx, r, maxObject) },
		func(r io.Reader) error { return packfile.UpdateObjectStorage(g.Storer, r) },
	} {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := use(f); err != nil {
			return err
		}
	}
	return nil
}

// inspect reads a pack and holds it to the bounds, in constant memory.
func inspect(ctx context.Context, pack io.Reader, maxObject int64) error {
	s := packfile.NewScanner(pack)
	_, count, err := s.Header()
	if err != nil {
		return err
	}
	total := int64(0)
	for range count {
		h, err := s.NextObjectHeader()
		if err != nil {
			return err
		}
		size := h.Length
		if size <= maxObject {
			content := &head{ctx: ctx}
			if _, _, err := s.NextObject(content); err != nil {
				return err
			}
			if h.Type == plumbing.OFSDeltaObject || h.Type == plumbing.REFDeltaObject {
				size = content.deltaTarget()
			}
		}
		if size < 0 || size > maxObject {
			return fmt.Errorf("an object of the repository's history is %w of %d bytes", ErrTooLarge, maxObject)
		}
		if total += size; total > maxUnpacked {
			return fmt.Errorf("what the repository's host sent unpacks to %w of %d bytes", ErrTooLarge, int64(maxUnpacked))
		}
	}
	return nil
}

// A head keeps the beginning of what is written to it, until ctx ends.
type head struct {
	ctx  context.Context
	kept []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p[:min(len(p), 2*binary.MaxVarintLen64-len(h.kept))]...)
	return len(p), h.ctx.Err()
}

// deltaTarget is the size of what a delta makes: the second number at its
// beginning, after the size of what it is applied to. -1 if there is none.
func (h *head) deltaTarget() int64 {
	_, n := binary.Uvarint(h.kept)
	if n <= 0 {
		return -1
	}
	size, m := binary.Uvarint(h.kept[n:])
	if m <= 0 || size > 1<<62 {
		return -1
	}
	return int64(size)
}
