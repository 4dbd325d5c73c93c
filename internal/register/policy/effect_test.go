package policy

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/registration"
)

func TestSendersNewlyAllowed(t *testing.T) {
	mfp := func(senders ...string) *Snapshot {
		return snapshot(t, "x", with(request(mfpPath, "141.211.13.21"), func(r *registration.Registration) { r.Senders = senders }))
	}
	for _, tt := range []struct {
		name        string
		base, head  *Snapshot
		new, before string // of the one address; "" for none
	}{
		{"nothing", nil, nil, "", ""},
		{"the same", mfp("*@a.edu"), mfp("*@a.edu"), "", ""},
		{"the same in another order", mfp("b@a.edu", "*@c.edu"), mfp("*@c.edu", "b@a.edu"), "", ""},
		{"a new address", nil, mfp("*@a.edu", "b@c.edu"), "*@a.edu b@c.edu", ""},
		{"a new address without senders", nil, mfp(), "any", ""},
		{"gone", mfp(), nil, "", ""},
		{"narrowed", mfp(), mfp("*@a.edu"), "", ""},
		{"narrowed to one mailbox", mfp("*@a.edu"), mfp("b@a.edu"), "", ""},
		{"dropped", mfp("*@a.edu"), mfp(), "any", "*@a.edu"},
		{"widened to the domain", mfp("b@a.edu"), mfp("*@a.edu"), "*@a.edu", "b@a.edu"},
		{"one more", mfp("b@a.edu"), mfp("b@a.edu", "c@a.edu"), "c@a.edu", "b@a.edu"},
		{"another domain", mfp("*@a.edu"), mfp("*@x.a.edu"), "*@x.a.edu", "*@a.edu"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := []PlanSender{}
			if tt.new != "" {
				want = append(want, PlanSender{"141.211.13.21", mfpPath, "lsa-physics", strings.Fields(tt.new), append([]string{}, strings.Fields(tt.before)...)})
			}
			if got := NewPlan(tt.base, tt.head).Senders; !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// What an address could send as after a change and not before is what the plan
// says: by asking Admit, not by comparing lists.
func TestSendersNewlyAllowedAgreeWithAdmit(t *testing.T) {
	lists := [][]string{nil, {"a@x.edu"}, {"*@x.edu"}, {"a@x.edu", "b@x.edu"}, {"*@y.edu"}, {"a@x.edu", "*@y.edu"}}
	from := []string{"a@x.edu", "b@x.edu", "c@x.edu", "a@y.edu", "a@z.edu"}
	for _, before := range lists {
		for _, after := range lists {
			was := snapshot(t, "a", with(request(mfpPath, "141.211.13.21"), func(r *registration.Registration) { r.Senders = before }))
			is := snapshot(t, "b", with(request(mfpPath, "141.211.13.21"), func(r *registration.Registration) { r.Senders = after }))
			wider := slices.ContainsFunc(from, func(f string) bool { return !admits(was, f) && admits(is, f) })
			if got := len(NewPlan(was, is).Senders) > 0; got != wider {
				t.Errorf("%q → %q: told %v, is %v", before, after, got, wider)
			}
		}
	}
}

func admits(s *Snapshot, from string) bool {
	address, err := mail.ParseAddress(from, false)
	return err == nil && s.Lookup(netip.MustParseAddr("141.211.13.21"), today()).Admit(address) == Admitted
}

func TestUnexplained(t *testing.T) {
	mfp, its := request(mfpPath, "141.211.13.21", "141.211.13.22"), request("registrations/its/a.cue", "141.211.1.7")
	edit := func(f *registration.File, e func(*registration.Campus)) *registration.File {
		c := *f.Campus
		c.Networks, c.Departments, c.Prefixes = slices.Clone(c.Networks), slices.Clone(c.Departments), slices.Clone(c.Prefixes)
		e(&c)
		return sum(&registration.File{Path: f.Path, Campus: &c})
	}
	network := func(prefix string, e func(*registration.Network)) *registration.File {
		return edit(campus()[0], func(c *registration.Campus) {
			i := slices.IndexFunc(c.Networks, func(n registration.Network) bool { return n.Prefix.String() == prefix })
			e(&c.Networks[i])
		})
	}
	department := func(e func(*registration.Department)) *registration.File {
		return edit(campus()[1], func(c *registration.Campus) {
			i := slices.IndexFunc(c.Departments, func(d registration.Department) bool { return d.ID == "lsa-physics" })
			e(&c.Departments[i])
		})
	}
	rival := request("registrations/lsa-physics/aaa.cue", "141.211.13.22", "141.211.13.23")
	for _, tt := range []struct {
		name       string
		base, head []*registration.File
		want       []string
	}{
		{"an address with its own file", files(its), files(its, mfp), nil},
		{"an address goes with its own file", files(its, mfp), files(its), nil},
		{"a file moves", files(mfp), files(request("registrations/lsa-physics/b.cue", "141.211.13.21", "141.211.13.22")), nil},
		{"a block with its own file", files(mfp), files(mfp, block("b", "141.211.13.0/24", "2026-11-01", "")), nil},
		{"a network becomes a pool", files(mfp), files(network("141.211.13.0/24", func(n *registration.Network) { n.Use = "dhcp" }), mfp), []string{
			networksPath + ":11: 141.211.13.21, 141.211.13.22 are removed, although " + mfpPath + " is left alone: network 141.211.13.0/24 was lsa-physics's (static), and is lsa-physics's (dhcp)",
			networksPath + ":11: network 141.211.13.0/24 was lsa-physics's (static), and is lsa-physics's (dhcp); 2 registered addresses lie there",
		}},
		{"a network changes hands, and nobody registered there", nil, files(network("141.211.13.0/24", func(n *registration.Network) { n.Department = "its" })), []string{
			networksPath + ":11: network 141.211.13.0/24 was lsa-physics's (static), and is its's (static)",
		}},
		{"a network goes, and the wider one's holder has it", files(mfp), files(edit(campus()[0], func(c *registration.Campus) {
			c.Networks = slices.DeleteFunc(c.Networks, func(n registration.Network) bool { return n.Prefix.String() == "141.211.13.0/24" })
		}), mfp), []string{
			networksPath + ":10: 141.211.13.21, 141.211.13.22 are removed, although " + mfpPath + " is left alone: network 141.211.0.0/18 was lsa-physics's (static), and is its's (static)",
			networksPath + ":11: network 141.211.13.0/24 was lsa-physics's (static), and is its's (static), with 141.211.0.0/18; 2 registered addresses lie there",
		}},
		{"a speaker comes and one goes", nil, files(department(func(d *registration.Department) { d.Speakers = []registration.Speaker{{GitHub: "eve", ID: 666}} })), []string{
			departmentsPath + ":3: who may speak for lsa-physics changes: + eve (666), - speaker-lsa-physics (101)",
		}},
		{"speakers by mail address come", nil, files(department(func(d *registration.Department) {
			d.Speakers = append(slices.Clone(d.Speakers), registration.Speaker{GitHub: "bob", ID: 77, Email: "bob@umich.edu"}, registration.Speaker{Email: "ada@umich.edu"})
		})), []string{
			departmentsPath + ":3: who may speak for lsa-physics changes: + bob (77), + ada@umich.edu, + bob@umich.edu",
		}},
		{"the portal's account comes", nil, files(edit(campus()[1], func(c *registration.Campus) { c.Portal = registration.Account{GitHub: "p[bot]", ID: 900} })), []string{
			departmentsPath + ": p[bot] (900) may open requests for anybody: it becomes the portal's account",
		}},
		{"the portal's account changes", files(edit(campus()[1], func(c *registration.Campus) { c.Portal = registration.Account{GitHub: "p[bot]", ID: 900} })),
			files(edit(campus()[1], func(c *registration.Campus) { c.Portal = registration.Account{GitHub: "q", ID: 901} })), []string{
				departmentsPath + ": p[bot] (900) ceases to be the portal's account",
				departmentsPath + ": q (901) may open requests for anybody: it becomes the portal's account",
			}},
		{"a speaker's login changes", nil, files(department(func(d *registration.Department) { d.Speakers = []registration.Speaker{{GitHub: "renamed", ID: 101}} })), nil},
		{"a department loses its mail domain", files(mfp), files(department(func(d *registration.Department) { d.ContactDomains = []string{"lsa.umich.edu"} }), mfp), []string{
			departmentsPath + ":3: 141.211.13.21, 141.211.13.22 are removed, although " + mfpPath + " is left alone: the mail domains of lsa-physics were umich.edu, lsa-physics.umich.edu, and are lsa.umich.edu",
		}},
		{"a department goes", files(its), files(edit(campus()[1], func(c *registration.Campus) {
			c.Departments = slices.DeleteFunc(c.Departments, func(d registration.Department) bool { return d.ID == "lsa-physics" })
		}), its), []string{departmentsPath + ":3: department lsa-physics is gone"}},
		{"address space goes", files(its), files(edit(campus()[0], func(c *registration.Campus) { c.Prefixes = c.Prefixes[:1] }), its), []string{
			networksPath + ": 141.212.0.0/16 ceases to be the university's address space",
			networksPath + ": 2607:f018::/32 ceases to be the university's address space",
			networksPath + ":13: network 141.212.0.0/16 was engin-eecs's (static), and is held by nobody",
			networksPath + ":14: network 2607:f018:1:13::/64 was lsa-physics's (static), and is held by nobody",
		}},
		{"a rival goes, and a whole file comes in force", files(mfp, rival), files(mfp), []string{
			"registrations/lsa-physics/aaa.cue:6: 141.211.13.21 is added, although " + mfpPath + " is left alone: registrations/lsa-physics/aaa.cue claims 141.211.13.22, or did",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, head := campus(), campus()
			touched := map[string]bool{}
			put := func(in []*registration.File, fs []*registration.File) []*registration.File {
				for _, f := range fs {
					in = append(slices.DeleteFunc(in, func(o *registration.File) bool { return o.Path == f.Path }), f)
				}
				return in
			}
			base, head = put(base, tt.base), put(head, tt.head)
			for _, f := range slices.Concat(base, head) {
				same := func(o *registration.File) bool { return o.Path == f.Path && o.Sum == f.Sum }
				touched[f.Path] = touched[f.Path] || !slices.ContainsFunc(base, same) || !slices.ContainsFunc(head, same)
			}
			was, _ := Build(base, Options{})
			is, _ := Build(head, Options{Incumbents: was})
			var got []string
			for _, w := range NewPlan(was, is).Unexplained(was, is, touched) {
				place := w.File
				if w.Line > 0 {
					place = fmt.Sprintf("%s:%d", w.File, w.Line)
				}
				got = append(got, place+": "+w.Message)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}
