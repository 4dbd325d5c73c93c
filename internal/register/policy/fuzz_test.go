package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// randomRegister is a register of few addresses and many mistakes.
func randomRegister(r *rand.Rand) []*registration.File {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	ip := func() string {
		return pick("141.211.13.1", "141.211.13.2", "141.211.13.3", "141.211.13.4", "141.211.1.1", "141.211.97.1", "141.212.1.1", "141.212.1.2",
			"141.211.200.1", "8.8.8.8", "10.0.0.1", "127.0.0.1", "::1", "224.0.0.1", "2607:f018:1:13::1", "2607:f018:1:13::2", "::ffff:141.211.13.1")
	}
	all := campus()
	if r.IntN(8) == 0 {
		all[r.IntN(2)] = &registration.File{Path: "registrations/campus/broken.cue", Problems: []registration.Problem{{
			File: "registrations/campus/broken.cue", Rule: registration.RuleSyntax, Severity: registration.Error, Message: "m", Hint: "h"}}}
	}
	for i := range r.IntN(8) {
		var ips []string
		for range 1 + r.IntN(3) {
			ips = append(ips, ip())
		}
		f := request(fmt.Sprintf("registrations/%s/%c.cue", pick("its", "lsa-physics", "lsa-physics", "engin-eecs", "zoo"), 'a'+i), ips...)
		all = append(all, with(f, func(g *registration.Registration) {
			switch r.IntN(12) {
			case 0:
				g.Contact.Email = "a@gmail.com"
			case 1:
				g.Accept.NotBulk = false
			case 2:
				g.Volume.PerDay = 5001
			case 3:
				g.Expires = day("2020-01-01")
			case 4:
				g.Expires = day("2040-01-01")
			case 5:
				g.Volume.PerDay = 1 + r.IntN(3)
			}
		}))
	}
	for i := range r.IntN(4) {
		until := ""
		if r.IntN(2) == 0 {
			until = pick("2026-11-20", "2026-11-30")
		}
		all = append(all, block(fmt.Sprint(i), pick("141.211.13.1/32", "141.211.13.0/30", "141.211.13.0/24", "141.212.0.0/16", "2607:f018::/32", "0.0.0.0/0"), pick("2026-11-01", "2026-12-01"), until))
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// FuzzBuild holds Build to its promises on registers full of mistakes, by
// reasoning of its own: plain loops, no tables.
func FuzzBuild(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed, seed+1000)
	}
	f.Fuzz(func(t *testing.T, seed1, seed2 uint64) {
		r := rand.New(rand.NewPCG(seed1, seed2))
		was, is := randomRegister(r), randomRegister(r)
		base, _ := Build(was, Options{Now: today()})
		head, problems := Build(is, Options{Now: today(), Incumbents: base, MaxVolume: registration.Volume{PerDay: 5000}})
		checkLive(t, is, head, problems)
		checkDiff(t, base, head)

		r.Shuffle(len(is), func(i, j int) { is[i], is[j] = is[j], is[i] })
		head2, problems2 := Build(is, Options{Now: today(), Incumbents: base, MaxVolume: registration.Volume{PerDay: 5000}})
		if len(Diff(head, head2)) > 0 || !slices.Equal(problems, problems2) {
			t.Error("the order of the files matters")
		}
		for _, p := range Judge(was, is, Author{Login: "x", ID: 101}, today()) {
			if p.Hint == "" || p.Message == "" || p.File == "" {
				t.Errorf("incomplete: %+v", p)
			}
		}
	})
}

// checkLive: every address built is one that exactly one built file registers,
// and that file has no error of its own; every file without an error is built
// whole; blocks win.
func checkLive(t *testing.T, fs []*registration.File, s *Snapshot, problems []registration.Problem) {
	t.Helper()
	faulty := map[string]bool{}
	broken := false
	for _, p := range problems {
		if p.Severity == registration.Error && p.Rule != registration.RuleExpiryTooFar {
			faulty[p.File] = true
			broken = broken || isCampus(p.File)
		}
	}
	want := map[netip.Addr]string{}
	for _, f := range fs {
		if f.Registration == nil || faulty[f.Path] {
			continue
		}
		for _, h := range f.Registration.Hosts {
			if other, twice := want[h.IP]; twice {
				t.Fatalf("%s is registered by %s and %s, and neither is at fault", h.IP, other, f.Path)
			}
			want[h.IP] = f.Path
		}
	}
	for ip, e := range s.All() {
		if want[ip] != e.Registration.Path || e.Host.IP != ip {
			t.Errorf("%s is live by %s; the files say %q", ip, e.Registration.Path, want[ip])
		}
	}
	if s.Len() != len(want) && !broken {
		t.Errorf("%d addresses live, %d registered without fault", s.Len(), len(want))
	}
	for ip := range want {
		blocked := false
		for _, f := range fs {
			if b := f.Block; b != nil && b.Prefix.Contains(ip) && !today().Before(b.Since) && (b.Until.IsZero() || today().Before(b.Until)) {
				blocked = true
			}
		}
		if got := s.Lookup(ip, today()).Standing; (got == Blocked) != blocked {
			t.Errorf("%s: %v, blocked %v", ip, got, blocked)
		}
	}
}

// checkDiff: the changes, applied to base's addresses, make head's.
func checkDiff(t *testing.T, base, head *Snapshot) {
	t.Helper()
	set := map[string]string{}
	for ip, e := range base.All() {
		set[ip.String()] = e.Registration.Path
	}
	changes := Diff(base, head)
	for _, c := range changes {
		ip := c.IP.Addr().String()
		_, there := set[ip]
		switch {
		case c.Block != "":
		case c.Kind == Added && !there, c.Kind == Changed && there:
			set[ip] = c.Registration
		case c.Kind == Removed && there:
			delete(set, ip)
		default:
			t.Errorf("cannot apply %+v", c)
		}
	}
	for ip, e := range head.All() {
		if set[ip.String()] != e.Registration.Path {
			t.Errorf("%s: the changes lead to %q, head has %q", ip, set[ip.String()], e.Registration.Path)
		}
		delete(set, ip.String())
	}
	if len(set) > 0 {
		t.Errorf("the changes leave %v, which head has not", set)
	}
	if back := Diff(head, base); len(back) != len(changes) {
		t.Errorf("%d changes there, %d back", len(changes), len(back))
	}
}

// bigRegister has n registrations of one address each.
func bigRegister(n int) []*registration.File {
	all := files(networks([]string{"35.0.0.0/8"}, "35.0.0.0/8 its static"), departments("its"))
	for i := range n {
		ip := netip.AddrFrom4([4]byte{35, byte(1 + i>>16), byte(i >> 8), byte(i)})
		f := request(fmt.Sprintf("registrations/its/%06d.cue", i), ip.String())
		all = append(all, f)
	}
	return append(all, block("b", "35.1.0.0/24", "2026-11-01", ""))
}

func BenchmarkBuild100k(b *testing.B) {
	all := bigRegister(100_000)
	b.ReportAllocs()
	for b.Loop() {
		if s, _ := Build(all, Options{Now: today()}); s.Len() != 100_000 {
			b.Fatal(s.Len())
		}
	}
}

func BenchmarkLookup100k(b *testing.B) {
	s, _ := Build(bigRegister(100_000), Options{Now: today()})
	ips := make([]netip.Addr, 1024)
	for i := range ips {
		ips[i] = netip.AddrFrom4([4]byte{35, 1, byte(i * 37), byte(i)})
	}
	now := today()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Lookup(ips[i%len(ips)], now)
	}
}

func BenchmarkWithBlocks100k(b *testing.B) {
	s, _ := Build(bigRegister(100_000), Options{Now: today()})
	local := []registration.Block{{Prefix: netip.MustParsePrefix("35.1.0.1/32"), Since: time.Time{}}}
	b.ReportAllocs()
	for b.Loop() {
		s = s.WithBlocks(local)
	}
}
