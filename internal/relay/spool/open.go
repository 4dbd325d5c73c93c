package spool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultReserve is the free space below which nothing new is accepted.
const DefaultReserve = 256 << 20

// Options say where a spool lives. Only Dir is needed.
type Options struct {
	Dir        string                // created if missing; one process at a time
	FS         vfs.FS                // nil: the disk
	Reserve    int64                 // octets that stay free for removals and the DSNs that come with them; 0: DefaultReserve; negative: none
	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: metrics are kept and not shown

	// Step, if set, is told of each step of the durable order once it is made,
	// by one of the names of Steps, on the goroutine that makes it: for tests
	// that end the process there.
	Step func(name string)
}

// A Spool is an open spool. Its methods may be called from any goroutine.
type Spool struct {
	fs      vfs.FS
	bodies  string // the folder of bodies that are files of their own
	dir     string
	reserve uint64
	log     *slog.Logger
	metrics *metrics
	ids     *idSource
	buffers sync.Pool // of *[]byte, capacity at most inlineMax
	recent  *recent
	files   bodyFiles
	owners  [64]sync.Mutex // of entries, by their IDs; see own

	tuning

	keyed sync.Mutex // held from the test for a key to the end of its batch

	importing sync.Mutex // held by the one import that runs

	short  atomic.Bool  // the disk has reached its reserve, and that is logged
	roomy  atomic.Int64 // octets that may be written before the next look at the disk
	roomBy atomic.Int64 // when that is due at the latest, as Unix time in nanoseconds

	failure atomic.Pointer[failure] // the first unrecoverable error of the engine
	failed  chan struct{}           // closed with it
	stall   atomic.Pointer[failure] // why the engine's log waits for room; nil: it does not

	lag     lag
	lagging atomic.Bool // there are changes that were not synced

	complained atomic.Int64 // Unix time of the last log line about background work

	scans  sync.WaitGroup // iterators over db; added to with mu read-held
	mu     sync.RWMutex   // read-held while db is in use otherwise
	closed bool           // guarded by mu
	db     *pebble.DB     // fixed after Open
}

// Open opens the spool at o.Dir, making it if there is none, and collects what
// a crash left behind: temporary files, and bodies that no record names. A
// body that any record names, damaged ones included, is never removed.
func Open(o Options) (*Spool, error) {
	return openTuned(o, tuning{memory: 8 << 20, patience: 2 * time.Minute, glance: 50 * time.Millisecond, upgrades: upgrades()})
}

func openTuned(o Options, t tuning) (_ *Spool, err error) {
	s := &Spool{
		fs:      o.FS,
		dir:     o.Dir,
		log:     o.Logger,
		metrics: newMetrics(o.Registerer),
		failed:  make(chan struct{}),
		lag:     newLag(),
		tuning:  t,
	}
	if s.fs == nil {
		s.fs = vfs.Default
	}
	if o.Step != nil {
		s.fs = &stepped{FS: s.fs, bodies: s.fs.PathJoin(o.Dir, "bodies"), step: o.Step}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Reserve == 0:
		s.reserve = DefaultReserve
	case o.Reserve > 0:
		s.reserve = uint64(o.Reserve)
	}
	s.buffers.New = func() any { b := make([]byte, 0, 8<<10); return &b }
	s.recent = newRecent(&s.buffers)
	s.bodies = s.fs.PathJoin(o.Dir, "bodies")
	s.files = bodyFiles{fs: s.fs, dir: s.bodies, log: s.log, files: make(map[string]*bodyFile)}
	engine := s.fs.PathJoin(o.Dir, "engine")

	for _, dir := range []string{s.bodies, engine} {
		if err := s.fs.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("spool: making %s: %w", dir, err)
		}
	}
	// The names of the folders must last before anything in them can.
	for _, dir := range []string{o.Dir, s.fs.PathDir(o.Dir)} {
		if err := s.syncDir(dir); err != nil {
			return nil, fmt.Errorf("spool: syncing %s: %w", dir, err)
		}
	}
	made, err := s.checkCreated()
	if err != nil {
		return nil, err
	}
	if s.db, err = s.openOrRestart(engine); err != nil {
		return nil, fmt.Errorf("spool: opening %s: %w", engine, err)
	}
	go s.boundLag() // until Close
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.bringUp(made); err != nil {
		return nil, err
	}
	found, err := s.census()
	if err != nil {
		return nil, err
	}
	s.ids = newIDSource(found.newest)
	if err := s.collect(found); err != nil {
		return nil, err
	}
	_ = s.space() // a relay that starts on a full disk says so
	return s, nil
}

// Close ends the use of the spool. Writers that are still open cannot commit
// any more, and running scans are waited for. If the engine has failed, or
// fails meanwhile, Close leaves it as it stands and says so: the next Open
// recovers it. The next Close returns nil.
func (s *Spool) Close() error {
	s.mu.Lock()
	already := s.closed
	s.closed = true
	s.mu.Unlock()
	if !already {
		s.recent.clear()
		close(s.lag.stop)
	}
	<-s.lag.done
	if already {
		return nil
	}
	err := s.Err()
	if err == nil {
		_, err = await(s, func() (struct{}, error) {
			s.scans.Wait()
			return struct{}{}, s.db.Close()
		})
	}
	if err != nil {
		return fmt.Errorf("spool: closing: %w", err)
	}
	return nil
}

// openOrRestart opens the engine. A crash while the engine is first made can
// leave what cannot be opened; as long as the file created is missing nothing
// can have been acknowledged, and such a beginning is put aside.
func (s *Spool) openOrRestart(engine string) (*pebble.DB, error) {
	db, err := s.openEngine(engine)
	if err == nil || s.Err() != nil {
		return db, err
	}
	if _, statErr := s.fs.Stat(s.fs.PathJoin(s.dir, created)); !isNotExist(statErr) {
		return nil, err
	}
	aside := fmt.Sprintf("%s.unfinished-%d", engine, time.Now().UnixNano())
	s.log.Warn("the engine was never made in full; it is put aside and made again", "event", "spool.restarted", "file", aside, "err", err)
	if renameErr := s.fs.Rename(engine, aside); renameErr != nil {
		return nil, errors.Join(err, renameErr)
	}
	if err := s.fs.MkdirAll(engine, 0o700); err != nil {
		return nil, err
	}
	if err := s.syncDir(s.dir); err != nil {
		return nil, err
	}
	return s.openEngine(engine)
}

// A census is what the records say when the spool is opened.
type census struct {
	newest ID              // the newest ever kept here
	files  map[string]bool // the files that are named
	doubt  bool            // there may be more: a record is damaged, or cannot be read
}

// census counts the entries.
func (s *Spool) census() (census, error) {
	n, found := 0, census{files: make(map[string]bool)}
	err := s.scan(prefixEntry, func(key, rec []byte) error {
		id, state := splitEntryKey(key)
		if state {
			return nil
		}
		n++
		found.newest = max(found.newest, id)
		flags, _, err := checkRecord(id, rec)
		switch file := fileOf(id, rec); {
		case file != "":
			found.files[file] = true
		case err != nil || flags&flagFile != 0:
			found.doubt = true
		}
		return nil
	})
	if errors.Is(err, ErrFailed) {
		return found, err
	}
	if err != nil {
		// What can be read is still delivered: Entries reports the rest.
		s.log.Error("counting the entries stopped early", "event", "spool.damaged", "err", err)
		s.metrics.damaged.Inc()
		found.doubt = true
	}
	s.metrics.entries.Set(float64(n))
	aside, err := s.Damaged()
	found.doubt = found.doubt || err != nil || len(aside) > 0
	return found, nil
}

// collect removes the bodies that no record names: the rests of messages that
// were never acknowledged, or that were removed just before a crash. A file that
// begins with the ID of a record that is damaged stays, and so does, where there
// is one, a file that does not say whose it is.
func (s *Spool) collect(found census) error {
	names, err := s.fs.List(s.bodies)
	if err != nil {
		return fmt.Errorf("spool: listing bodies: %w", err)
	}
	for _, name := range names {
		number, ours := fileNumber(name)
		id, tmp := strings.CutSuffix(name, tmpSuffix) // of format 1
		switch {
		case ours:
			s.files.last = max(s.files.last, number)
			if found.files[name] || found.doubt && s.doubtful(name) {
				continue
			}
		case !validID(ID(id)):
			s.log.Warn("a file that is not the spool's lies among the bodies", "event", "spool.stray", "file", name)
			continue
		case !tmp:
			if named, err := s.names(ID(id)); named || err != nil {
				continue // when in doubt the body stays
			}
		}
		if err := s.fs.Remove(s.fs.PathJoin(s.bodies, name)); err != nil && !isNotExist(err) {
			return fmt.Errorf("spool: removing an orphaned body: %w", err)
		}
		s.log.Info("an orphaned body was removed", "event", "spool.collected", "file", name)
	}
	return nil
}

// doubtful reports whether a file that no sound record names may be that of a
// damaged one.
func (s *Spool) doubtful(name string) bool {
	f, err := s.fs.Open(s.files.path(name))
	if err != nil {
		return true
	}
	defer f.Close()
	head := make([]byte, bodyHead)
	if _, err := io.ReadFull(f, head); err != nil {
		return true
	}
	id := ID(strings.TrimSpace(string(head)))
	if string(bodyHeader(id)) != string(head) || !validID(id) {
		return true
	}
	named, err := s.names(id)
	return named || err != nil
}

// Accepting says why no message can be taken now: the engine has failed, or the
// disk has reached its reserve. Nil if one can.
func (s *Spool) Accepting() error {
	if err := s.Err(); err != nil {
		return err
	}
	return s.space()
}

// names reports whether any record, a damaged one included, is kept under id.
func (s *Spool) names(id ID) (bool, error) {
	_, entry, err1 := s.get(entryKey(id))
	_, damaged, err2 := s.get(damagedKey(id))
	return entry || damaged, errors.Join(err1, err2)
}

// syncDir makes the names in a folder last.
func (s *Spool) syncDir(dir string) error {
	d, err := s.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// room returns ErrFull when less than the reserve is free, and counts that.
func (s *Spool) room() error {
	err := s.space()
	if err != nil {
		s.metrics.full.Inc()
	}
	return err
}

// space is ErrFull, with how much there is and how much there must be, when less
// than the reserve is free, or when the engine's log waits for room. That there
// is too little, and that there is enough again, is logged once: a full disk
// refuses many messages.
func (s *Spool) space() error {
	if err := s.stalled(); err != nil {
		s.roomy.Store(0)
		return s.lacks(err)
	}
	if s.reserve == 0 || s.roomy.Load() > 0 && time.Now().UnixNano() < s.roomBy.Load() {
		return nil
	}
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil { // unknown is not full: the write itself will tell
		return nil
	}
	if usage.AvailBytes < s.reserve {
		return s.lacks(fmt.Errorf("%w: %s are free in %s, and %s stay free for what is owed", ErrFull, octets(usage.AvailBytes), s.dir, octets(s.reserve)))
	}
	if s.short.CompareAndSwap(true, false) {
		s.log.Info("there is room again", "event", "spool.room")
	}
	// Far from the reserve one look is enough for many messages. Of what is
	// left over half goes to the others that write to this disk.
	if usage.AvailBytes > 2*s.reserve {
		s.roomy.Store(int64(min(usage.AvailBytes-s.reserve, 1<<40) / 2))
		s.roomBy.Store(time.Now().Add(s.glance).UnixNano())
	}
	return nil
}

// lacks logs the first of the refusals for want of room, and returns it.
func (s *Spool) lacks(err error) error {
	if s.short.CompareAndSwap(false, true) {
		s.log.Error("nothing is accepted until there is room", "event", "spool.full", "err", err)
		s.files.shrink()
	}
	return err
}

// octets is a size for a person.
func octets(n uint64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d octets", n)
}
