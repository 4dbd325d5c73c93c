package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A campusTree is the files of registrations/campus/ as they are on disk.
type campusTree struct {
	parser *registration.Parser
	files  []*registration.File // in order of path
	data   []byte               // of networks.cue; nil if it is not there
	mine   *registration.Campus // of networks.cue; nil if it is not there
}

// openCampus reads the campus files below root. Each must be without an error:
// what is written is judged together with them.
func openCampus(ctx context.Context, root string) (*campusTree, error) {
	w, err := gitsync.OpenWorkdir(root)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	prefix, err := filepath.Rel(w.Top(), root)
	if err != nil || prefix != "." {
		return nil, fail(fmt.Sprintf("%s is not at the top of its git repository, %s", filepath.Join(root, registerDir), w.Top()))
	}
	read := func(e gitsync.Entry, max int64) ([]byte, error) { return w.DiskRead(ctx, e.Path, max) }
	entries, err := w.DiskFiles(ctx, campusDir)
	if err != nil {
		return nil, err
	}
	sources, err := review.Sources(entries, read)
	if err != nil {
		return nil, err
	}
	if entries, err = w.DiskFiles(ctx, review.SitePath); err != nil {
		return nil, err
	}
	site, err := review.Site(entries, read)
	if err != nil {
		return nil, err
	}
	t := &campusTree{}
	if t.parser, err = registration.NewParser(site); err != nil {
		return nil, err
	}
	for _, s := range sources {
		f := t.parser.ParseOdd(s.Source, s.Odd, s.Unusable)
		if f.Campus == nil {
			return nil, fail(f.Path+" has an error", "what is wrong: gatepost check -C "+quote(root))
		}
		if f.Path == networksPath {
			t.data, t.mine = s.Data, f.Campus
		}
		t.files = append(t.files, f)
	}
	return t, nil
}

func (t *campusTree) each(yield func(*registration.Campus) bool) {
	for _, f := range t.files {
		if f.Campus != nil && !yield(f.Campus) {
			return
		}
	}
}

func (t *campusTree) departments() []string {
	ids := []string{}
	for c := range t.each {
		for _, d := range c.Departments {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

func (t *campusTree) prefixes() []netip.Prefix {
	var all []netip.Prefix
	for c := range t.each {
		for _, p := range c.Prefixes {
			all = append(all, p.Prefix)
		}
	}
	return all
}

// networks are those of the file that import writes.
func (t *campusTree) networks() []registration.Network {
	if t.mine == nil {
		return nil
	}
	return t.mine.Networks
}

// withoutElsewhere leaves out what another file of the campus gives away: that
// is where exceptions are written by hand.
func (t *campusTree) withoutElsewhere(networks []registration.Network) (mine []registration.Network, elsewhere int) {
	given := map[netip.Prefix]bool{}
	for c := range t.each {
		for _, n := range c.Networks {
			given[n.Prefix] = given[n.Prefix] || c.Path != networksPath
		}
	}
	for _, n := range networks {
		if given[n.Prefix] {
			elsewhere++
		} else {
			mine = append(mine, n)
		}
	}
	return mine, elsewhere
}

// judge builds the campus with the new file in it, and reports what is wrong
// with that.
func (t *campusTree) judge(stderr io.Writer, out []byte) error {
	files := []*registration.File{t.parser.Parse(registration.Source{Path: networksPath, Size: int64(len(out)), Data: out})}
	for _, f := range t.files {
		if f.Path != networksPath {
			files = append(files, f)
		}
	}
	_, problems := policy.Build(files, policy.Options{})
	var mine []registration.Problem
	for _, p := range problems {
		if p.File == networksPath && p.Severity != registration.Warning {
			mine = append(mine, p)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	if err := problemsText(stderr, mine); err != nil {
		return err
	}
	return fail("nothing was written: " + networksPath + " would have " + count(len(mine), "error", "errors"))
}

// networksDiff is what an import changes.
type networksDiff struct {
	lines                         []string
	added, removed, changed, same int
}

// compareNetworks compares by prefix: first what goes, then the rest in order.
func compareNetworks(was, is []registration.Network) networksDiff {
	var d networksDiff
	before := map[netip.Prefix]registration.Network{}
	for _, n := range was {
		before[n.Prefix] = n
	}
	after := map[netip.Prefix]bool{}
	for _, n := range is {
		after[n.Prefix] = true
	}
	for _, n := range was {
		if !after[n.Prefix] {
			d.removed++
			d.lines = append(d.lines, fmt.Sprintf("- %s  %s  %s", n.Prefix, n.Department, n.Use))
		}
	}
	for _, n := range is {
		old, known := before[n.Prefix]
		switch {
		case !known:
			d.added++
			d.lines = append(d.lines, fmt.Sprintf("+ %s  %s  %s", n.Prefix, n.Department, n.Use))
		case old.Department != n.Department || old.Use != n.Use:
			d.changed++
			d.lines = append(d.lines, fmt.Sprintf("~ %s  %s → %s", n.Prefix, holding(old), holding(n)))
		default:
			d.same++
		}
	}
	return d
}

func holding(n registration.Network) string { return n.Department + " " + n.Use }

func (d networksDiff) print(w io.Writer) error {
	for _, line := range d.lines {
		if _, err := fmt.Fprintln(w, printable(line)); err != nil {
			return err
		}
	}
	return nil
}

func (d networksDiff) summary() string {
	return fmt.Sprintf("%d added, %d removed, %d changed, %d the same", d.added, d.removed, d.changed, d.same)
}
