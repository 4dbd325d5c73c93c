package form

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// The tests' today.
func today() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// sample is this repository's own register, with files more or in other words.
func sample(t testing.TB, site string, more map[string]string) *review.Base {
	t.Helper()
	top := "../../.."
	tree := review.Tree{Commit: "sample"}
	if site != "" {
		tree.Site = []byte(site)
	}
	add := func(path, text string) {
		tree.Sources = append(tree.Sources, review.Source{Source: registration.Source{Path: path, Size: int64(len(text)), Data: []byte(text)}})
	}
	err := filepath.WalkDir(filepath.Join(top, review.Folder), func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		path, _ := filepath.Rel(top, name)
		if path = filepath.ToSlash(path); registration.Kind(path) != registration.KindIgnored && more[path] == "" {
			add(path, string(data))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range more {
		add(path, text)
	}
	slices.SortFunc(tree.Sources, func(a, b review.Source) int { return strings.Compare(a.Path, b.Path) })
	b, err := review.NewBase(t.Context(), tree, today(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sampleOf is sample as it is, made once.
func sampleOf(t testing.TB) *review.Base {
	t.Helper()
	sampleOnce.Do(func() { sampleBase = sample(t, "", nil) })
	return sampleBase
}

// reader is a parser of its own, made once.
func reader(t testing.TB) *registration.Parser {
	t.Helper()
	readerOnce.Do(func() {
		var err error
		if readerMade, err = registration.NewParser(nil); err != nil {
			t.Fatal(err)
		}
	})
	return readerMade
}

var (
	readerOnce sync.Once
	readerMade *registration.Parser
	sampleOnce sync.Once
	sampleBase *review.Base
)

// filled is a form without fault.
func filled() Values {
	return Values{
		Department: "lsa-physics", ContactName: "Physics IT", ContactEmail: "physics-it@physics.lsa.umich.edu",
		Purpose: "Scan-to-email from a printer.", WhyNoAuth: "The firmware has no SMTP AUTH client.",
		Hosts:   []Host{{IP: "141.211.13.177", Name: "mfp7.physics.lsa.umich.edu", Kind: "printer"}},
		Senders: "*@physics.lsa.umich.edu", PerHour: "20", PerDay: "200", Expires: "2027-11-23",
		Accept: registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true},
	}
}

func told(fs []Finding) []string {
	var out []string
	for _, f := range fs {
		word := ""
		if f.Warning {
			word = "(warning)"
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s%s", f.Field, f.Rule, word)))
	}
	return out
}

// Every rule that a form can break is told beside the field that breaks it, all
// of them at once, and in words.
func TestEachProblemIsBesideItsField(t *testing.T) {
	base := sample(t, "", map[string]string{
		"registrations/blocks/x.cue": `block: {ip: "141.211.13.99", reason: "sent spam", since: "2026-11-01T00:00:00Z"}`,
	})
	for _, tt := range []struct {
		name string
		edit func(*Values)
		want []string
	}{
		{"nothing wrong", func(*Values) {}, nil},
		{"blanks around values", func(v *Values) { v.Department, v.Hosts[0].IP, v.PerHour = " lsa-physics\t", " 141.211.13.177 ", "20 " }, nil},
		{"an unusual address", func(v *Values) { v.Hosts[0].IP = "2607:F018:1:13:0::177" }, nil},
		{"a blank row", func(v *Values) { v.Hosts = append(v.Hosts, Host{Kind: "printer"}) }, nil},
		{"no department", func(v *Values) { v.Department = "" }, []string{"department schema"}},
		{"none such", func(v *Values) { v.Department = "lsa-physix" }, []string{"department unknown-department", "host-1-ip ip-not-owned"}},
		{"a name in place of it", func(v *Values) { v.Department = "Physics, LSA" }, []string{"department schema"}},
		{"a path in place of it", func(v *Values) { v.Department = "../its" }, []string{"department schema"}},
		{"the campus in place of it", func(v *Values) { v.Department = "campus" }, []string{"department schema"}},
		{"contact", func(v *Values) { v.ContactName, v.ContactEmail = "", "Dana <d@umich.edu>" }, []string{"contact-name schema", "contact-email schema"}},
		{"contact elsewhere", func(v *Values) { v.ContactEmail = "d@gmail.com" }, []string{"contact-email contact-domain"}},
		{"texts", func(v *Values) { v.Purpose, v.WhyNoAuth = "short", strings.Repeat("x", 1001) }, []string{"purpose schema", "why-no-auth schema"}},
		{"no machine", func(v *Values) { v.Hosts = []Host{{}} }, []string{"host-1-ip schema"}},
		{"no address", func(v *Values) { v.Hosts[0].IP = "" }, []string{"host-1-ip bad-ip"}},
		{"addresses", func(v *Values) {
			v.Hosts = []Host{
				{IP: "8.8.8.8", Name: "a.umich.edu", Kind: "server"}, {}, {IP: "141.211.96.3", Name: "a.umich.edu", Kind: "server"},
				{IP: "141.211.20.3", Name: "a.umich.edu", Kind: "server"}, {IP: "141.211.13.99", Name: "a.umich.edu", Kind: "server"},
				{IP: "141.211.13.21", Name: "a.umich.edu", Kind: "server"}, {IP: "10.0.0.1", Name: "a.umich.edu", Kind: "server"},
			}
		}, []string{"host-1-ip ip-not-campus", "host-3-ip ip-pool", "host-4-ip ip-not-owned", "host-5-ip ip-blocked", "host-6-ip ip-duplicate", "host-7-ip bad-ip"}},
		{"what cannot be read hides nothing", func(v *Values) {
			v.Purpose, v.Expires, v.ContactEmail = "", "soon", "d@gmail.com"
			v.Hosts = []Host{{}, {IP: "141.211.13.300", Name: "a.umich.edu", Kind: "server"}, {IP: "141.211.20.3", Name: "mfp", Kind: "toaster"}, {IP: "141.211.96.3", Name: "a.umich.edu", Kind: "other"}}
		}, []string{"contact-email contact-domain", "purpose schema", "host-2-ip bad-ip", "host-3-ip ip-not-owned", "host-3-name schema", "host-3-kind schema", "host-4-ip ip-pool", "expires schema"}},
		{"no department hides nothing", func(v *Values) { v.Department, v.Hosts[0].IP = "", "141.211.96.3" }, []string{"department schema", "host-1-ip ip-pool"}},
		{"twice", func(v *Values) { v.Hosts = append(v.Hosts, Host{}, v.Hosts[0]) }, []string{"host-3-ip ip-duplicate"}},
		{"device", func(v *Values) {
			v.Hosts[0].BareLF, v.Hosts[0].TLS, v.Hosts[0].Commands, v.Hosts[0].AddHeaders = "a", "b", "c", "d"
		},
			[]string{"host-1-bare-lf schema", "host-1-tls schema", "host-1-commands schema", "host-1-add-headers schema"}},
		{"senders", func(v *Values) { v.Senders = "a@umich.edu, *\nb" }, []string{"senders schema", "senders schema"}},
		{"bounces", func(v *Values) { v.Bounces = "me" }, []string{"bounces schema"}},
		{"numbers", func(v *Values) { v.PerHour, v.PerDay = "a few", "" }, []string{"per-hour schema", "per-day schema"}},
		{"large numbers", func(v *Values) { v.PerHour, v.PerDay = "100001", "1000001" }, []string{"per-hour volume", "per-day volume"}},
		{"less a day", func(v *Values) { v.PerDay = "2" }, []string{"per-day volume"}},
		{"more a day than can be", func(v *Values) { v.PerDay = "2000" }, []string{"per-day volume(warning)"}},
		{"past", func(v *Values) { v.Expires = "2026-11-01" }, []string{"expires expired"}},
		{"far", func(v *Values) { v.Expires = "2028-11-25" }, []string{"expires expiry-too-far"}},
		{"acceptance", func(v *Values) { v.Accept = registration.Accept{} },
			[]string{"accept-policies accept", "accept-not-bulk accept", "accept-not-workstation accept", "accept-no-mail-server accept"}},
		{"an empty form", func(v *Values) { *v = New("", "", today()) }, []string{"department schema", "contact-name schema", "contact-email schema", "purpose schema", "why-no-auth schema",
			"host-1-ip schema", "per-hour schema", "per-day schema", "accept-policies accept", "accept-not-bulk accept", "accept-not-workstation accept", "accept-no-mail-server accept"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := filled()
			tt.edit(&v)
			j, err := Judge(base, v, Options{Now: today()})
			if err != nil {
				t.Fatal(err)
			}
			if got := told(j.Findings); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			for _, f := range j.Findings {
				if f.Message == "" || f.Hint == "" || strings.Contains(f.Hint, "write true") || strings.Contains(f.Hint, standIn) || strings.Contains(f.Message, standIn) {
					t.Errorf("%+v", f)
				}
			}
			onlyWarnings := !slices.ContainsFunc(tt.want, func(s string) bool { return !strings.HasSuffix(s, "(warning)") })
			if j.Fine() != onlyWarnings || j.Fine() != (j.Plan != nil) {
				t.Errorf("fine: %v, plan: %v", j.Fine(), j.Plan)
			}
			if onlyWarnings {
				sameAsTyped(t, base, v, j)
			}
		})
	}
}

// sameAsTyped holds that the file says what the form does, and nothing else, and
// that the register with it is accepted by the rules that accept any file.
func sameAsTyped(t testing.TB, base *review.Base, v Values, j *Judgement) {
	t.Helper()
	f := reader(t).Parse(registration.Source{Path: j.Path, Size: int64(len(j.Text)), Data: j.Text})
	r := f.Registration
	if r == nil {
		t.Fatalf("the file is refused: %v\n%s", f.Problems, j.Text)
	}
	trim := strings.TrimSpace
	hosts := slices.DeleteFunc(slices.Clone(v.Hosts), Host.Blank)
	got := []string{r.Department, r.Contact.Name, r.Contact.Email, r.Purpose, r.WhyNoAuth, fmt.Sprint(r.Volume.PerHour), fmt.Sprint(r.Volume.PerDay),
		r.Expires.AddDate(0, 0, -1).Format(time.DateOnly), fmt.Sprint(r.Accept), fmt.Sprint(len(r.Hosts)), r.Bounces, strings.Join(r.Senders, "\n")}
	want := []string{trim(v.Department), trim(v.ContactName), trim(v.ContactEmail), trim(v.Purpose), trim(v.WhyNoAuth), trim(v.PerHour), trim(v.PerDay),
		trim(v.Expires), fmt.Sprint(registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true}), fmt.Sprint(len(hosts)),
		strings.TrimSuffix(trim(v.Bounces), "sender"), strings.ToLower(strings.Join(strings.FieldsFunc(v.Senders, func(r rune) bool { return strings.ContainsRune(",; \t\n", r) }), "\n"))}
	or := func(s, standard string) string {
		if trim(s) == "" {
			return standard
		}
		return trim(s)
	}
	for i, h := range hosts {
		if i >= len(r.Hosts) {
			break
		}
		is := r.Hosts[i]
		got = append(got, is.IP.String(), is.Name, is.Kind, is.Device.BareLF, is.Device.TLS, is.Device.Commands, fmt.Sprint(is.Device.AddHeaders))
		want = append(want, usual(trim(h.IP)), strings.ToLower(trim(h.Name)), trim(h.Kind), or(h.BareLF, "reject"), or(h.TLS, "modern"), or(h.Commands, "strict"), or(h.AddHeaders, "true"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the file says\n%q, the form\n%q\n%s", got, want, j.Text)
	}
	text := string(j.Text)
	if v.From != "" { // which keeps its comments
		text = regexp.MustCompile(`(?m)^\s*//.*\n`).ReplaceAllString(text, "")
	}
	if again := registration.Format(r, ""); string(again) != text {
		t.Errorf("there is more in the file than its values:\n%s\nwhich are\n%s", j.Text, again)
	}
	if registration.Kind(j.Path) != registration.KindRegistration || base.Taken(j.Path) && v.From == "" {
		t.Errorf("the path is %q", j.Path)
	}
	change, err := base.Change(j.Edits(), today())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range change.Problems(policy.Author{}) {
		if p.Severity == registration.Error {
			t.Errorf("the request is refused: %v", p)
		}
	}
}

// A site's own rules are told beside their fields, too.
func TestRulesOfTheSite(t *testing.T) {
	base := sample(t, `#Registration: {volume: perDay: <=100, purpose: =~"ticket", senders!: [...]}`, nil)
	v := filled()
	v.Senders = ""
	v.Hosts[0].IP = "8.8.8.8"
	j, err := Judge(base, v, Options{Now: today()})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"missing-field", "purpose schema", "per-day volume"}
	if got := told(j.Findings); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNamesOfFiles(t *testing.T) {
	base := sample(t, "", nil)
	for _, tt := range []struct {
		name  string
		edit  func(*Values)
		taken string
		want  string
	}{
		{"the machine's", func(*Values) {}, "", "lsa-physics/mfp7.cue"},
		{"one that is there already", func(v *Values) { v.Hosts[0].Name = "MFP.physics.lsa.umich.edu" }, "", "lsa-physics/mfp-2.cue"},
		{"a folder", func(v *Values) { v.Hosts[0].Name = "randall.lsa.umich.edu" }, "", "lsa-physics/randall.cue"},
		{"one that another request is going to use", func(*Values) {}, "registrations/lsa-physics/mfp7.cue", "lsa-physics/mfp7-2.cue"},
		{"odd letters", func(v *Values) { v.Hosts[0].Name = "_Mfp--7_.x.umich.edu" }, "", "lsa-physics/mfp-7.cue"},
		{"no name yet", func(v *Values) { v.Hosts[0].Name = "" }, "", "lsa-physics/scan-to-email-from-a-printer.cue"},
		{"nothing yet", func(v *Values) { v.Hosts[0].Name, v.Purpose = "物", "理" }, "", "lsa-physics/registration.cue"},
		{"a long one", func(v *Values) { v.Hosts[0].Name = strings.Repeat("a1-", 20) + "b.umich.edu" }, "", "lsa-physics/" + strings.Repeat("a1-", 13) + "a.cue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := filled()
			tt.edit(&v)
			o := Options{Now: today(), Taken: func(p string) bool { return p == tt.taken }}
			j, err := Judge(base, v, o)
			if err != nil {
				t.Fatal(err)
			}
			if j.Path != "registrations/"+tt.want {
				t.Errorf("%q", j.Path)
			}
			again, err := Judge(base, v, o)
			if err != nil || again.Path != j.Path {
				t.Errorf("typed again, it is %q", again.Path)
			}
		})
	}
}

// A renewal keeps its path and all that it says; what cannot be is said.
func TestAFileIsChanged(t *testing.T) {
	const path = "registrations/lsa-physics/mfp.cue"
	base := sample(t, "", nil)
	for _, tt := range []struct {
		name    string
		edit    func(*Values)
		want    []string
		changed int
	}{
		{"renewed", func(v *Values) { v.Expires = "2028-11-01" }, nil, 3},
		{"an address less, and one more", func(v *Values) {
			*v = v.Remove(1).Add()
			v.Hosts[2].IP, v.Hosts[2].Name = "141.211.13.78", "mfp8.physics.lsa.umich.edu"
		}, nil, 0},
		{"as it is", func(*Values) {}, []string{""}, 0},
		{"another department", func(v *Values) { v.Department = "its" }, []string{"department path"}, 0},
		{"changed meanwhile", func(v *Values) { v.Sum = "00" }, []string{""}, 0},
		{"gone meanwhile", func(v *Values) { v.From = "registrations/lsa-physics/gone.cue" }, []string{"", "host-1-ip ip-duplicate", "host-2-ip ip-duplicate", "host-3-ip ip-duplicate"}, 0},
		{"none at all", func(v *Values) { v.From = "registrations/campus/networks.cue" }, []string{"", "host-1-ip ip-duplicate", "host-2-ip ip-duplicate", "host-3-ip ip-duplicate"}, 0},
		{"a path", func(v *Values) { v.From = "../../etc/passwd" }, []string{"", "host-1-ip ip-duplicate", "host-2-ip ip-duplicate", "host-3-ip ip-duplicate"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Of(base.File(path), today())
			v.Accept = filled().Accept
			tt.edit(&v)
			j, err := Judge(base, v, Options{Now: today()})
			if err != nil {
				t.Fatal(err)
			}
			if got := told(j.Findings); !slices.Equal(got, tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			if tt.want != nil {
				return
			}
			sameAsTyped(t, base, v, j)
			if !strings.HasPrefix(string(j.Text), "// Scan-to-email in the physics print room.\ndepartment:") {
				t.Errorf("the comment is lost:\n%s", j.Text)
			}
			if j.Path != path || j.Was == nil || len(j.Plan.Changed) != tt.changed {
				t.Errorf("%s: %+v", j.Path, j.Plan)
			}
		})
	}
	if v := Of(base.File(path), today()); v.Expires != "2027-11-30" || v.Accept != (registration.Accept{}) || len(v.Hosts) != 3 || !v.Hosts[1].Old() {
		t.Errorf("%+v", v)
	}
}

// What is sent comes back as it was typed; what is over a bound is told.
func TestParse(t *testing.T) {
	v := filled()
	v.Comment, v.Pasted, v.From, v.Sum, v.Key, v.Bounces = "one\ntwo", "a\nb", "p", "s", "k", "contact"
	v.Hosts = append(v.Hosts, Host{IP: " x ", Name: "<b>", Kind: "k", BareLF: "1", TLS: "2", Commands: "3", AddHeaders: "4"})
	if got := Parse(v.Encode()); !reflect.DeepEqual(got, v) {
		t.Errorf("got\n%+v, want\n%+v", got, v)
	}
	for _, tt := range []struct {
		name string
		sent url.Values
		want Values
		cut  []string
	}{
		{"nothing", nil, Values{Hosts: []Host{{}}}, nil},
		{"rows with gaps and odd names", url.Values{"host-7-ip": {"b"}, "host-2-name": {"a"}, "host-0-ip": {"x"}, "host-07-ip": {"x"}, "host-x-ip": {"x"}, "host-3-other": {"x"}, "host-10000-ip": {"x"}},
			Values{Hosts: []Host{{Name: "a"}, {IP: "b"}}}, nil},
		{"line ends", url.Values{"purpose": {"a\r\nb\rc"}}, Values{Purpose: "a\nb\nc", Hosts: []Host{{}}}, nil},
		{"no text", url.Values{"purpose": {"a\xff\xfeb"}}, Values{Purpose: "a\ufffdb", Hosts: []Host{{}}}, []string{"purpose too-large"}},
		{"too long", url.Values{"department": {strings.Repeat("ä", maxLine)}}, Values{Department: strings.Repeat("ä", maxLine/2), Hosts: []Host{{}}}, []string{"department too-large"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Parse(tt.sent)
			if c := told(got.Cut); !slices.Equal(c, tt.cut) {
				t.Errorf("cut: %q, want %q", c, tt.cut)
			}
			if got.Cut = nil; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
	many := url.Values{}
	for i := range 100 {
		many.Set(RowField(i, RowIP), fmt.Sprint(i))
	}
	if got := Parse(many); len(got.Hosts) != MaxHosts || got.Hosts[MaxHosts-1].IP != "63" || !slices.Equal(told(got.Cut), []string{"host-64-ip too-large"}) {
		t.Errorf("%d rows; %q", len(got.Hosts), told(got.Cut))
	}
}

// The words are the register's, but where those are about a file's syntax: what
// is empty is called so, and nobody is told to write a line of CUE.
func TestTheFormsWords(t *testing.T) {
	base := sampleOf(t)
	for _, tt := range []struct {
		field, message, hint string
		edit                 func(*Values)
	}{
		{"department", "department is empty", "choose your department from the list", func(v *Values) { v.Department = "" }},
		{"purpose", "purpose is empty", "What the mail is for, in 10 to 1000 characters.", func(v *Values) { v.Purpose = "\n" }},
		{"purpose", "purpose must have at least 10 characters, and has 5", "What the mail is for", func(v *Values) { v.Purpose = "short" }},
		{"host-1-ip", "ip is empty", "", func(v *Values) { v.Hosts[0] = Host{} }},
		{"host-2-ip", "ip is empty", "", func(v *Values) { v.Hosts = []Host{{}, {Name: "a.umich.edu", Kind: "other"}} }},
		{"host-1-ip", `"8.8.8" is not an IP address`, "write four numbers", func(v *Values) { v.Hosts[0].IP = "8.8.8" }},
		{"host-2-kind", "kind is empty", "choose the closest one", func(v *Values) { v.Hosts = append(v.Hosts, Host{IP: "141.211.13.178", Name: "a.umich.edu"}) }},
		{"per-hour", "perHour is empty", "The most messages in any hour, from 1 to 100000.", func(v *Values) { v.PerHour = " " }},
		{"per-hour", "volume.perHour must be a whole number, and text stands here", "The most messages in any hour", func(v *Values) { v.PerHour = "lots" }},
		{"expires", "expires is empty", "year-month-day", func(v *Values) { v.Expires = "" }},
		{"accept-not-bulk", "this is a condition, and it is not ticked", "the relay is not for bulk mail", func(v *Values) { v.Accept.NotBulk = false }},
	} {
		v := filled()
		tt.edit(&v)
		j, err := Judge(base, v, Options{Now: today()})
		if err != nil {
			t.Fatal(err)
		}
		if len(j.Findings) != 1 || j.Findings[0].Field != tt.field || j.Findings[0].Message != tt.message || !strings.Contains(j.Findings[0].Hint, tt.hint) {
			t.Errorf("got %+v, want %s: %s", j.Findings, tt.field, tt.message)
		}
		for _, f := range j.Findings {
			if strings.Contains(f.Hint, ": \"") && !strings.Contains(f.Hint, "write") {
				t.Errorf("the hint is a line of a file: %q", f.Hint)
			}
		}
	}
}
