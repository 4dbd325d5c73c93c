package forge_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/forge/forgetest"
)

const (
	repository = "umich/mail-relay-register"
	octocat    = "token-of-octocat"
)

// newHub is a forge with a small register and somebody who is signed in.
func newHub(t *testing.T) (*forgetest.Hub, *httptest.Server) {
	t.Helper()
	hub := forgetest.New(repository, time.Now)
	hub.AddUser(583231, "octocat", octocat)
	hub.Commit("main", "The register", register()...)
	server := httptest.NewServer(hub)
	t.Cleanup(server.Close)
	return hub, server
}

func register() []forgetest.Change {
	return []forgetest.Change{
		{Path: "registrations/README.md", Content: "# Register\n"},
		{Path: "registrations/campus/networks.cue", Content: "networks: {}\n"},
		{Path: "registrations/lsa-physics/mfp.cue", Content: "// printers\n"},
		{Path: "registrations/lsa-physics/old.cue", Content: "// old\n"},
		{Path: "registrations/its/alarm.cue", Content: "// alarm\n"},
	}
}

// client is the real client of the forge at a URL.
func client(t *testing.T, url string, change ...func(*forge.GitHubOptions)) *forge.GitHub {
	t.Helper()
	o := forge.GitHubOptions{Repository: repository, Host: url, Token: forge.Static(octocat), Pace: time.Millisecond}
	for _, f := range change {
		f(&o)
	}
	g, err := forge.NewGitHub(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func proposal(changes ...forge.Change) forge.Proposal {
	return forge.Proposal{
		Base: "main", Name: "lsa-physics mfp3", Title: "Register mfp3", Body: "A printer in the print room.",
		Author: forge.Person{Name: "Octo Cat", Email: "octocat@example.edu"}, At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Changes: changes,
	}
}

func write(path, content string) forge.Change { return forge.Change{Path: path, Data: []byte(content)} }
func remove(path string) forge.Change         { return forge.Change{Path: path, Remove: true} }
