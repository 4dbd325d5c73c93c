package portal

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/proof"
)

// maxWords bounds what a person writes into a request, in runes.
const maxWords = 4000

// maxWordOctets is what the reporter takes of them.
const maxWordOctets = 8000

// fill adds what the relays and the portal's memory know of a request.
func (s *server) fill(ctx context.Context, p *requestPage, c *course, d dossier) {
	c.By = personOf(d.Author)
	for _, r := range d.Approvals {
		c.Approved = append(c.Approved, approval{By: personOf(r.Author), At: r.At})
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	s.remember(p, c, d)
	if s.relays != nil {
		proved, told := s.relays.Seen(ctx, c.awaited())
		c.Proved, c.Told = merge(c.Proved, proved), merge(c.Told, told)
		if d.State == forge.Merged {
			c.Relays = withTimes(s.relays.Live(ctx, d.MergedAs, d.paths()), c.Relays)
		}
	}
	for _, ip := range c.Added {
		line := proofLine{IP: ip, Proved: c.Proved[ip]}
		if line.Proved.IsZero() && p.Open {
			if i, ok := s.invite(ip, d.Number); ok {
				line.To, line.Until, p.Ports = i.To, i.Expires, i
			}
			p.Missing++
		}
		p.Adds = append(p.Adds, line)
	}
	if p.Ports.To == "" {
		p.Missing = 0 // nobody can be told how
	}
}

// withTimes adds to what the relays say now when each was first seen live.
func withTimes(now, seen []liveness) []liveness {
	for i := range now {
		for _, r := range seen {
			if r.Relay == now[i].Relay {
				now[i].Live, now[i].Known, now[i].Since = true, true, r.Since
			}
		}
	}
	return now
}

// A prover invites to prove control of addresses.
type prover struct {
	Key      proof.Key
	Hostname string // of the relay: what stands behind the @ of a proof
	Server   string // where a machine connects for it
	Port     int
}

// invite makes the invitation for an address; it stays the same for a day, so
// that a page which is looked at again says the same.
func (s *server) invite(ip netip.Addr, number int) (proof.Invitation, bool) {
	if s.prover == nil {
		return proof.Invitation{}, false
	}
	now := s.now().UTC()
	claim := proof.Claim{Addr: ip, Request: number, Expires: now.Truncate(24 * time.Hour).Add(proof.MaxFor - 24*time.Hour)}
	token, err := s.prover.Key.Token(claim, now)
	if err != nil {
		return proof.Invitation{}, false
	}
	return proof.Invitation{
		Addr: ip, Request: number, Expires: claim.Expires, Server: s.prover.Server, Relay: s.prover.Port,
		To: mail.Address{Local: proof.LocalPart(token), Domain: s.prover.Hostname}.String(),
	}, true
}

// mergeRequest approves a request where the forge has no button for it.
func (s *server) mergeRequest(w http.ResponseWriter, r *http.Request, who session.Person) {
	d, ok := s.dossier(w, r)
	if !ok {
		return
	}
	merger, ok := s.forge.(forge.Merger)
	if !ok {
		s.showRequest(w, r, who, http.StatusConflict, "Requests are merged at the forge, whose rules say who may.", "")
		return
	}
	var p requestPage
	var c course
	if s.judge(&p, &c, d); !c.Checked || c.Errors > 0 {
		s.showRequest(w, r, who, http.StatusConflict, "It is not fit to be merged; see below.", "")
		return
	}
	head, err := r.PostForm.Get("head"), forge.ErrMoved
	if head == d.Head { // what was judged is what they saw
		_, err = merger.Merge(r.Context(), d.Number, head, person(who), s.now())
	}
	s.dossiers.forget()
	switch {
	case errors.Is(err, forge.ErrMoved):
		s.showRequest(w, r, who, http.StatusConflict, "It has changed since you looked at it. Look again, and merge what it is now.", "")
	case errors.Is(err, forge.ErrConflict):
		s.showRequest(w, r, who, http.StatusConflict, "It cannot be merged: the register has changed in the same place meanwhile, or it is closed.", "")
	case err != nil:
		s.log.Error("a request was not merged", "event", "portal.merge_failed", "request", d.Number, "err", err)
		s.showRequest(w, r, who, http.StatusServiceUnavailable, "It was not merged: the repository could not be written.", "")
	default:
		s.log.Info("a postmaster merged a request", "event", "portal.merged", "request", d.Number, "operator", who.Email)
		s.wake()
		http.Redirect(w, r, requestURL(d.Number), http.StatusSeeOther)
	}
}

// words reads what a person wrote; problem says what is wrong with it.
func words(text string) (_, problem string) {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	switch {
	case text == "":
		return text, "Write a few words, please."
	case !utf8.ValidString(text):
		return "", "That is not text."
	case utf8.RuneCountInString(text) > maxWords, len(text) > maxWordOctets:
		return text, "That is too long: 4,000 characters are the most."
	}
	return text, ""
}

// closeRequest ends a request without approving it, with a reason.
func (s *server) closeRequest(w http.ResponseWriter, r *http.Request, who session.Person) {
	s.speak(w, r, who, func(ctx context.Context, d dossier, text string) error {
		if err := s.forge.Comment(ctx, d.Number, person(who), signed(who, "", text)); err != nil {
			return err
		}
		if s.book != nil { // so that the page has the words at once; the reporter reads them again
			if _, err := s.book.Update(d.Number, func(r *book.Request) { r.ClosedWords = text }); err != nil {
				return err
			}
		}
		return s.forge.Close(ctx, d.Number)
	})
}

// askRequest asks the contact something.
func (s *server) askRequest(w http.ResponseWriter, r *http.Request, who session.Person) {
	s.speak(w, r, who, func(ctx context.Context, d dossier, text string) error {
		return s.forge.Comment(ctx, d.Number, person(who), signed(who, "/ask ", text))
	})
}

// speak writes a postmaster's words to a request.
func (s *server) speak(w http.ResponseWriter, r *http.Request, who session.Person, do func(context.Context, dossier, string) error) {
	d, ok := s.dossier(w, r)
	if !ok {
		return
	}
	text, problem := words(r.PostForm.Get("words"))
	if problem == "" && d.State != forge.Open {
		problem = "It is not open any more."
	}
	if problem != "" {
		s.showRequest(w, r, who, http.StatusUnprocessableEntity, problem, text)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), forgeFor)
	defer cancel()
	err := do(ctx, d, text)
	s.dossiers.forget()
	if err != nil {
		s.log.Warn("the forge did not take a postmaster's words", "event", "portal.forge_failed", "err", err)
		s.showRequest(w, r, who, http.StatusServiceUnavailable, "It was not taken down: the place where requests are kept does not answer. What you wrote is still here.", text)
		return
	}
	s.wake()
	http.Redirect(w, r, requestURL(d.Number), http.StatusSeeOther)
}

// person is how git names a visitor. What git would take for the ends of a name
// is left out of it.
func person(who session.Person) forge.Person {
	clean := func(text string) string {
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' || strings.ContainsRune("<>\x7f", r) {
				return -1
			}
			return r
		}, text))
	}
	return forge.Person{Name: cmp.Or(clean(who.Name), clean(who.ID), "somebody"), Email: cmp.Or(clean(who.Email), "nobody@invalid")}
}
