package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/registration"
)

// A PlanWarning is one effect that does not show in the files of those whom it
// reaches, and the file that it comes from.
type PlanWarning struct {
	Message string `json:"message"` // one line, without a full stop
	File    string `json:"file"`
	Line    int    `json:"line"` // from 1; 0 when the file as a whole is meant
}

// Unexplained are the effects of the plan from was to is that the files which a
// request touches do not tell by themselves: addresses that come, go or change
// with a file that it leaves alone, networks and address space that change
// hands, and who may speak for whom. They are sorted by file and line.
func (p Plan) Unexplained(was, is *Snapshot, touched map[string]bool) []PlanWarning {
	w := &explainer{was: was, is: is, touched: touched, list: []PlanWarning{}}
	w.addresses(p)
	if was == nil || is == nil || was.networks != is.networks { // else the campus files are the same, and all that they say
		w.networks()
		w.campus()
		w.departments()
	}
	slices.SortStableFunc(w.list, func(a, b PlanWarning) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Message, b.Message))
	})
	return w.list
}

// An explainer gathers warnings.
type explainer struct {
	was, is *Snapshot
	touched map[string]bool
	list    []PlanWarning
}

func (w *explainer) warn(file string, line int32, format string, args ...any) {
	w.list = append(w.list, PlanWarning{fmt.Sprintf(format, args...), file, int(line)})
}

// A cause is why something happened to an address, as far as can be told.
type cause struct {
	file string
	line int32
	why  string
}

// addresses tells of those whose own file is left alone, one line for each file
// and cause.
func (w *explainer) addresses(p Plan) {
	type group struct {
		verb, path string
		cause
	}
	groups := map[group][]string{}
	for _, list := range []struct {
		verb    string
		entries []PlanEntry
	}{{"added", p.Added}, {"removed", p.Removed}, {"changed", p.Changed}, {"blocked", p.Blocked}, {"unblocked", p.Unblocked}} {
		for _, e := range list.entries {
			ip, err := netip.ParseAddr(e.IP)
			was, _ := w.was.Find(ip)
			switch {
			case e.Block != "":
				if !w.touched[e.Block] {
					w.warn(e.Block, 0, "%s is %s, and the block's file is left alone", e.IP, list.verb)
				}
				continue
			case err != nil || w.touched[e.Registration] || was.Registration != nil && w.touched[was.Registration.Path]:
				continue
			}
			g := group{list.verb, e.Registration, w.cause(ip, e)}
			groups[g] = append(groups[g], e.IP)
		}
	}
	for g, ips := range groups {
		verb := "are "
		if len(ips) == 1 {
			verb = "is "
		}
		w.warn(g.file, g.line, "%s %s, although %s is left alone: %s", some(ips), verb+g.verb, g.path, g.why)
	}
}

// some names the first of a list, and how many more there are.
func some(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// cause finds out why an address came or went, its own file being the same. A
// file is in force whole or not at all, so any of its addresses may be why.
func (w *explainer) cause(ip netip.Addr, e PlanEntry) cause {
	own, ok := w.is.Find(ip)
	if !ok {
		own, _ = w.was.Find(ip)
	}
	for _, h := range own.Registration.Hosts {
		if c, ok := w.ground(h.IP); ok {
			return c
		}
	}
	was, is := w.was.defined(e.Department), w.is.defined(e.Department)
	switch {
	case was.Department == nil && is.Department != nil:
		return cause{is.file, is.At.Line, fmt.Sprintf("department %s is new", e.Department)}
	case was.Department != nil && is.Department == nil:
		return cause{was.file, was.At.Line, fmt.Sprintf("department %s is gone", e.Department)}
	case was.Department != nil && !slices.Equal(was.ContactDomains, is.ContactDomains):
		return cause{is.file, is.At.Line, fmt.Sprintf("the mail domains of %s were %s, and are %s", e.Department,
			strings.Join(was.ContactDomains, ", "), strings.Join(is.ContactDomains, ", "))}
	}
	for _, h := range own.Registration.Hosts { // another file claims it, or did
		for _, of := range []*Snapshot{w.was, w.is} {
			if rival, ok := of.Find(h.IP); ok && rival.Registration.Path != own.Registration.Path && w.touched[rival.Registration.Path] {
				return cause{rival.Registration.Path, rival.Host.At.Line, fmt.Sprintf("%s claims %s, or did", rival.Registration.Path, h.IP)}
			}
		}
	}
	return cause{e.Registration, 0, "no file that is touched tells why"}
}

// ground says how the network that an address is in has changed, if it has.
func (w *explainer) ground(ip netip.Addr) (cause, bool) {
	before, held := w.was.Holder(ip)
	after, holds := w.is.Holder(ip)
	switch {
	case held && holds && (before.Department != after.Department || before.Use != after.Use):
		return cause{after.File, after.At.Line, fmt.Sprintf("network %s was %s, and is %s", after.Prefix, holding(before), holding(after))}, true
	case held && !holds:
		return cause{before.File, before.At.Line, fmt.Sprintf("network %s was %s, and is held by nobody", before.Prefix, holding(before))}, true
	case !held && holds:
		return cause{after.File, after.At.Line, fmt.Sprintf("network %s was held by nobody, and is %s", after.Prefix, holding(after))}, true
	}
	return cause{}, false
}

func (s *Snapshot) defined(id string) defined {
	if s == nil {
		return defined{}
	}
	return s.departments[id]
}

// holding is who holds a network, and for what.
func holding(h Holding) string { return fmt.Sprintf("%s's (%s)", h.Department, h.Use) }

// networks tells of those that change hands or use, so that somebody else may
// register there, or nobody.
func (w *explainer) networks() {
	if w.was == nil || w.is == nil || w.was.networks == w.is.networks {
		return
	}
	for is := range w.is.Networks() {
		was, ok := w.was.networks.LookupPrefix(is.Prefix)
		if ok && (was.Department != is.Department || was.Use != is.Use) {
			w.warn(is.File, is.At.Line, "network %s was %s, and is %s%s", is.Prefix, holding(*was), holding(is), w.registered(is.Prefix))
		}
	}
	for was := range w.was.Networks() {
		if _, same := w.is.networks.Get(was.Prefix); same {
			continue
		}
		if is, ok := w.is.networks.LookupPrefix(was.Prefix); !ok {
			w.warn(was.File, was.At.Line, "network %s was %s, and is held by nobody%s", was.Prefix, holding(was), w.registered(was.Prefix))
		} else if was.Department != is.Department || was.Use != is.Use {
			w.warn(was.File, was.At.Line, "network %s was %s, and is %s, with %s%s", was.Prefix, holding(was), holding(*is), is.Prefix, w.registered(was.Prefix))
		}
	}
}

// registered counts the addresses that were registered below a prefix.
func (w *explainer) registered(p netip.Prefix) string {
	n := 0
	for range w.was.hosts.Subnets(p) {
		n++
	}
	switch n {
	case 0:
		return ""
	case 1:
		return "; one registered address lies there"
	}
	return fmt.Sprintf("; %d registered addresses lie there", n)
}

// campus tells of space that becomes the university's or ceases to be. A
// snapshot does not know which file names it; the first that is touched will do.
func (w *explainer) campus() {
	if w.was == nil || w.is == nil || w.was.campus == w.is.campus {
		return
	}
	file := "registrations/campus"
	for _, path := range slices.Sorted(maps.Keys(w.touched)) {
		if isCampus(path) && w.touched[path] {
			file = path
			break
		}
	}
	for p := range w.is.Campus() {
		if _, ok := w.was.campus.Get(p); !ok {
			w.warn(file, 0, "%s becomes the university's address space", p)
		}
	}
	for _, p := range w.is.portals {
		if !slices.Contains(w.was.portals, p) {
			w.warn(file, 0, "%s (%d) may open requests for anybody: it becomes the portal's account", p.GitHub, p.ID)
		}
	}
	for _, p := range w.was.portals {
		if !slices.Contains(w.is.portals, p) {
			w.warn(file, 0, "%s (%d) ceases to be the portal's account", p.GitHub, p.ID)
		}
	}
	for p := range w.was.Campus() {
		if _, ok := w.is.campus.Get(p); !ok {
			w.warn(file, 0, "%s ceases to be the university's address space%s", p, w.registered(p))
		}
	}
}

// departments tells of those that come and go, and of who may speak for one.
func (w *explainer) departments() {
	for d := range w.is.Departments() {
		is, was := w.is.defined(d.ID), w.was.defined(d.ID)
		before, after := speakers(was.Department), speakers(d)
		var changes []string
		for _, id := range slices.Sorted(maps.Keys(after)) {
			if _, ok := before[id]; !ok {
				changes = append(changes, "+ "+after[id])
			}
		}
		for _, id := range slices.Sorted(maps.Keys(before)) {
			if _, ok := after[id]; !ok {
				changes = append(changes, "- "+before[id])
			}
		}
		if len(changes) > 0 {
			w.warn(is.file, d.At.Line, "who may speak for %s changes: %s", d.ID, some(changes))
		}
	}
	for d := range w.was.Departments() {
		if w.is.Department(d.ID) == nil {
			w.warn(w.was.defined(d.ID).file, d.At.Line, "department %s is gone", d.ID)
		}
	}
}

// speakers are those who may speak for d, by what decides: their numbers and
// mail addresses.
func speakers(d *registration.Department) map[string]string {
	m := map[string]string{}
	if d == nil {
		return m
	}
	for _, s := range d.Speakers {
		if s.ID != 0 {
			m[fmt.Sprint("account ", s.ID)] = fmt.Sprintf("%s (%d)", s.GitHub, s.ID)
		}
		if s.Email != "" {
			m["mailbox "+s.Email] = s.Email
		}
	}
	if d.Team.ID != 0 {
		m[fmt.Sprint("team ", d.Team.ID)] = fmt.Sprintf("team %s (%d)", d.Team.Slug, d.Team.ID)
	}
	return m
}
