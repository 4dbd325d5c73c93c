package trace

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.edu/gatepost/internal/relay/spool"
)

// A file is named for when it was begun, in microseconds since 1970 with
// leading zeros, so that names sort as time does.
const (
	suffix     = ".json"
	nameDigits = 16
)

// Run writes what is noted, until ctx ends; then it writes the rest. It must
// end after all that notes something.
func (b *Book) Run(ctx context.Context) error {
	tidy := time.NewTicker(time.Hour)
	defer tidy.Stop()
	write := time.NewTimer(writeAfter)
	defer write.Stop()
	b.write()
	for {
		select {
		case <-ctx.Done():
			b.write()
			b.filing.Lock()
			defer b.filing.Unlock()
			b.close()
			return nil
		case <-tidy.C:
			b.filing.Lock()
			b.prune()
			b.filing.Unlock()
			continue
		case <-b.wake:
		}
		write.Reset(writeAfter)
		select {
		case <-ctx.Done(): // and the rest is written above
		case <-write.C:
			b.write()
		case <-b.much:
			b.write()
		}
	}
}

// write brings what is pending to the files. What cannot be written is lost.
func (b *Book) write() {
	b.filing.Lock()
	defer b.filing.Unlock()
	b.mu.Lock()
	pending, lost := b.pending, b.lost
	b.pending, b.lost = b.spare, 0
	b.mu.Unlock()
	b.spare = pending[:0]
	if len(pending) == 0 && lost == 0 {
		return
	}
	err := b.append(pending)
	if err == nil && lost > 0 {
		err = fmt.Errorf("trace: %d ends of messages came faster than the disk takes them", lost)
	}
	if err != nil && !b.failed {
		b.log.Warn("what became of messages is not remembered in full", "event", "trace.failed", "err", err)
	}
	b.failed = err != nil
}

// append writes whole lines to the newest file, or begins another one. The
// caller holds filing.
func (b *Book) append(lines []byte) error {
	if b.file != nil && (b.size+int64(len(lines)) > maxFile || b.now().Sub(b.begun) > maxFileAge) {
		b.close()
	}
	if b.file == nil {
		if err := b.open(int64(len(lines))); err != nil {
			return fmt.Errorf("trace: opening a file: %w", err)
		}
		b.prune()
	}
	n, err := b.file.Write(lines)
	b.size += int64(n)
	if err != nil {
		b.close() // the next one begins a line of its own
		return fmt.Errorf("trace: writing: %w", err)
	}
	return nil
}

// open opens the newest file if n octets have room in it, or else another one.
func (b *Book) open(n int64) error {
	now := b.now()
	names, _ := b.names() // none: another one
	if len(names) > 0 {
		if done, err := b.goOn(names[len(names)-1], now, n); done {
			return err
		}
	}
	name := fmt.Sprintf("%0*d%s", nameDigits, now.UnixMicro(), suffix)
	f, err := os.OpenFile(filepath.Join(b.dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	b.file, b.size, b.begun = f, 0, now
	return nil
}

// goOn opens a file that has room for n octets more, to write behind what it
// holds. It is not done with one that is full, old, or no file of ours.
func (b *Book) goOn(name string, now time.Time, n int64) (done bool, err error) {
	path := filepath.Join(b.dir, name)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size()+n >= maxFile || now.Sub(beginOf(name)) > maxFileAge || beginOf(name).After(now) {
		return false, nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return false, nil
	}
	// A line that a crash has cut ends here.
	k, err := f.WriteString("\n")
	if err != nil {
		return true, errors.Join(err, f.Close())
	}
	b.file, b.size, b.begun = f, info.Size()+int64(k), beginOf(name)
	return true, nil
}

func (b *Book) close() {
	if b.file != nil {
		_ = b.file.Close() // nothing depends on it
		b.file = nil
	}
}

// prune removes the oldest files, until there is room for another one, and
// those whose time is over. The caller holds filing.
func (b *Book) prune() {
	names, err := b.names()
	if err != nil {
		return
	}
	var total int64
	for i, name := range slices.Backward(names) {
		info, err := os.Lstat(filepath.Join(b.dir, name))
		if err != nil {
			continue
		}
		newest := i == len(names)-1
		if newest {
			total = maxFile // it may become as long
		} else {
			total += info.Size()
		}
		over := b.now().Sub(info.ModTime()) > KeepFor
		if !newest && total > MaxBytes || over && !(newest && b.file != nil) {
			_ = os.Remove(filepath.Join(b.dir, name)) // it is tried again
		}
	}
}

// names are those of the files, the oldest first.
func (b *Book) names() (names []string, err error) {
	entries, err := os.ReadDir(b.dir) // sorted
	for _, e := range entries {
		if digits, ok := strings.CutSuffix(e.Name(), suffix); ok && len(digits) == nameDigits && e.Type().IsRegular() && !beginOf(e.Name()).IsZero() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// beginOf is when a file was begun; zero if its name does not tell.
func beginOf(name string) time.Time {
	n, err := strconv.ParseInt(strings.TrimSuffix(name, suffix), 10, 64)
	if err != nil || n < 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// Find returns what is remembered of a message: its own records and that of
// the message which it is a DSN about, the oldest first. since is how far back
// the memory goes. One caller at a time reads the files; a line that makes no
// sense is passed over.
func (b *Book) Find(ctx context.Context, id spool.ID) (found []Record, since time.Time, err error) {
	b.filing.Lock()
	defer b.filing.Unlock()
	names, err := b.names()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, since, fmt.Errorf("trace: reading: %w", err)
	}
	since = b.now().UTC()
	oldest := since.Add(-KeepFor)
	keep := func(r Record) {
		if (r.ID == id || r.DSN == id) && r.At.After(oldest) {
			found = append(found, r)
		}
	}
	for i, name := range names {
		if i == 0 {
			since = beginOf(name)
		}
		if err := b.search(ctx, name, id, keep); err != nil {
			return nil, since, err
		}
	}
	b.mu.Lock()
	pending := slices.Clone(b.pending)
	b.mu.Unlock()
	if err := each(ctx, bytes.NewReader(pending), id, keep); err != nil {
		return nil, since, err
	}
	if since.Before(oldest) {
		since = oldest
	}
	return found, since, nil
}

func (b *Book) search(ctx context.Context, name string, id spool.ID, keep func(Record)) error {
	f, err := os.Open(filepath.Join(b.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("trace: reading: %w", err)
	}
	defer f.Close()
	return each(ctx, f, id, keep)
}

// each calls keep with the records that have an ID.
func each(ctx context.Context, in io.Reader, id spool.ID, keep func(Record)) error {
	word := []byte(`"` + string(id) + `"`)
	lines := bufio.NewReaderSize(in, 2*maxLine)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := lines.ReadSlice('\n')
		if err == nil && bytes.Contains(line, word) {
			r := Record{}
			if json.Unmarshal(line, &r) == nil {
				keep(r)
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil && err != bufio.ErrBufferFull: // a line that is too long is passed over, piece by piece
			return fmt.Errorf("trace: reading: %w", err)
		}
	}
}
