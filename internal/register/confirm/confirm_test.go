package confirm_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// A reg is a registration in short: path, department, addresses.
type reg struct {
	name, department string
	expires          time.Time // zero: in a year
	ips              []string
}

func (r reg) file() *registration.File {
	expires := r.expires
	if expires.IsZero() {
		expires = now.AddDate(1, 0, 0)
	}
	path := "registrations/" + r.department + "/" + r.name + ".cue"
	out := &registration.Registration{
		Path: path, Department: r.department, Purpose: "Scans.", WhyNoAuth: "It cannot.",
		Contact: registration.Contact{Name: "IT of " + r.department, Email: "it@umich.edu"},
		Volume:  registration.Volume{PerHour: 200, PerDay: 1000},
		Expires: expires,
		Accept:  registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true},
	}
	for _, ip := range r.ips {
		out.Hosts = append(out.Hosts, registration.Host{
			IP: netip.MustParseAddr(ip), Name: "mfp.umich.edu", Kind: "printer",
			Device: registration.Device{BareLF: "reject", TLS: "modern", Commands: "strict", AddHeaders: true},
		})
	}
	return &registration.File{Path: path, Registration: out}
}

// campus is one network that both departments may register in: the most
// specific one decides, so each has its half.
func campus() *registration.File {
	prefix := netip.MustParsePrefix
	c := &registration.Campus{Path: "registrations/campus/all.cue",
		Prefixes: []registration.Prefix{{Prefix: prefix("141.211.0.0/16")}, {Prefix: prefix("2607:f018::/32")}}}
	for _, d := range []string{"physics", "math"} {
		c.Departments = append(c.Departments, registration.Department{ID: d, Name: d, ContactDomains: []string{"umich.edu"}})
	}
	c.Networks = []registration.Network{
		{Prefix: prefix("141.211.0.0/17"), Department: "physics", Use: "static"},
		{Prefix: prefix("2607:f018::/32"), Department: "physics", Use: "static"},
		{Prefix: prefix("141.211.128.0/17"), Department: "math", Use: "static"},
	}
	return &registration.File{Path: c.Path, Campus: c}
}

// build makes a snapshot; what is invalid in it is a mistake of the test.
func build(t testing.TB, commit string, files ...*registration.File) *policy.Snapshot {
	t.Helper()
	s, problems := policy.Build(append(files, campus()), policy.Options{Commit: commit, Now: now})
	for _, p := range problems {
		if p.Severity == registration.Error {
			t.Fatalf("%v", p)
		}
	}
	return s
}

func regs(t testing.TB, commit string, rs ...reg) *policy.Snapshot {
	var files []*registration.File
	for _, r := range rs {
		files = append(files, r.file())
	}
	return build(t, commit, files...)
}

var errPower = errors.New("the power went")

// A store is a ledger and an outbox on one medium, as the spool is. The call
// number failAt fails, before its effect or, if late, after it.
type store struct {
	keys   map[string]bool
	sent   []string // keys, in order
	bodies [][]byte
	calls  int
	failAt int // from 1; 0: never
	late   bool
}

func newStore() *store { return &store{keys: map[string]bool{}} }

func (s *store) step(effect func()) error {
	s.calls++
	if s.calls != s.failAt {
		effect()
		return nil
	}
	if s.late {
		effect()
	}
	return errPower
}

func (s *store) Confirmed(key string) (done bool, err error) {
	err = s.step(func() { done = s.keys[key] })
	return done, err
}

func (s *store) Mark(keys ...string) error {
	return s.step(func() {
		for _, key := range keys {
			s.keys[key] = true
		}
	})
}

func (s *store) Forget(keys ...string) error {
	return s.step(func() {
		for _, key := range keys {
			delete(s.keys, key)
		}
	})
}

func (s *store) Send(_ context.Context, key string, env mail.Envelope, body []byte) error {
	return s.step(func() {
		if !s.keys[key] {
			s.keys[key] = true
			s.sent = append(s.sent, key)
			s.bodies = append(s.bodies, body)
		}
	})
}

var (
	_ confirm.Ledger = (*store)(nil)
	_ confirm.Outbox = (*store)(nil)
)

func confirmer(s *store, standby bool) *confirm.Confirmer {
	return confirm.New(confirm.Options{
		Letter: letterhead, Ledger: s, Outbox: s, Standby: standby,
		Now: func() time.Time { return now },
	})
}

// story is a register's life, event by event, and the keys mailed at each.
func story(t testing.TB) (events []confirm.Event, mails [][]string) {
	p := func(ips ...string) reg { return reg{name: "a", department: "physics", ips: ips} }
	m := reg{name: "m", department: "math", ips: []string{"141.211.200.1"}}
	s1 := regs(t, "c1", p("141.211.1.1"))
	s2 := regs(t, "c2", p("141.211.1.1", "141.211.1.2", "2607:f018::2"), m)
	moved := p("141.211.1.1", "141.211.1.2", "2607:f018::2")
	moved.name = "deeper/elsewhere"
	s3 := regs(t, "c3", moved, m)
	s4 := regs(t, "c4", moved)
	s5 := regs(t, "c5", moved, m)
	s6 := s1 // an operator rewinds to the beginning
	s7 := regs(t, "c7", p("141.211.1.1", "141.211.1.2"), m)
	k := func(ip, department string) string { return confirm.Key(netip.MustParseAddr(ip), department) }
	return []confirm.Event{
			{Snapshot: s1},
			{Snapshot: s2, Removed: policy.Removals(s1, s2)},
			{Snapshot: s3, Removed: policy.Removals(s2, s3)},
			{Snapshot: s4, Removed: policy.Removals(s3, s4)},
			{Snapshot: s5, Removed: policy.Removals(s4, s5)},
			{Snapshot: s6},
			{Snapshot: s7, Removed: policy.Removals(s6, s7)},
		}, [][]string{
			nil,
			{k("141.211.1.2", "physics"), k("141.211.200.1", "math"), k("2607:f018::2", "physics")},
			nil,                          // a move
			nil,                          // a removal
			{k("141.211.200.1", "math")}, // and back
			nil,                          // a rewind
			nil,                          // what was confirmed before the rewind
		}
}

func TestStory(t *testing.T) {
	events, mails := story(t)
	s := newStore()
	c := confirmer(s, false)
	for i, e := range events {
		for range 2 { // once, and once more for nothing
			if err := c.Accepted(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(s.sent, mails[i]) {
			t.Errorf("event %d: mailed %v, want %v", i, s.sent, mails[i])
		}
		s.sent = nil
	}
}

// TestExactlyOnceWhateverFails fails each call of the ledger and the outbox in
// turn, before and after its effect, goes on with the same or with a new
// process, and wants the mails of a life without failures.
func TestExactlyOnceWhateverFails(t *testing.T) {
	events, mails := story(t)
	want := slices.Concat(mails...)
	for _, late := range []bool{false, true} {
		for _, crash := range []bool{false, true} {
			for k := 1; ; k++ {
				s := newStore()
				s.failAt, s.late = k, late
				c := confirmer(s, false)
				for i, e := range events {
					err := c.Accepted(t.Context(), e)
					if err == nil {
						continue
					}
					if !errors.Is(err, errPower) {
						t.Fatalf("call %d: %v", k, err)
					}
					if crash {
						c = confirmer(s, false)
					}
					if err := c.Accepted(t.Context(), events[i]); err != nil {
						t.Fatalf("call %d, again: %v", k, err)
					}
				}
				if !slices.Equal(s.sent, want) {
					t.Errorf("call %d failed (late %v, crash %v): mailed\n%v, want\n%v", k, late, crash, s.sent, want)
				}
				if s.calls < k {
					if k < 15 {
						t.Errorf("only %d calls were made to fail", k-1)
					}
					break
				}
			}
		}
	}
}

// TestFailedForgettingIsMadeUpFor lets the next event come without a repetition
// of the one that failed. What is back by then was never gone; what is not is
// forgotten, and confirmed when it comes back later.
func TestFailedForgettingIsMadeUpFor(t *testing.T) {
	one := reg{name: "a", department: "physics", ips: []string{"141.211.1.1"}}
	s1, s2 := regs(t, "c1", one), regs(t, "c2")
	for _, c := range []struct {
		name string
		then []*policy.Snapshot
		want int
	}{
		{"back at once", []*policy.Snapshot{s1}, 0},
		{"still gone, and back later", []*policy.Snapshot{s2, s1}, 1},
		{"back, gone without a word, and back", []*policy.Snapshot{s1, s2, s1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore()
			confirmer := confirmer(s, false)
			if err := confirmer.Accepted(t.Context(), confirm.Event{Snapshot: s1}); err != nil {
				t.Fatal(err)
			}
			s.failAt = s.calls + 2 // the marker is read, the forgetting fails
			if err := confirmer.Accepted(t.Context(), confirm.Event{Snapshot: s2, Removed: policy.Removals(s1, s2)}); !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			for _, next := range c.then {
				if err := confirmer.Accepted(t.Context(), confirm.Event{Snapshot: next}); err != nil {
					t.Fatal(err)
				}
			}
			if len(s.sent) != c.want {
				t.Errorf("mailed %v, want %d", s.sent, c.want)
			}
		})
	}
}

// TestLostFirstSyncMailsNobody is a crash between taking over the first commit
// and the first event: afterwards nobody says that it is the first.
func TestLostFirstSyncMailsNobody(t *testing.T) {
	s1 := regs(t, "c1", reg{name: "a", department: "physics", ips: []string{"141.211.1.1"}})
	s := newStore()
	if err := confirmer(s, false).Accepted(t.Context(), confirm.Event{Snapshot: s1}); err != nil {
		t.Fatal(err)
	}
	if len(s.sent) != 0 || len(s.keys) != 2 {
		t.Errorf("mailed %v, ledger %v", s.sent, slices.Collect(maps.Keys(s.keys)))
	}
}

// TestNewStateFolderMailsNobodyTwice: the relay thinks that it has never seen a
// register, and the ledger knows better. What is new by then is confirmed.
func TestNewStateFolderMailsNobodyTwice(t *testing.T) {
	r := reg{name: "a", department: "physics", ips: []string{"141.211.1.1"}}
	s := newStore()
	if err := confirmer(s, false).Accepted(t.Context(), confirm.Event{Snapshot: regs(t, "c1", r)}); err != nil {
		t.Fatal(err)
	}
	r.ips = append(r.ips, "141.211.1.2")
	if err := confirmer(s, false).Accepted(t.Context(), confirm.Event{Snapshot: regs(t, "c2", r)}); err != nil {
		t.Fatal(err)
	}
	if want := []string{confirm.Key(netip.MustParseAddr("141.211.1.2"), "physics")}; !slices.Equal(s.sent, want) {
		t.Errorf("mailed %v, want %v", s.sent, want)
	}
}

func TestBlockedAndExpiredWait(t *testing.T) {
	block := func(until time.Time) *registration.File {
		return &registration.File{Path: "registrations/blocks/x.cue", Block: &registration.Block{
			Path: "registrations/blocks/x.cue", Prefix: netip.MustParsePrefix("141.211.1.0/24"), Reason: "x", Since: now.AddDate(0, 0, -1), Until: until}}
	}
	r := reg{name: "a", department: "physics", ips: []string{"141.211.1.1"}}
	expired := r
	expired.expires = now
	empty := build(t, "c0")
	for name, tc := range map[string]struct {
		waits, comes *policy.Snapshot
	}{
		"block taken back":     {build(t, "c1", r.file(), block(time.Time{})), build(t, "c2", r.file())},
		"block ended":          {build(t, "c1", r.file(), block(now.Add(time.Hour))), build(t, "c1", r.file(), block(now))},
		"break-glass block":    {build(t, "c1", r.file()).WithBlocks([]registration.Block{*block(time.Time{}).Block}), build(t, "c1", r.file())},
		"renewed in good time": {regs(t, "c1", expired), regs(t, "c2", r)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			c := confirmer(s, false)
			for i, e := range []confirm.Event{{Snapshot: empty}, {Snapshot: tc.waits, Removed: policy.Removals(empty, tc.waits)}, {Snapshot: tc.comes}} {
				if err := c.Accepted(t.Context(), e); err != nil {
					t.Fatal(err)
				}
				if want := max(0, i-1); len(s.sent) != want {
					t.Errorf("event %d: mailed %v", i, s.sent)
				}
			}
		})
	}
}

// TestChangeOfHandsIsConfirmed: to the new holder, and to the old one again if
// the address comes back.
func TestChangeOfHandsIsConfirmed(t *testing.T) {
	held := func(department string) *policy.Snapshot {
		c := campus()
		for i := range c.Campus.Networks {
			c.Campus.Networks[i].Department = department
		}
		r := reg{name: "a", department: department, ips: []string{"141.211.1.1"}}
		s, problems := policy.Build([]*registration.File{c, r.file()}, policy.Options{Commit: department, Now: now})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return s
	}
	physics, math := held("physics"), held("math")
	s := newStore()
	c := confirmer(s, false)
	for i, e := range []confirm.Event{
		{Snapshot: physics}, {Snapshot: math, Removed: policy.Removals(physics, math)}, {Snapshot: physics, Removed: policy.Removals(math, physics)},
	} {
		if err := c.Accepted(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if len(s.sent) != i {
			t.Errorf("event %d: mailed %v", i, s.sent)
		}
	}
}

func TestAnotherDepartmentIsAnotherRegistration(t *testing.T) {
	ip := netip.MustParseAddr("141.211.1.1")
	if confirm.Key(ip, "physics") == confirm.Key(ip, "math") {
		t.Error("one key for two departments")
	}
	if key := confirm.Key(ip, strings.Repeat("x", 10_000)); len(key) > 400 {
		t.Errorf("a key of %d octets", len(key))
	}
}

// TestStandbyTakesOver: what a relay saw in standby it does not mail later.
func TestStandbyTakesOver(t *testing.T) {
	events, _ := story(t)
	s := newStore()
	for _, e := range events[:2] {
		if err := confirmer(s, true).Accepted(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := confirmer(s, false).Accepted(t.Context(), confirm.Event{Snapshot: events[1].Snapshot}); err != nil {
		t.Fatal(err)
	}
	if len(s.sent) != 0 {
		t.Errorf("mailed %v", s.sent)
	}
}

// TestUnusableContactHoldsUpNobody: it waits for a better one.
func TestUnusableContactHoldsUpNobody(t *testing.T) {
	bad := reg{name: "a", department: "physics", ips: []string{"141.211.1.1"}}.file()
	bad.Registration.Contact.Email = "it desk@umich.edu"
	good := reg{name: "b", department: "physics", ips: []string{"141.211.1.2"}}
	s := newStore()
	c := confirmer(s, false)
	empty := build(t, "c0")
	for _, e := range []confirm.Event{{Snapshot: empty}, {Snapshot: build(t, "c1", bad, good.file())}} {
		if err := c.Accepted(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.sent) != 1 || !strings.Contains(s.sent[0], "141.211.1.2") {
		t.Errorf("mailed %v", s.sent)
	}
}

func TestEndOfContextStopsBetweenMessages(t *testing.T) {
	events, _ := story(t)
	s := newStore()
	c := confirmer(s, false)
	if err := c.Accepted(t.Context(), events[0]); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Accepted(ctx, events[1]); !errors.Is(err, context.Canceled) || len(s.sent) != 0 {
		t.Errorf("got %v, mailed %v", err, s.sent)
	}
}

func TestNoSnapshotIsNoEvent(t *testing.T) {
	if err := confirmer(newStore(), false).Accepted(t.Context(), confirm.Event{}); err != nil {
		t.Error(err)
	}
}

// large is a register of 100,000 addresses.
func large(t testing.TB) *policy.Snapshot {
	var files []*registration.File
	for i := range 32 * 64 {
		r := reg{name: fmt.Sprint("r", i), department: "physics"}
		for j := range 50 {
			n := i*50 + j
			r.ips = append(r.ips, fmt.Sprintf("2607:f018::%x:%x", n>>12, n&0xfff))
		}
		files = append(files, r.file())
	}
	return build(t, "large", files...)
}

func TestDueIsCheapForALargeRegister(t *testing.T) {
	s := large(t)
	keys := map[string]bool{}
	for ip, e := range s.All() {
		keys[confirm.Key(ip, e.Registration.Department)] = true
	}
	delete(keys, confirm.Key(netip.MustParseAddr("2607:f018::1:1"), "physics"))
	start := time.Now()
	due, err := confirm.Due(s, now, func(key string) (bool, error) { return keys[key], nil })
	took := time.Since(start)
	if err != nil || len(due) != 1 || s.Len() < 100_000 {
		t.Fatalf("%d due of %d, %v", len(due), s.Len(), err)
	}
	t.Logf("%d addresses in %v", s.Len(), took)
	if took > 5*time.Second { // the benchmark tells how fast; this only catches what is not linear
		t.Errorf("took %v", took)
	}
}

func BenchmarkDue(b *testing.B) {
	s := large(b)
	for b.Loop() {
		if due, err := confirm.Due(s, now, func(string) (bool, error) { return true, nil }); err != nil || len(due) > 0 {
			b.Fatal(len(due), err)
		}
	}
}
