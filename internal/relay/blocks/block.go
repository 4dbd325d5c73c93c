// Package blocks owns the break-glass blocks of one relay: addresses that may
// not send, whatever the register says, by an operator's command or by a line
// of a local file. They need neither git nor the network, and survive a crash.
//
// It keeps them and says when they are over. It gives no verdict on a client
// (policy does, which holds them beside the register's own), holds no mail (the
// queue does), and never reads the register.
//
// Invariants:
//   - A block is in force before it is on the disk, so that a slow disk gives
//     nobody time, and on the disk before the command is told that it is done.
//   - The end of a block is on the disk before it is in force: a crash never
//     lifts one that somebody has not been told is lifted.
//   - A local file that cannot be read as a whole lifts nothing: what was read
//     before stays, over a restart too. A line that makes no sense costs itself.
//   - Every number and every length from outside is bounded.
package blocks

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of blocks.
const (
	MaxCommands = 4096                 // blocks by command at one time
	MaxReason   = 200                  // characters of a reason
	MinFor      = time.Second          // the shortest time of a block
	MaxFor      = 366 * 24 * time.Hour // the longest, but for one without an end
)

// Prefixes shorter than these are wide: whole buildings and more. They need a
// word of their own, since a slip of the finger looks just like them.
const (
	wide4 = 20
	wide6 = 48
)

// A Block keeps what is in a prefix from sending.
type Block struct {
	Prefix netip.Prefix `json:"prefix"` // canonical: masked, never IPv4-mapped
	Reason string       `json:"reason"` // one printable line
	Since  time.Time    `json:"since,omitzero"`
	Until  time.Time    `json:"until,omitzero"` // zero: until it is taken back
	Line   int          `json:"-"`              // of the local file; 0: by command
}

// Over reports whether b has ended by itself.
func (b Block) Over(now time.Time) bool { return !b.Until.IsZero() && !now.Before(b.Until) }

// Covers reports whether all of p is in b's prefix.
func (b Block) Covers(p netip.Prefix) bool {
	return b.Prefix.Bits() <= p.Bits() && b.Prefix.Contains(p.Addr())
}

// ParsePrefix reads an address or a network, and says what was meant if it is
// neither. The error is for people and names no package.
func ParsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone, which is no part of a client's address", s)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q is a network of IPv4-mapped addresses; write it as IPv4", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its length: write %s for the network, or %s for the one address", s, p.Masked(), p.Addr())
	}
	return p, nil
}

// WideWords say in plain words which prefixes are wide.
func WideWords() string { return fmt.Sprintf("more than a /%d of IPv4 or a /%d of IPv6", wide4, wide6) }

// Wide reports whether p holds so many addresses that a mistake is likely:
// more than a /20 of IPv4, or a /48 of IPv6.
func Wide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < wide4
	}
	return p.Bits() < wide6
}

// ParseReason checks a reason and takes the white space around it away. The
// error is for people and names no package.
func ParseReason(s string) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return "", errors.New("a block needs a reason")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", errors.New("the reason is not one line of printable characters")
	case utf8.RuneCountInString(s) > MaxReason:
		return "", fmt.Errorf("the reason is longer than %d characters", MaxReason)
	}
	return s, nil
}

// Text is the prefix for people: one of a single address is that address.
func Text(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func compare(a, b Block) int {
	return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.Line, b.Line))
}
