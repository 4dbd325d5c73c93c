package scaffold_test

import (
	"bytes"
	"flag"
	"os"
	"path"
	"path/filepath"
	"regexp"
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

// begun is a register that somebody starts.
var begun = scaffold.Site{
	Org: "example", Maintainers: "postmasters", Postmasters: "postmasters", Network: "network", Version: "example.edu/gatepost/cmd/gatepost@v1.2.3",
	Register: &scaffold.Register{
		Branch: "trunk", Campus: []string{"10.0.0.0/8"}, MailDomain: "example.org", Expires: "2027-11-30",
		Department: scaffold.Department{ID: "its", Name: `"IT" \(all of it)`, Speakers: []scaffold.Speaker{{Login: "ann", ID: 1}, {Login: "bob", ID: 2}}},
		Example:    scaffold.Example{Network: "192.0.2.0/24", Address: "192.0.2.21"},
	},
}

// TestThisRepositoryIsInStep: what this repository uses is what the scaffold
// says, and the scaffold's guide is what this repository says. make generate
// writes both.
func TestThisRepositoryIsInStep(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	guide, err := os.ReadFile(filepath.Join(root, "registrations", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if *write {
		if err := os.WriteFile("guide.md", guide, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if copied, err := os.ReadFile("guide.md"); err != nil || !bytes.Equal(copied, guide) {
		t.Errorf("guide.md is not a copy of registrations/README.md; run: make generate (%v)", err)
	}
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
	s := elsewhere
	s.Release, s.Version = "", "example.edu/gatepost/cmd/gatepost@v1.2.3"
	for _, f := range files(t, s) {
		if strings.HasSuffix(f.Path, ".yml") && strings.Contains(string(f.Data), "curl") || f.Path == ".github/gatepost" && string(f.Data) != s.Version+"\n" {
			t.Errorf("%s with a version:\n%s", f.Path, f.Data)
		}
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
		"two judges":          func(s *scaffold.Site) { s.Version = "example.edu/gatepost@v1.2.3" },
		"no version":          func(s *scaffold.Site) { s.Release, s.Version = "", "example.edu/gatepost@latest" },
		"a version of two":    func(s *scaffold.Site) { s.Release, s.Version = "", "example.edu/gatepost@v1.2.3 -x" },
		"a folder above":      func(s *scaffold.Site) { s.Register = &scaffold.Register{Department: scaffold.Department{ID: ".."}} },
	} {
		s := elsewhere
		change(&s)
		if _, err := scaffold.Files(s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestFilesOfARegister: what a site begins with, and what of it needs a forge.
func TestFilesOfARegister(t *testing.T) {
	own := []string{
		".gitattributes", ".gitignore", "README.md", "registrations/README.md", "registrations/blocks/README.md",
		"registrations/campus/departments.cue", "registrations/campus/example.cue", "registrations/campus/networks.cue",
		"registrations/its/example.cue", "schema/site.cue",
	}
	forge := []string{
		".github/ISSUE_TEMPLATE/register.yml", ".github/PULL_REQUEST_TEMPLATE.md", ".github/gatepost",
		".github/workflows/report.yml", ".github/workflows/validate.yml", "CODEOWNERS",
	}
	plain := begun
	plain.Plain, plain.Version, plain.Org, plain.Postmasters, plain.Network, plain.Maintainers = true, "", "", "", "", ""
	for name, tt := range map[string]struct {
		site scaffold.Site
		want []string
	}{
		"at a forge": {begun, slices.Sorted(slices.Values(append(slices.Clone(own), forge...)))},
		"plain":      {plain, own},
	} {
		t.Run(name, func(t *testing.T) {
			made := map[string]bool{"registrations/campus/": true}
			var paths []string
			list := files(t, tt.site)
			for _, f := range list {
				made[f.Path] = true
				paths = append(paths, f.Path)
				if bytes.Contains(f.Data, []byte("[%")) || f.Path != "registrations/README.md" && bytes.Contains(f.Data, []byte("umich")) {
					t.Errorf("%s is not rendered in full:\n%s", f.Path, f.Data)
				}
				if !bytes.HasSuffix(f.Data, []byte("\n")) || bytes.HasSuffix(f.Data, []byte("\n\n")) && f.Path != ".github/PULL_REQUEST_TEMPLATE.md" {
					t.Errorf("%s does not end with a line", f.Path)
				}
			}
			if !slices.Equal(paths, tt.want) {
				t.Errorf("files %v, want %v", paths, tt.want)
			}
			for _, f := range list {
				for _, link := range links(t, f) {
					if !made[link] {
						t.Errorf("%s has a link to %s, which is not there", f.Path, link)
					}
				}
			}
		})
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// links are the files of the repository that a page of it has links to.
func links(t *testing.T, f scaffold.File) []string {
	t.Helper()
	var out []string
	if path.Ext(f.Path) != ".md" {
		return nil
	}
	for _, m := range link.FindAllSubmatch(f.Data, -1) {
		to := path.Join(path.Dir(f.Path), string(m[1]))
		if bytes.HasSuffix(m[1], []byte("/")) {
			to += "/"
		}
		out = append(out, to)
	}
	return out
}
