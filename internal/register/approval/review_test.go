package approval

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/gitsync"
)

const (
	ann  = "registrations/lsa-physics/ann.cue"
	bob  = "registrations/lsa-physics/bob.cue"
	nets = "registrations/campus/networks.cue"
)

// A scene is a register in git, a forge that knows it, and the people.
type scene struct {
	*repo
	hub                           *forgetest.Hub
	reviews                       *Reviews
	now                           time.Time
	postmaster, second, dept, eve forgetest.User
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{repo: newRepo(t), now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	s.hub = forgetest.New("umich/register", time.Now)
	s.hub.AddUser(1, "relay", "token")
	s.postmaster, s.second = s.hub.AddUser(2, "postmaster", ""), s.hub.AddUser(3, "second", "")
	s.dept, s.eve = s.hub.AddUser(10, "dept", ""), s.hub.AddUser(11, "eve", "")
	s.hub.AddTeam(42, "postmasters", s.postmaster, s.second)
	s.commit(nil, ann, "ann\n", bob, "bob\n", nets, "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "README.md", "hello\n")
	s.show("main")
	server := httptest.NewServer(s.hub)
	t.Cleanup(server.Close)
	s.reviews = s.by(t, server.URL, "postmasters", "main")
	return s
}

func (s *scene) by(t *testing.T, url, team, branch string) *Reviews {
	t.Helper()
	client, err := forge.NewGitHub(forge.GitHubOptions{Repository: "umich/register", Host: url, Token: forge.Static("token"), Wait: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReviews(ReviewOptions{
		Repository: url, Branch: branch, Team: team, Requests: client, Approvers: client, Contents: s, Files: s,
		Now: func() time.Time { return s.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// show makes the forge see a branch as it is.
func (s *scene) show(branch string) {
	s.t.Helper()
	if err := s.hub.Import(s.dir, branch); err != nil {
		s.t.Fatal(err)
	}
}

// request opens a request of dept's with these files, and leaves main checked
// out.
func (s *scene) request(branch string, files ...string) int {
	s.t.Helper()
	s.git("checkout", "-q", "-b", branch, "main")
	s.commit(nil, files...)
	s.git("checkout", "-q", "main")
	s.show(branch)
	return s.hub.OpenPull(s.dept, branch, "Please")
}

// merged is the merge of a branch on main, after f has had its way with it, and
// the forge takes a request for merged by it.
func (s *scene) merged(number int, branch string, f func()) gitsync.Hash {
	s.t.Helper()
	base := s.head()
	s.git("merge", "-q", "--no-ff", "--no-commit", branch)
	if f != nil {
		f()
		s.git("add", "-A")
	}
	s.git("commit", "-q", "-m", "Merge pull request")
	return s.landed(number, base)
}

// landed says that a request was merged as the commit that main stands at.
func (s *scene) landed(number int, base gitsync.Hash) gitsync.Hash {
	s.t.Helper()
	s.show("main")
	s.hub.MergedWith(number, s.head().String(), base.String())
	return s.head()
}

func (s *scene) want(commit gitsync.Hash, standing Standing, why string) {
	s.t.Helper()
	judged(s.t, s.repo, nil, s.reviews, commit).want(s.t, s.t.Name(), standing, why)
}

// squashed is a squash of a branch on main.
func (s *scene) squashed(number int, branch string) gitsync.Hash {
	s.t.Helper()
	base := s.head()
	s.git("merge", "-q", "--squash", branch)
	s.git("commit", "-q", "-m", "Squashed (#1)")
	return s.landed(number, base)
}

func TestReviews(t *testing.T) {
	t.Parallel()
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			commit, standing, why := attack(s)
			s.want(commit, standing, why)
		})
	}
}

// A team is one of the organisation that owns the repository, by its members'
// numbers.
func TestWhoIsInTheTeam(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	n := s.request("r", ann, "ann 2\n")
	s.hub.Review(n, s.postmaster, "APPROVED")
	commit := s.merged(n, "r", nil)
	server := httptest.NewServer(s.hub)
	defer server.Close()
	s.reviews = s.by(t, server.URL, "nobodies", "main")
	s.want(commit, Unknown, "reading team nobodies")
	// Somebody took the login of one who left.
	s.hub.AddTeam(42, "postmasters", forgetest.User{ID: 99, Login: "postmaster", Type: "User"})
	s.reviews = s.by(t, server.URL, "postmasters", "main")
	s.want(commit, Refused, "not in team")
	s.hub.AddTeam(42, "postmasters", s.postmaster)
	s.want(commit, Refused, "not in team") // remembered for a while
	s.now = s.now.Add(teamFor)
	s.want(commit, Vouched, "")
}

// The forge does not answer, or not in full: nobody is refused, nobody is vouched
// for, it is left alone for a while, and then all is well.
func TestForgeTrouble(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail forgetest.Failure
		rest time.Duration // that it is left alone
	}{
		"down":            {forgetest.Failure{Path: "/commits/", Status: 502}, downFor},
		"no permission":   {forgetest.Failure{Path: "/members", Status: 403}, downFor},
		"limited":         {forgetest.Failure{Path: "/reviews", Status: 429}, limitedFor},
		"no such thing":   {forgetest.Failure{Path: "/pulls/1", Status: 404}, 0},
		"half an answer":  {forgetest.Failure{Path: "/pulls/1", Status: 200, Body: `{"number": 1`}, 0},
		"not what it was": {forgetest.Failure{Path: "/pulls/1/commits", Status: 200, Body: `[]`}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			n := s.request("r", ann, "ann 2\n")
			s.hub.Review(n, s.postmaster, "APPROVED")
			commit := s.merged(n, "r", nil)
			other := s.commit(nil, bob, "evil\n")
			s.show("main")
			c.fail.Method, c.fail.Times = "GET", 1
			s.hub.Fail(c.fail)
			s.want(commit, Unknown, "")
			if c.rest > 0 {
				calls := len(s.hub.Calls())
				s.now = s.now.Add(c.rest - time.Second)
				s.want(other, Unknown, "")
				if n := len(s.hub.Calls()) - calls; n > 0 {
					t.Errorf("asked %d times meanwhile", n)
				}
				s.now = s.now.Add(time.Second)
			}
			s.want(commit, Vouched, "postmaster")
			s.want(other, Refused, "no pull request")
			calls := len(s.hub.Calls())
			s.want(commit, Vouched, "postmaster")
			if n := len(s.hub.Calls()) - calls; n > 0 {
				t.Errorf("asked %d times for what is known", n)
			}
		})
	}
}

// elsewhere tells of a request of another repository, under a number that is
// another request's here.
type elsewhere struct{ Requests }

func (e elsewhere) ForCommit(ctx context.Context, commit string) ([]forge.Request, error) {
	return []forge.Request{{Number: 1, State: forge.Merged, MergedAs: commit, Base: "main"}}, nil
}

func TestARequestOfAnotherRepository(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	n := s.request("r", ann, "ann 2\n")
	s.hub.Review(n, s.postmaster, "APPROVED")
	s.merged(n, "r", nil)
	evil := s.commit(nil, bob, "evil\n")
	s.show("main")
	s.reviews.o.Requests = elsewhere{s.reviews.o.Requests}
	s.want(evil, Refused, "none of this repository")
}

// With keys and reviews both must hold, and the forge is not asked about what
// is not signed.
func TestKeysAndReviews(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	key := newSSHKey(t, "ed25519")
	k := keyring(t, "pm "+key.public)
	sign := func() { s.git(append(key.signing(), "commit", "-q", "--amend", "--no-edit")...) }
	n := s.request("r", ann, "ann 2\n")
	s.hub.Review(n, s.postmaster, "APPROVED")
	unsigned := s.merged(n, "r", nil)
	calls := len(s.hub.Calls())
	judged(t, s.repo, k, s.reviews, unsigned).want(t, "approved, not signed", Refused, "not signed")
	if len(s.hub.Calls()) > calls {
		t.Error("the forge was asked")
	}
	sign()
	s.show("main")
	judged(t, s.repo, k, s.reviews, s.head()).want(t, "signed, not the merge", Refused, "no pull request")
	s.hub.MergedWith(n, s.head().String(), s.hash("HEAD^1").String())
	s.now = s.now.Add(time.Hour)
	judged(t, s.repo, k, s.reviews, s.head()).want(t, "both", Vouched, "signed by pm; pull request 1")
	j, err := NewJudge(s, k, s.reviews)
	if err != nil {
		t.Fatal(err)
	}
	if p := j.Policy(); !strings.Contains(p, "keys ") || !strings.Contains(p, "team postmasters") || !strings.HasSuffix(p, "branch main") {
		t.Error(p)
	}
	if !slices.Contains([]string{"unknown"}, Unknown.String()) || Vouched.String() != "vouched" {
		t.Error("the words of standings")
	}
}
