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
	"strings"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/relay/spool"
)

func newQueue(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "queue",
		Short:   "Look into the relay's queue",
		GroupID: groupRelay,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	socket := addSocket(cmd)
	cmd.AddCommand(newQueueList(o, socket), newQueueShow(o, socket))
	return cmd
}

// maxQueueItem bounds one line of the relay's list. An envelope may have many
// recipients, and each its last result.
const maxQueueItem = 4 << 20

func newQueueList(o Options, socket *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the messages that wait, oldest first",
		Example: "  gatepost queue list\n  gatepost queue list --held\n  gatepost queue list --client 141.211.13.21 --format json",
		Args:    noArguments("one message: gatepost queue show ID"),
	}
	filters := map[string]*string{
		"client":       cmd.Flags().String("client", "", "only from the machine with this `IP`"),
		"registration": cmd.Flags().String("registration", "", "only of this registration `FILE`"),
		"from":         cmd.Flags().String("from", "", "only from this `SENDER`"),
		"to":           cmd.Flags().String("to", "", "only to this `RECIPIENT` or @DOMAIN"),
	}
	held := cmd.Flags().Bool("held", false, "only what is held")
	limit := cmd.Flags().Int("limit", 0, "at most `N` messages")
	format := addFormat(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		query := url.Values{}
		for name, value := range filters {
			if *value != "" {
				query.Set(name, *value)
			}
		}
		if *held {
			query.Set("held", "true")
		}
		switch {
		case *limit < 0:
			return fail("--limit must not be negative", "without --limit all are listed")
		case *limit > 0:
			query.Set("limit", fmt.Sprint(*limit))
		}
		r, err := dialRelay(*socket)
		if err != nil {
			return err
		}
		defer r.close()
		path := "/v1/queue"
		if len(query) > 0 {
			path += "?" + query.Encode()
		}
		body, err := r.call(cmd.Context(), http.MethodGet, path, nil)
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
		var e spool.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return n, notUnderstood(err)
		}
		if format == "json" {
			out.Write(line)
			out.WriteByte('\n')
		} else {
			if n == 0 {
				fmt.Fprintf(out, queueRow, "ID", "ARRIVED", "SIZE", "TRIES", "FROM", "TO")
			}
			queueLine(out, &e)
		}
		n++
	}
	if err := lines.Err(); err != nil {
		return n, fmt.Errorf("reading the relay's list after %s: %w", count(n, "message", "messages"), err)
	}
	return n, nil
}

// queueRow has fixed widths, as the list is printed while it comes in.
const queueRow = "%-20s  %-20s  %8s  %5s  %-32s  %s\n"

func queueLine(w io.Writer, e *spool.Entry) {
	fmt.Fprintf(w, queueRow, printable(string(e.ID)), moment(e.Envelope.Arrival), octets(e.Size), fmt.Sprint(e.Attempts),
		printable(sender(e)), printable(waiting(e)))
	switch last := lastResult(e); {
	case e.Hold != "":
		fmt.Fprintf(w, "    held: %s\n", printable(e.Hold))
	case last != "":
		fmt.Fprintf(w, "    %s\n", printable(last))
	}
}

func sender(e *spool.Entry) string {
	if e.Envelope.From.IsNull() {
		return "<>"
	}
	return e.Envelope.From.String()
}

// waiting names the first recipient that is still owed something, and how many
// there are besides.
func waiting(e *spool.Entry) string {
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

// lastResult is what the newest attempt met, for the first recipient that
// waits.
func lastResult(e *spool.Entry) string {
	for _, s := range e.State {
		if s.Done || s.Last.At.IsZero() {
			continue
		}
		text := s.Last.Status.String()
		if s.Last.RemoteMTA != "" {
			text = s.Last.RemoteMTA + " said: " + text
		}
		if s.Last.Cause != "" {
			text += " (" + s.Last.Cause + ")"
		}
		return text
	}
	return ""
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
			return fail("there is no message "+args[0]+" in the queue", "it was delivered, bounced or deleted; the relay's log has it: journalctl -u gatepostd --grep "+args[0])
		}
		if err != nil {
			return err
		}
		if format.value == "json" {
			return writeJSON(o.Stdout, raw)
		}
		var e spool.Entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return notUnderstood(err)
		}
		return showEntry(o.Stdout, &e)
	}
	return cmd
}

// showEntry writes one message in full.
func showEntry(w io.Writer, e *spool.Entry) error {
	var b bytes.Buffer
	row := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-13s %s\n", name, printable(text))
		}
	}
	env := e.Envelope
	fmt.Fprintf(&b, "message %s\n", printable(string(e.ID)))
	row("from", sender(e))
	if env.Client.IsValid() {
		row("client", strings.TrimSpace(env.Client.String()+" "+env.HELO))
	}
	row("registration", env.Registration)
	row("commit", short(env.Commit))
	row("arrived", strings.TrimSpace(moment(env.Arrival)+" "+env.Protocol))
	row("size", octets(e.Size))
	row("attempts", fmt.Sprint(e.Attempts))
	if e.Hold != "" {
		row("held", e.Hold)
	} else if !e.Next.IsZero() {
		row("next", moment(e.Next))
	}
	if !e.Delayed.IsZero() {
		row("delay told", moment(e.Delayed))
	}
	for i, to := range env.To {
		state := "waiting"
		var last string
		if i < len(e.State) {
			s := e.State[i]
			if !s.Last.At.IsZero() {
				state = s.Last.Outcome.String()
				last = lastResult(&spool.Entry{State: []spool.RecipientState{{Last: s.Last}}})
				last = moment(s.Last.At) + ": " + last
			}
			if s.Done && s.Last.At.IsZero() {
				state = "done"
			}
		}
		row("to", to.Address.String()+", "+state)
		if last != "" {
			row("", last)
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
