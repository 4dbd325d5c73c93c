package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/review"
)

func newPlan(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan --base REV",
		Short: "Spell out what merging this checkout would do",
		Long: "Spell out what merging this checkout would do to the allowlist: addresses added,\n" +
			"removed, changed and blocked, which senders are newly allowed, who gets a\n" +
			"confirmation, and what the files of those concerned do not show. It compares two\n" +
			"built registers, never two texts.",
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
		c.useShelf(cmd.Context())
		p, stop := startProgress(cmd.Context(), o.Stderr, "planning", "files")
		defer stop()
		plan, err := makePlan(cmd.Context(), c, *base, o.Now(), p)
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
			_, err := io.WriteString(o.Stdout, plan.Markdown(plan.evidence))
			return err
		default:
			return plan.text(o.Stdout)
		}
	}
	return cmd
}

// A planReport is a plan with what a reader wants to know besides.
type planReport struct {
	review.Plan
	was, is  *policy.Snapshot
	evidence *review.Witnesses // nil if none was asked for
	notes    []string          // hints for the person at the terminal
}

// makePlan builds the register at base and as merging the files on disk would
// make it, both under the site rules of base, and compares.
func makePlan(ctx context.Context, c *checkout, rev string, now time.Time, p *progress) (*planReport, error) {
	change, err := c.change(ctx, rev, now, p)
	if err != nil {
		return nil, err
	}
	r := &planReport{Plan: change.Plan(), was: change.Was(), is: change.Is(), notes: change.notes}
	if r.Head, err = c.headName(ctx, change.disk); err != nil {
		return nil, err
	}
	if r.Faulty > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%s with errors left out of the plan; what is wrong: %s",
			count(r.Faulty, "file", "files"), commandLine("check", "--base", rev)))
	}
	return r, nil
}
