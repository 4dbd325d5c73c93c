package reconcile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
)

var errBoom = errors.New("boom")

// Whatever fails, and whether the program then goes on or starts anew, the old
// register is in force until the new one is, and the end is the same.
func TestFailureAtEachStep(t *testing.T) {
	for _, c := range []struct {
		name    string
		fail    func(s *site)
		old     bool // the old register is in force after the failure
		oldOnly bool // and after a restart
	}{
		{"fetch", func(s *site) { s.source.fetch = errBoom }, true, true},
		{"relation", func(s *site) { s.source.relation = errBoom }, true, true},
		{"files", func(s *site) { s.source.files = errBoom }, true, true},
		{"read", func(s *site) { s.source.read = errBoom }, true, true},
		{"describe", func(s *site) { s.source.describe = errBoom }, true, true},
		{"persist", func(s *site) { s.disk.refuse = "register.last-good" }, true, true},
		{"killed between persist and store", func(s *site) { s.disk.refuse, s.disk.lying = "register.last-good", true }, true, false},
		{"announcing", func(s *site) { s.acceptErr = errBoom }, false, false},
		{"killed after announcing", func(s *site) { s.disk.refuse = "register.announced" }, false, false},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				s := newSite(t)
				old := s.begin(2)
				s.remove(printer(2))
				s.write(printer(3), registration(3))
				head := s.commit()
				c.fail(s)
				if err := s.r.Once(t.Context()); err == nil {
					t.Fatal("the round did not fail")
				}
				if c.old {
					s.want(old, 1, 2)
				} else {
					s.want(head, 1, 3)
				}
				if restart {
					s.restart()
					if c.oldOnly {
						s.want(old, 1, 2)
					} else {
						s.want(head, 1, 3)
					}
				}
				*s.source = faultySource{Source: s.source.Source}
				*s.disk = faultyDisk{}
				s.acceptErr = nil
				s.once()
				s.once()
				s.want(head, 1, 3)
				last := s.accepted[len(s.accepted)-1]
				if last.Commit != head || last.First || s.r.State().Unannounced {
					t.Errorf("announced at last: %+v", last)
				}
				if want := []policy.Removal{{IP: address(2), Department: "lsa-physics"}}; !reflect.DeepEqual(last.Removed, want) {
					t.Errorf("announced as removed: %v", last.Removed)
				}
				if max := map[bool]int{false: 2, true: 3}[c.name == "killed after announcing"]; len(s.accepted) != max {
					t.Errorf("announced %d times", len(s.accepted))
				}
			})
		}
	}
}

func TestFirstIsAnnouncedAsFirstUntilItIsTaken(t *testing.T) {
	s := newSite(t)
	s.acceptErr = errBoom
	s.write(printer(1), registration(1))
	s.commit()
	if err := s.r.Once(t.Context()); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	if !s.r.State().Unannounced {
		t.Error("State does not tell that the announcement is missing")
	}
	s.restart()
	s.write(printer(2), registration(2))
	head := s.commit()
	s.acceptErr = nil
	s.once()
	s.want(head, 1, 2)
	if len(s.accepted) != 1 || !s.accepted[0].First || len(s.accepted[0].Changes) != 2 {
		t.Errorf("announced: %+v", s.accepted)
	}
	s.restart()
	s.once()
	s.write(printer(3), registration(3))
	s.commit()
	s.once()
	if len(s.accepted) != 2 || s.accepted[1].First {
		t.Errorf("announced: %+v", s.accepted[1:])
	}
}

// What went and came back before anybody was told of it was never gone.
func TestRemovalsAreToldOnce(t *testing.T) {
	s := newSite(t)
	s.begin(3)
	s.acceptErr = errBoom
	round := func() {
		s.commit()
		if err := s.r.Once(t.Context()); !errors.Is(err, errBoom) {
			t.Fatal(err)
		}
		s.restart()
	}
	s.remove(printer(1))
	s.remove(printer(2))
	round()
	s.write(printer(2), registration(2))
	s.remove(printer(3))
	round()
	s.acceptErr = nil
	s.once()
	want := []policy.Removal{{IP: address(1), Department: "lsa-physics"}, {IP: address(3), Department: "lsa-physics"}}
	if got := s.accepted[len(s.accepted)-1].Removed; !reflect.DeepEqual(got, want) {
		t.Errorf("removed: %v, want %v", got, want)
	}
	s.write(printer(4), registration(4))
	s.commit()
	s.once()
	if got := s.accepted[len(s.accepted)-1].Removed; len(got) > 0 {
		t.Errorf("removed once more: %v", got)
	}
}

// What went with a commit that nobody was told of is told, even if an operator
// goes back to the commit that was announced last and it does not come back
// there: its file was faulty by then, and only the version before it in force.
func TestRemovalsAreToldAfterGoingBack(t *testing.T) {
	s := newSite(t)
	s.begin(2)
	s.write(printer(2), brokenFile)
	faulty := s.commit()
	s.once()
	s.want(faulty, 1, 2)
	s.remove(printer(2))
	s.commit()
	s.acceptErr = errBoom
	if err := s.r.Once(t.Context()); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	s.restart()
	s.acceptErr = nil
	if err := s.r.Accept(t.Context(), faulty, "as it was"); err != nil {
		t.Fatal(err)
	}
	s.want(faulty, 1)
	want := []policy.Removal{{IP: address(2), Department: "lsa-physics"}}
	if got := s.accepted[len(s.accepted)-1]; got.Commit != faulty || !reflect.DeepEqual(got.Removed, want) {
		t.Errorf("announced: %s, removed %v; want %s, %v", got.Commit, got.Removed, faulty, want)
	}
}

// Who came first among files under campus/ is not forgotten with a restart,
// although the newcomer's path sorts before.
func TestRestartKeepsWhoHoldsANetwork(t *testing.T) {
	s := newSite(t)
	s.begin(2)
	s.write("registrations/campus/aaa.cue", `networks: "141.211.13.0/24": {department: "evil", use: "static"}
departments: evil: {name: "Evil", speakers: [{github: "evil", id: 666}], contactDomains: ["umich.edu"]}
`)
	s.write("registrations/evil/mfp.cue", strings.Replace(registration(66), "lsa-physics", "evil", 1))
	head := s.commit()
	s.once()
	s.want(head, 1, 2)
	s.restart()
	s.want(head, 1, 2)
	s.write(printer(3), registration(3))
	head = s.commit()
	s.once()
	s.want(head, 1, 2, 3)
}

func TestRestartIsTheSameRegister(t *testing.T) {
	s := newSite(t)
	s.begin(9)
	s.write("registrations/blocks/b.cue", block(4))
	s.write(printer(1), brokenFile)
	s.write(printer(3), registration(3, 30, 31))
	s.commit()
	s.once()
	before, state := s.live.Load(), s.r.State()
	s.restart()
	after := s.live.Load()
	if changes := policy.Diff(before, after); len(changes) > 0 || before.Commit() != after.Commit() {
		t.Errorf("a restart changed the register: %+v", changes)
	}
	again := s.r.State()
	state.Newest = "" // it is not known what is on the branch by now
	if !reflect.DeepEqual(again, state) {
		t.Errorf("State after a restart\n got %+v\nwant %+v", again, state)
	}
}

func TestDamagedStateIsReplaced(t *testing.T) {
	for _, name := range []string{"register.last-good", "register.announced"} {
		for how, spoil := range map[string]func([]byte) []byte{
			"cut":           func(b []byte) []byte { return b[:len(b)-20] },
			"one bit":       func(b []byte) []byte { b[len(b)-10] ^= 4; return b },
			"other version": func([]byte) []byte { return []byte("{}\n") },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				s := newSite(t)
				first := s.begin(2)
				s.write(printer(3), registration(3))
				head := s.commit()
				s.once()
				path := filepath.Join(s.dir, name)
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, spoil(data), 0o600); err != nil {
					t.Fatal(err)
				}
				s.restart()
				if name == "register.last-good" {
					if s.live.Load() != nil {
						t.Error("a damaged register is in force")
					}
					// The accepted commit is remembered, so nobody can use the
					// occasion to set the branch back.
					s.git("reset", "-q", "--hard", first)
					s.once()
					s.condition(reconcile.Frozen, "set back")
					if s.live.Load() != nil {
						t.Error("an older register is in force")
					}
					s.git("reset", "-q", "--hard", head)
				}
				s.once()
				s.want(head, 1, 2, 3)
				if last := s.accepted[len(s.accepted)-1]; last.First {
					t.Error("announced as the first ever")
				}
			})
		}
	}
}

func TestCancelledRoundSaysNothing(t *testing.T) {
	s := newSite(t)
	head := s.begin(1)
	s.write(printer(2), registration(2))
	s.commit()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.r.Once(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Once: %v", err)
	}
	if err := s.r.Accept(ctx, head, "x"); err == nil {
		t.Error("Accept succeeded")
	}
	s.want(head, 1)
	if got := s.r.State().Error; got != "" {
		t.Errorf("State.Error = %q", got)
	}
}

func TestRunPollsBacksOffAndWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &countingSource{}
		r, err := reconcile.New(reconcile.Options{Source: source, Dir: t.TempDir(), Live: new(policy.Live), Poll: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		seen := int64(0)
		wait := func(d time.Duration, least, most int64) {
			t.Helper()
			<-time.After(d)
			synctest.Wait()
			n := source.n.Load()
			if n-seen < least || n-seen > most {
				t.Errorf("%d rounds in %v, want %d to %d", n-seen, d, least, most)
			}
			seen = n
		}
		wait(0, 1, 1)               // at once
		wait(100*time.Second, 0, 0) // it failed: not after a minute,
		wait(40*time.Second, 1, 1)  // but after two, give or take a tenth;
		wait(180*time.Second, 0, 0) // then after four
		wait(90*time.Second, 1, 1)
		wait(time.Hour, 10, 14) // and never more than five apart
		for range 10 {
			r.Wake()
		}
		wait(0, 1, 2) // requests come to one, and one for those during it
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestARoundThatFailedIsNotLeftForADay: where a webhook does the work, the poll
// may be long.
func TestARoundThatFailedIsNotLeftForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &countingSource{}
		r, err := reconcile.New(reconcile.Options{Source: source, Dir: t.TempDir(), Live: new(policy.Live), Poll: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		<-time.After(time.Hour)
		synctest.Wait()
		if n := source.n.Load(); n < 10 || n > 14 {
			t.Errorf("%d rounds in an hour", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// A countingSource cannot be reached.
type countingSource struct {
	reconcile.Source
	n atomic.Int64
}

func (c *countingSource) Fetch(context.Context) (gitsync.Hash, error) {
	c.n.Add(1)
	return gitsync.Hash{}, gitsync.ErrUnreachable
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []reconcile.Options{
		{},
		{Source: &countingSource{}, Live: new(policy.Live)},
		{Source: &countingSource{}, Live: new(policy.Live), Dir: "x", MaxRemovals: -1},
		{Source: &countingSource{}, Live: new(policy.Live), Dir: "x", MaxRemovals: 30},
	} {
		if _, err := reconcile.New(o); err == nil {
			t.Errorf("New(%+v) succeeded", o)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := newSite(t)
	registry := prometheus.NewRegistry()
	o := s.options()
	o.Registerer = registry
	var err error
	if s.r, err = reconcile.New(o); err != nil {
		t.Fatal(err)
	}
	if _, err := reconcile.New(o); err == nil {
		t.Error("the same metrics were registered twice")
	}
	s.begin(6)
	for i := 1; i <= 5; i++ {
		s.remove(printer(i))
	}
	s.write(printer(9), brokenFile)
	s.commit()
	s.once()
	const want = `
# HELP gatepost_register_addresses Registered addresses in force, live or not.
# TYPE gatepost_register_addresses gauge
gatepost_register_addresses 6
# HELP gatepost_register_age_seconds Time since the repository last answered; after a restart, until it does, since the commit was accepted.
# TYPE gatepost_register_age_seconds gauge
gatepost_register_age_seconds 0
# HELP gatepost_register_frozen 1 while the branch cannot be followed (rewound, rewritten, deleted, not verified).
# TYPE gatepost_register_frozen gauge
gatepost_register_frozen 0
# HELP gatepost_register_held 1 while the newest commit waits because it removes too much.
# TYPE gatepost_register_held gauge
gatepost_register_held 1
# HELP gatepost_register_rounds_total Rounds of synchronisation, by result: unchanged, accepted, held, frozen, failed.
# TYPE gatepost_register_rounds_total counter
gatepost_register_rounds_total{result="accepted"} 1
gatepost_register_rounds_total{result="failed"} 0
gatepost_register_rounds_total{result="frozen"} 0
gatepost_register_rounds_total{result="held"} 1
gatepost_register_rounds_total{result="unchanged"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "gatepost_register_addresses", "gatepost_register_age_seconds",
		"gatepost_register_frozen", "gatepost_register_held", "gatepost_register_rounds_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
