package keeper

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

const (
	blockFolder = "registrations/blocks/"
	maxReason   = 1000 // characters, as the schema has it
	maxTwins    = 20   // files of one day and prefix
)

// A stray is a block by command that the register does not have.
type stray struct {
	prefix       netip.Prefix
	since, until time.Time // until is zero for one that stays
	reason       string
	relays       []string
}

// strays are the blocks by command of all relays, each prefix once. Of several the
// one that began first says since when, and the one that ends last says until when.
func (k *Keeper) strays(reg *view.Register) []stray {
	now := k.now()
	found := map[netip.Prefix]*stray{}
	for _, relay := range k.relays() {
		if !relay.Up() {
			continue
		}
		for _, d := range relay.Report.Drift {
			p, err := parsePrefix(d.Prefix)
			if err != nil || d.Agreed != "" || !d.Until.IsZero() && !d.Until.After(now) || reg.Base.Snapshot().Agrees(p, d.Until, now) != nil {
				continue
			}
			since := d.Since
			if since.IsZero() || since.After(now) {
				since = now
			}
			if k.mirrored(p, since) {
				continue
			}
			s := found[p]
			if s == nil {
				found[p] = &stray{prefix: p, since: since, until: d.Until, reason: d.Reason, relays: []string{relay.Name}}
				continue
			}
			if s.relays = append(s.relays, relay.Name); since.Before(s.since) {
				s.since, s.reason = since, d.Reason
			}
			if d.Until.IsZero() || !s.until.IsZero() && d.Until.After(s.until) {
				s.until = d.Until
			}
		}
	}
	var out []stray
	for _, s := range found {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b stray) int { return cmp.Or(a.since.Compare(b.since), a.prefix.Compare(b.prefix)) })
	return out
}

// mirrored reports whether a block was put into a request before. One that was
// opened for a prefix stands for all blocks of it that began before it was: whoever
// closed it, closed it for all relays. While it is open, it stands for all.
func (k *Keeper) mirrored(p netip.Prefix, since time.Time) bool {
	last := k.o.Book.NewestAutomatic("block " + nameOfPrefix(p) + " ")
	if last.Number == 0 {
		return false
	}
	r, known := k.o.Book.Get(last.Number)
	return !since.After(last.At) || known && (r.State == "" || r.State == string(forge.Open))
}

// nameOfPrefix is an address where it is one.
func nameOfPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// parsePrefix reads an address or a prefix.
func parsePrefix(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && (!p.IsValid() || p != p.Masked()) {
		err = fmt.Errorf("%q is no prefix", s)
	}
	return p, err
}

// blocksToMirror are the requests that would make the register agree.
func (k *Keeper) blocksToMirror(reg *view.Register) []own {
	var out []own
	for _, s := range k.strays(reg) {
		name := nameOfPrefix(s.prefix)
		since := s.since.UTC().Truncate(time.Second)
		file := since.Format(time.DateOnly) + "-" + strings.NewReplacer(":", "-", "/", "_").Replace(name)
		path := blockFolder + file + ".cue"
		for n := 2; n <= maxTwins && reg.Base.Taken(path); n++ {
			path = fmt.Sprintf("%s%s-%d.cue", blockFolder, file, n)
		}
		reason := oneLine(s.reason, 4*maxReason)
		if r := []rune(reason); len(r) > maxReason {
			reason = string(r[:maxReason])
		} else if len(r) < 3 {
			reason = "blocked by an operator: " + reason
		}
		data := registration.FormatBlock(&registration.Block{Prefix: s.prefix, Reason: reason, Since: since, Until: s.until},
			"Blocked by an operator on "+strings.Join(s.relays, ", ")+"; proposed by the portal.")
		until := "stays until it is taken back"
		if !s.until.IsZero() {
			until = "ends " + s.until.UTC().Format("2006-01-02 15:04 UTC")
		}
		about := book.Request{}
		if s.prefix.IsSingleIP() {
			about.IPs = []netip.Addr{s.prefix.Addr()}
			if e, ok := reg.Base.Snapshot().Find(s.prefix.Addr()); ok {
				about.Department = e.Registration.Department
				about.Contacts = []book.Contact{{Name: e.Registration.Contact.Name, Email: e.Registration.Contact.Email}}
			}
		}
		out = append(out, own{
			kind: book.KindBlock, subject: "block " + name, name: "block " + name + " " + since.Format("2006-01-02T15:04:05Z"),
			keys:  []string{"block " + name + " " + since.Format(time.RFC3339)},
			title: "Block " + name,
			body: fmt.Sprintf("An operator blocked %s, and the register does not have it. With this, all relays do, and the block outlives the relay that has it now.\n\n- reason: %s\n- since: %s\n- it %s\n- on: %s\n\nMerge it to keep the block. To end the block, close this, and run `gatepost unblock %s` on those relays.",
				review.Span(name), review.Span(reason), since.Format("2006-01-02 15:04:05 UTC"), until, review.Span(strings.Join(s.relays, ", ")), name),
			changes: []forge.Change{{Path: path, Data: data}}, about: about,
		})
	}
	return out
}
