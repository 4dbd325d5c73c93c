// Package scaffold has the files with which a repository begins: those with
// which a forge judges requests (the workflows, who must approve what, the forms
// that people fill in), and those of a register of a site's own. There is one
// source of them: this repository's own are rendered from it (make generate), and
// so are those of a register that somebody starts (gatepost init). The guide for
// departments goes the other way: its source is registrations/README.md, where
// people read and change it, and guide.md is its copy.
//
// It writes nothing; whoever asks gets names and contents.
//
// The layout. Below files/ (for a forge) and register/ (for a register) each file
// has the name that it gets in a repository, and is a template between [% and %],
// as ${{ }} is the workflows' own; a folder called DEPARTMENT gets the name of the
// first department. A file that comes out empty is left out. judge.tmpl has the
// steps that get the judge, which are different where it is built from source,
// where it is a version and where it is a binary.
package scaffold

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

//go:generate go test -count=1 -run ^TestThisRepositoryIsInStep$ . -args -write

//go:embed judge.tmpl guide.md all:files all:register
var embedded embed.FS

// A Site is what differs between one register and another. Org and the teams
// must be set unless it is Plain.
type Site struct {
	Org         string // the organisation at the forge
	Maintainers string // slug of the team that keeps workflows and code
	Postmasters string // … that approves registrations
	Network     string // … that says which department holds which addresses

	// Release and Version name the program that judges, in .github/gatepost, which
	// the workflows read from the base. Release is a binary: its SHA-256 and an
	// https URL for Linux, with a space between. Version is a package of Go and its
	// version, PATH@VERSION. Both "" is for the repository that has the program's
	// source: there the judge is built from the base.
	Release string
	Version string

	Plain    bool      // there is no forge: nothing of files/
	Register *Register // nil where there is a register already: nothing of register/
}

// A Register is what a new register begins with. All but Holds must be set.
// What is in it is quoted, not judged: a policy.Build of the files does that.
type Register struct {
	Branch     string   // that the relay reads
	Campus     []string // the address space, as prefixes
	Department Department
	Holds      []string // the prefixes that the department holds
	MailDomain string   // that its contacts are in
	Example    Example
	Expires    string // of the example, as year-month-day
}

// A Department is the first one.
type Department struct {
	ID       string
	Name     string
	Speakers []Speaker
}

// A Speaker is an account of the forge, or a mail address.
type Speaker struct {
	Login string
	ID    int64
	Email string // "": an account
}

// An Example is a machine that cannot be.
type Example struct {
	Network string // a prefix that is set aside for documentation
	Address string // in it
}

// A File is one file of a repository.
type File struct {
	Path string // from its root, with forward slashes
	Data []byte
}

const (
	guidePath = "registrations/README.md"

	// guideExample is the one link of the guide to a registration of this
	// repository's sample, in whose place a site's own example comes.
	guideExample = "[`lsa-physics/mfp.cue`](lsa-physics/mfp.cue)"
)

var (
	account = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	release = regexp.MustCompile(`^[0-9a-f]{64} https://[A-Za-z0-9._~:/?&=%+-]{1,1000}$`)
	version = regexp.MustCompile(`^[a-z0-9][A-Za-z0-9._~/-]{1,300}@v[0-9][A-Za-z0-9.+-]{1,100}$`)
	folder  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// Files renders the files for a site, sorted by path.
func Files(s Site) ([]File, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	root, err := template.New("").Delims("[%", "%]").Option("missingkey=error").
		Funcs(template.FuncMap{"quote": quote}).ParseFS(embedded, "judge.tmpl")
	if err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	var out []File
	add := func(top string) error {
		return fs.WalkDir(embedded, top, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := render(root, name, s)
			if len(bytes.TrimSpace(data)) > 0 {
				out = append(out, File{s.place(strings.TrimPrefix(name, top+"/")), data})
			}
			return err
		})
	}
	if !s.Plain {
		err = add("files")
	}
	if s.Register != nil && err == nil {
		var guide []byte
		if guide, err = s.guide(); err == nil {
			out = append(out, File{guidePath, guide})
			err = add("register")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// check refuses what would not stay what it is in a file of the forge's, or in
// a path.
func (s Site) check() error {
	names := []string{s.Org, s.Maintainers, s.Postmasters, s.Network}
	if s.Plain {
		names = nil
	}
	for _, name := range names {
		if !account.MatchString(name) {
			return fmt.Errorf("%q is no name of an organisation or a team", name)
		}
	}
	switch {
	case s.Release != "" && !release.MatchString(s.Release):
		return errors.New("a release is a SHA-256 and an https URL, with a space between")
	case s.Version != "" && !version.MatchString(s.Version):
		return errors.New("a version is a package of Go with its version, PATH@VERSION")
	case s.Release != "" && s.Version != "":
		return errors.New("the judge is a release or a version, not both")
	case s.Register != nil && !folder.MatchString(s.Register.Department.ID):
		return fmt.Errorf("%q is no short name of a department", s.Register.Department.ID)
	}
	return nil
}

// place puts the department's name into a path.
func (s Site) place(name string) string {
	if s.Register == nil {
		return name
	}
	return strings.ReplaceAll(name, "DEPARTMENT", s.Register.Department.ID)
}

// guide is the guide for departments, with a link to the site's own example.
func (s Site) guide() ([]byte, error) {
	text, err := embedded.ReadFile("guide.md")
	if err != nil {
		return nil, err
	}
	example := s.Register.Department.ID + "/example.cue"
	out := bytes.Replace(text, []byte(guideExample), []byte("[`"+example+"`]("+example+")"), 1)
	if bytes.Equal(out, text) {
		return nil, errors.New("the guide has lost its link to an example, " + guideExample)
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

// quote writes a string of CUE on one line; every string of JSON is one.
func quote(s string) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// Origin tells the reader of a workflow where to change it.
func (s Site) Origin() string {
	if s.Release == "" && s.Version == "" {
		return "Rendered from internal/cli/scaffold by make generate; change it there."
	}
	return "Written by gatepost init."
}

// Owners are teams as CODEOWNERS names them, each once.
func (s Site) Owners(teams ...string) string {
	var names []string
	for _, t := range teams {
		if name := "@" + s.Org + "/" + t; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}
