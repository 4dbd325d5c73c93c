package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/relay/blocks"
	"example.edu/gatepost/internal/status"
)

// An unblockOrder asks the relay to take a block back.
type unblockOrder struct {
	Prefix string `json:"prefix"`
}

// A blockOrder asks the relay to block a prefix.
type blockOrder struct {
	Prefix string `json:"prefix"`
	Reason string `json:"reason"`
	For    string `json:"for,omitempty"`
	Wide   bool   `json:"wide,omitempty"`
}

func newBlock(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "block [IP|PREFIX --reason R]",
		Short: "Keep an address or a network from sending, at once; or list the blocks",
		Long: "Keep an address or a network from sending, whatever the register says: new\n" +
			"connections are refused at once, open ones at their next command, and its mail in\n" +
			"the queue is held. It needs no git and holds over a restart, on this relay alone;\n" +
			"gatepost status shows it until the register has a block of its own.\n" +
			"Blocking again changes the reason and the end.\n\n" +
			"Without an argument, list every block: by command, of the local file, of the register.",
		Example: "  gatepost block 141.211.13.21 --reason 'sends 40 messages a second'\n  gatepost block 141.211.13.0/24 --reason 'worm, ticket 4711' --for 2h\n  gatepost block\n  gatepost unblock 141.211.13.21",
		GroupID: groupRelay,
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	socket := addSocket(cmd)
	reason := cmd.Flags().String("reason", "", fmt.Sprintf("why: a `TEXT` of up to %d characters for the log and for status; the client does not see it", blocks.MaxReason))
	lasts := cmd.Flags().String("for", "", "how long, up to "+config.FormatDuration(blocks.MaxFor)+": a `TIME` such as 2h or 3d; without it, until it is taken back")
	wide := cmd.Flags().Bool("wide", false, "a network of "+blocks.WideWords()+", or of very many registered addresses, is meant")
	format := addFormat(cmd, "text", "json")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		changed := cmd.Flags().Changed
		switch {
		case len(args) > 1:
			return fail("gatepost block takes one address or network at a time", "the reason goes behind --reason, in quotes: gatepost block "+quote(args[0])+" --reason 'sends spam'")
		case len(args) == 0 && (changed("reason") || changed("for") || changed("wide")):
			return fail("gatepost block does not say what to block", "for example: gatepost block 141.211.13.21 --reason 'sends spam'")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		order := blockOrder{Reason: *reason, Wide: *wide}
		if len(args) == 1 {
			p, err := parsePrefix(o.Args, args[0])
			if err != nil {
				return err
			}
			order.Prefix = blocks.Text(p)
			if order.For, err = checkBlock(o.Args, order.Reason, *lasts, cmd.Flags().Changed("for")); err != nil {
				return err
			}
		}
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		if len(args) == 0 {
			return listBlocks(cmd.Context(), o, r, format.value)
		}
		var got status.BlockAdded
		if err := r.post(cmd.Context(), "/v1/blocks", order, &got); err != nil {
			return err
		}
		if format.value == "json" {
			err = writeJSON(o.Stdout, got)
		} else {
			err = printBlocked(o.Stdout, got)
		}
		if err == nil && got.Unsaved != "" {
			return fail("it is in force, and not on the disk: a restart of the relay would lose it: "+got.Unsaved,
				"make room on the disk of the relay's state folder, or mend it; the relay tries again each minute, and gatepost status says how it stands")
		}
		return err
	}
	return cmd
}

// checkBlock checks a reason and a time, and returns the time as the relay
// takes it.
func checkBlock(args []string, reason, lasts string, limited bool) (string, error) {
	if _, err := blocks.ParseReason(reason); err != nil {
		if strings.TrimSpace(reason) == "" {
			example := commandLine(append(args, "--reason", "sends spam")...)
			if slices.ContainsFunc(args, func(a string) bool { return a == "--reason" || strings.HasPrefix(a, "--reason=") }) {
				example = "--reason 'sends spam'" // given, and empty
			}
			return "", fail("a block needs a reason", "for example: "+example)
		}
		return "", fail(err.Error(), "a few words: what happened, and perhaps the number of a ticket")
	}
	if !limited {
		return "", nil
	}
	d, ok := config.ParseDuration(lasts)
	if !ok || d < blocks.MinFor || d > blocks.MaxFor {
		return "", fail(fmt.Sprintf("--for %s: not a time from %s to %s", quote(lasts), config.FormatDuration(blocks.MinFor), config.FormatDuration(blocks.MaxFor)),
			"for example: --for 2h", "leave it out for a block that stays until it is taken back")
	}
	return lasts, nil
}

// parsePrefix reads an address or a network, and says what was meant if it is
// neither.
func parsePrefix(args []string, s string) (netip.Prefix, error) {
	p, err := blocks.ParsePrefix(s)
	if err == nil {
		return p, nil
	}
	if given, bad := netip.ParsePrefix(s); bad == nil && !given.Addr().Is4In6() {
		return p, fail(fmt.Sprintf("%s has bits beyond its length", quote(s)),
			"for the network: "+corrected(args, s, given.Masked().String()),
			"for the one address: "+corrected(args, s, given.Addr().String()))
	}
	if around, ok := spanned(s); ok {
		return p, fail(quote(s)+" is a range, and what is blocked is an address or a network", "the smallest network with both ends is "+around.String()+": "+corrected(args, s, around.String()))
	}
	message := quote(s) + " is neither an address nor a network"
	if f, ok := errors.AsType[*failure](second(parseAddress(args, s, nil))); ok && len(f.hints) > 0 && strings.HasPrefix(f.hints[0], "did you mean: ") {
		return p, fail(message, f.hints[0])
	}
	return p, fail(message, "for example: "+corrected(args, s, "141.211.13.21"), "the addresses of a machine by its name: host "+quote(s))
}

func second[T any](_ T, err error) error { return err }

// spanned is the smallest network that holds both ends of a range, A-B.
func spanned(s string) (netip.Prefix, bool) {
	first, last, _ := strings.Cut(s, "-")
	a, err := netip.ParseAddr(strings.TrimSpace(first))
	b, bad := netip.ParseAddr(strings.TrimSpace(last))
	if err != nil || bad != nil || a.BitLen() != b.BitLen() || a.Zone()+b.Zone() != "" || a.Is4In6() || b.Is4In6() {
		return netip.Prefix{}, false
	}
	p := netip.PrefixFrom(a, a.BitLen())
	for !p.Contains(b) {
		p = netip.PrefixFrom(a, p.Bits()-1).Masked()
	}
	return p, true
}

// printBlocked says what is in force now, and what is to be done.
func printBlocked(w io.Writer, got status.BlockAdded) error {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	name := printable(got.Prefix)
	p("%s is blocked, %s", name, got.End())
	if was := got.Before; was != nil {
		p("  it was already, %s: %s", was.End(), printable(was.Reason))
	}
	single := !strings.Contains(got.Prefix, "/")
	switch {
	case single && got.Registered == 0:
		p("  it is not registered")
	case single:
		p("  it is registered, in %s", printable(got.Registration))
	case got.Registered == 0:
		p("  no registered address is in it")
	default:
		in := ""
		if got.Registration != "" {
			in = " (" + printable(got.Registration) + ")"
		}
		p("  %s in it, and cannot send%s", count(got.Registered, "registered address is", "registered addresses are"), in)
	}
	held := count(got.Held, "message in the queue is held", "messages in the queue are held")
	if got.HeldMore {
		p("  %s, and perhaps more: not all of it was looked at", held)
	} else if got.Held > 0 {
		p("  %s", held)
	}
	if got.Agreed != "" {
		p("  the register blocks it as well, in %s", printable(got.Agreed))
	} else {
		p("  this relay alone knows it; for all relays, add registrations/blocks/%s.cue to the register:", got.Since.UTC().Format(time.DateOnly)+"-"+strings.NewReplacer(":", "-", "/", "_").Replace(name))
		p("    %s", registerBlock(got.Blocked))
	}
	p("to end it: gatepost unblock %s", name)
	_, err := w.Write(b.Bytes())
	return err
}

// registerBlock is the file of the register that does what a block by command
// does.
func registerBlock(k status.Blocked) string {
	kind := "ip"
	if strings.Contains(k.Prefix, "/") {
		kind = "prefix"
	}
	until := ""
	if !k.Until.IsZero() {
		until = fmt.Sprintf(", until: %q", k.Until.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("block: {%s: %q, reason: %s, since: %q%s}", kind, printable(k.Prefix), strconv.Quote(k.Reason), k.Since.UTC().Format(time.RFC3339), until)
}

func newUnblock(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unblock IP|PREFIX",
		Short: "Take a block by command back; its held mail goes on",
		Long: "Take a block that was made with gatepost block back, at once; mail in the queue that\n" +
			"it held goes on. What the register or the local file blocks stays blocked, and is\n" +
			"told with the file, and how to end it there.",
		Example: "  gatepost unblock 141.211.13.21\n  gatepost unblock 141.211.13.0/24",
		GroupID: groupRelay,
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	socket := addSocket(cmd)
	format := addFormat(cmd, "text", "json")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		message := "gatepost unblock needs one address or network"
		if len(args) > 1 {
			message = "gatepost unblock takes one address or network at a time"
		}
		return fail(message, "gatepost block lists the blocks", "for example: gatepost unblock 141.211.13.21")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := parsePrefix(o.Args, args[0])
		if err != nil {
			return err
		}
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		var got status.BlockEnded
		if err := r.post(cmd.Context(), "/v1/blocks/end", unblockOrder{blocks.Text(p)}, &got); err != nil {
			return err
		}
		if format.value == "json" {
			return writeJSON(o.Stdout, got)
		}
		return printUnblocked(o.Stdout, got)
	}
	return cmd
}

// printUnblocked says what has ended, and what has not.
func printUnblocked(w io.Writer, got status.BlockEnded) error {
	var b bytes.Buffer
	name := printable(got.Prefix)
	byBrake := strings.HasPrefix(got.Reason, status.ByBrake)
	if len(got.Still) == 0 {
		fmt.Fprintf(&b, "%s is no longer blocked\n", name)
		if got.Queued > 0 && !byBrake {
			perhaps := ""
			if got.QueuedMore {
				perhaps = "; there may be more"
			}
			fmt.Fprintf(&b, "  %s%s\n", count(got.Queued, "message in the queue goes on, unless something else holds it", "messages in the queue go on, unless something else holds them"), perhaps)
		}
	} else {
		fmt.Fprintf(&b, "%s is no longer blocked by command, and still blocked:\n", name)
		for _, k := range got.Still {
			as := ""
			if k.Prefix != got.Prefix {
				as = "as part of " + printable(k.Prefix) + ", "
			}
			fmt.Fprintf(&b, "  %s%s, %s: %s\n", as, k.Place(), k.End(), printable(k.Reason))
		}
	}
	if byBrake {
		fmt.Fprintf(&b, "  the abuse brake made that block, and goes on with its registration; to end that: gatepost brake release %s --reason '…'\n", name)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Bounds of the relay's list of blocks.
const (
	maxBlockLine = 16 << 10 // octets of one; a reason of the register has up to 1,000 characters
	maxBlockList = 200_000  // blocks, the register's included
)

// listBlocks prints the relay's list.
func listBlocks(ctx context.Context, o Options, r *relay, format string) error {
	body, err := r.call(ctx, http.MethodGet, "/v1/blocks", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	list := []status.Blocked{}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxBlockLine)
	for lines.Scan() {
		var k status.Blocked
		if err := json.Unmarshal(lines.Bytes(), &k); err != nil {
			return notUnderstood(err)
		}
		if list = append(list, k); len(list) > maxBlockList {
			return errors.New("the relay's list has over " + thousands(maxBlockList) + " blocks")
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the relay's list after %s: %w", count(len(list), "block", "blocks"), err)
	}
	if format == "json" {
		return writeJSON(o.Stdout, list)
	}
	if _, err := io.WriteString(o.Stdout, status.BlocksText(list, o.Now())); err != nil {
		return err
	}
	fmt.Fprintln(o.Stderr, count(len(list), "block", "blocks"))
	return nil
}
