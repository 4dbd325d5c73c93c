package reconcile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
)

func TestBranchIsFollowed(t *testing.T) {
	s := newSite(t)
	if s.live.Load() != nil {
		t.Fatal("something is in force before there was a round")
	}
	s.begin(2)
	if len(s.accepted) != 1 || !s.accepted[0].First || len(s.accepted[0].Changes) != 2 {
		t.Fatalf("announced: %+v", s.accepted)
	}
	reads := s.source.reads
	s.once() // nothing new
	s.write(printer(3), registration(3))
	second := s.commit()
	s.once()
	s.want(second, 1, 2, 3)
	if len(s.accepted) != 2 || s.accepted[1].First || len(s.accepted[1].Changes) != 1 || s.accepted[1].Changes[0].Kind != policy.Added {
		t.Errorf("announced: %+v", s.accepted[1:])
	}
	if n := s.source.reads - reads; n != 1 {
		t.Errorf("%d files were read for a change of one", n)
	}
	s.remove(printer(1))
	s.write("registrations/blocks/mfp2.cue", block(2))
	third := s.commit()
	s.once()
	s.want(third, 3)
	state := s.r.State()
	if state.How != reconcile.Descended || state.Newest != third || state.Error != "" || !state.ContactAt.Equal(today) ||
		state.CommittedAt.IsZero() || state.Addresses != 2 || state.Files != 5 || state.Unannounced {
		t.Errorf("State = %+v", state)
	}
}

func TestRewrittenHistoryFreezes(t *testing.T) {
	for _, c := range []struct {
		name    string
		rewrite func(s *site, first string)
		why     string
		hosts   []int // in force when an operator accepts
	}{
		{"rewound", func(s *site, first string) { s.git("reset", "-q", "--hard", first) }, "set back", []int{1, 2}},
		{"diverged", func(s *site, first string) {
			s.git("reset", "-q", "--hard", first)
			s.write(printer(9), registration(9))
			s.commit()
		}, "rewritten", []int{1, 2, 9}},
		{"unrelated", func(s *site, _ string) {
			s.git("checkout", "-q", "--orphan", "fresh")
			s.commit()
			s.git("branch", "-f", "main", "HEAD")
		}, "rewritten", []int{1, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			first := s.begin(2)
			s.remove(printer(2))
			s.write(printer(3), registration(3))
			good := s.commit()
			s.once()
			s.want(good, 1, 3)
			c.rewrite(s, first)
			head := s.git("rev-parse", "HEAD")
			for range 2 {
				s.once()
				s.want(good, 1, 3) // what was revoked stays revoked
				s.condition(reconcile.Frozen, c.why)
			}
			if cmd := s.r.State().Command; !strings.Contains(cmd, "gatepost accept "+head+" --reason") {
				t.Errorf("Command = %q", cmd)
			}
			s.restart()
			s.once()
			s.want(good, 1, 3)
			s.condition(reconcile.Frozen, c.why)

			if err := s.r.Accept(t.Context(), head, " "); err == nil {
				t.Error("accepted without a reason")
			}
			if err := s.r.Accept(t.Context(), strings.Repeat("ab", 20), "why not"); err == nil {
				t.Error("accepted a commit that is nowhere")
			}
			if err := s.r.Accept(t.Context(), head[:6], "too short"); err == nil {
				t.Error("accepted by six digits")
			}
			s.want(good, 1, 3)
			if err := s.r.Accept(t.Context(), head[:12], "restored from the backup"); err != nil {
				t.Fatal(err)
			}
			s.want(head, c.hosts...)
			s.condition(reconcile.Following, "")
			if st := s.r.State(); st.How != reconcile.Operator || st.Reason != "restored from the backup" {
				t.Errorf("State = %+v", st)
			}
			if last := s.accepted[len(s.accepted)-1]; len(last.Removed) > 0 || last.First || last.Commit != head {
				t.Errorf("announced: %+v", last)
			}
			s.write(printer(20), registration(20))
			next := s.commit()
			s.git("branch", "-f", "main-copy", "HEAD")
			if c.name == "unrelated" {
				s.git("branch", "-f", "main", "HEAD")
			}
			s.once()
			s.want(next, append(c.hosts, 20)...)
		})
	}
}

func TestDeletedBranchFreezes(t *testing.T) {
	s := newSite(t)
	head := s.begin(2)
	s.git("checkout", "-q", "--detach")
	s.git("branch", "-q", "-D", "main")
	s.once()
	s.want(head, 1, 2)
	s.condition(reconcile.Frozen, "does not exist")
	s.git("checkout", "-q", "-b", "main")
	s.once()
	s.condition(reconcile.Following, "")
}

func TestRemoteGoneThroughARestart(t *testing.T) {
	s := newSite(t)
	head := s.begin(3)
	s.source.fetch = fmt.Errorf("gitsync: %w", gitsync.ErrUnreachable)
	if err := s.r.Once(t.Context()); !errors.Is(err, gitsync.ErrUnreachable) {
		t.Fatal(err)
	}
	if s.r.State().Error == "" {
		t.Error("State tells no error")
	}
	s.want(head, 1, 2, 3)
	s.restart()
	s.want(head, 1, 2, 3)
	if err := s.r.Once(t.Context()); err == nil {
		t.Error("no error")
	}
	s.want(head, 1, 2, 3)
	s.source.fetch = nil
	s.once()
	if st := s.r.State(); st.Error != "" || st.Unannounced {
		t.Errorf("State = %+v", st)
	}
	if len(s.accepted) != 1 {
		t.Errorf("announced %d times", len(s.accepted))
	}
}

func TestMassRemovalWaitsAndItsBlocksDoNot(t *testing.T) {
	s := newSite(t)
	good := s.begin(12)
	for i := 1; i <= 6; i++ {
		s.remove(printer(i))
	}
	s.write(printer(20), registration(20))
	s.write("registrations/blocks/mfp12.cue", block(12))
	s.commit()
	for range 2 {
		s.once()
		s.want(good, seq(1, 11)...)
		s.condition(reconcile.Held, "6 of 12 live addresses")
	}
	if n := s.r.State().HeldBlocks; n != 1 {
		t.Errorf("%d held blocks", n)
	}
	s.restart()
	s.want(good, seq(1, 11)...)
	s.once()
	s.want(good, seq(1, 11)...)

	s.write("registrations/blocks/mfp11.cue", block(11)) // another commit on top, while the first waits
	s.remove("registrations/blocks/mfp12.cue")
	head := s.commit()
	s.once()
	s.want(good, append(seq(1, 10), 12)...)
	if err := s.r.Accept(t.Context(), head, "the old print room is closed"); err != nil {
		t.Fatal(err)
	}
	s.want(head, 7, 8, 9, 10, 12, 20)
	s.condition(reconcile.Following, "")
	if s.r.State().HeldBlocks != 0 {
		t.Error("blocks are still held")
	}
	s.restart()
	s.want(head, 7, 8, 9, 10, 12, 20)
}

// The floor keeps a small register workable; above it, zero means zero.
func TestNoRemovalsAllowed(t *testing.T) {
	s := newSite(t)
	s.begin(20)
	o := s.options()
	o.MaxRemovals = 0
	var err error
	if s.r, err = reconcile.New(o); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 4; i++ {
		s.remove(printer(i))
	}
	head := s.commit()
	s.once()
	s.want(head, seq(5, 20)...)
	for i := 5; i <= 9; i++ {
		s.remove(printer(i))
	}
	s.commit()
	s.once()
	s.want(head, seq(5, 20)...)
	s.condition(reconcile.Held, "5 of 16 live addresses")
}

func TestHeldCommitThatIsTakenBack(t *testing.T) {
	s := newSite(t)
	good := s.begin(6)
	for i := 1; i <= 6; i++ {
		s.remove(printer(i))
	}
	s.write("registrations/blocks/b.cue", block(1))
	s.commit()
	s.once()
	s.want(good, seq(2, 6)...)
	s.git("reset", "-q", "--hard", good)
	s.once()
	s.want(good, seq(1, 6)...)
	s.condition(reconcile.Following, "")
}

func TestHeldCommitMayChangeABlockButNotLiftIt(t *testing.T) {
	s := newSite(t)
	s.write("registrations/blocks/b.cue", block(7))
	for i := 1; i <= 8; i++ {
		s.write(printer(i), registration(i))
	}
	good := s.commit()
	s.once()
	s.want(good, 1, 2, 3, 4, 5, 6, 8)
	for i := 1; i <= 6; i++ {
		s.remove(printer(i))
	}
	s.write("registrations/blocks/b.cue", block(8))
	s.commit()
	s.once()
	s.want(good, seq(1, 6)...)
	s.restart()
	s.want(good, seq(1, 6)...)
}

func TestSmallRegistersCanBeWorkedOn(t *testing.T) {
	s := newSite(t)
	s.begin(4)
	for i := 1; i <= 4; i++ {
		s.remove(printer(i))
	}
	head := s.commit()
	s.once()
	s.want(head)
}

func TestLosingTheCampusWaits(t *testing.T) {
	s := newSite(t)
	good := s.begin(1)
	s.write("registrations/campus/networks.cue", "campus: []\n")
	s.commit()
	s.once()
	s.want(good, 1)
	s.remove("registrations/campus/networks.cue")
	s.commit()
	s.once()
	s.want(good, 1)
	s.condition(reconcile.Held, "address space")
}

func TestFirstCommitMustBeARegister(t *testing.T) {
	for name, prepare := range map[string]func(s *site){
		"no register": func(s *site) {
			s.git("init", "-q")
			for _, f := range []string{"networks", "departments"} {
				s.remove("registrations/campus/" + f + ".cue")
			}
		},
		"campus broken": func(s *site) { s.write("registrations/campus/networks.cue", "campus: [") },
		"site broken":   func(s *site) { s.write("schema/site.cue", "#Registration: {") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			prepare(s)
			s.commit()
			if err := s.r.Once(t.Context()); err == nil || s.r.State().Error == "" {
				t.Errorf("Once: %v", err)
			}
			if s.live.Load() != nil || len(s.accepted) > 0 {
				t.Error("something is in force")
			}
			s.write("registrations/campus/networks.cue", networks)
			s.write("registrations/campus/departments.cue", departments)
			s.write("schema/site.cue", "")
			s.begin(1)
			if !s.accepted[0].First {
				t.Error("the first is not announced as First")
			}
		})
	}
}

func TestSymlinkSubmoduleAndHugeFileAreReported(t *testing.T) {
	s := newSite(t)
	s.begin(2)
	if err := os.Symlink("/etc/passwd", filepath.Join(s.work, "registrations/lsa-physics/link.cue")); err != nil {
		t.Fatal(err)
	}
	s.write("registrations/lsa-physics/huge.cue", strings.Repeat("// more\n", 100_000))
	s.write("registrations/lsa-physics/caf\xe9.cue", registration(30))
	s.write(printer(3), registration(3))
	s.git("add", "-A")
	s.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("12", 20)+",registrations/lsa-physics/sub.cue")
	s.git("commit", "-q", "-m", "odd")
	s.once()
	s.want(s.git("rev-parse", "HEAD"), 1, 2, 3)
	const want = "caf\uFFFD.cue path, huge.cue too-large, link.cue not-regular, sub.cue not-regular"
	if got := s.rules(); got != want {
		t.Errorf("problems: %s\nwant: %s", got, want)
	}
	s.restart()
	if got := s.rules(); got != want {
		t.Errorf("problems after a restart: %s", got)
	}
}
