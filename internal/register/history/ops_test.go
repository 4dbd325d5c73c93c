package history_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/registration"
)

// An op is one thing that can happen. a, b and c choose among its kinds.
type op struct {
	name string
	do   func(m *machine, a, b byte) error
	edit bool // it changes what the next commit will hold, and no more
}

// ops are what a step can be; those named twice happen twice as often.
var ops = []op{
	{"write", (*machine).opWrite, true}, {"write", (*machine).opWrite, true}, {"write", (*machine).opWrite, true}, {"write", (*machine).opWrite, true},
	{"spoil", (*machine).opSpoil, true}, {"spoil", (*machine).opSpoil, true},
	{"remove", (*machine).opRemove, true},
	{"rename", (*machine).opRename, true},
	{"change case", (*machine).opCase, true},
	{"file and folder", (*machine).opFolder, true},
	{"link", (*machine).opLink, true},
	{"not UTF-8", (*machine).opOddName, true},
	{"block", (*machine).opBlock, true}, {"block", (*machine).opBlock, true},
	{"campus", (*machine).opCampus, true}, {"campus", (*machine).opCampus, true},
	{"site", (*machine).opSite, true},
	{"remove many", (*machine).opRemoveMany, true},
	{"revert", (*machine).opRevert, true},
	{"empty commit", (*machine).opEmpty, false},
	{"merge", (*machine).opMerge, false}, {"merge", (*machine).opMerge, false},
	{"rewind", (*machine).opRewind, false},
	{"diverge", (*machine).opDiverge, false},
	{"delete branch", (*machine).opDeleteBranch, false},
	{"back", (*machine).opBack, false}, {"back", (*machine).opBack, false}, {"back", (*machine).opBack, false}, {"back", (*machine).opBack, false},
	{"round", (*machine).opRound, false},
	{"restart", (*machine).opRestart, false}, {"restart", (*machine).opRestart, false},
	{"crash", (*machine).opCrash, false}, {"crash", (*machine).opCrash, false}, {"crash", (*machine).opCrash, false},
	{"outage", (*machine).opOutage, false},
	{"confirming fails", (*machine).opLedger, false}, {"confirming fails", (*machine).opLedger, false},
	{"time passes", (*machine).opTime, false},
	{"break glass", (*machine).opGlass, false},
	{"accept", (*machine).opAccept, false}, {"accept", (*machine).opAccept, false},
	{"accept an older one", (*machine).opAcceptOlder, false},
}

// step plays one step. An edit is followed by a commit, and a commit by a
// round, unless c says otherwise.
func (m *machine) step(kind, a, b, c byte) error {
	o := ops[int(kind)%len(ops)]
	m.say("%s %d %d %d", o.name, a, b, c)
	if err := o.do(m, a, b); err != nil {
		return err
	}
	if o.edit && c%8 > 1 {
		if err := m.commit(m.work); err != nil {
			return err
		}
	}
	if c%8 > 2 {
		if err := m.round(); err != nil {
			return err
		}
	}
	return m.model.verdict()
}

// slot is where a registration may be.
func slot(a byte) (folder, file string) {
	folder = []string{"lsa-physics", "lsa-physics", "its"}[a%3]
	name := []string{"a", "b", "c", "d", "e", "f", "A", "x/y"}[a/3%8]
	return folder, "registrations/" + folder + "/" + name + ".cue"
}

// one picks one of the paths that a filter likes, "" if there is none.
func (m *machine) one(a byte, like func(string, node) bool) string {
	paths := m.work.paths(like)
	if len(paths) == 0 {
		return ""
	}
	return paths[int(a)%len(paths)]
}

func (m *machine) opWrite(a, b byte) error {
	folder, file := slot(a)
	var hosts []netip.Addr
	for i := range 1 + b%3 {
		base := b/3 + 5*i
		if folder == "its" {
			base = 12 + base%6
		} else if base%4 > 0 {
			base %= 12
		}
		if h := poolAddress(base); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	expires := farDay
	switch b / 64 {
	case 2:
		expires = m.now.AddDate(0, 0, int(b%8)).Truncate(24 * time.Hour)
	case 3:
		expires = farDay.AddDate(3, 0, 0) // too far ahead, and built all the same
	}
	m.write(file, newRegistration(m.id(), folder, hosts, 100+900*int(a/128), expires))
	return nil
}

func (m *machine) opSpoil(a, b byte) error {
	if p := m.one(a, isRegistration); p != "" && m.work[p].v.department != "" {
		bad := m.work[p].v.spoilt(int(b))
		bad.id = m.id()
		m.work = m.work.with(p, node{regularMode, bad})
	}
	return nil
}

func (m *machine) opRemove(a, _ byte) error {
	if p := m.one(a, isRegistration); p != "" {
		m.work = m.work.without(p)
	}
	return nil
}

func (m *machine) opRename(a, b byte) error {
	if p := m.one(a, isRegistration); p != "" {
		n := m.work[p]
		_, to := slot(b)
		m.work = m.work.without(p).with(to, n)
	}
	return nil
}

// opCase renames a file to its name in other letters, or leaves both.
func (m *machine) opCase(a, b byte) error {
	p := m.one(a, isRegistration)
	if p == "" {
		return nil
	}
	i := strings.LastIndexByte(p, '/') + 1
	to := p[:i] + strings.ToUpper(p[i:i+1]) + p[i+1:]
	if to == p {
		to = p[:i] + strings.ToLower(p[i:i+1]) + p[i+1:]
	}
	n := m.work[p]
	if b%2 == 0 {
		m.work = m.work.without(p)
	}
	m.work = m.work.with(to, n)
	return nil
}

// opFolder makes a folder of a file, with the file in it, or a file of a folder.
func (m *machine) opFolder(a, _ byte) error {
	p := m.one(a, isRegistration)
	if p == "" {
		return nil
	}
	n := m.work[p]
	if folder, ok := strings.CutSuffix(p, "/in.cue"); ok {
		m.work = m.work.without(folder).with(folder, n)
	} else {
		m.work = m.work.without(p).with(p+"/in.cue", n)
	}
	return nil
}

func (m *machine) opLink(a, b byte) error {
	p := m.one(a, func(p string, n node) bool { return isRegistration(p, n) || isBlock(p, n) })
	if p == "" {
		return nil
	}
	n := m.work[p]
	if n.mode = []string{symlinkMode, submoduleMode, executableMode, regularMode}[b%4]; n.mode != executableMode && n.mode != regularMode {
		v := *n.v
		v.broken = "not regular"
		n.v = &v
	} else if n.v.broken == "not regular" {
		return nil
	}
	m.work = m.work.with(p, n)
	return nil
}

func (m *machine) opOddName(a, b byte) error {
	folder, _ := slot(a)
	p := "registrations/" + folder + "/caf\xe9.cue"
	if _, there := m.work[p]; there {
		m.work = m.work.without(p)
		return nil
	}
	m.write(p, newRegistration(m.id(), folder, []netip.Addr{poolAddress(b)}, 100, farDay))
	return nil
}

func (m *machine) opBlock(a, b byte) error {
	p := fmt.Sprintf("registrations/blocks/%c.cue", 'a'+a%4)
	old, there := m.work[p]
	switch {
	case there && b%8 < 3:
		m.work = m.work.without(p)
		return nil
	case there && b%8 == 3:
		bad := *old.v
		bad.id, bad.broken, bad.text = m.id(), "syntax", "block: {"
		m.work = m.work.with(p, node{regularMode, &bad})
		return nil
	}
	ip := poolAddress(a / 4)
	prefix := netip.PrefixFrom(ip, ip.BitLen()-int(b%3)).Masked()
	since, until := m.now.Add(-time.Hour), time.Time{}
	if b/8%4 == 1 {
		until = m.now.Add(time.Duration(1+b%64) * time.Hour)
	}
	if b/8%4 == 2 {
		since = m.now.Add(time.Duration(1+b%64) * time.Hour)
	}
	m.write(p, newBlock(m.id(), prefix, since, until))
	return nil
}

func (m *machine) opCampus(a, b byte) error {
	networks := ordinaryNetworks()
	bad := func(file string, v *version) {
		v.broken, v.text = "syntax", v.text[:len(v.text)-3]
		m.write(file, v)
	}
	switch a % 12 {
	case 0:
		m.work = m.work.without("registrations/campus")
	case 1:
		m.work = m.work.without(networksFile)
	case 2:
		m.work = m.work.without(departmentsFile)
	case 3:
		bad(networksFile, newNetworks(m.id(), networks...))
	case 4:
		bad(departmentsFile, newDepartments(m.id(), "its"))
	case 5:
		m.write(departmentsFile, newDepartments(m.id(), []string{"its", "lsa-physics"}[b%2]))
	case 6:
		networks[b%3].use = "dhcp"
		m.write(networksFile, newNetworks(m.id(), networks...))
	case 7:
		networks = append(networks, held{netip.PrefixFrom(poolAddress(b%12), 30).Masked(), "its", "static"})
		m.write(networksFile, newNetworks(m.id(), networks...))
	case 8:
		networks[b%3].holder = "its"
		m.write(networksFile, newNetworks(m.id(), networks...))
	default:
		m.write(networksFile, newNetworks(m.id(), networks...))
		m.write(departmentsFile, newDepartments(m.id(), "lsa-physics", "its"))
	}
	return nil
}

func (m *machine) opSite(a, _ byte) error {
	switch a % 4 {
	case 0:
		m.work = m.work.without(siteRulesFile)
	case 1:
		v := newSiteRules(m.id(), 10)
		v.broken, v.text = "syntax", "#Registration: {"
		m.write(siteRulesFile, v)
	default:
		m.write(siteRulesFile, newSiteRules(m.id(), 50+500*int(a%4-2)+100))
	}
	return nil
}

func (m *machine) opRemoveMany(a, _ byte) error {
	for i, p := range m.work.paths(isRegistration) {
		if (i+int(a))%4 > 0 {
			m.work = m.work.without(p)
		}
	}
	return nil
}

func (m *machine) opRevert(a, _ byte) error {
	m.work = m.all[len(m.all)-1-int(a)%min(len(m.all), 8)].tree
	return nil
}

func (m *machine) opEmpty(_, _ byte) error {
	if m.head == nil {
		return nil
	}
	return m.commit(m.head.tree)
}

// opMerge merges one to three branches that went off some commits ago, each
// with one file; or, with the parents the other way round, is merged by them.
func (m *machine) opMerge(a, b byte) error {
	if m.head == nil {
		return nil
	}
	from, merged := m.head, m.head.tree
	var sides []*commit
	for i := range 1 + a%3 {
		m.work = from.tree
		if err := m.opWrite(a+i, b+7*i); err != nil {
			return err
		}
		side, err := m.detached(m.work, m.all[len(m.all)-1-int(b)%min(len(m.all), 4)])
		if err != nil {
			return err
		}
		for p, n := range m.work {
			if from.tree[p] != n {
				merged = merged.with(p, n)
			}
		}
		sides = append(sides, side)
	}
	parents := append([]*commit{from}, sides...)
	if a%8 == 7 {
		slices.Reverse(parents)
	}
	return m.commit(merged, parents...)
}

func (m *machine) opRewind(a, _ byte) error {
	return m.point(m.all[len(m.all)-1-int(a)%min(len(m.all), 8)])
}

func (m *machine) opDiverge(a, b byte) error {
	var from *commit // none: a history of its own
	if a%8 > 0 {
		from = m.all[len(m.all)-1-int(a)%min(len(m.all), 8)]
		m.work = from.tree
	}
	if err := m.opWrite(a, b); err != nil {
		return err
	}
	var parents []*commit
	if from != nil {
		parents = append(parents, from)
	} else {
		m.head = nil
	}
	return m.commit(m.work, parents...)
}

func (m *machine) opDeleteBranch(_, _ byte) error {
	if m.head == nil {
		return nil
	}
	return m.point(nil)
}

// opBack is what people do after a mistake: the branch is set back to what the
// relay has accepted, and what it holds is made whole.
func (m *machine) opBack(a, _ byte) error {
	if a%2 == 0 || m.head == nil || !m.head.descends(m.model.accepted) {
		if err := m.point(m.model.accepted); err != nil {
			return err
		}
	}
	return m.opCampus(9, 0)
}

func (m *machine) opRound(_, _ byte) error { return m.round() }

func (m *machine) opRestart(a, _ byte) error {
	if a%4 == 0 {
		m.program = fmt.Sprint("upgraded ", a)
	}
	return m.start()
}

// opNews is a commit for something to fail with.
func (m *machine) opNews(a, b byte) error {
	edit := (*machine).opWrite
	if a%4 == 3 {
		edit = (*machine).opRemove
	}
	if err := edit(m, a, b); err != nil {
		return err
	}
	return m.commit(m.work)
}

// opCrash runs a round in which a write to the disk fails, after it was written
// or before, and then starts anew, or goes on.
func (m *machine) opCrash(a, b byte) error {
	if err := m.opNews(a/4, b); err != nil {
		return err
	}
	m.disk.n, m.disk.lying = 1+int(a)%4, b%2 == 0
	if err := m.round(); err != nil {
		return err
	}
	failed := m.disk.n == 0
	m.disk.n = 0
	if failed && b%4 < 3 {
		return m.start()
	}
	return nil
}

func (m *machine) opOutage(a, b byte) error {
	if err := m.opNews(a/4, b); err != nil {
		return err
	}
	switch a % 4 {
	case 0:
		m.source.fetch = errBoom
	case 1:
		m.source.files = errBoom
	case 2:
		m.source.read = errBoom
	case 3:
		m.source.describe = errBoom
	}
	err := m.round()
	*m.source = faultySource{Source: m.mirror}
	return err
}

// opLedger has the ledger or the spool fail in the middle of confirming.
func (m *machine) opLedger(a, b byte) error {
	if err := m.opNews(a/4, b); err != nil {
		return err
	}
	m.ledger.n, m.ledger.lying = 1+int(a)%3, b%2 == 0
	if err := m.round(); err != nil {
		return err
	}
	failed := m.ledger.n == 0
	m.ledger.n = 0
	if failed && b%4 < 2 {
		return m.start()
	}
	return nil
}

func (m *machine) opTime(a, _ byte) error {
	m.now = m.now.Add(time.Duration(a) * time.Hour)
	err := m.confirmer.Accepted(m.t.Context(), confirm.Event{Snapshot: m.live.Load()})
	if errors.Is(err, errDisk) {
		err = nil
	}
	return err
}

func (m *machine) opGlass(a, b byte) error {
	m.glass = nil
	if b%2 == 0 {
		ip := poolAddress(a)
		m.glass = []registration.Block{{Prefix: netip.PrefixFrom(ip, ip.BitLen()), Reason: "by hand", Since: m.now.Add(-time.Minute)}}
	}
	m.live.SetBlocks(m.glass)
	m.model.see()
	return nil
}

func (m *machine) opAccept(_, _ byte) error {
	if m.head == nil {
		return nil
	}
	return m.accept(m.head)
}

func (m *machine) opAcceptOlder(a, b byte) error {
	target := m.all[len(m.all)-1-int(a)%min(len(m.all), 8)]
	if b%4 == 0 {
		m.disk.n, m.disk.lying = 1, b%8 == 0
		defer func() { m.disk.n = 0 }()
	}
	return m.accept(target)
}
