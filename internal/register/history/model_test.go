package history_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
	"example.edu/gatepost/internal/register/registration"
)

// A model knows what the machine has done and says what may be in force. It
// reasons by plain loops over the versions of files, and never asks the program
// what it thinks of one.
type model struct {
	m         *machine
	accepted  *commit
	inForce   map[string]*version // by path: registrations, blocks, campus files and the site rules
	snapshot  *policy.Snapshot    // as it was when last seen
	heldIDs   map[int]bool        // blocks of commits that waited since the last acceptance
	permitted *commit             // an operator is just accepting it
	attempted map[*commit]bool    // an operator's acceptance of it was cut short
	told      map[string]string   // key → first, sent or gone: the last thing that happened to a confirmation
	owed      map[string]bool     // keys that went since the last round in which all was well
	complaint error
}

func (o *model) complain(format string, args ...any) {
	if o.complaint == nil {
		o.complaint = fmt.Errorf(format, args...)
	}
}

func (o *model) verdict() error { return o.complaint }

// number reads the number of a version out of a text that ends in it.
func number(text string) int {
	id := 0
	fmt.Sscanf(text[strings.LastIndexByte(text, ' ')+1:], "%d", &id)
	return id
}

// found is what a snapshot says is in force, by path: the versions and, of
// registrations, the addresses.
func found(s *policy.Snapshot) (ids map[string][]int, hosts map[string][]netip.Addr) {
	ids, hosts = map[string][]int{}, map[string][]netip.Addr{}
	note := func(path string, id int) {
		if !slices.Contains(ids[path], id) {
			ids[path] = append(ids[path], id)
		}
	}
	for ip, e := range s.All() {
		note(e.Registration.Path, number(e.Registration.Purpose))
		hosts[e.Registration.Path] = append(hosts[e.Registration.Path], ip)
	}
	for _, b := range s.Blocks() {
		note(b.Path, number(b.Reason))
	}
	for h := range s.Networks() {
		if a := h.Prefix.Addr().As16(); h.Prefix.Addr().Is4() && a[12] == 10 {
			note(networksFile, int(a[13])<<8|int(a[14]))
		}
	}
	for d := range s.Departments() {
		note(departmentsFile, number(d.Name))
	}
	return ids, hosts
}

// see looks at what is in force and compares it with what may be.
func (o *model) see() {
	state, s := o.m.r.State(), o.m.live.Load()
	now := o.m.known[state.Accepted]
	switch {
	case s == nil && o.accepted == nil:
		return
	case s == nil || now == nil || s.Commit() != state.Accepted:
		o.complain("%q is accepted and %q in force", state.Accepted, s.Commit())
		return
	}
	if now != o.accepted {
		o.transition(now, s)
	}
	o.checkBlocks(s)
	o.checkStandings(s)
	o.snapshot = s
}

// transition is the acceptance of a commit.
func (o *model) transition(next *commit, s *policy.Snapshot) {
	descends := o.accepted == nil || next.descends(o.accepted)
	operator := o.permitted == next || o.attempted[next]
	if !descends && !operator {
		o.complain("%s is in force, which does not descend from %s", next.hash, o.accepted.hash)
	}
	if o.accepted != nil && !operator {
		o.checkGuard(s)
	}
	ids, hosts := found(s)
	inForce := map[string]*version{}
	o.campus(next, ids, inForce)
	for p := range ids {
		if isBlock(p, node{}) {
			continue
		}
		if _, there := next.tree[p]; !there {
			o.complain("%s is in force, and commit %s does not hold it", p, next.hash)
		}
	}
	for p, n := range next.tree {
		switch {
		case registration.Kind(p) == registration.KindRegistration:
			o.registration(next, p, n, ids[p], hosts[p], inForce)
		case isBlock(p, n):
			if v := pick(n, n.v.broken == "" && n.v.prefix.IsValid(), o.inForce[p]); v != nil {
				inForce[p] = v
			}
		}
	}
	for ip, e := range o.snapshot.All() {
		key := confirm.Key(ip, e.Registration.Department)
		if after, ok := s.Find(ip); descends && (!ok || after.Registration.Department != e.Registration.Department) {
			o.told[key], o.owed[key] = "gone", true
		}
	}
	for ip, e := range s.All() { // what came back before anybody was told was never gone
		delete(o.owed, confirm.Key(ip, e.Registration.Department))
	}
	o.accepted, o.inForce, o.heldIDs = next, inForce, map[int]bool{}
	clear(o.attempted)
}

// pick is what must be in force of a file that can be judged by itself: what
// the commit says if it is good, or else what was in force.
func pick(n node, good bool, before *version) *version {
	if good && (n.mode == regularMode || n.mode == executableMode) {
		return n.v
	}
	return before
}

// campus settles the campus files and the site rules.
func (o *model) campus(next *commit, ids map[string][]int, inForce map[string]*version) {
	for _, p := range []string{siteRulesFile, departmentsFile, networksFile} {
		n, there := next.tree[p]
		if !there {
			if len(ids[p]) > 0 {
				o.complain("%s is in force and not in the commit", p)
			}
			continue
		}
		good := n.v.broken == ""
		v := pick(n, good, o.inForce[p])
		if p == networksFile && good && v == n.v {
			// A holder that is no department makes it faulty: the last good version
			// stays, if there is one.
			for _, h := range v.networks {
				if d := inForce[departmentsFile]; (d == nil || !slices.Contains(d.departments, h.holder)) && len(ids[p]) == 1 && o.inForce[p] != nil && ids[p][0] == o.inForce[p].id {
					v = o.inForce[p]
				}
			}
		}
		if v != nil {
			inForce[p] = v
		}
		if p == siteRulesFile {
			continue
		}
		if want := idOf(v); len(ids[p]) > 1 || len(ids[p]) == 1 && ids[p][0] != want || len(ids[p]) == 0 && want != 0 {
			o.complain("%s: versions %v are in force, want %d", p, ids[p], want)
		}
	}
}

func idOf(v *version) int {
	if v == nil {
		return 0
	}
	return v.id
}

// registration settles one registration's file.
func (o *model) registration(next *commit, p string, n node, ids []int, hosts []netip.Addr, inForce map[string]*version) {
	allowed := func(v *version) bool {
		return v != nil && v.department == folderOf(p) && v.allowed(inForce[networksFile], inForce[departmentsFile], inForce[siteRulesFile])
	}
	regular := n.mode == regularMode || n.mode == executableMode
	before := o.inForce[p]
	good := regular && allowed(n.v)
	var v *version
	switch {
	case len(ids) == 0:
		if good && !o.contested(next, p, n.v) {
			o.complain("%s: nothing is wrong with version %d, and it is not in force", p, n.v.id)
		}
		if before != nil && before != n.v && !good && allowed(before) && !o.contested(next, p, before) {
			o.complain("%s: the last good version %d is not in force", p, before.id)
		}
		o.stable(next, p, n, before, inForce)
		return
	case len(ids) > 1:
		o.complain("%s: versions %v are in force at once", p, ids)
		return
	case ids[0] == n.v.id && regular:
		if v = n.v; !good {
			o.complain("%s: version %d is in force, and it is not allowed (%s)", p, v.id, v.broken)
		}
	case before != nil && ids[0] == before.id:
		if v = before; good && !o.contested(next, p, n.v) {
			o.complain("%s: version %d is in force, and nothing is wrong with version %d", p, v.id, n.v.id)
		} else if !allowed(before) {
			o.complain("%s: the old version %d is in force, and it is not allowed", p, v.id)
		}
	default:
		o.complain("%s: version %d is in force; the commit has %d, and %d was in force before", p, ids[0], n.v.id, idOf(before))
		return
	}
	inForce[p] = v
	want := slices.SortedFunc(slices.Values(v.hosts), netip.Addr.Compare)
	if !slices.Equal(hosts, want) {
		o.complain("%s: version %d is in force with %v, want %v", p, v.id, hosts, want)
	}
}

// stable holds that what did not change, and lost no ground, stays in force.
func (o *model) stable(next *commit, p string, n node, before *version, inForce map[string]*version) {
	if before == nil || before != n.v || o.accepted.tree[p] != n || n.mode != regularMode {
		return
	}
	for _, ground := range []string{networksFile, departmentsFile, siteRulesFile} {
		if inForce[ground] != o.inForce[ground] {
			return
		}
	}
	o.complain("%s did not change, and is in force no longer", p)
}

func folderOf(p string) string {
	folder, _, _ := strings.Cut(strings.TrimPrefix(p, "registrations/"), "/")
	return folder
}

// contested reports whether another file claims an address of v: one of the
// commit, or one whose last good version may stand in for it.
func (o *model) contested(next *commit, p string, v *version) bool {
	for other, n := range next.tree {
		if other == p || registration.Kind(other) != registration.KindRegistration {
			continue
		}
		for _, claim := range []*version{n.v, o.inForce[other]} {
			if claim != nil && slices.ContainsFunc(claim.hosts, func(h netip.Addr) bool { return slices.Contains(v.hosts, h) }) {
				return true
			}
		}
	}
	return false
}

// checkGuard holds that no ordinary commit takes away too much.
func (o *model) checkGuard(s *policy.Snapshot) {
	live, gone := 0, 0
	for ip, e := range o.snapshot.All() {
		if !o.m.now.Before(e.Registration.Expires) {
			continue
		}
		live++
		if after, ok := s.Find(ip); !ok || !o.m.now.Before(after.Registration.Expires) {
			gone++
		}
	}
	if gone >= 5 && 10*gone > 3*live {
		o.complain("a commit took away %d of %d live addresses, and nobody was asked", gone, live)
	}
}

// checkBlocks: the blocks of the accepted commit are in force, last good
// versions included, and besides only those of commits that wait.
func (o *model) checkBlocks(s *policy.Snapshot) {
	have := map[int]bool{}
	for _, b := range s.Blocks() {
		have[number(b.Reason)] = true
	}
	for p, v := range o.inForce {
		if isBlock(p, node{}) && !have[v.id] {
			o.complain("block %s, version %d, is not in force", p, v.id)
		}
		delete(have, v.id)
	}
	for id := range have {
		if head := o.m.head; !o.heldIDs[id] && (head == nil || !slices.ContainsFunc(slices.Collect(maps.Values(head.tree)), func(n node) bool { return n.v.id == id })) {
			o.complain("a block of version %d is in force, and nobody asked for it", id)
		}
	}
}

// checkStandings: blocks win, dates count, and the rest of an answer is what is
// in force.
func (o *model) checkStandings(s *policy.Snapshot) {
	for _, ip := range pool() {
		blocked := false
		for _, b := range slices.Concat(s.Blocks(), o.m.glass) {
			blocked = blocked || b.Prefix.Contains(ip) && !o.m.now.Before(b.Since) && (b.Until.IsZero() || o.m.now.Before(b.Until))
		}
		want := policy.Unregistered
		for p, v := range o.inForce {
			if v.department != "" && registration.Kind(p) == registration.KindRegistration && slices.Contains(v.hosts, ip) {
				if want = policy.Registered; !o.m.now.Before(v.expires) {
					want = policy.Expired
				}
			}
		}
		if want == policy.Unregistered && o.inForce[networksFile] == nil {
			want = policy.OffCampus
		}
		if blocked {
			want = policy.Blocked
		}
		if got := s.Lookup(ip, o.m.now).Standing; got != want {
			o.complain("%s is %s, want %s", ip, got, want)
		}
	}
}

// started is right after a start from the disk alone.
func (o *model) started() {
	if o.told == nil {
		o.told, o.owed, o.attempted, o.heldIDs = map[string]string{}, map[string]bool{}, map[*commit]bool{}, map[int]bool{}
	}
	before, accepted := o.snapshot, o.accepted
	o.see()
	if changes := policy.Diff(before, o.m.live.Load()); accepted == o.accepted && len(changes) > 0 && !o.m.disk.failed {
		o.complain("a restart changed the register: %+v", changes)
	}
}

// settled is after a round in which nothing failed.
func (o *model) settled() {
	state := o.m.r.State()
	want := []reconcile.Condition{reconcile.Frozen}
	head := o.m.head
	switch {
	case head == o.accepted:
		want = []reconcile.Condition{reconcile.Following}
	case head != nil && head.descends(o.accepted):
		want = []reconcile.Condition{reconcile.Held}
		o.held(head)
	}
	if !slices.Contains(want, state.Condition) || state.Unannounced || state.Error != "" {
		o.complain("the condition is %q (%s), want %q; unannounced %v, error %q", state.Condition, state.Why, want, state.Unannounced, state.Error)
	}
	if head == o.accepted {
		for _, b := range o.m.live.Load().Blocks() {
			if v := o.inForce[b.Path]; idOf(v) != number(b.Reason) {
				o.complain("a block of version %d is still in force", number(b.Reason))
			}
		}
		clear(o.heldIDs)
	}
	// What became live by the clock is confirmed by the hourly look.
	err := o.m.confirmer.Accepted(o.m.t.Context(), confirm.Event{Snapshot: o.m.live.Load()})
	if errors.Is(err, errDisk) {
		return
	}
	for key := range o.owed {
		if o.m.ledger.keys[key] {
			o.complain("%s went, and would not be confirmed if it came back", key)
		}
	}
	clear(o.owed)
	o.m.disk.failed = false
	for ip, e := range o.m.live.Load().All() {
		key := confirm.Key(ip, e.Registration.Department)
		if o.m.live.Load().Lookup(ip, o.m.now).Standing == policy.Registered && !o.m.ledger.keys[key] {
			o.complain("%s is live and was never confirmed (%v)", key, err)
		}
	}
}

// held is a commit that descends and was not taken over: it must take much away,
// and its blocks are in force all the same.
func (o *model) held(head *commit) {
	have := map[int]bool{}
	for _, b := range o.m.live.Load().Blocks() {
		have[number(b.Reason)] = true
	}
	for p, n := range head.tree {
		if isBlock(p, n) && n.mode == regularMode && n.v.broken == "" {
			o.heldIDs[n.v.id] = true
			if !have[n.v.id] {
				o.complain("block %s of the commit that waits is not in force", p)
			}
		}
	}
	touched := 0
	for p, v := range o.inForce {
		if n := head.tree[p]; n.v == v && n.mode == regularMode {
			continue
		} else if registration.Kind(p) != registration.KindRegistration && !isBlock(p, n) {
			return // the ground has changed: anything may follow
		}
		touched += len(v.hosts)
	}
	if head.tree[siteRulesFile] == o.accepted.tree[siteRulesFile] && touched < 5 {
		o.complain("a commit waits that touches %d addresses", touched)
	}
}

// ledgerStep is told of each step of the confirmer before it happens.
func (o *model) ledgerStep(what, key string) {
	if key == "confirm/started" {
		return
	}
	ip, department := netip.MustParseAddr(strings.Split(key, "/")[1]), path.Base(key)
	s := o.m.live.Load()
	e, there := s.Find(ip)
	there = there && e.Registration.Department == department
	switch {
	case what == "mark" && len(o.m.all) > 1:
		o.complain("%s is recorded without a message", key)
	case what == "mark":
		o.told[key] = "first"
	case what == "forget" && (there || o.told[key] != "gone"):
		o.complain("%s is forgotten: there %v, %s", key, there, o.told[key])
	case what == "send" && (!there || s.Lookup(ip, o.m.now).Standing != policy.Registered):
		o.complain("%s is confirmed and not live", key)
	case what == "send" && (o.told[key] == "first" || o.told[key] == "sent"):
		o.complain("%s is confirmed again", key)
	case what == "send":
		o.told[key] = "sent"
	}
}
