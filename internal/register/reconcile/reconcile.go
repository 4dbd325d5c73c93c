// Package reconcile keeps the allowlist in step with the register's branch.
// It is one straight function, Once:
//
//	fetch → how does the head relate to the accepted commit? → judge, commit by
//	commit → files, but for what nobody vouches for → parse → Build → last good
//	versions of faulty files, Build again → guard → persist → Live.Store → OnAccept
//
// Everything before persist can fail and changes nothing. After it, nothing
// can fail but OnAccept, which is repeated until it succeeds.
//
// What always holds:
//   - Live never goes back by itself. Only a commit that descends from the
//     accepted one is accepted, or one that an operator named in Accept.
//   - What is in force is on the disk, whole and with a checksum, before it is
//     in force. A restart needs neither git nor its host.
//   - One faulty file holds nobody up: its last good version stays in force,
//     and it is reported. A file that is gone is gone at once.
//   - A change that takes away too much waits for an operator; the blocks in
//     it do not wait.
//   - Where an Approver judges, a path moves on only along commits that are
//     vouched for (withhold.go). What is withheld is on the disk with what is
//     in force, and once more beside it.
//
// It never decides what a file means (package policy does) and never sends
// anything.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// A Branch follows the register's branch.
type Branch interface {
	// Fetch brings the head of the branch here, whatever it is.
	Fetch(context.Context) (gitsync.Hash, error)
	// Relation tells how the second commit stands to the first.
	Relation(ctx context.Context, old, new gitsync.Hash) (gitsync.Relation, error)
	// Keep keeps a commit readable when the branch leaves it.
	Keep(context.Context, gitsync.Hash) error
}

// A Tree reads what is in a commit.
type Tree interface {
	Files(ctx context.Context, commit gitsync.Hash, under ...string) ([]gitsync.Entry, error)
	// Read fails with *gitsync.TooLarge for a blob of more than max bytes.
	Read(ctx context.Context, blob gitsync.Hash, max int64) ([]byte, error)
	Describe(context.Context, gitsync.Hash) (gitsync.Commit, error)
}

// A History tells how the branch came to where it is.
type History interface {
	// Line is the branch between two commits, see gitsync.Repo.Line.
	Line(ctx context.Context, old, new gitsync.Hash, max int) ([]gitsync.Step, error)
	Diff(ctx context.Context, old, new gitsync.Hash, under ...string) ([]gitsync.Change, error)
}

// A Source is where the register comes from.
type Source interface {
	Branch
	Tree
	History
}

var _ Source = (*gitsync.Mirror)(nil)

// A Disk keeps files durably. WriteFile replaces a file, by pieces one after the
// other, whole or not at all; ReadFile fails with fs.ErrNotExist for one that is not there; Remove does
// not, and need not be durable.
type Disk interface {
	ReadFile(path string, max int64) ([]byte, error)
	WriteFile(path string, pieces ...[]byte) error
	Remove(path string) error
}

// Durable is the Disk that package durable makes.
func Durable() Disk { return disk{} }

type disk struct{}

func (disk) ReadFile(path string, max int64) ([]byte, error) { return durable.ReadFile(path, max) }
func (disk) WriteFile(path string, pieces ...[]byte) error {
	return durable.WritePieces(path, 0o600, pieces...)
}
func (disk) Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Defaults, and what bounds a round.
const (
	DefaultPoll = 30 * time.Second
	maxBackoff  = 5 * time.Minute
	maxProblems = 1000 // kept for State
)

// An Accepted tells of a commit that is now in force.
type Accepted struct {
	Commit   string
	Snapshot *policy.Snapshot
	// Changes are those since the last Accepted that OnAccept took without an
	// error; nil if that is no longer known, after a restart.
	Changes []policy.Change
	// Removed are the addresses that went since then, by commits that descend
	// from the one before, whatever crashed in between. What an operator's rewind
	// takes away is no removal: it may come back.
	Removed []policy.Removal
	First   bool // no register was ever announced before
}

// Options of a Reconciler. Source, Dir and Live are required.
type Options struct {
	Source      Source
	Dir         string       // for the files register.*; must exist
	Live        *policy.Live // what New and each round store in
	MaxRemovals float64      // part of the live addresses that one change may take away, from 0 to 1; fewer than five addresses never wait
	Poll        time.Duration
	Volume      registration.Volume // the site's cap, see policy.Options

	// OnAccept is called after a commit is in force, once for each, and again
	// each round until it returns nil. After a crash it may be repeated.
	OnAccept func(context.Context, Accepted) error
	// Approver judges the commits of the branch; what it does not find vouched
	// for is withheld. The first commit ever is taken as it is. nil accepts all.
	Approver Approver

	// ManyFiles is how many files register.last-good may hold before those beside
	// it are written anew; default 512.
	ManyFiles int

	// Program names this build, and no other: what a program of another name
	// parsed is parsed again at the start. With "" everything is, always.
	Program string

	Now        func() time.Time // default time.Now
	Disk       Disk             // default: package durable
	Logger     *slog.Logger     // default: discard
	Registerer prometheus.Registerer
}

// A Reconciler keeps one Live in step with one Source.
type Reconciler struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{} // holds one token: somebody asked for a round

	turn chan struct{} // holds one token: whoever has it may run a round and use what is below
	inForce
	workshop  workshop
	approvals approvals
	evaluated evaluation // of the newest head that was looked at and not accepted
	announced announced  // what OnAccept last took

	mu    sync.Mutex
	state State // guarded by mu
}

// New makes a Reconciler and puts in force what was in force before, from the
// disk alone. It fails if the options are wrong; a damaged file is reported
// and goes, and the next round replaces it.
func New(o Options) (*Reconciler, error) {
	if o.Source == nil || o.Live == nil || o.Dir == "" {
		return nil, errors.New("reconcile: Source, Dir and Live are required")
	}
	if o.MaxRemovals < 0 || o.MaxRemovals > 1 {
		return nil, fmt.Errorf("reconcile: maxRemovals is %v, and must be between 0 and 1", o.MaxRemovals)
	}
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.ManyFiles <= 0 {
		o.ManyFiles = 512
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Disk == nil {
		o.Disk = disk{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Reconciler{o: o, log: o.Logger, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	r.restore()
	var err error
	if r.metrics, err = newMetrics(o.Registerer, o.Now, r.State); err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	return r, nil
}

// Run runs rounds until ctx is done: one at once, then one each poll interval
// with some jitter, or when Wake is called. After failures it waits longer.
func (r *Reconciler) Run(ctx context.Context) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-wait.C:
		}
		if err := r.Once(ctx); err != nil {
			failures++
		} else {
			failures = 0
		}
		wait.Reset(pause(r.o.Poll, failures, rand.Float64()))
	}
}

// pause is how long to wait after so many failures in a row: twice as long for
// each, up to maxBackoff, however long the poll interval is: a webhook may have
// been what asked. jitter in [0,1) spreads it by a tenth either way.
func pause(poll time.Duration, failures int, jitter float64) time.Duration {
	d := poll
	for range failures {
		if d >= maxBackoff {
			d = maxBackoff
			break
		}
		d = min(2*d, maxBackoff)
	}
	return time.Duration(float64(d) * (0.9 + 0.2*jitter))
}

// Wake asks for a round now. It never blocks; requests during a round come to
// one.
func (r *Reconciler) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// acquire waits for the right to run a round.
func (r *Reconciler) acquire(ctx context.Context) error {
	select {
	case <-r.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("reconcile: %w", ctx.Err())
	}
}

func (r *Reconciler) release() { r.turn <- struct{}{} }
