package scaffold_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/cli/scaffold"
)

var write = flag.Bool("write", false, "write this repository's files in place of comparing them")

// here is this repository, whose judge is built from its own source.
var here = scaffold.Site{Org: "umich", Maintainers: "gatepost-maintainers", Postmasters: "postmasters", Network: "network-team"}

// elsewhere is a register alone.
var elsewhere = scaffold.Site{
	Org: "example", Maintainers: "mail-operators", Postmasters: "postmasters", Network: "network",
	Release: strings.Repeat("0a", 32) + " https://example.edu/gatepost/v1.2.3/gatepost-linux-amd64",
}

func files(t *testing.T, s scaffold.Site) []scaffold.File {
	t.Helper()
	list, err := scaffold.Files(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestThisRepositoryIsInStep: what this repository uses is what the scaffold
// says. make generate writes it.
func TestThisRepositoryIsInStep(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	for _, f := range files(t, here) {
		name := filepath.Join(root, filepath.FromSlash(f.Path))
		if *write {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, f.Data) {
			t.Errorf("%s is not what internal/cli/scaffold makes; run: make generate", f.Path)
		}
	}
}

func TestFilesOfASite(t *testing.T) {
	var paths []string
	for _, f := range files(t, elsewhere) {
		paths = append(paths, f.Path)
		if bytes.Contains(f.Data, []byte("[%")) || bytes.Contains(f.Data, []byte("umich")) {
			t.Errorf("%s is not rendered in full:\n%s", f.Path, f.Data)
		}
		if !bytes.HasSuffix(f.Data, []byte("\n")) {
			t.Errorf("%s does not end with a line", f.Path)
		}
	}
	want := []string{
		".github/ISSUE_TEMPLATE/register.yml", ".github/PULL_REQUEST_TEMPLATE.md", ".github/gatepost",
		".github/workflows/report.yml", ".github/workflows/validate.yml", "CODEOWNERS",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("files %v, want %v", paths, want)
	}
	if slices.ContainsFunc(files(t, here), func(f scaffold.File) bool { return f.Path == ".github/gatepost" }) {
		t.Error("the repository of the source names a release")
	}
}

func TestSitesThatAreNone(t *testing.T) {
	for name, change := range map[string]func(*scaffold.Site){
		"no organisation":     func(s *scaffold.Site) { s.Org = "" },
		"a team of two words": func(s *scaffold.Site) { s.Postmasters = "post masters" },
		"a line end":          func(s *scaffold.Site) { s.Network = "network\n* @me" },
		"plain http":          func(s *scaffold.Site) { s.Release = strings.Replace(s.Release, "https:", "http:", 1) },
		"no digest":           func(s *scaffold.Site) { s.Release = "https://example.edu/gatepost" },
		"two lines":           func(s *scaffold.Site) { s.Release += "\nrun: evil" },
		"a shell's blank":     func(s *scaffold.Site) { s.Release += " --insecure" },
	} {
		s := elsewhere
		change(&s)
		if _, err := scaffold.Files(s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
