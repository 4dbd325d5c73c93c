package scaffold_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge/forgetest"
)

// TestReportUnderAct runs report.yml, once a validate has ended, against a
// stand-in for GitHub.
func TestReportUnderAct(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	hub := forgetest.New("umich/register", time.Now)
	if err := hub.Import(filepath.Join(s.dir, "origin.git"), "main"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(hub)
	t.Cleanup(server.Close)
	hub.AddActions("token-of-the-workflow")
	octocat, hubot := hub.AddUser(583231, "octocat", ""), hub.AddUser(480938, "hubot", "")
	report := func(head, event, conclusion string, args ...string) result {
		t.Helper()
		// The files of a request are at the stand-in alone: nothing can check
		// them out.
		e := s.event("workflow_run", "completed", map[string]any{
			"workflow_run.head_sha": head, "workflow_run.event": event, "workflow_run.conclusion": conclusion, "workflow_run.head_branch": "$(id)",
			"repository.default_branch": "main", "repository.full_name": "umich/register",
		})
		return s.act("report.yml", "workflow_run", e, append(args, "--env", "GITHUB_API_URL="+server.URL, "-s", "GITHUB_TOKEN=token-of-the-workflow")...)
	}
	last := func() string {
		runs := hub.Runs()
		if len(runs) == 0 {
			return ""
		}
		r := runs[len(runs)-1]
		return strings.Join([]string{r.Name, r.Head, r.Status, r.Conclusion, r.Title}, " ")
	}

	good := hub.Fork(octocat, "mine", "Register it", forgetest.Change{Path: mine, Content: request})
	head := hub.Pull(good).Head
	report(head, "push", "success").want(true, "-Run Main")
	report(head, "pull_request", "skipped").want(true, "-Run Main")
	if last() != "" {
		t.Errorf("reported: %s", last())
	}
	// What the other run came to is no matter.
	report(head, "pull_request", "failure").want(true, "pull request 1: success", "-token-of-the-workflow")
	if got := last(); got != "gatepost "+head+" completed success no errors: 1 added, 0 removed, 0 changed, 0 blocked, 0 unblocked" {
		t.Error(got)
	}
	if c := hub.Comments(good); len(c) != 1 || !strings.Contains(c[0].Body, "141.211.13.23") || c[0].By != "github-actions[bot]" {
		t.Errorf("comments: %v", c)
	}

	bad := hub.Fork(hubot, "theirs", "Register it", forgetest.Change{Path: mine, Content: request + "// mine\n"},
		forgetest.Change{Path: ".github/gatepost", Content: "evil"})
	report(hub.Pull(bad).Head, "pull_request", "success").want(true, "pull request 2: failure: 1 error")
	if got := last(); !strings.HasSuffix(got, " completed failure 1 error") {
		t.Error(got)
	}

	group := hub.Commit("gh-readonly-queue/main/pr-1-0a", "A group", forgetest.Change{Path: mine, Content: request})
	report(group, "merge_group", "success").want(true, "merge queue: success")

	// With an App of the site's own, and the world asked.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	hub.AddApp(7, 77, "gatepost", &key.PublicKey)
	secrets := filepath.Join(s.dir, "secrets")
	s.write(secrets, "GATEPOST_APP_KEY=\""+string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))+"\"\n")
	report(head, "pull_request", "success", "--secret-file", secrets, "--var", "GATEPOST_APP_ID=7", "--var", "GATEPOST_APP_INSTALLATION=77",
		"--var", "GATEPOST_EVIDENCE=--evidence --dns 127.0.0.1:1").want(true, "pull request 1: success", "-PRIVATE KEY")
	if c := hub.Comments(good); len(c) != 2 || c[1].By != "gatepost[bot]" || !strings.Contains(c[1].Body, "#### Evidence (1)") {
		t.Errorf("comments: %v", c)
	}

	// Where a portal runs, the comment is not this workflow's.
	comments := hub.Comments(bad)
	hub.Push(bad, forgetest.Change{Path: mine, Content: request})
	report(hub.Pull(bad).Head, "pull_request", "success", "--var", "GATEPOST_PORTAL=https://relay.example.edu").want(true, "pull request 2: ")
	if c := hub.Comments(bad); !slices.Equal(c, comments) || !strings.Contains(last(), hub.Pull(bad).Head) {
		t.Errorf("comments: %v; %s", c, last())
	}

	// The forge is down: the job fails, and so does the check.
	hub.Fail(forgetest.Failure{Method: "GET", Path: "/git/trees/", Times: -1, Status: 500})
	report(head, "pull_request", "success").want(false, "the forge cannot be reached")
	if got := last(); !strings.HasSuffix(got, "completed failure could not be judged now") {
		t.Error(got)
	}
}
