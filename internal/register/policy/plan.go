package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
)

// A Plan spells out what taking head in place of base does. Its JSON form is
// the contract of "gatepost plan --format json"; empty lists are [], not null.
type Plan struct {
	Base          string             `json:"base"` // commit
	Head          string             `json:"head"` // commit
	Added         []PlanEntry        `json:"added"`
	Removed       []PlanEntry        `json:"removed"`
	Changed       []PlanEntry        `json:"changed"`
	Blocked       []PlanEntry        `json:"blocked"`
	Unblocked     []PlanEntry        `json:"unblocked"`
	Confirmations []PlanConfirmation `json:"confirmations"`
	Senders       []PlanSender       `json:"senders"`  // newly allowed
	Warnings      []PlanWarning      `json:"warnings"` // see Unexplained; NewPlan leaves them to its caller
	Before        int                `json:"before"`   // registered addresses
	After         int                `json:"after"`
	Digest        string             `json:"digest"` // of the effect alone, see NewPlan
}

// A PlanEntry is one change of one address, or of one blocked prefix.
type PlanEntry struct {
	IP           string   `json:"ip"` // a prefix (with a slash) where a wider one is blocked
	Registration string   `json:"registration"`
	Department   string   `json:"department"`
	Contact      string   `json:"contact"`
	What         []string `json:"what,omitempty"`    // changed: "expires: 2027-11-30 → 2028-06-30"
	Block        string   `json:"block,omitempty"`   // the file of the block that this is about
	Affects      int      `json:"affects,omitempty"` // registered addresses below a blocked prefix
}

// A PlanConfirmation is one confirmation that the relay will mail.
type PlanConfirmation struct {
	IP string `json:"ip"`
	To string `json:"to"`
}

// NewPlan compares two built snapshots. Addresses that are new, or new to their
// department, are confirmed, unless a block without an end lies over them.
//
// The digest is the SHA-256 of the effect: what is added, with its terms, what
// is removed, changed, blocked and unblocked, who is told, and which senders are
// newly allowed. Commits, totals and warnings are no part of it: two plans with
// the same effect have the same digest, whatever they are compared with, so that
// what was reviewed can be compared with what is merged.
func NewPlan(base, head *Snapshot) Plan {
	p := Plan{
		Added: []PlanEntry{}, Removed: []PlanEntry{}, Changed: []PlanEntry{},
		Blocked: []PlanEntry{}, Unblocked: []PlanEntry{}, Confirmations: []PlanConfirmation{}, Warnings: []PlanWarning{},
	}
	lists := map[ChangeKind]*[]PlanEntry{
		Added: &p.Added, Removed: &p.Removed, Changed: &p.Changed, BlockedBy: &p.Blocked, Unblocked: &p.Unblocked,
	}
	for _, c := range Diff(base, head) { // sorted by kind and address
		list := lists[c.Kind]
		*list = append(*list, PlanEntry{
			IP: planIP(c.IP), Registration: c.Registration, Department: c.Department, Contact: c.Contact,
			What: c.What, Block: c.Block, Affects: c.Affects,
		})
	}
	for ip, e := range head.changedBy(base) {
		was, ok := base.Find(ip)
		if ok && was.Registration.Department == e.Registration.Department || head.blockedForGood(ip) {
			continue
		}
		p.Confirmations = append(p.Confirmations, PlanConfirmation{IP: ip.String(), To: e.Registration.Contact.Email})
	}
	slices.SortFunc(p.Confirmations, func(a, b PlanConfirmation) int { return compareIPs(a.IP, b.IP) })
	p.Senders = newSenders(base, head)
	p.Digest = p.digest(head)
	p.Base, p.Head = base.Commit(), head.Commit()
	p.Before, p.After = base.Len(), head.Len()
	return p
}

// Empty reports whether the plan does nothing to any address.
func (p Plan) Empty() bool {
	return len(p.Added)+len(p.Removed)+len(p.Changed)+len(p.Blocked)+len(p.Unblocked) == 0
}

func (p Plan) digest(head *Snapshot) string {
	effect := struct {
		Added, Removed, Changed, Blocked, Unblocked []PlanEntry
		Confirmations                               []PlanConfirmation
		Senders                                     []PlanSender
		Terms                                       [][]clause // of what is added
	}{p.Added, p.Removed, p.Changed, p.Blocked, p.Unblocked, p.Confirmations, p.Senders, nil}
	for _, e := range p.Added {
		if ip, err := netip.ParseAddr(e.IP); err == nil {
			entry, _ := head.Find(ip)
			effect.Terms = append(effect.Terms, clausesOf(entry))
		}
	}
	text, err := json.Marshal(effect)
	if err != nil {
		panic("policy: a plan is strings and numbers: " + err.Error()) // cannot happen
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func planIP(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// blockedForGood reports whether a block of the register that has no end lies
// over ip.
func (s *Snapshot) blockedForGood(ip netip.Addr) bool {
	n, _ := s.blocks.Lookup(ip)
	for ; n != nil; n = n.wider {
		for _, b := range n.blocks {
			if b.Until.IsZero() {
				return true
			}
		}
	}
	return false
}
