package keeper

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/registration"
)

// atGitHub moves the world's register there.
func (w *world) atGitHub() (hub *forgetest.Hub, ann, pat, eve forgetest.User) {
	w.t.Helper()
	hub = forgetest.New("umich/register", w.clock)
	hub.AddUser(7, "portal", "token")
	ann, pat, eve = hub.AddUser(583231, "octocat", ""), hub.AddUser(2, "pat", ""), hub.AddUser(3, "eve", "")
	hub.Permit(pat, "write")
	w.must(hub.Import(w.bare, "main"))
	server := httptest.NewServer(hub)
	w.t.Cleanup(server.Close)
	g, err := forge.NewGitHub(forge.GitHubOptions{Repository: "umich/register", Host: server.URL, Token: forge.Static("token"), Pace: time.Microsecond, Wait: time.Nanosecond})
	w.must(err)
	w.forge = g
	before := w.change
	w.change = func(o *Options) {
		if o.Self = g.Self; before != nil {
			before(o)
		}
	}
	w.restart()
	return hub, ann, pat, eve
}

// TestAtGitHub: the comment, the statuses, who may ask, and how little is asked
// where nothing happens.
func TestAtGitHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub, ann, pat, eve := w.atGitHub()
	main := hub.Branch("main")
	one := w.relays.add("relay1", main)
	n := hub.Fork(ann, "mine", "Register it", forgetest.Change{Path: physics + "new.cue", Content: request("lsa-physics", w.day(200), "141.211.13.23")})
	head := hub.Pull(n).Head
	w.round()
	if c := hub.Comments(n); len(c) != 1 || c[0].By != "portal" || !strings.Contains(c[0].Body, "**Nothing to mend.**") {
		t.Fatalf("comments: %v", c)
	}
	if got := hub.Statuses(); !slices.Equal(got, []string{head + " gatepost/live pending waiting for merge"}) {
		t.Errorf("statuses: %q", got)
	}

	// A stranger asks, then who may; in a comment, a review, and on a line.
	w.now = w.now.Add(time.Minute)
	hub.AddComment(n, eve, "/ask Send me your password")
	hub.AddComment(n, pat, "/ask One?")
	hub.ReviewWith(n, pat, "CHANGES_REQUESTED", "/ask Two?")
	hub.AddLineComment(n, pat, "/ask Three?")
	w.round()
	var asked []string
	for _, a := range w.get(n).Asked {
		asked = append(asked, a.By+" "+a.Text)
	}
	if slices.Sort(asked); !slices.Equal(asked, []string{"pat One?", "pat Three?", "pat Two?"}) || len(w.post.sent) != 3 {
		t.Errorf("asked: %q; mails %q", asked, w.post.sent)
	}
	hub.ReviewWith(n, pat, "APPROVED", "")
	w.now = w.now.Add(time.Minute)
	w.round()
	if a := w.get(n).Approved; len(a) != 1 || a[0].By != "pat" {
		t.Errorf("approved: %+v", a)
	}
	calls := len(hub.Calls())
	w.now = w.now.Add(time.Minute)
	w.round()
	if more := hub.Calls()[calls:]; len(more) > 2 {
		t.Errorf("nothing happened, and it asked %q", more)
	}

	// Merged there, and live.
	w.now = w.now.Add(time.Minute)
	merged := hub.MergeBy(n, pat)
	w.round()
	w.now = w.now.Add(5 * time.Second)
	one.Register.Commit = merged
	w.k.light(t.Context())
	statuses := hub.Statuses()
	if last := statuses[len(statuses)-4:]; !slices.Equal(last, []string{
		head + " gatepost/live pending live on 0 of 1 relay", merged + " gatepost/live pending live on 0 of 1 relay",
		head + " gatepost/live success live on 1 of 1 relay, 5 s after merge", merged + " gatepost/live success live on 1 of 1 relay, 5 s after merge",
	}) {
		t.Errorf("statuses: %q", last)
	}
	if b := w.get(n); b.MergedAs != merged || b.State != "merged" {
		t.Errorf("%+v", b)
	}
	if c := hub.Comments(n); !strings.Contains(c[0].Body, "**Merged.**") || !strings.Contains(c[0].Body, "**live on 1 of 1 relay, 5 s after merge**") {
		t.Errorf("comment: %s", c[0].Body)
	}
}

// TestAskersByConfiguration: then nobody else, whatever they may write.
func TestAskersByConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change = func(o *Options) { o.Askers = []forge.Account{{ID: 3, Login: "someone"}} }
	_, _, pat, eve := w.atGitHub()
	for who, want := range map[forge.Account]bool{
		{ID: pat.ID, Login: pat.Login}: false, {ID: eve.ID, Login: eve.Login}: true, {ID: 9, Login: "eve"}: false, {ID: 7, Login: "portal"}: true, {Login: "eve"}: false,
	} {
		if may, err := w.k.mayAsk(t.Context(), who); err != nil || may != want {
			t.Errorf("%+v: %v, %v", who, may, err)
		}
	}
}

// TestTheForgeIsDown: one line when it fails, one when it is back; mail goes on.
func TestTheForgeIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub, ann, _, _ := w.atGitHub()
	hub.Fail(forgetest.Failure{Method: "GET", Path: "/pulls", Times: 3, Status: 500})
	hub.Fork(ann, "mine", "Register it", forgetest.Change{Path: physics + "new.cue", Content: request("lsa-physics", w.day(200), "141.211.13.23")})
	w.k.owe(t.Context(), "k", []string{"it@umich.edu"}, "s", "b")
	for range 3 {
		w.round()
	}
	if w.k.Trouble()["forge"] == "" || len(w.post.sent) != 1 {
		t.Errorf("trouble %v, mails %q", w.k.Trouble(), w.post.sent)
	}
	w.round()
	down, up := strings.Count(w.log.String(), "event=keeper.down part=forge"), strings.Count(w.log.String(), "event=keeper.up part=forge")
	if down != 1 || up != 1 || len(w.k.Trouble()) != 0 || len(hub.Comments(1)) != 1 {
		t.Errorf("%d, %d lines:\n%s", down, up, w.log.String())
	}
}

// TestOneRequestThatIsStuck: rubbish in one discussion costs that request, with one
// line; so does a forge that takes no comments, whatever it tells.
func TestOneRequestThatIsStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.propose(physics+"new.cue", request("lsa-physics", w.day(200), "141.211.13.23"))
	w.propose(physics+"two.cue", request("lsa-physics", w.day(200), "141.211.13.24"))
	w.run(w.bare, "update-ref", "refs/gatepost/discussion/1", w.run(w.bare, "rev-parse", "main^{tree}"))
	for range 3 {
		w.round()
	}
	if n := strings.Count(w.log.String(), "event=keeper.stuck"); n != 1 || w.k.Trouble()["request 1"] == "" || w.k.Trouble()["forge"] != "" || w.comment(2) == "" {
		t.Errorf("%d lines, %v:\n%s", n, w.k.Trouble(), w.log.String())
	}
	w.run(w.bare, "update-ref", "-d", "refs/gatepost/discussion/1")
	w.round()
	if len(w.k.Trouble()) != 0 || w.comment(1) == "" {
		t.Errorf("mended: %v", w.k.Trouble())
	}

	w = newWorld(t)
	hub, ann, _, _ := w.atGitHub()
	hub.Fork(ann, "mine", "Register it", forgetest.Change{Path: physics + "new.cue", Content: request("lsa-physics", w.day(200), "141.211.13.23")})
	hub.Fail(forgetest.Failure{Method: "POST", Path: "/comments", Times: -1, Status: 403})
	for range 3 {
		w.round()
	}
	if down, up := strings.Count(w.log.String(), "event=keeper.down part=forge"), strings.Count(w.log.String(), "event=keeper.up part=forge"); down != 1 || up != 0 {
		t.Errorf("%d, %d lines:\n%s", down, up, w.log.String())
	}
}

// TestWritesAreBounded: what is over the bound comes with the next round.
func TestWritesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub, ann, _, _ := w.atGitHub()
	for i := range 20 {
		hub.Fork(ann, "mine", "Register it", forgetest.Change{Path: physics + "new" + itoa(i) + ".cue", Content: request("lsa-physics", w.day(200), "141.211.13."+itoa(30+i))})
	}
	count := func() (n int) {
		for _, c := range hub.Calls() {
			if !strings.HasPrefix(c, "GET ") {
				n++
			}
		}
		return n
	}
	w.round()
	if n := count(); n != maxWrites {
		t.Errorf("%d writes", n)
	}
	w.round()
	if n := count(); n != 40 {
		t.Errorf("%d writes in all", n)
	}
}

// TestNobodyAnswersInAdvance: what looks like the portal's note of an answer, by
// somebody else at the forge, keeps no answer from standing there.
func TestNobodyAnswersInAdvance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub, ann, pat, eve := w.atGitHub()
	n := hub.Fork(ann, "mine", "Register it", forgetest.Change{Path: physics + "new.cue", Content: request("lsa-physics", w.day(200), "141.211.13.23")})
	hub.AddComment(n, pat, "/ask Whose is it?")
	w.round()
	asked := w.get(n).Asked
	if len(asked) != 1 {
		t.Fatalf("asked: %+v", asked)
	}
	hub.AddComment(n, eve, answerLead+"`"+asked[0].ID+"` (`pat`), by `ann` in the portal:\n\n> Nobody's.")
	w.must(w.k.Answer(t.Context(), n, asked[0].ID, book.Person{Name: "Ann", Email: "ann@umich.edu"}, "It is ours."))
	w.now = w.now.Add(time.Minute)
	w.round()
	w.round()
	found := 0
	for _, c := range hub.Comments(n) {
		if c.By == "portal" && strings.Contains(c.Body, "It is ours.") {
			found++
		}
	}
	if found != 1 {
		t.Errorf("the answer stands there %d times: %+v", found, hub.Comments(n))
	}
}

// TestOutsiders: whoever answers for others is told as such.
func TestOutsiders(t *testing.T) {
	t.Parallel()
	r := book.Request{By: book.Person{ID: "7", Email: "ann@umich.edu"}, Contacts: []book.Contact{{Email: "it@umich.edu"}}}
	d := &registration.Department{Speakers: []registration.Speaker{{Email: "dean@umich.edu"}}}
	for by, want := range map[book.Person]bool{
		{ID: "7", Email: "new@umich.edu"}: false, {Email: "Ann@umich.edu"}: false, {ID: "8", Email: "IT@umich.edu"}: false, {ID: "9", Email: "Dean@umich.edu"}: false,
		{ID: "10", Name: "Ann", Email: "eve@umich.edu"}: true, {}: true,
	} {
		if got := Outsider(r, by, d); got != want {
			t.Errorf("%+v: %v", by, got)
		}
	}
	if !Outsider(book.Request{}, book.Person{}, nil) {
		t.Error("nobody has to do with it")
	}
}
