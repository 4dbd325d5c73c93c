// Package watch tells when the content of a few files has changed: the
// configuration, a certificate, a token.
//
// It watches folders, not files, because editors and deployment tools replace
// files and swap symbolic links rather than write in place; it follows each
// link of the way, so that the swap of a folder far up is seen as well. A
// notice from the system is a hint only: what counts is a hash of the content,
// taken after things have been quiet for a moment, and a slow poll finds what
// the system did not tell. So nothing is announced that did not change, and
// nothing is missed for longer than the poll.
//
// It never reads into a file's meaning and keeps no content.
package watch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	maxFile  = 16 << 20 // bytes hashed of one file; of a longer one, size and time count too
	maxLinks = 40       // symbolic links followed on the way to one file, as Linux does
	maxQuiet = 10       // debounces after which a never-ending stream of events is looked at all the same
)

// Files calls changed each time the content of one of paths has become
// different, a file that appears or vanishes included, until ctx ends, whose
// error it then returns. It calls changed one at a time and from its own
// goroutine; what happens during a call leads to another.
//
// The content that counts as known is that at the call of Files. A caller who
// must not miss a change between its own first reading and this call uses New
// first, then reads, then calls Run.
//
// Debounce is how long to wait for quiet after an event, poll how often to look
// without one; both must be positive.
func Files(ctx context.Context, paths []string, debounce, poll time.Duration, changed func()) error {
	w, err := New(paths)
	if err != nil {
		return err
	}
	return w.Run(ctx, debounce, poll, changed)
}

// A Watcher has taken note of some files' content. It is for one Run.
type Watcher struct {
	paths   []string
	known   []print
	notify  *fsnotify.Watcher      // nil: the system offers none, and the poll does it alone
	folders map[string]os.FileInfo // watched, as they were when the watch began
}

// New takes note of the content of paths as it is now; none of them has to
// exist. Close it, or Run it.
func New(paths []string) (*Watcher, error) {
	w := &Watcher{folders: map[string]os.FileInfo{}}
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
		w.paths = append(w.paths, abs)
	}
	// Out of inotify instances is no reason to do without the relay.
	if n, err := fsnotify.NewWatcher(); err == nil {
		w.notify = n
	}
	w.settle()
	return w, nil
}

// Close ends the watch of a Watcher that was not Run.
func (w *Watcher) Close() error {
	if w.notify == nil {
		return nil
	}
	return w.notify.Close()
}

// Run announces changes since New, as Files does.
func (w *Watcher) Run(ctx context.Context, debounce, poll time.Duration, changed func()) error {
	defer w.Close()
	if debounce <= 0 || poll <= 0 {
		return errors.New("watch: debounce and poll must be positive")
	}
	var events chan fsnotify.Event
	var failures chan error
	if w.notify != nil {
		events, failures = w.notify.Events, w.notify.Errors
	}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	quiet := time.NewTimer(debounce)
	defer quiet.Stop()
	quiet.Stop()
	var since time.Time // of the first event not looked at; zero: there is none
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			now := time.Now()
			if since.IsZero() {
				since = now
			}
			quiet.Reset(max(0, min(debounce, since.Add(maxQuiet*debounce).Sub(now))))
			continue
		case _, ok := <-failures: // an overflow, mostly: events were lost, so look
			if !ok {
				failures = nil
				continue
			}
			if since.IsZero() {
				since = time.Now()
				quiet.Reset(debounce)
			}
			continue
		case <-quiet.C:
			since = time.Time{}
		case <-ticker.C:
		}
		if w.settle() {
			changed()
		}
	}
}

// settle brings the watched folders and the known content up to date, in this
// order, so that what changes in between is still told; it reports whether the
// content was different.
func (w *Watcher) settle() bool {
	w.rewatch()
	different := len(w.known) == 0 && len(w.paths) > 0
	first := different
	if first {
		w.known = make([]print, len(w.paths))
	}
	for i, p := range w.paths {
		now := look(p)
		if now != w.known[i] {
			w.known[i], different = now, true
		}
	}
	return different && !first
}

// rewatch watches every folder that decides what the paths lead to, and lets go
// of the others. A folder that was replaced is watched anew: the watch stays
// with the old one, wherever that has gone.
func (w *Watcher) rewatch() {
	if w.notify == nil {
		return
	}
	// Adding a watch can race with a swap further up, so go on until the way
	// has not changed; the poll mends what a hectic swapper leaves.
	for range 3 {
		wanted := map[string]os.FileInfo{}
		for _, p := range w.paths {
			for _, dir := range way(p) {
				if info, err := os.Stat(dir); err == nil && info.IsDir() {
					wanted[dir] = info
				}
			}
		}
		steady := true
		for dir, was := range w.folders {
			if now, ok := wanted[dir]; !ok || !os.SameFile(was, now) {
				_ = w.notify.Remove(dir) // it may have gone with the folder
				delete(w.folders, dir)
			}
		}
		for dir, info := range wanted {
			if _, ok := w.folders[dir]; ok {
				continue
			}
			steady = false
			if w.notify.Add(dir) == nil {
				w.folders[dir] = info
			}
		}
		if steady {
			return
		}
	}
}

// way lists the folders on the way to path whose entries decide what it leads
// to: that of each symbolic link, and the folder of the file and that folder's
// own, or what there is of them.
func way(path string) []string {
	var dirs []string
	at := "/"
	rest := strings.Split(strings.TrimPrefix(filepath.Clean(path), "/"), "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		if len(rest) <= 1 { // the last two names
			dirs = append(dirs, at)
		}
		info, err := os.Lstat(filepath.Join(at, name))
		if err != nil {
			return append(dirs, at) // the nearest that exists
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = filepath.Join(at, name)
			continue
		}
		dirs = append(dirs, at)
		target, err := os.Readlink(filepath.Join(at, name))
		if links++; err != nil || links > maxLinks {
			return dirs
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return dirs
}

// A print is what is remembered of a file: two prints differ if the contents
// do. The zero print is a file that cannot be read.
type print struct {
	present bool
	sum     [sha256.Size]byte
	size    int64 // the last two for a file longer than maxFile only
	time    int64
}

// look takes the print of a file. What is not a regular file is not read: a
// pipe would never end.
func look(path string) print {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return print{}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return print{}
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxFile))
	if err != nil {
		return print{}
	}
	p := print{present: true}
	h.Sum(p.sum[:0])
	if n == maxFile {
		p.size, p.time = info.Size(), info.ModTime().UnixNano()
	}
	return p
}
