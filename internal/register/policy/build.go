package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"example.edu/gatepost/internal/register/registration"
)

// Build makes a snapshot of files, which may come in any order, and reports
// every problem of every file, theirs and those between them, sorted by place.
// It never returns nil and never fails: it builds what is valid.
//
// A registration or block with an error is left out whole; one with warnings
// is built. The one exception is expiry-too-far, an error that is built all the
// same: otherwise a relay whose clock is wrong at boot would empty its
// allowlist. Of a campus file, only the entry in question is left out.
//
// Warnings are expired (so that time passing breaks nobody's CI) and
// ip-blocked (a block is meant to come over a registration); Judge raises them
// where a pull request is to blame.
//
// While a file under campus/ cannot be read, the rules that need it would
// accuse everybody else's files; registrations that fail them are left out
// without a word then, and the one problem that matters is reported.
//
// Whoever builds again and again keeps the Register instead; see NewRegister.
func Build(files []*registration.File, o Options) (*Snapshot, []registration.Problem) {
	r := NewRegister(files, o)
	return r.Snapshot(), r.Problems()
}

// A seat is who held an address before.
type seat struct{ path, department string }

func (s *Snapshot) holding(addr netip.Addr) (seat, bool) {
	e, ok := s.Find(addr)
	if !ok {
		return seat{}, false
	}
	return seat{e.Registration.Path, e.Registration.Department}, true
}

// A builder is one run of build or of With. The plan: campus data, then what
// each registration breaks by itself, then who gets an address claimed twice,
// and at last the table of those who broke nothing.
type builder struct {
	o        Options
	s        *Snapshot
	problems []registration.Problem // not attributed to a file yet

	campusBroken bool              // a campus file could not be read
	nearest      map[string]string // unknown department → hint, computed once each
}

// campus takes what the files under campus/ say, and returns what is wrong
// between them, by file.
func (b *builder) campus(files []*registration.File) map[string][]registration.Problem {
	b.s.campus = new(bart.Table[netip.Prefix])
	b.s.networks = new(bart.Table[*Holding])
	b.s.departments = make(map[string]defined)
	for _, f := range files {
		switch {
		case hasError(f.Problems):
			b.campusBroken = b.campusBroken || isCampus(f.Path)
		case f.Campus != nil:
			b.addCampus(f.Campus, f.Path)
		}
	}
	for _, f := range files {
		if f.Campus != nil && !hasError(f.Problems) {
			b.addNetworks(f.Campus, f.Path)
		}
	}
	found := make(map[string][]registration.Problem)
	for _, p := range b.told() {
		found[p.File] = append(found[p.File], p)
	}
	return found
}

// told hands over what was reported since it was called last.
func (b *builder) told() []registration.Problem {
	problems := b.problems
	b.problems = nil
	return problems
}

// addCampus takes the prefixes and departments of one campus file.
func (b *builder) addCampus(c *registration.Campus, path string) {
	for _, p := range c.Prefixes {
		prefix := unmapPrefix(p.Prefix)
		b.s.campus.Insert(prefix, prefix)
	}
	if c.Portal.ID != 0 && !slices.Contains(b.s.portals, c.Portal) {
		b.s.portals = append(b.s.portals, c.Portal)
	}
	for i := range c.Departments {
		mine := defined{&c.Departments[i], path}
		other, taken := b.s.departments[mine.ID]
		if taken && b.o.Incumbents.definedIn(mine.ID) == path && other.file != path {
			mine, other = other, mine // the newcomer came first, by its path
			b.s.departments[other.ID] = other
		}
		if taken {
			b.report(mine.file, mine.At, registration.RuleSchema, registration.Error,
				fmt.Sprintf("department %q is already defined in %s", mine.ID, place(other.file, other.At)),
				"keep one definition of the department and remove the other")
			continue
		}
		b.s.departments[mine.ID] = mine
	}
}

// addNetworks takes the networks of one campus file, once all prefixes and
// departments are known. A network of an unknown department stays in: without
// it, the holder of the wider network could register there.
func (b *builder) addNetworks(c *registration.Campus, path string) {
	for _, n := range c.Networks {
		n.Prefix = unmapPrefix(n.Prefix)
		if b.s.Department(n.Department) == nil && !b.campusBroken {
			b.report(path, n.At, registration.RuleUnknownDepartment, registration.Error,
				fmt.Sprintf("network %s is held by %q, which is no department", n.Prefix, n.Department),
				b.nearestDepartment(n.Department))
		}
		if _, ok := b.s.campus.LookupPrefix(n.Prefix); !ok {
			if !b.campusBroken {
				b.report(path, n.At, registration.RuleIPNotCampus, registration.Error,
					fmt.Sprintf("network %s lies outside the university's address space", n.Prefix),
					"add its prefix to the campus list, or remove the network")
			}
			continue
		}
		mine := &Holding{Network: n, File: path}
		other, taken := b.s.networks.Get(n.Prefix)
		if taken && b.o.Incumbents.givenIn(n.Prefix) == path && other.File != path {
			mine, other = other, mine // the newcomer came first, by its path
			b.s.networks.Insert(n.Prefix, other)
		}
		if taken {
			b.report(mine.File, mine.At, registration.RuleIPDuplicate, registration.Error,
				fmt.Sprintf("network %s is already given to %q in %s", n.Prefix, other.Department, place(other.File, other.At)),
				"keep one of the two lines")
			continue
		}
		b.s.networks.Insert(n.Prefix, mine)
	}
}

// definedIn is the file that defines a department, "" for none.
func (s *Snapshot) definedIn(id string) string {
	if s == nil {
		return ""
	}
	return s.departments[id].file
}

// givenIn is the file that says who holds exactly this network, "" for none.
func (s *Snapshot) givenIn(p netip.Prefix) string {
	if s == nil {
		return ""
	}
	if h, ok := s.networks.Get(p); ok {
		return h.File
	}
	return ""
}

func (b *builder) report(file string, at registration.Pos, rule registration.Rule, sev registration.Severity, message, hint string) {
	b.problems = append(b.problems, registration.Problem{
		File: file, Line: int(at.Line), Column: int(at.Column),
		Rule: rule, Severity: sev, Message: message, Hint: hint,
	})
}

// sortedFiles is files in order of path, without nils, and without a second
// file of the same path.
func sortedFiles(files []*registration.File) []*registration.File {
	out := make([]*registration.File, 0, len(files))
	for _, f := range files {
		if f != nil {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b *registration.File) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(out, func(a, b *registration.File) bool { return a.Path == b.Path })
}

func sortProblems(ps []registration.Problem) {
	slices.SortStableFunc(ps, func(a, b registration.Problem) int {
		return cmp.Or(
			strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			strings.Compare(string(a.Rule), string(b.Rule)), strings.Compare(a.Message, b.Message))
	})
}

func hasError(ps []registration.Problem) bool {
	return slices.ContainsFunc(ps, func(p registration.Problem) bool { return p.Severity != registration.Warning })
}

// folder is the part of path below registrations/ that names a department, or
// "campus" or "blocks".
func folder(path string) string {
	rest, ok := strings.CutPrefix(path, "registrations/")
	if !ok {
		return ""
	}
	dir, _, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return dir
}

func isCampus(path string) bool { return folder(path) == "campus" }
func isBlock(path string) bool  { return folder(path) == "blocks" }

// place is how a message names a line of another file.
func place(file string, at registration.Pos) string { return fmt.Sprintf("%s:%d", file, at.Line) }

func single(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }

// lastDay is the last day on which a registration is valid, as it is written.
func lastDay(expires time.Time) string { return expires.UTC().AddDate(0, 0, -1).Format(time.DateOnly) }
