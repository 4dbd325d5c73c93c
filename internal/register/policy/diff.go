package policy

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// A Change is one difference between two snapshots.
type Change struct {
	Kind         ChangeKind
	IP           netip.Prefix // a single address, but for blocks
	Registration string       // path after the change; before it, for Removed; for a block of a single address, the file that registers it
	Department   string
	Contact      string
	What         []string // for Changed: what is different, in plain words
	Block        string   // for changes of blocks: the block's file
	Affects      int      // for changes of blocks: how many registered addresses lie below IP
}

// A ChangeKind says what happened to an address.
type ChangeKind string

// The kinds of change, named as in the JSON of "gatepost plan".
const (
	Added     ChangeKind = "added"
	Removed   ChangeKind = "removed"
	Changed   ChangeKind = "changed" // also a block with another reason or other times
	BlockedBy ChangeKind = "blocked"
	Unblocked ChangeKind = "unblocked"
)

// Diff is every difference between what base and head say of addresses, sorted
// by kind, in the order above, and address. Either may be nil. Break-glass
// blocks are no part of it, nor are campus data: they decide what may be
// built, not what a client gets.
func Diff(base, head *Snapshot) []Change {
	var changes []Change
	for ip, e := range head.changedBy(base) {
		was, ok := base.Find(ip)
		if !ok {
			changes = append(changes, change(Added, ip, e))
		} else if what := differences(was, e); len(what) > 0 {
			c := change(Changed, ip, e)
			c.What = what
			changes = append(changes, c)
		}
	}
	for ip, e := range base.changedBy(head) {
		if _, ok := head.Find(ip); !ok {
			changes = append(changes, change(Removed, ip, e))
		}
	}
	changes = append(changes, diffBlocks(base, head)...)
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(rankKind(a.Kind), rankKind(b.Kind)), comparePrefixes(a.IP, b.IP), strings.Compare(a.Block, b.Block))
	})
	return changes
}

func rankKind(k ChangeKind) int {
	return slices.Index([]ChangeKind{Added, Removed, Changed, BlockedBy, Unblocked}, k)
}

// A Removal is an address that a department has no longer.
type Removal struct {
	IP         netip.Addr `json:"ip"`
	Department string     `json:"department"`
}

// Removals are the addresses of was that is does not have, or has for another
// department, in no order. Either may be nil.
func Removals(was, is *Snapshot) []Removal {
	var gone []Removal
	for ip, e := range was.changedBy(is) {
		if r := (Removal{ip, e.Registration.Department}); !is.has(r) {
			gone = append(gone, r)
		}
	}
	return gone
}

// StillRemoved are those of gone that s has not got again.
func (s *Snapshot) StillRemoved(gone []Removal) []Removal {
	return slices.DeleteFunc(slices.Clone(gone), s.has)
}

func (s *Snapshot) has(r Removal) bool {
	e, ok := s.Find(r.IP)
	return ok && e.Registration.Department == r.Department
}

// changedBy yields the entries of s that may differ in other: all of them,
// unless one of the two was made of the other.
func (s *Snapshot) changedBy(other *Snapshot) iter.Seq2[netip.Addr, Entry] {
	var touched []netip.Addr
	switch {
	case s == nil || other == nil:
		return s.entries()
	case s.id == other.id:
	case s.id == other.parent:
		touched = other.touched
	case s.parent == other.id:
		touched = s.touched
	default:
		return s.entries()
	}
	return func(yield func(netip.Addr, Entry) bool) {
		for _, ip := range touched {
			if e, ok := s.Find(ip); ok && !yield(ip, e) {
				return
			}
		}
	}
}

// entries is All without the cost of its order.
func (s *Snapshot) entries() iter.Seq2[netip.Addr, Entry] {
	return func(yield func(netip.Addr, Entry) bool) {
		if s == nil {
			return
		}
		for p, e := range s.hosts.All() {
			if !yield(p.Addr(), e) {
				return
			}
		}
	}
}

func change(kind ChangeKind, ip netip.Addr, e Entry) Change {
	return Change{
		Kind: kind, IP: single(ip), Registration: e.Registration.Path,
		Department: e.Registration.Department, Contact: e.Registration.Contact.Email,
	}
}

// differences says what is different between two entries of one address, but
// for places in the file.
func differences(was, is Entry) []string {
	if was == is {
		return nil // the same file in memory
	}
	var what []string
	after := clausesOf(is)
	for i, before := range clausesOf(was) {
		if after := after[i]; before != after {
			what = append(what, fmt.Sprintf("%s: %s → %s", before.Name, cmp.Or(before.Value, "none"), cmp.Or(after.Value, "none")))
		}
	}
	return what
}

// A clause is one thing that an entry says.
type clause struct{ Name, Value string }

// clausesOf is all that an entry says, but for places in the file; of any two
// entries the same names in the same order.
func clausesOf(e Entry) []clause {
	r := e.Registration
	return []clause{
		{"file", r.Path},
		{"department", r.Department},
		{"contact", contact(r)},
		{"purpose", r.Purpose},
		{"whyNoAuth", r.WhyNoAuth},
		{"name", e.Host.Name},
		{"kind", e.Host.Kind},
		{"bareLF", e.Host.Device.BareLF},
		{"tls", e.Host.Device.TLS},
		{"commands", e.Host.Device.Commands},
		{"addHeaders", strconv.FormatBool(e.Host.Device.AddHeaders)},
		{"senders", senders(r)},
		{"bounces", cmp.Or(r.Bounces, "sender")},
		{"perHour", strconv.Itoa(r.Volume.PerHour)},
		{"perDay", strconv.Itoa(r.Volume.PerDay)},
		{"expires", lastDay(r.Expires)},
	}
}

func contact(r *registration.Registration) string {
	return r.Contact.Name + " <" + r.Contact.Email + ">"
}

func senders(r *registration.Registration) string {
	if len(r.Senders) == 0 {
		return "any"
	}
	return strings.Join(slices.Sorted(slices.Values(r.Senders)), ", ")
}

// diffBlocks compares the registers' blocks. Blocks of one prefix are told
// apart by their files; a block that moved to another file and says the same is
// no change.
func diffBlocks(base, head *Snapshot) []Change {
	if base != nil && head != nil && sameList(base.register, head.register) {
		return nil
	}
	was, is := blocksByPrefix(base), blocksByPrefix(head)
	var changes []Change
	for p, now := range is {
		before := was[p]
		switch {
		case len(before) == 0:
			changes = append(changes, blockChange(BlockedBy, p, now[0], head))
		case sameBlocks(before, now):
		default:
			c := blockChange(Changed, p, now[0], head)
			c.What = []string{fmt.Sprintf("block: %s → %s", describe(before), describe(now))}
			changes = append(changes, c)
		}
	}
	for p, before := range was {
		if len(is[p]) == 0 {
			changes = append(changes, blockChange(Unblocked, p, before[0], head))
		}
	}
	return changes
}

func blocksByPrefix(s *Snapshot) map[netip.Prefix][]registration.Block {
	m := make(map[netip.Prefix][]registration.Block)
	if s != nil {
		for _, b := range s.register { // by prefix and path
			m[b.Prefix] = append(m[b.Prefix], b)
		}
	}
	return m
}

// sameList reports whether two lists are one and the same.
func sameList(a, b []registration.Block) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sameBlocks(a, b []registration.Block) bool { return describe(a) == describe(b) }

// describe says what blocks of one prefix do.
func describe(blocks []registration.Block) string {
	parts := make([]string, 0, len(blocks))
	for _, b := range blocks {
		s := fmt.Sprintf("%q since %s", b.Reason, b.Since.UTC().Format(time.RFC3339))
		if !b.Until.IsZero() {
			s += " until " + b.Until.UTC().Format(time.RFC3339)
		}
		parts = append(parts, s)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

func blockChange(kind ChangeKind, p netip.Prefix, b registration.Block, s *Snapshot) Change {
	c := Change{Kind: kind, IP: p, Block: b.Path}
	if s == nil {
		return c
	}
	for range s.hosts.Subnets(p) {
		c.Affects++
	}
	if e, ok := s.Find(p.Addr()); ok && p.IsSingleIP() {
		c.Registration, c.Department, c.Contact = e.Registration.Path, e.Registration.Department, e.Registration.Contact.Email
	}
	return c
}
