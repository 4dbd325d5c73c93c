// Package review judges a request: what the register would be with it, what is
// wrong with that, and what it does. The command line, the workflows and the
// reporter all judge through here, so that they say the same.
//
// It owns the line from two trees of files to problems and a plan, what merging
// makes of three, and the words in which a request is told about it (Markdown).
// Which trees those are, who the author is and where the words go is its callers'
// business: nothing here looks at a disk or a forge, and a repository is read
// through what the caller hands in (At).
//
// Invariants:
//   - Both trees are read under the site's rules of the base; those of a request
//     are never evaluated.
//   - What merging would make is told only where it is certain (Merge).
//   - In Markdown, everything that comes from a register or a request stands in
//     code spans, where the forge makes nothing of it.
package review

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// SitePath is where a repository narrows the built-in rules.
const SitePath = "schema/site.cue"

// ErrSite says that the site's rules cannot be used.
var ErrSite = errors.New(SitePath + " is broken")

// A Source is a file of the register as it was found, and what is odd about
// its name (registration.ParseOdd).
type Source struct {
	registration.Source
	Odd      string // "" for nearly every file
	Unusable bool   // the name is no valid path; Path is for display
	Blob     string // git's name of the content, in hexadecimal; "" where nobody asked
	Left     bool   // the content was not read: a Shelf knows what it means
}

// Same reports whether two sources of one path parse alike.
func (s Source) Same(o Source) bool {
	if s.Mode != o.Mode || s.Odd != o.Odd || s.Unusable != o.Unusable {
		return false
	}
	if s.Blob != "" && s.Blob == o.Blob {
		return true
	}
	return !s.Left && !o.Left && s.Size == o.Size && bytes.Equal(s.Data, o.Data)
}

// A Tree is the register's files as they were found in one place.
type Tree struct {
	Commit  string   // what it is called; "" where nobody asked
	Site    []byte   // content of schema/site.cue, nil if there is none
	Sources []Source // sorted by path
}

// Find is the source at a path, or nil.
func (t Tree) Find(path string) *Source {
	i, ok := slices.BinarySearchFunc(t.Sources, path, func(s Source, path string) int { return strings.Compare(s.Path, path) })
	if !ok {
		return nil
	}
	return &t.Sources[i]
}

// A Counter tells how far the reading of files has come. It is safe for
// concurrent use; nil counts nothing.
type Counter struct {
	Total, Done atomic.Int64 // files; Total is 0 while unknown
}

func (c *Counter) add(n int) {
	if c != nil {
		c.Total.Add(int64(n))
	}
}

func (c *Counter) done() {
	if c != nil {
		c.Done.Add(1)
	}
}

// Parse parses every source under the site's rules, on all cores. The order of
// the files is that of the sources. An ErrSite names the place in the rules.
func Parse(ctx context.Context, site []byte, sources []Source, c *Counter) ([]*registration.File, error) {
	c.add(len(sources))
	files := make([]*registration.File, len(sources))
	workers := min(runtime.GOMAXPROCS(0), max(1, len(sources)/8))
	group, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		group.Go(func() error {
			parser, err := registration.NewParser(site) // not safe for concurrent use
			if err != nil {
				return fmt.Errorf("review: %w: %w", ErrSite, err)
			}
			for i := w; i < len(sources); i += workers {
				if err := ctx.Err(); err != nil {
					return err
				}
				files[i] = parser.ParseOdd(sources[i].Source, sources[i].Odd, sources[i].Unusable)
				c.done()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return files, nil
}

// A Change is the register before a request and with it, read and built. It is
// immutable.
type Change struct {
	After      []*registration.File // with the request, where Read made it
	base, head Tree
	changed    map[string]*registration.File // what the request touches; nil for what it removes
	was, is    *policy.Register
}

// Read reads two trees under the rules of the first. What is the same in both
// is parsed once, and is one and the same File; what the shelf, which may be nil,
// knows is not parsed at all. now is when it is judged. Who has many questions
// about one base keeps a Base.
func Read(ctx context.Context, base, head Tree, now time.Time, shelf *Shelf, c *Counter) (*Change, error) {
	before, err := shelf.Parse(ctx, base.Site, base.Sources, c)
	if err != nil {
		return nil, err
	}
	known := make(map[string]int, len(base.Sources))
	for i := range base.Sources {
		known[base.Sources[i].Path] = i
	}
	after := make([]*registration.File, len(head.Sources))
	changed := make(map[string]*registration.File)
	for path := range known {
		if head.Find(path) == nil {
			changed[path] = nil
		}
	}
	var others []Source
	var places []int // of others in after
	for i, s := range head.Sources {
		if j, ok := known[s.Path]; ok && s.Same(base.Sources[j]) {
			after[i] = before[j]
			continue
		}
		others, places = append(others, s), append(places, i)
	}
	parsed, err := shelf.Parse(ctx, base.Site, others, c)
	if err != nil {
		return nil, err
	}
	for i, f := range parsed {
		after[places[i]] = f
		changed[f.Path] = f
	}
	shelf.Keep(base.Site, base.Sources, before)
	change := newChange(policy.NewRegister(before, policy.Options{Commit: base.Commit, Now: now}), changed, base, head, now)
	change.After = after
	return change, nil
}

// Problems is what is wrong with the request, and what was wrong before it, as
// policy.Judge tells them apart.
func (c *Change) Problems(author policy.Author) []registration.Problem {
	return c.was.JudgeChange(c.changed, author)
}

// Blame is Problems less the warnings in files that the request leaves alone. It
// costs no more the more of those there are.
func (c *Change) Blame(author policy.Author) []registration.Problem {
	return c.was.Blame(c.changed, author)
}

// Teams are the teams by which the author may speak for what the request
// touches, where their account does not.
func (c *Change) Teams(author policy.Author) []registration.Team {
	return c.was.TeamsOfChange(c.changed, author)
}

// Was is the register before the request.
func (c *Change) Was() *policy.Snapshot { return c.was.Snapshot() }

// Is is the register with it, of what is valid.
func (c *Change) Is() *policy.Snapshot { return c.is.Snapshot() }

// SiteChanges reports whether the request changes the site's rules. Those are
// judged by nobody here; they count from the merge on.
func (c *Change) SiteChanges() bool { return !bytes.Equal(c.base.Site, c.head.Site) }

// File is the file at a path with the request, or nil.
func (c *Change) File(path string) *registration.File { return c.is.File(path) }
