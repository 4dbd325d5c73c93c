package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
)

// A queueVerb is one of the commands that do something to messages.
type queueVerb struct {
	verb               queue.Verb
	short, long        string
	plain, doing, done string // it would …; … messages; it is …
	reason             string // what --reason is for; "": there is none
	example            string
}

func queueVerbs() []queueVerb {
	const whole = "\n\nWhat is done is done to whole messages, for all of their recipients that wait. Without\nids, the flags choose; what is chosen is told first, and mail that comes later is left\nalone."
	return []queueVerb{
		{queue.Hold, "Keep messages from being delivered until they are released",
			"Keep messages from being delivered until they are released. They do not expire\nmeanwhile, and nobody is told. An attempt that is under way goes on; what it does not\ndeliver is held." + whole,
			"hold", "holding", "held", "for the log and for gatepost queue show", "--reason 'looks like spam, ticket 4711'"},
		{queue.Release, "End an operator's hold",
			"End an operator's hold: the messages are tried at once. What a block or the abuse brake\nholds stays held; gatepost unblock and gatepost brake release end that." + whole,
			"release", "releasing", "released", "", ""},
		{queue.Retry, "Try messages now, and not when their next attempt is due",
			"Try messages now, and not when their next attempt is due; next hops that are left alone\nfor a while because they failed are tried, too. What is held stays held." + whole,
			"try", "putting forward", "tried now", "", ""},
		{queue.Bounce, "Give messages up: their senders get a notice",
			"Give messages up, as when they expire: the sender gets a notice with the reason, or the\npostmaster where there is no sender. What is being delivered just then is left alone." + whole,
			"return", "returning", "returned", "for the sender and for the log", "--reason 'the mailbox is closed'"},
		{queue.Delete, "Delete messages; nobody is told",
			"Delete messages. Nobody is told but the log, which has each of them. What is being\ndelivered just then is left alone." + whole,
			"delete", "deleting", "deleted", "for the log", "--reason 'spam, ticket 4711'"},
	}
}

// An orderRun is one command line of an order.
type orderRun struct {
	o      Options
	v      queueVerb
	relay  *relay
	order  queue.Order
	asJSON bool
	dryRun bool
	yes    bool
}

func newQueueOrder(o Options, socket *string, v queueVerb) *cobra.Command {
	name := string(v.verb)
	cmd := &cobra.Command{
		Use:   name + " [ID…]",
		Short: v.short,
		Long:  v.long,
		Example: strings.TrimRight(fmt.Sprintf("  gatepost queue %s 0trfq9b8u1cv3k2 %s", name, v.example), " ") +
			strings.TrimRight(fmt.Sprintf("\n  gatepost queue %s --registration registrations/lsa-physics/mfp.cue --dry-run\n  gatepost queue %s --to @example.org --yes %s", name, name, v.example), " "),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	choice := addQueueChoice(cmd)
	all := cmd.Flags().Bool("all", false, "the whole queue is meant")
	dryRun := cmd.Flags().Bool("dry-run", false, "say what would be done, and do nothing")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask before something is done to several messages")
	reason := new(string)
	if v.reason != "" {
		cmd.Flags().StringVar(reason, "reason", "", "why: a `TEXT` of up to 200 characters "+v.reason)
	}
	format := addFormat(cmd, "text", "json")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		chosen := *all || slices.ContainsFunc(queueChoices, cmd.Flags().Changed)
		return checkOrder(o.Args, v, args, chosen, *reason, cmd.Flags().Changed("reason"))
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		run := &orderRun{o: o, v: v, asJSON: format.value == "json", dryRun: *dryRun, yes: *yes}
		run.order = queue.Order{Verb: v.verb, Reason: strings.TrimSpace(*reason), Operator: operator()}
		for _, id := range args {
			if id := spool.ID(id); !slices.Contains(run.order.IDs, id) {
				run.order.IDs = append(run.order.IDs, id)
			}
		}
		var err error
		if run.order.Filter, err = choice.filter(o.Args); err != nil {
			return err
		}
		if run.relay, err = dialRelay(*socket); err != nil {
			return err
		}
		defer run.relay.close()
		return run.run(cmd.Context())
	}
	return cmd
}

// checkOrder says what is wrong with a command line.
func checkOrder(line []string, v queueVerb, ids []string, chosen bool, reason string, reasoned bool) error {
	command := "gatepost queue " + string(v.verb)
	if i := slices.IndexFunc(ids, func(id string) bool { return !idShape.MatchString(id) }); i >= 0 {
		switch id := ids[i]; {
		case strings.HasSuffix(id, ".cue"):
			return fail(quote(id)+" is not the id of a message", "for all that a file of the register allowed: "+command+" --registration "+quote(id))
		case strings.Contains(id, "@"):
			return fail(quote(id)+" is not the id of a message", "by its sender: "+command+" --from "+quote(id), "by its recipient: "+command+" --to "+quote(id))
		case strings.ContainsAny(id, ".:/"):
			return fail(quote(id)+" is not the id of a message", "for all of one machine: "+command+" --client "+quote(id), "gatepost queue list shows the ids")
		default:
			return fail(quote(id)+" is not the id of a message", "an id is up to 20 letters and digits; gatepost queue list shows them")
		}
	}
	switch {
	case len(ids) == 0 && !chosen:
		return fail(command+" does not say which messages", "by id, as gatepost queue list shows them: "+command+" ID…",
			"or by what they are, for example: "+command+" --to @example.org", "the whole queue: "+commandLine(append(line, "--all")...))
	case len(ids) > 0 && chosen:
		return fail(command+" takes ids, or flags that choose, and not both", "what is chosen, with the ids: gatepost queue list -h")
	case len(ids) > queue.MaxIDs:
		return fail(fmt.Sprintf("%s takes %s ids at a time", command, thousands(queue.MaxIDs)), "with xargs: … | xargs -n 1000 "+command, "or choose them by what they are: "+command+" -h")
	case reasoned && (strings.TrimSpace(reason) == "" || utf8.RuneCountInString(reason) > 200 || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) })):
		return fail("the reason is not one line of up to 200 printable characters", "a few words: what happened, and perhaps the number of a ticket")
	}
	return nil
}

// operator is who types, for the relay's log, as far as the system says.
func operator() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	if utf8.RuneCountInString(name) > 64 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return name
}

func (r *orderRun) run(ctx context.Context) error {
	if len(r.order.IDs) > 0 {
		if r.dryRun {
			return r.showNamed(ctx)
		}
		return r.act(ctx, len(r.order.IDs))
	}
	_, stop := startProgress(ctx, r.o.Stderr, "looking through the queue", "messages")
	var c queue.Choice
	err := r.relay.post(ctx, "/v1/queue/choice", r.order.Filter, &c)
	stop()
	if err != nil {
		return err
	}
	if r.asJSON && (r.dryRun || c.Messages == 0) {
		return writeJSON(r.o.Stdout, c)
	}
	if c.Messages == 0 {
		fmt.Fprintln(r.o.Stderr, "no message in the queue is like that; nothing to do")
		return nil
	}
	if r.dryRun {
		_, err := io.WriteString(r.o.Stdout, choiceText(r.v, c, r.o.Now()))
		return err
	}
	if c.Messages > 1 {
		if err := r.agreed(ctx, c); err != nil {
			return err
		}
	}
	r.order.UpTo = c.UpTo
	return r.act(ctx, c.Messages)
}

// agreed says what would be done, and asks.
func (r *orderRun) agreed(ctx context.Context, c queue.Choice) error {
	if _, err := io.WriteString(r.o.Stderr, choiceText(r.v, c, r.o.Now())); err != nil || r.yes {
		return err
	}
	q := newQuestions(ctx, r.o)
	if q == nil {
		return fail("nothing was done: that is "+count(c.Messages, "message", "messages")+", and nobody can be asked", "if that is meant: "+commandLine(append(r.o.Args, "--yes")...))
	}
	yes, err := q.yesOrNo(strings.ToUpper(r.v.plain[:1])+r.v.plain[1:]+" all "+thousands(c.Messages)+" messages?", "no")
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil || !yes:
		return fail("nothing was done")
	}
	return nil
}

// showNamed is --dry-run for messages that are named.
func (r *orderRun) showNamed(ctx context.Context) error {
	missing := false
	var lines bytes.Buffer
	for _, id := range r.order.IDs {
		var raw json.RawMessage
		err := r.relay.get(ctx, "/v1/queue/"+url.PathEscape(string(id)), &raw)
		if told, ok := errors.AsType[*relayError](err); ok && told.code == http.StatusNotFound {
			fmt.Fprintf(r.o.Stderr, "%s is not in the queue\n", printable(string(id)))
			missing = true
			continue
		}
		if err != nil {
			return err
		}
		if err := json.Compact(&lines, raw); err != nil {
			return notUnderstood(err)
		}
		lines.WriteByte('\n')
	}
	format := "text"
	if r.asJSON {
		format = "json"
	}
	if _, err := listQueue(r.o, &lines, format); err != nil {
		return err
	}
	if missing {
		return errProblems
	}
	return nil
}

// maxToldOf is how many messages of a choice are told of that were not done, or
// not as one may think.
const maxToldOf = 20

// act gives the order and tells how it goes. total is how many messages it is
// about, as far as is known.
func (r *orderRun) act(ctx context.Context, total int) error {
	body, err := r.relay.call(ctx, http.MethodPost, "/v1/queue/orders", r.order)
	if err != nil {
		return err
	}
	defer body.Close()
	p, stop := startProgress(ctx, r.o.Stderr, r.v.doing, "messages")
	defer stop()
	p.Total.Store(int64(total))
	out := bufio.NewWriter(r.o.Stdout)
	fates := map[queue.Fate]int{}
	told := 0
	var end queue.End
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxRelayAnswer)
	for lines.Scan() && !end.End {
		var line struct {
			queue.Did
			queue.End
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return errors.Join(out.Flush(), notUnderstood(err))
		}
		if r.asJSON {
			out.Write(lines.Bytes())
			out.WriteByte('\n')
		}
		if end = line.End; end.End {
			break
		}
		fates[line.Fate]++
		p.Done.Add(1)
		if !r.asJSON && (len(r.order.IDs) > 0 || line.Fate != queue.Done && told < maxToldOf) {
			told++
			fmt.Fprintln(out, r.line(line.Did))
		}
	}
	stop()
	if !r.asJSON && len(r.order.IDs) != 1 {
		fmt.Fprintln(out, r.sum(fates))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if !end.End {
		err := cmp.Or(ctx.Err(), lines.Err(), io.ErrUnexpectedEOF)
		return hinted(fmt.Errorf("the relay's answer broke off; of further messages something may have been done: %w", err), "give the command again: what is done already is not done twice")
	}
	if end.Error != "" {
		return fail("not all was done: "+end.Error, end.Hint)
	}
	if fates[queue.Done]+fates[queue.Unchanged] < sumOf(fates) {
		return errProblems
	}
	return nil
}

func sumOf(fates map[queue.Fate]int) (n int) {
	for _, k := range fates {
		n += k
	}
	return n
}

// line is what became of one message.
func (r *orderRun) line(d queue.Did) string {
	text := ""
	switch d.Fate {
	case queue.Done:
		text = r.v.done
	case queue.Unchanged:
		text = "unchanged"
	case queue.Gone:
		text = "not in the queue; what became of it: gatepost trace " + string(d.ID)
	default:
		text = "not " + r.v.done
	}
	if d.Note != "" {
		text += ": " + d.Note
	}
	return printable(string(d.ID)) + "  " + printable(text)
}

// sum is what became of them all.
func (r *orderRun) sum(fates map[queue.Fate]int) string {
	parts := []string{r.v.done + " " + count(fates[queue.Done], "message", "messages")}
	for _, k := range []struct {
		fate queue.Fate
		text string
	}{
		{queue.Unchanged, "with nothing to do"}, {queue.Busy, "left alone, as an attempt was under way"},
		{queue.Kept, "held"}, {queue.Gone, "not in the queue"}, {queue.Unread, "damaged"},
	} {
		if n := fates[k.fate]; n > 0 {
			parts = append(parts, thousands(n)+" "+k.text)
		}
	}
	return strings.Join(parts, "; ")
}
