package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// maxKeyFiles is how many files of keys there may be.
const maxKeyFiles = 32

var teamSlug = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// verify checks who is to vouch for commits.
func (d *document) verify(g *Register) {
	const path, github = "register.verify", "register.verify.github"
	for i, key := range g.Verify.Keys {
		at := fmt.Sprintf("%s.keys[%d]", path, i)
		if d.absolute(at, key); slices.Index(g.Verify.Keys, key) < i {
			d.wrong(at, at+" stands in the list before")
		}
	}
	if n := len(g.Verify.Keys); n > maxKeyFiles {
		d.wrong(path+".keys", fmt.Sprintf("register.verify.keys names %d files; %d are the most", n, maxKeyFiles))
	}
	if !d.has(github) {
		if len(g.Verify.Keys) == 0 {
			d.reject(path, "register.verify says nobody who could vouch for a commit",
				`give keys: ["/etc/gatepost/postmasters.asc"], or github: {postmasters: "the-team"}, or both; or take verify out`)
		}
		return
	}
	switch {
	case g.Verify.Postmasters == "": // missing, and said already, or empty
		if d.has(github + ".postmasters") {
			d.wrong(github+".postmasters", github+".postmasters is empty")
		}
	case !teamSlug.MatchString(g.Verify.Postmasters):
		d.reject(github+".postmasters", fmt.Sprintf("register.verify.github.postmasters: %q is no team's slug", g.Verify.Postmasters),
			"the slug is the last part of the address of the team's page: small letters, digits and hyphens, without the organisation")
	}
	if !onGitHub(g.Repository) && g.Repository != "" {
		d.reject(github, "register.verify.github asks GitHub, and register.repository is not there",
			"write the repository as https://github.com/OWNER/NAME, or with the host of your GitHub Enterprise server; elsewhere, verify signatures: keys")
	}
	if g.TokenFile == "" && g.App == nil {
		d.reject(github, "register.verify.github asks GitHub, and there is no token to ask with",
			"give register.tokenFile, or register.app; it must be able to read pull requests, and the members of the organisation")
	}
}

// onGitHub reports whether a repository can be one at github.com or at a GitHub
// Enterprise server.
func onGitHub(repository string) bool {
	u, err := url.Parse(repository)
	return err == nil && u.Host != "" && strings.Count(strings.Trim(u.Path, "/"), "/") == 1
}
