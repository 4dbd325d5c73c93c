package reconcile

import (
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/approval"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// The branch is walked commit by commit along first parents. What a commit that
// nobody vouches for changes is withheld, path by path: the version before it
// stays in force. What holds of a path that is withheld:
//
//   - A later commit does not set it free by changing it again, vouched for or
//     not: nobody reviewed as new what the first one wrote. It is free when it
//     is again what is in force, or when the commit that withholds it is vouched
//     for after all.
//   - Its name is no way out: where a commit that is vouched for removes it, what
//     that commit adds may be the same file under another name, which a review
//     shows without its lines. That is withheld too.
//
// What is withheld is decided by replay, which is pure. load asks withhold, and
// gets the register that is to be in force.

// A version is what stands at a path. The zero version is nothing.
type version struct {
	Blob     gitsync.Hash `json:"blob"`
	Mode     gitsync.Mode `json:"mode,omitempty"`
	Odd      string       `json:"odd,omitempty"` // see gitsync.Entry
	Unusable bool         `json:"unusable,omitempty"`
	From     gitsync.Hash `json:"from"` // a commit in which it stands there
}

func versionOf(e gitsync.Entry, from gitsync.Hash) version {
	if e.Path == "" {
		return version{}
	}
	return version{Blob: e.Hash, Mode: e.Mode, Odd: e.Odd, Unusable: e.Unusable, From: from}
}

// absent reports whether nothing stands there that could be read.
func (v version) absent() bool { return v.Blob.IsZero() || v.Unusable }

// source is the file of that version; nil if there is none.
func (v version) source(path string) *source {
	if v.absent() {
		return nil
	}
	return &source{Path: path, Blob: v.Blob, From: v.From, Mode: v.Mode.Register(), Odd: v.Odd}
}

// is reports whether two versions mean the same to the register.
func (v version) is(o version) bool {
	if v.absent() || o.absent() {
		return v.absent() == o.absent()
	}
	return v.Blob == o.Blob && v.Mode.Register() == o.Mode.Register()
}

// A passage is one step of the branch, with what it changes and how it was
// judged.
type passage struct {
	Commit   gitsync.Hash      `json:"commit"`
	Base     gitsync.Hash      `json:"base"`
	Jump     bool              `json:"jump,omitempty"`
	Standing approval.Standing `json:"standing,omitempty"`
	Why      string            `json:"why,omitempty"`
	Changes  []pathChange      `json:"changes,omitempty"`
}

func (p *passage) step() gitsync.Step {
	return gitsync.Step{Commit: p.Commit, Base: p.Base, Jump: p.Jump}
}

// A pathChange is what a passage makes of one path.
type pathChange struct {
	Path string  `json:"path"`
	Was  version `json:"was"`
	Now  version `json:"now"`
	// Causes are the commits that withheld a path which this passage removes, if
	// it adds this one: it may be the same file under another name.
	Causes []gitsync.Hash `json:"causes,omitempty"`
}

// changesOf picks what matters to the register out of a diff.
func changesOf(step gitsync.Step, diff []gitsync.Change) []pathChange {
	var out []pathChange
	for _, d := range diff {
		c := pathChange{Path: d.Path, Was: versionOf(d.Old, step.Base), Now: versionOf(d.New, step.Commit)}
		switch kind := registration.Kind(d.Path); {
		case d.Path != siteFile && (kind == registration.KindIgnored || kind == registration.KindMisplaced):
		case c.Was.is(c.Now):
		default:
			out = append(out, c)
		}
	}
	return out
}

// A withheldPath is one path whose version in the accepted commit is not in
// force.
type withheldPath struct {
	Path    string       `json:"path"`
	InForce version      `json:"inForce"` // in its place
	Since   time.Time    `json:"since"`
	Cause   gitsync.Hash `json:"cause"`           // the commit that must be vouched for first
	Moved   bool         `json:"moved,omitempty"` // it may be what Cause changed, under another name
	Stuck   bool         `json:"stuck,omitempty"` // changed too often to be remembered: only being again what is in force sets it free
}

// A withholding is what an accepted commit must not bring into force, and what it
// takes to say so again when a verdict changes. It is replaced, never edited.
type withholding struct {
	Paths    []withheldPath `json:"paths,omitempty"`    // sorted by path
	Passages []passage      `json:"passages,omitempty"` // oldest first: those that are the Cause of a path, and of each what it changes of Paths since they are withheld
}

// maxRemembered bounds the changes of one path while it is withheld.
const maxRemembered = 200

// A course is how one path fares along the branch.
type course struct {
	withheldPath
	held  bool
	start int // index of the first passage that matters
	n     int // changes since
}

// replay says what is withheld after more passages, by the verdicts that stand
// in passages. It goes over those of w again, since their verdicts may be new.
func (w *withholding) replay(more []passage, now time.Time) *withholding {
	all := make([]passage, 0, len(w.Passages)+len(more))
	for _, p := range slices.Concat(w.Passages, more) {
		p.Changes = slices.Clone(p.Changes)
		all = append(all, p)
	}
	courses := make(map[string]*course, len(w.Paths))
	since := make(map[string]time.Time, len(w.Paths))
	for _, p := range w.Paths {
		courses[p.Path] = &course{withheldPath: p, held: p.Stuck}
		since[p.Path] = p.Since
	}
	vouched := make(map[gitsync.Hash]bool)
	for i := range all {
		p := &all[i]
		vouched[p.Commit] = p.Standing == approval.Vouched
		gone := removedWhileHeld(p, courses)
		for j := range p.Changes {
			ch := &p.Changes[j]
			if ch.Was.absent() {
				ch.Causes = stillOpen(append(slices.Clip(ch.Causes), gone...), vouched)
			}
			free := vouched[p.Commit] && len(ch.Causes) == 0
			c := courses[ch.Path]
			if c == nil {
				if free {
					continue
				}
				c = &course{withheldPath: withheldPath{Path: ch.Path, InForce: ch.Was}}
				courses[ch.Path] = c
			}
			c.pass(i, p, ch, free)
		}
	}
	return collect(all, courses, since, now)
}

// stillOpen is the causes that are not vouched for, each once.
func stillOpen(causes []gitsync.Hash, vouched map[gitsync.Hash]bool) (out []gitsync.Hash) {
	for _, h := range causes {
		if !vouched[h] && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// removedWhileHeld gives the causes of the withheld paths that a passage
// removes.
func removedWhileHeld(p *passage, courses map[string]*course) (causes []gitsync.Hash) {
	for _, ch := range p.Changes {
		if c := courses[ch.Path]; c != nil && c.held && ch.Now.absent() && !slices.Contains(causes, c.Cause) {
			causes = append(causes, c.Cause)
		}
	}
	return causes
}

// pass moves one path along the passage with index i.
func (c *course) pass(i int, p *passage, ch *pathChange, free bool) {
	switch {
	case c.held && ch.Now.is(c.InForce):
		c.held, c.Stuck = false, false
	case c.held:
		if c.n++; c.n > maxRemembered {
			c.Stuck = true
		}
		if c.Stuck {
			c.start = i
		}
	case free:
		c.InForce = ch.Now
	case ch.Now.is(c.InForce):
	default:
		c.held, c.start, c.n = true, i, 1
		c.Cause, c.Moved = p.Commit, false
		if p.Standing == approval.Vouched {
			c.Cause, c.Moved = ch.Causes[0], true
		}
	}
}

// collect keeps of the passages what may matter later.
func collect(all []passage, courses map[string]*course, since map[string]time.Time, now time.Time) *withholding {
	out := &withholding{}
	causes := make(map[gitsync.Hash]bool)
	for _, c := range courses {
		if !c.held {
			continue
		}
		p := c.withheldPath
		if p.Since = now; !since[p.Path].IsZero() {
			p.Since = since[p.Path]
		}
		causes[p.Cause] = true
		out.Paths = append(out.Paths, p)
	}
	slices.SortFunc(out.Paths, func(a, b withheldPath) int { return strings.Compare(a.Path, b.Path) })
	for i := range all {
		all[i].Changes = slices.DeleteFunc(all[i].Changes, func(ch pathChange) bool {
			c := courses[ch.Path]
			return c == nil || !c.held || i < c.start
		})
		if len(all[i].Changes) == 0 {
			all[i].Changes = nil // as it is read from the disk
		}
		for _, ch := range all[i].Changes {
			for _, h := range ch.Causes {
				causes[h] = true
			}
		}
	}
	for _, p := range all {
		if len(p.Changes) > 0 || causes[p.Commit] {
			out.Passages = append(out.Passages, p)
		}
	}
	return out
}

// blocks lists what a withheld path under blocks/ has said since it is
// withheld, newest first: nobody need vouch for taking service away. A commit
// that somebody vouches for ends what came before it; another one ends nothing.
func (w *withholding) blocks(path string) (out []version) {
	const most = 10
	for _, p := range slices.Backward(w.Passages) {
		for _, ch := range p.Changes {
			if ch.Path != path || len(out) == most {
				continue
			}
			if !ch.Now.absent() {
				out = append(out, ch.Now)
			}
			if p.Standing == approval.Vouched {
				return out
			}
		}
	}
	return out
}

// open lists the steps that are not vouched for, and that something waits for.
func (w *withholding) open() (out []gitsync.Step) {
	for i := range w.Passages {
		if p := &w.Passages[i]; p.Standing != approval.Vouched {
			out = append(out, p.step())
		}
	}
	return out
}

// commits finds the passages that something waits for by their commits.
func (w *withholding) commits() map[gitsync.Hash]*passage {
	out := make(map[gitsync.Hash]*passage, len(w.Passages))
	for i := range w.Passages {
		out[w.Passages[i].Commit] = &w.Passages[i]
	}
	return out
}
