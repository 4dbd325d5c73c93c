package policy

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"example.edu/gatepost/internal/register/registration"
)

// A Register is a set of files that has been built: the snapshot, and what is
// wrong with each file. It is immutable, and any number of goroutines may read
// it. With makes the next one at the cost of what changes.
type Register struct {
	o            Options // Incumbents is let go of
	snapshot     *Snapshot
	files        []*judged           // in order of path
	troubled     []*judged           // of files, those with problems
	claims       *bart.Table[*claim] // everybody who claims an address, whoever gets it
	contested    []netip.Addr        // claimed more than once, sorted
	lost         contest
	campusBroken bool
	fresh        map[string]bool // made by With: the files that may be judged otherwise than in the one before; nil: all
}

// A judged file is what it says and what is wrong with it, contests about
// addresses aside. It is immutable.
type judged struct {
	file     *registration.File
	problems []registration.Problem // in order of place
	claims   bool                   // it is a registration that could be read
	fit      bool                   // and nothing is wrong with it
	term     term
}

// hosts yields the lines that claim an address.
func (j *judged) hosts() iter.Seq[*registration.Host] {
	return func(yield func(*registration.Host) bool) {
		if j == nil || !j.claims {
			return
		}
		for i := range j.file.Registration.Hosts {
			if h := &j.file.Registration.Hosts[i]; h.IP.IsValid() && !yield(h) {
				return
			}
		}
	}
}

// NewRegister builds files, as Build does.
func NewRegister(files []*registration.File, o Options) *Register {
	return build(files, o, o.Incumbents.holding)
}

// Snapshot is what was built. It is never nil.
func (r *Register) Snapshot() *Snapshot { return r.snapshot }

// Len is the number of files.
func (r *Register) Len() int { return len(r.files) }

// Problems is every problem of every file, sorted by place. It costs what there
// is to tell.
func (r *Register) Problems() []registration.Problem { return r.problemsOf(r.faulty()) }

// faulty are the files with problems, those about contests included, in order of
// path.
func (r *Register) faulty() []*judged {
	if len(r.lost) == 0 {
		return r.troubled
	}
	told := slices.Clone(r.troubled)
	for path := range r.lost {
		if j := r.find(path); len(j.problems) == 0 {
			told = append(told, j)
		}
	}
	slices.SortFunc(told, compareJudged)
	return told
}

// problemsOf is every problem of some files, which are in order of path.
func (r *Register) problemsOf(files []*judged) []registration.Problem {
	n := 0
	for _, j := range files {
		n += len(j.problems) + len(r.lost[j.file.Path])
	}
	if n == 0 {
		return nil
	}
	all := make([]registration.Problem, 0, n)
	for _, j := range files {
		all = append(all, j.problems...)
		if lost := r.lost[j.file.Path]; len(lost) > 0 {
			all = append(all, lost...)
			sortProblems(all[len(all)-len(lost)-len(j.problems):])
		}
	}
	return all
}

// LeftOut counts the files that are not built, for an error.
func (r *Register) LeftOut() (n int) {
	for _, j := range r.faulty() {
		// expiry-too-far is an error, and built.
		wrong := func(p registration.Problem) bool {
			return p.Severity != registration.Warning && p.Rule != registration.RuleExpiryTooFar
		}
		if slices.ContainsFunc(j.problems, wrong) || slices.ContainsFunc(r.lost[j.file.Path], wrong) {
			n++
		}
	}
	return n
}

// File is the file at a path, or nil.
func (r *Register) File(path string) *registration.File {
	if j := r.find(path); j != nil {
		return j.file
	}
	return nil
}

func (r *Register) find(path string) *judged {
	if i, ok := slices.BinarySearchFunc(r.files, path, byPath); ok {
		return r.files[i]
	}
	return nil
}

// built reports whether what j claims is in the snapshot.
func (r *Register) built(j *judged) bool {
	if j == nil || !j.claims || !j.fit {
		return false
	}
	_, lost := r.lost[j.file.Path]
	return !lost
}

// build is NewRegister, with a notion of its own of who held an address before.
func build(files []*registration.File, o Options, holding func(netip.Addr) (seat, bool)) *Register {
	files = sortedFiles(files)
	b := &builder{o: o, s: &Snapshot{commit: o.Commit, id: new(byte)}, nearest: make(map[string]string)}
	between := b.campus(files)
	for _, f := range files {
		b.s.register = b.addBlock(b.s.register, f)
	}
	slices.SortFunc(b.s.register, compareBlocks)
	b.s.blocks = newBlockTable(b.s.register)

	r := &Register{o: o, snapshot: b.s, files: make([]*judged, len(files)), campusBroken: b.campusBroken}
	r.o.Incumbents = nil
	for i, f := range files {
		r.files[i] = b.judge(f, between[f.Path])
		if len(r.files[i].problems) > 0 {
			r.troubled = append(r.troubled, r.files[i])
		}
	}
	r.claims, r.contested = index(r.files)
	r.lost = settle(r.contested, r.claims, holding)
	b.s.hosts = new(bart.Table[Entry])
	for _, j := range r.files {
		if r.built(j) {
			for h := range j.hosts() {
				b.s.hosts.Insert(single(h.IP), Entry{Registration: j.file.Registration, Host: h})
			}
		}
	}
	return r
}

// judge tells what is wrong with one file, what was found between campus files
// included.
func (b *builder) judge(f *registration.File, between []registration.Problem) *judged {
	j := &judged{file: f, problems: f.Problems}
	if len(between) > 0 {
		j.problems = slices.Concat(f.Problems, between)
		sortProblems(j.problems)
	}
	if hasError(f.Problems) || f.Campus != nil || f.Block != nil || f.Registration == nil {
		return j
	}
	j.claims, j.fit = true, b.check(j)
	if found := b.told(); len(found) > 0 {
		j.problems = slices.Concat(j.problems, found)
		sortProblems(j.problems)
	}
	return j
}

// addBlock appends the block that a file is, if it is one without an error.
func (b *builder) addBlock(to []registration.Block, f *registration.File) []registration.Block {
	if f == nil || f.Block == nil || f.Campus != nil || hasError(f.Problems) {
		return to
	}
	block := *f.Block
	block.Path = f.Path
	if block.Prefix = unmapPrefix(block.Prefix); !block.Prefix.IsValid() {
		return to
	}
	return append(to, block)
}

// Beyond these a new build is cheaper than a change of the old one.
const (
	maxIncrement      = 500   // files
	maxIncrementHosts = 4_000 // addresses
)

// With is the register with other files at some paths; nil for a file that is
// gone. It is what NewRegister makes of all the files, with the snapshot of r as
// Options.Incumbents unless those are given.
func (r *Register) With(changed map[string]*registration.File, o Options) *Register {
	if o.Incumbents == nil {
		o.Incumbents = r.snapshot
	}
	return r.with(changed, o, o.Incumbents.holding)
}

func (r *Register) with(changed map[string]*registration.File, o Options, holding func(netip.Addr) (seat, bool)) *Register {
	if r.tooMuch(changed, o) {
		return build(r.merged(changed), o, holding)
	}
	s := *r.snapshot
	s.commit, s.id, s.parent, s.touched = o.Commit, new(byte), r.snapshot.id, nil
	b := &builder{o: o, s: &s, nearest: make(map[string]string)}
	next := &Register{o: o, snapshot: &s, claims: r.claims}
	next.o.Incumbents = nil

	// The files: those that change, and those of which a rule says something
	// else today. What there is to say of a last day is the same all day.
	stirred := b.changeBlocks(r, changed)
	again := r.underBlocks(stirred)
	same := len(again) == 0 && dayOf(r.o.Now) == dayOf(o.Now)
	swapped := make([]swap, 0, len(changed))
	rest := r.files
	if same && len(changed) == 0 {
		next.files, rest = r.files, nil
	} else {
		next.files = make([]*judged, 0, len(r.files)+len(changed))
	}
	keep := func(unchanged []*judged) {
		if same {
			next.files = append(next.files, unchanged...)
			return
		}
		for _, j := range unchanged {
			if j.claims && (again[j] || j.term != b.term(j.file.Registration)) {
				fresh := b.judge(j.file, nil)
				swapped = append(swapped, swap{j, fresh})
				j = fresh
			}
			next.files = append(next.files, j)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(changed)) {
		at, there := slices.BinarySearchFunc(rest, path, byPath)
		keep(rest[:at])
		rest = rest[at:]
		var change swap
		if there {
			change.was, rest = rest[0], rest[1:]
		}
		if f := changed[path]; f != nil {
			change.is = b.judge(f, nil)
			next.files = append(next.files, change.is)
		}
		swapped = append(swapped, change)
	}
	keep(rest)
	next.troubled = retold(r.troubled, swapped)

	// The contests, all of them: who held an address before may have changed.
	contested := slices.Clone(r.contested)
	for _, c := range swapped {
		next.claims = reclaim(next.claims, c.was, c.is)
		for h := range c.is.hosts() {
			contested = append(contested, h.IP)
		}
	}
	next.contested = contestedAmong(contested, next.claims)
	next.lost = settle(next.contested, next.claims, holding)
	next.fresh = make(map[string]bool, len(swapped))
	for _, c := range swapped {
		for _, j := range []*judged{c.was, c.is} {
			if j != nil {
				next.fresh[j.file.Path] = true
			}
		}
	}
	for _, lost := range []contest{r.lost, next.lost} {
		for path := range lost {
			next.fresh[path] = true
		}
	}
	s.change(r, next, swapped)
	return next
}

// A swap is one file before and after; nil where it is not there.
type swap struct{ was, is *judged }

// retold is troubled after swaps.
func retold(troubled []*judged, swapped []swap) []*judged {
	if len(swapped) == 0 {
		return troubled
	}
	gone := make(map[*judged]bool, len(swapped))
	var fresh []*judged
	for _, c := range swapped {
		gone[c.was] = true
		if c.is != nil && len(c.is.problems) > 0 {
			fresh = append(fresh, c.is)
		}
	}
	kept := make([]*judged, 0, len(troubled)+len(fresh))
	for _, j := range troubled {
		if !gone[j] {
			kept = append(kept, j)
		}
	}
	if len(fresh) == 0 {
		return kept
	}
	kept = append(kept, fresh...)
	slices.SortFunc(kept, compareJudged)
	return kept
}

// change brings the table of hosts from what was built of r to what is built of
// next.
func (s *Snapshot) change(r, next *Register, swapped []swap) {
	for _, lost := range []contest{r.lost, next.lost} {
		for path := range lost {
			if was, is := r.find(path), next.find(path); was == is && was != nil {
				swapped = append(swapped, swap{was, is})
			}
		}
	}
	var in []*judged
	for _, c := range swapped {
		was, is := r.built(c.was), next.built(c.is)
		if was && is && c.was.file == c.is.file || !was && !is {
			continue
		}
		if was {
			for h := range c.was.hosts() {
				s.hosts = s.hosts.DeletePersist(single(h.IP))
				s.touched = append(s.touched, h.IP)
			}
		}
		if is {
			in = append(in, c.is)
		}
	}
	for _, j := range in { // after all removals: an address may change hands
		for h := range j.hosts() {
			s.hosts = s.hosts.InsertPersist(single(h.IP), Entry{Registration: j.file.Registration, Host: h})
			s.touched = append(s.touched, h.IP)
		}
	}
	slices.SortFunc(s.touched, netip.Addr.Compare)
	s.touched = slices.Compact(s.touched)
}

// tooMuch reports whether a change must be built from the beginning: campus
// data bear on every file.
func (r *Register) tooMuch(changed map[string]*registration.File, o Options) bool {
	if r.campusBroken || len(changed) > maxIncrement || o.MaxVolume != r.o.MaxVolume || o.Now.IsZero() != r.o.Now.IsZero() {
		return true
	}
	hosts := 0
	for path, f := range changed {
		if isCampus(path) {
			return true
		}
		if f != nil && f.Registration != nil {
			hosts += len(f.Registration.Hosts)
		}
	}
	return hosts > maxIncrementHosts
}

// merged is all files of r, changed.
func (r *Register) merged(changed map[string]*registration.File) []*registration.File {
	files := make([]*registration.File, 0, len(r.files)+len(changed))
	for _, j := range r.files {
		if _, other := changed[j.file.Path]; !other {
			files = append(files, j.file)
		}
	}
	for _, f := range changed {
		files = append(files, f)
	}
	return files
}

// changeBlocks brings the blocks up to date and returns the prefixes over which
// they say something else than they did in r.
func (b *builder) changeBlocks(r *Register, changed map[string]*registration.File) (stirred []netip.Prefix) {
	var blocks []registration.Block
	same := true
	if !slices.ContainsFunc(slices.Collect(maps.Keys(changed)), isBlock) {
		for i := range r.snapshot.register {
			if block := &r.snapshot.register[i]; inForce(block, r.o.Now) != inForce(block, b.o.Now) {
				stirred = append(stirred, block.Prefix)
			}
		}
		return stirred
	}
	for _, block := range r.snapshot.register {
		if _, other := changed[block.Path]; other {
			same = false
			stirred = append(stirred, block.Prefix)
			continue
		}
		if inForce(&block, r.o.Now) != inForce(&block, b.o.Now) {
			stirred = append(stirred, block.Prefix)
		}
		blocks = append(blocks, block)
	}
	for _, f := range changed {
		before := len(blocks)
		if blocks = b.addBlock(blocks, f); len(blocks) > before {
			same = false
			stirred = append(stirred, blocks[before].Prefix)
		}
	}
	if !same {
		slices.SortFunc(blocks, compareBlocks)
		b.s.register = blocks
		b.s.blocks = newBlockTable(blocks)
	}
	return stirred
}

// underBlocks are the files that claim an address below one of prefixes.
func (r *Register) underBlocks(prefixes []netip.Prefix) map[*judged]bool {
	found := make(map[*judged]bool)
	for _, p := range prefixes {
		for _, first := range r.claims.Subnets(p) {
			for c := first; c != nil; c = c.next {
				found[c.by] = true
			}
		}
	}
	return found
}

// claimant is who claims an address first, in order of path, whether or not it
// was built.
func (r *Register) claimant(ip netip.Addr) (seat, bool) {
	first, ok := r.claims.Get(single(ip))
	if !ok {
		return seat{}, false
	}
	return seat{first.by.file.Path, first.by.file.Registration.Department}, true
}

// Losses counts, of the addresses that base lets send at now, all of them and
// those that s does not; blocks do not count. It is cheap where nothing is lost.
func (s *Snapshot) Losses(base *Snapshot, now time.Time) (live, lost int) {
	may := func(e Entry, ok bool) bool { return ok && now.Before(e.Registration.Expires) }
	for ip, was := range base.changedBy(s) {
		if may(was, true) && !may(s.Find(ip)) {
			lost++
		}
	}
	if lost == 0 {
		return 0, 0
	}
	for _, e := range base.entries() {
		if may(e, true) {
			live++
		}
	}
	return live, lost
}
