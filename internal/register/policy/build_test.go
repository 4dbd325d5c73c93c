package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// Each rule, valid beside invalid. text is what the message must name.
func TestBuildRules(t *testing.T) {
	mfp := func(ips ...string) *registration.File { return request(mfpPath, ips...) }
	edit := func(e func(*registration.Registration)) []*registration.File {
		return files(with(mfp("141.211.13.21"), e))
	}
	private := func(prefix string) []*registration.File {
		return files(networks([]string{prefix}, "10.0.0.0/8 lsa-physics static", "127.0.0.0/8 lsa-physics static"))
	}
	const at = "error " + mfpPath
	for _, tt := range []struct {
		name  string
		files []*registration.File
		want  []string
		text  string
		live  int
	}{
		{"one address", files(mfp("141.211.13.21")), nil, "", 1},
		{"dual stack", files(mfp("141.211.13.21", "2607:f018:1:13::22")), nil, "", 2},
		{"the most specific network decides", files(request("registrations/its/a.cue", "141.211.12.255")), nil, "", 1},

		{"off campus", files(mfp("8.8.8.8")), []string{at + ":6:7: ip-not-campus"}, "8.8.8.8", 0},
		{"one bad host keeps out the whole file", files(mfp("141.211.13.21", "8.8.8.8")), []string{at + ":7:7: ip-not-campus"}, "", 0},
		{"a bad file keeps out no other", files(mfp("8.8.8.8"), request(alarmPath, "141.212.1.1")), []string{at + ":6:7: ip-not-campus"}, "", 1},

		{"somebody else's network", files(mfp("141.212.1.1")), []string{at + ":6:7: ip-not-owned"}, "engin-eecs holds and lsa-physics does not; see " + networksPath + ":13", 0},
		{"the wider network's holder has no say", files(request("registrations/its/a.cue", "141.211.13.21")), []string{"error registrations/its/a.cue:6:7: ip-not-owned"}, networksPath + ":11", 0},
		{"nobody's network", files(mfp("141.211.200.1")), []string{at + ":6:7: ip-not-owned"}, "no department's", 0},
		{"a pool, even the holder's own", files(request("registrations/its/a.cue", "141.211.97.1")), []string{"error registrations/its/a.cue:6:7: ip-pool"}, networksPath + ":12", 0},

		{"private", files(mfp("10.1.2.3")), []string{at + ":6:7: bad-ip"}, "a private address", 0},
		{"loopback", files(mfp("127.0.0.1")), []string{at + ":6:7: bad-ip"}, "loopback", 0},
		{"IPv6 unique local", files(mfp("fd00::1")), []string{at + ":6:7: bad-ip"}, "private", 0},
		{"documentation", files(mfp("192.0.2.1", "2001:db8::1")), []string{at + ":6:7: bad-ip", at + ":7:7: bad-ip"}, "documentation", 0},
		{"multicast", files(mfp("224.0.0.1")), []string{at + ":6:7: bad-ip"}, "multicast", 0},
		{"IPv4-mapped", files(mfp("::ffff:141.211.13.21")), []string{at + ":6:7: bad-ip"}, "IPv6 form", 0},
		{"zone", files(mfp("fe80::1%eth0")), []string{at + ":6:7: bad-ip"}, "zone", 0},
		{"private, where campus names it", append(private("10.0.0.0/8"), mfp("10.1.2.3")), []string{"error " + networksPath + ":11:2: ip-not-campus"}, "", 1},
		{"loopback, where campus names part of it", append(files(networks([]string{"127.0.0.0/24"}, "127.0.0.0/24 lsa-physics static")), mfp("127.0.0.1")), nil, "", 1},
		{"private, where campus is everything", append(private("0.0.0.0/0"), mfp("10.1.2.3")), []string{at + ":6:7: bad-ip"}, "", 0},

		{"twice in one file", files(mfp("141.211.13.21", "141.211.13.22", "141.211.13.21")), []string{at + ":8:7: ip-duplicate"}, mfpPath + ":6", 0},
		{"twice in two files", files(mfp("141.211.13.21"), request("registrations/lsa-physics/new.cue", "141.211.13.30", "141.211.13.21")),
			[]string{"error registrations/lsa-physics/new.cue:7:7: ip-duplicate"}, mfpPath + ":6", 1},

		{"blocked", files(mfp("141.211.13.21"), block("b", "141.211.13.0/24", "2026-11-01", "2026-12-01")), []string{"warning " + mfpPath + ":6:7: ip-blocked"}, "registrations/blocks/b.cue:1", 1},
		{"block over", files(mfp("141.211.13.21"), block("b", "141.211.13.0/24", "2026-11-01", "2026-11-20")), nil, "", 1},
		{"block to come", files(mfp("141.211.13.21"), block("b", "141.211.13.0/24", "2026-12-01", "")), nil, "", 1},

		{"a block of nothing", files(mfp("141.211.13.21"), &registration.File{Path: "registrations/blocks/b.cue", Block: &registration.Block{}}), nil, "", 1},

		{"unknown department", files(request("registrations/lsa-phisics/mfp.cue", "141.211.13.21")),
			[]string{"error registrations/lsa-phisics/mfp.cue:1:13: unknown-department", "error registrations/lsa-phisics/mfp.cue:6:7: ip-not-owned"}, "", 0},

		{"contact elsewhere", edit(func(r *registration.Registration) { r.Contact.Email = "it@gmail.com" }), []string{at + ":2:30: contact-domain"}, "it@gmail.com", 0},
		{"contact at the university", edit(func(r *registration.Registration) { r.Contact.Email = "it@UMICH.edu" }), nil, "", 1},
		{"contact below a domain", edit(func(r *registration.Registration) { r.Contact.Email = "it@evil.umich.edu" }), []string{at + ":2:30: contact-domain"}, "", 0},

		{"last day today", edit(func(r *registration.Registration) { r.Expires = day("2026-11-23") }), nil, "", 1},
		{"expired yesterday is built", edit(func(r *registration.Registration) { r.Expires = day("2026-11-22") }), []string{"warning " + mfpPath + ":92:10: expired"}, "2026-11-22", 1},
		{"two years ahead", edit(func(r *registration.Registration) { r.Expires = day("2028-11-23") }), nil, "", 1},
		{"a day more is built", edit(func(r *registration.Registration) { r.Expires = day("2028-11-24") }), []string{at + ":92:10: expiry-too-far"}, "2028-11-24", 1},

		{"volume at the cap", edit(func(r *registration.Registration) { r.Volume = registration.Volume{PerHour: 500, PerDay: 5000} }), nil, "", 1},
		{"volume over the cap", edit(func(r *registration.Registration) { r.Volume = registration.Volume{PerHour: 501, PerDay: 5001} }),
			[]string{at + ":91:9: volume", at + ":91:9: volume"}, "perDay: 5001", 0},

		{"nothing accepted", edit(func(r *registration.Registration) { r.Accept = registration.Accept{NotBulk: true} }), []string{at + ":93:9: accept"}, "policies, notWorkstation, noMailServer", 0},

		{"everything at once", edit(func(r *registration.Registration) {
			r.Hosts[0].IP, r.Contact.Email, r.Accept.NotBulk, r.Expires = netip.MustParseAddr("8.8.8.8"), "a@b.c", false, day("2020-01-01")
		}), []string{at + ":2:30: contact-domain", at + ":6:7: ip-not-campus", "warning " + mfpPath + ":92:10: expired", at + ":93:9: accept"}, "", 0},

		{"what the file itself broke", files(&registration.File{Path: mfpPath, Problems: []registration.Problem{{File: mfpPath, Line: 3, Column: 1, Rule: registration.RuleSyntax, Severity: registration.Error, Message: "m", Hint: "h"}}}),
			[]string{at + ":3:1: syntax"}, "", 0},
		{"a warning of the file itself", files(func() *registration.File {
			f := mfp("141.211.13.21")
			f.Problems = []registration.Problem{{File: mfpPath, Line: 3, Column: 1, Rule: registration.RuleSchema, Severity: registration.Warning, Message: "m", Hint: "h"}}
			return f
		}()), []string{"warning " + mfpPath + ":3:1: schema"}, "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := tt.files
			if all[0].Campus == nil {
				all = join(campus(), all)
			} else { // brings networks of its own
				all = append(files(departments("lsa-physics")), all...)
			}
			o := Options{Commit: "c1", Now: today(), MaxVolume: registration.Volume{PerHour: 500, PerDay: 5000}}
			s, problems := Build(all, o)
			wantProblems(t, problems, tt.want...)
			if s.Len() != tt.live {
				t.Errorf("%d addresses built, want %d: %v", s.Len(), tt.live, addresses(s))
			}
			if tt.text != "" && !slices.ContainsFunc(problems, func(p registration.Problem) bool { return strings.Contains(p.Message, tt.text) }) {
				t.Errorf("no message names %q: %v", tt.text, problems)
			}
			slices.Reverse(all) // the order of files does not matter
			s2, problems2 := Build(all, o)
			if !slices.Equal(problems, problems2) || len(Diff(s, s2)) > 0 {
				t.Errorf("another order, another result: %v", problems2)
			}
		})
	}
}

func TestBuildWithoutACapLeavesVolumeToTheSchema(t *testing.T) {
	f := with(request(mfpPath, "141.211.13.21"), func(r *registration.Registration) {
		r.Volume = registration.Volume{PerHour: 100_000, PerDay: 1_000_000}
	})
	_, problems := Build(append(campus(), f), Options{Now: today()})
	wantProblems(t, problems)
}

func TestBuildHintsTheNearestDepartment(t *testing.T) {
	_, problems := Build(append(campus(), request("registrations/lsa-phisics/mfp.cue", "141.211.13.21")), Options{Now: today()})
	if !strings.Contains(problems[0].Hint, `"lsa-physics"`) {
		t.Errorf("hint: %s", problems[0].Hint)
	}
	_, problems = Build(append(campus(), request("registrations/zoology/mfp.cue", "141.211.13.21")), Options{Now: today()})
	if strings.Contains(problems[0].Hint, "did you mean") {
		t.Errorf("hint: %s", problems[0].Hint)
	}
}

func TestBuildCampusRules(t *testing.T) {
	second := func(c *registration.Campus) *registration.File {
		c.Path = "registrations/campus/zz.cue"
		return &registration.File{Path: c.Path, Campus: c}
	}
	at := registration.Pos{Line: 4, Column: 2}
	for _, tt := range []struct {
		name string
		file *registration.File
		want []string
	}{
		{"more of it", second(&registration.Campus{Networks: []registration.Network{{Prefix: netip.MustParsePrefix("141.211.14.0/24"), Department: "its", Use: "static", At: at}}}), nil},
		{"network off campus", second(&registration.Campus{Networks: []registration.Network{{Prefix: netip.MustParsePrefix("8.8.8.0/24"), Department: "its", Use: "static", At: at}}}),
			[]string{"error registrations/campus/zz.cue:4:2: ip-not-campus"}},
		{"network wider than campus", second(&registration.Campus{Networks: []registration.Network{{Prefix: netip.MustParsePrefix("141.208.0.0/12"), Department: "its", Use: "static", At: at}}}),
			[]string{"error registrations/campus/zz.cue:4:2: ip-not-campus"}},
		{"network of nobody", second(&registration.Campus{Networks: []registration.Network{{Prefix: netip.MustParsePrefix("141.211.13.0/28"), Department: "zoo", Use: "static", At: at}}}),
			[]string{"error registrations/campus/zz.cue:4:2: unknown-department"}},
		{"network twice", second(&registration.Campus{Networks: []registration.Network{{Prefix: netip.MustParsePrefix("141.211.13.0/24"), Department: "its", Use: "static", At: at}}}),
			[]string{"error registrations/campus/zz.cue:4:2: ip-duplicate"}},
		{"department twice", second(&registration.Campus{Departments: []registration.Department{{ID: "its", At: at}}}),
			[]string{"error registrations/campus/zz.cue:4:2: schema"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, problems := Build(append(campus(), tt.file, request(mfpPath, "141.211.13.200")), Options{Now: today()})
			wantProblems(t, problems, tt.want...)
			if h, ok := s.Holder(netip.MustParseAddr("141.211.13.200")); s.Len() != 1 || !ok || h.Department != "lsa-physics" || h.File != networksPath {
				t.Errorf("holder %+v, %d addresses", h, s.Len())
			}
		})
	}
	t.Run("an incumbent keeps its network and its department", func(t *testing.T) {
		before, _ := Build(campus(), Options{})
		network := registration.Network{Prefix: netip.MustParsePrefix("141.211.13.0/24"), Department: "its", Use: "static", At: at}
		seizure := &registration.Campus{Path: "registrations/campus/aaa.cue", Networks: []registration.Network{network},
			Departments: []registration.Department{{ID: "lsa-physics", At: registration.Pos{Line: 3, Column: 2}}}}
		all := append(campus(), &registration.File{Path: seizure.Path, Campus: seizure}, request(mfpPath, "141.211.13.200"))
		s, problems := Build(all, Options{Now: today(), Incumbents: before})
		wantProblems(t, problems, "error registrations/campus/aaa.cue:3:2: schema", "error registrations/campus/aaa.cue:4:2: ip-duplicate")
		if s.Len() != 1 {
			t.Error("the newcomer took it over")
		}
	})
	t.Run("a network of no known department shields from the wider one's holder", func(t *testing.T) {
		n := networks([]string{"141.211.0.0/16"}, "141.211.0.0/16 its static", "141.211.13.0/24 gone static")
		s, _ := Build(files(n, departments("its"), request("registrations/its/a.cue", "141.211.13.1")), Options{Now: today()})
		if s.Len() != 0 {
			t.Error("registered there")
		}
	})
}

// One broken campus file must not make everybody else's look wrong.
func TestBuildBrokenCampusReportsOnlyItself(t *testing.T) {
	broken := &registration.File{Path: departmentsPath, Problems: []registration.Problem{{
		File: departmentsPath, Line: 1, Column: 1, Rule: registration.RuleSyntax, Severity: registration.Error, Message: "m", Hint: "h"}}}
	s, problems := Build(files(campus()[0], broken, request(mfpPath, "141.211.13.21"), with(request(alarmPath, "8.8.8.8"), func(r *registration.Registration) { r.Accept.NotBulk = false })), Options{Now: today()})
	wantProblems(t, problems, "error "+departmentsPath+":1:1: syntax", "error "+alarmPath+":93:9: accept")
	if s.Len() != 0 {
		t.Error("nothing can be vouched for without departments")
	}
}

// The newer claim is at fault, whichever path sorts first.
func TestBuildIncumbentsKeepTheirAddresses(t *testing.T) {
	old := request("registrations/lsa-physics/old.cue", "141.211.13.21", "141.211.13.22")
	newcomer := request("registrations/lsa-physics/aaa.cue", "141.211.13.22", "141.211.13.23")
	before, _ := Build(append(campus(), old), Options{Now: today()})
	for _, tt := range []struct {
		name  string
		files []*registration.File
		in    *Snapshot
		want  []string
		live  []string
	}{
		{"without incumbents the first path keeps", files(old, newcomer), nil,
			[]string{"error registrations/lsa-physics/old.cue:7:7: ip-duplicate"}, []string{"141.211.13.22", "141.211.13.23"}},
		{"the incumbent keeps", files(old, newcomer), before,
			[]string{"error registrations/lsa-physics/aaa.cue:6:7: ip-duplicate"}, []string{"141.211.13.21", "141.211.13.22"}},
		{"the incumbent keeps even while it is at fault", files(with(old, func(r *registration.Registration) { r.Contact.Email = "a@b.c" }), newcomer), before,
			[]string{"error registrations/lsa-physics/aaa.cue:6:7: ip-duplicate", "error registrations/lsa-physics/old.cue:2:30: contact-domain"}, nil},
		{"a moved incumbent keeps against another department's", files(request("registrations/lsa-physics/zz/old.cue", "141.211.13.22"), request("registrations/its/a.cue", "141.211.13.22")), before,
			[]string{"error registrations/its/a.cue:6:7: ip-duplicate", "error registrations/its/a.cue:6:7: ip-not-owned"}, []string{"141.211.13.22"}},
		{"an address handed over clashes with nothing", files(request("registrations/lsa-physics/old.cue", "141.211.13.21"), newcomer), before,
			nil, []string{"141.211.13.21", "141.211.13.22", "141.211.13.23"}},
		{"an invalid claim never beats a valid one", files(with(newcomer, func(r *registration.Registration) { r.Accept.NotBulk = false }), old), nil,
			[]string{"error registrations/lsa-physics/aaa.cue:6:7: ip-duplicate", "error registrations/lsa-physics/aaa.cue:93:9: accept"}, []string{"141.211.13.21", "141.211.13.22"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, problems := Build(join(campus(), tt.files), Options{Now: today(), Incumbents: tt.in})
			wantProblems(t, problems, tt.want...)
			if !slices.Equal(addresses(s), tt.live) {
				t.Errorf("live %v, want %v", addresses(s), tt.live)
			}
		})
	}
}

func TestBuildDoesNotDependOnTheClock(t *testing.T) {
	all := join(campus(), files(request(mfpPath, "141.211.13.21"), block("b", "141.211.13.21/32", "2026-11-01", "")))
	want, _ := Build(all, Options{Now: today()})
	for _, now := range []time.Time{{}, time.Unix(0, 0), today().AddDate(50, 0, 0)} {
		if s, _ := Build(all, Options{Now: now}); len(Diff(want, s)) > 0 {
			t.Errorf("at %v: %v", now, Diff(want, s))
		}
	}
}

// Each department that does not exist is compared with each that does, but not
// by whoever sends a hundred thousand of them.
func TestManyUnknownDepartments(t *testing.T) {
	campus := &registration.Campus{Path: "registrations/campus/departments.cue"}
	long := strings.Repeat("x", 50)
	for i := range 10 {
		campus.Departments = append(campus.Departments, registration.Department{ID: fmt.Sprintf("%s%d", long, i)})
	}
	files := []*registration.File{{Path: campus.Path, Campus: campus}}
	for i := range 3 * maxNearest {
		path := fmt.Sprintf("registrations/%s-%d/x.cue", long, i)
		files = append(files, &registration.File{Path: path, Registration: &registration.Registration{Path: path, Department: fmt.Sprintf("%s-%d", long, i)}})
	}
	_, problems := Build(files, Options{})
	unknown, compared := 0, 0
	for _, p := range problems {
		if p.Rule == registration.RuleUnknownDepartment {
			unknown++
			if strings.Contains(p.Hint, "did you mean") {
				compared++
			}
			if !strings.Contains(p.Hint, departmentsHint) {
				t.Errorf("hint %q", p.Hint)
			}
		}
	}
	if unknown != 3*maxNearest || compared != maxNearest {
		t.Errorf("%d unknown, %d of them compared", unknown, compared)
	}
}
