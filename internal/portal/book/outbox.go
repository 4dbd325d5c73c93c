package book

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A Mail is one that is owed, or was sent.
type Mail struct {
	Key     string    `json:"key"` // what it is about: the same key is the same mail
	To      []string  `json:"to,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Body    string    `json:"body,omitempty"` // plain text, lines ended by \n
	Created time.Time `json:"created"`
	Sent    time.Time `json:"sent,omitzero"`    // the relay took it; the text is forgotten then
	Given   time.Time `json:"given,omitzero"`   // given up: the relay will never take it
	Tries   int       `json:"tries,omitempty"`  // that failed
	Next    time.Time `json:"next,omitzero"`    // when it is tried again
	Reason  string    `json:"reason,omitempty"` // why the last try failed
}

func (m *Mail) owed() bool { return m.Sent.IsZero() && m.Given.IsZero() }

func (m *Mail) clone() *Mail {
	c := *m
	c.To = slices.Clone(m.To)
	return &c
}

// Owe puts a mail into the outbox. It does nothing if one with the key was owed
// before, sent or not; so whoever crashed before noting that it asked may ask
// again. The error is ErrFull if the relay has not taken any for so long that more
// are not kept.
func (b *Book) Owe(m Mail) error {
	if m.Key == "" || len(m.To) == 0 {
		return errors.New("book: a mail needs a key and somebody to go to")
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.RLock()
	known, owed := b.mails[m.Key] != nil, 0
	for _, m := range b.mails {
		if m.owed() {
			owed++
		}
	}
	b.mu.RUnlock()
	if known {
		return nil
	}
	if owed >= b.most.owed {
		return fmt.Errorf("book: keeping a mail: %w", ErrFull)
	}
	now := m.clone()
	now.Sent, now.Given, now.Tries = time.Time{}, time.Time{}, 0
	if now.Created.IsZero() {
		now.Created = b.now()
	}
	if err := b.putMail(now); err != nil {
		return err
	}
	b.forgetMails()
	return nil
}

// Knows reports whether a mail with the key was ever owed.
func (b *Book) Knows(key string) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.mails[key] != nil
}

// Owed is the mails that are to be tried now, oldest first.
func (b *Book) Owed(now time.Time) []Mail {
	var out []Mail
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, m := range b.mails {
		if m.owed() && !m.Next.After(now) {
			out = append(out, *m.clone())
		}
	}
	slices.SortFunc(out, func(a, b Mail) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Key, b.Key)) })
	return out
}

// Waiting is how many mails the relay has not taken, and since when the oldest waits.
func (b *Book) Waiting() (n int, since time.Time) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, m := range b.mails {
		if m.owed() {
			if n++; since.IsZero() || m.Created.Before(since) {
				since = m.Created
			}
		}
	}
	return n, since
}

// Sent notes that the relay took a mail.
func (b *Book) Sent(key string, at time.Time) error {
	return b.changeMail(key, func(m *Mail) { *m = Mail{Key: m.Key, Created: m.Created, Sent: at, Tries: m.Tries} })
}

// GiveUp notes that a mail will never be taken, and why.
func (b *Book) GiveUp(key, reason string, at time.Time) error {
	return b.changeMail(key, func(m *Mail) {
		*m = Mail{Key: m.Key, To: m.To, Subject: m.Subject, Created: m.Created, Given: at, Tries: m.Tries, Reason: reason}
	})
}

// Failed notes that a mail was not taken, why, and when to try it again.
func (b *Book) Failed(key, reason string, next time.Time) error {
	return b.changeMail(key, func(m *Mail) { m.Tries, m.Reason, m.Next = m.Tries+1, reason, next })
}

func (b *Book) changeMail(key string, change func(*Mail)) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.RLock()
	was := b.mails[key]
	b.mu.RUnlock()
	if was == nil {
		return fmt.Errorf("book: no mail is owed as %.200q", key)
	}
	now := was.clone()
	change(now)
	return b.putMail(now)
}

// putMail writes a mail and remembers it. writing must be held.
func (b *Book) putMail(m *Mail) error {
	data, err := encode(m)
	if err != nil {
		return err
	}
	if err := b.write("mails", mailName(m.Key), data, maxMailFile); err != nil {
		return err
	}
	b.mu.Lock()
	b.mails[m.Key] = m
	b.mu.Unlock()
	return nil
}

// forgetMails lets those go that were sent long ago, and the oldest of those sent
// where there are too many.
func (b *Book) forgetMails() {
	b.mu.RLock()
	list := slices.DeleteFunc(slices.Collect(maps.Values(b.mails)), (*Mail).owed)
	over := len(b.mails) - b.most.mails
	b.mu.RUnlock()
	slices.SortFunc(list, func(a, b *Mail) int { return a.Created.Compare(b.Created) })
	for i, m := range list {
		if i >= over && b.now().Sub(m.Created) < keepSent {
			return
		}
		if os.Remove(filepath.Join(b.dir, "mails", mailName(m.Key)+suffix)) == nil {
			b.mu.Lock()
			delete(b.mails, m.Key)
			b.mu.Unlock()
		}
	}
}

// mailName is the file of a key, which may be any text.
func mailName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

func (b *Book) loadMails() error {
	return load(b, "mails", maxMailFile, func(name string, m *Mail) error {
		if m.Key == "" || mailName(m.Key) != name || m.owed() && len(m.To) == 0 {
			return fmt.Errorf("book: %s is not the mail %.200q", name, m.Key)
		}
		b.mails[m.Key] = m
		return nil
	})
}
