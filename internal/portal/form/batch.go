package form

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// A Wish is what is to become of some addresses of one department, in one
// request.
type Wish struct {
	Department string
	Renew      []netip.Addr // their registrations are to hold Until
	Remove     []netip.Addr // are to be struck out
	Until      time.Time    // the last day, UTC
}

// A Batch is the change that a Wish makes.
type Batch struct {
	Department string
	Edits      []review.Edit
	Plan       review.Plan
	Findings   []Finding    // what keeps it from being sent, if anything, and warnings
	Unknown    []netip.Addr // of those wished for, those that the department has not registered
	Along      []netip.Addr // that are renewed because they are in one file with one that is wished for
	renewed    int
	removed    int
	until      string
}

// ErrWish says that a wish cannot be fulfilled as a whole; the words are for the
// visitor.
var ErrWish = errors.New("this cannot be done in one request")

// Fulfil makes the change that a wish asks for: a registration that has an
// address to be renewed holds until the day, all of it; an address to be removed
// goes out of its registration, and the file goes with its last one. What a file
// says otherwise stays, comments too. An error is ErrWish, with a reason
// in words, or of the register's own.
func Fulfil(base *review.Base, w Wish, now time.Time) (*Batch, error) {
	b := &Batch{Department: w.Department, until: w.Until.UTC().Format(time.DateOnly)}
	files := map[string]*registration.Registration{}
	var paths []string
	has := func(list []netip.Addr, ip netip.Addr) bool { return slices.Contains(list, ip) }
	renew, remove := unmapped(w.Renew), unmapped(w.Remove)
	for _, ip := range slices.Concat(renew, remove) {
		e, ok := base.Snapshot().Find(ip)
		if !ok || e.Registration.Department != w.Department {
			b.Unknown = append(b.Unknown, ip)
			continue
		}
		if files[e.Registration.Path] == nil {
			files[e.Registration.Path] = e.Registration
			paths = append(paths, e.Registration.Path)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("form: %w: none of these addresses is registered by %s", ErrWish, w.Department)
	}
	if len(paths) > review.MaxEdits {
		return nil, fmt.Errorf("form: %w: they are in %d registrations, and %d is the most", ErrWish, len(paths), review.MaxEdits)
	}
	slices.Sort(paths)
	for _, path := range paths {
		d := registration.DraftOf(files[path])
		var hosts []registration.DraftHost
		renewed := false
		for i, h := range files[path].Hosts {
			if has(remove, h.IP) {
				b.removed++
				continue
			}
			renewed = renewed || has(renew, h.IP)
			hosts = append(hosts, d.Hosts[i])
		}
		if len(hosts) == 0 {
			b.Edits = append(b.Edits, review.Edit{Path: path, Remove: true})
			continue
		}
		if renewed = renewed && d.Expires < b.until; !renewed && len(hosts) == len(d.Hosts) {
			continue // it holds as long already
		}
		if d.Hosts = hosts; renewed {
			d.Expires = b.until
			b.renewed += len(hosts)
			for _, h := range files[path].Hosts {
				if !has(remove, h.IP) && !has(renew, h.IP) {
					b.Along = append(b.Along, h.IP)
				}
			}
		}
		head := keepRemarks(base, files[path], &d)
		text, _ := registration.FormatDraft(d, head)
		b.Edits = append(b.Edits, review.Edit{Path: path, Data: text})
	}
	if len(b.Edits) == 0 {
		return nil, fmt.Errorf("form: %w: they hold until %s already, or longer", ErrWish, b.until)
	}
	change, err := base.Change(b.Edits, now)
	if err != nil {
		return nil, err
	}
	b.Plan = change.Plan()
	mine := map[string]bool{}
	for _, path := range paths {
		mine[path] = true
	}
	for _, p := range change.Blame(policy.Author{}) {
		if warning := p.Severity == registration.Warning; mine[p.File] || !warning {
			b.Findings = append(b.Findings, Finding{Rule: p.Rule, Message: p.File + ": " + p.Message, Hint: p.Hint, Warning: warning})
		}
	}
	return b, nil
}

func unmapped(list []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, ip := range list {
		out[i] = ip.Unmap()
	}
	return out
}

// Fine reports whether the batch can be sent.
func (b *Batch) Fine() bool {
	return !slices.ContainsFunc(b.Findings, func(f Finding) bool { return !f.Warning })
}

// Request tells of the batch to those who review it.
func (b *Batch) Request(who Asker, comment string) Request {
	var does []string
	if b.renewed > 0 {
		does = append(does, fmt.Sprintf("renew %s until %s", review.Count(b.renewed, "address", "addresses"), b.until))
	}
	if b.removed > 0 {
		does = append(does, "remove "+review.Count(b.removed, "address", "addresses"))
	}
	title := strings.Join(does, " and ") + " of " + b.Department
	var notes []string
	if n := len(b.Along); n > 0 {
		notes = append(notes, fmt.Sprintf("%s not asked for %s renewed, too, as they are in one registration with one that is.",
			review.Count(n, "address that was", "addresses that were"), map[bool]string{true: "is", false: "are"}[n == 1]))
	}
	return Request{
		Name: slug(b.Department + " " + does[0][:6]), Title: strings.ToUpper(title[:1]) + title[1:],
		Body: body(who, b.Department, comment, notes), Edits: b.Edits,
	}
}
