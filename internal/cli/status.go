package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/relay/activity"
	"example.edu/gatepost/internal/status"
)

func newStatus(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [IP]",
		Short: "Show how the running relay is, or what it knows of one address",
		Long: "Show how the running relay is: what is wrong and what to do about it, the commit\n" +
			"of the register in force, the queue, blocks that the register does not have.\n" +
			"The exit code is 1 when something is wrong.\n\n" +
			"With an address: whether it may send, who registered it, when it last sent and how\n" +
			"much, which leniencies of its device profile it has needed, its last refusals, and\n" +
			"whether control of it was proved. The exit code is 1 when it may not send.",
		Example: "  gatepost status\n  gatepost status 141.211.13.21\n  gatepost status --blocks\n  gatepost status --senders\n  gatepost status --strangers\n  gatepost status --leniencies\n  gatepost status --proofs\n  gatepost status --format json\n  gatepost status --socket /run/gatepost/other.sock",
		GroupID: groupRelay,
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	socket := addSocket(cmd)
	flags := cmd.Flags()
	proofs := flags.Bool("proofs", false, "list the proofs of control that this relay has recorded, the newest first")
	senders := flags.Bool("senders", false, "list the registrations that have sent in the last 30 days, the most mail first")
	strangers := flags.Bool("strangers", false, "list the campus addresses that are not registered and tried in the last 7 days, the newest first")
	leniencies := flags.Bool("leniencies", false, "list what the register allows old machines, and whether they have needed it in the last 30 days")
	listed := flags.Bool("blocks", false, "list all blocks: by command, of the local file, of the register")
	format := addFormat(cmd, "text", "json")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		lists := 0
		for _, flag := range []string{"proofs", "blocks", "senders", "strangers", "leniencies"} {
			if !flags.Changed(flag) {
				continue
			}
			if lists++; lists > 1 {
				return fail("gatepost status shows one list at a time", "for example: gatepost status --"+flag)
			}
			if len(args) == 1 {
				return fail("--"+flag+" lists those of all addresses", "of one, with all else that is known of it: gatepost status "+quote(args[0]))
			}
		}
		if len(args) > 1 {
			return fail("gatepost status takes one address at a time", "for example: gatepost status 141.211.13.21")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := "/v1/status"
		if len(args) == 1 {
			addr, err := parseAddress(o.Args, args[0], nil)
			if err != nil {
				return hinted(err, "one message of the queue: gatepost queue show ID")
			}
			path = addressPath(addr)
		}
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		switch {
		case *listed:
			return listBlocks(cmd.Context(), o, r, format.value)
		case *proofs:
			return printList(cmd.Context(), o, r, format.value, relayList[status.Proof]{
				"/v1/proofs", proof.MaxRecords, status.ProofsText, "proof of control", "proofs of control"})
		case *leniencies:
			return printList(cmd.Context(), o, r, format.value, relayList[status.Allowance]{
				"/v1/leniencies", maxLeniencies, status.AllowancesText, "leniency is allowed", "leniencies are allowed"})
		case *senders:
			return printList(cmd.Context(), o, r, format.value, relayList[status.Sender]{
				"/v1/senders", maxSenders, status.SendersText, "registration has sent in 30 days", "registrations have sent in 30 days"})
		case *strangers:
			return printList(cmd.Context(), o, r, format.value, relayList[status.Stranger]{
				"/v1/strangers", activity.MaxStrangers, status.StrangersText, "unregistered address tried in 7 days", "unregistered addresses tried in 7 days"})
		}
		var raw json.RawMessage
		if err := r.get(cmd.Context(), path, &raw); err != nil {
			return err
		}
		text, wrong, err := readStatus(raw, len(args) == 1)
		if err != nil {
			return err
		}
		if format.value == "json" {
			err = writeJSON(o.Stdout, raw)
		} else {
			_, err = io.WriteString(o.Stdout, text)
		}
		if err == nil && wrong {
			return errProblems
		}
		return err
	}
	return cmd
}

// readStatus reads the relay's answer, on itself or on one address, and says
// whether something is wrong.
func readStatus(raw []byte, address bool) (text string, wrong bool, err error) {
	if address {
		var a status.Address
		if err := json.Unmarshal(raw, &a); err != nil {
			return "", false, notUnderstood(err)
		}
		return a.Text(), a.Standing != status.MaySend || a.Stopped(), nil
	}
	var r status.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", false, notUnderstood(err)
	}
	return r.Text(), slices.ContainsFunc(r.Findings, func(f status.Finding) bool { return f.Level == status.Wrong }), nil
}

const (
	maxListLine   = 4 << 10 // octets of one line of a list of the relay's
	maxLeniencies = 4 * activity.MaxKnown
	maxSenders    = activity.MaxKnown + 1 // registrations that send, and what is registered no more
)

// A relayList is a list that the relay has, one JSON value a line.
type relayList[T any] struct {
	path      string
	most      int
	text      func([]T) string
	one, many string // what it lists
}

// printList prints a list of the relay's.
func printList[T any](ctx context.Context, o Options, r *relay, format string, l relayList[T]) error {
	body, err := r.call(ctx, http.MethodGet, l.path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	list := []T{}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxListLine)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return notUnderstood(err)
		}
		if list = append(list, v); len(list) > l.most {
			return fmt.Errorf("the relay's list has over %s lines", thousands(l.most))
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the relay's list after %s: %w", count(len(list), "line", "lines"), err)
	}
	if format == "json" {
		return writeJSON(o.Stdout, list)
	}
	if len(list) > 0 {
		if _, err := io.WriteString(o.Stdout, l.text(list)); err != nil {
			return err
		}
	}
	fmt.Fprintln(o.Stderr, count(len(list), l.one, l.many))
	return nil
}
