package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/approval"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/reconcile"
)

// A jury vouches for the commits that it was told to.
type jury struct {
	policy  string
	vouched map[string]bool
	away    bool  // nothing can be judged
	err     error // git cannot be read
	asked   []string
}

func (j *jury) Policy() string { return j.policy }

func (j *jury) Vouch(_ context.Context, s gitsync.Step) (approval.Verdict, error) {
	j.asked = append(j.asked, s.Commit.String())
	switch {
	case j.err != nil:
		return approval.Verdict{}, j.err
	case j.away:
		return approval.Verdict{Why: "the forge does not answer"}, nil
	case j.vouched[s.Commit.String()]:
		return approval.Verdict{Standing: approval.Vouched, Why: "octocat"}, nil
	}
	return approval.Verdict{Standing: approval.Refused, Why: "no approving review"}, nil
}

// judged is a site whose commits are judged, with printers 1 to n in force.
func judged(t *testing.T, n int) (*site, *jury) {
	t.Helper()
	s := newSite(t)
	j := &jury{policy: "p", vouched: map[string]bool{}}
	s.approver = j
	s.now = today
	s.restart()
	s.begin(n)
	return s, j
}

// merge makes a merge of a branch with the changes of f, as a forge does, and
// says whether the jury vouches for it.
func (s *site) merge(j *jury, vouched bool, f func()) string {
	s.t.Helper()
	s.git("checkout", "-q", "-b", "request")
	f()
	s.commit()
	s.git("checkout", "-q", "main")
	s.git("merge", "-q", "--no-ff", "-m", "Merge", "request")
	s.git("branch", "-q", "-D", "request")
	head := s.git("rev-parse", "HEAD")
	j.vouched[head] = vouched
	return head
}

// withheldPaths is what State says is withheld, "path commit why" in a line.
func (s *site) withheldPaths() string {
	var out []string
	for _, w := range s.r.State().Withheld {
		out = append(out, fmt.Sprintf("%s %.7s %s", filepath.Base(w.Path), w.Commit, w.Why))
	}
	return strings.Join(out, "\n")
}

// later lets time go by.
func (s *site) later(d time.Duration) { s.now = s.now.Add(d) }

func TestOneMergeOfThreeIsWithheld(t *testing.T) {
	s, j := judged(t, 3)
	if len(j.asked) > 0 {
		t.Errorf("the first commit was judged: %v", j.asked)
	}
	s.merge(j, true, func() { s.write(printer(4), registration(4)) })
	evil := s.merge(j, false, func() {
		s.write(printer(5), registration(5))
		s.write(printer(1), registration(1, 66))
		s.remove(printer(2))
	})
	head := s.merge(j, true, func() { s.write(printer(3), registration(3, 33)) })
	s.once()
	s.want(head, 1, 2, 3, 4, 33)
	want := fmt.Sprintf("mfp1.cue %.7[1]s no approving review\nmfp2.cue %.7[1]s no approving review\nmfp5.cue %.7[1]s no approving review", evil)
	if got := s.withheldPaths(); got != want {
		t.Errorf("withheld:\n%s\nwant\n%s", got, want)
	}
	s.restart()
	s.want(head, 1, 2, 3, 4, 33)
	if got := s.withheldPaths(); got != want {
		t.Errorf("after a restart:\n%s", got)
	}
	asked := len(j.asked)
	s.once()
	s.want(head, 1, 2, 3, 4, 33)
	if len(j.asked) != asked+1 {
		t.Errorf("asked %d times after a restart, want one, for what is withheld", len(j.asked)-asked)
	}
	// Vouched for later on, it goes live by itself, and is announced.
	j.vouched[evil] = true
	s.once()
	s.want(head, 1, 2, 3, 4, 33) // not asked again at once
	s.later(time.Hour)
	s.once()
	s.want(head, 1, 3, 4, 5, 33, 66)
	if got := s.withheldPaths(); got != "" || s.r.State().Unannounced {
		t.Errorf("still withheld: %s", got)
	}
	last := s.accepted[len(s.accepted)-1]
	if last.Commit != head || last.First || len(last.Removed) != 1 || last.Removed[0].IP != address(2) {
		t.Errorf("announced: %+v", last)
	}
	n := len(s.accepted)
	s.restart()
	s.once()
	s.want(head, 1, 3, 4, 5, 33, 66)
	if len(s.accepted) != n {
		t.Error("announced again")
	}
}

// What a department commits on top of what nobody approved stays withheld, until
// an operator says yes to the first, or it is taken back.
func TestOnTopOfWhatIsWithheld(t *testing.T) {
	for _, way := range []string{"operator", "taken back"} {
		t.Run(way, func(t *testing.T) {
			s, j := judged(t, 2)
			evil := s.merge(j, false, func() { s.write(printer(1), registration(1, 66)) })
			s.once()
			head := s.merge(j, true, func() { s.write(printer(1), registration(1, 66, 7)) })
			s.once()
			s.want(head, 1, 2)
			if err := s.r.Accept(t.Context(), head, "why not"); err == nil {
				t.Error("accepted what is accepted")
			}
			switch way {
			case "operator":
				if err := s.r.Accept(t.Context(), evil, "looked at it, ticket 4711"); err != nil {
					t.Fatal(err)
				}
				s.want(head, 1, 2, 7, 66)
				s.restart()
				s.once()
				s.want(head, 1, 2, 7, 66)
				// To say it twice sets nothing back.
				if err := s.r.Accept(t.Context(), evil, "again"); err == nil || !strings.Contains(err.Error(), "nothing waits") {
					t.Errorf("again: %v", err)
				}
				s.want(head, 1, 2, 7, 66)
			case "taken back":
				head = s.merge(j, false, func() { s.write(printer(1), registration(1)) })
				s.once()
				s.want(head, 1, 2)
				if got := s.withheldPaths(); got != "" {
					t.Errorf("withheld: %s", got)
				}
				head = s.merge(j, true, func() { s.write(printer(1), registration(1, 8)) })
				s.once()
				s.want(head, 1, 2, 8)
			}
		})
	}
}

func TestBlocksNeedNobodysApproval(t *testing.T) {
	s, j := judged(t, 4)
	s.merge(j, true, func() { s.write("registrations/blocks/a.cue", block(4)) })
	s.once()
	// A block begins at once, a second version of it as well; the end of one waits.
	evil := s.merge(j, false, func() {
		s.write("registrations/blocks/b.cue", block(1))
		s.write("registrations/blocks/broken.cue", "block: {")
		s.remove("registrations/blocks/a.cue")
		s.write(printer(9), registration(9))
	})
	s.once()
	s.want(evil, 2, 3)
	s.restart()
	s.want(evil, 2, 3)
	head := s.merge(j, false, func() { s.write("registrations/blocks/b.cue", block(2)) })
	for range 2 {
		s.once()
		s.want(head, 3)
	}
	s.restart()
	s.want(head, 3)
	if n := s.r.State().HeldBlocks; n != 2 {
		t.Errorf("%d blocks are held", n)
	}
	head = s.merge(j, false, func() { s.remove("registrations/blocks/b.cue") })
	s.once()
	s.want(head, 1, 2, 3) // it is what is in force again: no block
	if err := s.r.Accept(t.Context(), evil, "fine"); err != nil {
		t.Fatal(err)
	}
	s.want(head, 1, 2, 3, 4, 9)
}

// A mass removal that is vouched for waits for an operator as ever, beside what
// nobody vouches for; receipts need no forge.
func TestHeldAndWithheldAtOnce(t *testing.T) {
	s, j := judged(t, 12)
	evil := s.merge(j, false, func() {
		s.write(printer(1), registration(1, 66))
		s.write("registrations/blocks/b.cue", block(12))
	})
	s.once()
	s.want(evil, seq(1, 11)...)
	s.merge(j, true, func() { s.write(printer(20), registration(20)) })
	head := s.merge(j, true, func() {
		for i := 2; i <= 8; i++ {
			s.remove(printer(i))
		}
		s.write("registrations/blocks/c.cue", block(11))
	})
	for range 2 {
		s.once()
		s.want(evil, seq(1, 10)...)
		s.condition(reconcile.Held, "7 of 12")
	}
	asked := len(j.asked)
	s.restart()
	j.away = true
	s.later(2 * time.Hour)
	s.once()
	s.want(evil, seq(1, 10)...)
	if err := s.r.Accept(t.Context(), head, "the print room is closed"); err != nil {
		t.Fatal(err)
	}
	s.want(head, 1, 9, 10, 20)
	if extra := j.asked[asked:]; slices.ContainsFunc(extra, func(c string) bool { return c != evil }) {
		t.Errorf("asked again: %v", extra)
	}
	if !strings.Contains(s.withheldPaths(), "mfp1.cue") {
		t.Errorf("withheld: %s", s.withheldPaths())
	}
	j.away, j.vouched[evil] = false, true
	s.later(2 * time.Hour)
	s.once()
	s.want(head, 1, 9, 10, 20, 66)
}

// While a commit is held, the policy changes, and with it who is vouched for:
// receipts of before count for nothing. And what the branch takes back is gone.
func TestHeldAndThenNotVouchedFor(t *testing.T) {
	s, j := judged(t, 12)
	good := s.git("rev-parse", "HEAD")
	s.merge(j, false, func() { s.write("registrations/blocks/b.cue", block(12)) })
	head := s.merge(j, true, func() {
		for i := 1; i <= 8; i++ {
			s.remove(printer(i))
		}
	})
	s.once()
	s.want(good, seq(1, 11)...)
	s.condition(reconcile.Held, "8 of 12")
	s.git("reset", "-q", "--hard", good)
	s.once()
	s.want(good, seq(1, 12)...)
	s.git("reset", "-q", "--hard", head)
	s.once()
	s.condition(reconcile.Held, "8 of 12")
	j.policy, j.vouched[head] = "without the one who left", false
	s.once()
	s.condition(reconcile.Following, "")
	s.want(head, seq(1, 11)...)
	if n := s.r.State().WithheldAll; n != 9 {
		t.Errorf("%d paths are withheld", n)
	}
}

// The forge is gone: what is new waits, what was vouched for before does not,
// and nothing has to be done when it is back.
func TestOutage(t *testing.T) {
	s, j := judged(t, 2)
	first := s.merge(j, true, func() { s.write(printer(3), registration(3)) })
	s.source.read = errBoom // judged, and then the disk fails
	if err := s.r.Once(t.Context()); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	s.source.read = nil
	j.away = true
	s.restart()
	s.once()
	s.want(first, 1, 2, 3)
	head := s.merge(j, true, func() { s.write(printer(4), registration(4)) })
	s.once()
	s.want(head, 1, 2, 3)
	if got, want := s.withheldPaths(), fmt.Sprintf("mfp4.cue %.7s the forge does not answer", head); got != want {
		t.Errorf("withheld: %s, want %s", got, want)
	}
	for range 20 {
		s.later(time.Minute)
		s.once()
	}
	if n := len(slices.DeleteFunc(slices.Clone(j.asked), func(c string) bool { return c != head })); n < 4 || n > 8 {
		t.Errorf("asked %d times in 20 minutes", n)
	}
	j.away = false
	s.later(15 * time.Minute)
	s.once()
	s.want(head, 1, 2, 3, 4)
}

// Many commits at once are judged a bounded number a round, and all in the end.
func TestManyCommits(t *testing.T) {
	s, j := judged(t, 1)
	for i := 2; i <= 70; i++ {
		s.write(printer(i), registration(i))
		j.vouched[s.commit()] = true
	}
	head := s.git("rev-parse", "HEAD")
	s.once()
	if len(j.asked) != 50 {
		t.Errorf("%d were judged in one round", len(j.asked))
	}
	s.want(head, seq(1, 51)...)
	s.once()
	s.want(head, seq(1, 70)...)
	if len(j.asked) != 69 {
		t.Errorf("%d were judged", len(j.asked))
	}
}

// What does not touch the register is not judged.
func TestOtherFilesAreNobodysMatter(t *testing.T) {
	s, j := judged(t, 1)
	s.write("README.md", "hello")
	s.write("registrations/README.md", "hello")
	s.write("registrations/lsa-physics/notes.txt", "hello")
	head := s.commit()
	s.once()
	s.want(head, 1)
	if len(j.asked) > 0 || s.withheldPaths() != "" {
		t.Errorf("judged: %v, withheld %s", j.asked, s.withheldPaths())
	}
}

func TestCampusAndSiteRulesAreWithheld(t *testing.T) {
	s, j := judged(t, 1)
	s.write("schema/site.cue", "#Registration: volume: perDay: <=5000\n")
	j.vouched[s.commit()] = true
	s.once()
	s.write("registrations/campus/networks.cue", strings.Replace(networks, "141.211.13.0/24", "141.211.14.0/24", 1))
	s.write("schema/site.cue", "#Registration: volume: perDay: <=10\n")
	s.commit()
	s.write(printer(2), registration(2))
	head := s.commit()
	j.vouched[head] = true
	s.once()
	s.want(head, 1, 2)
	if got := s.withheldPaths(); !strings.Contains(got, "networks.cue") || !strings.Contains(got, "site.cue") {
		t.Errorf("withheld: %s", got)
	}
	s.restart()
	s.write(printer(3), registration(3))
	head = s.commit()
	j.vouched[head] = true
	s.once()
	s.want(head, 1, 2, 3)
}

// A push that makes a branch the head which took the accepted commit in as its
// second parent: whoever is vouched for on that branch, it is none of ours.
func TestABranchThatTakesTheRegisterIn(t *testing.T) {
	s, j := judged(t, 2)
	s.git("checkout", "-q", "-b", "side", "HEAD~0")
	s.write(printer(66), registration(66))
	j.vouched[s.commit()] = true
	s.git("checkout", "-q", "main")
	good := s.merge(j, true, func() { s.write(printer(3), registration(3)) })
	s.once()
	s.want(good, 1, 2, 3)
	s.git("checkout", "-q", "side")
	s.git("merge", "-q", "--no-ff", "-m", "Merge main", "main")
	foxtrot := s.git("rev-parse", "HEAD")
	j.vouched[foxtrot] = true
	s.git("checkout", "-q", "main")
	s.git("reset", "-q", "--hard", "side")
	head := s.merge(j, true, func() { s.write(printer(4), registration(4)) })
	s.once()
	s.want(head, 1, 2, 3, 4)
	if got := s.withheldPaths(); !strings.Contains(got, fmt.Sprintf("mfp66.cue %.7s a push moved", foxtrot)) {
		t.Errorf("withheld: %s", got)
	}
	if slices.Contains(j.asked, foxtrot) {
		t.Error("it was judged")
	}
	if err := s.r.Accept(t.Context(), foxtrot, "it was me"); err != nil {
		t.Fatal(err)
	}
	s.want(head, 1, 2, 3, 4, 66)
}

// A vouched request may not carry under another name what nobody reviewed.
func TestMovingAWithheldFile(t *testing.T) {
	s, j := judged(t, 2)
	evil := s.merge(j, false, func() { s.write(printer(9), registration(66)) })
	head := s.merge(j, true, func() { s.git("mv", printer(9), printer(8)) })
	s.once()
	s.want(head, 1, 2)
	if got := s.withheldPaths(); !strings.Contains(got, fmt.Sprintf("mfp8.cue %.7s it may be a file", evil)) {
		t.Errorf("withheld: %s", got)
	}
}

// Another policy judges anew, with the forge there or not.
func TestPolicyChange(t *testing.T) {
	s, j := judged(t, 2)
	evil := s.merge(j, false, func() { s.write(printer(3), registration(3)) })
	s.once()
	s.want(evil, 1, 2)
	j.vouched[evil] = true // its signer's key is listed now
	s.once()
	s.want(evil, 1, 2)
	j.policy = "another"
	s.once()
	s.want(evil, 1, 2, 3)
	// An operator's word holds under any policy.
	word := s.merge(j, false, func() { s.write(printer(4), registration(4)) })
	top := s.merge(j, false, func() { s.write(printer(4), registration(4, 5)) })
	s.once()
	if err := s.r.Accept(t.Context(), word, "by me"); err != nil {
		t.Fatal(err)
	}
	s.want(top, 1, 2, 3, 4)
	j.policy = "a third"
	s.later(2 * time.Hour)
	s.once()
	s.restart()
	s.once()
	s.want(top, 1, 2, 3, 4)
}

// Judging begins where it is switched on, and where it ends all is in force.
func TestSwitchedOnAndOff(t *testing.T) {
	s := newSite(t)
	s.now = today
	s.begin(2)
	s.write(printer(3), registration(3))
	old := s.commit()
	s.once()
	j := &jury{policy: "p", vouched: map[string]bool{}}
	s.approver = j
	s.restart()
	s.once()
	s.want(old, 1, 2, 3)
	s.write(printer(4), registration(4))
	head := s.commit()
	s.once()
	s.want(head, 1, 2, 3)
	s.approver = nil
	s.restart()
	s.want(head, 1, 2, 3)
	s.once()
	s.want(head, 1, 2, 3, 4)
	if last := s.accepted[len(s.accepted)-1]; last.Commit != head || len(last.Changes) != 1 {
		t.Errorf("announced: %+v", last)
	}
	s.approver = j
	s.write(printer(5), registration(5))
	head = s.commit()
	s.restart()
	s.once()
	s.want(head, 1, 2, 3, 4)
}

// A rewritten history that an operator accepts is taken as it is.
func TestAnAcceptedRewriteIsABeginning(t *testing.T) {
	s, j := judged(t, 2)
	first := s.git("rev-parse", "HEAD")
	s.merge(j, false, func() { s.write(printer(3), registration(3)) })
	s.once()
	s.git("reset", "-q", "--hard", first)
	s.write(printer(7), registration(7))
	head := s.commit()
	s.once()
	s.condition(reconcile.Frozen, "rewritten")
	if err := s.r.Accept(t.Context(), head, "restored"); err != nil {
		t.Fatal(err)
	}
	s.want(head, 1, 2, 7)
	if got := s.withheldPaths(); got != "" {
		t.Errorf("withheld: %s", got)
	}
}
