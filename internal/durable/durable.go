// Package durable replaces small files so that a power cut leaves the old
// content or the new, never a mixture and never nothing.
//
// The order is always: write beside, sync the data, rename, sync the
// directory. Only then does a function return nil.
package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the file at path by data. When it returns nil, the new
// content and its name are on stable storage. On an error the old file stands
// and nothing is left beside it; only if the very last step failed, syncing the
// directory, the new one may stand already. A symbolic link at path is itself
// replaced, not followed.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	return WritePieces(path, perm, data)
}

// WritePieces is WriteFile for data in pieces, so that nobody need join them.
func WritePieces(path string, perm os.FileMode, pieces ...[]byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("durable: writing %s: %w", path, err)
		}
	}()
	if err := f.Chmod(perm); err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	for _, p := range pieces {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // data before name
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir) // name before acknowledgement
}

// SyncDir makes the entries of a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrTooLarge means that a file is longer than the reader is willing to hold.
var ErrTooLarge = errors.New("durable: file is too large")

// ReadFile reads a file of at most max bytes.
func ReadFile(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%w: %s is over %d bytes", ErrTooLarge, path, max)
	}
	return data, nil
}

// asideSuffix is what the name of a damaged file gets when it is put aside.
const asideSuffix = ".damaged"

// Aside is where Recover puts the file at path if it is damaged.
func Aside(path string) string { return path + asideSuffix }

// Recover gives decode the content of a file that a program can do without. No
// file is no content, and decode is not called. What decode refuses, and what
// is longer than most bytes, is put aside as Aside(path): damage says why, and
// whoever calls begins anew. err is what stops a program: a disk that cannot be
// read, or a file that cannot be put aside; damage may be there beside it.
func Recover(path string, most int64, decode func([]byte) error) (damage, err error) {
	data, err := ReadFile(path, most)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, ErrTooLarge):
		damage = err
	case err != nil:
		return nil, err
	default:
		damage = decode(data)
	}
	if damage == nil {
		return nil, nil
	}
	return damage, os.Rename(path, Aside(path))
}
