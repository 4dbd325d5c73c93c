package reconcile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
)

// many is a register of so many registrations, of one address each.
func many(n int) *memorySource {
	m := large()
	m.entries = m.entries[:n+2]
	return m
}

// A register with files beside register.last-good: what a restart finds is what
// was in force, whatever was kept in which file, and whichever write failed.
func TestFilesBesideLastGood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		files  int
		change int // files in the second commit
		names  string
	}{
		{"few", 5, 3, ""},
		{"many", 20, 3, "a"},
		{"very many", 90, 3, "a"},
		{"few and then many", 5, 20, "a"},
		{"many and then many", 40, 20, "b"},
		{"many and then very many", 90, 90, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newMemorySite(t, many(max(c.files, c.change)))
			s.source.entries = s.source.entries[:c.files+2]
			s.once()
			for i := range c.change {
				s.source.put(2+i, fmt.Sprintf("registrations/lsa-physics/mfp%d.cue", i), strings.Replace(registration(1), address(1).String(), memoryAddress(i), 1)+"// changed\n")
			}
			s.source.changes = nil
			s.source.whole = true
			s.once()
			s.same()
			if got := s.names(); got != c.names {
				t.Errorf("the files are called %q, want %q", got, c.names)
			}
			s.source.whole = false
			s.source.put(2, "registrations/lsa-physics/mfp0.cue", strings.Replace(registration(1), address(1).String(), "141.211.250.1", 1))
			s.once()
			s.same()
			s.source.put(2, "registrations/lsa-physics/mfp0.cue", brokenFile)
			s.once()
			s.same()
		})
	}
}

// Whichever write fails, before or after it is done, the relay goes on with one
// register or the other, a restart finds that one, and the end is the same.
func TestFailureWithFilesBesideLastGood(t *testing.T) {
	t.Parallel()
	for _, refuse := range []string{"register.last-good", "register.files-a", "register.contents-a", "register.files-b", "register.contents-b"} {
		for _, lying := range []bool{false, true} {
			for _, change := range []int{1, 20, 90} {
				t.Run(fmt.Sprintf("%s %v %d", refuse, lying, change), func(t *testing.T) {
					t.Parallel()
					s := newMemorySite(t, many(90))
					s.once()
					before := s.live.Load()
					for i := range change {
						s.source.put(2+i, fmt.Sprintf("registrations/lsa-physics/mfp%d.cue", i), strings.Replace(registration(1), address(1).String(), "141.211.200."+fmt.Sprint(i%250), 1))
					}
					s.source.whole = change > 1
					*s.disk = faultyDisk{refuse: refuse, lying: lying}
					err := s.r.Once(t.Context())
					inForce := s.live.Load()
					if err != nil && inForce != before {
						t.Errorf("another register is in force after %v", err)
					}
					*s.disk = faultyDisk{}
					restarted := s.restarted()
					if changes := policy.Diff(inForce, restarted); len(changes) > 0 && !lying {
						t.Errorf("a restart after %v changes %d addresses", err, len(changes))
					}
					s.once()
					s.same()
				})
			}
		}
	}
}

// Damage to any of the files is found, and nothing is served on its word.
func TestDamagedFilesBesideLastGood(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"register.files-a", "register.files-a gone", "register.last-good"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMemorySite(t, many(60))
			s.once()
			file, gone := strings.CutSuffix(name, " gone")
			path := filepath.Join(s.dir, file)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 4
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if gone {
				err = errors.Join(err, os.Remove(path))
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.restarted() != nil {
				t.Error("a damaged register is in force")
			}
			live := new(policy.Live)
			o := s.options()
			o.Live = live
			r, err := reconcile.New(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			if live.Load().Len() != 60 {
				t.Errorf("%d addresses after the next round", live.Load().Len())
			}
		})
	}
}

// A memorySite is a reconciler over a memorySource.
type memorySite struct {
	t      *testing.T
	dir    string
	source *memorySource
	disk   *faultyDisk
	live   *policy.Live
	r      *reconcile.Reconciler
}

func newMemorySite(t *testing.T, m *memorySource) *memorySite {
	t.Helper()
	s := &memorySite{t: t, dir: t.TempDir(), source: m, disk: &faultyDisk{}, live: new(policy.Live)}
	var err error
	if s.r, err = reconcile.New(s.options()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *memorySite) options() reconcile.Options {
	return reconcile.Options{Source: s.source, Dir: s.dir, Live: s.live, Disk: s.disk, Program: "this one", MaxRemovals: 1, ManyFiles: 10}
}

func (s *memorySite) once() {
	s.t.Helper()
	if err := s.r.Once(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// restarted is what a restart would put in force.
func (s *memorySite) restarted() *policy.Snapshot {
	s.t.Helper()
	o := s.options()
	o.Live = new(policy.Live)
	if _, err := reconcile.New(o); err != nil {
		s.t.Fatal(err)
	}
	return o.Live.Load()
}

// same checks that a restart, by this program or another, changes nothing, and
// that a relay which begins with this commit has the same addresses.
func (s *memorySite) same() {
	s.t.Helper()
	now := s.live.Load()
	for _, program := range []string{"this one", "another one"} {
		o := s.options()
		o.Live, o.Program = new(policy.Live), program
		if _, err := reconcile.New(o); err != nil {
			s.t.Fatal(err)
		}
		if changes := policy.Diff(now, o.Live.Load()); len(changes) > 0 || now.Commit() != o.Live.Load().Commit() {
			s.t.Errorf("%s: a restart changes %+v", program, changes[:min(len(changes), 3)])
		}
	}
}

// names are the letters of the files beside register.last-good.
func (s *memorySite) names() string {
	var names []string
	for _, letter := range []string{"a", "b"} {
		if _, err := os.Stat(filepath.Join(s.dir, "register.files-"+letter)); err == nil {
			names = append(names, letter)
		}
	}
	slices.Sort(names)
	return strings.Join(names, "")
}
