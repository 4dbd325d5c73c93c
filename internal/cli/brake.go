package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/status"
)

// A releaseOrder asks the relay to let a registration go.
type releaseOrder struct {
	Registration string `json:"registration"`
	Reason       string `json:"reason"`
	For          string `json:"for"`
}

func newBrake(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "brake",
		Short: "See whom the abuse brake has, and release them",
		Long: "See which registrations send much more than such machines do, and what the relay\n" +
			"does about them: slowed down, their mail held, their machines blocked. What is too\n" +
			"much is in the configuration, under brake.",
		Example: "  gatepost brake list\n  gatepost brake release registrations/lsa-physics/mfp.cue --reason 'it was a drill'",
		GroupID: groupRelay,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	socket := addSocket(cmd)
	cmd.AddCommand(newBrakeList(o, socket), newBrakeRelease(o, socket))
	return cmd
}

func newBrakeList(o Options, socket *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the registrations that are braked, the hardest first",
		Example: "  gatepost brake list\n  gatepost brake list --format json",
		Args:    noArguments("one address, with what the brake knows of its registration: gatepost status IP"),
	}
	format := addFormat(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		list := []status.Braked{}
		if err := r.get(cmd.Context(), "/v1/brake", &list); err != nil {
			return err
		}
		if format.value == "json" {
			return writeJSON(o.Stdout, list)
		}
		if _, err := io.WriteString(o.Stdout, status.BrakedText(list)); err != nil {
			return err
		}
		fmt.Fprintln(o.Stderr, count(len(list), "registration is braked", "registrations are braked"))
		return nil
	}
	return cmd
}

func newBrakeRelease(o Options, socket *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release REGISTRATION|IP --reason R",
		Short: "End what the abuse brake does to a registration; its held mail goes on",
		Long: "End what the abuse brake does to a registration: it may send, its queued mail goes\n" +
			"on, and the blocks that the brake made end. What it was braked for is forgotten,\n" +
			"and the brake does not look at it for a time. Look at its mail first:\n" +
			"gatepost queue list --registration FILE.",
		Example: "  gatepost brake release registrations/lsa-physics/mfp.cue --reason 'it was a drill'\n  gatepost brake release 141.211.13.21 --reason 'mailing to all staff, agreed' --for 7d",
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	reason := cmd.Flags().String("reason", "", "why: a `TEXT` for the log")
	lasts := cmd.Flags().String("for", "1d", "for how long the brake does not look at it, up to 30d: a `TIME` such as 2h or 7d; 0s to have it look at once")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fail("gatepost brake release needs one registration, or one of its addresses", "gatepost brake list shows who is braked")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(*reason) == "" {
			return fail("a release needs a reason", "for example: "+commandLine(append(o.Args, "--reason", "it was a drill")...))
		}
		if _, ok := config.ParseDuration(*lasts); !ok {
			return fail(fmt.Sprintf("--for %s: not a length of time", quote(*lasts)), "for example: --for 7d")
		}
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		var got status.BrakeReleased
		if err := r.post(cmd.Context(), "/v1/brake/release", releaseOrder{args[0], *reason, *lasts}, &got); err != nil {
			if told, ok := errors.AsType[*relayError](err); ok && told.code == http.StatusNotFound {
				return hinted(err, "gatepost brake list shows who is braked")
			}
			return err
		}
		looks := "does not look at it for " + printable(got.FreeFor)
		if got.FreeFor == "0s" {
			looks = "looks at it from now on"
		}
		_, err = fmt.Fprintf(o.Stdout, "%s is released; it was at the step %s\n  %s on\n  the brake %s\n",
			printable(got.Registration), printable(got.Before), count(got.Queued, "message in the queue goes", "messages in the queue go"), looks)
		return err
	}
	return cmd
}
