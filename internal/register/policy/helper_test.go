package policy

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// The tests' today.
func today() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t.AddDate(0, 0, 1)
}

const (
	networksPath    = "registrations/campus/networks.cue"
	departmentsPath = "registrations/campus/departments.cue"
	mfpPath         = "registrations/lsa-physics/mfp.cue"
	alarmPath       = "registrations/engin-eecs/alarm.cue"
)

// networks is campus/networks.cue: entries are "prefix department use", the
// first on line 10.
func networks(campus []string, entries ...string) *registration.File {
	c := &registration.Campus{Path: networksPath}
	for i, p := range campus {
		c.Prefixes = append(c.Prefixes, registration.Prefix{Prefix: netip.MustParsePrefix(p), At: registration.Pos{Line: int32(1 + i), Column: 2}})
	}
	for i, e := range entries {
		f := strings.Fields(e)
		c.Networks = append(c.Networks, registration.Network{
			Prefix: netip.MustParsePrefix(f[0]), Department: f[1], Use: f[2], At: registration.Pos{Line: int32(10 + i), Column: 2},
		})
	}
	return sum(&registration.File{Path: networksPath, Campus: c})
}

// departments is campus/departments.cue; the account 100+i and the team 200+i
// speak for the i-th.
func departments(ids ...string) *registration.File {
	c := &registration.Campus{Path: departmentsPath}
	for i, id := range ids {
		c.Departments = append(c.Departments, registration.Department{
			ID: id, Name: id,
			Speakers:       []registration.Speaker{{GitHub: "speaker-" + id, ID: int64(100 + i)}},
			Team:           registration.Team{Slug: id, ID: int64(200 + i)},
			ContactDomains: []string{"umich.edu", id + ".umich.edu"},
			At:             registration.Pos{Line: int32(2 + i), Column: 2},
		})
	}
	return sum(&registration.File{Path: departmentsPath, Campus: c})
}

// campus is the register that most tests start from.
func campus() []*registration.File {
	return []*registration.File{
		networks([]string{"141.211.0.0/16", "141.212.0.0/16", "2607:f018::/32"},
			"141.211.0.0/18 its static",              // 10
			"141.211.13.0/24 lsa-physics static",     // 11
			"141.211.96.0/19 its wireless",           // 12
			"141.212.0.0/16 engin-eecs static",       // 13
			"2607:f018:1:13::/64 lsa-physics static", // 14
		),
		departments("its", "lsa-physics", "engin-eecs"),
	}
}

// request is a registration without fault. The hosts' lines start at 6.
func request(path string, ips ...string) *registration.File {
	department := folder(path)
	r := &registration.Registration{
		Path: path, Department: department,
		Contact:   registration.Contact{Name: "IT", Email: "it@" + department + ".umich.edu"},
		Purpose:   "Scan to e-mail.",
		WhyNoAuth: "No SMTP AUTH client.",
		Volume:    registration.Volume{PerHour: 100, PerDay: 1000},
		Expires:   day("2027-11-30"),
		Accept:    registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true},
		At: registration.Positions{
			Department: registration.Pos{Line: 1, Column: 13}, Contact: registration.Pos{Line: 2, Column: 10}, Email: registration.Pos{Line: 2, Column: 30},
			Hosts: registration.Pos{Line: 5, Column: 8}, Senders: registration.Pos{Line: 90, Column: 10}, Volume: registration.Pos{Line: 91, Column: 9},
			Expires: registration.Pos{Line: 92, Column: 10}, Accept: registration.Pos{Line: 93, Column: 9},
		},
	}
	for i, ip := range ips {
		r.Hosts = append(r.Hosts, registration.Host{
			IP: netip.MustParseAddr(ip), Name: fmt.Sprintf("h%d.umich.edu", i), Kind: "printer",
			Device: registration.Device{BareLF: "reject", TLS: "modern", Commands: "strict", AddHeaders: true},
			At:     registration.Pos{Line: int32(6 + i), Column: 7},
		})
	}
	return sum(&registration.File{Path: path, Registration: r})
}

// with is a copy of f after edit.
func with(f *registration.File, edit func(*registration.Registration)) *registration.File {
	r := *f.Registration
	r.Hosts = slices.Clone(r.Hosts)
	edit(&r)
	return sum(&registration.File{Path: f.Path, Registration: &r})
}

func block(name, prefix, since, until string) *registration.File {
	b := &registration.Block{Path: "registrations/blocks/" + name + ".cue", Reason: "sent spam", At: registration.Pos{Line: 1, Column: 8}}
	b.Prefix = netip.MustParsePrefix(prefix)
	b.Since = moment(since)
	if until != "" {
		b.Until = moment(until)
	}
	return sum(&registration.File{Path: b.Path, Block: b})
}

func moment(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// sum stands in for the hash of the text, which these files never had.
func sum(f *registration.File) *registration.File {
	f.Sum = sha256.Sum256(fmt.Appendf(nil, "%s %+v %+v %+v", f.Path, f.Registration, f.Campus, f.Block))
	return f
}

func join(lists ...[]*registration.File) []*registration.File { return slices.Concat(lists...) }

func files(fs ...*registration.File) []*registration.File { return fs }

// brief is problems as "severity file:line:col: rule".
func brief(ps []registration.Problem) []string {
	var out []string
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%s %s:%d:%d: %s", p.Severity, p.File, p.Line, p.Column, p.Rule))
	}
	return out
}

func wantProblems(t *testing.T, got []registration.Problem, want ...string) {
	t.Helper()
	if !slices.Equal(brief(got), want) {
		t.Errorf("problems:\n got %q\nwant %q", brief(got), want)
		for _, p := range got {
			t.Log(p)
		}
	}
	for _, p := range got {
		if p.Message == "" || p.Hint == "" || strings.HasSuffix(p.Message, ".") {
			t.Errorf("message or hint amiss: %+v", p)
		}
	}
}

func addresses(s *Snapshot) []string {
	var out []string
	for ip := range s.All() {
		out = append(out, ip.String())
	}
	return out
}
