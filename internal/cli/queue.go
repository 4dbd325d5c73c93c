package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/blocks"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
	"example.edu/gatepost/internal/relay/trace"
)

func newQueue(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "queue",
		Short:   "Look into the relay's queue, and do something about what is in it",
		GroupID: groupRelay,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	socket := addSocket(cmd)
	cmd.AddCommand(newQueueList(o, socket), newQueueShow(o, socket))
	for _, v := range queueVerbs() {
		cmd.AddCommand(newQueueOrder(o, socket, v))
	}
	cmd.AddCommand(newQueueExport(o, socket), newQueueImport(o, socket))
	return cmd
}

// maxQueueItem bounds one line of the relay's list. An envelope may have many
// recipients, and each its last result.
const maxQueueItem = 4 << 20

func newQueueList(o Options, socket *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the messages that wait, oldest first",
		Example: "  gatepost queue list\n  gatepost queue list --status held --to @example.org\n  gatepost queue list --registration registrations/lsa-physics/mfp.cue --format json",
		Args:    noArguments("one message: gatepost queue show ID"),
	}
	choice := addQueueChoice(cmd)
	limit := cmd.Flags().Int("limit", 0, "at most `N` messages")
	format := addFormat(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 0 {
			return fail("--limit must not be negative", "without --limit all are listed")
		}
		filter, err := choice.filter(o.Args)
		if err != nil {
			return err
		}
		filter.Limit = *limit
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		body, err := r.call(cmd.Context(), http.MethodGet, queuePath(filter), nil)
		if err != nil {
			return err
		}
		defer body.Close()
		n, err := listQueue(o, body, format.value)
		if err != nil {
			return err
		}
		fmt.Fprintln(o.Stderr, count(n, "message", "messages"))
		return nil
	}
	return cmd
}

// queuePath asks for what a filter selects; the parameters are named as the
// flags are.
func queuePath(f queue.Filter) string {
	query := url.Values{}
	client := ""
	if f.Client.IsValid() {
		client = blocks.Text(f.Client)
	}
	for name, value := range map[string]string{
		"registration": f.Registration, "status": f.Status, "destination": f.Destination,
		"client": client, "from": f.Sender, "to": f.Recipient,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	return (&url.URL{Path: "/v1/queue", RawQuery: query.Encode()}).String()
}

// decodeRow reads one item of the queue.
func decodeRow(data []byte) (*queue.Row, error) {
	row := queue.Row{Entry: &spool.Entry{}}
	if err := json.Unmarshal(data, &row); err != nil {
		return nil, notUnderstood(err)
	}
	return &row, nil
}

// listQueue passes the relay's JSON lines on, one at a time, as they come.
func listQueue(o Options, body io.Reader, format string) (n int, err error) {
	out := bufio.NewWriter(o.Stdout)
	defer func() { err = errors.Join(err, out.Flush()) }()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxQueueItem)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		row, err := decodeRow(line)
		if err != nil {
			return n, err
		}
		if format == "json" {
			out.Write(line)
			out.WriteByte('\n')
		} else {
			if n == 0 {
				fmt.Fprintf(out, queueRow, "ID", "ARRIVED", "SIZE", "TRIES", "STATUS", "FROM", "TO")
			}
			queueLine(out, row)
		}
		n++
	}
	if err := lines.Err(); err != nil {
		return n, fmt.Errorf("reading the relay's list after %s: %w", count(n, "message", "messages"), err)
	}
	return n, nil
}

// queueRow has fixed widths, as the list is printed while it comes in.
const queueRow = "%-20s  %-20s  %9s  %5s  %-7s  %-32s  %s\n"

func queueLine(w io.Writer, r *queue.Row) {
	fmt.Fprintf(w, queueRow, printable(string(r.ID)), moment(r.Envelope.Arrival), octets(r.Size), strconv.Itoa(r.Attempts),
		printable(r.Status), printable(sender(r)), printable(waiting(r)))
	switch last := firstWaiting(r); {
	case r.Reason != "":
		fmt.Fprintf(w, "    held: %s\n", printable(r.Reason))
	case last != "":
		fmt.Fprintf(w, "    %s\n", printable(last))
	}
}

func sender(e *queue.Row) string {
	if e.Envelope.From.IsNull() {
		return "<>"
	}
	return e.Envelope.From.String()
}

// waiting names the first recipient that is still owed something, and how many
// there are besides.
func waiting(e *queue.Row) string {
	first, n := "", 0
	for i, to := range e.Envelope.To {
		if i < len(e.State) && e.State[i].Done {
			continue
		}
		if n++; n == 1 {
			first = to.Address.String()
		}
	}
	if n > 1 {
		first += fmt.Sprintf(" and %s more", thousands(n-1))
	}
	return first
}

// firstWaiting is what the newest attempt met, for the first recipient that
// waits.
func firstWaiting(r *queue.Row) string {
	for _, s := range r.State {
		if !s.Done && !s.Last.At.IsZero() {
			return resultText(s.Last)
		}
	}
	return ""
}

// resultText is who said what, and for the operator why.
func resultText(r mail.Result) string {
	text := r.Status.String()
	if r.RemoteMTA != "" {
		text = r.RemoteMTA + " said: " + text
	}
	if r.Cause != "" {
		text += " (" + r.Cause + ")"
	}
	return text
}

var idShape = regexp.MustCompile(`^[0-9A-Za-z]{1,20}$`)

func newQueueShow(o Options, socket *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one message of the queue: its envelope and what became of each recipient",
		Example: "  gatepost queue show 01JD5X8K2M3N4P5Q",
	}
	format := addFormat(cmd, "text", "json")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) != 1:
			return fail("gatepost queue show needs the id of one message", "gatepost queue list shows the ids; the relay's 250 reply and its log tell them too")
		case !idShape.MatchString(args[0]):
			return fail(fmt.Sprintf("%s is not the id of a message", quote(args[0])), "an id is up to 20 letters and digits; gatepost queue list shows them")
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
		err = r.get(cmd.Context(), "/v1/queue/"+url.PathEscape(args[0]), &raw)
		if told, ok := errors.AsType[*relayError](err); ok && told.code == http.StatusNotFound {
			return fail("there is no message "+args[0]+" in the queue", "what became of it, if it was: gatepost trace "+args[0])
		}
		if err != nil {
			return err
		}
		if format.value == "json" {
			return writeJSON(o.Stdout, raw)
		}
		row, err := decodeRow(raw)
		if err != nil {
			return err
		}
		return showRow(o.Stdout, row, o.Now())
	}
	return cmd
}

// maxHops is how many next hops of one message are shown.
const maxHops = 5

// showRow writes one message in full.
func showRow(w io.Writer, r *queue.Row, now time.Time) error {
	var b bytes.Buffer
	row := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-13s %s\n", name, printable(text))
		}
	}
	env := r.Envelope
	fmt.Fprintf(&b, "message %s, %s\n", printable(string(r.ID)), printable(r.Status))
	switch {
	case r.Hold != "":
		row("held", "by an operator: "+r.Hold)
		row("and also", r.Blocked)
	default:
		row("held", r.Reason)
	}
	row("from", sender(r))
	if env.Client.IsValid() {
		row("client", strings.TrimSpace(env.Client.String()+" "+env.HELO))
	}
	row("registration", env.Registration)
	row("contact", env.Contact.String()) // is told of a failure that the sender cannot be told of
	row("commit", short(env.Commit))
	arrived := strings.TrimSpace(moment(env.Arrival) + " " + env.Protocol)
	if env.TLS != "" {
		arrived += ", " + env.TLS
	}
	row("arrived", arrived)
	row("size", octets(r.Size))
	row("attempts", strconv.Itoa(r.Attempts))
	hops := strings.Join(r.Destinations[:min(len(r.Destinations), maxHops)], ", ")
	if n := len(r.Destinations) - maxHops; n > 0 {
		hops += " and " + thousands(n) + " more"
	}
	row("goes to", hops)
	if r.Reason == "" && !r.Next.IsZero() {
		next := moment(r.Next)
		if !r.Next.After(now) {
			next = "now, or when its next hop is tried again"
		}
		row("next attempt", next)
	}
	if !r.Delayed.IsZero() {
		row("delay told", moment(r.Delayed))
	}
	for i, to := range env.To {
		var s spool.RecipientState
		if i < len(r.State) {
			s = r.State[i]
		}
		switch {
		case !s.Last.At.IsZero():
			row("to", to.Address.String()+", "+s.Last.Outcome.String())
			fmt.Fprintf(&b, "  %-13s %s: %s\n", "", moment(s.Last.At), printable(resultText(s.Last)))
		case s.Done:
			row("to", to.Address.String()+", done")
		case r.Status == trace.Deleted:
			row("to", to.Address.String()+", not delivered")
		default:
			row("to", to.Address.String()+", waiting")
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// octets is a size for people.
func octets(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}
