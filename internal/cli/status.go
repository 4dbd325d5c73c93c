package cli

import (
	"encoding/json"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/status"
)

func newStatus(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the running relay is",
		Long: "Show how the running relay is: what is wrong and what to do about it, the commit\n" +
			"of the register in force, the queue, blocks that the register does not have.\n" +
			"The exit code is 1 when something is wrong.",
		Example: "  gatepost status\n  gatepost status --format json\n  gatepost status --socket /run/gatepost/other.sock",
		GroupID: groupRelay,
		Args:    noArguments("one message of the queue: gatepost queue show ID; one address: gatepost why IP"),
	}
	socket := addSocket(cmd)
	format := addFormat(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		var raw json.RawMessage
		if err := r.get(cmd.Context(), "/v1/status", &raw); err != nil {
			return err
		}
		var report status.Report
		if err := json.Unmarshal(raw, &report); err != nil {
			return notUnderstood(err)
		}
		if format.value == "json" {
			err = writeJSON(o.Stdout, raw)
		} else {
			_, err = io.WriteString(o.Stdout, report.Text())
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(report.Findings, func(f status.Finding) bool { return f.Level == status.Wrong }) {
			return errProblems
		}
		return nil
	}
	return cmd
}
