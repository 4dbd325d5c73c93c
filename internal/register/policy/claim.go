package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"example.edu/gatepost/internal/register/registration"
)

// A claim is one registration's line for one address, and leads to the next
// claim of that address, in order of path and line. It is immutable.
type claim struct {
	by   *judged
	host *registration.Host
	next *claim
}

// A contest is what settle decides: who loses which address.
type contest map[string][]registration.Problem // of those who lose, by path

// settle decides who gets an address that is claimed more than once, and says
// what the others are told, each with the place that it clashes with. The
// address goes, in this order, to the file that held it before; to a file of the
// department that held it before (the file was moved) and to any other, if
// nothing else is wrong with it; to the path that sorts first. A loser is left
// out whole; what else it claimed goes to nobody in its stead, since the clash
// may be a slip on either side.
func settle(contested []netip.Addr, claims *bart.Table[*claim], holding func(netip.Addr) (seat, bool)) contest {
	lost := make(contest)
	for _, ip := range contested {
		before, known := holding(ip)
		rank := func(c *claim) int {
			switch {
			case known && c.by.file.Path == before.path:
				return 0
			case c.by.fit && known && c.by.file.Registration.Department == before.department:
				return 1
			case c.by.fit:
				return 2
			}
			return 3
		}
		first, _ := claims.Get(single(ip))
		winner := first
		for c := first; c != nil; c = c.next {
			if rank(c) < rank(winner) {
				winner = c
			}
		}
		for c := first; c != nil; c = c.next {
			if c == winner {
				continue
			}
			path, where := c.by.file.Path, place(winner.by.file.Path, winner.host.At)
			hint := "an address registers once: remove this line, or first remove the other one"
			if c.by == winner.by {
				hint = "remove one of the two lines"
			}
			lost[path] = append(lost[path], registration.Problem{
				File: path, Line: int(c.host.At.Line), Column: int(c.host.At.Column),
				Rule: registration.RuleIPDuplicate, Severity: registration.Error,
				Message: fmt.Sprintf("%s is already registered in %s", ip, where), Hint: hint,
			})
		}
	}
	return lost
}

// index makes the table of claims and the list of what is claimed more than
// once. files are in order of path.
func index(files []*judged) (claims *bart.Table[*claim], contested []netip.Addr) {
	claims = new(bart.Table[*claim])
	last := make(map[netip.Addr]*claim) // of the contested
	for _, j := range files {
		for h := range j.hosts() {
			mine := &claim{by: j, host: h}
			first, taken := claims.Get(single(h.IP))
			if !taken {
				claims.Insert(single(h.IP), mine)
				continue
			}
			end := last[h.IP]
			if end == nil {
				end = first
				contested = append(contested, h.IP)
			}
			end.next, last[h.IP] = mine, mine
		}
	}
	slices.SortFunc(contested, netip.Addr.Compare)
	return claims, contested
}

// reclaim is claims with those of was in place of those of is, either of which
// may be nil.
func reclaim(claims *bart.Table[*claim], was, is *judged) *bart.Table[*claim] {
	for h := range was.hosts() {
		first, _ := claims.Get(single(h.IP))
		if rest := first.without(was); rest == nil {
			claims = claims.DeletePersist(single(h.IP))
		} else {
			claims = claims.InsertPersist(single(h.IP), rest)
		}
	}
	for h := range is.hosts() {
		first, _ := claims.Get(single(h.IP))
		claims = claims.InsertPersist(single(h.IP), first.with(is, h))
	}
	return claims
}

// without is the list from c on, less the claims of one file.
func (c *claim) without(by *judged) *claim {
	if c == nil {
		return nil
	}
	rest := c.next.without(by)
	switch {
	case c.by == by:
		return rest
	case rest == c.next:
		return c
	}
	return &claim{c.by, c.host, rest}
}

// with is the list from c on and one claim more, in its place.
func (c *claim) with(by *judged, h *registration.Host) *claim {
	if c == nil || strings.Compare(by.file.Path, c.by.file.Path) < 0 {
		return &claim{by, h, c}
	}
	return &claim{c.by, c.host, c.next.with(by, h)}
}

// contestedAmong are those of candidates that are claimed more than once,
// sorted.
func contestedAmong(candidates []netip.Addr, claims *bart.Table[*claim]) []netip.Addr {
	slices.SortFunc(candidates, netip.Addr.Compare)
	candidates = slices.Compact(candidates)
	return slices.DeleteFunc(candidates, func(ip netip.Addr) bool {
		first, _ := claims.Get(single(ip))
		return first == nil || first.next == nil
	})
}

// byPath orders files and paths.
func byPath(j *judged, path string) int { return cmp.Compare(j.file.Path, path) }

func compareJudged(a, b *judged) int { return cmp.Compare(a.file.Path, b.file.Path) }
