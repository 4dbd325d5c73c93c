package keeper

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/report"
)

// statusName is what the commit status is called.
const statusName = "gatepost/live"

// mergedLead begins the comment on a request that was merged.
const mergedLead = "**Merged.** What it does is below, as it was judged before."

// tendAll looks at every request of which something may still become.
func (k *Keeper) tendAll(ctx context.Context, list []forge.Request) {
	seen := make(map[int]bool, len(list))
	var due []*tended
	for _, r := range list {
		if seen[r.Number] = true; r.Base != k.o.Branch || !k.unfinished(r) {
			delete(k.requests, r.Number)
			k.missed(ctx, r.Number, nil)
			continue
		}
		t := k.requests[r.Number]
		if t == nil {
			t = &tended{}
			k.requests[r.Number] = t
		}
		t.request = r
		due = append(due, t)
	}
	// Where there are too many for one round, those come that have waited longest.
	slices.SortStableFunc(due, func(a, b *tended) int { return a.at.Compare(b.at) })
	for _, t := range due[:min(len(due), maxTended)] {
		if t.at = k.now(); ctx.Err() != nil {
			return
		}
		k.tend(ctx, t, false)
	}
	maps.DeleteFunc(k.requests, func(number int, _ *tended) bool { return !seen[number] })
	maps.DeleteFunc(k.asked, func(_ string, at time.Time) bool { return k.now().Sub(at) > 2*time.Hour })
	maps.DeleteFunc(k.accounts, func(_ forge.Account, a account) bool { return k.now().After(a.until) })
}

func (k *Keeper) newestFirst() []int {
	list := slices.Collect(maps.Keys(k.requests))
	slices.SortFunc(list, func(a, b int) int { return cmp.Compare(b, a) })
	return list
}

// unfinished reports whether there may be something to do for a request.
func (k *Keeper) unfinished(r forge.Request) bool {
	known, ok := k.o.Book.Get(r.Number)
	switch r.State {
	case forge.Open:
		return true
	case forge.Merged:
		return !ok || known.State != string(r.State) || known.MergedAs != r.MergedAs || !k.everywhere(known) || k.unposted(known) ||
			k.now().Sub(r.MergedAt) < 24*time.Hour
	}
	return !ok || known.State != string(r.State) || known.ClosedTold.IsZero() && k.now().Sub(known.ClosedAt) < tellFor || k.unposted(known)
}

// unposted reports whether an answer was given that is not at the forge yet.
func (k *Keeper) unposted(r book.Request) bool {
	return slices.ContainsFunc(r.Asked, func(a book.Ask) bool { return !a.Answered.IsZero() && a.Posted.IsZero() })
}

// tend does all that is due for one request. What fails is tried again in the next
// round. A light one reads nothing at the forge: only what relays say is new.
func (k *Keeper) tend(ctx context.Context, t *tended, light bool) {
	r, ok := k.update(ctx, t.request.Number, func(b *book.Request) { heard(b, t.request, k.now()); recognise(b, t.request) })
	if !ok {
		return
	}
	lead := mergedLead
	switch {
	case t.request.State != forge.Open:
	case light:
		if lead = r.Checked.Lead; lead == "" || r.Checked.Head != t.request.Head {
			return
		}
	default:
		if r, lead, ok = k.judge(ctx, t, r); !ok {
			return
		}
	}
	found, told := k.live(ctx, r)
	changed := r
	more := k.proved(&changed)
	more = k.ask(ctx, t, &changed) || more
	if t.request.State == forge.Merged && len(found) > 0 || more {
		if r, ok = k.update(ctx, r.Number, func(b *book.Request) {
			b.Proved, b.Confirmed = changed.Proved, changed.Confirmed
			if t.request.State == forge.Merged {
				if b.Live == nil {
					b.Live = map[string]time.Time{}
				}
				maps.Copy(b.Live, found)
			}
		}); !ok {
			return
		}
	}
	if !light {
		if err := k.discuss(ctx, t, r); err != nil {
			k.missed(ctx, r.Number, err)
			return
		}
	}
	if t.request.State == forge.Closed {
		k.missed(ctx, r.Number, nil)
		return
	}
	tell := k.told(r, t.request, told)
	k.missed(ctx, r.Number, errors.Join(k.comment(ctx, r, lead, tell), k.status(ctx, r, t.request, tell)))
}

// heard notes what the forge says of a request. Of a branch that somebody removed
// nobody says when, so it is when it was missed.
func heard(b *book.Request, r forge.Request, now time.Time) {
	if r.State == forge.Closed && r.ClosedAt.IsZero() {
		if r.ClosedAt = b.ClosedAt; r.ClosedAt.IsZero() {
			r.ClosedAt = now.UTC()
		}
	}
	b.Title, b.URL, b.State, b.Head = r.Title, r.URL, string(r.State), r.Head
	b.MergedAs, b.MergedAt, b.ClosedAt = r.MergedAs, r.MergedAt, r.ClosedAt
	if r.MergedBy.Login != "" {
		b.MergedBy = r.MergedBy.Login
	}
	if !r.OpenedAt.IsZero() {
		b.OpenedAt = r.OpenedAt
	}
}

// judge judges a request, if its head or the branch is another than when it was
// judged last.
func (k *Keeper) judge(ctx context.Context, t *tended, r book.Request) (book.Request, string, bool) {
	base := ""
	if reg := k.o.Register(); reg != nil {
		base = reg.Commit
	}
	if r.Checked.Head == t.request.Head && r.Checked.Base == base && base != "" && r.Checked.Lead != "" {
		return r, r.Checked.Lead, true
	}
	v, err := k.o.Judge(ctx, t.request)
	if errors.Is(err, report.ErrStale) { // the copy of the register follows in a moment
		return r, r.Checked.Lead, r.Checked.Lead != ""
	}
	if isForge(err) {
		k.missed(ctx, r.Number, err)
		return r, "", false
	}
	k.state(ctx, "register", err)
	if err != nil {
		return r, "", false
	}
	body := v.Body()
	r, ok := k.update(ctx, r.Number, func(b *book.Request) {
		b.Checked = book.Check{Head: t.request.Head, Base: v.Base, Conclusion: string(v.Conclusion), Title: v.Title, Lead: v.Lead(), At: k.now().UTC()}
		if b.Said = body; v.Moot {
			b.Checked.Lead, b.Said = mootLead, ""
		}
		about(b, v)
	})
	return r, r.Checked.Lead, ok
}

// mootLead stands for a verdict that says nothing: then there is no comment.
const mootLead = "-"

func isForge(err error) bool {
	for _, kind := range []error{forge.ErrUnreachable, forge.ErrRefused, forge.ErrLimited, forge.ErrNotFound, forge.ErrConflict, forge.ErrIncomplete} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// about notes whom and what a request concerns, as far as its plan tells; what the
// form said stays.
func about(b *book.Request, v report.Verdict) {
	if v.Plan == nil {
		return
	}
	b.Adds = nil
	for _, e := range v.Plan.Added[:min(len(v.Plan.Added), maxAbout)] {
		if ip, err := netip.ParseAddr(e.IP); err == nil {
			b.Adds = append(b.Adds, ip)
		}
	}
	lists := [][]policy.PlanEntry{v.Plan.Added, v.Plan.Changed}
	if len(v.Plan.Added)+len(v.Plan.Changed) == 0 {
		lists = [][]policy.PlanEntry{v.Plan.Removed}
	}
	var ips []netip.Addr
	var paths []string
	for _, list := range lists {
		for _, e := range list {
			ip, err := netip.ParseAddr(e.IP)
			if err == nil && len(ips) < maxAbout && !slices.Contains(ips, ip) {
				ips = append(ips, ip)
			}
			if len(paths) < maxAbout && !slices.Contains(paths, e.Registration) {
				paths = append(paths, e.Registration)
			}
			if b.Department == "" {
				b.Department = e.Department
			}
			contact := func(c book.Contact) bool { return c.Email == e.Contact }
			if b.Kind == book.KindOther && len(b.Contacts) < maxContacts && !slices.ContainsFunc(b.Contacts, contact) {
				b.Contacts = append(b.Contacts, book.Contact{Email: e.Contact})
			}
		}
	}
	if len(paths) > 0 {
		b.Paths = paths
	}
	if len(ips) > 0 && (b.Kind == book.KindOther || b.Kind == book.KindForm) {
		b.IPs = ips
	}
}

const (
	maxAbout    = 256
	maxContacts = 16
)

// told is what the comment says beyond the verdict.
func (k *Keeper) told(b book.Request, r forge.Request, live []report.Live) report.Told {
	t := report.Told{Page: k.page(b.Number), Proofs: k.proofs(b)}
	if b.By.Name != "" {
		t.By, t.Speaks = b.By.Name, b.Speaks
		if b.By.Email != "" {
			t.By += " (" + b.By.Email + ")"
		}
	}
	if r.State == forge.Merged {
		t.Live, t.MergedAt = live, r.MergedAt
		if t.MergedAt.IsZero() { // a fast-forward records no time
			t.MergedAt = k.now()
		}
	}
	return t
}

// comment keeps the one comment.
func (k *Keeper) comment(ctx context.Context, r book.Request, lead string, t report.Told) error {
	text := ""
	if lead != mootLead && (lead != mergedLead || r.Said != "" || r.Comment != "") {
		text = report.Comment(lead, t, r.Said)
	}
	sum := digest(text)
	if text == "" && r.Comment == "" || r.Comment == sum || !k.may("comment") {
		return nil
	}
	if err := k.o.Forge.SetComment(ctx, r.Number, report.Mark, text); err != nil {
		return err
	}
	k.update(ctx, r.Number, func(b *book.Request) { b.Comment = sum })
	return nil
}

// status keeps the commit status, where the forge has any: on the request's head,
// and on the commit with which it was merged.
func (k *Keeper) status(ctx context.Context, b book.Request, r forge.Request, t report.Told) error {
	f, ok := k.o.Forge.(statuses)
	if !ok {
		return nil
	}
	commits := []string{r.Head}
	if r.State == forge.Merged && r.MergedAs != r.Head {
		commits = append(commits, r.MergedAs)
	}
	conclusion := forge.Pending
	if r.State == forge.Merged && t.On() == len(t.Live) {
		conclusion = forge.Success
	}
	sum := digest(string(conclusion) + t.Summary())
	for _, commit := range commits {
		if b.Status[commit] == sum || !k.may("status") {
			continue
		}
		if err := f.ReportStatus(ctx, forge.Report{Commit: commit, Name: statusName, Conclusion: conclusion, Title: t.Summary(), URL: k.page(b.Number)}); err != nil {
			return err
		}
		k.update(ctx, b.Number, func(b *book.Request) {
			kept := map[string]string{commit: sum}
			for _, c := range commits { // heads that it had before are left as they are
				if c != commit && b.Status[c] != "" {
					kept[c] = b.Status[c]
				}
			}
			b.Status = kept
		})
	}
	return nil
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:12])
}

func itoa(n int) string { return strconv.Itoa(n) }
