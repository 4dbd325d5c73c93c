package portal

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/portal/page"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/status"
)

// askFor bounds how long the relays are waited for when a page is made.
const askFor = 2 * time.Second

// A sighting is what one relay says of an address, or why it does not.
type sighting struct {
	Relay   string
	Address status.Address
	Err     error
}

func (s *server) addressRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /ip", s.signedIn(s.lookUp))
	mux.HandleFunc("GET /ip/{addr}", s.signedIn(s.address))
}

// lookUp is the field for an address, and the way to its page.
func (s *server) lookUp(w http.ResponseWriter, r *http.Request, _ session.Person) {
	typed := strings.TrimSpace(r.URL.Query().Get("ip"))
	if typed == "" {
		s.pages.Render(w, r, http.StatusOK, "lookup", s.frame(w, r, lookUpPage{}))
		return
	}
	addr, problem := readAddress(typed)
	if problem != "" {
		s.pages.Render(w, r, http.StatusUnprocessableEntity, "lookup", s.frame(w, r, lookUpPage{Typed: typed, Problem: problem}))
		return
	}
	http.Redirect(w, r, "/ip/"+url.PathEscape(addr.String()), http.StatusSeeOther)
}

// A lookUpPage is the field with what was typed.
type lookUpPage struct{ Typed, Problem string }

// readAddress reads one address as people paste it, or says what it is instead.
func readAddress(typed string) (addr netip.Addr, problem string) {
	typed = strings.Trim(strings.TrimSpace(typed), "[]")
	addr, err := netip.ParseAddr(typed)
	switch {
	case len(typed) > 64:
		return addr, "That is too long for an address."
	case err != nil && strings.Contains(typed, "/"):
		return addr, "That is a network. Look up one address of it."
	case err != nil:
		return addr, "That is no IP address. One looks like 192.0.2.21 or 2001:db8::21."
	case addr.Zone() != "":
		return addr, "Leave out the % and what follows it."
	}
	return addr.Unmap(), ""
}

// An addressPage is all that is known of one address.
type addressPage struct {
	IP       netip.Addr
	Standing headline
	Entry    *entryFacts // nil: not registered
	Network  string      // who holds it, in words; "" if nobody does
	Blocks   []blockFacts
	Relays   []relayFacts
	Silent   []string // relays that did not answer
	Register string   // where to register it; "" if that would be refused
	Renew    string   // where to change or renew its registration; "" if there is none
	NoRelays bool     // the portal knows of none
}

// A headline is the answer in a word and a sentence.
type headline struct {
	Kind  string // good, warn, bad or ""
	Title string
	Text  string
}

// entryFacts are what the register says of an address.
type entryFacts struct {
	File, Department, DepartmentName, Machine, Kind, Contact, ContactName, Purpose string
	LastDay                                                                        time.Time
	Others                                                                         int // addresses of the same registration besides
}

// blockFacts are one block.
type blockFacts struct {
	What, Reason, Where string
	Since, Until        time.Time
}

// relayFacts are what one relay has seen.
type relayFacts struct {
	Relay    string
	Standing string
	Live     bool
	Seen     time.Time
	Mail     status.Mail
	Brake    string
	Proved   time.Time
	Told     time.Time // the confirmation
	Refusals []refusalFacts
}

// refusalFacts are a run of refusals with their meaning.
type refusalFacts struct {
	At    time.Time
	Count int
	Said  string
	Do    string
}

// address is the page of one address.
func (s *server) address(w http.ResponseWriter, r *http.Request, _ session.Person) {
	addr, problem := readAddress(r.PathValue("addr"))
	if problem != "" {
		s.pages.Render(w, r, http.StatusNotFound, "lookup", s.frame(w, r, lookUpPage{Typed: r.PathValue("addr"), Problem: problem}))
		return
	}
	if addr.String() != r.PathValue("addr") { // one page for each address
		http.Redirect(w, r, "/ip/"+addr.String(), http.StatusSeeOther)
		return
	}
	p := addressPage{IP: addr}
	snapshot := s.snapshot()
	if snapshot == nil {
		s.noRegister(w, r)
		return
	}
	p.fromRegister(snapshot, addr, s.now())
	p.fromRelays(s.ask(r.Context(), addr), s.now())
	s.pages.Render(w, r, http.StatusOK, "address", s.frame(w, r, p))
}

// ask is what the relays say of an address.
func (s *server) ask(ctx context.Context, addr netip.Addr) []sighting {
	if s.relays == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	return s.relays.Address(ctx, addr)
}

// snapshot is the register of this moment; nil if there is none yet.
func (s *server) snapshot() *policy.Snapshot {
	if now := s.register(); now != nil {
		return now.Base.Snapshot()
	}
	return nil
}

// noRegister is for the first moments of a portal, and for a register that
// cannot be reached.
func (s *server) noRegister(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "10")
	s.pages.Fail(w, r, http.StatusServiceUnavailable, s.frame(w, r, nil), page.Failure{
		Heading: "The register is not here yet", Text: "The portal has not been able to read it since it was started. Mail is not affected.",
		Next: []string{"Try again in a minute. If it stays so, tell the Postmaster team."},
	})
}

func (p *addressPage) fromRegister(snapshot *policy.Snapshot, addr netip.Addr, now time.Time) {
	v := snapshot.Lookup(addr, now)
	holder, held := snapshot.Holder(addr)
	if held {
		p.Network = holder.Prefix.String() + ", " + holder.Use + ", of " + departmentName(snapshot, holder.Department)
	}
	if e, ok := snapshot.Find(addr); ok {
		g := e.Registration
		p.Entry = &entryFacts{
			File: g.Path, Department: g.Department, DepartmentName: departmentName(snapshot, g.Department), Machine: e.Host.Name, Kind: e.Host.Kind,
			Contact: g.Contact.Email, ContactName: g.Contact.Name, Purpose: g.Purpose, LastDay: lastDay(g), Others: len(g.Hosts) - 1,
		}
		p.Renew = "/register?" + url.Values{"from": {g.Path}}.Encode()
	}
	if b := v.Block; b != nil {
		p.Blocks = append(p.Blocks, blockFacts{What: prefixText(b.Prefix), Reason: b.Reason, Where: "in the register, " + strings.TrimSuffix(path.Base(b.Path), ".cue"), Since: b.Since, Until: b.Until})
	}
	switch v.Standing {
	case policy.Registered:
		left := v.Registration.Expires.Sub(now)
		p.Standing = headline{"good", "It may send", "It is registered until the end of " + lastDay(v.Registration).Format("2 January 2006") + "."}
		if left < 60*24*time.Hour {
			p.Standing.Kind, p.Standing.Text = "warn", p.Standing.Text+" That is soon: renew it."
		}
	case policy.Expired:
		p.Standing = headline{"bad", "It may not send: its registration has expired", "The last day was " + lastDay(v.Registration).Format("2 January 2006") + ". Renew it, and it may send again once that is approved."}
	case policy.Blocked:
		p.Standing = headline{"bad", "It may not send: it is blocked", "A postmaster has blocked it. Its mail in the queue is held, not lost."}
	case policy.Unregistered:
		p.Standing = headline{"warn", "It may not send: it is not registered", "It is an address of this university, and nobody has registered it."}
		p.Register = "/register?" + url.Values{"ip": {addr.String()}}.Encode()
		if held && holder.Use != "static" {
			p.Register = ""
			p.Standing.Text = "It is in a pool (" + holder.Use + ") whose addresses change hands, so it cannot be registered. Give the machine a fixed address first."
		}
	default:
		p.Standing = headline{"bad", "It may not send: it is not an address of this university", "The relay serves addresses of the campus only. A machine behind address translation shows another address to the relay than it has itself."}
	}
}

func (p *addressPage) fromRelays(all []sighting, now time.Time) {
	p.NoRelays = len(all) == 0
	for _, s := range all {
		if s.Err != nil {
			p.Silent = append(p.Silent, s.Relay)
			continue
		}
		a := s.Address
		f := relayFacts{Relay: s.Relay, Standing: standingText(a), Live: a.Standing == status.MaySend && !a.Stopped(), Seen: a.Seen, Mail: a.Mail}
		for _, b := range a.Blocks {
			if b.Source != status.ByRegister && b.Agreed == "" && !slices.ContainsFunc(p.Blocks, func(k blockFacts) bool { return k.What == b.Prefix && k.Reason == b.Reason }) {
				p.Blocks = append(p.Blocks, blockFacts{What: b.Prefix, Reason: b.Reason, Where: "on " + s.Relay, Since: b.Since, Until: b.Until})
			}
		}
		if a.Stopped() {
			f.Brake = strings.Join(a.Brake.Why, "; ")
			p.Standing = headline{"bad", "It may not send for now: the abuse brake has it", "Its registration sends far more, or other, mail than was declared. The contact was told what was seen."}
		}
		if len(a.Proofs) > 0 {
			f.Proved = a.Proofs[0].At
		}
		if a.Confirmation != nil {
			f.Told = a.Confirmation.SentAt
		}
		for _, r := range a.Refusals[:min(len(a.Refusals), 5)] {
			f.Refusals = append(f.Refusals, refusalFacts{At: r.At, Count: r.Count, Said: r.Said, Do: whatToDo(r.Reason)})
		}
		p.Relays = append(p.Relays, f)
	}
	if len(p.Blocks) > 0 && p.Standing.Kind != "bad" {
		p.Standing = headline{"bad", "It may not send: it is blocked", "A postmaster has blocked it. Its mail in the queue is held, not lost."}
	}
}

// standingText is how an address stands on a relay, in a few words.
func standingText(a status.Address) string {
	if a.Stopped() {
		return "stopped by the abuse brake"
	}
	text, ok := map[string]string{
		status.MaySend: "live: it may send", "expired": "its registration has expired", "blocked": "blocked", "unregistered": "not registered there, or not yet",
		"off-campus": "not of this university", "no-register": "the relay has no register yet",
	}[a.Standing]
	if !ok {
		return a.Standing
	}
	return text
}

// whatToDo is the next step after a refusal, "" where what was said says it.
func whatToDo(reason string) string {
	switch reason {
	case "tls":
		return "Port 587 wants STARTTLS. Switch it on in the machine, or use port 25."
	case "sender":
		return "The registration lists the sender addresses that it may use. Change the machine’s sender, or the registration."
	case "line-end", "sloppy", "syntax":
		return "The machine does not keep to the standard. “Older device?” in the form has a switch for what most old machines do."
	case "not-offered":
		return "If the machine tried to sign in: leave user name and password empty."
	case "limit":
		return "It sends more than was declared. Wait, or change the expected volume of the registration."
	case "bulk":
		return "The relay is not for newsletters and campaigns."
	}
	return ""
}

func departmentName(s *policy.Snapshot, id string) string {
	if d := s.Department(id); d != nil && d.Name != "" {
		return d.Name
	}
	return id
}

// lastDay is the last day on which a registration holds.
func lastDay(r *registration.Registration) time.Time { return r.Expires.UTC().AddDate(0, 0, -1) }

// prefixText is a prefix, or the one address of it.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// total is a number of messages with its noun.
func (f relayFacts) Week() string { return plural(f.Mail.Week, "message", "messages") }

// Sentence is the address in one line, for whoever reads the title only.
func (p addressPage) Sentence() string { return fmt.Sprintf("%s: %s", p.IP, p.Standing.Title) }
