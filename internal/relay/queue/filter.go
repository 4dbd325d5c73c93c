package queue

import (
	"net/netip"
	"slices"
	"strings"

	"example.edu/gatepost/internal/mail"
)

// A Filter selects rows. The zero value selects all.
//
// Sender and Recipient are an address, of which the domain may be written in
// any case, "@domain" for all of one domain, or, as a sender, "<>" for mail
// without one. A recipient counts while something is owed to it.
type Filter struct {
	Registration string       `json:"registration,omitempty"`
	Status       string       `json:"status,omitempty"`
	Destination  string       `json:"destination,omitempty"` // a next hop that something is owed to
	Sender       string       `json:"from,omitempty"`
	Recipient    string       `json:"to,omitempty"`
	Client       netip.Prefix `json:"client,omitzero"` // of the machine that sent it
	Limit        int          `json:"limit,omitempty"` // rows of List; 0: no limit
}

// matcher is f as a function, for many rows.
func (f Filter) matcher() func(*Row) bool {
	from, to := mailbox(f.Sender), mailbox(f.Recipient)
	return func(r *Row) bool {
		return (f.Registration == "" || f.Registration == r.Envelope.Registration) &&
			(f.Status == "" || f.Status == r.Status) &&
			(f.Destination == "" || slices.ContainsFunc(r.Destinations, func(d string) bool { return strings.EqualFold(d, f.Destination) })) &&
			(!f.Client.IsValid() || f.Client.Contains(r.Envelope.Client)) &&
			(f.Sender == "" || from(r.Envelope.From)) &&
			(f.Recipient == "" || slices.ContainsFunc(draft{r.Entry}.open(), func(i int) bool { return to(r.Envelope.To[i].Address) }))
	}
}

// mailbox tells of an address whether it is meant by a word of a Filter.
func mailbox(word string) func(mail.Address) bool {
	local, domain, _ := cutLast(word)
	return func(a mail.Address) bool {
		if a.IsNull() || word == "<>" {
			return a.IsNull() && word == "<>"
		}
		if !strings.EqualFold(domain, a.Domain) {
			return false
		}
		if local == "" {
			return true
		}
		got, _, _ := cutLast(a.String())
		return got == local
	}
}

// cutLast cuts an address at its last @.
func cutLast(s string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
