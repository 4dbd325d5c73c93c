package blocks

import (
	"net/netip"
	"slices"
	"time"
)

// A Set is the blocks at one time. It is replaced, never edited; any number of
// goroutines may read it. The nil Set has none.
type Set struct {
	commands []Block // one for each prefix; in order
	file     []Block // in order; a prefix may be there twice
	from     string  // the local file that these are from
}

// Commands are the blocks by command, in order of prefix. They must not be
// changed.
func (s *Set) Commands() []Block {
	if s == nil {
		return nil
	}
	return s.commands
}

// File are the blocks of the local file, in order of prefix. They must not be
// changed.
func (s *Set) File() []Block {
	if s == nil {
		return nil
	}
	return s.file
}

// From is the local file that the blocks of File are from: the one that is
// followed, or one before it, as long as that one cannot be used.
func (s *Set) From() string {
	if s == nil {
		return ""
	}
	return s.from
}

// All are the blocks of both kinds, by command first. The caller owns the list.
func (s *Set) All() []Block { return slices.Concat(s.Commands(), s.File()) }

// Over is the most specific block that is in force over addr.
func (s *Set) Over(addr netip.Addr, now time.Time) (best Block, ok bool) {
	addr = addr.Unmap().WithZone("")
	for _, list := range [][]Block{s.Commands(), s.File()} {
		for _, b := range list {
			if b.Prefix.Contains(addr) && !b.Over(now) && (!ok || b.Prefix.Bits() > best.Prefix.Bits()) {
				best, ok = b, true
			}
		}
	}
	return best, ok
}

// Command is the block by command of exactly p.
func (s *Set) Command(p netip.Prefix) (Block, bool) {
	i, ok := slices.BinarySearchFunc(s.Commands(), Block{Prefix: p}, compare)
	if !ok {
		return Block{}, false
	}
	return s.commands[i], true
}

// Around are the blocks in force that cover p, p's own included, and those by
// command that lie within p.
func (s *Set) Around(p netip.Prefix, now time.Time) (covering, within []Block) {
	for _, b := range s.All() {
		switch {
		case b.Over(now):
		case b.Covers(p):
			covering = append(covering, b)
		case b.Line == 0 && p.Overlaps(b.Prefix):
			within = append(within, b)
		}
	}
	return covering, within
}

// nextEnd is when the next block by command ends; zero: none does by itself.
func (s *Set) nextEnd() (next time.Time) {
	for _, b := range s.Commands() {
		if !b.Until.IsZero() && (next.IsZero() || b.Until.Before(next)) {
			next = b.Until
		}
	}
	return next
}

// with is s with b by command, in place of the one of its prefix.
func (s *Set) with(b Block) *Set {
	next := &Set{commands: slices.Clone(s.Commands()), file: s.File(), from: s.From()}
	i, ok := slices.BinarySearchFunc(next.commands, b, compare)
	if ok {
		next.commands[i] = b
	} else {
		next.commands = slices.Insert(next.commands, i, b)
	}
	return next
}

// without is s without b by command. If another block of its prefix has come
// meanwhile, that one stays.
func (s *Set) without(b Block) *Set {
	return &Set{file: s.File(), from: s.From(), commands: slices.DeleteFunc(slices.Clone(s.Commands()), func(o Block) bool { return o == b })}
}

// withFile is s with other blocks of a local file.
func (s *Set) withFile(list []Block, from string) *Set {
	list = slices.Clone(list)
	slices.SortFunc(list, compare)
	return &Set{commands: s.Commands(), file: list, from: from}
}

// ended takes the blocks by command that are over out of s.
func (s *Set) ended(now time.Time) (*Set, []Block) {
	var over []Block
	rest := slices.DeleteFunc(slices.Clone(s.Commands()), func(b Block) bool {
		if b.Over(now) {
			over = append(over, b)
		}
		return b.Over(now)
	})
	if len(over) == 0 {
		return s, nil
	}
	return &Set{commands: rest, file: s.File(), from: s.From()}, over
}
