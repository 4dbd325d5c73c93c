package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"example.edu/gatepost/internal/durable"
)

// syncers is how many files of an export are closed at a time, and synced where
// that is done for each.
const syncers = 32

// Unpack writes an export into a folder, which must be new or empty. When it
// returns nil everything is on stable storage. export.json is the last to be
// written. After an error it leaves nothing behind. tell is told how many
// messages there are so far; nil: nobody.
func Unpack(ctx context.Context, from io.Reader, dir string, tell func(int)) (all Summary, err error) {
	made, err := emptyFolder(dir)
	if err != nil {
		return all, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return all, fmt.Errorf("archive: %w", err)
	}
	defer root.Close()
	u := &unpacker{root: root, whole: made, tar: tar.NewReader(from)}
	defer func() {
		if err == nil {
			return
		}
		if made {
			err = errors.Join(err, os.RemoveAll(dir))
			return
		}
		for _, name := range slices.Backward(u.names) {
			err = errors.Join(err, root.Remove(name))
		}
	}()
	var g errgroup.Group
	g.SetLimit(syncers)
	all, err = u.files(ctx, &g, tell)
	if err = errors.Join(err, g.Wait()); err != nil {
		return all, err
	}
	if err := u.sync(); err != nil {
		return all, err
	}
	if u.damaged {
		if err := durable.SyncDir(dir + "/damaged"); err != nil {
			return all, fmt.Errorf("archive: %w", err)
		}
	}
	if err := durable.SyncDir(dir); err != nil { // all names, before the one that says so
		return all, fmt.Errorf("archive: %w", err)
	}
	return all, durable.WriteFile(dir+"/"+SummaryFile, u.summary, 0o600)
}

// emptyFolder makes a folder, or finds that it is empty.
func emptyFolder(dir string) (made bool, err error) {
	if err := os.Mkdir(dir, 0o700); err == nil {
		return true, nil
	} else if !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("archive: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return false, fmt.Errorf("archive: %w", err)
	}
	defer d.Close()
	switch _, err := d.ReadDir(1); {
	case errors.Is(err, io.EOF):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("archive: %w", err)
	}
	return false, fmt.Errorf("archive: %s: %w, and is not empty", dir, fs.ErrExist)
}

type unpacker struct {
	root    *os.Root
	whole   bool // the folder is ours to remove
	tar     *tar.Reader
	names   []string // that were made in a folder that is not ours to remove, the newest last
	damaged bool
	summary []byte
}

// files writes all but export.json.
func (u *unpacker) files(ctx context.Context, g *errgroup.Group, tell func(int)) (all Summary, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		h, err := u.tar.Next()
		switch {
		case errors.Is(err, io.EOF) && u.summary == nil:
			return all, fmt.Errorf("archive: it broke off: %w", io.ErrUnexpectedEOF)
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, fmt.Errorf("archive: reading: %w", err)
		}
		if h.Name == SummaryFile {
			r := &reader{tar: u.tar}
			var text bytes.Buffer
			if _, err := io.Copy(&text, io.LimitReader(u.tar, 4<<10)); err != nil {
				return all, fmt.Errorf("archive: reading: %w", err)
			}
			if err := r.decodeSummary(bytes.NewReader(text.Bytes())); err != nil {
				return all, err
			}
			all, u.summary = r.summary, text.Bytes()
			continue
		}
		_, suffix, damaged, ok := parseName(h.Name)
		if !ok || !isRegular(h) {
			return all, fmt.Errorf("archive: %q is no file of an export", printable(h.Name))
		}
		if damaged && !u.damaged {
			u.damaged = true
			if err := u.root.Mkdir("damaged", 0o700); err != nil {
				return all, fmt.Errorf("archive: %w", err)
			}
			u.made("damaged")
		}
		if err := u.file(h.Name, g); err != nil {
			return all, err
		}
		if suffix == jsonSuffix && !damaged {
			all.Messages++
			if tell != nil {
				tell(all.Messages)
			}
		}
	}
}

// sync brings all files to the disk.
func (u *unpacker) sync() error {
	dir, err := u.root.Open(".")
	if err == nil {
		err = errors.Join(syncFolder(dir), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("archive: bringing it to the disk: %w", err)
	}
	return nil
}

// made notes what is to be removed if the export fails.
func (u *unpacker) made(name string) {
	if !u.whole {
		u.names = append(u.names, name)
	}
}

// file writes one file, and has it brought to the disk.
func (u *unpacker) file(name string, g *errgroup.Group) error {
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	u.made(name)
	if _, err := io.Copy(f, u.tar); err != nil {
		return errors.Join(fmt.Errorf("archive: writing %s: %w", name, err), f.Close())
	}
	g.Go(func() error {
		if err := closeFile(f); err != nil {
			return fmt.Errorf("archive: writing %s: %w", name, err)
		}
		return nil
	})
	return nil
}

// Pack reads a folder as Unpack leaves it, and writes it as a tar stream. Only
// plain files with the name of a message are read, and no link is followed.
// What else is there, or is not as it should be, is told to skipped and passed
// over. tell is told how many messages were read so far; nil: nobody.
func Pack(ctx context.Context, dir string, to io.Writer, skipped func(Refusal), tell func(int)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer root.Close()
	list, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer list.Close()
	p := &packer{root: root, tar: tar.NewWriter(to), skipped: skipped}
	for {
		entries, err := list.ReadDir(1024)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("archive: reading %s: %w", dir, err)
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := p.entry(e.Name()); err != nil {
				return err
			}
			if tell != nil {
				tell(p.n)
			}
		}
	}
	if err := p.copy(SummaryFile, 4<<10); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.tar.Close(); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

type packer struct {
	root    *os.Root
	tar     *tar.Writer
	skipped func(Refusal)
	n       int
}

// errSkip is of a file that is not taken.
var errSkip = errors.New("archive: not taken")

func (p *packer) entry(name string) error {
	id, suffix, _, ok := parseName(name)
	switch {
	case name == SummaryFile || name == strings.TrimSuffix(damagedFolder, "/"):
		return nil
	case ok && suffix == bodySuffix:
		if _, err := p.root.Lstat(string(id) + jsonSuffix); errors.Is(err, fs.ErrNotExist) {
			p.skipped(Refusal{name, "there is no " + string(id) + jsonSuffix + " beside it"})
		}
		return nil // it goes with that
	case !ok:
		p.skipped(Refusal{printable(name), "this is no file of an export"})
		return nil
	}
	body := string(id) + bodySuffix
	if _, err := p.plain(body, MaxBody); err != nil { // before its envelope is written
		return p.skip(body, err)
	}
	if err := p.copy(name, MaxJSON); err != nil {
		return p.skip(name, err)
	}
	p.n++
	return p.copy(body, MaxBody) // the stream cannot go on without it
}

// skip passes over what is not as it should be.
func (p *packer) skip(name string, err error) error {
	if errors.Is(err, errSkip) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		p.skipped(Refusal{name, err.Error()})
		return nil
	}
	return err
}

// plain is an error unless a name is a plain file of at most so many octets.
func (p *packer) plain(name string, most int64) (fs.FileInfo, error) {
	info, err := p.root.Lstat(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("archive: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: it is no plain file", errSkip)
	case info.Size() > most:
		return nil, fmt.Errorf("%w: it has %d octets; %d are the most", errSkip, info.Size(), most)
	}
	return info, nil
}

// copy writes one file into the stream.
func (p *packer) copy(name string, most int64) error {
	seen, err := p.plain(name, most)
	if err != nil {
		return err
	}
	f, err := p.root.Open(name)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if !os.SameFile(seen, info) {
		return fmt.Errorf("%w: it was replaced meanwhile", errSkip)
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o600, Format: tar.FormatPAX}
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if n, err := io.Copy(p.tar, io.LimitReader(f, info.Size())); err != nil || n != info.Size() {
		return fmt.Errorf("archive: reading %s: %d of %d octets: %w", name, n, info.Size(), errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil
}
