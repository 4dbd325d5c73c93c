package spool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Bounds on the files that are kept for the next bodies.
const (
	spareFiles  = 64
	spareOctets = 64 << 20 // of all of them
	spareLarge  = 4 << 20  // a larger one is removed
)

// bodyHead is how many octets a file has before its body: the ID of the entry
// and blanks, and CRLF. So who finds a file knows whose it is.
const bodyHead = 32

// bodyFiles are the files of the bodies that are longer than inlineMax. Their
// names mean nothing: a record says in which file its body is. A file whose
// record has gone for good is used again for another body, since to write over
// a file costs much less than to make one: the folder does not change, nor what
// the file system knows of the file, so there is less to bring to the disk.
//
// Each file is in one of three states. Free: nobody needs it. Written: a message
// is coming in. Kept: a record names it, or may. Only what is free is taken, and
// only what is kept is read. A file that is given back while it is read becomes
// free when its last reader has ended.
type bodyFiles struct {
	fs  vfs.FS
	dir string
	log *slog.Logger

	mu     sync.Mutex
	last   int64                // the number of the newest file; guarded by mu
	spare  []string             // the free ones; guarded by mu
	octets int64                // of these; guarded by mu
	files  map[string]*bodyFile // those that are free, written or read; guarded by mu
}

// A bodyFile is what is known of a file.
type bodyFile struct {
	state   fileState
	readers int
	size    int64 // octets; of a free one
	over    bool  // it is given back when its last reader ends
}

type fileState uint8

const (
	fileKept fileState = iota
	fileWritten
	fileFree
)

// fileName is the name of a file by its number.
func fileName(n int64) string { return fmt.Sprintf("body-%08d", n) }

// fileNumber is the number in the name of a file.
func fileNumber(name string) (n int64, ok bool) {
	digits, ok := strings.CutPrefix(name, "body-")
	if !ok || len(digits) < 8 {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil && n > 0 && fileName(n) == name
}

func (b *bodyFiles) path(name string) string { return b.fs.PathJoin(b.dir, name) }

// take opens a file for a body from its beginning; made says that its name is
// new, and must be brought to the disk as well.
func (b *bodyFiles) take(id ID) (name string, f vfs.File, made bool, err error) {
	if name = b.reserve(); name != "" {
		if f, made, err = b.reopen(name); err != nil {
			b.forget(name)
			name = ""
		}
	}
	if name == "" {
		name, made = b.newName(), true
		if f, err = b.fs.Create(b.path(name), vfs.WriteCategoryUnspecified); err != nil {
			b.forget(name)
			return "", nil, false, err
		}
	}
	if _, err := f.Write(bodyHeader(id)); err != nil {
		_ = f.Close()
		b.give(name, !made)
		return "", nil, false, err
	}
	return name, f, made, nil
}

// reopen opens a free file. If somebody has removed it, it is made again.
func (b *bodyFiles) reopen(name string) (f vfs.File, made bool, err error) {
	f, err = b.fs.OpenReadWrite(b.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, false, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, false, err
	}
	return f, info.Size() == 0, nil
}

func bodyHeader(id ID) []byte { return fmt.Appendf(nil, "%-*s\r\n", bodyHead-2, id) }

// reserve takes one of the free files; "" if there is none.
func (b *bodyFiles) reserve() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.spare) == 0 {
		return ""
	}
	name := b.spare[len(b.spare)-1]
	b.spare = b.spare[:len(b.spare)-1]
	b.files[name].state = fileWritten
	b.octets -= b.files[name].size
	return name
}

func (b *bodyFiles) newName() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	name := fileName(b.last)
	b.files[name] = &bodyFile{state: fileWritten}
	return name
}

// keep notes that a record names a file.
func (b *bodyFiles) keep(name string) { b.forget(name) }

// known is what is known of a file; what is not known is kept. The caller holds mu.
func (b *bodyFiles) known(name string) *bodyFile {
	f := b.files[name]
	if f == nil {
		f = &bodyFile{}
		b.files[name] = f
	}
	return f
}

// forget drops what is known of a file.
func (b *bodyFiles) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.files, name)
}

// give gives a file back that no record on stable storage names. It is used again
// only if its name lasts: whoever takes it does not look after that any more.
func (b *bodyFiles) give(name string, lasts bool) {
	size := int64(spareLarge + 1) // not to be used again
	if info, err := b.fs.Stat(b.path(name)); err == nil && lasts {
		size = info.Size()
	}
	b.mu.Lock()
	f := b.known(name)
	f.size = size
	if f.readers > 0 {
		f.over = true
		b.mu.Unlock()
		return
	}
	remove := !b.free(name, f)
	b.mu.Unlock()
	if remove {
		b.remove(name)
	}
}

// free makes a file free, and reports whether there is room for it among those.
// The caller holds mu.
func (b *bodyFiles) free(name string, f *bodyFile) bool {
	_, ours := fileNumber(name) // those of format 1 have the names of their entries
	if !ours || f.size > spareLarge || len(b.spare) >= spareFiles || b.octets+f.size > spareOctets {
		delete(b.files, name)
		return false
	}
	f.state, f.over = fileFree, false
	b.spare = append(b.spare, name)
	b.octets += f.size
	return true
}

// remove removes a file. What stays is collected by the next Open.
func (b *bodyFiles) remove(name string) {
	if err := b.fs.Remove(b.path(name)); err != nil && !isNotExist(err) {
		b.log.Warn("a body cannot be removed; the next start collects it", "event", "spool.remove_failed", "file", name, "err", err)
	}
}

// shrink removes the files that are free.
func (b *bodyFiles) shrink() {
	b.mu.Lock()
	names := b.spare
	b.spare, b.octets = nil, 0
	for _, name := range names {
		delete(b.files, name)
	}
	b.mu.Unlock()
	for _, name := range names {
		b.remove(name)
	}
}

// errNotItsFile means that a file does not have the body that a record says.
var errNotItsFile = errors.New("spool: the file is not that of the entry")

// open opens the body of an entry in a file, from the body's first octet. It
// fails if the file has another body; the record that named it may have gone
// since it was read.
func (b *bodyFiles) open(name string, id ID, size int64) (io.ReadCloser, error) {
	b.mu.Lock()
	f := b.known(name)
	if f.state != fileKept || f.over {
		b.mu.Unlock()
		return nil, fmt.Errorf("%w: it is used for another body", errNotItsFile)
	}
	f.readers++
	b.mu.Unlock()
	r := &fileReader{from: b, name: name}
	var err error
	if r.file, err = b.fs.Open(b.path(name)); err != nil {
		r.done()
		return nil, err
	}
	if _, ours := fileNumber(name); !ours { // of format 1: the body and nothing else
		r.Reader = r.file
		return r, nil
	}
	head := make([]byte, bodyHead)
	_, err = io.ReadFull(r.file, head)
	if err == nil && string(head) != string(bodyHeader(id)) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it does not begin with its ID", errNotItsFile)
	}
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	r.Reader = io.LimitReader(r.file, size) // behind it may be the rest of a longer one
	return r, nil
}

// find opens the file that begins with the ID of an entry, or has it for a name,
// behind its head; nil if there is none. It looks into all files.
func (b *bodyFiles) find(id ID) (io.ReadCloser, int64, error) {
	names, err := b.fs.List(b.dir)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		_, ours := fileNumber(name)
		if !ours && name != string(id) {
			continue
		}
		b.mu.Lock()
		f := b.files[name]
		kept := f == nil || f.state == fileKept && !f.over
		b.mu.Unlock()
		if !kept {
			continue
		}
		file, err := b.fs.Open(b.path(name))
		if err != nil {
			return nil, 0, err
		}
		info, err := file.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, file.Close())
		}
		if !ours {
			return file, info.Size(), nil
		}
		head := make([]byte, bodyHead)
		if _, err := io.ReadFull(file, head); err == nil && string(head) == string(bodyHeader(id)) {
			return file, info.Size() - bodyHead, nil
		}
		_ = file.Close()
	}
	return nil, 0, nil
}

// A fileReader reads a body from its file.
type fileReader struct {
	io.Reader
	from *bodyFiles
	name string
	file vfs.File
	over bool
}

func (r *fileReader) Close() error {
	if r.over {
		return nil
	}
	err := r.file.Close()
	r.done()
	return err
}

// done ends the use of the file.
func (r *fileReader) done() {
	b := r.from
	r.over = true
	b.mu.Lock()
	f := b.known(r.name)
	f.readers--
	remove := false
	switch {
	case f.readers > 0:
	case f.over:
		remove = !b.free(r.name, f)
	default:
		delete(b.files, r.name) // kept is what is not known
	}
	b.mu.Unlock()
	if remove {
		b.remove(r.name)
	}
}
