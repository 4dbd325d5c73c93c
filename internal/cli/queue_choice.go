package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/status"
)

// A queueChoice is the flags that choose messages of the queue.
type queueChoice struct {
	registration, client, from, to, destination *string
	status                                      *choice
}

func addQueueChoice(cmd *cobra.Command) *queueChoice {
	f := cmd.Flags()
	return &queueChoice{
		registration: f.String("registration", "", "only what this `FILE` of the register allowed"),
		client:       f.String("client", "", "only from the machine with this `IP`, or from those of a network"),
		from:         f.String("from", "", "only from this `ADDRESS`; @example.org: from all of it; <>: without a sender"),
		to:           f.String("to", "", "only what is owed to this `ADDRESS`; @example.org: to all of it"),
		destination:  f.String("destination", "", "only what goes to this next `HOST`, as gatepost queue show has it"),
		status:       addChoice(cmd, "status", "any", "waiting", "ready", "running", "held"),
	}
}

// queueChoices are the names of its flags.
var queueChoices = []string{"registration", "client", "from", "to", "destination", "status"}

// filter is the choice as the relay takes it.
func (c *queueChoice) filter(args []string) (queue.Filter, error) {
	f := queue.Filter{Registration: *c.registration, Destination: *c.destination, Sender: *c.from, Recipient: *c.to}
	if c.status.value != "any" {
		f.Status = c.status.value
	}
	if *c.client != "" {
		var err error
		if f.Client, err = parsePrefix(args, *c.client); err != nil {
			return f, err
		}
	}
	for flag, value := range map[string]string{"from": f.Sender, "to": f.Recipient} {
		if value == "" || strings.Contains(value, "@") || flag == "from" && value == "<>" {
			continue
		}
		return f, fail(fmt.Sprintf("--%s %s: not a mailbox", flag, quote(value)), "for all of a domain: "+corrected(args, value, "@"+value))
	}
	return f, nil
}

// choiceText says what an order would do to what was chosen.
func choiceText(v queueVerb, c queue.Choice, now time.Time) string {
	var b bytes.Buffer
	row := func(name, text string) { fmt.Fprintf(&b, "  %-13s %s\n", name, text) }
	fmt.Fprintf(&b, "it would %s %s with %s waiting, %s in all\n", v.plain, count(c.Messages, "message", "messages"), count(c.Recipients, "recipient", "recipients"), octets(c.Octets))
	row("oldest", moment(c.Oldest)+", "+status.Span(now.Sub(c.Oldest))+" old")
	if c.Messages > 1 {
		row("newest", moment(c.Newest)+", "+status.Span(now.Sub(c.Newest))+" old")
	}
	var statuses []string
	for _, name := range []string{"waiting", "ready", "running", "held"} {
		if n := c.Statuses[name]; n > 0 {
			statuses = append(statuses, thousands(n)+" "+name)
		}
	}
	row("status", strings.Join(statuses, ", "))
	for _, group := range []struct {
		name, none string
		parts      []queue.Part
	}{{"registration", "none: the relay's own mail", c.Registrations}, {"from", "<>", c.Senders}} {
		name, left := group.name, c.Messages
		for _, p := range group.parts {
			left -= p.Messages
			if p.Name == "" {
				p.Name = group.none
			}
			row(name, printable(p.Name)+": "+thousands(p.Messages))
			name = ""
		}
		if left > 0 {
			row(name, "others: "+thousands(left))
		}
	}
	for _, text := range v.warnings(c) {
		row("note", text)
	}
	return b.String()
}

// warnings are what an operator may not have thought of.
func (v queueVerb) warnings(c queue.Choice) (texts []string) {
	if v.verb == queue.Delete {
		texts = append(texts, "nobody is told, and what is deleted cannot be got back")
	}
	if v.verb == queue.Bounce {
		texts = append(texts, "whoever sent them gets a notice of each")
	}
	if n := c.Statuses["running"]; n > 0 && slices.Contains([]queue.Verb{queue.Bounce, queue.Delete}, v.verb) {
		texts = append(texts, count(n, "message is", "messages are")+" being delivered just now; what still is then, is left alone")
	}
	if c.Blocked > 0 {
		held := count(c.Blocked, "message is", "messages are") + " held by a block or by the brake"
		switch v.verb {
		case queue.Release, queue.Retry:
			texts = append(texts, held+", and would stay so; gatepost unblock and gatepost brake release end that")
		case queue.Bounce:
			texts = append(texts, held+": their senders may be forged, and would be told")
		}
	}
	return texts
}
