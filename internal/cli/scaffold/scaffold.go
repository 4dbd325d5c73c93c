// Package scaffold has the files with which a forge judges requests: the
// workflows, who must approve what, and the forms that people fill in. There is
// one source of them: this repository's own are rendered from it (make generate),
// and so are those of a register that somebody starts.
//
// It writes nothing; whoever asks gets names and contents.
//
// The layout. Below files/ each file has the name that it gets in a repository,
// and is a template between [% and %], as ${{ }} is the workflows' own. A file
// that comes out empty is left out. judge.tmpl has the steps that get the judge,
// which are different where it is built from source and where it is a release.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"text/template"
)

//go:generate go test -count=1 -run ^TestThisRepositoryIsInStep$ . -args -write

//go:embed judge.tmpl all:files
var embedded embed.FS

// A Site is what differs between one register and another. Org and the teams
// must be set.
type Site struct {
	Org         string // the organisation at the forge
	Maintainers string // slug of the team that keeps workflows and code
	Postmasters string // … that approves registrations
	Network     string // … that says which department holds which addresses

	// Release names the program that judges: its SHA-256 and an https URL of the
	// binary for Linux, with a space between. It becomes .github/gatepost, which
	// the workflows read from the base. "" is for the repository that has the
	// program's source: there the judge is built from the base.
	Release string
}

// A File is one file of a repository.
type File struct {
	Path string // from its root, with forward slashes
	Data []byte
}

var (
	account = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	release = regexp.MustCompile(`^[0-9a-f]{64} https://[A-Za-z0-9._~:/?&=%+-]{1,1000}$`)
)

// Files renders the files for a site, sorted by path.
func Files(s Site) ([]File, error) {
	for _, name := range []string{s.Org, s.Maintainers, s.Postmasters, s.Network} {
		if !account.MatchString(name) {
			return nil, fmt.Errorf("scaffold: %q is no name of an organisation or a team", name)
		}
	}
	if s.Release != "" && !release.MatchString(s.Release) {
		return nil, errors.New("scaffold: a release is a SHA-256 and an https URL, with a space between")
	}
	root, err := template.New("").Delims("[%", "%]").Option("missingkey=error").ParseFS(embedded, "judge.tmpl")
	if err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	var out []File
	err = fs.WalkDir(embedded, "files", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := render(root, name, s)
		if len(bytes.TrimSpace(data)) > 0 {
			out = append(out, File{strings.TrimPrefix(name, "files/"), data})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	return out, nil
}

func render(root *template.Template, name string, s Site) ([]byte, error) {
	text, err := embedded.ReadFile(name)
	if err != nil {
		return nil, err
	}
	root, err = root.Clone()
	if err != nil {
		return nil, err
	}
	t, err := root.New(name).Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, s)
	return b.Bytes(), err
}

// Origin tells the reader of a workflow where to change it.
func (s Site) Origin() string {
	if s.Release == "" {
		return "Rendered from internal/cli/scaffold by make generate; change it there."
	}
	return "Written by gatepost init."
}
