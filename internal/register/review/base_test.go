package review

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// The tests' today.
func today() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// sample is the tree of this repository's own register.
func sample(t testing.TB) Tree {
	t.Helper()
	top := "../../.."
	var list []Source
	err := filepath.WalkDir(filepath.Join(top, Folder), func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		path, _ := filepath.Rel(top, name)
		if registration.Kind(filepath.ToSlash(path)) != registration.KindIgnored {
			list = append(list, source(filepath.ToSlash(path), string(data)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return Tree{Commit: "sample", Sources: list}
}

func source(path, text string) Source {
	return Source{Source: registration.Source{Path: path, Size: int64(len(text)), Data: []byte(text)}, Blob: gitsync.BlobHash([]byte(text)).String()}
}

// edited is a tree after edits, with names of its own contents as git gives them.
func edited(t Tree, edits []Edit) Tree {
	t.Sources = slices.Clone(t.Sources)
	t.Commit += "+"
	for _, e := range edits {
		i, there := slices.BinarySearchFunc(t.Sources, e.Path, func(s Source, p string) int { return strings.Compare(s.Path, p) })
		switch {
		case e.Remove && there:
			t.Sources = slices.Delete(t.Sources, i, i+1)
		case e.Remove:
		case there:
			odd := t.Sources[i].Odd
			t.Sources[i] = source(e.Path, string(e.Data))
			t.Sources[i].Odd = odd
		default:
			t.Sources = slices.Insert(t.Sources, i, source(e.Path, string(e.Data)))
		}
	}
	return t
}

// someEdits change, add and remove a few files, some of them to nonsense.
func someEdits(r *rand.Rand, t Tree) []Edit {
	byPath := map[string]Edit{}
	for range 1 + r.IntN(3) {
		s := t.Sources[r.IntN(len(t.Sources))]
		if registration.Kind(s.Path) == registration.KindCampus && r.IntN(4) > 0 {
			continue
		}
		e := Edit{Path: s.Path, Data: []byte(strings.ReplaceAll(string(s.Data), "2027", "2028"))}
		switch r.IntN(7) {
		case 0:
			e = Edit{Path: s.Path, Remove: true}
		case 1:
			e.Path = strings.TrimSuffix(s.Path, ".cue") + "-copy.cue" // claims the same addresses
		case 2:
			e.Data = append(e.Data, "\n}{"...)
		case 3:
			e.Data = []byte(strings.ReplaceAll(string(s.Data), ".edu", ".example"))
		case 4:
			e.Data = s.Data
		}
		byPath[e.Path] = e
	}
	return slices.Collect(maps.Values(byPath))
}

// A Base says of a change what Read says of the two trees, and its Next is what
// NewBase makes of the newer tree, whatever is asked of it and when.
func TestABaseSaysWhatReadSays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tree, now := sample(t), today()
	b, err := NewBase(t.Context(), tree, now, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	author := policy.Author{Login: "octocat", ID: 583231}
	for step := range 24 {
		now = now.Add([]time.Duration{0, time.Minute, 25 * time.Hour, 90 * 24 * time.Hour, -48 * time.Hour}[r.IntN(5)])
		edits := someEdits(r, tree)
		head := edited(tree, edits)
		head.Commit = tree.Commit
		want, err := Read(t.Context(), tree, head, now, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Change(edits, now)
		if err != nil {
			t.Fatal(err)
		}
		sameChange(t, step, got, want, author)
		if !slices.Equal(b.Problems(now), want.was.Problems()) {
			t.Fatalf("step %d: the problems of the base differ", step)
		}
		if step%4 != 3 {
			continue
		}
		tree = edited(tree, edits)
		if b, err = b.Next(t.Context(), tree); err != nil {
			t.Fatal(err)
		}
		fresh, err := NewBase(t.Context(), tree, now, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b.Commit() != tree.Commit || b.Snapshot().Commit() != tree.Commit {
			t.Fatalf("step %d: commit %q", step, b.Commit())
		}
		if len(policy.Diff(b.Snapshot(), fresh.Snapshot())) > 0 && !contested(tree) {
			t.Fatalf("step %d: the next base differs from a fresh one", step)
		}
		if contested(tree) { // who has an address depends on what came before: begin anew
			tree = sample(t)
			if b, err = NewBase(t.Context(), tree, now, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func contested(t Tree) bool {
	return slices.ContainsFunc(t.Sources, func(s Source) bool { return strings.HasSuffix(s.Path, "-copy.cue") })
}

func sameChange(t *testing.T, step int, got, want *Change, author policy.Author) {
	t.Helper()
	for _, a := range []policy.Author{{}, author} {
		if g, w := got.Problems(a), want.Problems(a); !slices.Equal(g, w) {
			t.Fatalf("step %d: %d problems, want %d", step, len(g), len(w))
		}
	}
	if g, w := got.Plan(), want.Plan(); !reflect.DeepEqual(g, w) {
		t.Fatalf("step %d: the plan is %s, %d warnings; want %s, %d", step, g.Summary(), len(g.Warnings), w.Summary(), len(w.Warnings))
	}
	if g, w := got.Is().Len(), want.Is().Len(); g != w {
		t.Fatalf("step %d: %d addresses, want %d", step, g, w)
	}
}

// What did not change is one and the same file in the next Base, and is not read
// again: its content may be missing.
func TestNextParsesOnlyWhatDiffers(t *testing.T) {
	tree := sample(t)
	b, err := NewBase(t.Context(), tree, today(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := tree.Sources[len(tree.Sources)-1]
	next := edited(tree, []Edit{{Path: s.Path, Data: append([]byte("// Again.\n"), s.Data...)}})
	for i := range next.Sources {
		if next.Sources[i].Path != s.Path {
			next.Sources[i].Data, next.Sources[i].Left = nil, true
		}
	}
	n, err := b.Next(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tree.Sources {
		p := tree.Sources[i].Path
		if same := n.File(p) == b.File(p); same != (p != s.Path) {
			t.Errorf("%s: the same %v", p, same)
		}
		if remarked := registration.Kind(p) == registration.KindRegistration && bytes.Contains(tree.Sources[i].Data, []byte("//")); p != s.Path && remarked != bytes.Equal(n.Text(p), tree.Sources[i].Data) {
			t.Errorf("%s: the text is %q", p, n.Text(p))
		}
	}
	if text := string(n.Text(s.Path)); !strings.HasPrefix(text, "// Again.\n") {
		t.Errorf("the text of what changed is %q", text)
	}
	t.Run("what was left and is needed", func(t *testing.T) {
		next := edited(tree, []Edit{{Path: s.Path, Data: []byte("x")}})
		for i := range next.Sources {
			next.Sources[i].Data, next.Sources[i].Left = nil, true
		}
		if _, err := b.Next(t.Context(), next); !errors.Is(err, ErrLeft) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("other rules of the site", func(t *testing.T) {
		next := edited(tree, nil)
		next.Site = []byte("#Registration: {purpose: =~\"^Never like this$\"}\n")
		n, err := b.Next(t.Context(), next)
		if err != nil {
			t.Fatal(err)
		}
		if n.Snapshot().Len() != 0 || b.Snapshot().Len() == 0 {
			t.Errorf("%d addresses", n.Snapshot().Len())
		}
		change, err := n.Change([]Edit{{Path: s.Path, Data: s.Data}}, today())
		if err != nil || len(change.Problems(policy.Author{})) == 0 {
			t.Errorf("a change is not judged by the new rules: %v", err)
		}
		next.Site = []byte("}{")
		if _, err := b.Next(t.Context(), next); !errors.Is(err, ErrSite) {
			t.Errorf("broken rules: %v", err)
		}
	})
}

func TestEditsThatAreNone(t *testing.T) {
	b, err := NewBase(t.Context(), sample(t), today(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]Edit, MaxEdits+1)
	for i := range many {
		many[i] = Edit{Path: fmt.Sprintf("registrations/its/%d.cue", i), Remove: true}
	}
	for name, edits := range map[string][]Edit{
		"too many": many, "twice": {many[0], many[0]}, "outside": {{Path: "schema/site.cue"}}, "no file": {{Path: ""}}, "up": {{Path: "registrations/../x"}},
	} {
		change, err := b.Change(edits, today())
		if name == "up" { // a problem of the file's, not of the question
			if err != nil || len(change.Problems(policy.Author{})) == 0 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, ErrEdits) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTaken(t *testing.T) {
	b, err := NewBase(t.Context(), treeOf("a=1 Mfp=1 x.cue/y=1 deep/er/z=1"), today(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bool{
		"lsa/a.cue": true, "lsa/mfp.cue": true, "lsa/b.cue": false, "x.cue": true, "lsa/a.cue/b.cue": true,
		"lsa/A.cue/b.cue": true, "deep/er": true, "deep/er/q.cue": false, "dee": false,
	} {
		if got := b.Taken(Folder + "/" + p); got != want {
			t.Errorf("%s: %v", p, got)
		}
	}
	change, err := b.Change([]Edit{{Path: lsa + "mfp.cue", Data: []byte("x")}}, today())
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(change.Problems(policy.Author{})); !strings.Contains(text, "differs only in case from "+lsa+"Mfp.cue") {
		t.Errorf("the twin is not told: %s", text)
	}
}

// Any number of goroutines may ask, at different times, while the next Base is
// made. The race detector watches.
func TestManyAskOneBase(t *testing.T) {
	tree := sample(t)
	b, err := NewBase(t.Context(), tree, today(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range uint64(8) {
		group.Go(func() {
			r := rand.New(rand.NewPCG(i, i))
			for range 5 {
				change, err := b.Change(someEdits(r, tree), today().Add(time.Duration(r.IntN(50))*time.Hour))
				if err != nil {
					t.Error(err)
					return
				}
				change.Plan()
				change.Problems(policy.Author{Login: "octocat"})
				b.Snapshot().Lookup(netip.MustParseAddr("141.211.13.21"), today())
				b.File(tree.Sources[0].Path)
			}
			if _, err := b.Next(context.WithoutCancel(t.Context()), edited(tree, someEdits(r, tree))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// large is the Base of n registrations of one address each.
func large(b *testing.B, n int) *Base {
	b.Helper()
	campus := &registration.File{Path: "registrations/campus/all.cue", Campus: &registration.Campus{
		Prefixes: []registration.Prefix{{Prefix: netip.MustParsePrefix("35.0.0.0/8")}},
		Networks: []registration.Network{{Prefix: netip.MustParsePrefix("35.0.0.0/8"), Department: "its", Use: "static"}},
	}}
	for i := range 1000 {
		id := fmt.Sprintf("dept-%d", i)
		if i == 0 {
			id = "its"
		}
		campus.Campus.Departments = append(campus.Campus.Departments, registration.Department{ID: id, Name: id, ContactDomains: []string{"example.edu"},
			Speakers: []registration.Speaker{{GitHub: id, ID: int64(1 + i)}}})
	}
	files := []*registration.File{campus}
	tree := Tree{Commit: "large", Sources: []Source{source(campus.Path, "")}}
	for i := range n {
		r := form(fmt.Sprintf("registrations/its/%06d.cue", i), netip.AddrFrom4([4]byte{35, byte(1 + i>>16), byte(i >> 8), byte(i)}))
		if i%10 == 0 { // some problems are there always
			r.Expires = today().AddDate(0, -1, 0).Truncate(24 * time.Hour)
		}
		files = append(files, &registration.File{Path: r.Path, Registration: r})
		tree.Sources = append(tree.Sources, source(r.Path, r.Path))
	}
	built := policy.NewRegister(files, policy.Options{Commit: tree.Commit, Now: today()})
	if built.Snapshot().Len() != n {
		b.Fatal(built.Snapshot().Len())
	}
	return newBase(tree, &parsers{}, built, today())
}

func form(path string, ips ...netip.Addr) *registration.Registration {
	r := &registration.Registration{
		Path: path, Department: "its", Contact: registration.Contact{Name: "ITS", Email: "its@example.edu"},
		Purpose: "Scan-to-email from a printer.", WhyNoAuth: "The firmware has no SMTP AUTH client.",
		Volume: registration.Volume{PerHour: 100, PerDay: 1000}, Expires: time.Date(2027, 12, 1, 0, 0, 0, 0, time.UTC),
		Accept: registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true},
	}
	for i, ip := range ips {
		r.Hosts = append(r.Hosts, registration.Host{IP: ip, Name: fmt.Sprintf("mfp%d.example.edu", i), Kind: "printer",
			Device: registration.Device{BareLF: "reject", TLS: "modern", Commands: "strict", AddHeaders: true}})
	}
	return r
}

// The whole judgement of one form, with 100,000 addresses registered, 10,000 of
// them expired, and 1,000 departments: from the text of the file to problems and
// plan. Pages must answer within 50 ms.
func BenchmarkChange100k(b *testing.B) {
	base := large(b, 100_000)
	for _, hosts := range []int{1, 64} {
		var ips []netip.Addr
		for i := range hosts {
			ips = append(ips, netip.AddrFrom4([4]byte{35, 9, 0, byte(1 + i)}))
		}
		text := registration.Format(form("", ips...), "")
		b.Run(fmt.Sprint(hosts), func(b *testing.B) {
			now := today()
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				change, err := base.Change([]Edit{{Path: "registrations/its/new.cue", Data: text}}, now)
				if err != nil {
					b.Fatal(err)
				}
				plan := change.Plan()
				if problems := change.Blame(policy.Author{Login: "its", ID: 1}); len(problems) != 0 || len(plan.Added) != hosts {
					b.Fatal(len(problems), len(plan.Added))
				}
			}
		})
	}
}
