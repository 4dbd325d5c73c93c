package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
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
type candidate struct{ inForce }

// load reads a commit and builds what would be in force with it:
//
//	files of the tree → parse → Build; every file with an error is exchanged for
//	its last good version → Build again, until no new file is at fault.
//
// Files under campus/ are exchanged first, since a mistake there makes others
// look wrong. The number of rounds is bounded: each exchanges something.
func (r *Reconciler) load(ctx context.Context, commit gitsync.Hash) (*candidate, error) {
	sources, site, err := r.read(ctx, commit)
	if err != nil {
		return nil, err
	}
	c := &candidate{}
	c.commit = commit
	if err := r.useSite(c, site); err != nil {
		return nil, err
	}
	files, err := r.cache.parse(ctx, c.site.Data, sources)
	if err != nil {
		return nil, err
	}
	c.files = sources
	r.substitute(c, files)
	if !r.known() || r.snapshot == nil {
		if err := fitToBegin(c, files); err != nil {
			return nil, err
		}
	}
	r.cache.keep(c.files)
	return c, nil
}

// read lists and reads the files of the register in a commit. Content that is
// in force already is not read again.
func (r *Reconciler) read(ctx context.Context, commit gitsync.Hash) (files []source, site source, err error) {
	entries, err := r.o.Source.Files(ctx, commit, registerFolder, siteFile)
	if err != nil {
		return nil, source{}, err
	}
	total := int64(0)
	for _, e := range entries {
		kind := registration.Kind(e.Path)
		if e.Path != siteFile && kind == registration.KindIgnored {
			continue
		}
		limit := int64(registration.MaxFile)
		if kind == registration.KindCampus || e.Path == siteFile {
			limit = registration.MaxCampusFile
		}
		s := source{Path: e.Path, Blob: e.Hash, From: commit, Mode: e.Mode.Register(), Odd: e.Odd, Unusable: e.Unusable}
		if s.Mode == registration.Regular && !s.Unusable && kind != registration.KindMisplaced {
			if err := r.content(ctx, &s, limit); err != nil {
				return nil, source{}, err
			}
		}
		if total += int64(len(s.Data)); total > registration.MaxRegister {
			return nil, source{}, fmt.Errorf("the files of the register have more than %d bytes together", int64(registration.MaxRegister))
		}
		if e.Path == siteFile {
			site = s
		} else {
			files = append(files, s)
		}
	}
	return files, site, nil
}

// content fills in the bytes of a file; only the size of one that is too large.
func (r *Reconciler) content(ctx context.Context, s *source, limit int64) error {
	if old, ok := r.cache.source(s.key()); ok {
		s.Data, s.Size = old.Data, old.Size
		return nil
	}
	data, err := r.o.Source.Read(ctx, s.Blob, limit)
	var large *gitsync.TooLarge
	if errors.As(err, &large) {
		s.Size = large.Size
		return nil
	}
	s.Data, s.Size = data, int64(len(data))
	return err
}

// useSite chooses the site rules: those of the commit, or, if they are broken,
// the last good ones. Without any that are good, nothing can be judged.
func (r *Reconciler) useSite(c *candidate, site source) error {
	problem := ""
	switch {
	case site.Path == "":
		return nil // the commit has none
	case site.Mode != registration.Regular || site.Unusable:
		problem = "it is not a regular file"
	case site.Size > int64(len(site.Data)):
		problem = "it is too large"
	default:
		if err := r.cache.use(site.Data); err != nil {
			problem = err.Error()
		}
	}
	if problem == "" {
		site.Good = true
		c.site = site
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
	return nil
}

// substitute builds the candidate, with last good versions for what is faulty.
// parsed are the files of the commit, in the order of c.files.
func (r *Reconciler) substitute(c *candidate, parsed []*registration.File) {
	set := make(map[string]*registration.File, len(parsed))
	index := make(map[string]int, len(parsed))
	for i, f := range parsed {
		set[f.Path], index[f.Path] = f, i
	}
	lastGood := make(map[string]source)
	for _, s := range r.files {
		if s.Good {
			lastGood[s.Path] = s
		}
	}
	told := make(map[string][]registration.Problem) // what was wrong with a file when it was dealt with
	for {
		snapshot, problems := policy.Build(slices.Collect(maps.Values(set)), r.buildOptions(c.commit))
		faulty := newlyFaulty(problems, told)
		if len(faulty) == 0 {
			c.snapshot = snapshot
			c.finish(problems, told)
			return
		}
		for name, problems := range faulty {
			told[name] = problems
			i, here := index[name]
			old, ok := lastGood[name]
			if !here || !ok || old.Blob == c.files[i].Blob && old.Mode == c.files[i].Mode {
				continue // Build leaves out what is wrong
			}
			c.files[i] = old
			set[name] = r.cache.one(c.site.Data, old)
			c.substituted = append(c.substituted, Substitution{Path: name, From: old.From.String()})
		}
	}
}

// newlyFaulty picks the files with an error that were not dealt with yet: only
// those under campus/ if there are any.
func newlyFaulty(problems []registration.Problem, told map[string][]registration.Problem) map[string][]registration.Problem {
	campus, others := make(map[string][]registration.Problem), make(map[string][]registration.Problem)
	for name, list := range byFile(problems) {
		if _, done := told[name]; done || !slices.ContainsFunc(list, isFault) {
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

func byFile(problems []registration.Problem) map[string][]registration.Problem {
	out := make(map[string][]registration.Problem)
	for _, p := range problems {
		out[p.File] = append(out[p.File], p)
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
func (c *candidate) finish(last []registration.Problem, told map[string][]registration.Problem) {
	final := byFile(last)
	for i := range c.files {
		c.files[i].Good = !slices.ContainsFunc(final[c.files[i].Path], isFault)
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
	c.dropped = 0
	for _, s := range c.files {
		if !s.Good {
			c.dropped++
		}
	}
}

// fitToBegin refuses a first commit that cannot be a register, or whose campus
// files cannot be read: with it, the relay would turn everybody away for good
// instead of asking them to come back.
func fitToBegin(c *candidate, files []*registration.File) error {
	if len(files) == 0 {
		return fmt.Errorf("it holds no file of a register in %s/: is this the right repository?", registerFolder)
	}
	for _, f := range files {
		if registration.Kind(f.Path) != registration.KindCampus {
			continue
		}
		if i := slices.IndexFunc(f.Problems, isFault); i >= 0 {
			return fmt.Errorf("a file under %s/campus/ is broken, and there is no earlier version: %s", registerFolder, f.Problems[i])
		}
	}
	return nil
}

func (r *Reconciler) buildOptions(commit gitsync.Hash) policy.Options {
	return policy.Options{
		Commit: commit.String(), Now: r.o.Now(), Incumbents: r.base(), MaxVolume: r.o.Volume,
	}
}

// faultless picks the parsed files without a fault. After a restart they stand
// in for what was in force before: where two files under campus/ say who holds a
// network, the newcomer was found at fault.
func faultless(files []source, parsed []*registration.File) []*registration.File {
	var out []*registration.File
	for i, s := range files {
		if s.Good {
			out = append(out, parsed[i])
		}
	}
	return out
}

// rebuild makes the snapshot of what is in force out of its files, for New and
// for a change of the held blocks.
func (r *Reconciler) rebuild(f *inForce) error {
	all := append(slices.Clip(f.files), f.held...)
	parsed, err := r.cache.parse(context.Background(), f.site.Data, all)
	if err != nil {
		return err
	}
	for i, s := range all {
		if s.Beside { // the accepted version of the block stays in force as well
			moved := *parsed[i]
			moved.Path = path.Join(path.Dir(s.Path), "held-"+path.Base(s.Path))
			parsed[i] = &moved
		}
	}
	o := r.buildOptions(f.commit)
	if good := faultless(f.files, parsed); o.Incumbents == nil && len(good) < len(f.files) {
		o.Incumbents, _ = policy.Build(good, o)
	}
	snapshot, problems := policy.Build(parsed, o)
	f.snapshot = snapshot
	good := make(map[string]bool)
	for _, s := range f.files {
		good[s.Path] = s.Good
	}
	for _, p := range problems {
		// A fault that is found now in what was good is one of the program's
		// own rules, changed by an upgrade.
		if isFault(p) && good[p.File] {
			r.log.Error("a file that was in force is refused by this version of the program", "event", "register.refused",
				"file", p.File, "rule", string(p.Rule), "err", p.Message)
			f.problems = append(f.problems, p)
		}
	}
	return nil
}
