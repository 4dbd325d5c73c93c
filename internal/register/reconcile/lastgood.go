package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// inForce is everything about what is in force. It is replaced, never edited.
type inForce struct {
	commit      gitsync.Hash
	at          time.Time // accepted at
	committedAt time.Time
	how         How
	reason      string // the operator's
	site        source // the site rules; without a path if there are none
	files       list
	bad         map[string]bool    // of the files, those with a fault: nothing of them is in force
	left        int                // faulty files that a restart left out of files
	behind      map[string]*source // where the commit itself has another version, or none (nil)
	ownSite     *source            // the commit's own site rules; nil if it has none
	complete    bool               // files and behind are all that the commit has, and all names are plain
	revision    int                // counts how often something else came into force with the same commit
	withheld    withholding        // what of the commit is not in force, since nobody vouches for it
	held        []*source          // blocks of a commit that waits, and of those that nobody vouches for
	problems    []registration.Problem
	substituted []Substitution
	removed     []policy.Removal // since the last announcement, see Accepted
	base        base
	register    *policy.Register // built of files
	snapshot    *policy.Snapshot // with the held blocks
}

// A base is what the files beside register.last-good hold.
type base struct {
	savedBase
	files list
}

// known reports whether a commit was ever accepted.
func (f *inForce) known() bool { return !f.commit.IsZero() }

// dropped is how many files have no version in force.
func (f *inForce) dropped() int { return len(f.bad) + f.left }

// good reports whether a file is in force with no fault of its own: it may
// stand in for a faulty successor.
func (f *inForce) good(path string) bool { return !f.bad[path] }

// lasting are the files that a restart needs: not those of which nothing is in
// force, but for those under campus/, whose good lines are.
func (f *inForce) lasting() list {
	if len(f.bad) == 0 {
		return f.files
	}
	return slices.DeleteFunc(slices.Clone(f.files), func(s *source) bool {
		return f.bad[s.Path] && registration.Kind(s.Path) != registration.KindCampus
	})
}

// announced is what OnAccept last took.
type announced struct {
	Commit   gitsync.Hash     `json:"commit"`
	Revision int              `json:"revision,omitempty"`
	ever     bool             // something was announced at some time
	snapshot *policy.Snapshot // nil after a restart in between
}

// has reports whether it is f that OnAccept took.
func (a *announced) has(f *inForce) bool { return a.Commit == f.commit && a.Revision == f.revision }

// veryMany times Options.ManyFiles are not written into register.last-good
// first, only to be written again once the commit is in force.
const veryMany = 8

// persist makes what is to be in force durable.
func (r *Reconciler) persist(f *inForce) error {
	if len(f.problems) > maxProblems {
		f.problems = slices.Clone(f.problems[:maxProblems]) // lets go of the others
	}
	if err := r.persistLedger(f); err != nil {
		return err
	}
	changed, gone := sinceBase(f.base.files, f.lasting())
	if len(changed)+len(gone) > veryMany*r.o.ManyFiles {
		if err := r.rebase(f); err != nil {
			return fmt.Errorf("keeping what is to be in force: %w", err)
		}
		changed, gone = nil, nil
	}
	if err := r.writeLastGood(f, changed, gone); err != nil {
		return fmt.Errorf("keeping what is to be in force: %w", err)
	}
	return nil
}

// sinceBase tells two lists apart.
func sinceBase(was, is list) (changed list, gone []string) {
	for len(was) > 0 || len(is) > 0 {
		switch {
		case len(is) == 0 || len(was) > 0 && was[0].Path < is[0].Path:
			gone = append(gone, was[0].Path)
			was = was[1:]
		case len(was) == 0 || is[0].Path < was[0].Path:
			changed = append(changed, is[0])
			is = is[1:]
		default:
			if was[0] != is[0] {
				changed = append(changed, is[0])
			}
			was, is = was[1:], is[1:]
		}
	}
	return changed, gone
}

func (r *Reconciler) writeLastGood(f *inForce, changed list, gone []string) error {
	content, err := r.contents(slices.Concat(changed, f.held))
	if err != nil {
		return err
	}
	s := saved{
		Program: r.o.Program, Commit: f.commit, At: f.at, CommittedAt: f.committedAt, How: f.how, Reason: f.reason, Gone: gone,
		Revision: f.revision, Withheld: f.withheld,
		Problems: f.problems, Substituted: f.substituted, Dropped: f.dropped(), Removed: f.removed,
	}
	if f.site.Path != "" {
		site := savedOf(&f.site, r.o.Program, f.site.content)
		s.Site = &site
	}
	if f.base.Name != "" {
		s.Base = &f.base.savedBase
	}
	for _, file := range changed {
		s.Files = append(s.Files, savedOf(file, r.o.Program, content(file)))
	}
	for _, file := range f.held {
		s.Held = append(s.Held, savedOf(file, r.o.Program, content(file)))
	}
	for name := range f.bad {
		if registration.Kind(name) == registration.KindCampus {
			s.Bad = append(s.Bad, name)
		}
	}
	slices.Sort(s.Bad)
	body, err := encodeSaved(&s)
	if err != nil {
		return err
	}
	pieces, _ := sealed(body)
	return r.o.Disk.WriteFile(r.path(lastGoodFile), pieces...)
}

// rebase writes the files of the base anew. Nothing refers to them until
// register.last-good does. The files of f are then the base's.
func (r *Reconciler) rebase(f *inForce) error {
	files := f.lasting()
	defer modest(len(files))()
	content, err := r.contents(files)
	if err != nil {
		return err
	}
	texts, at := make([][]byte, len(files)), int64(0)
	out := make([]savedFile, len(files))
	shelved := make(map[string]*source, len(files))
	next := base{files: make(list, len(files))}
	for i, s := range files {
		out[i] = savedOf(s, r.o.Program, nil)
		texts[i], out[i].At = content(s), at
		at += int64(len(texts[i]))
		moved := *s
		moved.content, moved.shelved, moved.at = nil, true, out[i].At
		next.files[i], shelved[s.Path] = &moved, &moved
	}
	if next.Name = "a"; f.base.Name == "a" {
		next.Name = "b"
	}
	var pieces [][]byte
	pieces, next.Contents = sealed(texts...)
	if err := r.o.Disk.WriteFile(r.path(contentsPrefix+next.Name), pieces...); err != nil {
		return err
	}
	if pieces, err = encodeFiles(out); err != nil {
		return err
	}
	pieces, next.Files = sealed(pieces...)
	if err := r.o.Disk.WriteFile(r.path(filesPrefix+next.Name), pieces...); err != nil {
		return err
	}
	f.base, f.files = next, f.files.with(shelved)
	return nil
}

// tidy writes the base anew when register.last-good has grown too long, and
// removes the one that was in use before the commit. What is in force stays the
// same, so a failure is no more than a warning.
func (r *Reconciler) tidy(before string) {
	var err error
	if changed, gone := sinceBase(r.inForce.base.files, r.lasting()); len(changed)+len(gone) > r.o.ManyFiles {
		next := r.inForce
		if err = r.rebase(&next); err == nil {
			err = r.writeLastGood(&next, nil, nil)
		}
		if err == nil {
			r.inForce = next
		}
	}
	if before != "" && before != r.inForce.base.Name { // nothing refers to it any more
		err = errors.Join(err, r.o.Disk.Remove(r.path(filesPrefix+before)), r.o.Disk.Remove(r.path(contentsPrefix+before)))
	}
	if err != nil {
		r.log.Warn("the files of the register on the disk cannot be tidied", "event", "register.tidy_failed", "err", err)
	}
}

func (r *Reconciler) path(name string) string { return filepath.Join(r.o.Dir, name) }

// contents gives what sources say, out of the memory or the file of contents.
func (r *Reconciler) contents(sources []*source) (func(*source) []byte, error) {
	var text []byte
	if slices.ContainsFunc(sources, func(s *source) bool { return s.shelved && s.Whole && s.Size > 0 }) {
		var err error
		if text, err = r.readSealed(contentsPrefix+r.inForce.base.Name, r.inForce.base.Contents); err != nil {
			return nil, err
		}
	}
	return func(s *source) []byte {
		switch {
		case !s.shelved:
			return s.content
		case !s.Whole || s.at < 0 || s.Size < 0 || s.at > int64(len(text))-s.Size:
			return nil // the sum is right, so it is none of the files written
		}
		return text[s.at : s.at+s.Size : s.at+s.Size]
	}, nil
}

// maxSaved bounds each of the files on the disk, in octets.
const maxSaved = 4 * registration.MaxRegister

func (r *Reconciler) readSealed(name string, want sum) ([]byte, error) {
	data, err := r.o.Disk.ReadFile(r.path(name), maxSaved)
	if err != nil {
		return nil, err
	}
	body, have, err := unsealed(data)
	if err == nil && want != (sum{}) && have != want {
		err = errors.New("it is another than was written last")
	}
	if err != nil {
		return nil, fmt.Errorf("reconcile: %s: %w", name, err)
	}
	return body, nil
}

func (r *Reconciler) persistAnnounced(a announced) error {
	data, err := json.Marshal(a)
	if err == nil {
		err = r.o.Disk.WriteFile(r.path(announcedFile), data)
	}
	if err != nil {
		return fmt.Errorf("reconcile: remembering what was announced: %w", err)
	}
	return nil
}

// restore puts in force what was in force before. If a file is damaged, the
// commit of the ledger, or the one that was announced last, is at least
// remembered as the accepted one, so that a rewound branch is not taken for a
// beginning, and what was withheld stays so.
func (r *Reconciler) restore() {
	data, err := r.o.Disk.ReadFile(r.path(announcedFile), 1<<20)
	if !errors.Is(err, fs.ErrNotExist) {
		r.announced.ever = true // even if it cannot be read
		if err == nil {
			err = json.Unmarshal(data, &r.announced)
		}
		if err != nil {
			r.log.Error("it is not known what was announced last", "event", "register.announced_damaged", "err", err)
		}
	}
	kept := r.readLedger()
	f, err := r.readLastGood()
	switch {
	case err == nil:
		r.inForce = *f
		r.approvals.open = r.withheld.open()
		r.o.Live.Store(r.snapshot)
		r.update(func(s *State) { s.ContactAt = r.at }) // it answered then, at least
		if r.announced.has(&r.inForce) {
			r.announced.snapshot = r.snapshot
		}
		r.log.Info("the register is in force as before", "event", "register.restored", "commit", r.commit.String(),
			"addresses", r.snapshot.Len(), "at", r.at)
	case errors.Is(err, fs.ErrNotExist) && !r.announced.ever && !r.approvals.ledger:
	default:
		r.inForce = inForce{commit: r.announced.Commit, revision: r.announced.Revision}
		switch {
		case kept != nil && !kept.Commit.IsZero():
			r.commit, r.withheld = kept.Commit, kept.Withheld
		case kept == nil && r.approvals.ledger:
			r.approvals.lost = "what was in force is damaged, and so is the list of what nobody vouched for"
		}
		r.log.Error("the last good register cannot be read; nobody is served until the repository answers",
			"event", "register.damaged", "commit", r.commit.String(), "err", err)
	}
	r.show()
}

func (r *Reconciler) readLastGood() (*inForce, error) {
	data, err := r.readSealed(lastGoodFile, sum{})
	if err != nil {
		return nil, err
	}
	s, err := decodeSaved(data)
	if err != nil {
		return nil, fmt.Errorf("reconcile: %s: %w", lastGoodFile, err)
	}
	f := &inForce{
		commit: s.Commit, at: s.At, committedAt: s.CommittedAt, how: s.How, reason: s.Reason,
		revision: s.Revision, withheld: s.Withheld,
		problems: s.Problems, substituted: s.Substituted, removed: s.Removed, bad: make(map[string]bool),
	}
	if s.Site != nil {
		f.site = *s.Site.source()
	}
	for _, name := range s.Bad {
		f.bad[name] = true
	}
	f.left = s.Dropped - len(f.bad)
	if s.Base != nil {
		if err := r.readBase(s.Base, f); err != nil {
			return nil, err
		}
	}
	changed := make(map[string]*source)
	for _, name := range s.Gone {
		changed[name] = nil
	}
	for i := range s.Files {
		changed[s.Files[i].Source.Path] = s.Files[i].source()
	}
	f.files = f.base.files.with(changed)
	for i := range s.Held {
		f.held = append(f.held, s.Held[i].source())
	}
	r.inForce.base = f.base // where contents looks
	if err := r.revive(f, s.Program != "" && s.Program == r.o.Program); err != nil {
		return nil, fmt.Errorf("reconcile: %s: %w", lastGoodFile, err)
	}
	return f, nil
}

func (r *Reconciler) readBase(named *savedBase, f *inForce) error {
	data, err := r.readSealed(filesPrefix+named.Name, named.Files)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) { // unlike register.last-good, it must be there
			err = errors.New(filesPrefix + named.Name + " is not there")
		}
		return err
	}
	files, err := decodeFiles(data)
	if err != nil {
		return fmt.Errorf("reconcile: %s%s: %w", filesPrefix, named.Name, err)
	}
	f.base = base{savedBase: *named, files: make(list, len(files))}
	for i := range files {
		s := files[i].source()
		s.shelved, s.at = true, files[i].At
		f.base.files[i] = s
	}
	return nil
}

// revive makes the register of what was read from the disk. What another
// program parsed is parsed anew.
func (r *Reconciler) revive(f *inForce, sameProgram bool) error {
	all := slices.Concat(f.files, f.held)
	var missing []*source
	for _, s := range all {
		if !sameProgram || s.File == nil {
			missing = append(missing, s)
		}
	}
	r.workshop.adopt(f.site.content)
	if !sameProgram {
		r.workshop = workshop{}
	}
	if err := r.parse(context.Background(), f.site, missing); err != nil {
		return err
	}
	o := r.buildOptions(f.commit)
	if len(f.bad) > 0 {
		// Where two files under campus/ say who holds a network, the newcomer was
		// found at fault. Those without a fault stand in for what was in force before.
		good := slices.DeleteFunc(slices.Clone(f.files), func(s *source) bool { return f.bad[s.Path] })
		o.Incumbents, _ = policy.Build(good.parsed(), o)
	}
	f.register = policy.NewRegister(f.files.parsed(), o)
	f.snapshot = r.withHeld(f)
	for name, list := range faultyFiles(f.register.Problems()) {
		if f.bad[name] {
			continue
		}
		// A fault that is found now in what was good is one of the program's
		// own rules, changed by an upgrade.
		f.bad[name] = true
		for _, p := range list {
			if isFault(p) {
				r.log.Error("a file that was in force is refused by this version of the program", "event", "register.refused",
					"file", p.File, "rule", string(p.Rule), "err", p.Message)
				f.problems = append(f.problems, p)
			}
		}
	}
	return nil
}

// withHeld is the snapshot of f with the held blocks over it. Where the commit
// that waits has another version of a block, the accepted one stays in force as
// well.
func (r *Reconciler) withHeld(f *inForce) *policy.Snapshot {
	if len(f.held) == 0 {
		return f.register.Snapshot()
	}
	changed, versions := make(map[string]*registration.File, len(f.held)), make(map[string]int)
	for _, s := range f.held {
		file := s.File
		if s.Beside {
			versions[s.Path]++
			moved := *file
			moved.Path = path.Join(path.Dir(s.Path), strings.Repeat("held-", versions[s.Path])+path.Base(s.Path))
			file = &moved
		}
		changed[file.Path] = file
	}
	o := r.buildOptions(f.commit)
	o.Incumbents = f.register.Snapshot()
	return f.register.With(changed, o).Snapshot()
}

// sameSources reports whether two lists hold the same files.
func sameSources(a, b []*source) bool {
	return slices.EqualFunc(a, b, func(x, y *source) bool { return x.same(y) && x.Beside == y.Beside && x.Withheld == y.Withheld })
}

func compareProblems(a, b registration.Problem) int {
	return cmp.Or(
		strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
		strings.Compare(string(a.Rule), string(b.Rule)), strings.Compare(a.Message, b.Message))
}
