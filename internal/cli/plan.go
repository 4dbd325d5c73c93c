package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

func newPlan(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan --base REV",
		Short: "Spell out what merging this checkout would do",
		Long: "Spell out what merging this checkout would do to the allowlist: addresses added,\n" +
			"removed, changed and blocked, and who gets a confirmation. It compares two built\n" +
			"registers, never two texts.",
		Example: "  gatepost plan --base origin/main\n  gatepost plan --base origin/main --format markdown",
		GroupID: groupRegister,
		Args:    noArguments("for example: gatepost plan --base origin/main"),
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	dir := addDir(cmd)
	base := cmd.Flags().String("base", "", "compare with `REV`: a branch, a tag or a commit")
	format := addFormat(cmd, "text", "json", "markdown")
	asked := addEvidence(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *base == "" {
			return fail("gatepost plan needs --base, what to compare with", "for example: "+commandLine(append(o.Args, "--base", "origin/main")...))
		}
		if err := asked.check(cmd, o); err != nil {
			return err
		}
		c, err := openCheckout(o, *dir)
		if err != nil {
			return err
		}
		defer c.close()
		p, stop := startProgress(cmd.Context(), o.Stderr, "planning", "files")
		defer stop()
		plan, err := makePlan(cmd.Context(), c, *base, p)
		if err != nil {
			return err
		}
		stop()
		if plan.evidence, err = asked.gather(cmd.Context(), o, plan.was, plan.is); err != nil {
			return err
		}
		for _, note := range plan.notes {
			fmt.Fprintf(o.Stderr, "gatepost: hint: %s\n", printable(note))
		}
		switch format.value {
		case "json":
			return plan.json(o.Stdout)
		case "markdown":
			return plan.markdown(o.Stdout)
		default:
			return plan.text(o.Stdout)
		}
	}
	return cmd
}

// A planReport is a plan with what a reader wants to know besides.
type planReport struct {
	policy.Plan
	was, is       *policy.Snapshot
	before, after int        // registered addresses
	faulty        int        // files with errors, which the plan leaves out
	evidence      *witnesses // nil if none was asked for
	notes         []string   // hints for the person at the terminal
}

// makePlan builds the register at base and on disk, both under the site rules
// of base, and compares.
func makePlan(ctx context.Context, c *checkout, rev string, p *progress) (*planReport, error) {
	base, err := c.at(ctx, rev)
	if err != nil {
		return nil, err
	}
	head, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	name, err := c.headName(ctx, head)
	if err != nil {
		return nil, err
	}
	before, after, err := parseChange(ctx, base, head, p)
	if err != nil {
		return nil, err
	}
	was, _ := policy.Build(before, policy.Options{Commit: base.commit.String()})
	is, problems := policy.Build(after, policy.Options{Commit: name, Incumbents: was})
	r := &planReport{Plan: policy.NewPlan(was, is), was: was, is: is, before: was.Len(), after: is.Len(), faulty: faultyFiles(problems)}
	if hint := c.behind(ctx, base.commit, rev); hint != "" {
		r.notes = append(r.notes, hint)
	}
	if r.faulty > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%s with errors left out of the plan; what is wrong: %s",
			count(r.faulty, "file", "files"), commandLine("check", "--base", rev)))
	}
	return r, nil
}

// faultyFiles counts the files that have an error.
func faultyFiles(problems []registration.Problem) int {
	files := map[string]bool{}
	for _, p := range problems {
		if p.Severity != registration.Warning {
			files[p.File] = true
		}
	}
	return len(files)
}
