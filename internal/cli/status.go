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
			"much, its last refusals, and whether control of it was proved. The exit code is 1\n" +
			"when it may not send.",
		Example: "  gatepost status\n  gatepost status 141.211.13.21\n  gatepost status --blocks\n  gatepost status --proofs\n  gatepost status --format json\n  gatepost status --socket /run/gatepost/other.sock",
		GroupID: groupRelay,
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	socket := addSocket(cmd)
	proofs := cmd.Flags().Bool("proofs", false, "list the proofs of control that this relay has recorded, the newest first")
	listed := cmd.Flags().Bool("blocks", false, "list all blocks: by command, of the local file, of the register")
	cmd.MarkFlagsMutuallyExclusive("proofs", "blocks")
	format := addFormat(cmd, "text", "json")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return fail("gatepost status takes one address at a time", "for example: gatepost status 141.211.13.21")
		case len(args) == 1 && *proofs:
			return fail("--proofs lists those of all addresses", "of one, with all else that is known of it: gatepost status "+quote(args[0]))
		case len(args) == 1 && *listed:
			return fail("--blocks lists all blocks", "those of one address, with all else that is known of it: gatepost status "+quote(args[0]))
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
		if *listed {
			return listBlocks(cmd.Context(), o, r, format.value)
		}
		if *proofs {
			return listProofs(cmd.Context(), o, r, format.value)
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
		return a.Text(), a.Standing != status.MaySend, nil
	}
	var r status.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", false, notUnderstood(err)
	}
	return r.Text(), slices.ContainsFunc(r.Findings, func(f status.Finding) bool { return f.Level == status.Wrong }), nil
}

// maxProofLine bounds one line of the relay's list of proofs, in octets.
const maxProofLine = 4 << 10

// listProofs prints the relay's list.
func listProofs(ctx context.Context, o Options, r *relay, format string) error {
	body, err := r.call(ctx, http.MethodGet, "/v1/proofs", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	list := []status.Proof{}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxProofLine)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var p status.Proof
		if err := json.Unmarshal(line, &p); err != nil {
			return notUnderstood(err)
		}
		if list = append(list, p); len(list) > proof.MaxRecords {
			return fmt.Errorf("the relay's list has over %s proofs", thousands(proof.MaxRecords))
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the relay's list after %s: %w", count(len(list), "proof", "proofs"), err)
	}
	if format == "json" {
		return writeJSON(o.Stdout, list)
	}
	if len(list) > 0 {
		if _, err := io.WriteString(o.Stdout, status.ProofsText(list)); err != nil {
			return err
		}
	}
	fmt.Fprintln(o.Stderr, count(len(list), "proof of control", "proofs of control"))
	return nil
}
