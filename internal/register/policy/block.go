package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"example.edu/gatepost/internal/register/registration"
)

// A blockNode holds the blocks of one prefix and leads to the next wider
// blocked prefix, so that a narrow block which is over never hides a wide one
// in force, and the search allocates nothing.
type blockNode struct {
	blocks []*registration.Block
	wider  *blockNode
}

// newBlockTable indexes blocks. Widest first: when a prefix goes in, everything
// that contains it is there already.
func newBlockTable(lists ...[]registration.Block) *bart.Table[*blockNode] {
	var all []*registration.Block
	for _, l := range lists {
		for i := range l {
			if l[i].Prefix.IsValid() {
				all = append(all, &l[i])
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *registration.Block) int {
		return cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits())
	})
	t := new(bart.Table[*blockNode])
	for _, b := range all {
		p := b.Prefix.Masked()
		n, ok := t.Get(p)
		if !ok {
			n = new(blockNode)
			n.wider, _ = t.LookupPrefix(p)
			t.Insert(p, n)
		}
		n.blocks = append(n.blocks, b)
	}
	return t
}

// inForce reports whether b blocks at now. A break-glass block, which has no
// file, has begun when it is there: a clock that was put back does not lift it.
func inForce(b *registration.Block, now time.Time) bool {
	return (b.Path == "" || !now.Before(b.Since)) && (b.Until.IsZero() || now.Before(b.Until))
}

// Block is a block in force over addr at now, the most specific one, or nil.
// It must not be changed.
func (s *Snapshot) Block(addr netip.Addr, now time.Time) *registration.Block {
	if s == nil || s.blocks.Size() == 0 { // as most of the time, and this is asked at each command
		return nil
	}
	n, _ := s.blocks.Lookup(addr.Unmap())
	for ; n != nil; n = n.wider {
		for _, b := range n.blocks {
			if inForce(b, now) {
				return b
			}
		}
	}
	return nil
}

// Blocks are the register's own blocks, in force or not, in order of prefix.
func (s *Snapshot) Blocks() []registration.Block {
	if s == nil {
		return nil
	}
	return slices.Clone(s.register)
}

// Agrees is a block of the register's own that makes a break-glass block of p
// superfluous: it is in force over the whole of p, and ends no earlier than
// until (zero: never). Nil where there is none. It must not be changed.
func (s *Snapshot) Agrees(p netip.Prefix, until, now time.Time) *registration.Block {
	if s == nil {
		return nil
	}
	for i := range s.register {
		b := &s.register[i]
		covers := b.Prefix.IsValid() && b.Prefix.Bits() <= p.Bits() && b.Prefix.Contains(p.Addr())
		if covers && inForce(b, now) && (b.Until.IsZero() || !until.IsZero() && !b.Until.Before(until)) {
			return b
		}
	}
	return nil
}

// NextTurn is when the next block begins or ends after now, and a verdict with
// it; zero: none does.
func (s *Snapshot) NextTurn(now time.Time) time.Time {
	if s == nil {
		return time.Time{}
	}
	var next time.Time
	for _, list := range [][]registration.Block{s.register, s.local} {
		for i := range list {
			for _, at := range []time.Time{list[i].Since, list[i].Until} {
				if at.After(now) && (next.IsZero() || at.Before(next)) {
					next = at
				}
			}
		}
	}
	return next
}

// LocalBlocks are the break-glass blocks, in the order in which they came.
func (s *Snapshot) LocalBlocks() []registration.Block {
	if s == nil {
		return nil
	}
	return slices.Clone(s.local)
}

// WithBlocks is a snapshot that holds local, the relay's break-glass blocks,
// beside the register's, in place of any that it held before. It costs as much
// as there are blocks, not registrations.
func (s *Snapshot) WithBlocks(local []registration.Block) *Snapshot {
	if s == nil {
		return nil
	}
	c := *s
	c.local = slices.Clone(local)
	for i := range c.local {
		c.local[i].Prefix = unmapPrefix(c.local[i].Prefix)
	}
	c.blocks = newBlockTable(c.register, c.local)
	return &c
}

// unmapPrefix is the IPv4 prefix that an IPv4-mapped one means.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}

func compareBlocks(a, b registration.Block) int {
	return cmp.Or(comparePrefixes(a.Prefix, b.Prefix), cmp.Compare(a.Path, b.Path))
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
