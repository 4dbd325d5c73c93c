package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/report"
	"example.edu/gatepost/internal/register/review"
)

func newReport(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report --head COMMIT",
		Short: "Tell a pull request what is wrong with it and what merging it does",
		Long: "Judge the open pull requests whose head is a commit, or a group of the merge\n" +
			"queue, and say on GitHub what was found: one check, '" + report.CheckName + "', with annotations on\n" +
			"the lines, and one comment that is kept up to date. The workflow report.yml runs\n" +
			"it; it can be run by hand just as well.\n\n" +
			"It needs a clone of the register with the branch's newest commit, and its history.\n" +
			"Of the pull request it takes nothing but what GitHub's API says: the rules, the\n" +
			"departments and their speakers are those of the branch that it goes into.\n\n" +
			"The token is that of GITHUB_TOKEN or of --token-file, or an App's. Checks can be\n" +
			"written by an App, or by a workflow with 'checks: write', and by nobody else.\n\n" +
			"A comment has one owner. Where a portal runs it is the portal, which knows besides\n" +
			"where the request is live and what was proved: --comment never leaves it alone.\n\n" +
			"Exit codes: 0 the check passed, or there was nothing to report on; 1 it did not\n" +
			"pass; 2 the forge or this machine did not do its part, and the check has not\n" +
			"passed either.",
		Example: "  gatepost report --head 1b2e5f0c4d7a9e3b6c8d1f2a4b6c8e0d2f4a6b8c\n  gatepost report -C base --repo umich/register --head \"$HEAD\" --app-id 7 --installation 77 --key-file app.pem",
		GroupID: groupRegister,
		Args:    noArguments("for example: gatepost report --head COMMIT"),
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	dir := addDir(cmd)
	f := reporter{o: o}
	flags := cmd.Flags()
	flags.StringVar(&f.head, "head", "", "the `COMMIT` to report on, its full hash")
	flags.StringVar(&f.branch, "branch", "main", "the `BRANCH` that the relay follows")
	flags.StringVar(&f.comment, "comment", commentAlways, "who keeps the comment: '"+commentAlways+"', this command; '"+commentNever+"', somebody else")
	f.addForge(cmd)
	f.evidence = addEvidence(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !fullHash.MatchString(f.head) {
			return fail("gatepost report needs --head, the full hash of a commit", "for example: gatepost report --head $(git rev-parse HEAD)")
		}
		if f.comment != commentAlways && f.comment != commentNever {
			return fail(fmt.Sprintf("--comment knows %s and %s, and not %q", commentAlways, commentNever, f.comment),
				"where a portal runs, leave the comment to it: --comment "+commentNever)
		}
		if err := f.evidence.check(cmd, o); err != nil {
			return err
		}
		c, err := openCheckout(o, *dir)
		if err != nil {
			return err
		}
		defer c.close()
		return f.run(cmd.Context(), c)
	}
	return cmd
}

var fullHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Who keeps the comment.
const (
	commentAlways = "always"
	commentNever  = "never"
)

// A reporter is one run of the command.
type reporter struct {
	o            Options
	head, branch string
	comment      string
	forgeFlags
	evidence *evidenceFlags
}

func (f *reporter) run(ctx context.Context, c *checkout) error {
	github, err := f.open(ctx)
	if err != nil {
		return explainReport(err)
	}
	p, stop := startProgress(ctx, f.o.Stderr, "judging", "files")
	defer stop()
	options := report.Options{
		GitHub: github, Repo: c.git.Repo, Branch: f.branch, URL: thisRun(), Now: f.o.Now, Counter: &p.Counter,
		NoComment: f.comment == commentNever,
	}
	if f.evidence.on {
		options.Evidence = func(ctx context.Context, was, is *policy.Snapshot) (*review.Witnesses, error) {
			return f.evidence.gather(ctx, f.o, was, is)
		}
	}
	out, err := report.Run(ctx, options, f.head)
	stop()
	for _, line := range out.Lines {
		fmt.Fprintln(f.o.Stdout, printable(line))
	}
	if err != nil {
		return explainReport(err)
	}
	if out.Conclusion != "" && out.Conclusion != forge.Success {
		return errProblems
	}
	return nil
}

// thisRun is where the log of the workflow's run is that this is part of, "" if
// it is none.
func thisRun() string {
	server, repository, run := os.Getenv("GITHUB_SERVER_URL"), os.Getenv("GITHUB_REPOSITORY"), os.Getenv("GITHUB_RUN_ID")
	if server == "" || repository == "" || run == "" {
		return ""
	}
	return server + "/" + repository + "/actions/runs/" + run
}

// forgeFlags say which repository at GitHub, and as whom.
type forgeFlags struct {
	repository, api   string
	tokenFile         string
	app, installation int64
	keyFile           string
}

func (f *forgeFlags) addForge(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.repository, "repo", "", "the repository, `OWNER/NAME` (default: $GITHUB_REPOSITORY)")
	f.addSignIn(cmd)
}

// addSignIn adds the flags that say where and as whom.
func (f *forgeFlags) addSignIn(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.api, "api", "", "the `URL` of GitHub's API, or of a GitHub Enterprise server (default: $GITHUB_API_URL, or github.com)")
	flags.StringVar(&f.tokenFile, "token-file", "", "the `FILE` with the token (default: $GITHUB_TOKEN)")
	flags.Int64Var(&f.app, "app-id", 0, "sign in as the App with this `NUMBER`")
	flags.Int64Var(&f.installation, "installation", 0, "the `NUMBER` of the App's installation")
	flags.StringVar(&f.keyFile, "key-file", "", "the `FILE` with the App's private key")
}

// open signs in at the forge.
func (f *forgeFlags) open(ctx context.Context) (*forge.GitHub, error) {
	o := forge.GitHubOptions{Repository: firstOf(f.repository, os.Getenv("GITHUB_REPOSITORY")), Host: firstOf(f.api, os.Getenv("GITHUB_API_URL"))}
	if o.Repository == "" {
		return nil, fail("which repository?", "name it: --repo OWNER/NAME")
	}
	if f.app != 0 || f.installation != 0 || f.keyFile != "" {
		if f.app <= 0 || f.installation <= 0 || f.keyFile == "" || f.tokenFile != "" {
			return nil, fail("an App needs its number, that of its installation, and its key, and no token",
				"for example: --app-id 7 --installation 77 --key-file app.pem")
		}
		key, err := durable.ReadFile(f.keyFile, maxTokenFile)
		if err != nil {
			return nil, fmt.Errorf("reading the App's key: %w", err)
		}
		app, err := forge.NewApp(forge.AppOptions{ID: f.app, Installation: f.installation, Key: key, Host: o.Host})
		if err != nil {
			return nil, err
		}
		who, err := app.Account(ctx)
		if err != nil {
			return nil, err
		}
		o.Token, o.Self = app.Token, who.ID
		return forge.NewGitHub(o)
	}
	token := os.Getenv("GITHUB_TOKEN")
	if f.tokenFile != "" {
		data, err := durable.ReadFile(f.tokenFile, maxTokenFile)
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w", err)
		}
		token = string(data)
	}
	if token = strings.TrimSpace(token); token == "" {
		return nil, fail("no token: who is asking?", "set GITHUB_TOKEN, or give --token-file, or an App's --app-id, --installation and --key-file")
	}
	o.Token = forge.Static(token)
	github, err := forge.NewGitHub(o)
	if err != nil || os.Getenv("GITHUB_ACTIONS") != "true" {
		return github, err
	}
	// A workflow's own token cannot be asked whose it is.
	who, err := github.AccountOf(ctx, "github-actions[bot]")
	if err != nil {
		return nil, err
	}
	o.Self = who.ID
	return forge.NewGitHub(o)
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// explainReport adds the next step to what went wrong with a report.
func explainReport(err error) error {
	switch {
	case errors.Is(err, report.ErrStale):
		return hinted(err, "fetch it, with its history, and run this again: git fetch origin", "in a workflow: run it again; somebody merged meanwhile")
	case errors.Is(err, forge.ErrRefused):
		return hinted(err, "a check can be written by an App, or by a workflow with the permissions checks: write, pull-requests: write and contents: read")
	case errors.Is(err, forge.ErrNotFound):
		return hinted(err, "is the repository right (--repo), and the branch (--branch), and may this token see it?")
	case errors.Is(err, forge.ErrUnreachable), errors.Is(err, forge.ErrLimited):
		return hinted(err, "the check has not passed; run this again")
	}
	return err
}
