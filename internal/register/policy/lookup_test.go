package policy

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/registration"
)

func TestLookup(t *testing.T) {
	s, problems := Build(join(campus(), files(
		request(mfpPath, "141.211.13.21", "2607:f018:1:13::22"),
		with(request(alarmPath, "141.212.1.1", "141.212.1.9"), func(r *registration.Registration) { r.Expires = day("2026-12-31") }),
		request("registrations/its/a.cue", "141.211.1.1"),
		block("wide", "141.212.0.0/24", "2026-11-01", ""),
		block("narrow-over", "141.212.0.7/32", "2026-11-01", "2026-11-10"),
		block("dated", "141.212.1.9/32", "2027-01-01", "2027-02-01"),
		block("abroad", "203.0.113.0/24", "2026-11-01", ""),
	)), Options{Commit: "abc", Now: today()})
	wantProblems(t, problems)
	for _, tt := range []struct {
		name, ip, on string
		want         Standing
		file         string // of the registration
		block        string
	}{
		{"registered", "141.211.13.21", "2026-11-23", Registered, mfpPath, ""},
		{"IPv6", "2607:f018:1:13::22", "2026-11-23", Registered, mfpPath, ""},
		{"IPv4-mapped is the IPv4 address", "::ffff:141.211.13.21", "2026-11-23", Registered, mfpPath, ""},
		{"the last day counts", "141.212.1.1", "2026-12-31", Registered, alarmPath, ""},
		{"the day after", "141.212.1.1", "2027-01-01", Expired, alarmPath, ""},
		{"a neighbour", "141.211.13.20", "2026-11-23", Unregistered, "", ""},
		{"in no network, but on campus", "141.211.200.1", "2026-11-23", Unregistered, "", ""},
		{"off campus", "8.8.8.8", "2026-11-23", OffCampus, "", ""},
		{"no address at all", "", "2026-11-23", OffCampus, "", ""},
		{"blocked, unregistered", "141.212.0.9", "2026-11-23", Blocked, "", "wide"},
		{"a narrow block that is over hides no wide one", "141.212.0.7", "2026-11-23", Blocked, "", "wide"},
		{"the narrow block decides while it stands", "141.212.0.7", "2026-11-09", Blocked, "", "narrow-over"},
		{"before a block", "141.212.1.9", "2026-12-31", Registered, alarmPath, ""},
		{"a block beats a registration, expired or not", "141.212.1.9", "2027-01-01", Blocked, alarmPath, "dated"},
		{"after the block", "141.212.1.9", "2027-02-01", Expired, alarmPath, ""},
		{"blocked abroad", "203.0.113.5", "2026-11-23", Blocked, "", "abroad"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ip netip.Addr
			if tt.ip != "" {
				ip = netip.MustParseAddr(tt.ip)
			}
			v := s.Lookup(ip, moment(tt.on))
			if v.Standing != tt.want || v.Commit != "abc" || v.Addr != ip.Unmap() {
				t.Errorf("got %+v, want %v", v, tt.want)
			}
			if (v.Registration == nil) != (tt.file == "") || v.Registration != nil && (v.Registration.Path != tt.file || v.Host.IP != ip.Unmap()) {
				t.Errorf("registration %+v, host %+v; want %q", v.Registration, v.Host, tt.file)
			}
			if (v.Block == nil) != (tt.block == "") || v.Block != nil && v.Block.Path != "registrations/blocks/"+tt.block+".cue" {
				t.Errorf("block %+v, want %q", v.Block, tt.block)
			}
		})
	}
}

func TestNilSnapshot(t *testing.T) {
	var s *Snapshot
	ip := netip.MustParseAddr("141.211.13.21")
	if v := s.Lookup(ip, today()); v.Standing != NoRegister || v.Admit(mail.Address{}) != RefusedNoRegister {
		t.Errorf("got %+v", v)
	}
	for range s.All() {
		t.Error("an address")
	}
	for range s.Campus() {
		t.Error("a prefix")
	}
	for range s.Networks() {
		t.Error("a network")
	}
	for range s.Departments() {
		t.Error("a department")
	}
	_, held := s.Holder(ip)
	_, found := s.Find(ip)
	if s.Len() != 0 || s.Commit() != "" || held || found || s.OnCampus(ip) || s.Block(ip, today()) != nil || s.Blocks() != nil ||
		s.LocalBlocks() != nil || s.Department("its") != nil || s.WithBlocks([]registration.Block{{}}) != nil {
		t.Error("the nil snapshot knows something")
	}
	if v := (Verdict{}); v.Standing != NoRegister {
		t.Error("the zero Verdict must be a temporary answer")
	}
}

func TestSnapshotAccessors(t *testing.T) {
	s, _ := Build(campus(), Options{Now: today()})
	var ids []string
	for d := range s.Departments() {
		ids = append(ids, d.ID)
	}
	if len(ids) != 3 || ids[0] != "engin-eecs" || s.Department("its").ID != "its" || s.Department("x") != nil {
		t.Errorf("departments %v", ids)
	}
	n, m := 0, 0
	for p := range s.Campus() {
		n++
		if !s.OnCampus(p.Addr()) {
			t.Errorf("%v is not on campus", p)
		}
	}
	for h := range s.Networks() {
		m++
		if got, ok := s.Holder(h.Prefix.Addr()); !ok || got.File != networksPath {
			t.Errorf("%v has holder %+v", h.Prefix, got)
		}
	}
	if n != 3 || m != 5 {
		t.Errorf("%d prefixes, %d networks", n, m)
	}
}

func TestWithBlocks(t *testing.T) {
	base, _ := Build(join(campus(), files(request(mfpPath, "141.211.13.21"), block("b", "141.211.13.99/32", "2026-11-01", ""))), Options{Now: today()})
	local := []registration.Block{{Prefix: netip.MustParsePrefix("::ffff:141.211.13.21/128"), Reason: "now", Since: today()}}
	s := base.WithBlocks(local)
	local[0].Prefix = netip.Prefix{} // the snapshot has its own copy
	ip, other := netip.MustParseAddr("141.211.13.21"), netip.MustParseAddr("141.211.13.99")
	if v := s.Lookup(ip, today()); v.Standing != Blocked || v.Block.Reason != "now" || v.Registration == nil {
		t.Errorf("got %+v", v)
	}
	if s.Lookup(other, today()).Standing != Blocked {
		t.Error("the register's own block is gone")
	}
	if s.Lookup(ip, today().Add(-time.Hour)).Standing != Blocked {
		t.Error("a clock that was put back lifts a break-glass block")
	}
	if base.Lookup(ip, today()).Standing != Registered || len(base.LocalBlocks()) != 0 {
		t.Error("the old snapshot changed")
	}
	if len(s.LocalBlocks()) != 1 || len(s.Blocks()) != 1 {
		t.Error("the two kinds of block are not told apart")
	}
	if s.WithBlocks(nil).Lookup(ip, today()).Standing != Registered {
		t.Error("a lifted block still blocks")
	}
	if s.WithBlocks([]registration.Block{{}}).Lookup(ip, today()).Standing != Registered {
		t.Error("an invalid prefix blocks")
	}
}

func TestAdmit(t *testing.T) {
	v := Verdict{Standing: Registered, Registration: &registration.Registration{Senders: []string{"*@physics.lsa.umich.edu", "alarm@umich.edu"}}}
	any := Verdict{Standing: Registered, Registration: &registration.Registration{}}
	for _, tt := range []struct {
		name, from string
		v          Verdict
		want       Refusal
	}{
		{"any sender", "x@gmail.com", any, Admitted},
		{"null sender", "", v, Admitted},
		{"a domain", "mfp@physics.lsa.umich.edu", v, Admitted},
		{"a domain in capitals", "mfp@Physics.LSA.UMICH.EDU", v, Admitted},
		{"a mailbox", "alarm@umich.edu", v, Admitted},
		{"a mailbox in capitals", "Alarm@UMICH.edu", v, Admitted},
		{"another mailbox", "other@umich.edu", v, RefusedSender},
		{"below the domain", "x@a.physics.lsa.umich.edu", v, RefusedSender},
		{"above the domain", "x@lsa.umich.edu", v, RefusedSender},
		{"a local part with the domain in it", `"x@physics.lsa.umich.edu"@evil.example`, v, RefusedSender},
		{"a star is no local part", "*@umich.edu", v, RefusedSender},
		{"bare postmaster", "postmaster", v, RefusedSender},
		{"no register", "a@b.c", Verdict{}, RefusedNoRegister},
		{"off campus", "a@b.c", Verdict{Standing: OffCampus}, RefusedOffCampus},
		{"blocked", "", Verdict{Standing: Blocked}, RefusedBlocked},
		{"unregistered", "", Verdict{Standing: Unregistered}, RefusedUnregistered},
		{"expired", "", Verdict{Standing: Expired, Registration: v.Registration}, RefusedExpired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var from mail.Address
			if tt.from != "" {
				var err error
				if from, err = mail.ParseAddress(tt.from, false); err != nil {
					t.Fatal(err)
				}
			}
			if got := tt.v.Admit(from); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.want != RefusedSender && tt.want != Admitted && tt.v.Standing.String() != string(tt.want) {
				t.Errorf("standing %q and refusal %q have different names", tt.v.Standing, tt.want)
			}
		})
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	fs := join(campus(), files(request(mfpPath, "141.211.13.21", "2607:f018:1:13::22"),
		block("wide", "141.212.0.0/16", "2026-11-01", ""), block("narrow", "141.212.0.7/32", "2026-11-01", "2026-11-10")))
	s, _ := Build(fs, Options{Now: today()})
	from := mail.Address{Local: "a", Domain: "umich.edu"}
	for _, ip := range []string{"141.211.13.21", "2607:f018:1:13::22", "::ffff:141.211.13.21", "141.212.0.7", "141.211.0.1", "8.8.8.8"} {
		addr, now := netip.MustParseAddr(ip), today()
		if n := testing.AllocsPerRun(100, func() { s.Lookup(addr, now).Admit(from) }); n != 0 {
			t.Errorf("%s: %v allocations", ip, n)
		}
	}
}

func TestLiveZeroValue(t *testing.T) {
	var l Live
	if l.Load() != nil {
		t.Error("a snapshot before there is one")
	}
	l.SetBlocks([]registration.Block{{Prefix: netip.MustParsePrefix("141.211.13.21/32"), Reason: "now"}}) // before the first Store
	s, _ := Build(append(campus(), request(mfpPath, "141.211.13.21")), Options{Now: today()})
	ip := netip.MustParseAddr("141.211.13.21")
	l.Store(s)
	if l.Load().Lookup(ip, today()).Standing != Blocked {
		t.Error("a new register undid a break-glass block")
	}
	l.SetBlocks(nil)
	if l.Load().Lookup(ip, today()).Standing != Registered {
		t.Error("lifted, and still blocked")
	}
	l.Store(nil)
	if l.Load() != nil {
		t.Error("nil stored, something loaded")
	}
}

// Whoever asks for Changed before Load sees the last snapshot, however the
// stores fall.
func TestLiveLosesNoWakeUp(t *testing.T) {
	var l Live
	const stores = 200
	snapshots := make([]*Snapshot, stores)
	for i := range snapshots {
		snapshots[i], _ = Build(nil, Options{})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				changed := l.Changed()
				if l.Load() == snapshots[stores-1] {
					return
				}
				select {
				case <-changed:
				case <-ctx.Done():
					t.Error("asleep with an old snapshot")
					return
				}
			}
		})
	}
	for _, s := range snapshots {
		l.Store(s)
	}
	wg.Wait()
}

// TestAgrees: a break-glass block is superfluous once the register has one that
// is as wide, is in force and ends no earlier.
func TestAgrees(t *testing.T) {
	s, _ := Build(join(campus(), files(
		block("one", "141.211.13.21/32", "2026-11-01", ""),
		block("short", "141.211.14.0/24", "2026-11-01", "2026-12-01"),
		block("later", "141.211.15.1/32", "2026-12-24", ""))), Options{Now: today()})
	for _, tc := range []struct {
		prefix string
		until  time.Time
		want   string
	}{
		{"141.211.13.21/32", time.Time{}, "registrations/blocks/one.cue"},
		{"141.211.13.21/32", moment("2027-01-01"), "registrations/blocks/one.cue"},
		{"141.211.13.0/24", time.Time{}, ""}, // wider
		{"141.211.13.22/32", time.Time{}, ""},
		{"141.211.14.7/32", moment("2026-12-01"), "registrations/blocks/short.cue"},
		{"141.211.14.7/32", moment("2026-12-02"), ""}, // the register's ends before
		{"141.211.14.7/32", time.Time{}, ""},
		{"141.211.15.1/32", time.Time{}, ""}, // not yet
		{"2607:f018::1/128", time.Time{}, ""},
	} {
		got := ""
		if b := s.Agrees(netip.MustParsePrefix(tc.prefix), tc.until, today()); b != nil {
			got = b.Path
		}
		if got != tc.want {
			t.Errorf("%s until %v: got %q, want %q", tc.prefix, tc.until, got, tc.want)
		}
	}
	if (*Snapshot)(nil).Agrees(netip.MustParsePrefix("141.211.13.21/32"), time.Time{}, today()) != nil {
		t.Error("no register agrees with nothing")
	}
}

// TestNextTurn: what waits for a block to begin or to end can wait so long.
func TestNextTurn(t *testing.T) {
	s, _ := Build(join(campus(), files(
		block("over", "141.211.13.1/32", "2026-11-01", "2026-11-02"),
		block("short", "141.211.14.0/24", "2026-11-01", "2026-12-01"),
		block("later", "141.211.15.1/32", "2026-12-24", ""))), Options{Now: today()})
	local := today().Add(time.Minute)
	with := s.WithBlocks([]registration.Block{{Prefix: netip.MustParsePrefix("141.211.13.9/32"), Since: today(), Until: local}})
	for now, want := range map[time.Time]string{
		today():                   "2026-12-01",
		today().AddDate(0, 0, 20): "2026-12-24",
		today().AddDate(1, 0, 0):  "0001-01-01",
	} {
		if got := s.NextTurn(now).Format(time.DateOnly); got != want {
			t.Errorf("after %v: %s, want %s", now, got, want)
		}
	}
	if got := with.NextTurn(today()); !got.Equal(local) {
		t.Errorf("the break-glass block's end is %v, want %v", got, local)
	}
	if !(*Snapshot)(nil).NextTurn(today()).IsZero() {
		t.Error("no register turns")
	}
}
