package policy

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// FuzzWith holds a register that is changed again and again to what a build
// from the beginning makes of the same files.
func FuzzWith(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed, seed+1000)
	}
	f.Fuzz(func(t *testing.T, seed1, seed2 uint64) {
		r := rand.New(rand.NewPCG(seed1, seed2))
		now := today()
		files := make(map[string]*registration.File)
		for _, f := range randomRegister(r) {
			files[f.Path] = f
		}
		o := Options{Now: now, MaxVolume: registration.Volume{PerDay: 5000}}
		have := NewRegister(slices.Collect(maps.Values(files)), o)
		for step := range 12 {
			o.Now = o.Now.Add([]time.Duration{0, time.Second, 25 * time.Hour, 10 * 24 * time.Hour, 400 * 24 * time.Hour}[r.IntN(5)])
			changed := randomChange(r, files)
			for path, f := range changed {
				if f == nil {
					delete(files, path)
				} else {
					files[path] = f
				}
			}
			next := have.With(changed, o)
			full := o
			full.Incumbents = have.Snapshot()
			want := NewRegister(slices.Collect(maps.Values(files)), full)
			author := []Author{{}, physicist, engineer}[r.IntN(3)]
			all := slices.Collect(maps.Values(files))
			if got, want := have.JudgeChange(changed, author), have.Judge(all, author); !slices.Equal(got, want) {
				t.Fatalf("step %d: of the change alone the judgement is\n%q, want\n%q", step, got, want)
			}
			blame := slices.DeleteFunc(have.Judge(all, author), func(p registration.Problem) bool {
				_, touches := have.touchedBy(changed)[p.File]
				return p.Severity == registration.Warning && !touches
			})
			if got := have.Blame(changed, author); !slices.Equal(got, blame) {
				t.Fatalf("step %d: the change is to blame for\n%q, want\n%q", step, got, blame)
			}
			if got, want := next.LeftOut(), leftOut(want.Problems()); got != want {
				t.Fatalf("step %d: %d files are left out, want %d", step, got, want)
			}
			if got, want := have.TeamsOfChange(changed, author), have.Teams(all, author); !slices.Equal(got, want) {
				t.Fatalf("step %d: the teams are %v, want %v", step, got, want)
			}
			sameRegister(t, step, next, want)
			if got, want := Diff(have.Snapshot(), next.Snapshot()), Diff(have.Snapshot(), want.Snapshot()); !reflect.DeepEqual(got, want) {
				t.Fatalf("step %d: the changes are\n%+v, want\n%+v", step, got, want)
			}
			if got, want := Removals(have.Snapshot(), next.Snapshot()), Removals(have.Snapshot(), want.Snapshot()); !sameRemovals(got, want) {
				t.Fatalf("step %d: removed are %v, want %v", step, got, want)
			}
			live, lost := next.Snapshot().Losses(have.Snapshot(), o.Now)
			if l, n := want.Snapshot().Losses(have.Snapshot(), o.Now); live != l || lost != n {
				t.Fatalf("step %d: %d of %d lost, want %d of %d", step, lost, live, n, l)
			}
			have = next
		}
	})
}

// randomChange replaces, adds and removes a few files.
func randomChange(r *rand.Rand, files map[string]*registration.File) map[string]*registration.File {
	changed := make(map[string]*registration.File)
	fresh := randomRegister(r)
	for range r.IntN(4) {
		f := fresh[r.IntN(len(fresh))]
		if isCampus(f.Path) && r.IntN(4) > 0 {
			continue
		}
		changed[f.Path] = f
	}
	paths := slices.Sorted(maps.Keys(files))
	for range min(len(paths), r.IntN(3)) {
		if path := paths[r.IntN(len(paths))]; !isCampus(path) || r.IntN(8) == 0 {
			changed[path] = nil
		}
	}
	return changed
}

func sameRegister(t *testing.T, step int, got, want *Register) {
	t.Helper()
	if g, w := got.Problems(), want.Problems(); !slices.Equal(g, w) {
		t.Fatalf("step %d: the problems are\n%q, want\n%q", step, g, w)
	}
	if g, w := slices.Collect(maps.Keys(maps.Collect(got.Snapshot().All()))), addressesOf(want); len(g) != len(w) {
		t.Fatalf("step %d: %v are registered, want %v", step, g, w)
	}
	for ip, e := range want.Snapshot().All() {
		if g, ok := got.Snapshot().Find(ip); !ok || g != e {
			t.Fatalf("step %d: %s is %+v, want %+v", step, ip, g, e)
		}
	}
	if g, w := got.Snapshot().Blocks(), want.Snapshot().Blocks(); !reflect.DeepEqual(g, w) {
		t.Fatalf("step %d: the blocks are %v, want %v", step, g, w)
	}
	for _, ip := range []string{"141.211.13.1", "141.211.13.2", "141.212.1.1", "2607:f018:1:13::1", "8.8.8.8"} {
		addr := netip.MustParseAddr(ip)
		for _, now := range []time.Time{today(), today().AddDate(0, 1, 0)} {
			if g, w := got.Snapshot().Lookup(addr, now), want.Snapshot().Lookup(addr, now); g.Standing != w.Standing {
				t.Fatalf("step %d: %s is %v, want %v", step, ip, g.Standing, w.Standing)
			}
		}
	}
}

func leftOut(problems []registration.Problem) int {
	files := map[string]bool{}
	for _, p := range problems {
		if p.Severity != registration.Warning && p.Rule != registration.RuleExpiryTooFar {
			files[p.File] = true
		}
	}
	return len(files)
}

func addressesOf(r *Register) []netip.Addr {
	return slices.Collect(maps.Keys(maps.Collect(r.Snapshot().All())))
}

func sameRemovals(a, b []Removal) bool {
	order := func(x, y Removal) int { return x.IP.Compare(y.IP) }
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.Equal(a, b)
}

// The judgement of one form: what it would make, what is wrong with it, and what
// it does.
func BenchmarkJudgeChange100k(b *testing.B) {
	r := NewRegister(bigRegister(100_000), Options{Now: today()})
	f := request("registrations/its/new.cue", "35.9.0.7")
	changed := map[string]*registration.File{f.Path: f}
	b.ReportAllocs()
	for b.Loop() {
		next := r.With(changed, Options{Now: today()})
		plan := NewPlan(r.Snapshot(), next.Snapshot())
		plan.Warnings = plan.Unexplained(r.Snapshot(), next.Snapshot(), map[string]bool{f.Path: true})
		if problems := r.JudgeChange(changed, Author{}); len(problems) > 256 || len(plan.Added) != 1 {
			b.Fatal(problems, plan)
		}
	}
}

func BenchmarkWith100k(b *testing.B) {
	r := NewRegister(bigRegister(100_000), Options{Now: today()})
	ip := netip.MustParseAddr("35.1.0.7").String()
	b.ReportAllocs()
	for b.Loop() {
		f := request("registrations/its/000007.cue", ip)
		r = r.With(map[string]*registration.File{f.Path: f}, Options{Now: today()})
		if r.Snapshot().Len() != 100_000 {
			b.Fatal(r.Snapshot().Len())
		}
	}
}
