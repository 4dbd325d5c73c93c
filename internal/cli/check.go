package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

func newCheck(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Report every problem of the register",
		Long: "Report every problem of the register in this checkout, in one run, each on its\n" +
			"own line of the file. With --base, what the change since then causes or touches\n" +
			"is an error and what stood there before is a warning, and the site's rules are\n" +
			"those of the base.\n\n" +
			"With --evidence it also shows what the world says of the addresses that the change\n" +
			"adds (without --base, of all): whether name and address agree in the DNS, what an\n" +
			"internet registry and a NetBox say, and whether control of the address was proved\n" +
			"to a relay. A service that does not answer makes 'unknown'. Evidence is for whoever\n" +
			"reviews; it does not change the exit code.",
		Example: "  gatepost check\n  gatepost check --base origin/main\n  gatepost check --base origin/main --evidence\n  gatepost check --base origin/main --author octocat:583231 --format github",
		GroupID: groupRegister,
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	dir := addDir(cmd)
	base := cmd.Flags().String("base", "", "judge the change since `REV`: a branch, a tag or a commit")
	author := cmd.Flags().String("author", "", "who proposes the change: `LOGIN[:ID]`, or the mail address of who asks in the portal (with --base)")
	format := addFormat(cmd, "text", "json", "github", "sarif")
	asked := addEvidence(cmd)
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := "it always checks the whole register, as one file can clash with another"
		if info, err := os.Stat(args[0]); err != nil || info.IsDir() {
			hint += "; of another checkout: gatepost check -C " + quote(args[0])
		}
		return fail("gatepost check takes no argument, and got "+quote(args[0]), hint)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		who, err := parseAuthor(*author)
		if err != nil {
			return err
		}
		if *author != "" && *base == "" {
			return fail("--author needs --base: authority is judged by what the base says",
				"for example: "+commandLine(append(o.Args, "--base", "origin/main")...))
		}
		if err := asked.check(cmd, o); err != nil {
			return err
		}
		if asked.on && format.value == "sarif" {
			return fail("--evidence has no form in sarif: it is no problem of the register", "for annotations: --format github; for a program: --format json")
		}
		c, err := openCheckout(o, *dir)
		if err != nil {
			return err
		}
		defer c.close()
		c.useShelf(cmd.Context())
		p, stop := startProgress(cmd.Context(), o.Stderr, "checking", "files")
		defer stop()
		var found findings
		if *base == "" {
			found, err = checkTree(cmd.Context(), c, o.Now(), p)
		} else {
			found, err = checkChange(cmd.Context(), c, *base, who, o.Now(), p)
		}
		if err != nil {
			return err
		}
		stop()
		evidence, err := asked.gather(cmd.Context(), o, found.before, found.after)
		if err != nil {
			return err
		}
		if err := printFindings(o.Stdout, format.value, found, evidence); err != nil {
			return err
		}
		for _, note := range append(found.notes, strays(c.git.Top(), found.after)...) {
			fmt.Fprintf(o.Stderr, "gatepost: hint: %s\n", printable(note))
		}
		if text := evidence.Summary(); text != "" {
			fmt.Fprintln(o.Stderr, text)
		}
		fmt.Fprintln(o.Stderr, found.summary())
		if found.errors() > 0 {
			if format.value == "text" {
				fmt.Fprintf(o.Stderr, "gatepost: hint: %s\n", found.guide())
			}
			return errProblems
		}
		return nil
	}
	return cmd
}

// findings are what check found, and in what.
type findings struct {
	problems      []registration.Problem
	tree          review.Tree                 // that was checked
	text          func(*review.Source) []byte // of a file of it
	registrations int
	addresses     int
	notes         []string         // hints for the person at the terminal
	before, after *policy.Snapshot // before is nil without a base
}

// checkTree checks the files on disk as they are, under their own site rules.
func checkTree(ctx context.Context, c *checkout, now time.Time, p *progress) (findings, error) {
	head, err := c.disk(ctx)
	if err != nil {
		return findings{}, err
	}
	files, err := c.shelf.Parse(ctx, head.Site, head.Sources, &p.Counter)
	if err != nil {
		return findings{}, explainTree(err)
	}
	c.shelf.Keep(head.Site, head.Sources, files)
	rewritten, err := c.rewritten(ctx, head)
	if err != nil {
		return findings{}, err
	}
	snapshot, problems := policy.Build(files, policy.Options{Now: now})
	found := newFindings(append(rewritten, problems...), head.Tree, files, snapshot)
	found.text = func(s *review.Source) []byte { return c.text(ctx, s) }
	return found, nil
}

// checkChange checks what the files on disk change since base, under the site
// rules of base.
func checkChange(ctx context.Context, c *checkout, rev string, author policy.Author, now time.Time, p *progress) (findings, error) {
	change, err := c.change(ctx, rev, now, p)
	if err != nil {
		return findings{}, err
	}
	problems, err := c.rewritten(ctx, change.disk)
	if err != nil {
		return findings{}, err
	}
	for _, team := range change.Teams(author) { // who is in them is the forge's to say
		author.Unread = append(author.Unread, team.ID)
	}
	problems = append(problems, change.Problems(author)...)
	found := newFindings(problems, change.merged, change.After, change.Is())
	found.text = func(s *review.Source) []byte { return c.text(ctx, s) }
	found.before = change.Was()
	found.notes = change.notes
	return found, nil
}

func newFindings(problems []registration.Problem, tree review.Tree, files []*registration.File, s *policy.Snapshot) findings {
	f := findings{problems: problems, tree: tree, addresses: s.Len(), after: s}
	for _, file := range files {
		if registration.Kind(file.Path) == registration.KindRegistration {
			f.registrations++
		}
	}
	return f
}

// source is the content of a file that was checked, or nil.
func (f findings) source(path string) []byte { return f.text(f.tree.Find(path)) }

func (f findings) errors() int {
	n := 0
	for _, p := range f.problems {
		if p.Severity != registration.Warning {
			n++
		}
	}
	return n
}

// strays are hints at what stands beside registrations/ and looks as if it
// belonged there: nobody judges it, so all looks well.
func strays(top string, known *policy.Snapshot) (hints []string) {
	const most = 3
	entries, err := os.ReadDir(top)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case len(hints) == most:
			return hints
		case !e.IsDir() && strings.HasSuffix(name, ".cue"):
			hints = append(hints, name+" stands beside "+registerDir+"/ and registers nothing: move it to "+registerDir+"/<department>/")
		case e.IsDir() && known.Department(name) != nil:
			inside, _ := os.ReadDir(filepath.Join(top, name))
			if slices.ContainsFunc(inside, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), ".cue") }) {
				hints = append(hints, name+"/ stands beside "+registerDir+"/ and registers nothing: move its files to "+registerDir+"/"+name+"/")
			}
		}
	}
	return hints
}

// guide is where to read on: about the rule that the first error is of.
func (f findings) guide() string {
	for _, p := range f.problems {
		if p.Severity != registration.Warning {
			return "what a rule means, with an example: " + registerDir + "/README.md#" + string(p.Rule)
		}
	}
	return ""
}

// summary is the last line: what was read and what came of it.
func (f findings) summary() string {
	text := count(f.registrations, "registration", "registrations") + ", " + count(f.addresses, "address", "addresses") + ": "
	errors := f.errors()
	warnings := len(f.problems) - errors
	switch {
	case errors > 0 && warnings > 0:
		return text + count(errors, "error", "errors") + ", " + count(warnings, "warning", "warnings")
	case errors > 0:
		return text + count(errors, "error", "errors")
	case warnings > 0:
		return text + "no errors, " + count(warnings, "warning", "warnings")
	default:
		return text + "no problems"
	}
}
