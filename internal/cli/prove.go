package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/register/proof"
)

// A proofOrder asks the relay for a token.
type proofOrder struct {
	IP      string `json:"ip"`
	Request int    `json:"request"`
	For     string `json:"for"`
}

func newProve(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prove IP",
		Short: "Hand out a token that proves who has an address",
		Long: "Ask the relay for a token, and print what the machine at IP has to do with it: send\n" +
			"one message to the relay. That proves that whoever got the token has the machine.\n" +
			"Nothing of the message is kept, and nothing becomes registered by it. Give the token\n" +
			"to the department; whether it was used is shown by gatepost status --proofs, and\n" +
			"beside a pull request by gatepost check --evidence --relay.",
		Example: "  gatepost prove 141.211.13.21\n  gatepost prove 141.211.13.21 --request 42 --for 3d\n  gatepost prove 2607:f018:1:13::22 --format json",
		GroupID: groupRelay,
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	socket := addSocket(cmd)
	request := cmd.Flags().Int("request", 0, "the `NUMBER` of the pull request that it is for")
	life := cmd.Flags().String("for", config.FormatDuration(proof.DefaultFor), "how long it is good, up to "+config.FormatDuration(proof.MaxFor)+": a `TIME` such as 12h or 3d")
	format := addFormat(cmd, "text", "json")
	cmd.Args = oneAddress("prove")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		addr, err := parseAddress(o.Args, args[0], nil)
		if err != nil {
			return err
		}
		d, ok := config.ParseDuration(*life)
		if !ok || d < time.Minute || d > proof.MaxFor {
			return fail(fmt.Sprintf("--for %s: not a time from 1m to %s", quote(*life), config.FormatDuration(proof.MaxFor)), "for example: --for 3d")
		}
		if cmd.Flags().Changed("request") && (*request < 1 || *request > proof.MaxRequest) {
			return fail(fmt.Sprintf("--request %d is no number of a pull request", *request), "leave it out if there is no pull request yet")
		}
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		var got proof.Invitation
		if err := r.post(cmd.Context(), "/v1/proofs", proofOrder{addr.String(), *request, config.FormatDuration(d)}, &got); err != nil {
			return err
		}
		if format.value == "json" {
			return writeJSON(o.Stdout, newInvitation(got))
		}
		return printInvitation(o.Stdout, newInvitation(got))
	}
	return cmd
}

// oneAddress is for commands that are about one address.
func oneAddress(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		message := "gatepost " + name + " needs one address"
		if len(args) > 1 {
			message = "gatepost " + name + " takes one address at a time"
		}
		return fail(message, "for example: gatepost "+name+" 141.211.13.21")
	}
}

// An invitation is what the department is told, with commands to paste. Its
// JSON form is the contract of gatepost prove.
type invitation struct {
	proof.Invitation
	Swaks string `json:"swaks"` // to be run on the machine
	Msmtp string `json:"msmtp"`
}

func newInvitation(i proof.Invitation) invitation {
	// The null sender, since a registration may list the senders that it allows,
	// and it is always one of them. The address is bound, as a machine may have
	// several and the token is for one.
	port, swaksTLS, msmtpTLS := i.Relay, "", "--tls=off"
	if port == 0 {
		port, swaksTLS, msmtpTLS = i.Submission, " --tls", "--tls=on --tls-starttls=on"
	}
	family := "-4"
	if i.Addr.Is6() {
		family = "-6"
	}
	return invitation{
		Invitation: i,
		Swaks: fmt.Sprintf("swaks %s --server %s --port %d%s --local-interface %s --from '<>' --to %s",
			family, quote(i.Server), port, swaksTLS, i.Addr, quote(i.To)),
		Msmtp: fmt.Sprintf("echo proof | msmtp --host=%s --port=%d %s --auth=off --source-ip=%s --from= %s",
			quote(i.Server), port, msmtpTLS, i.Addr, quote(i.To)),
	}
}

// printInvitation is for people: the address first and by itself, then what to
// do with it.
func printInvitation(out io.Writer, i invitation) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	purpose := ""
	if i.Request > 0 {
		purpose = " (for request " + strconv.Itoa(i.Request) + ")"
	}
	line("%s", printable(i.To))
	line("")
	line("Any message that %s sends to this address, straight to the relay,", i.Addr)
	line("proves that whoever has this token has the machine%s.", purpose)
	line("It is good until %s. The message is not kept.", moment(i.Expires))
	line("")
	line("A printer or another device: in its settings, let it send mail through")
	line("  %s, %s", printable(i.Server), ports(i.Invitation))
	line("without a user name and a password. Then scan a page to the address above, or")
	line("have the device send its test mail there.")
	line("")
	line("A computer, in a shell on the machine itself:")
	line("  %s", printable(i.Swaks))
	line("or:")
	line("  %s", printable(i.Msmtp))
	line("")
	line("The relay answers: 250 2.0.0 control of %s is proved", i.Addr)
	line("Has it come? gatepost status %s", i.Addr)
	_, err := out.Write(b.Bytes())
	return err
}

// ports says in words where the relay listens.
func ports(i proof.Invitation) string {
	var words []string
	if i.Relay > 0 {
		words = append(words, fmt.Sprintf("port %d", i.Relay))
	}
	if i.Submission > 0 {
		words = append(words, fmt.Sprintf("port %d with STARTTLS", i.Submission))
	}
	return strings.Join(words, " or ")
}

// addressPath asks the relay about one address.
func addressPath(addr netip.Addr) string { return "/v1/status?ip=" + addr.String() }
