package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// year is how long an address must have been silent to be left out of a renewal.
const year = 365 * 24 * time.Hour

// A mailbook knows when each registered address sent last.
type mailbook interface {
	// LastMail is when, by whichever relay saw it. all reports that every relay has
	// said so: of an address that is not there, no mail is known then, by any.
	LastMail(context.Context) (last map[netip.Addr]time.Time, all bool, err error)
}

// due is the renewals and removals that it is time for.
func (k *Keeper) due(ctx context.Context, reg *view.Register) ([]own, error) {
	byDepartment := map[string][]*registration.Registration{}
	seen := map[string]bool{}
	for _, e := range reg.Base.Snapshot().All() {
		r := e.Registration
		if seen[r.Path] {
			continue
		}
		seen[r.Path] = true
		// What is in force here and not as the file has it is not touched.
		if f := reg.Base.File(r.Path); f != nil && f.Registration == r && !faulty(f.Problems) {
			byDepartment[r.Department] = append(byDepartment[r.Department], r)
		}
	}
	var out []own
	for _, department := range slices.Sorted(maps.Keys(byDepartment)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list := byDepartment[department]
		slices.SortFunc(list, func(a, b *registration.Registration) int { return strings.Compare(a.Path, b.Path) })
		if k.o.RenewAhead > 0 {
			o, ok, err := k.renewal(ctx, reg, department, list)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, o)
				continue // its removals are in it
			}
		}
		if k.o.RemoveSilent > 0 {
			o, ok, err := k.removal(ctx, reg, department, list)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

func faulty(problems []registration.Problem) bool {
	return slices.ContainsFunc(problems, func(p registration.Problem) bool { return p.Severity == registration.Error })
}

// A struck address is left out.
type struck struct {
	ip   netip.Addr
	path string
}

// renewal moves the end of a department's registrations that end soon a year on,
// and leaves out of them what has been silent for a year.
func (k *Keeper) renewal(ctx context.Context, reg *view.Register, department string, list []*registration.Registration) (own, bool, error) {
	now := k.now()
	key := func(r *registration.Registration) string {
		return "renewal " + r.Path + " " + r.Expires.UTC().Format(time.DateOnly)
	}
	list = slices.DeleteFunc(slices.Clone(list), func(r *registration.Registration) bool {
		_, done := k.o.Book.Automatic(key(r))
		return done || !r.Expires.After(now) || r.Expires.Sub(now) > k.o.RenewAhead
	})
	list = list[:min(len(list), maxOwn)]
	if len(list) == 0 {
		return own{}, false, nil
	}
	silent, err := k.silent(ctx, reg, list, year)
	if err != nil {
		return own{}, false, err
	}
	first := slices.MinFunc(list, func(a, b *registration.Registration) int { return a.Expires.Compare(b.Expires) }).Expires
	o := own{
		kind: book.KindRenewal, subject: "renewal " + department, waits: []book.Kind{book.KindRenewal},
		title: fmt.Sprintf("Renew %s of %s", review.Count(len(list), "registration", "registrations"), department),
		about: book.Request{Department: department},
	}
	var gone []struck
	var renewed []string
	latest := now.UTC().AddDate(policy.MaxAhead, 0, 0)
	for _, r := range list {
		next := *r
		if next.Expires = r.Expires.AddDate(1, 0, 0); next.Expires.After(latest) {
			next.Expires = latest.Truncate(24 * time.Hour)
		}
		next.Hosts = nil
		for _, h := range r.Hosts {
			if silent[h.IP] {
				gone = append(gone, struck{h.IP, r.Path})
				continue
			}
			next.Hosts = append(next.Hosts, h)
			o.about.IPs = append(o.about.IPs, h.IP)
		}
		change := rewrite(reg, r, &next)
		o.changes, o.keys = append(o.changes, change), append(o.keys, key(r))
		o.about.Contacts = addContact(o.about.Contacts, r.Contact)
		if !change.Remove {
			renewed = append(renewed, fmt.Sprintf("%s: from %s to %s", review.Span(r.Path), lastDay(r.Expires), lastDay(next.Expires)))
		}
	}
	o.about.IPs = o.about.IPs[:min(len(o.about.IPs), maxAbout)]
	o.name = o.subject + " " + lastDay(first) + " " + digest(strings.Join(o.keys, "\n"))[:6]
	var b strings.Builder
	fmt.Fprintf(&b, "These registrations of %s end soon. Merging this renews them for a year; the contacts were told that it was opened.\n\n", review.Span(department))
	if len(renewed) > 0 {
		b.WriteString("### Renewed\n\n" + rows(renewed, func(s string) string { return s }) + "\n")
	}
	b.WriteString(struckOut(gone, "a year"))
	o.body = strings.TrimSpace(b.String())
	o.told = func(r forge.Request) {
		record := book.Request{Number: r.Number, Title: r.Title, Contacts: o.about.Contacts}
		k.owe(ctx, "renewal "+itoa(r.Number), to(record), fmt.Sprintf("Your registrations are about to be renewed (request %d)", r.Number), k.renewalLetter(record, first, len(gone)))
	}
	return o, true, nil
}

// removal leaves out what has been silent for as long as the site says.
func (k *Keeper) removal(ctx context.Context, reg *view.Register, department string, list []*registration.Registration) (own, bool, error) {
	silent, err := k.silent(ctx, reg, list, k.o.RemoveSilent)
	if err != nil || len(silent) == 0 {
		return own{}, false, err
	}
	o := own{kind: book.KindRemoval, subject: "removal " + department, waits: []book.Kind{book.KindRenewal, book.KindRemoval}, about: book.Request{Department: department}}
	var gone []struck
	for _, r := range list {
		next := *r
		next.Hosts = nil
		var keys []string
		for _, h := range r.Hosts {
			key := "removal " + h.IP.String() + " " + r.Path
			if _, done := k.o.Book.Automatic(key); done || !silent[h.IP] {
				next.Hosts = append(next.Hosts, h)
				continue
			}
			keys = append(keys, key)
			gone = append(gone, struck{h.IP, r.Path})
		}
		if len(keys) == 0 || len(o.changes) >= maxOwn {
			continue
		}
		change := rewrite(reg, r, &next)
		o.changes, o.keys = append(o.changes, change), append(o.keys, keys...)
		o.about.Contacts = addContact(o.about.Contacts, r.Contact)
	}
	gone = slices.DeleteFunc(gone, func(s struck) bool { return !slices.Contains(o.keys, "removal "+s.ip.String()+" "+s.path) })
	if len(gone) == 0 {
		return own{}, false, nil
	}
	for _, s := range gone[:min(len(gone), maxAbout)] {
		o.about.IPs = append(o.about.IPs, s.ip)
	}
	o.name = o.subject + " " + k.now().UTC().Format(time.DateOnly) + " " + digest(strings.Join(o.keys, "\n"))[:6]
	o.title = fmt.Sprintf("Remove %s of %s", review.Count(len(gone), "silent address", "silent addresses"), department)
	o.body = strings.TrimSpace(struckOut(gone, fmt.Sprintf("%d days", int(k.o.RemoveSilent.Hours()/24))))
	return o, true, nil
}

// struckOut is what a request tells of addresses that it leaves out.
func struckOut(gone []struck, since string) string {
	if len(gone) == 0 {
		return ""
	}
	return fmt.Sprintf("### Struck out, as no relay has had any mail from them for %s (%d)\n\n", since, len(gone)) +
		rows(gone, func(s struck) string { return review.Span(s.ip.String()) + " in " + review.Span(s.path) })
}

// silent are the addresses of registrations from which no relay has had mail for so
// long, and which have been registered for as long. It is empty unless every relay
// says so, and the portal has known each of them for as long.
func (k *Keeper) silent(ctx context.Context, reg *view.Register, list []*registration.Registration, span time.Duration) (map[netip.Addr]bool, error) {
	relays, ok := k.o.Relays.(mailbook)
	if !ok || len(k.relays()) == 0 {
		return nil, nil
	}
	before := k.now().Add(-span)
	for _, r := range k.relays() {
		if at, err := k.o.Book.First("relay " + r.Name); err != nil || at.After(before) {
			return nil, err
		}
	}
	last, all, err := relays.LastMail(ctx)
	if err != nil || !all {
		return nil, err
	}
	head, err := gitsync.ParseHash(reg.Commit)
	if err != nil {
		return nil, err
	}
	then, err := k.o.Repo.At(ctx, head, before)
	if errors.Is(err, gitsync.ErrNoCommit) {
		return nil, nil // the register is younger than that
	}
	if err != nil {
		return nil, fmt.Errorf("keeper: going back to %s: %w", before.Format(time.DateOnly), err)
	}
	out := map[netip.Addr]bool{}
	for _, r := range list {
		var quiet []netip.Addr
		for _, h := range r.Hosts {
			if at := last[h.IP]; at.Before(before) {
				quiet = append(quiet, h.IP)
			}
		}
		if len(quiet) == 0 {
			continue
		}
		had, err := k.hadThen(ctx, then, r.Path)
		if err != nil {
			return nil, err
		}
		for _, ip := range quiet {
			if had[ip] {
				out[ip] = true
			}
		}
	}
	return out, nil
}

// hadThen is the addresses that a file registered at a commit. One that was not
// there, or cannot be read, registered none.
func (k *Keeper) hadThen(ctx context.Context, at gitsync.Hash, path string) (map[netip.Addr]bool, error) {
	data, err := k.content(ctx, at, path)
	if err != nil || data == nil {
		return nil, err
	}
	p, err := registration.NewParser(nil)
	if err != nil {
		return nil, err
	}
	f := p.Parse(registration.Source{Path: path, Size: int64(len(data)), Data: data})
	had := map[netip.Addr]bool{}
	if f.Registration != nil {
		for _, h := range f.Registration.Hosts {
			had[h.IP] = true
		}
	}
	return had, nil
}

// content is a file of the register at a commit, nil if it is none.
func (k *Keeper) content(ctx context.Context, at gitsync.Hash, path string) ([]byte, error) {
	files, err := k.o.Repo.Files(ctx, at, path)
	if err != nil {
		return nil, fmt.Errorf("keeper: reading %s: %w", path, err)
	}
	for _, e := range files {
		if e.Path == path && e.Mode.Register() == registration.Regular && e.Size <= registration.MaxFile {
			data, err := k.o.Repo.Read(ctx, e.Hash, registration.MaxFile)
			if err != nil {
				return nil, fmt.Errorf("keeper: reading %s: %w", path, err)
			}
			return data, nil
		}
	}
	return nil, nil
}

// rewrite is the change that makes the file of was say what is says: without hosts
// it goes. Its comments stay, but for those of hosts that go.
func rewrite(reg *view.Register, was, is *registration.Registration) forge.Change {
	if len(is.Hosts) == 0 {
		return forge.Change{Path: was.Path, Remove: true}
	}
	remarks := registration.RemarksOf(reg.Base.Text(was.Path), was)
	d := registration.DraftOf(is)
	for i, h := range is.Hosts {
		d.Hosts[i].Remarks = remarks.Hosts[h.IP]
	}
	text, _ := registration.FormatDraft(d, strings.Join(remarks.Head, "\n"))
	return forge.Change{Path: was.Path, Data: text}
}

func addContact(list []book.Contact, c registration.Contact) []book.Contact {
	known := slices.ContainsFunc(list, func(o book.Contact) bool { return strings.EqualFold(o.Email, c.Email) })
	if known || len(list) >= maxContacts {
		return list
	}
	return append(list, book.Contact{Name: c.Name, Email: c.Email})
}

// lastDay is the last day on which a registration is valid.
func lastDay(expires time.Time) string { return expires.UTC().AddDate(0, 0, -1).Format(time.DateOnly) }
