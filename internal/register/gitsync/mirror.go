package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"example.edu/gatepost/internal/durable"
)

// References of our own in the clone.
const (
	refIncoming plumbing.ReferenceName = "refs/gatepost/incoming" // the branch as the remote last showed it
	refAccepted plumbing.ReferenceName = "refs/gatepost/accepted" // see Mirror.Keep
)

// Names inside Options.Dir. Only cloneName is ever read from.
const (
	cloneName = "register.git"
	newSuffix = ".new" // a clone in the making: worthless after a crash
	oldSuffix = ".old" // what a swap replaces: valid if cloneName is missing
)

// Options of a Mirror.
type Options struct {
	Repository string                                // an http or https URL, or an absolute path
	Branch     string                                // default "main"
	Dir        string                                // for the clone, which is Dir/register.git; not used for a path
	Token      func(context.Context) (string, error) // asked before each fetch, "" is none; its errors may be an ErrUnreachable or an ErrLimited and are else an ErrRefused; nil: what the URL has
	Timeout    time.Duration                         // for one operation; default two minutes
	MaxBytes   int64                                 // of one response of the remote; default 256 MiB
	MaxObject  int64                                 // of one object, unpacked; default 128 MiB
	MaxPacks   int                                   // clone anew beyond this number of packs; default 150
	Logger     *slog.Logger                          // default: discard
	Transport  http.RoundTripper                     // default: like http.DefaultTransport
}

// A Mirror follows one branch of one repository.
type Mirror struct {
	*Repo
	branch   string
	log      *slog.Logger
	dir      string  // of the clone; "" if the repository is opened in place
	path     string  // of the repository opened in place; "" for a clone
	remote   *remote // nil for a path
	maxPacks int

	fetching chan struct{} // holds one token: whoever has it may change the clone, and what is below
	kept     Hash          // guarded by fetching
	packs    int           // guarded by fetching: clone anew beyond this many
}

// Open prepares a mirror. It does not talk to the remote, so it succeeds with
// the remote gone; it fails only for mistakes in the options and for a disk
// that cannot be written. A clone that cannot be read is thrown away.
func Open(ctx context.Context, o Options) (*Mirror, error) {
	if o.Branch == "" {
		o.Branch = "main"
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 20
	}
	if o.MaxObject <= 0 {
		o.MaxObject = defaultMaxObject
	}
	if o.MaxPacks <= 0 {
		o.MaxPacks = 150
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Mirror{
		branch: o.Branch, log: o.Logger, maxPacks: o.MaxPacks, packs: o.MaxPacks,
		fetching: make(chan struct{}, 1),
	}
	m.fetching <- struct{}{}
	if err := plumbing.NewBranchReferenceName(o.Branch).Validate(); err != nil {
		return nil, fmt.Errorf("gitsync: %q is not the name of a branch", o.Branch)
	}
	if filepath.IsAbs(o.Repository) {
		m.path = filepath.Clean(o.Repository)
		m.Repo = newRepo(o.Timeout, func() (*git.Repository, error) { return openAt(m.path) })
		return m, nil
	}
	var err error
	if m.remote, err = newRemote(o); err != nil {
		return nil, err
	}
	m.dir = filepath.Join(o.Dir, cloneName)
	m.Repo = newRepo(o.Timeout, func() (*git.Repository, error) { return openAt(m.dir) })
	if err := m.prepare(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// Close lets go of idle connections and open files. No question may be under
// way.
func (m *Mirror) Close() {
	m.drop()
	if m.remote != nil {
		m.remote.close()
	}
}

// maxCache bounds the objects that one opened repository keeps in memory, in
// bytes. The library's own bound is 96 MiB, and a register is read once.
const maxCache = 16 << 20

// openAt opens a bare repository, or the one inside a checkout.
func openAt(dir string) (*git.Repository, error) {
	g, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return nil, err
	}
	s, ok := g.Storer.(*filesystem.Storage)
	if !ok {
		return g, nil
	}
	return git.Open(filesystem.NewStorageWithOptions(s.Filesystem(), cache.NewObjectLRU(maxCache), filesystem.Options{KeepDescriptors: true}), nil)
}

// prepare makes the clone's folder ready after whatever happened before: a
// swap that a crash cut short is finished, left-overs go, damage goes.
func (m *Mirror) prepare(ctx context.Context) error {
	fail := func(err error) error { return fmt.Errorf("gitsync: preparing %s: %w", m.dir, err) }
	if err := os.MkdirAll(filepath.Dir(m.dir), 0o700); err != nil {
		return fail(err)
	}
	if _, err := os.Stat(m.dir); errors.Is(err, os.ErrNotExist) {
		if err := os.Rename(m.dir+oldSuffix, m.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fail(err)
		}
	}
	for _, suffix := range []string{newSuffix, oldSuffix} {
		if err := os.RemoveAll(m.dir + suffix); err != nil {
			return fail(err)
		}
	}
	if half, err := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "tmp_*")); err == nil {
		for _, f := range half {
			os.Remove(f) // a fetch that a crash cut short; only space is lost if it stays
		}
	}
	m.kept = m.ref(ctx, refAccepted)
	if m.intact(ctx) {
		return nil
	}
	if _, err := os.Stat(m.dir); err == nil {
		m.log.Warn("the clone of the register is damaged and is thrown away", "event", "gitsync.discarded", "file", m.dir)
	}
	if err := os.RemoveAll(m.dir); err != nil {
		return fail(err)
	}
	if _, err := git.PlainInit(m.dir, true); err != nil {
		return fail(err)
	}
	m.stale.Store(true)
	m.damaged.Store(false)
	return nil
}

// intact reports whether the clone can be opened and the commits that our
// references name can be read, with their trees.
func (m *Mirror) intact(ctx context.Context) bool {
	err := m.use(ctx, "opening the clone", func(_ context.Context, g *git.Repository) error {
		for _, name := range []plumbing.ReferenceName{refIncoming, refAccepted} {
			ref, err := g.Storer.Reference(name)
			if errors.Is(err, plumbing.ErrReferenceNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			c, err := g.CommitObject(ref.Hash())
			if err != nil {
				return err
			}
			if _, err := c.Tree(); err != nil {
				return err
			}
		}
		return nil
	})
	return err == nil
}

// ref reads one of our references; the zero Hash if there is none.
func (m *Mirror) ref(ctx context.Context, name plumbing.ReferenceName) Hash {
	var h Hash
	_ = m.use(ctx, "reading "+name.String(), func(_ context.Context, g *git.Repository) error {
		if ref, err := g.Storer.Reference(name); err == nil {
			h = Hash(ref.Hash())
		}
		return nil
	})
	return h
}

// Keep remembers a commit, so that it stays readable when the branch leaves
// it. In a repository opened in place nothing is written.
func (m *Mirror) Keep(ctx context.Context, h Hash) error {
	if m.remote == nil {
		return nil
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	if m.kept == h {
		return nil
	}
	err := m.use(ctx, "keeping "+h.String(), func(_ context.Context, g *git.Repository) error {
		if _, err := commit(g, h); err != nil {
			return err
		}
		return g.Storer.SetReference(plumbing.NewHashReference(refAccepted, plumbing.Hash(h)))
	})
	if err == nil {
		m.kept = h
	}
	return err
}

func (m *Mirror) lock(ctx context.Context) error {
	select {
	case <-m.fetching:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("gitsync: %w", ctx.Err())
	}
}

func (m *Mirror) unlock() { m.fetching <- struct{}{} }

// Fetch asks for the head of the branch and brings it here with its whole
// history. It says nothing about how that head relates to an earlier one: a
// rewound or rewritten branch is fetched like any other.
//
// The error is one of ErrUnreachable, ErrRefused, ErrRedirected, ErrLimited,
// ErrBranchGone, ErrTooLarge, ErrDisk and ErrDamaged, or the context's.
func (m *Mirror) Fetch(ctx context.Context) (Hash, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	if err := m.lock(ctx); err != nil {
		return Hash{}, err
	}
	defer m.unlock()
	if m.remote == nil {
		return m.look(ctx)
	}
	if m.damaged.Load() || countPacks(m.dir) > m.packs {
		return m.renew(ctx)
	}
	h, news, err := m.fetch(ctx, m.dir)
	if news {
		m.stale.Store(true)
	}
	if errors.Is(err, ErrDamaged) {
		m.damaged.Store(true)
		m.log.Warn("the clone of the register is damaged; cloning anew", "event", "gitsync.damaged", "err", err)
		return m.renew(ctx)
	}
	return h, err
}

// fetch brings the branch into the clone at dir.
func (m *Mirror) fetch(ctx context.Context, dir string) (Hash, bool, error) {
	return m.remote.fetch(ctx, dir, plumbing.NewBranchReferenceName(m.branch), refIncoming)
}

// look reads the branch of a repository that is opened in place.
func (m *Mirror) look(ctx context.Context) (Hash, error) {
	m.stale.Store(true) // others write there: see what is new
	var h Hash
	err := m.use(ctx, "reading "+m.path, func(_ context.Context, g *git.Repository) error {
		ref, err := g.Reference(plumbing.NewBranchReferenceName(m.branch), true)
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			return fmt.Errorf("%w: %s", ErrBranchGone, m.branch)
		}
		if err != nil {
			return err
		}
		h = Hash(ref.Hash())
		_, err = commit(g, h)
		return err
	})
	switch {
	case errors.Is(err, git.ErrRepositoryNotExists), errors.Is(err, os.ErrPermission):
		err = fmt.Errorf("gitsync: %w: %w", ErrUnreachable, err)
	case errors.Is(err, ErrNoCommit): // the branch names a commit that is not there
		err = fmt.Errorf("gitsync: %w: %w", ErrDamaged, err)
	}
	return h, err
}

// renew clones beside the present clone and swaps the two. go-git never
// repacks, so this is how packs are brought back to one, and how damage is
// mended.
func (m *Mirror) renew(ctx context.Context) (Hash, error) {
	fail := func(err error) (Hash, error) { return Hash{}, fmt.Errorf("gitsync: cloning anew: %w", err) }
	beside := m.dir + newSuffix
	defer os.RemoveAll(beside)
	if err := os.RemoveAll(beside); err != nil {
		return fail(err)
	}
	g, err := git.PlainInit(beside, true)
	if err != nil {
		return fail(err)
	}
	h, _, err := m.fetch(ctx, beside)
	if err != nil {
		return Hash{}, err
	}
	if !m.kept.IsZero() {
		if _, err := commit(g, m.kept); err == nil {
			if err := g.Storer.SetReference(plumbing.NewHashReference(refAccepted, plumbing.Hash(m.kept))); err != nil {
				return fail(err)
			}
		} else if !m.damaged.Load() {
			// The branch has left the kept commit, and only the present clone
			// has it. Many packs are the smaller evil; ask again much later.
			m.packs = countPacks(m.dir) + m.maxPacks
			h, _, err := m.fetch(ctx, m.dir)
			m.stale.Store(true)
			return h, err
		}
	}
	if err := m.swap(ctx, beside); err != nil {
		return fail(err)
	}
	m.packs = m.maxPacks
	m.damaged.Store(false)
	m.log.Info("the register was cloned anew", "event", "gitsync.recloned", "commit", h.String())
	return h, nil
}

// swap puts the clone at beside in place of the present one. Whenever a crash
// comes, prepare finds a whole clone under one of two names.
func (m *Mirror) swap(ctx context.Context, beside string) error {
	if err := m.acquire(ctx); err != nil {
		return err
	}
	defer m.release()
	m.drop()
	if err := os.Rename(m.dir, m.dir+oldSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(beside, m.dir); err != nil {
		return errors.Join(err, os.Rename(m.dir+oldSuffix, m.dir))
	}
	if err := durable.SyncDir(filepath.Dir(m.dir)); err != nil {
		return err
	}
	return os.RemoveAll(m.dir + oldSuffix)
}

// countPacks is the number of packs in a bare repository.
func countPacks(dir string) int {
	d, err := os.Open(filepath.Join(dir, "objects", "pack"))
	if err != nil {
		return 0
	}
	defer d.Close()
	n := 0
	for {
		names, err := d.Readdirnames(256)
		for _, name := range names {
			if strings.HasSuffix(name, ".pack") {
				n++
			}
		}
		if err != nil || len(names) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return 0
			}
			return n
		}
	}
}
