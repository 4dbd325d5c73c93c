package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// Where the register is in its repository.
const (
	registerFolder = "registrations"
	siteFile       = "schema/site.cue"
)

// A candidate is what would be in force with another commit.
type candidate struct {
	inForce
	overlay map[string]*source // what differs from what is in force; nil for what is gone
	aside   map[string]*source // what the commit has where something is withheld; nil for what it has not
}

// load reads a commit and builds what would be in force with it:
//
//	what the commit changes → parse → Build; every file with an error is exchanged
//	for its last good version → Build again, until no new file is at fault.
//
// Files under campus/ are exchanged first, since a mistake there makes others
// look wrong. The number of rounds is bounded: each exchanges something. The
// cost is that of what changes, other site rules and campus files aside. Where
// w withholds a path, what is in force stands in for what the commit has.
func (r *Reconciler) load(ctx context.Context, commit gitsync.Hash, w *withholding) (*candidate, error) {
	c := &candidate{overlay: make(map[string]*source)}
	c.commit, c.base, c.withheld = commit, r.inForce.base, *w
	tree, err := r.survey(ctx, c)
	if err != nil {
		return nil, err
	}
	// What the accepted commit has and is not in force is tried again, since its
	// fault may have lain elsewhere.
	maps.Copy(c.overlay, r.behind)
	maps.Copy(c.overlay, tree)
	site := r.withhold(c)
	if err := r.useSite(ctx, c, site); err != nil {
		return nil, err
	}
	if !r.sameSite(c) { // everything means something else, perhaps
		for _, s := range r.files {
			if _, other := c.overlay[s.Path]; !other {
				c.overlay[s.Path] = s
			}
		}
	}
	defer modest(len(c.overlay))()
	if err := r.prepare(ctx, c); err != nil {
		return nil, err
	}
	if err := r.substitute(ctx, c); err != nil {
		return nil, err
	}
	if !r.known() || r.snapshot == nil {
		if err := fitToBegin(c); err != nil {
			return nil, err
		}
	}
	r.workshop.keep(c.overlay)
	return c, r.addBlocks(ctx, c)
}

// survey tells which files the commit has in another form than the accepted
// one, nil for those that it has no more, and finds its site rules.
func (r *Reconciler) survey(ctx context.Context, c *candidate) (map[string]*source, error) {
	if r.complete {
		tree, err := r.compare(ctx, c)
		if !errors.Is(err, errIrregular) {
			return tree, err
		}
	}
	entries, err := r.o.Source.Files(ctx, c.commit, registerFolder, siteFile)
	if err != nil {
		return nil, err
	}
	c.ownSite = nil // until it is seen; compare may have left another commit's
	tree, listed := make(map[string]*source), make(map[string]bool, len(entries))
	for _, e := range entries {
		s := sourceOf(e, c.commit)
		switch {
		case e.Path == siteFile:
			c.ownSite = s
		case registration.Kind(e.Path) == registration.KindIgnored:
		default:
			listed[e.Path] = true
			if !s.same(r.ofCommit(e.Path)) {
				tree[e.Path] = s
			}
		}
	}
	for path := range r.paths() {
		if !listed[path] {
			tree[path] = nil
		}
	}
	return tree, nil
}

// errIrregular says that a name must be seen beside all others.
var errIrregular = errors.New("a name that must be seen beside all others")

// compare is survey at the cost of what differs. It needs every name to be
// plain, before and after.
func (r *Reconciler) compare(ctx context.Context, c *candidate) (map[string]*source, error) {
	changes, err := r.o.Source.Diff(ctx, r.commit, c.commit, registerFolder, siteFile)
	if errors.Is(err, gitsync.ErrNoCommit) { // the accepted one, perhaps: it is not in this clone
		return nil, errIrregular
	}
	if err != nil {
		return nil, err
	}
	c.ownSite = r.ownSite
	tree := make(map[string]*source, len(changes))
	for _, d := range changes {
		var s *source
		if d.New.Path != "" {
			s = sourceOf(d.New, c.commit)
		}
		switch {
		case d.Path == siteFile:
			c.ownSite = s
		case registration.Kind(d.Path) == registration.KindIgnored:
		case s != nil && !s.plain():
			return nil, errIrregular
		default:
			tree[d.Path] = s
		}
	}
	return tree, nil
}

func sourceOf(e gitsync.Entry, commit gitsync.Hash) *source {
	return &source{Path: e.Path, Blob: e.Hash, From: commit, Mode: e.Mode.Register(), Odd: e.Odd, Unusable: e.Unusable}
}

// ofCommit is what the accepted commit itself has at a path, or nil.
func (r *Reconciler) ofCommit(path string) *source {
	if s, other := r.behind[path]; other {
		return s
	}
	return r.files.find(path)
}

// paths yields the paths that the accepted commit has.
func (r *Reconciler) paths() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, s := range r.files {
			if own, other := r.behind[s.Path]; other && own == nil {
				continue
			}
			if !yield(s.Path) {
				return
			}
		}
		for path, s := range r.behind {
			if s != nil && r.files.find(path) == nil && !yield(path) {
				return
			}
		}
	}
}

// prepare reads and parses what stands in the overlay, as far as that was not
// done before.
func (r *Reconciler) prepare(ctx context.Context, c *candidate) error {
	total := r.files.with(c.overlay).octets()
	var missing []*source
	for path, s := range c.overlay {
		if s == nil {
			continue
		}
		// What was parsed last is known under these very site rules.
		if known := r.workshop.recent[s.key()]; known != nil && (s.File == nil || !r.sameSite(c)) {
			c.overlay[path] = known
			if known.Whole && !s.Whole {
				total += known.Size
			}
			continue
		}
		if s.File == nil {
			if err := r.read(ctx, s); err != nil {
				return err
			}
			if total += int64(len(s.content)); total > registration.MaxRegister {
				return fmt.Errorf("the files of the register have more than %d bytes together", int64(registration.MaxRegister))
			}
			missing = append(missing, s)
		} else if !r.sameSite(c) {
			again := *s
			again.File = nil
			c.overlay[path] = &again
			missing = append(missing, &again)
		}
	}
	return r.parse(ctx, c.site, missing)
}

// read fills in the content of a file of the repository; only the size of one
// that is too large, and nothing of what is not looked into.
func (r *Reconciler) read(ctx context.Context, s *source) error {
	kind := registration.Kind(s.Path)
	if s.Mode != registration.Regular || s.Unusable || kind == registration.KindMisplaced {
		return nil
	}
	limit := int64(registration.MaxFile)
	if kind == registration.KindCampus || s.Path == siteFile {
		limit = registration.MaxCampusFile
	}
	data, err := r.o.Source.Read(ctx, s.Blob, limit)
	var large *gitsync.TooLarge
	if errors.As(err, &large) {
		s.Size = large.Size
		return nil
	}
	s.content, s.Size, s.Whole = data, int64(len(data)), err == nil
	return err
}

// parse parses sources under site rules.
func (r *Reconciler) parse(ctx context.Context, site source, sources []*source) error {
	if len(sources) == 0 {
		return r.workshop.use(site.content)
	}
	content, err := r.contents(sources)
	if err != nil {
		return err
	}
	slices.SortFunc(sources, func(a, b *source) int { return strings.Compare(a.Path, b.Path) })
	return r.workshop.parse(ctx, site.content, sources, content, func(done int) {
		r.log.Info("reading the register", "event", "register.reading", "files", len(sources), "done", done)
	})
}

// useSite chooses the site rules: the given ones, or, if they are broken, the
// last good ones. Without any that are good, nothing can be judged.
func (r *Reconciler) useSite(ctx context.Context, c *candidate, site *source) error {
	if site == nil {
		return r.workshop.use(nil) // there are none
	}
	own := site == c.ownSite
	if !site.Whole && site.same(r.ownSite) {
		site = r.ownSite
	}
	if !site.Whole {
		if err := r.read(ctx, site); err != nil {
			return err
		}
	}
	if own {
		c.ownSite = site
	}
	problem := ""
	switch {
	case site.Mode != registration.Regular || site.Unusable:
		problem = "it is not a regular file"
	case !site.Whole:
		problem = "it is too large"
	default:
		if err := r.workshop.use(site.content); err != nil {
			problem = err.Error()
		}
	}
	if problem == "" {
		c.site = *site
		return nil
	}
	if !r.known() || r.snapshot == nil {
		return fmt.Errorf("%s is broken, and there is no earlier version: %s", siteFile, problem)
	}
	c.site = r.site // possibly none
	c.problems = append(c.problems, registration.Problem{
		File: siteFile, Line: 0, Column: 0, Rule: registration.RuleSchema, Severity: registration.Error,
		Message: "the site rules are broken and the last good ones stay in force: " + problem,
		Hint:    "run 'gatepost check' on a checkout and mend the file",
	})
	c.substituted = append(c.substituted, Substitution{Path: siteFile, From: r.site.From.String()})
	return r.workshop.use(c.site.content)
}

// sameSite reports whether a candidate's site rules are those in force.
func (r *Reconciler) sameSite(c *candidate) bool {
	return r.register != nil && bytes.Equal(c.site.content, r.site.content) && (c.site.Path == "") == (r.site.Path == "")
}

// substitute builds the candidate, with last good versions for what is faulty.
func (r *Reconciler) substitute(ctx context.Context, c *candidate) error {
	own := maps.Clone(c.overlay) // what the commit has
	maps.Copy(own, c.aside)
	told := make(map[string][]registration.Problem) // what was wrong with a file when it was dealt with
	for {
		register := r.build(c)
		problems := register.Problems()
		faulty := newlyFaulty(problems, told)
		if len(faulty) == 0 {
			c.register, c.snapshot = register, register.Snapshot()
			r.finish(c, own, problems, told)
			return nil
		}
		for name, problems := range faulty {
			told[name] = problems
			mine, changed := c.overlay[name]
			old := r.files.find(name)
			if !changed || mine == nil || old == nil || mine.same(old) || r.bad[name] && !r.standsIn(mine) {
				continue // Build leaves out what is wrong
			}
			if !r.sameSite(c) {
				again := *old
				if err := r.parse(ctx, c.site, []*source{&again}); err != nil {
					return err
				}
				old = &again
			}
			c.overlay[name] = old
			c.substituted = append(c.substituted, Substitution{Path: name, From: old.From.String()})
		}
	}
}

// standsIn reports whether what is in force stands in for a version even though
// it has a fault of its own: of a campus file its good lines are in force, and
// one that cannot be read has none.
func (r *Reconciler) standsIn(mine *source) bool {
	return registration.Kind(mine.Path) == registration.KindCampus && mine.File != nil && slices.ContainsFunc(mine.File.Problems, isFault)
}

// build builds what is in force with the overlay over it.
func (r *Reconciler) build(c *candidate) *policy.Register {
	o := r.buildOptions(c.commit)
	if r.register == nil || !r.sameSite(c) {
		return policy.NewRegister(r.files.with(c.overlay).parsed(), o)
	}
	return r.register.With(meanings(c.overlay), o)
}

func (r *Reconciler) buildOptions(commit gitsync.Hash) policy.Options {
	return policy.Options{Commit: commit.String(), Now: r.o.Now(), Incumbents: r.incumbents(), MaxVolume: r.o.Volume}
}

// incumbents is who holds what, held blocks aside; nil if nobody is known to.
func (r *Reconciler) incumbents() *policy.Snapshot {
	if r.register == nil {
		return nil
	}
	return r.register.Snapshot()
}

// newlyFaulty picks the files with an error that were not dealt with yet: only
// those under campus/ if there are any.
func newlyFaulty(problems []registration.Problem, told map[string][]registration.Problem) map[string][]registration.Problem {
	campus, others := make(map[string][]registration.Problem), make(map[string][]registration.Problem)
	for name, list := range faultyFiles(problems) {
		if _, done := told[name]; done {
			continue
		}
		if registration.Kind(name) == registration.KindCampus {
			campus[name] = list
		} else {
			others[name] = list
		}
	}
	if len(campus) > 0 {
		return campus
	}
	return others
}

// faultyFiles are the problems, sorted by file, of the files with a fault.
func faultyFiles(problems []registration.Problem) map[string][]registration.Problem {
	out := make(map[string][]registration.Problem)
	for len(problems) > 0 {
		n := 1
		for n < len(problems) && problems[n].File == problems[0].File {
			n++
		}
		if slices.ContainsFunc(problems[:n], isFault) {
			out[problems[0].File] = problems[:n:n]
		}
		problems = problems[n:]
	}
	return out
}

// isFault reports whether a problem keeps a file out of the snapshot. What is
// built all the same is not exchanged for an older version.
func isFault(p registration.Problem) bool {
	return p.Severity != registration.Warning && p.Rule != registration.RuleExpiryTooFar
}

// finish settles what is reported and which files are good. Of a file that was
// exchanged, what is wrong with the commit's version is told.
func (r *Reconciler) finish(c *candidate, own map[string]*source, last []registration.Problem, told map[string][]registration.Problem) {
	c.files = r.files.with(c.overlay)
	c.bad = make(map[string]bool)
	for name := range faultyFiles(last) {
		c.bad[name] = true
	}
	c.leftOut()
	c.behind = make(map[string]*source)
	for path, s := range own {
		if is := c.files.find(path); !s.same(is) {
			c.behind[path] = s
		}
	}
	c.complete = c.files.plain()
	for _, s := range c.behind {
		c.complete = c.complete && (s == nil || s.plain())
	}
	for _, p := range last {
		if _, done := told[p.File]; !done {
			c.problems = append(c.problems, p)
		}
	}
	for _, list := range told {
		c.problems = append(c.problems, list...)
	}
	slices.SortFunc(c.problems, compareProblems)
	slices.SortFunc(c.substituted, func(a, b Substitution) int { return strings.Compare(a.Path, b.Path) })
}

// leftOut finds the files that are not in force although nothing is said of
// them: while a file under campus/ cannot be read, Build accuses no others. They
// are bad all the same: an old version must not come back in its place later.
func (c *candidate) leftOut() {
	for name := range c.bad {
		if registration.Kind(name) != registration.KindCampus {
			continue
		}
		built := make(map[string]bool, len(c.files))
		for _, e := range c.snapshot.All() {
			built[e.Registration.Path] = true
		}
		for _, s := range c.files {
			if registration.Kind(s.Path) == registration.KindRegistration && !built[s.Path] {
				c.bad[s.Path] = true
			}
		}
		return
	}
}

// fitToBegin refuses a first commit that cannot be a register, or whose campus
// files cannot be read: with it, the relay would turn everybody away for good
// instead of asking them to come back.
func fitToBegin(c *candidate) error {
	if len(c.overlay) == 0 {
		return fmt.Errorf("it holds no file of a register in %s/: is this the right repository?", registerFolder)
	}
	for _, s := range c.files {
		if registration.Kind(s.Path) != registration.KindCampus {
			continue
		}
		if i := slices.IndexFunc(s.File.Problems, isFault); i >= 0 {
			return fmt.Errorf("a file under %s/campus/ is broken, and there is no earlier version: %s", registerFolder, s.File.Problems[i])
		}
	}
	return nil
}
