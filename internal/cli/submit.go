package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

func newSubmit(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "submit FILE...",
		Short: "Open the pull request for files of the register",
		Long: "Open the pull request for files of the register, as they are on disk; one that\n" +
			"is gone is removed. They are checked first against the base, and nothing is sent\n" +
			"while they have an error. The checkout's branch, index and files stay as they are.\n" +
			"A team whose members the token may not see makes a warning: the check of the pull\n" +
			"request decides then.\n\n" +
			"On GitHub (origin is there, and GITHUB_TOKEN is set) it is a pull request. In a\n" +
			"plain git repository it is a branch request/NUMBER-NAME, made in the repository\n" +
			"that origin names if that is on this disk, else in this one.",
		Example: "  gatepost submit registrations/lsa-physics/mfp.cue\n  gatepost submit --title 'Two printers moved' mfp1.cue mfp2.cue",
		GroupID: groupRegister,
	}
	dir := addDir(cmd)
	s := submission{o: o}
	cmd.Flags().StringVar(&s.base, "base", "main", "the `BRANCH` to merge into")
	cmd.Flags().StringVar(&s.title, "title", "", "the title, one line (default: what happens to which file)")
	cmd.Flags().StringVar(&s.body, "body", "", "the description, in Markdown")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fail("gatepost submit needs the files to submit",
				"for example: "+commandLine(append(o.Args, registerDir+"/lsa-physics/mfp.cue")...), "what differs here: git status "+registerDir)
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := openCheckout(o, *dir)
		if err != nil {
			return err
		}
		defer c.close()
		s.c = c
		return s.run(cmd.Context(), *dir, args)
	}
	cmd.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	return cmd
}

// A submission is one run of the command.
type submission struct {
	o                 Options
	c                 *checkout
	base, title, body string
	target            *target
}

func (s *submission) run(ctx context.Context, dir string, args []string) error {
	paths, err := s.paths(dir, args)
	if err != nil {
		return err
	}
	if s.target, err = findTarget(ctx, s.c.git.Top(), s.base); err != nil {
		return err
	}
	base, err := s.c.at(ctx, s.target.rev)
	if err != nil {
		if !s.target.hasOrigin {
			return err
		}
		return hinted(err, "the branch to merge into is "+quote(s.base)+"; name another with --base, or fetch it: git fetch origin")
	}
	head, changes, err := s.change(ctx, base, paths)
	if err != nil {
		return err
	}
	if err := s.judge(ctx, base, head); err != nil {
		return err
	}
	p := forge.Proposal{
		Base: s.base, Parent: base.commit.String(), Name: nameOf(changes), Title: s.title, Body: s.body,
		At: s.o.Now(), Changes: changes,
	}
	if p.Title == "" {
		p.Title = titleOf(base, changes)
	}
	if p.Author, err = s.target.person(ctx); err != nil {
		return err
	}
	r, err := s.target.open(ctx, p)
	if err != nil {
		if s.c.shallow() {
			err = hinted(err, "this clone has no full history: git fetch --unshallow")
		}
		return err
	}
	if r.URL != "" {
		fmt.Fprintln(s.o.Stdout, printable(r.URL))
	} else {
		fmt.Fprintln(s.o.Stdout, printable(r.Branch))
	}
	for _, hint := range s.target.next(r) {
		fmt.Fprintf(s.o.Stderr, "gatepost: hint: %s\n", printable(hint))
	}
	return nil
}

// paths turns the arguments into paths from the top of the checkout. Only
// files of the register can be submitted.
func (s *submission) paths(dir string, args []string) ([]string, error) {
	top, err := filepath.EvalSymlinks(s.c.git.Top())
	if err != nil {
		return nil, err
	}
	var out []string
	for _, arg := range args {
		abs, err := filepath.Abs(within(dir, arg))
		if err != nil {
			return nil, err
		}
		// The folder may be reached through a symlink, the file may be gone.
		if folder, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
			abs = filepath.Join(folder, filepath.Base(abs))
		}
		rel, err := filepath.Rel(top, abs)
		if err != nil {
			return nil, err
		}
		p := filepath.ToSlash(rel)
		if kind := registration.Kind(p); kind == registration.KindIgnored {
			return nil, fail(arg+" is not a file of the register", "registrations are .cue files in "+registerDir+"/<department>/; anything else is committed and pushed with git")
		}
		out = append(out, p)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// change is the base with the named files as they are on disk, and what that
// changes. Other files that differ on disk are none of this.
func (s *submission) change(ctx context.Context, base *tree, paths []string) (*tree, []forge.Change, error) {
	head := &tree{Tree: review.Tree{Site: base.Site, Sources: slices.Clone(base.Sources)}}
	var changes []forge.Change
	for _, p := range paths {
		entries, err := s.c.git.DiskFiles(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		found, err := s.c.diskSources(ctx, entries)
		if err != nil {
			return nil, nil, err
		}
		i, had := slices.BinarySearchFunc(head.Sources, p, func(s review.Source, p string) int { return strings.Compare(s.Path, p) })
		switch {
		case len(found) == 1 && found[0].Path == p && had && found[0].Same(head.Sources[i]):
			continue
		case len(found) == 1 && found[0].Path == p && had:
			head.Sources[i] = found[0]
			changes = append(changes, forge.Change{Path: p, Data: found[0].Data})
		case len(found) == 1 && found[0].Path == p:
			head.Sources = slices.Insert(head.Sources, i, found[0])
			changes = append(changes, forge.Change{Path: p, Data: found[0].Data})
		case len(found) == 0 && had:
			head.Sources = slices.Delete(head.Sources, i, i+1)
			changes = append(changes, forge.Change{Path: p, Remove: true})
		case len(found) == 0:
			return nil, nil, fail("there is no file "+p+", neither on disk nor in "+s.target.rev, "the files that differ: git status "+registerDir)
		default:
			return nil, nil, fail(p+" is a folder", "name the files in it: "+registerDir+"/lsa-physics/mfp.cue")
		}
	}
	if len(changes) == 0 {
		return nil, nil, fail("there is nothing to submit: "+s.target.rev+" says all of this already", "is it merged already? gatepost why IP tells since when")
	}
	return head, changes, nil
}

// judge refuses what a check of the pull request would.
func (s *submission) judge(ctx context.Context, base, head *tree) error {
	p, stop := startProgress(ctx, s.o.Stderr, "checking", "files")
	defer stop()
	change, err := review.Read(ctx, base.Tree, head.Tree, s.o.Now(), s.c.shelf, &p.Counter)
	if err != nil {
		return explainTree(err)
	}
	author, err := s.target.author(ctx, change)
	if err != nil {
		return err
	}
	stop()
	shown, errors := reportable(change.Problems(author))
	if err := problemsText(s.o.Stderr, shown); err != nil {
		return err
	}
	if errors > 0 {
		fmt.Fprintf(s.o.Stderr, "%s: nothing was submitted\n", count(errors, "error", "errors"))
		return errProblems
	}
	return nil
}

// reportable are the problems that whoever submits has to see, and how many of
// them are errors. What stood there before is none of this request, but whether
// its author may make it is: that this could not be told is never left out.
func reportable(problems []registration.Problem) (shown []registration.Problem, errors int) {
	for _, p := range problems {
		switch {
		case p.Severity != registration.Warning:
			errors++
		case p.Rule != registration.RuleAuthorNotSpeaker:
			continue
		}
		shown = append(shown, p)
	}
	return shown, errors
}

// nameOf names the branch after the first file.
func nameOf(changes []forge.Change) string {
	return strings.TrimSuffix(strings.TrimPrefix(changes[0].Path, registerDir+"/"), ".cue")
}

// titleOf says what happens to which file.
func titleOf(base *tree, changes []forge.Change) string {
	c := changes[0]
	_, had := slices.BinarySearchFunc(base.Sources, c.Path, func(s review.Source, p string) int { return strings.Compare(s.Path, p) })
	verb := "Register "
	switch {
	case c.Remove:
		verb = "Remove "
	case had || registration.Kind(c.Path) == registration.KindCampus:
		verb = "Change "
	case registration.Kind(c.Path) == registration.KindBlock:
		verb = "Block: "
	}
	title := verb + nameOf(changes)
	if more := len(changes) - 1; more > 0 {
		title += fmt.Sprintf(" and %s", count(more, "more file", "more files"))
	}
	if len(title) > 180 {
		title = verb + count(len(changes), "file", "files")
	}
	return printable(title)
}

// gitPerson is who git says commits are by.
func gitPerson(ctx context.Context, g *forge.Git) (forge.Person, error) {
	p := forge.Person{Name: os.Getenv("GIT_AUTHOR_NAME"), Email: os.Getenv("GIT_AUTHOR_EMAIL")}
	if p.Name != "" && p.Email != "" {
		return p, nil
	}
	set, err := g.Person(ctx)
	if err != nil {
		return p, err
	}
	if p.Name == "" {
		p.Name = set.Name
	}
	if p.Email == "" {
		p.Email = set.Email
	}
	return p, nil
}

// explainOpen adds the next step to what a forge says.
func explainOpen(err error) error {
	switch {
	case errors.Is(err, forge.ErrRefused), errors.Is(err, forge.ErrNotFound):
		return hinted(err, "GITHUB_TOKEN must be able to read and write contents and pull requests of this repository",
			"if you may not write to it: push a branch to a fork, and open the pull request from there")
	case errors.Is(err, forge.ErrUnreachable), errors.Is(err, forge.ErrLimited):
		return hinted(err, "the same command, run again, goes on where this ended")
	}
	return err
}
