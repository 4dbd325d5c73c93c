package reconcile_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/reconcile"
)

// What is withheld outlives damage to the file that holds what is in force, and
// nothing is guessed if both copies are damaged.
func TestDamageLetsNothingIn(t *testing.T) {
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprint(both), func(t *testing.T) {
			s, j := judged(t, 2)
			evil := s.merge(j, false, func() { s.write(printer(1), registration(1, 66)) })
			head := s.merge(j, true, func() { s.write(printer(3), registration(3)) })
			s.once()
			s.want(head, 1, 2, 3)
			spoil := func(name string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(s.dir, name), []byte("gone\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			spoil("register.last-good")
			if both {
				spoil("register.approvals")
			}
			s.restart()
			if s.live.Load() != nil {
				t.Error("something is in force")
			}
			s.once()
			if !both {
				s.want(head, 1, 2, 3)
				return
			}
			if s.live.Load() != nil {
				t.Errorf("in force: %v", admitted(s.live.Load()))
			}
			s.condition(reconcile.Frozen, "damaged")
			if err := s.r.Accept(t.Context(), head, "looked at all of it"); err != nil {
				t.Fatal(err)
			}
			s.want(head, 1, 2, 3, 66)
			_ = evil
		})
	}
}

// Whatever fails, and whether the program then goes on or starts anew: what
// nobody vouched for is never in force, and the end is the same.
func TestFailureAtEachStepOfJudging(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(*site, *jury)
	}{
		{"line", func(s *site, _ *jury) { s.source.line = errBoom }},
		{"diff", func(s *site, _ *jury) { s.source.diff = errBoom }},
		{"git while judging", func(_ *site, j *jury) { j.err = errBoom }},
		{"receipts", func(s *site, _ *jury) { s.disk.refuse = "register.approvals" }},
		{"killed after the receipts", func(s *site, _ *jury) { s.disk.refuse, s.disk.lying = "register.approvals", true }},
		{"persist", func(s *site, _ *jury) { s.disk.refuse = "register.last-good" }},
		{"killed between persist and store", func(s *site, _ *jury) { s.disk.refuse, s.disk.lying = "register.last-good", true }},
		{"announcing", func(s *site, _ *jury) { s.acceptErr = errBoom }},
		{"killed after announcing", func(s *site, _ *jury) { s.disk.refuse = "register.announced" }},
	} {
		for _, release := range []bool{false, true} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %v %v", c.name, release, restart), func(t *testing.T) {
					s, j := judged(t, 3)
					evil := s.merge(j, false, func() {
						s.write(printer(1), registration(1, 66))
						s.write("registrations/blocks/b.cue", block(3))
					})
					s.merge(j, true, func() { s.write(printer(4), registration(4)); s.remove(printer(2)) })
					head := s.git("rev-parse", "HEAD")
					want := []int{1, 4}
					if release {
						s.once()
						s.want(head, want...)
						j.vouched[evil] = true
						s.later(2 * time.Hour)
						want = []int{1, 4, 66}
					}
					c.fail(s, j)
					err := s.r.Once(t.Context())
					if failed := err != nil; !failed && (!release || c.name != "line" && c.name != "diff") {
						t.Fatal("the round did not fail")
					}
					if got := admitted(s.live.Load()); !release && slices.Contains(got, 66) {
						t.Errorf("in force: %v", got)
					}
					if restart {
						s.restart()
						if got := admitted(s.live.Load()); !release && slices.Contains(got, 66) {
							t.Errorf("in force after a restart: %v", got)
						}
					}
					*s.source = faultySource{Source: s.source.Source}
					*s.disk = faultyDisk{}
					s.acceptErr, j.err = nil, nil
					s.once()
					s.later(2 * time.Hour)
					s.once()
					s.want(head, want...)
					last := s.accepted[len(s.accepted)-1]
					if _, has := last.Snapshot.Find(address(66)); last.Commit != head || has != release || s.r.State().Unannounced {
						t.Errorf("announced at last: %+v", last)
					}
					removed := 0
					for _, a := range s.accepted {
						removed += len(a.Removed)
					}
					if removed == 0 {
						t.Error("nobody was told of the removal")
					}
					s.restart()
					s.want(head, want...)
				})
			}
		}
	}
}

// Each commit is told of once, in the log, and what waits shows in State.
func TestWithheldIsToldOnce(t *testing.T) {
	s, j := judged(t, 1)
	var buffer bytes.Buffer
	o := s.options()
	o.Logger = slog.New(slog.NewTextHandler(&buffer, nil))
	var err error
	if s.r, err = reconcile.New(o); err != nil {
		t.Fatal(err)
	}
	s.merge(j, true, func() { s.write(printer(2), registration(2)) })
	evil := s.merge(j, false, func() { s.write(printer(3), registration(3)); s.write(printer(1), registration(1, 5)) })
	for range 5 {
		s.once()
		s.later(2 * time.Hour)
	}
	for event, want := range map[string]int{"register.withheld": 1, "register.vouched": 1} {
		if n := strings.Count(buffer.String(), "event="+event+" "); n != want {
			t.Errorf("%s: %d lines\n%s", event, n, buffer.String())
		}
	}
	if !strings.Contains(buffer.String(), "event=register.withheld commit="+evil+" standing=refused paths=2 reason=\"no approving review\"") {
		t.Error(buffer.String())
	}
	state := s.r.State()
	if len(state.Withheld) != 2 || state.WithheldAll != 2 || !state.Withheld[0].Since.Equal(today) || state.Withheld[0].InForce == "" || state.Withheld[1].InForce != "" {
		t.Errorf("State: %+v", state.Withheld)
	}
}
