package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/review"
)

// A target is where a request is opened.
type target struct {
	local     *forge.Git // the checkout's own repository
	hasOrigin bool
	rev       string // the base as the checkout knows it

	github *forge.GitHub // or
	git    *forge.Git    // the repository that gets the branch
	push   string        // what to type to bring the branch to where it belongs; ""
	web    string        // where a pull request is then opened; ""
}

// findTarget looks at origin. Its URL may hold credentials and is never shown.
func findTarget(ctx context.Context, top, base string) (*target, error) {
	local, err := forge.OpenGit(top)
	if err != nil {
		return nil, hinted(err, "submit needs a clone of the register: git clone")
	}
	origin, err := local.Remote(ctx, "origin")
	if err != nil {
		return nil, err
	}
	t := &target{local: local, git: local, rev: base, hasOrigin: origin != ""}
	if origin == "" {
		return t, nil
	}
	t.rev = "origin/" + base
	if path, ok := localPath(top, origin); ok {
		t.git, err = forge.OpenGit(path)
		return t, err
	}
	t.push = "git push origin"
	host, repository, ok := gitHubRepository(origin, os.Getenv("GITHUB_SERVER_URL"))
	if !ok {
		return t, nil
	}
	token := os.Getenv("GITHUB_TOKEN")
	if token == "" {
		t.web = "https://" + hostOf(host) + "/" + repository + "/compare/"
		return t, nil
	}
	t.github, err = forge.NewGitHub(forge.GitHubOptions{Repository: repository, Host: host, Token: forge.Static(token)})
	return t, err
}

// requestsHome is where the branches of requests are, if the register is a
// plain git repository: the one that origin names, if that is on this disk, else
// the checkout's own. It is nil where a forge has the requests.
func requestsHome(ctx context.Context, top string) (*forge.Git, error) {
	local, err := forge.OpenGit(top)
	if err != nil {
		return nil, err
	}
	origin, err := local.Remote(ctx, "origin")
	if err != nil || origin == "" {
		return local, err
	}
	if path, ok := localPath(top, origin); ok {
		return forge.OpenGit(path)
	}
	if _, _, ok := gitHubRepository(origin, os.Getenv("GITHUB_SERVER_URL")); ok {
		return nil, nil
	}
	return local, nil
}

// localPath is the folder that a remote names, if it is on this disk.
func localPath(top, remote string) (string, bool) {
	if u, err := url.Parse(remote); err == nil && u.Scheme == "file" {
		return u.Path, true
	}
	if strings.Contains(remote, "://") {
		return "", false
	}
	// host:path is ssh, unless a slash comes first, as git reads it.
	if colon := strings.Index(remote, ":"); colon >= 0 && !strings.Contains(remote[:colon], "/") {
		return "", false
	}
	return within(top, filepath.FromSlash(remote)), true
}

// gitHubRepository reads owner/name out of a remote at github.com, or at the
// GitHub Enterprise server that GITHUB_SERVER_URL names, as it does in
// workflows.
func gitHubRepository(remote, server string) (host, repository string, ok bool) {
	if server == "" {
		server = "https://github.com"
	}
	want, err := url.Parse(server)
	if err != nil || want.Host == "" {
		return "", "", false
	}
	var at, path string
	if u, err := url.Parse(remote); err == nil && u.Host != "" {
		at, path = u.Host, u.Path
		if u.Scheme == "ssh" {
			at = u.Hostname()
		}
	} else if before, after, found := strings.Cut(remote, ":"); found { // git@host:owner/name
		_, at, _ = strings.Cut("@"+before, "@")
		at, path = at[strings.LastIndex(at, "@")+1:], after
	}
	repository = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	switch {
	case strings.Count(repository, "/") != 1:
		return "", "", false
	case strings.EqualFold(at, want.Host), strings.EqualFold(at, want.Hostname()) && want.Port() == "":
		return server, repository, true
	case strings.EqualFold(at, "github.com"):
		return "https://github.com", repository, true
	}
	return "", "", false
}

func hostOf(server string) string {
	if u, err := url.Parse(server); err == nil {
		return u.Host
	}
	return "github.com"
}

// author is who the forge will say opened the request; nobody where there are
// no accounts. A team that this token may not look into is left to the check of
// the pull request, and is said to be (policy.Author.Unread).
func (t *target) author(ctx context.Context, change *review.Change) (policy.Author, error) {
	if t.github == nil {
		return policy.Author{}, nil
	}
	who, err := t.github.Self(ctx)
	if err != nil {
		return policy.Author{}, explainOpen(err)
	}
	author := policy.Author{Login: who.Login, ID: who.ID}
	for _, want := range change.Teams(author) {
		team, err := t.github.Team(ctx, want.Slug)
		switch {
		case err != nil:
			author.Unread = append(author.Unread, want.ID)
		case team.ID == want.ID && team.Has(who.ID): // the slug may be another team's by now
			author.Teams = append(author.Teams, want.ID)
		}
	}
	return author, ctx.Err()
}

// person is the author of the commit. GitHub knows its accounts itself.
func (t *target) person(ctx context.Context) (forge.Person, error) {
	p, err := gitPerson(ctx, t.local)
	if err == nil && t.github == nil && (p.Name == "" || p.Email == "") {
		err = fail("git does not know who you are", "git config user.name 'Your Name'", "git config user.email you@example.edu")
	}
	return p, err
}

func (t *target) open(ctx context.Context, p forge.Proposal) (forge.Request, error) {
	if t.github == nil {
		return t.git.Open(ctx, p)
	}
	r, err := t.github.Open(ctx, p)
	return r, explainOpen(err)
}

// next is what is left for the person to do.
func (t *target) next(r forge.Request) []string {
	switch {
	case t.github != nil:
		return nil
	case t.web != "":
		return []string{"bring it to GitHub: " + t.push + " " + r.Branch, "then open the pull request: " + t.web + r.Branch + "?expand=1",
			"with a token in GITHUB_TOKEN, submit does both"}
	case t.push != "":
		return []string{"bring it to where the register is: " + t.push + " " + r.Branch}
	}
	return []string{fmt.Sprintf("it is request %d; merging the branch approves it", r.Number)}
}
