package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

const (
	askSign = "/ask"

	// answerLead begins a comment with an answer; what the answer is to follows.
	answerLead = "**Answer** to "

	// through ends words that a postmaster wrote in the portal, which stand under
	// its own account: "— NAME, through the portal".
	through = ", through the portal"

	maxAsks  = 50                  // on one request
	maxWords = 8_000               // octets of a question, or of an answer
	aroundIt = 15 * time.Minute    // words that a request is closed with are this near
	wordsFor = 10 * time.Minute    // that are waited for after it was closed
	mayFor   = 10 * time.Minute    // that it is believed who may write
	tellFor  = 14 * 24 * time.Hour // after which nobody is told any more
	settled  = 10 * time.Second    // after a change, nothing older than it turns up
	maxName  = 200                 // octets of who asked
)

// discuss does what remarks on a request ask for: it puts questions into the book
// and the outbox, notes approvals, tells of a closing, and posts answers.
func (k *Keeper) discuss(ctx context.Context, t *tended, r book.Request) error {
	changed := t.request.UpdatedAt
	// The forge tells of changes to the second, and not before they can be read.
	quiet := changed.Equal(t.updated) && t.read.Sub(changed) > settled && k.now().Sub(t.read) <= remarksEvery
	if changed.IsZero() || !quiet || k.unposted(r) {
		list, err := k.o.Forge.Remarks(ctx, r.Number)
		if err != nil && !errors.Is(err, forge.ErrTooMuch) {
			return err
		}
		t.remarks, t.read, t.updated = list, k.now(), changed
	}
	if err := k.questionsOf(ctx, t, r.Number); err != nil {
		return err
	}
	k.approvals(ctx, t, r.Number)
	r, _ = k.o.Book.Get(r.Number)
	if t.request.State == forge.Closed {
		if err := k.closing(ctx, t, r); err != nil {
			return err
		}
	}
	return k.answers(ctx, t, r)
}

// questionsOf finds new questions. The mail is owed first and noted second: owing
// it twice does nothing.
func (k *Keeper) questionsOf(ctx context.Context, t *tended, number int) error {
	for _, m := range t.remarks {
		r, _ := k.o.Book.Get(number)
		text, ok := question(m.Body)
		if known := r.FindAsk(m.ID); !ok || m.Mark != "" || known != nil && (!known.MailedAt.IsZero() || len(to(r)) == 0) || len(r.Asked) >= maxAsks && known == nil {
			continue
		}
		may, err := k.mayAsk(ctx, m.Author)
		if err != nil {
			return err
		}
		if !may {
			continue
		}
		text, by := signedBy(text, m.Author.Login)
		ask := book.Ask{ID: m.ID, By: clip(by, maxName), At: m.At, Text: clip(text, maxWords)}
		if t.request.State == forge.Open || k.now().Sub(m.At) < tellFor {
			if k.owe(ctx, "ask "+itoa(number)+" "+m.ID, to(r), "A question about "+subject(r), k.askLetter(r, ask)) {
				ask.MailedAt = k.now().UTC()
			}
		}
		k.update(ctx, number, func(b *book.Request) {
			if known := b.FindAsk(m.ID); known != nil {
				known.MailedAt = ask.MailedAt
			} else {
				b.Asked = append(b.Asked, ask)
			}
		})
		if len(to(r)) == 0 {
			k.log.Warn("a question on a request reaches nobody by mail, as no contact is known", "event", "keeper.nobody", "request", number)
		}
	}
	return nil
}

// question is what a remark asks.
func question(body string) (string, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(body), askSign)
	if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\n' && rest[0] != '\t' {
		return "", false
	}
	rest = strings.TrimSpace(rest)
	return rest, rest != ""
}

// signedBy takes the signature of the portal's own page off a text.
func signedBy(text, by string) (string, string) {
	before, last, ok := cutLast(text, "\n")
	if name, own := strings.CutSuffix(strings.TrimSpace(last), through); ok && own {
		if name, own = strings.CutPrefix(name, "— "); own && name != "" {
			return strings.TrimSpace(before), name
		}
	}
	return text, by
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}

// mayAsk reports whether somebody's word is a postmaster's: the portal's own
// account, as the portal let nobody else write; those whom the configuration
// names, or, if it names none, whoever may write to the repository.
func (k *Keeper) mayAsk(ctx context.Context, who forge.Account) (bool, error) {
	if own, err := k.own(ctx, who); err != nil || own {
		return own, err
	}
	if len(k.o.Askers) > 0 {
		return who.ID != 0 && slices.ContainsFunc(k.o.Askers, func(a forge.Account) bool { return a.ID == who.ID }), nil
	}
	if known, ok := k.accounts[who]; ok && k.now().Before(known.until) {
		return known.may, nil
	}
	may, err := k.o.Forge.MayWrite(ctx, who)
	if err == nil {
		k.accounts[who] = account{may, k.now().Add(mayFor)}
	}
	return may, err
}

// own reports whether an account is the portal's own.
func (k *Keeper) own(ctx context.Context, who forge.Account) (bool, error) {
	if k.o.Self == nil || who.ID == 0 {
		return false, nil
	}
	if !k.now().Before(k.self.until) {
		self, err := k.o.Self(ctx)
		if err != nil {
			return false, err
		}
		k.self.id, k.self.until = self.ID, k.now().Add(mayFor)
	}
	return k.self.id == who.ID, nil
}

// approvals notes who approved, each by their last word.
func (k *Keeper) approvals(ctx context.Context, t *tended, number int) {
	last := map[forge.Account]forge.Remark{}
	for _, m := range t.remarks {
		if m.Kind == forge.Approved || m.Kind == forge.Wanted || m.Kind == forge.Dismissed {
			last[m.Author] = m
		}
	}
	var list []book.Approval
	for _, m := range last {
		if m.Kind == forge.Approved {
			list = append(list, book.Approval{By: clip(m.Author.Login, maxName), At: m.At})
		}
	}
	slices.SortFunc(list, func(a, b book.Approval) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.By, b.By)
	})
	k.update(ctx, number, func(b *book.Request) { b.Approved = list })
}

// closing tells the contact that a request was closed, with a postmaster's words
// if there are any near it.
func (k *Keeper) closing(ctx context.Context, t *tended, r book.Request) error {
	ended := r.ClosedAt
	if !r.ClosedTold.IsZero() || ended.IsZero() || k.now().Sub(ended) > tellFor {
		return nil
	}
	words, by := "", ""
	for _, m := range slices.Backward(t.remarks) {
		if d := m.At.Sub(ended); m.Mark != "" || d > aroundIt || d < -aroundIt || strings.HasPrefix(m.Body, answerLead) || strings.TrimSpace(m.Body) == "" {
			continue
		}
		may, err := k.mayAsk(ctx, m.Author)
		if err != nil {
			return err
		}
		if may {
			words, by = signedBy(m.Body, m.Author.Login)
			break
		}
	}
	if words == "" && k.now().Sub(ended) < wordsFor {
		return nil
	}
	words, by = clip(words, maxWords), clip(by, maxName)
	// Of a block nobody was told that it was proposed: it is between postmasters.
	if list := to(r); len(list) > 0 && r.Kind != book.KindBlock && !k.owe(ctx, "closed "+itoa(r.Number), list, upper(subject(r))+" was closed", k.closedLetter(r, words, by)) {
		return nil
	}
	k.update(ctx, r.Number, func(b *book.Request) { b.ClosedWords, b.ClosedTold = words, k.now().UTC() })
	return nil
}

// Answer takes an answer to a question, which then stands in the book, and at the
// forge after the next round. The error is ErrNoQuestion if there is none, or if it
// was answered.
func (k *Keeper) Answer(_ context.Context, number int, askID string, by book.Person, text string) error {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxWords || !utf8.ValidString(text) {
		return fmt.Errorf("keeper: taking an answer: it is empty, no text, or longer than %d octets", maxWords)
	}
	if _, known := k.o.Book.Get(number); !known {
		return ErrNoQuestion
	}
	taken := false
	_, err := k.o.Book.Update(number, func(b *book.Request) {
		ask := b.FindAsk(askID)
		if ask == nil || !ask.Answered.IsZero() {
			return
		}
		ask.Answer, ask.AnsweredBy, ask.Answered = text, by, k.now().UTC()
		taken = true
	})
	if err != nil {
		return fmt.Errorf("keeper: taking an answer: %w", err)
	}
	if !taken {
		return ErrNoQuestion
	}
	k.Wake()
	return nil
}

// answers posts what was answered. One that stands there already, as a crash came
// between posting and noting it, is noted.
func (k *Keeper) answers(ctx context.Context, t *tended, r book.Request) error {
	for _, ask := range r.Asked {
		if ask.Answered.IsZero() || !ask.Posted.IsZero() {
			continue
		}
		first := answerLead + review.Span(ask.ID)
		there := false
		for _, m := range t.remarks {
			if m.Mark != "" || !strings.HasPrefix(m.Body, first+" ") || m.At.Before(ask.Answered.Add(-time.Hour)) {
				continue
			}
			own := k.o.Self == nil // then nobody else can write there
			if !own {
				var err error
				if own, err = k.own(ctx, m.Author); err != nil {
					return err
				}
			}
			there = there || own
		}
		if !there {
			if !k.may("answer") {
				return nil
			}
			text := fmt.Sprintf("%s (%s), by %s in the portal%s:\n\n%s", first, review.Span(ask.By), review.Span(nameOf(ask.AnsweredBy)), k.outsider(r, ask.AnsweredBy), review.Quote(ask.Answer))
			by := forge.Person{Name: plainName(ask.AnsweredBy.Name), Email: plainName(ask.AnsweredBy.Email)}
			if by.Name == "" || by.Email == "" {
				by = k.o.Author
			}
			if err := k.o.Forge.Comment(ctx, r.Number, by, text); err != nil {
				return err
			}
			t.updated = time.Time{} // what was written is read again
		}
		k.update(ctx, r.Number, func(b *book.Request) {
			if a := b.FindAsk(ask.ID); a != nil {
				a.Posted = k.now().UTC()
			}
		})
	}
	return nil
}

// Outsider reports whether somebody who answers neither asked for a request nor is
// a contact of it nor speaks for its department, d, which may be nil. Whoever is
// signed in may answer, as what is sent to a contact is often read by others; so
// that it has to be told.
func Outsider(r book.Request, by book.Person, d *registration.Department) bool {
	if by.ID != "" && by.ID == r.By.ID || by.Email != "" && strings.EqualFold(by.Email, r.By.Email) {
		return false
	}
	if by.Email != "" && slices.ContainsFunc(r.Contacts, func(c book.Contact) bool { return strings.EqualFold(c.Email, by.Email) }) {
		return false
	}
	return d == nil || !policy.Author{Email: by.Email}.SpeaksFor(d)
}

// outsider says so of who answered; "" if it is not so.
func (k *Keeper) outsider(r book.Request, by book.Person) string {
	var d *registration.Department
	if reg := k.o.Register(); reg != nil {
		d = reg.Base.Snapshot().Department(r.Department)
	}
	if !Outsider(r, by, d) {
		return ""
	}
	return ", who did not ask for this, and neither is a contact nor speaks for the department"
}

// nameOf is how a person is named in a comment.
func nameOf(p book.Person) string {
	if p.Email == "" {
		return p.Name
	}
	return strings.TrimSpace(p.Name + " (" + p.Email + ")")
}

// plainName is a name that git takes.
func plainName(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == '<' || r == '>' {
			return -1
		}
		return r
	}, clip(s, maxName)))
}

// clip cuts a text to a number of octets, and says so.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	for s = s[:most]; !utf8.ValidString(s); s = s[:len(s)-1] {
	}
	return s + "…"
}
