package portal

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/keeper"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
)

// An answerer takes the answer to a postmaster's question to the forge.
type answerer interface {
	Answer(ctx context.Context, number int, ask string, by book.Person, text string) error
}

// remember adds what the portal itself knows of a request.
func (s *server) remember(p *requestPage, c *course, d dossier) {
	if s.book == nil {
		return
	}
	r, ok := s.book.Get(d.Number)
	if !ok {
		return
	}
	if r.By.Name != "" {
		c.By = named(r.By)
		if r.Department != "" && !r.Speaks && r.Kind == book.KindForm {
			c.By += ", who does not speak for the department"
		}
	}
	c.Proved, c.Told = r.Proved, r.Confirmed
	switch { // what was there before has its confirmation
	case d.State == forge.Open:
	case r.Kind == book.KindRenewal || r.Kind == book.KindRemoval || r.Kind == book.KindBlock:
		c.Added = nil
	case !r.Checked.At.IsZero():
		c.Added = r.Adds
	}
	for relay, at := range r.Live {
		c.Relays = append(c.Relays, liveness{Relay: relay, Live: true, Known: true, Since: at})
	}
	for _, a := range r.Asked {
		p.Questions = append(p.Questions, questionLine{ID: a.ID, By: a.By, At: a.At, Text: a.Text, Answered: a.Answered, AnsweredBy: s.answering(r, a.AnsweredBy), Answer: a.Answer})
	}
	if d.State == forge.Closed {
		p.Closing = r.ClosedWords
	}
}

// waiting reports whether a question on a request waits for its answer.
func (s *server) waiting(number int) bool {
	if s.book == nil {
		return false
	}
	r, ok := s.book.Get(number)
	if !ok || r.State == string(forge.Merged) || r.State == string(forge.Closed) {
		return false
	}
	for _, a := range r.Asked {
		if a.Answered.IsZero() {
			return true
		}
	}
	return false
}

// answerRequest takes the answer to a question.
func (s *server) answerRequest(w http.ResponseWriter, r *http.Request, who session.Person) {
	d, ok := s.dossier(w, r)
	if !ok {
		return
	}
	text, problem := words(r.PostForm.Get("answer"))
	if problem != "" {
		s.showRequest(w, r, who, http.StatusUnprocessableEntity, problem, text)
		return
	}
	if s.answers == nil {
		s.notFound(w, r, "There is no such question")
		return
	}
	err := s.answers.Answer(r.Context(), d.Number, r.PostForm.Get("question"), bookPerson(who), text)
	s.dossiers.forget()
	switch {
	case errors.Is(err, keeper.ErrNoQuestion):
		s.showRequest(w, r, who, http.StatusConflict, "That question has an answer already, or is not there any more.", text)
	case err != nil:
		s.log.Warn("an answer was not taken", "event", "portal.forge_failed", "err", err)
		s.showRequest(w, r, who, http.StatusServiceUnavailable, "Your answer was not taken down. What you wrote is still here: try again in a minute.", text)
	default:
		s.wake()
		http.Redirect(w, r, requestURL(d.Number), http.StatusSeeOther)
	}
}

// signed is a postmaster's words as they go to the forge, where they stand under
// the portal's own account.
func signed(who session.Person, prefix, text string) string {
	return prefix + text + "\n\n— " + who.Name + ", through the portal"
}

// answering is who answered, and whether they have to do with the request.
func (s *server) answering(r book.Request, by book.Person) string {
	if by.Name == "" {
		return ""
	}
	var d *registration.Department
	if snapshot := s.snapshot(); snapshot != nil {
		d = snapshot.Department(r.Department)
	}
	if keeper.Outsider(r, by, d) {
		return named(by) + ", who did not ask for this, and neither is a contact nor speaks for the department"
	}
	return named(by)
}

// named is somebody with the address that they signed in with: a name alone is
// whatever its owner likes, such as that of a colleague.
func named(p book.Person) string {
	if p.Email == "" || p.Email == p.Name {
		return p.Name
	}
	return p.Name + " (" + p.Email + ")"
}

func bookPerson(who session.Person) book.Person {
	return book.Person{ID: who.ID, Name: who.Name, Email: who.Email}
}

// merge lays newer times over older ones.
func merge(older, newer map[netip.Addr]time.Time) map[netip.Addr]time.Time {
	if len(older) == 0 {
		return newer
	}
	all := make(map[netip.Addr]time.Time, len(older)+len(newer))
	for ip, at := range newer {
		all[ip] = at
	}
	for ip, at := range older {
		all[ip] = at
	}
	return all
}
