package portal

import (
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
)

// onGitHub moves a world's requests to a stand-in for GitHub.
func (w *world) onGitHub() *forgetest.Hub {
	w.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("GATEPOST_NO_SKIP") != "" {
			w.Fatal("git is not installed; bash .ci/run does it")
		}
		w.Skip("git is not installed; bash .ci/run does it")
	}
	hub := forgetest.New("lab/register", time.Now)
	hub.AddUser(99, "gatepost-portal", "portal-token")
	if err := hub.Import(w.repository, "main"); err != nil {
		w.Fatal(err)
	}
	at := httptest.NewServer(hub)
	w.Cleanup(at.Close)
	github, err := forge.NewGitHub(forge.GitHubOptions{Repository: "lab/register", Host: at.URL, Token: forge.Static("portal-token"), Pace: time.Millisecond, Wait: time.Second})
	if err != nil {
		w.Fatal(err)
	}
	w.forge, w.dossiers = github, newDossiers(github, time.Now)
	return hub
}

// TestAtGitHub: what a department and a postmaster do where requests are pull
// requests. A merge there is nothing that the portal does.
func TestAtGitHub(t *testing.T) {
	w := newWorld(t, dana)
	hub := w.onGitHub()
	to := w.sends(303, "/departments/lab", url.Values{"do": {"renew"}, "ip": {"192.0.2.3"}})
	if to != "/requests/1" || hub.Pulls() != 1 {
		t.Fatalf("it leads to %q, and there are %d pull requests", to, hub.Pulls())
	}
	w.shows(200, "/requests", "Renew 1 address", "in review")
	w.shows(200, to, "at the forge</a>", "Nothing is wrong with it", "by Dana Ito", "!Merge: approve it")

	w.as(pat)
	w.shows(200, to, "Review and merge at the forge", "!Merge: approve it")
	w.sends(409, to+"/merge", url.Values{"head": {hub.Pull(1).Head}}, "Requests are merged at the forge")
	w.sends(303, to+"/ask", url.Values{"words": {"Is it still there?"}})
	if said := hub.Comments(1); len(said) != 1 || said[0].Body != "/ask Is it still there?\n\n— Pat Moss, through the portal" {
		t.Errorf("at the forge stands %+v", said)
	}
	reviewer := hub.AddUser(7, "postmaster", "")
	hub.Review(1, reviewer, "APPROVED")
	w.dossiers.forget()
	w.shows(200, to, "Reviewed by postmaster")
	hub.MergeBy(1, reviewer)
	w.dossiers.forget()
	w.shows(200, to, "approved</span>", "by postmaster")

	w.as(dana)
	to = w.sends(303, "/departments/lab", url.Values{"do": {"remove"}, "ip": {"192.0.2.1"}})
	w.as(pat)
	w.sends(303, to+"/close", url.Values{"words": {"It is needed."}})
	w.shows(200, to, "Closed without being approved")
	if said := hub.Comments(2); len(said) != 1 || hub.Pull(2).State != "closed" {
		t.Errorf("%+v, %s", said, hub.Pull(2).State)
	}

	hub.Fail(forgetest.Failure{Method: "GET", Path: "/pulls", Status: 502, Times: -1})
	w.dossiers.forget()
	w.shows(503, to, "The requests cannot be read just now", "nothing is lost")
}
