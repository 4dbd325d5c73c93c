package cli_test

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"example.edu/gatepost/internal/register/forge/forgetest"
)

// hubKey is where a script's forge is kept between its commands.
type hubKey struct{}

// fakeForge starts a stand-in for GitHub whose repository is that of a folder:
// fakeforge DIR. octocat (583231) and hubot (480938) have accounts; $FORGE is
// where it is, and $OCTOCAT and $HUBOT are their tokens.
func fakeForge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fakeforge DIR")
	}
	hub := forgetest.New("umich/register", time.Now)
	ts.Check(hub.Import(ts.MkAbs(args[0]), "main"))
	hub.AddUser(583231, "octocat", "token-of-octocat")
	hub.AddUser(480938, "hubot", "token-of-hubot")
	server := httptest.NewServer(hub)
	ts.Defer(server.Close)
	ts.Setenv("FORGE", server.URL)
	ts.Setenv("OCTOCAT", "token-of-octocat")
	ts.Setenv("HUBOT", "token-of-hubot")
	hub.AddActions("token-of-the-workflow")
	ts.Setenv("WORKFLOW", "token-of-the-workflow")
	ts.Value(hubKey{}).(*hubs).hub = hub
}

// hubs holds the forge of one script.
type hubs struct{ hub *forgetest.Hub }

// settings has the script's forge have the settings of a file of JSON.
func settings(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: settings FILE")
	}
	var in struct {
		Rules, Bypass []map[string]any // Bypass: null is a list that nobody is shown
		Teams         map[string]int64
		Settings      forgetest.Settings
		Refuse        []string // parts of paths that are hidden from this token
		Broken        []string // … at which the forge fails
	}
	strict(ts, args[0], &in)
	hub := ts.Value(hubKey{}).(*hubs).hub
	hub.SetRules(in.Rules, in.Bypass)
	for slug, id := range in.Teams {
		hub.AddTeam(id, slug)
	}
	hub.SetSettings(in.Settings)
	for _, path := range in.Broken {
		hub.Fail(forgetest.Failure{Method: "GET", Path: path, Status: 500, Times: -1})
	}
	for _, path := range in.Refuse {
		hub.Fail(forgetest.Failure{Method: "GET", Path: path, Status: 403, Times: -1})
	}
}

// requests writes what the forge has been asked for to a file, and the content
// of the files named after it: requests OUT PATH...
func requests(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: requests OUT PATH...")
	}
	hub := ts.Value(hubKey{}).(*hubs).hub
	var b strings.Builder
	for n := 1; n <= hub.Pulls(); n++ {
		p := hub.Pull(n)
		fmt.Fprintf(&b, "#%d %s by %s into %s: %s\n", p.Number, p.State, p.OpenedBy, p.Base, p.Title)
		for _, path := range slices.Sorted(maps.Keys(set(args[1:]))) {
			text, ok := hub.Content(p.Head, path)
			if ok {
				fmt.Fprintf(&b, "%s: %d bytes\n", path, len(text))
			} else {
				fmt.Fprintf(&b, "%s: none\n", path)
			}
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o666))
}

// fork opens a request out of somebody's fork: fork LOGIN PATH FILE... Its head
// is $REQUEST.
func fork(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args)%2 == 0 {
		ts.Fatalf("usage: fork LOGIN PATH FILE...")
	}
	hub := ts.Value(hubKey{}).(*hubs).hub
	id := map[string]int64{"octocat": 583231, "hubot": 480938}[args[0]]
	var changes []forgetest.Change
	for i := 1; i < len(args); i += 2 {
		changes = append(changes, forgetest.Change{Path: args[i], Content: ts.ReadFile(args[i+1])})
	}
	n := hub.Fork(forgetest.User{ID: id, Login: args[0], Type: "User"}, "mine", "A request", changes...)
	ts.Setenv("REQUEST", hub.Pull(n).Head)
}

// reports writes what was reported to a file: the checks, and the comments of
// all requests.
func reports(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: reports OUT")
	}
	hub := ts.Value(hubKey{}).(*hubs).hub
	var b strings.Builder
	for _, r := range hub.Runs() {
		fmt.Fprintf(&b, "check %s on %s: %s %s: %s (%d annotations)\n", r.Name, r.Head, r.Status, r.Conclusion, r.Title, len(r.Annotations))
	}
	for n := 1; n <= hub.Pulls(); n++ {
		for _, c := range hub.Comments(n) {
			fmt.Fprintf(&b, "#%d %s: %s\n", n, c.By, c.Body)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o666))
}

func set(words []string) map[string]bool {
	m := map[string]bool{}
	for _, w := range words {
		m[w] = true
	}
	return m
}
