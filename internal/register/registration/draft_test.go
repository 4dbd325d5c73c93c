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
