package policy

import (
	"net/netip"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/registration"
)

// AnySender stands for every envelope sender in a PlanSender.
const AnySender = "any"

// A PlanSender is an address that may use envelope senders which it could not
// use before: it is new, or its registration allows more.
type PlanSender struct {
	IP           string   `json:"ip"`
	Registration string   `json:"registration"`
	Department   string   `json:"department"`
	Senders      []string `json:"senders"` // newly allowed: "user@domain", "*@domain", or AnySender alone
	Before       []string `json:"before"`  // allowed before; empty if the address was not registered
}

// newSenders lists what the registered addresses of head may send as and could
// not in base, in order of address. Dates and blocks are no part of it: they are
// told elsewhere, and go by.
func newSenders(base, head *Snapshot) []PlanSender {
	list := []PlanSender{}
	for ip, e := range head.changedBy(base) {
		before := []string{}
		if was, ok := base.Find(ip); ok {
			before = sendersOf(was.Registration)
		}
		after := slices.DeleteFunc(sendersOf(e.Registration), func(s string) bool { return covered(s, before) })
		if len(after) > 0 {
			list = append(list, PlanSender{ip.String(), e.Registration.Path, e.Registration.Department, after, before})
		}
	}
	slices.SortFunc(list, func(a, b PlanSender) int { return compareIPs(a.IP, b.IP) })
	return list
}

func compareIPs(a, b string) int {
	x, _ := netip.ParseAddr(a)
	y, _ := netip.ParseAddr(b)
	return x.Compare(y)
}

func sendersOf(r *registration.Registration) []string {
	if len(r.Senders) == 0 {
		return []string{AnySender}
	}
	return slices.Compact(slices.Sorted(slices.Values(r.Senders)))
}

// covered reports whether one of list allows all that s does.
func covered(s string, list []string) bool {
	_, domain, _ := strings.Cut(s, "@")
	return slices.Contains(list, s) || slices.Contains(list, AnySender) || domain != "" && slices.Contains(list, "*@"+domain)
}
