package portal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/form"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/forge"
)

// What a visitor reads when a request could not be opened.
const (
	forgeAway = "The request could not be opened: the place where requests are kept does not answer. Nothing is lost: try again in a minute."
	saysSo    = "The register says all of this already, so there is nothing to ask for."
)

// A change is what somebody asks for.
type change struct {
	form.Request
	Kind       book.Kind
	Once       string // a key under which this is asked for once; "": each time
	Department string
	Contacts   []book.Contact
	IPs        []netip.Addr
}

// An opening sees to it that what is asked for once is opened once, also while it
// is being opened.
type opening struct{ group singleflight.Group }

// once opens a request unless that was done for this key of this person.
func (o *opening) once(b *book.Book, who session.Person, key string, at time.Time, open func() (int, string)) (number int, problem string) {
	sum := sha256.Sum256([]byte(who.ID + "\x00" + key))
	name := "form " + hex.EncodeToString(sum[:])
	type answer struct {
		number  int
		problem string
	}
	got, _, _ := o.group.Do(name, func() (any, error) {
		if before, ok := b.Automatic(name); ok {
			return answer{before.Number, ""}, nil
		}
		number, problem := open()
		if problem == "" {
			// Where this cannot be noted, the forge still knows a proposal that it
			// has had, word for word.
			_ = b.SetAutomatic(book.Opened{Number: number, At: at}, name)
		}
		return answer{number, problem}, nil
	})
	a := got.(answer)
	return a.number, a.problem
}

// propose opens a request built on the register that it was judged by, and
// notes it. problem is for the visitor; "" if it was opened. It goes on when the
// visitor goes away.
func (s *server) propose(ctx context.Context, who session.Person, reg *view.Register, c change) (number int, problem string) {
	ctx = context.WithoutCancel(ctx)
	if c.Once == "" {
		return s.openRequest(ctx, who, reg, c)
	}
	return s.opening.once(s.book, who, c.Once, s.now(), func() (int, string) { return s.openRequest(ctx, who, reg, c) })
}

func (s *server) openRequest(ctx context.Context, who session.Person, reg *view.Register, c change) (number int, problem string) {
	if s.mayOpen != nil {
		if wait, ok := s.mayOpen(who.ID); !ok {
			return 0, fmt.Sprintf("You have opened as many requests as one person may in a day. The next one can be opened in %d minutes, or by a colleague.", wait/time.Minute+1)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, forgeFor)
	defer cancel()
	p := forge.Proposal{Base: s.base, Parent: reg.Commit, Name: c.Name, Title: c.Title, Body: c.Body, Author: person(who), At: s.now()}
	var paths []string
	for _, e := range c.Edits {
		p.Changes, paths = append(p.Changes, forge.Change(e)), append(paths, e.Path)
	}
	r, err := s.forge.Open(ctx, p)
	switch {
	case errors.Is(err, forge.ErrInvalid):
		s.log.Warn("a request could not be opened", "event", "portal.forge_failed", "err", err)
		return 0, saysSo
	case err != nil:
		s.log.Warn("a request could not be opened", "event", "portal.forge_failed", "err", err)
		return 0, forgeAway
	}
	d := reg.Base.Snapshot().Department(c.Department)
	_, err = s.book.Update(r.Number, func(b *book.Request) {
		if b.By.ID != "" && b.By.ID != who.ID {
			return // the forge had the very same of somebody else
		}
		b.Kind, b.Title, b.URL, b.Department, b.By = c.Kind, r.Title, r.URL, c.Department, bookPerson(who)
		b.Speaks = d != nil && speaks(who, d)
		b.Contacts, b.IPs, b.Paths, b.OpenedAt = c.Contacts, c.IPs, paths, s.now()
	})
	if err != nil { // the request is there all the same, and says who asked
		s.log.Error("a request is not in the portal's memory", "event", "portal.unremembered", "request", r.Number, "err", err)
	}
	s.wake()
	return r.Number, ""
}

// openChange opens one request that renews or removes addresses of a
// department.
func (s *server) openChange(ctx context.Context, who session.Person, department, do string, list []netip.Addr) (number int, problem string) {
	reg := s.register()
	if reg == nil {
		return 0, "The portal has not read the register yet. Try again in a minute."
	}
	wish := form.Wish{Department: department, Until: s.now().UTC().AddDate(1, 0, 0).Truncate(24 * time.Hour)}
	kind := book.KindRenewal
	if wish.Renew = list; do == "remove" {
		wish.Renew, wish.Remove, kind = nil, list, book.KindRemoval
	}
	batch, err := form.Fulfil(reg.Base, wish, s.now())
	switch {
	case errors.Is(err, form.ErrWish):
		reason := strings.TrimPrefix(err.Error(), "form: "+form.ErrWish.Error()+": ")
		return 0, "This cannot be done: " + reason + "."
	case err != nil:
		s.log.Error("a change could not be made", "event", "portal.change_failed", "err", err)
		return 0, "The change could not be made. It is our fault; the log says why."
	case len(batch.Edits) == 0:
		return 0, saysSo
	case !batch.Fine():
		for _, f := range batch.Findings {
			if !f.Warning {
				return 0, f.Message
			}
		}
	}
	d := reg.Base.Snapshot().Department(department)
	asker := form.Asker{Name: who.Name, Email: who.Email, Postmaster: who.Postmaster, Speaks: d != nil && speaks(who, d)}
	c := change{Request: batch.Request(asker, ""), Kind: kind, Department: department, IPs: list}
	seen := map[string]bool{}
	for _, ip := range list {
		if e, ok := reg.Base.Snapshot().Find(ip); ok && !seen[e.Registration.Contact.Email] {
			seen[e.Registration.Contact.Email] = true
			c.Contacts = append(c.Contacts, book.Contact(e.Registration.Contact))
		}
	}
	return s.propose(ctx, who, reg, c)
}
