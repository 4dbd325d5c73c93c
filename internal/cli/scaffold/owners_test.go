package scaffold_test

import (
	"path"
	"strings"
	"testing"

	"example.edu/gatepost/internal/cli/scaffold"
)

// owners are the teams of the last line that matches a path, as GitHub reads
// it. Of its patterns it knows those that are used: a star, a folder from the
// root with a slash at both ends, a file from the root, and a name anywhere.
func owners(t *testing.T, text []byte, file string) string {
	t.Helper()
	var last string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		pattern, matches := words[0], false
		switch {
		case pattern == "*":
			matches = true
		case strings.HasPrefix(pattern, "/") && strings.HasSuffix(pattern, "/"):
			matches = strings.HasPrefix("/"+file, pattern)
		case strings.HasPrefix(pattern, "/"):
			matches = "/"+file == pattern
		case !strings.ContainsAny(pattern, "/*?[!"):
			matches = path.Base(file) == pattern || strings.Contains("/"+file, "/"+pattern+"/")
		default:
			t.Fatalf("the pattern %q is of a kind that is not known here", pattern)
		}
		if matches {
			last = strings.Join(words[1:], " ")
		}
	}
	return last
}

// TestOwners: who must approve a change of what.
func TestOwners(t *testing.T) {
	var text []byte
	for _, f := range files(t, scaffold.Site{Org: "u", Maintainers: "code", Postmasters: "post", Network: "net"}) {
		if f.Path == "CODEOWNERS" {
			text = f.Data
		}
	}
	for file, want := range map[string]string{
		"README.md":                                "@u/code",
		"internal/register/policy/judge.go":        "@u/code",
		"schema/register.cue":                      "@u/code",
		"Makefile":                                 "@u/code",
		".ci/run":                                  "@u/code",
		"schema/site.cue":                          "@u/post",
		"registrations/README.md":                  "@u/post",
		"registrations/lsa-physics/mfp.cue":        "@u/post",
		"registrations/lsa-physics/campus/mfp.cue": "@u/post",
		"registrations/blocks/2026-11-23.cue":      "@u/post",
		"registrations/campus/networks.cue":        "@u/net @u/post",
		"registrations/campus/departments.cue":     "@u/net @u/post",
		".github/workflows/report.yml":             "@u/code @u/post",
		".github/gatepost":                         "@u/code @u/post",
		"CODEOWNERS":                               "@u/code @u/post",
		".github/CODEOWNERS":                       "@u/code @u/post",
		"docs/CODEOWNERS":                          "@u/code @u/post",
		"registrations/lsa-physics/CODEOWNERS":     "@u/code @u/post",
		"internal/registrations/x.go":              "@u/code",
	} {
		if got := owners(t, text, file); got != want {
			t.Errorf("%s is owned by %q, want %q", file, got, want)
		}
	}
}
