package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
	"example.edu/gatepost/internal/relay/trace"
	"example.edu/gatepost/internal/status"
)

// A traced is what the relay knows of one message.
type traced struct {
	ID      spool.ID        `json:"id"`
	Queued  json.RawMessage `json:"queued"`
	Records []trace.Record  `json:"records"`
	Since   time.Time       `json:"since"`
}

func newTrace(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace ID",
		Short: "Follow one message from its connection to the last reply, also after it was delivered",
		Long: "Follow one message: where it came from and what allowed it, what became of each\n" +
			"recipient and in which words, who was told. Of what has left the queue the relay\n" +
			"remembers about 200,000 messages, for 30 days at most; of several attempts it has the\n" +
			"last. The log has all of them: journalctl -u gatepostd --grep ID.",
		Example:           "  gatepost trace 1j13dntg4jj2ng2\n  gatepost trace 1j13dntg4jj2ng2 --format json",
		GroupID:           groupRelay,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	socket := addSocket(cmd)
	format := addFormat(cmd, "text", "json")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) != 1:
			return fail("gatepost trace needs the id of one message", "the relay's 250 reply to the client tells it, its log, and its Received line in the message")
		case !idShape.MatchString(args[0]):
			return fail(quote(args[0])+" is not the id of a message", "an id is up to 20 letters and digits", "messages by address: gatepost queue list --to ADDRESS for what waits; journalctl -u gatepostd --grep ADDRESS for the rest")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		var raw json.RawMessage
		if err := r.get(cmd.Context(), "/v1/trace/"+url.PathEscape(args[0]), &raw); err != nil {
			return err
		}
		if format.value == "json" {
			return writeJSON(o.Stdout, raw)
		}
		var t traced
		if err := json.Unmarshal(raw, &t); err != nil {
			return notUnderstood(err)
		}
		return showTrace(o.Stdout, t, o.Now())
	}
	return cmd
}

// showTrace writes what is known of a message: whose DSN it is, where it stands
// or how it ended, and who was told.
func showTrace(w io.Writer, t traced, now time.Time) error {
	var b bytes.Buffer
	row := func(name, text string) { fmt.Fprintf(&b, "  %-13s %s\n", name, printable(text)) }
	for _, r := range t.Records {
		if r.DSN == t.ID {
			fmt.Fprintf(&b, "%s is the notice of %s about another message: gatepost trace %s\n", printable(string(t.ID)), noticeOf(r.Kind), printable(string(r.ID)))
		}
	}
	if len(t.Queued) > 0 {
		queued, err := decodeRow(t.Queued)
		if err != nil {
			return err
		}
		if err := showRow(&b, queued, now); err != nil {
			return err
		}
	}
	for _, r := range t.Records {
		if r.ID != t.ID || r.Entry == nil {
			continue
		}
		if err := showRow(&b, &queue.Row{Entry: r.Entry, Status: endOf(r)}, now); err != nil {
			return err
		}
		if r.More > 0 {
			row("to", "and "+thousands(r.More)+" more, of which only the log tells")
		}
		row("ended", moment(r.At)+", "+status.Span(r.At.Sub(r.Entry.Envelope.Arrival))+" after it arrived")
		if r.How == trace.Deleted || r.How == trace.Returned {
			by := "by an operator"
			if r.Operator != "" {
				by = "by " + r.Operator
			}
			if r.Reason != "" {
				by += ": " + r.Reason
			}
			row(r.How, by)
		}
	}
	for _, r := range t.Records {
		if r.ID == t.ID && r.DSN != "" {
			row("notice", moment(r.At)+", of "+noticeOf(r.Kind)+": gatepost trace "+string(r.DSN))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func noticeOf(kind string) string {
	if kind == "delay" {
		return "a delay"
	}
	return "a failure"
}

// endOf is how a message ended, in a word or two.
func endOf(r trace.Record) string {
	if r.How != trace.Finished {
		return r.How
	}
	n := 0
	for _, s := range r.Entry.State {
		if s.Last.Outcome == mail.Delivered {
			n++
		}
	}
	switch n {
	case len(r.Entry.State):
		return "delivered"
	case 0:
		return "failed"
	}
	return "delivered to " + strconv.Itoa(n) + " of " + strconv.Itoa(len(r.Entry.State))
}
