package blocks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/durable"
)

// Errors of Add and Remove, besides those of the disk.
var (
	ErrFull    = fmt.Errorf("blocks: there are %d blocks by command already", MaxCommands)
	ErrUnknown = errors.New("blocks: there is no such block by command")
	// ErrUnsaved is matched by an error of Add whose block is in force and not
	// on the disk. It is tried again each minute.
	ErrUnsaved = errors.New("blocks: in force, but not on the disk")
)

// retryFor is the time from one try to save, or look at the clock, to the next.
const retryFor = time.Minute

// Options of Open. Dir must be set.
type Options struct {
	Dir   string // for the list's own files; it must be there
	Local string // the local file, an absolute path; "": none. See Follow

	// Changed is told of each change, and once by Open, before anything is
	// written. It is called one at a time, must not wait for anything, and must
	// not call the List.
	Changed func(*Set)

	Now        func() time.Time                                       // nil: time.Now
	Write      func(path string, data []byte, perm os.FileMode) error // nil: durable.WriteFile
	Logger     *slog.Logger                                           // nil: silent
	Registerer prometheus.Registerer                                  // nil: metrics are kept and not shown
}

// A List is the break-glass blocks of a relay. Its methods may be called from
// any goroutine; reading takes no lock.
type List struct {
	o   Options
	log *slog.Logger
	now func() time.Time
	set atomic.Pointer[Set]

	wake    chan struct{} // something new for Run to wait for
	saving  sync.Mutex    // held while the file is written; taken before mu
	reading sync.Mutex    // held while the local file is read; taken before mu

	mu      sync.Mutex // guards what follows, and writers of set
	unsaved error      // why the file is behind the set; nil: it is not
	local   Local      // no File: none is followed
	content []byte     // of the local file, in force; nil: none
}

// A Local is how the local file stands.
type Local struct {
	File   string
	Blocks int       // in force, those that are over included
	ReadAt time.Time // when the content in force was read; zero: none was
	Error  string    // why the newest content is not in force; "": it is
	Bad    []BadLine // of the content in force, at most 20
	BadAll int       // all of them
}

// A State is what an operator should know of a List.
type State struct {
	Unsaved string // why the blocks in force are not on the disk; "": they are
	Damaged string // a file that could not be read whole and was put aside; "": none. Remove it to be told no more
	Local   *Local // nil: none is configured
}

// Open reads the blocks that there were, and the local file. What cannot be read
// of them is put aside, logged and told by State; what can be is in force when
// Open returns.
func Open(o Options) (*List, error) {
	l := &List{o: o, log: o.Logger, now: o.Now, wake: make(chan struct{}, 1)}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.o.Write == nil {
		l.o.Write = durable.WriteFile
	}
	if l.o.Changed == nil {
		l.o.Changed = func(*Set) {}
	}
	commands, err := l.load()
	if err != nil {
		return nil, fmt.Errorf("blocks: opening: %w", err)
	}
	l.set.Store(&Set{commands: commands})
	l.Follow(o.Local)
	newMetrics(o.Registerer, l)
	l.o.Changed(l.Set())
	return l, nil
}

func (l *List) file() string     { return filepath.Join(l.o.Dir, "commands") }
func (l *List) aside() string    { return durable.Aside(l.file()) }
func (l *List) lastGood() string { return filepath.Join(l.o.Dir, "file.last-good") }

// load reads the file of the blocks by command. A damaged one is copied aside
// before it is replaced by what is left of it.
func (l *List) load() ([]Block, error) {
	data, err := durable.ReadFile(l.file(), maxSaved)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, durable.ErrTooLarge):
		l.log.Error("the blocks by command are put aside: they cannot be ours", "event", "block.damaged", "file", l.aside(), "err", err)
		return nil, os.Rename(l.file(), l.aside())
	case err != nil:
		return nil, err
	}
	list, damage := decode(data)
	if damage == nil {
		return list, nil
	}
	l.log.Error("not all blocks by command can be read; the file is put aside", "event", "block.damaged", "file", l.aside(), "err", damage)
	if err := l.o.Write(l.aside(), data, 0o600); err != nil {
		return nil, err
	}
	return list, l.write(list)
}

// Set is what is in force, and what has ended a moment ago. It takes no lock.
func (l *List) Set() *Set { return l.set.Load() }

// State is how the list and its files stand.
func (l *List) State() State {
	var s State
	if _, err := os.Lstat(l.aside()); err == nil {
		s.Damaged = l.aside()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unsaved != nil {
		s.Unsaved = l.unsaved.Error()
	}
	if l.local.File != "" {
		local := l.local
		s.Local = &local
	}
	return s
}

// update puts what change makes of the set in force. The caller holds mu.
func (l *List) update(change func(*Set) *Set) {
	next := change(l.set.Load())
	l.set.Store(next)
	l.o.Changed(next)
	select {
	case l.wake <- struct{}{}: // there may be something sooner to wait for
	default:
	}
}

// Add puts a block by command in force, in place of one of the same prefix,
// whose beginning it keeps; before is that one. It is in force, and on the disk
// as well, when Add returns without an error. It is in force and not on the disk
// if the error is an ErrUnsaved. For is how long it lasts, from MinFor to MaxFor,
// or 0: until it is taken back.
func (l *List) Add(p netip.Prefix, reason string, lasts time.Duration) (b Block, before *Block, err error) {
	if reason, err = ParseReason(reason); err != nil {
		return b, nil, fmt.Errorf("blocks: %w", err)
	}
	if lasts != 0 && (lasts < MinFor || lasts > MaxFor) {
		return b, nil, fmt.Errorf("blocks: %v is no time for a block", lasts)
	}
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		return b, nil, fmt.Errorf("blocks: %v is no prefix in canonical form", p)
	}
	b, before, err = l.begin(p, reason, lasts)
	if err != nil {
		return b, nil, err
	}
	if err := l.save(); err != nil {
		return b, before, fmt.Errorf("%w: %w", ErrUnsaved, err)
	}
	return b, before, nil
}

// begin puts a block in force. It waits for no disk.
func (l *List) begin(p netip.Prefix, reason string, lasts time.Duration) (b Block, before *Block, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b = Block{Prefix: p, Reason: reason, Since: instant(now)}
	if lasts != 0 {
		b.Until = instant(now.Add(lasts))
	}
	set := l.Set()
	if old, ok := set.Command(p); ok && !old.Over(now) {
		b.Since, before = old.Since, &old
	} else if !ok && len(set.Commands()) >= MaxCommands {
		return b, nil, ErrFull
	}
	l.update(func(s *Set) *Set { return s.with(b) })
	var end slog.Attr // left out where there is none
	if lasts != 0 {
		end = slog.Time("not_after", b.Until)
	}
	l.log.Warn("blocked on this relay", "event", "block.added", "prefix", Text(p), "reason", reason, end)
	return b, before, nil
}

// Remove ends the block by command of exactly p, and returns it. It is in force
// no more, and off the disk, when Remove returns without an error; on one it
// stands.
func (l *List) Remove(p netip.Prefix) (Block, error) {
	l.saving.Lock()
	defer l.saving.Unlock()
	b, ok := l.Set().Command(p)
	if !ok || b.Over(l.now()) {
		return Block{}, ErrUnknown
	}
	if err := l.write(l.Set().without(b).Commands()); err != nil {
		l.note(err) // the disk may be ahead now; Run brings it back
		return Block{}, fmt.Errorf("blocks: writing the rest: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.update(func(s *Set) *Set { return s.without(b) })
	l.log.Warn("a block of this relay is taken back", "event", "block.removed", "prefix", Text(p), "reason", b.Reason)
	return b, nil
}

func (l *List) write(list []Block) error {
	data, err := encode(list)
	if err != nil {
		return err
	}
	return l.o.Write(l.file(), data, 0o600)
}

// save brings the disk to what is in force.
func (l *List) save() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	err := l.write(l.Set().Commands())
	l.note(err)
	return err
}

// note remembers whether the disk has what is in force. The caller holds saving.
func (l *List) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil && l.unsaved == nil:
		l.log.Error("the blocks by command are not on the disk, and would be lost in a restart; it is tried again", "event", "block.unsaved", "err", err)
	case err == nil && l.unsaved != nil:
		l.log.Info("the blocks by command are on the disk", "event", "block.saved")
	}
	l.unsaved = err
}

// Run ends blocks whose time is over, and saves what could not be saved, until
// ctx ends.
func (l *List) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.retry()
			return nil
		case <-l.wake:
		case <-timer.C:
			l.retry()
		}
		l.prune()
		wait := retryFor // the clock may be set, so never longer
		if next := l.Set().nextEnd(); !next.IsZero() {
			wait = max(0, min(wait, next.Sub(l.now())))
		}
		timer.Reset(wait)
	}
}

func (l *List) retry() {
	l.mu.Lock()
	behind := l.unsaved != nil
	l.mu.Unlock()
	if behind {
		_ = l.save() // it is noted
	}
}

// prune forgets blocks by command that are over. They block nothing any more,
// whether or not this is on the disk.
func (l *List) prune() {
	l.mu.Lock()
	next, over := l.Set().ended(l.now())
	if len(over) > 0 {
		l.update(func(*Set) *Set { return next })
	}
	l.mu.Unlock()
	for _, b := range over {
		l.log.Info("the time of a block is over", "event", "block.ended", "prefix", Text(b.Prefix), "reason", b.Reason)
	}
	if len(over) > 0 {
		_ = l.save() // it is noted
	}
}

// Follow changes which local file is followed, and reads it. As long as it
// cannot be used, what was in force of the one before stays. With "" there is
// none, and no block of one.
func (l *List) Follow(path string) {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	old := l.local.File
	switch {
	case path == "" && old != "":
		l.content, l.local = nil, Local{}
		l.update(func(s *Set) *Set { return s.withFile(nil, "") })
	case path != old:
		l.content, l.local.File, l.local.Error = nil, path, ""
	}
	l.mu.Unlock()
	if path == "" {
		return
	}
	if path != old {
		l.recall(path)
	}
	l.readLocal(path)
}

// recall puts the last good content of a local file in force, from before a
// restart. The caller holds reading.
func (l *List) recall(path string) {
	copied, err := durable.ReadFile(l.lastGood(), maxLocalFile+4096)
	if err != nil {
		return // there was none, or it will be written anew
	}
	content := fromLastGood(path, copied)
	list, bad, err := parseLocal(content)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := os.Stat(l.lastGood())
	if err == nil {
		l.local.ReadAt = info.ModTime()
	}
	l.content = content
	l.takeOver(list, bad)
}

// ReadLocal reads the local file, if one is followed, and puts it in force.
// Where it cannot be used as a whole, what was in force of it stays, and State
// says why. Call it when the file may have changed.
func (l *List) ReadLocal() {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	path := l.local.File
	l.mu.Unlock()
	if path != "" {
		l.readLocal(path)
	}
}

// readLocal is ReadLocal for whoever holds reading.
func (l *List) readLocal(path string) {
	data, err := readLocal(path)
	var list []Block
	var bad []BadLine
	if err == nil {
		list, bad, err = parseLocal(data)
	}
	if !l.accept(data, list, bad, err) {
		return
	}
	if err := l.o.Write(l.lastGood(), lastGood(path, data), 0o600); err != nil {
		l.log.Error("the copy of the local file cannot be written; a restart needs the file itself", "event", "block.unsaved", "err", err)
	}
}

// accept takes what was read into force, and reports whether it was news.
func (l *List) accept(data []byte, list []Block, bad []BadLine, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if text := err.Error(); l.local.Error != text {
			l.local.Error = text
			l.log.Error("the local file of blocks cannot be used; what was read before stays in force", "event", "block.file_failed",
				"file", l.local.File, "blocks", l.local.Blocks, "err", text)
		}
		return false
	}
	same := l.local.Error == "" && l.content != nil && string(l.content) == string(data)
	l.local.Error = ""
	if same {
		return false
	}
	l.local.ReadAt, l.content = l.now(), data
	l.takeOver(list, bad)
	for _, b := range l.local.Bad {
		l.log.Warn("a line of the local file of blocks makes no sense and blocks nothing", "event", "block.file_line", "file", l.local.File, "line", b.Line, "err", b.Why)
	}
	l.log.Info("the local file of blocks is in force", "event", "block.file_loaded", "file", l.local.File, "blocks", len(list), "problems", len(bad))
	return true
}

// takeOver puts blocks of the local file in force. The caller holds mu.
func (l *List) takeOver(list []Block, bad []BadLine) {
	l.local.Blocks, l.local.Bad, l.local.BadAll = len(list), bad[:min(len(bad), maxBad)], len(bad)
	l.update(func(s *Set) *Set { return s.withFile(list, l.local.File) })
}
