package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/report"
)

// A forgeCheck is one run of gatepost init --check-forge.
type forgeCheck struct {
	o      Options
	on     bool
	branch string // "" is the repository's default
	format *choice
	forgeFlags
}

func (f *forgeCheck) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.on, "check-forge", false, "make nothing: name what is not switched on at the repository that DIR is a clone of, or --repo")
	f.format = addFormat(cmd, "text", "json")
	f.addSignIn(cmd)
}

// shared are the flags that mean something with --check-forge and without it.
var shared = []string{"check-forge", "repo", "branch", "help"}

// alone refuses flags that say nothing in this mode.
func (f *forgeCheck) alone(cmd *cobra.Command, founding []field) error {
	var err error
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		mine := flag.Name != "plain" && !slices.ContainsFunc(founding, func(q field) bool { return q.flag == flag.Name })
		switch {
		case err != nil || slices.Contains(shared, flag.Name):
		case f.on && !mine:
			err = fail("--"+flag.Name+" is about a new register, and --check-forge makes none", "leave one of the two out")
		case !f.on && mine:
			err = fail("--"+flag.Name+" goes with --check-forge", "to see what is not switched on at the forge: gatepost init --check-forge")
		}
	})
	return err
}

// run reads the settings and says what is missing. dir is a clone of the
// repository, or a folder in one; it is looked at where --repo does not say more.
func (f *forgeCheck) run(ctx context.Context, dir, repository, branch string) error {
	f.branch = branch
	if f.repository = repository; f.repository != "" {
		if err := aRepository(f.repository); err != nil {
			return hinted(fmt.Errorf("--repo %s: %w", quote(f.repository), err), "for example: --repo umich/mail-register")
		}
	} else if err := f.ofOrigin(ctx, dir); err != nil {
		return err
	}
	github, err := f.open(ctx)
	if err != nil {
		return explainSettings(err)
	}
	_, stop := startProgress(ctx, f.o.Stderr, "reading the settings", "")
	defer stop()
	settings, err := github.Settings(ctx, f.branch)
	if err != nil {
		return explainSettings(err)
	}
	want := forge.Want{Check: report.CheckName}
	if want.Campus, want.Unread, err = campusOf(settings.Files); err != nil {
		return err
	}
	if err := github.Speakers(ctx, settings, want.Campus); err != nil {
		return explainSettings(err)
	}
	stop()
	return f.tell(settings, settings.Audit(want))
}

// ofOrigin takes the repository from the clone that dir is in, unless the
// environment names one.
func (f *forgeCheck) ofOrigin(ctx context.Context, dir string) error {
	if os.Getenv("GITHUB_REPOSITORY") != "" {
		return nil
	}
	hints := []string{"name it: --repo OWNER/NAME", "or run this in a clone of it, or name the clone: gatepost init --check-forge DIR"}
	root, err := findRoot(dir)
	if err != nil {
		return fail("which repository?", hints...)
	}
	local, err := forge.OpenGit(root)
	if err != nil {
		return fail("which repository?", hints...)
	}
	origin, err := local.Remote(ctx, "origin")
	if err != nil {
		return err
	}
	if origin == "" {
		return fail("which repository? This one has no remote called origin", hints[0])
	}
	server := os.Getenv("GITHUB_SERVER_URL")
	if f.api != "" {
		server = strings.TrimSuffix(strings.TrimSuffix(f.api, "/"), "/api/v3")
	}
	host, repository, ok := gitHubRepository(origin, server)
	if !ok {
		return fail("origin is not at GitHub", "of a GitHub Enterprise server: --api https://HOST --repo OWNER/NAME", "a site without a forge has nothing to switch on: gatepost init --plain")
	}
	f.repository = repository
	if f.api == "" && os.Getenv("GITHUB_API_URL") == "" {
		f.api = host
	}
	return nil
}

// campusOf parses the campus files of a branch, or says why it cannot.
func campusOf(files []forge.File) (campus []*registration.Campus, unread string, err error) {
	parser, err := registration.NewParser(nil)
	if err != nil {
		return nil, "", err
	}
	for _, file := range files {
		if registration.Kind(file.Path) != registration.KindCampus {
			continue
		}
		parsed := parser.Parse(file.Source)
		if parsed.Campus == nil {
			unread = file.Path + " has an error"
			continue
		}
		campus = append(campus, parsed.Campus)
	}
	if len(campus) == 0 && unread == "" {
		unread = "there is no file below " + campusDir
	}
	return campus, unread, nil
}

// tell prints the findings. Anything that is missing or unknown is a problem.
func (f *forgeCheck) tell(s *forge.Settings, findings []forge.Finding) error {
	counts := map[forge.FindingState]int{}
	for _, finding := range findings {
		counts[finding.State]++
	}
	if err := f.print(s, findings); err != nil {
		return err
	}
	if counts[forge.Unknown] > 0 {
		fmt.Fprintln(f.o.Stderr, "gatepost: hint: an administrator's token sees more; of a fine-grained one: Administration, Variables and Metadata of the repository and Members of the organisation, all read-only")
	}
	if counts[forge.Missing] > 0 {
		fmt.Fprintf(f.o.Stderr, "gatepost: hint: how it all goes together: registrations/README.md#at-the-forge\n")
	}
	fmt.Fprintf(f.o.Stderr, "%s, branch %s: %d missing, %d unknown, %d fine\n", printable(s.Repository), printable(s.Branch), counts[forge.Missing], counts[forge.Unknown], counts[forge.Fine])
	if counts[forge.Missing]+counts[forge.Unknown] > 0 {
		return errProblems
	}
	return nil
}

func (f *forgeCheck) print(s *forge.Settings, findings []forge.Finding) error {
	if f.format.value == "json" {
		enc := json.NewEncoder(f.o.Stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Repository string          `json:"repository"`
			Branch     string          `json:"branch"`
			Findings   []forge.Finding `json:"findings"`
		}{s.Repository, s.Branch, findings})
	}
	for _, finding := range findings {
		if err := printFinding(f.o.Stdout, finding); err != nil {
			return err
		}
	}
	return nil
}

// printFinding writes one line: how it stands, what, and what to do about it.
func printFinding(w io.Writer, f forge.Finding) error {
	line := string(f.State) + ": " + f.Check + ": " + f.Message
	if f.Remedy != "" {
		line += "; " + f.Remedy
	}
	_, err := fmt.Fprintln(w, printable(line))
	return err
}

// explainSettings adds the next step to what kept the settings from being read.
func explainSettings(err error) error {
	switch {
	case errors.Is(err, forge.ErrRefused):
		return hinted(err, "the token must be able to read the repository: GITHUB_TOKEN=$(gh auth token), for example")
	case errors.Is(err, forge.ErrNotFound):
		return hinted(err, "is the repository right (--repo), does its branch have a commit (--branch), and may this token see it?")
	case errors.Is(err, forge.ErrUnreachable), errors.Is(err, forge.ErrLimited):
		return hinted(err, "nothing was changed; run this again")
	}
	return err
}
