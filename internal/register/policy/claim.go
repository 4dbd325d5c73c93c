package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"example.edu/gatepost/internal/register/registration"
)

// A claimant is a registration that wants its addresses.
type claimant struct {
	path  string
	r     *registration.Registration
	valid bool // nothing is wrong with it, so far
}

// A claim is one claimant's line for one address.
type claim struct {
	*claimant
	host *registration.Host
}

// settle decides who gets an address that is claimed more than once, and
// reports the others, each with the place that it clashes with. The address
// goes, in this order, to the file that held it before; to a file of the
// department that held it before (the file was moved) and to any other, if
// nothing else is wrong with it; to the path that sorts first. A loser is left out whole; what else it claimed goes
// to nobody in its stead, since the clash may be a slip on either side.
func (b *builder) settle(claimants []*claimant) {
	first := make(map[netip.Addr]claim, len(claimants))
	contested := make(map[netip.Addr][]claim)
	for _, c := range claimants { // in order of path
		for i := range c.r.Hosts {
			h := &c.r.Hosts[i]
			mine := claim{c, h}
			held, taken := first[h.IP]
			switch {
			case !h.IP.IsValid():
			case !taken:
				first[h.IP] = mine
			case contested[h.IP] == nil:
				contested[h.IP] = []claim{held, mine}
			default:
				contested[h.IP] = append(contested[h.IP], mine)
			}
		}
	}
	lost := make(map[*claimant]bool)
	for ip, claims := range contested {
		before, known := b.holding(ip)
		rank := func(c claim) int {
			switch {
			case known && c.path == before.path:
				return 0
			case c.valid && known && c.r.Department == before.department:
				return 1
			case c.valid:
				return 2
			}
			return 3
		}
		winner := slices.MinFunc(claims, func(x, y claim) int { return cmp.Compare(rank(x), rank(y)) })
		for _, c := range claims {
			if c.host == winner.host {
				continue
			}
			lost[c.claimant] = true
			where, hint := place(winner.path, winner.host.At), "an address registers once: remove this line, or first remove the other one"
			if c.path == winner.path {
				hint = "remove one of the two lines"
			}
			b.report(c.path, c.host.At, registration.RuleIPDuplicate, registration.Error,
				fmt.Sprintf("%s is already registered in %s", ip, where), hint)
		}
	}
	for c := range lost { // only now: the order of the contests must not matter
		c.valid = false
	}
}
