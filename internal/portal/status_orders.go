package portal

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/relay/blocks"
)

// Bounds of orders.
const (
	ordersMost  = 100 // that are remembered
	ordersShown = 10
	fieldMost   = 1000 // octets of what is typed into one field
)

// A relayOrder is something that a postmaster had relays do.
type relayOrder struct {
	ID       string
	At       time.Time
	Verb     string // "block", "unblock", "release"
	About    string
	Reason   string
	Who      string
	Outcomes []fleet.Outcome
}

// Title says what it was.
func (o relayOrder) Title() string {
	switch o.Verb {
	case "unblock":
		return "Block of " + o.About + " ended"
	case "release":
		return "Brake of " + o.About + " released"
	}
	return o.About + " blocked"
}

// Done is at how many relays it was done.
func (o relayOrder) Done() (n int) {
	for _, k := range o.Outcomes {
		if k.State == fleet.Done {
			n++
		}
	}
	return n
}

// Whole reports whether it was done at all relays.
func (o relayOrder) Whole() bool { return o.Done() == len(o.Outcomes) && len(o.Outcomes) > 0 }

// Result says how it went, in one sentence.
func (o relayOrder) Result() string {
	if o.Whole() {
		return "Done on " + counted(len(o.Outcomes), "relay", "relays") + "."
	}
	unknown := 0
	for _, k := range o.Outcomes {
		if k.State == fleet.Unknown {
			unknown++
		}
	}
	text := fmt.Sprintf("Done on %d of %s", o.Done(), counted(len(o.Outcomes), "relay", "relays"))
	if unknown > 0 {
		text += fmt.Sprintf("; of %d it is not known", unknown)
	}
	return text + "."
}

// Again is the form once more, for a relay where it was not done.
func (o relayOrder) Again(relay string) string {
	field := "prefix"
	if o.Verb == "release" {
		field = "registration"
	}
	return orderLink(o.Verb, field, o.About, "relay", relay, "reason", o.Reason)
}

// An orderBook remembers the newest orders. The zero value is ready.
type orderBook struct {
	mu  sync.Mutex
	all []relayOrder // guarded by mu; the newest last
}

func (b *orderBook) add(o relayOrder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) >= ordersMost {
		b.all = slices.Delete(b.all, 0, 1)
	}
	b.all = append(b.all, o)
}

func (b *orderBook) find(id string) (relayOrder, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.all, func(o relayOrder) bool { return o.ID == id })
	if i < 0 {
		return relayOrder{}, false
	}
	return b.all[i], true
}

// list is the newest few, the newest first.
func (b *orderBook) list() []relayOrder {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := slices.Clone(b.all[max(0, len(b.all)-ordersShown):])
	slices.Reverse(out)
	return out
}

// A choice is one of a list to choose from.
type choice struct {
	Value, Text string
	Chosen      bool
}

// An orderPage is the form for an order. Problems are by field.
type orderPage struct {
	Verb, Title, Lead, Button string
	About                     string // prefix or registration
	AboutLabel, AboutHint     string
	AboutField                string
	Reason                    string
	For                       []choice // empty: it has no length
	ForLabel                  string
	Relays                    []choice
	Wide, Confirm             bool
	Problems                  map[string]string
	Fields                    []string // those with a problem, in order
}

// lengths of time to choose from, by verb; the first is chosen.
func lengths(verb string) []choice {
	switch verb {
	case "block":
		return []choice{{Value: "24h", Text: "1 day"}, {Value: "1h", Text: "1 hour"}, {Value: "8h", Text: "8 hours"}, {Value: "168h", Text: "7 days"}, {Value: "720h", Text: "30 days"}, {Value: "", Text: "until somebody ends it"}}
	case "release":
		return []choice{{Value: "24h", Text: "1 day"}, {Value: "1h", Text: "1 hour"}, {Value: "168h", Text: "7 days"}}
	}
	return nil
}

// orderLink is the address of a form with some fields filled in.
func orderLink(verb string, pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return "/status/" + verb + "?" + v.Encode()
}

// newOrderPage is the form of a verb, with what was typed; false: there is no
// such verb.
func newOrderPage(verb string, typed url.Values, relays []string) (p orderPage, ok bool) {
	field := func(name string) string {
		v := typed.Get(name)
		return strings.ToValidUTF8(v[:min(len(v), fieldMost)], "�")
	}
	p = orderPage{Verb: verb, AboutField: "prefix", AboutLabel: "Address or network", AboutHint: "Such as 192.0.2.7 or 192.0.2.0/24.",
		Reason: field("reason"), Wide: typed.Get("wide") == "yes", Confirm: typed.Get("confirm") == "yes", Problems: map[string]string{}}
	switch verb {
	case "block":
		p.Title, p.Button, p.ForLabel = "Block an address", "Block it", "For how long"
		p.Lead = "It is in force within a second: the machine hears 554 at its next connection, and its mail in the queue is held. Nobody is told but by the reply."
	case "unblock":
		p.Title, p.Button = "End a block", "End the block"
		p.Lead = "It ends a block by command. A block of the register ends by a commit, and one of a relay’s local file in that file."
	case "release":
		p.Title, p.Button, p.ForLabel = "Release a registration", "Release it", "How long the brake does not look at it"
		p.Lead = "Its mail in the queue goes on and its machines may send again. Look at what it sends first."
		p.AboutField, p.AboutLabel, p.AboutHint = "registration", "Registration", "Its file, such as registrations/lab/printer.cue, or one of its addresses."
	default:
		return p, false
	}
	p.About = strings.TrimSpace(field(p.AboutField))
	p.For = lengths(verb)
	chosen := field("for")
	for i := range p.For {
		p.For[i].Chosen = p.For[i].Value == chosen && typed.Has("for")
	}
	p.Relays = []choice{{Value: "", Text: "All relays"}}
	for _, name := range relays {
		p.Relays = append(p.Relays, choice{name, "Only " + name, typed.Get("relay") == name})
	}
	return p, true
}

// judge finds what is wrong with what was typed; it is pure.
func (p *orderPage) judge(typed url.Values) {
	wrong := func(field, text string) {
		if p.Problems[field] == "" {
			p.Problems[field] = text
			p.Fields = append(p.Fields, field)
		}
	}
	switch {
	case p.About == "":
		wrong(p.AboutField, "Say which.")
	case p.Verb != "release":
		if prefix, err := blocks.ParsePrefix(p.About); err != nil {
			wrong(p.AboutField, sentence(err.Error()))
		} else {
			p.About = blocks.Text(prefix)
		}
	case clipped(p.About) != p.About:
		wrong(p.AboutField, "This is no file of the register.")
	}
	if reason, err := blocks.ParseReason(p.Reason); err != nil {
		wrong("reason", sentence(strings.Replace(err.Error(), "a block needs", "this needs", 1)))
	} else {
		p.Reason = reason
	}
	if len(p.For) > 0 && !slices.ContainsFunc(p.For, func(c choice) bool { return c.Chosen }) {
		wrong("for", "Choose one of these.")
	}
	if relay := typed.Get("relay"); relay != "" && !slices.ContainsFunc(p.Relays, func(c choice) bool { return c.Value == relay }) {
		wrong("relay", "The portal cannot tell this relay anything.")
	}
	if !p.Confirm {
		wrong("confirm", "Tick this to say that you mean it.")
	}
}

// length is the chosen length of time.
func (p *orderPage) length() time.Duration {
	for _, c := range p.For {
		if c.Chosen && c.Value != "" {
			d, err := time.ParseDuration(c.Value)
			if err == nil {
				return d
			}
		}
	}
	return 0
}

// sentence makes a sentence of an error's words.
func sentence(s string) string {
	r := []rune(s)
	return strings.ToUpper(string(r[:1])) + string(r[1:]) + "."
}

// orderForm shows the form of one verb.
func (s *server) orderForm(w http.ResponseWriter, r *http.Request, _ session.Person) {
	p, ok := newOrderPage(r.PathValue("verb"), r.URL.Query(), s.operable())
	p.Wide, p.Confirm = false, false // no link says that for anybody
	if !ok || s.fleet == nil {
		s.notFound(w, r, "There is no such page")
		return
	}
	s.pages.Render(w, r, http.StatusOK, "status-order", s.frame(w, r, p))
}

// operable are the relays that can be told something.
func (s *server) operable() []string {
	if s.fleet == nil {
		return nil
	}
	return s.fleet.Names()
}

// giveOrder has relays do what a postmaster wants, and shows what became of it.
func (s *server) giveOrder(w http.ResponseWriter, r *http.Request, who session.Person) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form did not come whole, or is too long", http.StatusBadRequest)
		return
	}
	p, ok := newOrderPage(r.PathValue("verb"), r.PostForm, s.operable())
	if !ok || s.fleet == nil {
		s.notFound(w, r, "There is no such page")
		return
	}
	if p.judge(r.PostForm); len(p.Problems) > 0 {
		s.pages.Render(w, r, http.StatusUnprocessableEntity, "status-order", s.frame(w, r, p))
		return
	}
	o := relayOrder{ID: rand.Text(), At: s.now(), Verb: p.Verb, About: p.About, Reason: p.Reason, Who: asker(who)}
	relay := r.PostForm.Get("relay")
	o.Outcomes = s.orderAt(r.Context(), relay, p, o)
	s.orders.add(o)
	http.Redirect(w, r, "/status/orders/"+o.ID, http.StatusSeeOther)
}

func (s *server) orderAt(ctx context.Context, relay string, p orderPage, o relayOrder) []fleet.Outcome {
	switch p.Verb {
	case "block":
		return s.fleet.BlockAt(ctx, relay, o.Who, fleet.Block{Prefix: o.About, Reason: o.Reason, For: p.length(), Wide: p.Wide})
	case "unblock":
		return s.fleet.UnblockAt(ctx, relay, o.Who, o.About, o.Reason)
	}
	return s.fleet.ReleaseAt(ctx, relay, o.Who, fleet.Release{Registration: o.About, Reason: o.Reason, For: p.length()})
}

// asker is who asks, as the relays' logs have it.
func asker(who session.Person) string {
	name := who.Email
	if name == "" {
		name = who.ID
	}
	if r := []rune(clipped(name)); len(r) > 0 {
		return string(r[:min(len(r), 254)])
	}
	return "a postmaster without a name"
}

// showOrder is what became of an order.
func (s *server) showOrder(w http.ResponseWriter, r *http.Request, _ session.Person) {
	o, ok := s.orders.find(r.PathValue("id"))
	if !ok {
		s.notFound(w, r, "This order is not remembered any more")
		return
	}
	s.pages.Render(w, r, http.StatusOK, "status-done", s.frame(w, r, o))
}
