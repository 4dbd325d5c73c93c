package review

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// MaxEdits is how many files one question may change.
const MaxEdits = 300

// ErrEdits says that a Base cannot tell what some edits make of it.
var ErrEdits = errors.New("these are no changes of a register")

// A Base is the register at one commit, read, parsed and built once, for many
// questions of what a change would make of it. It is immutable to those who ask;
// any number of goroutines may, at a time.
type Base struct {
	tree    Tree // without contents that git has a name for
	parsers *parsers
	folded  map[string]string // every path, by its lower case; the first of twins

	mu    sync.Mutex
	built *policy.Register // as of now; replaced by one of the same files as time goes on
	now   time.Time
}

// An Edit is one path with another content, or without one. A forge.Change
// converts into one.
type Edit struct {
	Path   string // from the repository's root, with forward slashes
	Data   []byte
	Remove bool
}

// NewBase reads a tree under its own rules. What the shelf, which may be nil,
// knows is not parsed; c, which may be nil, counts. now is when the register is
// judged until somebody asks at another time.
func NewBase(ctx context.Context, tree Tree, now time.Time, shelf *Shelf, c *Counter) (*Base, error) {
	pool := &parsers{site: tree.Site}
	p, err := pool.take() // tells of broken rules, too, where no file needs them
	if err != nil {
		return nil, err
	}
	pool.give(p)
	files, err := shelf.Parse(ctx, tree.Site, tree.Sources, c)
	if err != nil {
		return nil, err
	}
	shelf.Keep(tree.Site, tree.Sources, files)
	return newBase(tree, pool, policy.NewRegister(files, policy.Options{Commit: tree.Commit, Now: now}), now), nil
}

func newBase(tree Tree, pool *parsers, built *policy.Register, now time.Time) *Base {
	b := &Base{tree: tree.leave(), parsers: pool, folded: make(map[string]string, len(tree.Sources)), built: built, now: now.UTC()}
	for i := range tree.Sources {
		p := tree.Sources[i].Path
		if folded := strings.ToLower(p); b.folded[folded] == "" {
			b.folded[folded] = p
		}
	}
	return b
}

// leave is the tree without the contents that can be found again, but for those
// of registrations with a comment, which whoever writes one anew wants to keep.
func (t Tree) leave() Tree {
	t.Sources = slices.Clone(t.Sources)
	for i := range t.Sources {
		s := &t.Sources[i]
		if remarked := registration.Kind(s.Path) == registration.KindRegistration && bytes.Contains(s.Data, []byte("//")); s.Blob != "" && s.Data != nil && !remarked {
			s.Data, s.Left = nil, true
		}
	}
	return t
}

// Text is the content of a registration with a comment in it. It is nil for all
// others, and for one that a Shelf knew. It must not be changed.
func (b *Base) Text(path string) []byte {
	if s := b.tree.Find(path); s != nil && registration.Kind(path) == registration.KindRegistration {
		return s.Data
	}
	return nil
}

// Next is the Base of a newer tree. Only what differs is parsed, and the cost of
// building is that of the change (see policy.Register.With); other rules of the
// site make it all anew. Contents may be Left where b has the same.
func (b *Base) Next(ctx context.Context, tree Tree) (*Base, error) {
	b.mu.Lock()
	built, now := b.built, b.now
	b.mu.Unlock()
	anew := siteSum(tree.Site) != siteSum(b.tree.Site)
	changed := make(map[string]*registration.File)
	var others []Source
	tree.Sources = slices.Clone(tree.Sources)
	for i := range tree.Sources {
		s := &tree.Sources[i]
		if was := b.tree.Find(s.Path); !anew && was != nil && was.Same(*s) {
			s.Data, s.Left = was.Data, was.Left
			continue
		}
		if s.Left {
			return nil, fmt.Errorf("review: reading %s: %w", s.Path, ErrLeft)
		}
		others = append(others, *s)
	}
	if anew {
		return NewBase(ctx, tree, now, nil, nil)
	}
	for i := range b.tree.Sources {
		if p := b.tree.Sources[i].Path; tree.Find(p) == nil {
			changed[p] = nil
		}
	}
	parsed, err := Parse(ctx, tree.Site, others, nil)
	if err != nil {
		return nil, err
	}
	for _, f := range parsed {
		changed[f.Path] = f
	}
	built = built.With(changed, policy.Options{Commit: tree.Commit, Now: now})
	return newBase(tree, b.parsers, built, now), nil
}

// At reads the register as it is in a newer commit, for Next. What b has is left
// where it is.
func (b *Base) At(ctx context.Context, c Commits, commit gitsync.Hash) (Tree, error) {
	return read(ctx, c, commit, func(site []byte) func(gitsync.Entry, int64) ([]byte, error) {
		fetch := func(e gitsync.Entry, max int64) ([]byte, error) { return c.Read(ctx, e.Hash, max) }
		if siteSum(site) != siteSum(b.tree.Site) {
			return fetch
		}
		return func(e gitsync.Entry, max int64) ([]byte, error) {
			is := Source{Source: registration.Source{Path: e.Path, Mode: e.Mode.Register()}, Odd: e.Odd, Unusable: e.Unusable, Blob: e.Hash.String()}
			if was := b.tree.Find(e.Path); was != nil && !e.Hash.IsZero() && was.Same(is) {
				return nil, ErrLeft
			}
			return fetch(e, max)
		}
	})
}

// at is the register as it stands at a time. It costs next to nothing on one
// day, and some milliseconds when another begins.
func (b *Base) at(now time.Time) *policy.Register {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now = now.UTC(); !now.Equal(b.now) {
		b.built = b.built.With(nil, policy.Options{Commit: b.tree.Commit, Now: now})
		b.now = now
	}
	return b.built
}

// Commit is what the register's tree is called.
func (b *Base) Commit() string { return b.tree.Commit }

// Snapshot is what is valid of the register. It is never nil.
func (b *Base) Snapshot() *policy.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.built.Snapshot()
}

// Problems is all that is wrong with the register at a time.
func (b *Base) Problems(now time.Time) []registration.Problem { return b.at(now).Problems() }

// File is the file at a path, or nil.
func (b *Base) File(path string) *registration.File {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.built.File(path)
}

// Taken reports whether no new file can have this path: there is one, or one
// whose name differs in case only, or the path is a folder, or leads through a
// file.
func (b *Base) Taken(p string) bool {
	if b.folded[strings.ToLower(p)] != "" {
		return true
	}
	i, _ := slices.BinarySearchFunc(b.tree.Sources, p+"/", func(s Source, p string) int { return strings.Compare(s.Path, p) })
	if i < len(b.tree.Sources) && strings.HasPrefix(b.tree.Sources[i].Path, p+"/") {
		return true
	}
	for dir := path.Dir(p); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if b.folded[strings.ToLower(dir)] != "" {
			return true
		}
	}
	return false
}

// Change is the register before some edits and with them, as of now. Its After
// is nil. An error is ErrEdits, and about the edits themselves; what is wrong
// with what they write is among the Problems.
func (b *Base) Change(edits []Edit, now time.Time) (*Change, error) {
	if len(edits) > MaxEdits {
		return nil, fmt.Errorf("review: %w: %d files; %d is the most", ErrEdits, len(edits), MaxEdits)
	}
	parser, err := b.parsers.take()
	if err != nil {
		return nil, err
	}
	defer b.parsers.give(parser)
	changed := make(map[string]*registration.File, len(edits))
	seen := make(map[string]bool, len(edits))
	for _, e := range edits {
		if seen[e.Path] || registration.Kind(e.Path) == registration.KindIgnored {
			return nil, fmt.Errorf("review: %w: %q is no file of the register, or changed twice", ErrEdits, e.Path)
		}
		seen[e.Path] = true
		was := b.tree.Find(e.Path)
		if e.Remove {
			if was != nil {
				changed[e.Path] = nil
			}
			continue
		}
		src := registration.Source{Path: e.Path, Size: int64(len(e.Data)), Data: e.Data}
		odd := ""
		if was != nil {
			if was.Mode == registration.Regular && was.Blob == gitsync.BlobHash(e.Data).String() {
				continue // as it is
			}
			odd = was.Odd
		} else if twin := b.folded[strings.ToLower(e.Path)]; twin != "" {
			odd = "the name differs only in case from " + twin // as registration.Twins says
		}
		changed[e.Path] = parser.ParseOdd(src, odd, false)
	}
	return newChange(b.at(now), changed, b.tree, b.tree, now), nil
}

// newChange is what was becomes with files at some paths changed.
func newChange(was *policy.Register, changed map[string]*registration.File, base, head Tree, now time.Time) *Change {
	is := was.With(changed, policy.Options{Commit: head.Commit, Now: now})
	return &Change{base: base, head: head, changed: changed, was: was, is: is}
}

// touched are the paths of a change.
func touched(changed map[string]*registration.File) map[string]bool {
	paths := make(map[string]bool, len(changed))
	for p := range changed {
		paths[p] = true
	}
	return paths
}

// maxParsers is how many idle ones are kept.
const maxParsers = 8

// parsers are those under one set of rules. A parser takes a while to make and
// serves one goroutine at a time.
type parsers struct {
	site []byte

	mu   sync.Mutex
	idle []*registration.Parser
}

func (p *parsers) take() (*registration.Parser, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		parser := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return parser, nil
	}
	p.mu.Unlock()
	parser, err := registration.NewParser(p.site)
	if err != nil {
		return nil, fmt.Errorf("review: %w: %w", ErrSite, err)
	}
	return parser, nil
}

func (p *parsers) give(parser *registration.Parser) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) < maxParsers {
		p.idle = append(p.idle, parser)
	}
}
