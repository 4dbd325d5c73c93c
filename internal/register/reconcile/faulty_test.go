package reconcile_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/reconcile"
)

const brokenFile = "department: \"lsa-physics\"\nhosts: [\n"

func TestOneBrokenFileAmongGoodOnes(t *testing.T) {
	s := newSite(t)
	first := s.begin(3)
	s.write(printer(2), brokenFile)
	s.write(printer(4), registration(4))
	s.write(printer(5), brokenFile) // never was good
	s.remove(printer(3))
	head := s.commit()
	s.once()
	s.want(head, 1, 2, 4)
	if got := s.rules(); got != "mfp2.cue syntax, mfp5.cue syntax" {
		t.Errorf("problems: %s", got)
	}
	state := s.r.State()
	if want := []reconcile.Substitution{{Path: printer(2), From: first}}; !slices.Equal(state.Substituted, want) || state.Dropped != 1 {
		t.Errorf("substituted: %+v, dropped %d", state.Substituted, state.Dropped)
	}

	s.restart() // the last good version outlives the program
	s.want(head, 1, 2, 4)
	if got := s.r.State(); !slices.Equal(got.Substituted, state.Substituted) || len(got.Problems) != len(state.Problems) {
		t.Errorf("after a restart: %+v", got)
	}
	s.write(printer(2), brokenFile+"\n") // still broken, in another way
	s.write(printer(6), registration(6))
	head = s.commit()
	s.once()
	s.want(head, 1, 2, 4, 6)

	s.write(printer(2), registration(22)) // mended: what it says now holds
	head = s.commit()
	s.once()
	s.want(head, 1, 4, 6, 22)
	if got := s.r.State().Substituted; len(got) != 0 {
		t.Errorf("substituted: %+v", got)
	}
	s.remove(printer(2)) // gone means gone
	head = s.commit()
	s.once()
	s.want(head, 1, 4, 6)
	s.write(printer(2), brokenFile)
	head = s.commit()
	s.once()
	s.want(head, 1, 4, 6)
}

func TestRevokedAddressStaysRevoked(t *testing.T) {
	s := newSite(t)
	s.write(printer(1), registration(1, 2, 3))
	s.commit()
	s.once()
	s.write(printer(1), registration(1, 3))
	head := s.commit()
	s.once()
	s.want(head, 1, 3)
	s.write(printer(1), brokenFile)
	head = s.commit()
	s.once()
	s.want(head, 1, 3)
	s.restart()
	s.want(head, 1, 3)
}

func TestIncumbentKeepsAnAddressClaimedTwice(t *testing.T) {
	s := newSite(t)
	s.write("registrations/lsa-physics/z.cue", registration(1))
	s.write("registrations/lsa-physics/b.cue", registration(2))
	s.commit()
	s.once()
	s.write("registrations/lsa-physics/a.cue", registration(1, 5)) // sorts first, and comes second
	s.write("registrations/lsa-physics/b.cue", registration(1, 6)) // was good with another address
	head := s.commit()
	s.once()
	s.want(head, 1, 2)
	if got := s.rules(); got != "a.cue ip-duplicate, b.cue ip-duplicate" {
		t.Errorf("problems: %s", got)
	}
	if e, _ := s.live.Load().Find(address(1)); e.Registration.Path != "registrations/lsa-physics/z.cue" {
		t.Errorf("the address went to %s", e.Registration.Path)
	}
	s.restart()
	s.want(head, 1, 2)
	s.once()
	s.want(head, 1, 2)
	s.remove("registrations/lsa-physics/z.cue")
	s.write("registrations/lsa-physics/b.cue", registration(2))
	head = s.commit()
	s.once()
	s.want(head, 1, 2, 5)
}

func TestMovedFileWithAnError(t *testing.T) {
	// An address moves from a file to another while the first one is broken:
	// the last good version holds the address until the file is mended.
	s := newSite(t)
	s.begin(1)
	s.write(printer(1), brokenFile)
	s.write(printer(2), registration(1))
	head := s.commit()
	s.once()
	s.want(head, 1)
	if got := s.rules(); got != "mfp1.cue syntax, mfp2.cue ip-duplicate" {
		t.Errorf("problems: %s", got)
	}
	s.remove(printer(1))
	head = s.commit()
	s.once()
	s.want(head, 1)
	if got := s.rules(); got != "" {
		t.Errorf("problems: %s", got)
	}
}

func TestBrokenCampusFile(t *testing.T) {
	for name, content := range map[string]string{
		"syntax": "campus: [",
		"one network outside": strings.Replace(networks, "networks: {",
			"networks: {\n\t\"8.8.8.0/24\": {department: \"lsa-physics\", use: \"static\"}", 1),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			first := s.begin(6)
			s.write("registrations/campus/networks.cue", content)
			s.write(printer(7), registration(7))
			s.remove(printer(1))
			head := s.commit()
			s.once()
			s.want(head, seq(2, 7)...)
			if got := s.rules(); !strings.HasPrefix(got, "networks.cue ") || strings.Contains(got, "mfp") {
				t.Errorf("problems: %s", got)
			}
			if got := s.r.State().Substituted; len(got) != 1 || got[0].From != first {
				t.Errorf("substituted: %+v", got)
			}
			s.restart()
			s.want(head, seq(2, 7)...)
		})
	}
}

// A campus file with one bad line goes on to count, but for that line, when its
// next version cannot be read at all.
func TestGoodLinesOfACampusFileStandIn(t *testing.T) {
	s := newSite(t)
	s.write("registrations/campus/departments.cue", "departments: {\n"+strings.TrimPrefix(departments, "departments: ")+strings.Replace(strings.TrimPrefix(departments, "departments: "), "lsa-physics", "zoo", 1)+"}\n")
	s.write("registrations/campus/networks.cue", strings.Replace(networks, "networks: {", "networks: {\n\t\"141.211.99.0/24\": {department: \"zoo\", use: \"static\"}", 1))
	s.begin(6)
	s.write("registrations/campus/departments.cue", departments) // the zoo closes; its network is left over
	head := s.commit()
	s.once()
	s.want(head, seq(1, 6)...)
	s.write("registrations/campus/networks.cue", "campus: [")
	s.write(printer(7), registration(7))
	head = s.commit()
	s.once()
	s.want(head, seq(1, 7)...)
	s.restart()
	s.want(head, seq(1, 7)...)
}

// What lost its ground with the campus files is not in force, and its old version
// does not come back for a faulty one when the ground does.
func TestWhatIsLeftOutWithoutAWordIsNotGood(t *testing.T) {
	s := newSite(t)
	s.begin(3)
	s.remove("registrations/campus/networks.cue")
	head := s.commit()
	s.once()
	if err := s.r.Accept(t.Context(), head, "the campus moves"); err != nil {
		t.Fatal(err)
	}
	s.want(head)
	s.write("registrations/campus/networks.cue", "campus: [")
	head = s.commit()
	s.once()
	s.want(head)
	s.write(printer(2), brokenFile)
	s.write("registrations/campus/networks.cue", networks)
	head = s.commit()
	s.once()
	s.want(head, 1, 3)
}

func TestCampusChangeRevokes(t *testing.T) {
	// A file that did not change can lose its ground. That is a removal, not a
	// fault that an older version could mend.
	s := newSite(t)
	s.begin(2)
	s.write("registrations/campus/networks.cue", strings.Replace(networks, `"static"`, `"dhcp"`, 1))
	head := s.commit()
	s.once()
	s.want(head)
	if got := s.rules(); got != "mfp1.cue ip-pool, mfp2.cue ip-pool" {
		t.Errorf("problems: %s", got)
	}
	s.restart()
	s.want(head)
}

func TestSiteRules(t *testing.T) {
	s := newSite(t)
	s.begin(2)
	s.write("schema/site.cue", "#Registration: purpose: =~\"^Scan\"\n")
	head := s.commit()
	s.once()
	s.want(head, 1, 2)
	s.write(printer(3), strings.Replace(registration(3), "Scan-to", "Print-to", 1))
	head = s.commit()
	s.once()
	s.want(head, 1, 2)
	s.write("schema/site.cue", "#Registration: {") // broken: the last good rules hold
	s.write(printer(4), registration(4))
	head = s.commit()
	s.once()
	s.want(head, 1, 2, 4)
	if got := s.rules(); !strings.Contains(got, "site.cue schema") {
		t.Errorf("problems: %s", got)
	}
	s.restart()
	s.want(head, 1, 2, 4)
	s.remove("schema/site.cue")
	head = s.commit()
	s.once()
	s.want(head, 1, 2, 3, 4)
}

// TestSiteRulesGoBesideAnOddName: a name that must be seen beside all others has
// the whole commit listed; that the site rules are gone is seen there as well.
func TestSiteRulesGoBesideAnOddName(t *testing.T) {
	s := newSite(t)
	s.write("schema/site.cue", "#Registration: purpose: =~\"^Scan\"\n")
	s.begin(2)
	s.write(printer(3), strings.Replace(registration(3), "Scan-to", "Print-to", 1))
	head := s.commit()
	s.once()
	s.want(head, 1, 2)
	s.remove("schema/site.cue")
	s.write("registrations/its/Odd.cue", "")
	head = s.commit()
	s.once()
	s.want(head, 1, 2, 3)
}

// TestFaultyFilesAreLoggedOnce: the operator's log names a file when it becomes
// faulty, and not with every commit that leaves it so.
func TestFaultyFilesAreLoggedOnce(t *testing.T) {
	s := newSite(t)
	var log bytes.Buffer
	o := s.options()
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	var err error
	if s.r, err = reconcile.New(o); err != nil {
		t.Fatal(err)
	}
	s.begin(3)
	s.write(printer(2), brokenFile)
	s.commit()
	s.once()
	s.write(printer(4), registration(4))
	s.commit()
	s.once()
	if n := strings.Count(log.String(), "event=register.faulty"); n != 1 || !strings.Contains(log.String(), "file="+printer(2)+" rule=syntax") {
		t.Errorf("logged %d times:\n%s", n, &log)
	}
}
