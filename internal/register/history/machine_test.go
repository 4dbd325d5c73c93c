package history_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
	"example.edu/gatepost/internal/register/registration"
)

// A machine plays a history: people and postmasters who commit to a register in
// a real git repository, and a relay that follows it, with a confirmer, crashes
// and outages. What each step does is read from four octets, so that a step can
// be left out and the rest still means something.
type machine struct {
	t     testing.TB
	repo  *repository
	now   time.Time
	ids   int // versions so far
	head  *commit
	all   []*commit // every commit that the branch ever pointed at
	known map[string]*commit
	work  tree // what the next commit will hold

	// The relay: what survives a crash, and what does not.
	disk      *memoryDisk
	ledger    *memoryLedger
	program   string
	glass     []registration.Block // break-glass blocks
	mirror    *gitsync.Mirror
	source    *faultySource
	live      *policy.Live
	r         *reconcile.Reconciler
	confirmer *confirm.Confirmer

	model model
	log   []string
}

var (
	errBoom = errors.New("boom")
	errDisk = errors.New("no space left on device")
	today   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// address is one of the physicists'.
func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{141, 211, 13, byte(i)}) }

// faultySource is a repository that fails where it is told to.
type faultySource struct {
	reconcile.Source
	fetch, files, read, describe error
}

func (f *faultySource) Fetch(ctx context.Context) (gitsync.Hash, error) {
	if f.fetch != nil {
		return gitsync.Hash{}, f.fetch
	}
	return f.Source.Fetch(ctx)
}

func (f *faultySource) Files(ctx context.Context, h gitsync.Hash, under ...string) ([]gitsync.Entry, error) {
	if f.files != nil {
		return nil, f.files
	}
	return f.Source.Files(ctx, h, under...)
}

func (f *faultySource) Read(ctx context.Context, h gitsync.Hash, max int64) ([]byte, error) {
	if f.read != nil {
		return nil, f.read
	}
	return f.Source.Read(ctx, h, max)
}

func (f *faultySource) Describe(ctx context.Context, h gitsync.Hash) (gitsync.Commit, error) {
	if f.describe != nil {
		return gitsync.Commit{}, f.describe
	}
	return f.Source.Describe(ctx, h)
}

// memoryDisk is a disk that fails at the nth write from now, if n is not 0;
// after writing, not before, if lying is set: as if the power went just then.
type memoryDisk struct {
	files  map[string][]byte
	n      int
	lying  bool
	failed bool // since the last round in which all was well
}

func (d *memoryDisk) ReadFile(path string, max int64) ([]byte, error) {
	data, ok := d.files[filepath.Base(path)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

func (d *memoryDisk) WriteFile(path string, pieces ...[]byte) error {
	fails := false
	if d.n > 0 {
		d.n--
		fails = d.n == 0
	}
	if !fails || d.lying {
		d.files[filepath.Base(path)] = slices.Concat(pieces...)
	}
	if fails {
		d.failed = true
		return errDisk
	}
	return nil
}

func (d *memoryDisk) Remove(path string) error {
	delete(d.files, filepath.Base(path))
	return nil
}

// memoryLedger is a ledger and an outbox that fail at the nth step from now, and
// that see at each step whether it is right.
type memoryLedger struct {
	keys  map[string]bool
	n     int
	lying bool
	check func(what, key string) // called for each key that is sent or forgotten, before
}

func (l *memoryLedger) step(effect func()) error {
	fails := false
	if l.n > 0 {
		l.n--
		fails = l.n == 0
	}
	if !fails || l.lying {
		effect()
	}
	if fails {
		return errDisk
	}
	return nil
}

func (l *memoryLedger) Confirmed(key string) (bool, error) { return l.keys[key], nil }

func (l *memoryLedger) Mark(keys ...string) error {
	return l.step(func() {
		for _, k := range keys {
			l.check("mark", k)
			l.keys[k] = true
		}
	})
}

func (l *memoryLedger) Forget(keys ...string) error {
	return l.step(func() {
		for _, k := range keys {
			if l.keys[k] {
				l.check("forget", k)
			}
			delete(l.keys, k)
		}
	})
}

func (l *memoryLedger) Send(_ context.Context, key string, _ mail.Envelope, _ []byte) error {
	return l.step(func() {
		if !l.keys[key] {
			l.check("send", key)
			l.keys[key] = true
		}
	})
}

func newMachine(t testing.TB) *machine {
	m := &machine{
		t: t, repo: newRepository(t), now: today, known: map[string]*commit{}, work: tree{},
		disk: &memoryDisk{files: map[string][]byte{}}, ledger: &memoryLedger{keys: map[string]bool{}}, program: "1",
	}
	m.model.m = m
	m.ledger.check = m.model.ledgerStep
	return m
}

// play runs a whole history and says what went wrong, and where.
func play(t testing.TB, data []byte) (steps []string, err error) {
	m := newMachine(t)
	defer func() { steps = m.log }()
	if len(data) > 0 && data[0]%8 == 0 {
		m.repo.serve(t)
	}
	if err := m.begin(); err != nil {
		return nil, fmt.Errorf("at the beginning: %w", err)
	}
	for len(data) >= 4 {
		m.log = append(m.log, "")
		if err := m.step(data[0], data[1], data[2], data[3]); err != nil {
			return nil, fmt.Errorf("step %d, %s: %w", len(m.log), m.log[len(m.log)-1], err)
		}
		data = data[4:]
	}
	return nil, nil
}

func (m *machine) say(format string, args ...any) {
	if len(m.log) > 0 {
		m.log[len(m.log)-1] += fmt.Sprintf(format, args...) + "; "
	}
}

// begin makes a register of eight addresses, starts the relay and has it take
// the first commit over.
func (m *machine) begin() error {
	m.write("registrations/README.md", &version{text: "how to register"})
	m.write(networksFile, newNetworks(m.id(), ordinaryNetworks()...))
	m.write(departmentsFile, newDepartments(m.id(), "lsa-physics", "its"))
	for i := range 6 {
		m.write(fmt.Sprintf("registrations/lsa-physics/%c.cue", 'a'+i), newRegistration(m.id(), "lsa-physics", []netip.Addr{address(i + 1)}, 100, farDay))
	}
	m.write("registrations/its/a.cue", newRegistration(m.id(), "its", []netip.Addr{netip.MustParseAddr("141.211.14.1"), netip.MustParseAddr("141.211.14.2")}, 100, farDay))
	if err := m.commit(m.work); err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	return m.round()
}

const (
	networksFile    = "registrations/campus/networks.cue"
	departmentsFile = "registrations/campus/departments.cue"
	siteRulesFile   = "schema/site.cue"
)

var farDay = time.Date(2027, 11, 20, 0, 0, 0, 0, time.UTC)

func ordinaryNetworks() []held {
	p := netip.MustParsePrefix
	return []held{
		{p("141.211.13.0/24"), "lsa-physics", "static"}, {p("141.211.14.0/24"), "its", "static"},
		{p("2607:f018:1:13::/64"), "lsa-physics", "static"},
	}
}

func (m *machine) id() int { m.ids++; return m.ids }

func (m *machine) write(path string, v *version) { m.work = m.work.with(path, node{regularMode, v}) }

// commit puts a tree on the branch, on top of the given commits; on the head if
// there are none.
func (m *machine) commit(t tree, parents ...*commit) error {
	c, err := m.detached(t, parents...)
	if err != nil {
		return err
	}
	return m.point(c)
}

// detached makes a commit that the branch does not point at.
func (m *machine) detached(t tree, parents ...*commit) (*commit, error) {
	if len(parents) == 0 && m.head != nil {
		parents = []*commit{m.head}
	}
	c, err := m.repo.commit(t, m.now, parents...)
	if err == nil {
		m.known[c.hash.String()] = c
	}
	return c, err
}

func (m *machine) point(c *commit) error {
	m.head = c
	if c != nil {
		m.all = append(m.all, c)
		m.work = c.tree
	}
	return m.repo.point(c)
}

// start starts the relay over what the disk holds, as after a crash.
func (m *machine) start() error {
	m.disk.n, m.ledger.n = 0, 0
	o := gitsync.Options{Repository: m.repo.dir}
	if m.repo.url != "" {
		o.Repository, o.Dir = m.repo.url, filepath.Join(filepath.Dir(m.repo.dir), "relay")
	}
	if m.mirror != nil {
		m.mirror.Close()
	}
	var err error
	if m.mirror, err = gitsync.Open(m.t.Context(), o); err != nil {
		return err
	}
	m.source = &faultySource{Source: m.mirror}
	m.live = new(policy.Live)
	m.live.SetBlocks(m.glass)
	m.confirmer = confirm.New(confirm.Options{
		Letter: confirm.Letterhead{Host: "relay.umich.edu", Postmaster: mail.Address{Local: "postmaster", Domain: "umich.edu"}},
		Ledger: m.ledger, Outbox: m.ledger, Now: func() time.Time { return m.now },
	})
	m.r, err = reconcile.New(reconcile.Options{
		Source: m.source, Dir: "register", Live: m.live, Disk: m.disk, MaxRemovals: 0.3, Program: m.program,
		Now: func() time.Time { return m.now },
		OnAccept: func(ctx context.Context, a reconcile.Accepted) error {
			if got := m.live.Load().Commit(); got != a.Commit {
				m.model.complain("commit %s is announced while %s is in force", a.Commit, got)
			}
			m.model.see()
			return m.confirmer.Accepted(ctx, confirm.Event{Snapshot: m.live.Load(), Removed: a.Removed})
		},
	})
	if err != nil {
		return err
	}
	m.model.started()
	return m.model.verdict()
}

// round runs one round, and wants what must be true after it.
func (m *machine) round() error {
	err := m.r.Once(m.t.Context())
	m.say("round → %s %s %v", m.r.State().Accepted[:min(7, len(m.r.State().Accepted))], m.r.State().Condition, err)
	m.model.see()
	faulty := errors.Is(err, errDisk) || errors.Is(err, errBoom) || errors.Is(err, context.DeadlineExceeded) // of a busy machine
	if err != nil && !faulty {
		m.model.complain("the round failed: %v", err)
	}
	if err == nil {
		m.model.settled()
	}
	return m.model.verdict()
}

// accept is an operator's word.
func (m *machine) accept(c *commit) error {
	m.model.permitted = c
	err := m.r.Accept(m.t.Context(), c.hash.String(), "because")
	m.say("accept %s → %v", c.hash.String()[:7], err)
	m.model.see()
	m.model.permitted = nil
	if err != nil && m.model.accepted != c { // it may be on the disk all the same
		m.model.attempted[c] = true
	}
	return m.model.verdict()
}

// addresses of the pool, by one octet.
func poolAddress(a byte) netip.Addr {
	switch a %= 24; {
	case a < 12:
		return address(int(a) + 1)
	case a < 18:
		return netip.AddrFrom4([4]byte{141, 211, 14, a - 11})
	case a < 22:
		return netip.MustParseAddr(fmt.Sprintf("2607:f018:1:13::%d", a-17))
	}
	return netip.AddrFrom4([4]byte{141, 211, 200, a})
}

func pool() []netip.Addr {
	var out []netip.Addr
	for a := range byte(24) {
		out = append(out, poolAddress(a))
	}
	return out
}

func isRegistration(path string, _ node) bool {
	return registration.Kind(path) == registration.KindRegistration
}

func isBlock(path string, _ node) bool { return strings.HasPrefix(path, "registrations/blocks/") }
