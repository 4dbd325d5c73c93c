package cli

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/demo"
	"example.edu/gatepost/internal/mail"
)

func newDemo(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Show everything on the loopback network, nothing to configure",
		Long:    "Show everything on the loopback network: a register in a git repository, the\nrelay, the portal in your browser, and an inbox that shows what arrives. Nothing\nto configure, no root, no network; Ctrl-C ends it and leaves nothing behind.",
		GroupID: groupRelay,
		Args:    noArguments("to send a mail through the demo: gatepost demo send"),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := demo.Run(cmd.Context(), demo.Options{Out: o.Stdout, Program: demoProgram()})
		switch {
		case errors.Is(err, demo.ErrNoGit):
			return hinted(err, "install git and try again; the register is a git repository")
		case errors.Is(err, demo.ErrNoFolder):
			return hinted(err, "for example: TMPDIR=$HOME "+demoProgram()+" demo")
		}
		return err
	}
	cmd.AddCommand(newDemoSend(o))
	return cmd
}

func newDemoSend(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "send",
		Short:   "Send one mail to the running demo, as a printer would, and show the dialog",
		Example: "  gatepost demo send\n  gatepost demo send --from-ip 127.0.0.2\n  gatepost demo send --tls",
		Args:    noArguments("the address to send from: gatepost demo send --from-ip 127.0.0.2"),
	}
	from := cmd.Flags().String("from-ip", "127.0.0.1", "the `ADDRESS` to connect from")
	secure := cmd.Flags().Bool("tls", false, "use port 587's behaviour: STARTTLS")
	server := cmd.Flags().String("server", "", "the relay's `HOST:PORT`; the demo's usual one by default")
	to := cmd.Flags().String("to", "someone@example.org", "the `MAILBOX` to send to, such as the one that proves control of an address")
	subject := cmd.Flags().String("subject", "Scan from the demo", "the mail's `SUBJECT`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		addr, err := netip.ParseAddr(*from)
		if err != nil {
			return fail(quote(*from)+" is no IP address", "for example: gatepost demo send --from-ip 127.0.0.2")
		}
		if strings.ContainsAny(*subject, "\r\n") {
			return fail("a subject is one line", "leave the line break out")
		}
		recipient, err := mail.ParseAddress(*to, false)
		if err != nil {
			return fail(quote(*to)+" is no mailbox", "for example: gatepost demo send --to someone@example.org")
		}
		standard := demo.RelayAddr
		if *secure {
			standard = demo.SubmissionAddr
		}
		accepted, err := demo.Send(cmd.Context(), o.Stdout, demo.Mail{
			Server: cmp.Or(*server, standard), From: addr, StartTLS: *secure, To: recipient.String(), Subject: *subject,
		})
		switch {
		case err != nil:
			return hinted(err, "is the demo running? make demo, in another terminal")
		case !accepted:
			return errProblems
		}
		return nil
	}
	return cmd
}

// program is how this program was started, in a form that works from the same
// folder.
func demoProgram() string {
	self, err := os.Executable()
	if err != nil {
		return "gatepost"
	}
	wd, err := os.Getwd()
	if err != nil {
		return self
	}
	if rel, err := filepath.Rel(wd, self); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return self
}
