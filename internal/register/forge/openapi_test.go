package forge_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
	"example.edu/gatepost/internal/register/registration"
)

// spoken is the part of GitHub's API that is spoken here. Prism takes half a
// minute to read the whole.
var spoken = []string{
	"/app", "/app/installations/{installation_id}/access_tokens", "/user", "/users/{username}",
	"/orgs/{org}/teams/{team_slug}", "/orgs/{org}/teams/{team_slug}/members",
	"/repos/{owner}/{repo}/git/ref/{ref}", "/repos/{owner}/{repo}/git/refs", "/repos/{owner}/{repo}/git/commits",
	"/repos/{owner}/{repo}/git/commits/{commit_sha}", "/repos/{owner}/{repo}/git/trees", "/repos/{owner}/{repo}/git/trees/{tree_sha}",
	"/repos/{owner}/{repo}/git/blobs", "/repos/{owner}/{repo}/git/blobs/{file_sha}",
	"/repos/{owner}/{repo}/pulls", "/repos/{owner}/{repo}/pulls/{pull_number}", "/repos/{owner}/{repo}/pulls/{pull_number}/files",
	"/repos/{owner}/{repo}/pulls/{pull_number}/commits", "/repos/{owner}/{repo}/pulls/{pull_number}/comments",
	"/repos/{owner}/{repo}/collaborators/{username}/permission",
	"/repos/{owner}/{repo}/pulls/{pull_number}/reviews", "/repos/{owner}/{repo}/commits/{commit_sha}/pulls",
	"/repos/{owner}/{repo}/compare/{basehead}", "/repos/{owner}/{repo}/git/matching-refs/{ref}",
	"/repos/{owner}/{repo}/issues/{issue_number}/events", "/repos/{owner}/{repo}/issues/{issue_number}/comments", "/repos/{owner}/{repo}/issues/comments/{comment_id}",
	"/repos/{owner}/{repo}/statuses/{sha}", "/repos/{owner}/{repo}/check-runs", "/repos/{owner}/{repo}/check-runs/{check_run_id}",
	"/repos/{owner}/{repo}/codeowners/errors", "/repos/{owner}/{repo}/rules/branches/{branch}",
	"/repos/{owner}/{repo}/rulesets/{ruleset_id}", "/repos/{owner}/{repo}/branches/{branch}/protection",
	"/repos/{owner}/{repo}", "/repos/{owner}/{repo}/branches/{branch}", "/repos/{owner}/{repo}/rulesets", "/user/{account_id}",
	"/repos/{owner}/{repo}/actions/permissions", "/repos/{owner}/{repo}/actions/permissions/workflow",
	"/repos/{owner}/{repo}/actions/permissions/fork-pr-contributor-approval", "/repos/{owner}/{repo}/actions/permissions/fork-pr-workflows-private-repos",
	"/repos/{owner}/{repo}/actions/variables", "/repos/{owner}/{repo}/actions/organization-variables",
	"/orgs/{org}/teams", "/orgs/{org}/teams/{team_slug}/repos/{owner}/{repo}",
}

// TestAgainstGitHubsDescription plays a whole flow with the stand-in behind
// Prism, which holds each call and each answer to GitHub's own description of
// its API: neither the client nor the stand-in may lie.
func TestAgainstGitHubsDescription(t *testing.T) {
	t.Parallel()
	hub, server := newHub(t)
	lies := &witness{base: prism(t, server.URL)}
	at := func(o *forge.GitHubOptions) { o.Transport = lies }

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	hub.AddApp(7, 77, "gatepost", &key.PublicKey)
	postmaster := hub.AddUser(2, "postmaster", "")
	hub.AddTeam(42, "postmasters", postmaster)
	hub.SetOwnersErrors(map[string]any{"line": 3, "column": 1, "kind": "Unknown owner", "source": "x", "message": "Unknown owner on line 3", "path": "CODEOWNERS", "suggestion": nil})
	hub.SetRules(rulesInForce(), []map[string]any{{"actor_id": 5, "actor_type": "Team", "bypass_mode": "always"}})

	app, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key),
	}), Host: server.URL, Transport: lies})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	reader, err := forge.NewApp(forge.AppOptions{ID: 7, Installation: 77, Key: pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key),
	}), Host: server.URL, Transport: lies, Reads: repository, Reviews: true})
	must("an App that reads", err)
	_, err = reader.Token(ctx)
	must("a token to read with", err)
	who, err := app.Account(ctx)
	must("the App's account", err)
	person := client(t, server.URL, at)
	bot := client(t, server.URL, at, func(o *forge.GitHubOptions) { o.Token, o.Self = app.Token, who.ID })

	r, err := person.Open(ctx, proposal(write("registrations/lsa-physics/mfp3.cue", "// new\n"), remove("registrations/lsa-physics/old.cue"),
		forge.Change{Path: "registrations/lsa-physics/latin.cue", Data: []byte("// caf\xe9\n")}))
	if err != nil {
		lies.tell(t)
		t.Fatal(err)
	}
	hub.Wrote(r.Head, postmaster, postmaster)
	whole, err := person.Get(ctx, r.Number)
	must("get", err)
	_, err = person.Authors(ctx, whole)
	must("authors", err)
	_, err = person.List(ctx, forge.Open)
	must("list", err)
	files, err := bot.Files(ctx, r)
	must("files", err)
	if len(files) != 3 {
		t.Errorf("files: %v", files)
	}
	must("comment", bot.SetComment(ctx, r.Number, "plan", "first"))
	must("edit", bot.SetComment(ctx, r.Number, "plan", "second"))
	must("delete", bot.SetComment(ctx, r.Number, "plan", ""))
	must("a person's comment", person.SetComment(ctx, r.Number, "plan", "third"))
	problems := make([]registration.Problem, 120)
	for i := range problems {
		problems[i] = registration.Problem{File: "registrations/lsa-physics/mfp3.cue", Line: i, Column: i % 3, Rule: registration.RuleBadIP, Severity: registration.Error, Message: "m", Hint: "h"}
	}
	report := forge.Report{Commit: r.Head, Name: "gatepost", Conclusion: forge.Failure, Title: "120 problems", Summary: "*", Problems: problems}
	must("check run", bot.ReportCheck(ctx, report))
	report.Run, err = bot.BeginCheck(ctx, r.Head, "gatepost", "https://github.com/umich/mail-relay-register/actions/runs/1")
	must("begin", err)
	report.Conclusion = forge.ActionRequired
	must("the check that was begun", bot.ReportCheck(ctx, report))
	report.Run = 0
	must("status", person.ReportStatus(ctx, report))
	if at, err := bot.OpenAt(ctx, r.Head); err != nil || len(at) != 1 {
		t.Errorf("open at: %v, %v", at, err)
	}
	ahead, err := bot.Ahead(ctx, hub.Branch("main"), r.Head)
	must("ahead", err)
	if len(ahead) != 1 {
		t.Errorf("ahead: %v", ahead)
	}
	hub.SetBranch("gh-readonly-queue/main/pr-1-0000", r.Head)
	if in, err := bot.Queued(ctx, "main", r.Head); err != nil || !in {
		t.Errorf("queued: %v, %v", in, err)
	}
	_, err = bot.Tip(ctx, "main")
	must("tip", err)
	_, err = bot.AccountOf(ctx, who.Login)
	must("account", err)
	hub.Retarget(r.Number, "main")
	hub.Review(r.Number, postmaster, "APPROVED")
	approved, err := bot.Approvals(ctx, r)
	must("approvals", err)
	if len(approved) != 1 {
		t.Errorf("approvals: %v", approved)
	}
	_, err = bot.Team(ctx, "postmasters")
	must("team", err)
	_, err = bot.OwnersErrors(ctx, "main")
	must("owners", err)
	_, err = bot.Protection(ctx, "main")
	must("protection", err)
	settle(hub)
	settings, err := person.Settings(ctx, "")
	must("settings", err)
	must("speakers", person.Speakers(ctx, settings, campusOf(t, settings)))
	hub.SetRules(nil, nil)
	changed := goodSettings()
	changed.Private, changed.NotAdmin, changed.Rulesets = true, true, []map[string]any{{"id": 9, "name": "main", "target": "branch", "source_type": "Repository", "source": repository, "enforcement": "evaluate"}}
	hub.SetSettings(changed)
	hub.Fail(forgetest.Failure{Method: "GET", Path: "/protection", Times: 1, Status: 404})
	_, err = person.Settings(ctx, "main")
	must("other settings", err)
	must("a comment", bot.Comment(ctx, r.Number, forge.Person{}, "answer"))
	hub.ReviewWith(r.Number, postmaster, "COMMENTED", "/ask Whose is it?")
	hub.AddLineComment(r.Number, postmaster, "/ask And this?")
	if said, err := person.Remarks(ctx, r.Number); err != nil || len(said) < 5 {
		t.Errorf("remarks: %v, %v", said, err)
	}
	hub.Permit(postmaster, "write")
	if may, err := bot.MayWrite(ctx, forge.Account{ID: postmaster.ID, Login: postmaster.Login}); err != nil || !may {
		t.Errorf("may write: %v, %v", may, err)
	}
	dropped, err := person.Open(ctx, proposal(write("registrations/its/dropped.cue", "// dropped\n")))
	must("open another", err)
	must("close", bot.Close(ctx, dropped.Number))
	merged := hub.MergeBy(r.Number, postmaster)
	_, err = bot.ForCommit(ctx, merged)
	must("for commit", err)
	if recent, err := bot.Recent(ctx, time.Now().Add(-time.Hour)); err != nil || len(recent) != 2 {
		t.Errorf("recent: %v, %v", recent, err)
	}
	_, err = bot.Get(ctx, r.Number)
	must("for commit", err)

	if lies.tell(t); lies.calls < 30 {
		t.Errorf("only %d calls went through Prism", lies.calls)
	}
}

// A witness sends calls to Prism and notes what Prism found wrong with them or
// with the answers.
type witness struct {
	base  string
	mu    sync.Mutex
	calls int
	said  map[string]bool
}

// RoundTrip sends one call. The description knows GitHub's own host, so the
// prefix of Enterprise goes; and Prism knows one media type.
func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	u := *r.URL
	u.Path, u.RawPath = strings.TrimPrefix(u.Path, "/api/v3"), ""
	u.Host = w.base
	for _, above := range []string{"/git/ref/", "/git/matching-refs/"} {
		if before, ref, ok := strings.Cut(u.Path, above); ok { // a parameter is one segment to Prism
			u.RawPath = before + above + url.PathEscape(ref)
		}
	}
	r.URL, r.Host = &u, w.base
	r.Header.Set("Accept", "application/json")
	resp, err := http.DefaultTransport.RoundTrip(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if w.said == nil {
		w.said = map[string]bool{}
	}
	note := func(text string) { w.said[r.Method+" "+u.Path+": "+text] = true }
	if err != nil {
		note(err.Error())
		return resp, err
	}
	if v := resp.Header.Get("Sl-Violations"); v != "" {
		note(v)
	} else if resp.StatusCode >= 500 || resp.StatusCode == http.StatusUnprocessableEntity {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		note(fmt.Sprint(resp.StatusCode, " ", string(text)))
	}
	return resp, err
}

// tell fails the test by what Prism found.
func (w *witness) tell(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, violation := range slices.Sorted(maps.Keys(w.said)) {
		t.Error(violation)
	}
}

// prism starts Prism as a proxy in front of a server and returns its address.
func prism(t *testing.T, upstream string) string {
	t.Helper()
	dir := os.Getenv("GATEPOST_CI_DIR")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(home, ".cache", "gatepost-ci")
	}
	program := filepath.Join(dir, "node_modules", ".bin", "prism")
	description := filepath.Join(dir, "node_modules", "@octokit", "openapi", "generated", "api.github.com.json")
	needs(t, "node", program, description)
	spec := filepath.Join(t.TempDir(), "spec.json")
	trim(t, description, spec)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "proxy", "--errors", "-h", "127.0.0.1", "-p", port, spec, upstream)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		var once sync.Once
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "listening") {
				once.Do(func() { close(up) })
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-over
		_ = cmd.Wait() // killed
	})
	select {
	case <-up:
	case <-over:
		t.Fatal("Prism ended")
	case <-time.After(2 * time.Minute):
		t.Fatal("Prism does not start")
	}
	return address
}

// needs skips the test by name when a program or file is missing; in CI, where
// .ci/run installs them all, it fails instead.
func needs(t *testing.T, things ...string) {
	t.Helper()
	for _, thing := range things {
		_, err := os.Stat(thing)
		if !filepath.IsAbs(thing) {
			_, err = exec.LookPath(thing)
		}
		if err == nil {
			continue
		}
		if os.Getenv("GATEPOST_NO_SKIP") != "" {
			t.Fatalf("%s is not installed; bash .ci/run does it", thing)
		}
		t.Skipf("%s is not installed; bash .ci/run does it", thing)
	}
}

// trim writes the part of GitHub's description that is spoken, and what it
// refers to, unchanged.
func trim(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]json.RawMessage
	var paths map[string]any
	var components map[string]map[string]any
	for _, err := range []error{json.Unmarshal(data, &spec), json.Unmarshal(spec["paths"], &paths), json.Unmarshal(spec["components"], &components)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	kept := map[string]any{}
	parts := map[string]map[string]any{}
	var need func(any)
	need = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				need(e)
			}
		case map[string]any:
			for _, e := range v {
				need(e)
			}
			ref, _ := v["$ref"].(string)
			section, name, ok := strings.Cut(strings.TrimPrefix(ref, "#/components/"), "/")
			if ok && parts[section][name] == nil {
				if parts[section] == nil {
					parts[section] = map[string]any{}
				}
				parts[section][name] = components[section][name]
				need(components[section][name])
			}
		}
	}
	for _, p := range spoken {
		if paths[p] == nil {
			t.Fatalf("GitHub's description has no %s", p)
		}
		kept[p] = paths[p]
		need(paths[p])
	}
	out, err := json.Marshal(map[string]any{"openapi": spec["openapi"], "info": spec["info"], "servers": spec["servers"], "paths": kept, "components": parts})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, out, 0o600); err != nil {
		t.Fatal(err)
	}
}
