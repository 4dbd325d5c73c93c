package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/portal/book"
)

// columns is the width of what is not somebody's own text. RFC 5322 §2.1.1.
const columns = 76

// to is who hears of a request: whoever asked for it, and the contacts.
func to(r book.Request) []string {
	all := r.Told()
	if r.By.Email != "" && !slices.Contains(all, r.By.Email) {
		all = append([]string{r.By.Email}, all...)
	}
	return slices.DeleteFunc(all, func(s string) bool {
		a, err := mail.ParseAddress(s, true)
		return err != nil || a.Domain == ""
	})
}

// owe puts a mail into the outbox, one for each mailbox: one that is refused costs
// itself. It reports whether all are there.
func (k *Keeper) owe(ctx context.Context, key string, list []string, subject, body string) bool {
	if k.o.Mailer == nil || len(list) == 0 {
		return false
	}
	for _, address := range list {
		err := k.o.Book.Owe(book.Mail{Key: key + " " + address, To: []string{address}, Subject: subject, Body: body})
		if k.state(ctx, "book", err); err != nil {
			return false
		}
	}
	if k.o.AfterBookWrite != nil {
		k.o.AfterBookWrite()
	}
	poke(k.post)
	return true
}

// askLetter is what a contact is asked.
func (k *Keeper) askLetter(r book.Request, a book.Ask) string {
	return k.letter(r,
		fmt.Sprintf("a postmaster (%s) asks about %s:", oneLine(a.By, maxName), concerning(r)),
		quoted(a.Text),
		"Please answer on its page. You need no account other than the one you sign in with there:",
		"    "+k.page(r.Number),
		"The request waits for your answer.")
}

// concerning is what a request is to whoever hears of it: not everybody asked for it.
func concerning(r book.Request) string {
	if r.By.Email != "" || r.Kind == book.KindForm {
		return "your request"
	}
	return "a request about your registrations"
}

// subject is the same in a few words: "your request 12", or "request 12".
func subject(r book.Request) string {
	if concerning(r) == "your request" {
		return "your request " + itoa(r.Number)
	}
	return "request " + itoa(r.Number)
}

// upper begins a line.
func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// closedLetter tells that a request was closed.
func (k *Keeper) closedLetter(r book.Request, words, by string) string {
	parts := []string{concerning(r) + " was closed without being taken over. Nothing has changed for your addresses."}
	if r.Kind == book.KindRenewal {
		parts = append(parts, "What it would have renewed ends on its day, unless you renew it on your department's page.")
	}
	if words == "" {
		parts = append(parts, "No reason was given with it. If you do not know why, ask the postmasters.")
	} else {
		parts = append(parts, fmt.Sprintf("What the postmaster (%s) wrote:", oneLine(by, maxName)), quoted(words))
	}
	parts = append(parts, "Its page:", "    "+k.page(r.Number))
	if r.Kind == book.KindForm || r.Kind == book.KindOther {
		parts = append(parts, "You can send the form again at any time:", "    "+k.o.URL+"/register")
	}
	return k.letter(r, parts...)
}

// renewalLetter tells contacts what was opened for them.
func (k *Keeper) renewalLetter(r book.Request, ends time.Time, struck int) string {
	parts := []string{fmt.Sprintf("registrations of your department end soon, the first after %s. A request that renews them for a year was opened, so there is nothing that you have to do.",
		ends.AddDate(0, 0, -1).Format("2 January 2006"))}
	if struck > 0 {
		parts = append(parts, "It leaves out addresses that no relay has had any mail from for a year. If you still need one of them, say so on its page, or register it again.")
	}
	return k.letter(r, append(parts, "What it renews, and what it leaves out, is on its page:", "    "+k.page(r.Number), "If a machine is not needed any more, please tell us there.")...)
}

// letter is a mail about a request: plain text, wrapped, but for lines that begin
// with blanks or a quotation sign.
func (k *Keeper) letter(r book.Request, paragraphs ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Hello,\n\n")
	for _, p := range paragraphs {
		if strings.HasPrefix(p, " ") || strings.HasPrefix(p, ">") {
			b.WriteString(p + "\n\n")
			continue
		}
		b.WriteString(wrap(p) + "\n\n")
	}
	fmt.Fprintf(&b, "Request %d: %s\n", r.Number, oneLine(r.Title, 200))
	return b.String()
}

// quoted is somebody's text, each line behind a sign.
func quoted(s string) string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		lines = append(lines, "> "+oneLine(line, 900))
	}
	return strings.Join(lines, "\n")
}

// wrap breaks a paragraph into lines.
func wrap(s string) string {
	var b strings.Builder
	width := 0
	for _, word := range strings.Fields(s) {
		n := len([]rune(word))
		switch {
		case width == 0:
		case width+1+n > columns:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += n
	}
	return b.String()
}

// oneLine is a text without anything that ends a line or hides, cut.
func oneLine(s string, most int) string {
	return strings.TrimSpace(clip(strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsGraphic(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")), most))
}

// A Mailer hands mails to the relay.
type Mailer interface {
	// Send hands one mail to the relay. An error that wraps ErrNever is one that no
	// other try will mend; after any other it is tried again. key is the same in
	// every try, and in no other mail.
	Send(ctx context.Context, key, to, subject, body string) error
}

// ErrNever is the error of a mail that will never be taken.
var ErrNever = errors.New("the mail will never be taken")

const (
	postEvery   = time.Minute // the outbox is looked at, without being woken
	postFor     = time.Minute // one mail may take
	maxPosts    = 50          // mails in one go
	firstRetry  = time.Minute
	longestWait = time.Hour
	giveUpAfter = 5 * 24 * time.Hour // as a relay does, RFC 5321 §4.5.4.1
)

// mails hands over what is owed, when it is owed and every minute.
func (k *Keeper) mails(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-k.post:
		}
		k.handOver(ctx)
		timer.Reset(postEvery)
	}
}

// handOver is one go. A server that cannot be reached is asked once in it.
func (k *Keeper) handOver(ctx context.Context) {
	now := k.now()
	for i, m := range k.o.Book.Owed(now) {
		if i >= maxPosts {
			poke(k.post)
			break
		}
		once, cancel := context.WithTimeout(ctx, postFor)
		err := k.o.Mailer.Send(once, m.Key, m.To[0], m.Subject, m.Body)
		cancel()
		if ctx.Err() != nil && err != nil {
			return
		}
		reason := ""
		if err != nil {
			reason = mail.Printable(err.Error(), 500)
		}
		var noted error
		switch {
		case err == nil:
			k.metrics.mails.WithLabelValues("sent").Inc()
			k.state(ctx, "mail", nil)
			noted = k.o.Book.Sent(m.Key, k.now().UTC())
			k.log.Info("a mail was handed to the relay", "event", "keeper.mailed", "mail", m.Key)
		case errors.Is(err, ErrNever), k.now().Sub(m.Created) > giveUpAfter:
			k.metrics.mails.WithLabelValues("given-up").Inc()
			noted = k.o.Book.GiveUp(m.Key, reason, k.now().UTC())
			k.log.Error("a mail will never be taken and is given up", "event", "keeper.mail_lost", "mail", m.Key, "err", reason)
		default:
			k.metrics.mails.WithLabelValues("failed").Inc()
			k.state(ctx, "mail", err)
			wait := min(firstRetry<<min(m.Tries, 10), longestWait)
			noted = k.o.Book.Failed(m.Key, reason, k.now().Add(wait).UTC())
		}
		if k.state(ctx, "book", noted); noted != nil || err != nil && !errors.Is(err, ErrNever) {
			break
		}
	}
	n, _ := k.o.Book.Waiting()
	k.metrics.waiting.Set(float64(n))
}
