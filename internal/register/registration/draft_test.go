package registration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// Whatever a draft says, its text is one that the parser reads as data, and each
// problem is about a value that Places knows, and that is wrong.
func TestEachProblemOfADraftHasItsPlace(t *testing.T) {
	p := newParser(t, "")
	fine := DraftOf(p.Parse(source(goodPath, good)).Registration)
	for name, test := range map[string]struct {
		edit func(*Draft)
		want []string // "place rule"
	}{
		"nothing wrong": {func(*Draft) {}, nil},
		"department":    {func(d *Draft) { d.Department = "Lsa Physics" }, []string{"department schema"}},
		"other folder":  {func(d *Draft) { d.Department = "its" }, []string{"department path"}},
		"contact":       {func(d *Draft) { d.ContactName, d.ContactEmail = "", "a@b@c" }, []string{"contact.name schema", "contact.email schema"}},
		"texts":         {func(d *Draft) { d.Purpose, d.WhyNoAuth = "", "short" }, []string{"purpose schema", "whyNoAuth schema"}},
		"no hosts":      {func(d *Draft) { d.Hosts = nil }, []string{"hosts schema"}},
		"too many":      {func(d *Draft) { d.Hosts = many(65) }, []string{"hosts schema"}},
		"twice":         {func(d *Draft) { d.Hosts = append(d.Hosts, d.Hosts[0]) }, []string{"hosts.2.ip ip-duplicate"}},
		"address":       {func(d *Draft) { d.Hosts[1].IP = "141.211.13.0/24" }, []string{"hosts.1.ip bad-ip"}},
		"no address":    {func(d *Draft) { d.Hosts[0].IP = "" }, []string{"hosts.0.ip bad-ip"}},
		"name and kind": {func(d *Draft) { d.Hosts[0].Name, d.Hosts[1].Kind = "mfp", "toaster" }, []string{"hosts.0.name schema", "hosts.1.kind schema"}},
		"device": {func(d *Draft) {
			d.Hosts[0].BareLF, d.Hosts[0].TLS, d.Hosts[0].Commands, d.Hosts[0].AddHeaders = "a", "b", "c", "d"
		}, []string{"hosts.0.device.bareLF schema", "hosts.0.device.tls schema", "hosts.0.device.commands schema", "hosts.0.device.addHeaders schema"}},
		"senders":           {func(d *Draft) { d.Senders = []string{"a@umich.edu", "*", "b"} }, []string{"senders.1 schema", "senders.2 schema"}},
		"too many of those": {func(d *Draft) { d.Senders = slices.Repeat([]string{"a@umich.edu"}, 65) }, []string{"senders schema"}},
		"bounces":           {func(d *Draft) { d.Bounces = "me" }, []string{"bounces schema"}},
		"no numbers":        {func(d *Draft) { d.PerHour, d.PerDay = "12o", "" }, []string{"volume.perHour schema", "volume.perDay schema"}},
		"numbers":           {func(d *Draft) { d.PerHour, d.PerDay = "0", "1000001" }, []string{"volume.perHour schema", "volume.perDay volume"}},
		"huge numbers":      {func(d *Draft) { d.PerHour, d.PerDay = strings.Repeat("9", 18), strings.Repeat("9", 19) }, []string{"volume.perHour volume", "volume.perDay schema"}},
		"leading zeros":     {func(d *Draft) { d.PerHour = "007" }, []string{"volume.perHour schema"}},
		"code":              {func(d *Draft) { d.PerHour = "1, x: 2" }, []string{"volume.perHour schema"}},
		"less a day":        {func(d *Draft) { d.PerHour, d.PerDay = "10", "9" }, []string{"volume.perDay volume"}},
		"date":              {func(d *Draft) { d.Expires = "30.11.2027" }, []string{"expires schema"}},
		"no date":           {func(d *Draft) { d.Expires = "" }, []string{"expires schema"}},
		"acceptance":        {func(d *Draft) { d.Accept = Accept{} }, []string{"accept.policies accept", "accept.notBulk accept", "accept.notWorkstation accept", "accept.noMailServer accept"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := fine
			d.Hosts = slices.Clone(fine.Hosts)
			test.edit(&d)
			text, places := FormatDraft(d, "A remark\nof two lines.")
			var got []string
			for _, problem := range p.Parse(source(goodPath, string(text))).Problems {
				place, known := places[Pos{int32(problem.Line), int32(problem.Column)}]
				if !known {
					t.Errorf("no place has %v", problem)
				}
				got = append(got, fmt.Sprintf("%s %s", place, problem.Rule))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q\nwant %q", got, test.want)
			}
		})
	}
}

// Every place is where the parser finds the value.
func TestPlacesAreThoseOfTheParser(t *testing.T) {
	p := newParser(t, "")
	r := p.Parse(source(goodPath, good)).Registration
	text, places := FormatDraft(DraftOf(r), "物理\n// \t x")
	again := p.Parse(source(goodPath, string(text))).Registration
	if again == nil {
		t.Fatalf("refused:\n%s", text)
	}
	want := map[string]Pos{
		"department": again.At.Department, "contact": again.At.Contact, "contact.email": again.At.Email, "hosts": again.At.Hosts,
		"senders": again.At.Senders, "volume": again.At.Volume, "expires": again.At.Expires, "accept": again.At.Accept,
	}
	for i, h := range again.Hosts {
		want[fmt.Sprintf("hosts.%d.ip", i)] = h.At
	}
	for name, at := range want {
		if places[at] != name {
			t.Errorf("at %v is %q, want %q", at, places[at], name)
		}
	}
	names := slices.Sorted(maps.Values(places))
	if len(slices.Compact(names)) != len(places) {
		t.Errorf("a name is there twice: %q", names)
	}
}

func many(n int) []DraftHost {
	var hosts []DraftHost
	for i := range n {
		hosts = append(hosts, DraftHost{IP: fmt.Sprintf("192.0.2.%d", i), Name: "a.example.edu", Kind: "other"})
	}
	return hosts
}

// Whoever writes a file anew keeps every comment, and what is written keeps them
// again.
func TestRemarksAreKept(t *testing.T) {
	p := newParser(t, "")
	text := `// Above.
//
// More of it.
department: "lsa-physics" // beside
contact: {name: "Physics IT", email: "physics-it@umich.edu"}
purpose:   "Scan-to-email // from two printers." // not that in the text
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [ // at the bracket
	// The old one.
	{ip: "141.211.13.21", name: "mfp1.physics.lsa.umich.edu", kind: "printer"}, // room 12
	{
		// within
		ip: "141.211.13.22"
		name: "mfp2.physics.lsa.umich.edu", kind: "printer"
	},
	// at the end
]
volume: {perHour: 200, perDay: 1000}
expires: "2027-11-30"
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
// Below.`
	f := p.Parse(source(goodPath, text))
	if f.Registration == nil {
		t.Fatal(f.Problems)
	}
	remarks := RemarksOf([]byte(text), f.Registration)
	d := DraftOf(f.Registration)
	for i, h := range f.Registration.Hosts {
		d.Hosts[i].Remarks = remarks.Hosts[h.IP]
	}
	out, places := FormatDraft(d, strings.Join(remarks.Head, "\n"))
	want := `// Above.
//
// More of it.
// beside
// not that in the text
// at the end
// Below.
department: "lsa-physics"
contact: {name: "Physics IT", email: "physics-it@umich.edu"}
purpose:   "Scan-to-email // from two printers."
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [
	// at the bracket
	// The old one.
	// room 12
	{ip: "141.211.13.21", name: "mfp1.physics.lsa.umich.edu", kind: "printer"},
	// within
	{ip: "141.211.13.22", name: "mfp2.physics.lsa.umich.edu", kind: "printer"},
]
volume: {perHour: 200, perDay: 1000}
expires: "2027-11-30"
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`
	if string(out) != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	again := p.Parse(source(goodPath, string(out)))
	if again.Registration == nil || places[again.Registration.Hosts[1].At] != "hosts.1.ip" {
		t.Fatalf("%v, %v", again.Problems, places)
	}
	if more := RemarksOf(out, again.Registration); !slices.Equal(more.Head, remarks.Head) || len(more.Hosts) != 2 {
		t.Errorf("%+v", more)
	}
	if settled, err := FormatSource(goodPath, out); err != nil || string(settled) != string(out) {
		t.Errorf("not settled: %v\n%s", err, settled)
	}
	if none := RemarksOf([]byte("\x00// x"), again.Registration); none.Head != nil || none.Hosts != nil {
		t.Errorf("%+v", none)
	}
}
