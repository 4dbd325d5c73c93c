package cli

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// An acceptance asks the relay to go on with a commit that it holds back.
type acceptance struct {
	Commit string `json:"commit"`
	Reason string `json:"reason"`
}

var commitShape = regexp.MustCompile(`^[0-9a-fA-F]{7,64}$`)

func newAccept(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "accept COMMIT --reason R",
		Short:   "Let the relay go on with a commit of the register that it holds back",
		Long:    "Let the relay go on with a commit of the register that it holds back:\na rewritten history, a change that removes too much of the allowlist, or one\nthat nobody vouches for; your word then counts for that commit and no other.\nThe reason is logged and shown by gatepost status.",
		Example: `  gatepost accept 3f2a9c1 --reason "the renumbering of physics, ticket 4711"`,
		GroupID: groupRelay,
	}
	socket := addSocket(cmd)
	reason := cmd.Flags().String("reason", "", "why: a `TEXT` for the log and the status page")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fail("gatepost accept needs one commit", "gatepost status shows the commit that is held back",
				`for example: gatepost accept 3f2a9c1 --reason "the renumbering of physics"`)
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		commit := args[0]
		if !commitShape.MatchString(commit) {
			return fail(fmt.Sprintf("%s is not a commit's hash", quote(commit)), "gatepost status shows the commit that is held back")
		}
		if strings.TrimSpace(*reason) == "" {
			return fail("an acceptance needs a reason", "for example: "+commandLine(append(o.Args, "--reason", "the renumbering of physics")...))
		}
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		if err := r.post(cmd.Context(), "/v1/register/accept", acceptance{strings.ToLower(commit), *reason}, nil); err != nil {
			if told, ok := errors.AsType[*relayError](err); ok && told.code == http.StatusNotFound {
				return hinted(err, "gatepost status shows the commit that is held back")
			}
			return err
		}
		_, err = fmt.Fprintf(o.Stdout, "accepted %s\n", commit)
		return err
	}
	return cmd
}
