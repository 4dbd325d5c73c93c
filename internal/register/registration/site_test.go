package registration

import (
	"reflect"
	"strings"
	"testing"
)

const goodPath = "registrations/lsa-physics/mfp.cue"

const good = `// Scan-to-email in the physics print room.
department: "lsa-physics"
contact: {name: "Physics IT", email: "physics-it@umich.edu"}
purpose:   "Scan-to-email from two multifunction printers."
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [
	{ip: "141.211.13.21", name: "mfp1.physics.lsa.umich.edu", kind: "printer"},
	{ip: "2607:f018:1:13::22", name: "mfp2.physics.lsa.umich.edu", kind: "printer", device: {bareLF: "fix", tls: "legacy"}},
]
senders: ["*@physics.lsa.umich.edu"]
volume: {perHour: 200, perDay: 1000}
expires: "2027-11-30"
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`

func newParser(t testing.TB, site string) *Parser {
	t.Helper()
	var text []byte
	if site != "" {
		text = []byte(site)
	}
	p, err := NewParser(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func source(path, text string) Source {
	return Source{Path: path, Size: int64(len(text)), Data: []byte(text)}
}

func TestSiteNarrows(t *testing.T) {
	for _, test := range []struct{ name, site, want string }{
		{"no rule that the file breaks", `#Registration: volume: perDay: <=5000`, ""},
		{"an empty site", ``, ""},
		{"an open struct says nothing", `#Registration: {...}`, ""},
		{"a required field that is there", `#Registration: senders!: [...]`, ""},
		{"a lower cap", `#Registration: volume: perDay: <=500`, goodPath + `:11:32: volume: volume.perDay must be at most 500, and the number 1000 stands here`},
		{"a rule over two fields", `#Registration: volume: {perHour: int, perDay: <=(perHour*4)}`, goodPath + `:11:32: volume: volume.perDay is not allowed as it is: invalid value 1000 (out of bound <=800)`},
		{"fewer choices", `#Registration: hosts: [...{kind: "server" | "sensor"}]`, goodPath + `:7:66: schema: hosts.kind is "printer", and must be "server" or "sensor"`},
		{"a helper and a package", "package schema\nimport \"strings\"\n_long: strings.MinRunes(60)\n#Registration: purpose: _long", goodPath + `:4:12: schema: purpose must have at least 60 characters, and has 46`},
		{"a pattern", `#Registration: contact: email: =~"@lsa\\.umich\\.edu$"`, goodPath + `:3:38: schema: contact.email must be =~"@lsa\\.umich\\.edu$", and "physics-it@umich.edu" stands here`},
		{"fewer hosts", "import \"list\"\n#Registration: hosts: list.MaxItems(1)", goodPath + `:6:8: schema: hosts must have one entry at most, and has 2`},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newParser(t, test.site).Parse(source(goodPath, good))
			got := ""
			if len(f.Problems) > 0 {
				got = f.Problems[0].String()
				if f.Problems[0].Hint == "" {
					t.Error("no hint")
				}
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if (f.Registration == nil) != (test.want != "") {
				t.Errorf("registration: %v", f.Registration)
			}
		})
	}
}

// A site's file that would open a door leaves the door shut, or is refused.
func TestSiteCannotLoosen(t *testing.T) {
	drop := func(from string) string { return strings.Replace(good, from, "", 1) }
	change := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	for _, test := range []struct{ name, site, file string }{
		{"a condition by default", `#Registration: accept: {policies: *true | bool, notBulk: true, notWorkstation: true, noMailServer: true}`, drop("accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}\n")},
		{"one condition by default", `#Registration: accept: policies: *true | bool`, drop("policies: true, ")},
		{"a field supplied", `#Registration: expires: "2099-01-01"`, drop("expires: \"2027-11-30\"\n")},
		{"a field supplied, others required", `#Registration: department: "lsa-physics"`, drop("department: \"lsa-physics\"\n")},
		{"a higher cap", `#Registration: volume: perDay: <=99999999`, change("perDay: 1000}", "perDay: 99999999}")},
		{"an open struct", `#Registration: {...}`, good + "extra: 1\n"},
		{"an open inner struct", `#Registration: contact: {...}`, change(`{name: "Physics IT"`, `{phone: "1", name: "Physics IT"`)},
		{"a pattern of fields", `#Registration: [string]: _`, good + "extra: 1\n"},
		{"a condition made false", `#Registration: accept: policies: false`, change("policies: true", "policies: false")},
		{"a lower bound", `#Registration: volume: perHour: >=0`, change("perHour: 200", "perHour: 0")},
		{"a longer list", "import \"list\"\n#Registration: hosts: list.MaxItems(1000)", strings.Replace(good, "hosts: [", "hosts: ["+strings.Repeat(`{ip: "141.211.13.99", name: "a.b", kind: "printer"}, `, 70), 1)},
		{"a shorter text", "import \"strings\"\n#Registration: purpose: strings.MinRunes(0)", change(`"Scan-to-email from two multifunction printers."`, `"x"`)},
		{"a wider pattern", `#Registration: contact: email: =~""`, change("physics-it@umich.edu", "physics-it")},
		{"a new field", `#Registration: extra?: int`, good + "extra: 1\n"},
		{"a new required field", `#Registration: extra!: int`, good + "extra: 1\n"},
		{"a new inner field", `#Registration: hosts: [...{extra?: int, ...}]`, change(`kind: "printer"}`, `kind: "printer", extra: 1}`)},
		{"a required field made optional", `#Registration: expires?: string`, drop("expires: \"2027-11-30\"\n")},
		{"a required field that cannot be", `#Registration: expires?: _|_`, drop("expires: \"2027-11-30\"\n")},
		{"a required field with a default", `#Registration: expires: *"2027-11-30" | string`, drop("expires: \"2027-11-30\"\n")},
		{"an inner field with a default", `#Registration: hosts: [...{kind: *"printer" | string}]`, change(`, kind: "printer"}`, "}")},
		{"another default of a device", `#Registration: hosts: [...{device: tls: *"none" | string}]`, change(`tls: "legacy"`, `tls: "none"`)},
		{"a choice wider than ours", `#Registration: hosts: [...{kind: "printer" | "copier"}]`, change(`kind: "printer"}`, `kind: "copier"}`)},
		{"a disjunction with top", `#Registration: volume: perDay: int | string`, change("perDay: 1000}", `perDay: "1000"}`)},
		{"a disjunction of the whole", `#Registration: {volume: perDay: <=10} | _`, change("perDay: 1000}", "perDay: 99999999}")},
		{"top in its place", `#Registration: _`, good + "extra: 1\n"},
		{"bottom in its place", `#Registration: _|_`, good},
		{"another definition of a date", `#Date: string`, change("2027-11-30", "some day")},
		{"another definition of a host", `#Host: {...}`, change(`kind: "printer"}`, `kind: "copier"}`)},
		{"another definition of a text", "#Line: _\n#Registration: contact: name: #Line", change(`"Physics IT"`, `""`)},
		{"the same definition twice", "#Registration: volume: perDay: <=99999999\n#Registration: {...}", change("perDay: 1000}", "perDay: 99999999}")},
		{"the compiled name", `"open·Registration": {...}`, good + "extra: 1\n"},
		{"a hidden helper that is ours", "_x: #Registration\n#Registration: {...}", good + "extra: 1\n"},
		{"a hidden field inside", `#Registration: {_x: 1, ...}`, good + "extra: 1\n"},
		{"an inner definition", `#Registration: {#x: 1, ...}`, good + "extra: 1\n"},
		{"an alias", `R=#Registration: {...}`, good + "extra: 1\n"},
		{"a let clause", "let r = {...}\n#Registration: r", good + "extra: 1\n"},
		{"a comprehension", `#Registration: {if true {...}}`, good + "extra: 1\n"},
		{"a dynamic field", `#Registration: {("extra"): int}`, good + "extra: 1\n"},
		{"a package of ours", "package schema\n#Registration: volume: perDay: int", change("perDay: 1000}", "perDay: 99999999}")},
		{"a file embedded", "@extern(embed)\npackage schema\n_x: _ @embed(file=/etc/hostname,type=text)\n#Registration: purpose: _x", change(`"Scan-to-email from two multifunction printers."`, `"x"`)},
		{"a program run", "import \"tool/exec\"\n_x: exec.Run & {cmd: \"touch /tmp/gatepost-was-here\"}\n#Registration: {...}", good + "extra: 1\n"},
		{"a module", "import \"example.com/x@v1\"\n#Registration: x.y", good + "extra: 1\n"},
		{"an experiment", "@experiment(explicitopen)\n#Registration: {...}", good + "extra: 1\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := NewParser([]byte(test.site))
			if err != nil {
				t.Logf("refused: %v", err)
				return
			}
			f := p.Parse(source(goodPath, test.file))
			if f.Registration != nil || len(f.Problems) == 0 {
				t.Errorf("accepted: %+v", f.Registration)
			}
		})
	}
}

// The same of the other definitions that a site can narrow.
func TestSiteCannotLoosenTheOthers(t *testing.T) {
	const (
		networks    = "registrations/campus/networks.cue"
		departments = "registrations/campus/departments.cue"
		blocks      = "registrations/blocks/x.cue"
	)
	for _, test := range []struct{ name, site, path, file string }{
		{"a use", `#Network: use: "static" | "open"`, networks, `networks: "141.211.0.0/16": {department: "its", use: "open"}`},
		{"a network without a holder", `#Network: department: *"its" | string`, networks, `networks: "141.211.0.0/16": {use: "static"}`},
		{"a field of a network", `#Network: {vlan?: int, ...}`, networks, `networks: "141.211.0.0/16": {department: "its", use: "static", vlan: 1}`},
		{"the campus", `#Campus: {...}`, networks, `campus: ["141.211.0.0/16"], extra: 1`},
		{"a department that nobody speaks for", `#Department: speakers: [...] | *[{github: "eve", id: 1}]`, departments, `departments: its: {name: "ITS", contactDomains: ["umich.edu"]}`},
		{"an account without a number", `#Department: speakers: [...{github: string, id?: int}]`, departments, `departments: its: {name: "ITS", speakers: [{github: "eve"}], contactDomains: ["umich.edu"]}`},
		{"any mail domain", `#Department: contactDomains: [...string]`, departments, `departments: its: {name: "ITS", speakers: [{github: "eve", id: 1}], contactDomains: []}`},
		{"a block without a reason", `#Block: block: reason: *"none given" | string`, blocks, `block: {ip: "141.211.13.1", since: "2026-11-23T08:00:00Z"}`},
		{"a block of nothing", `#Block: {block?: _, ...}`, blocks, `other: 1`},
		{"a block of all", `#Block: block: prefix: _`, blocks, `block: {prefix: "everything", reason: "spam", since: "2026-11-23T08:00:00Z"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := NewParser([]byte(test.site))
			if err != nil {
				t.Logf("refused: %v", err)
				return
			}
			if f := p.Parse(source(test.path, test.file+"\n")); f.Campus != nil || f.Block != nil || len(f.Problems) == 0 {
				t.Errorf("accepted: %+v %+v", f.Campus, f.Block)
			}
		})
	}
}

// What a site's rules leave alone means what it meant without them, defaults
// included: they only ever take files away.
func TestSiteChangesNoMeaning(t *testing.T) {
	plain := newParser(t, "").Parse(source(goodPath, good))
	for _, site := range []string{
		"", `#Registration: volume: perDay: <=5000`, `#Registration: hosts: [...{device: {bareLF: *"fix" | string}}]`, `#Registration: hosts: [...{device: addHeaders: *false | bool}]`,
		`#Registration: {contact: name: *"Nobody" | string}`, `#Registration: volume: {perHour: int, perDay: <=(perHour*10)}`,
	} {
		f := newParser(t, site).Parse(source(goodPath, good))
		if f.Registration == nil && !strings.Contains(site, "*") { // defaults that clash leave nothing to choose
			t.Errorf("%s: %v", site, f.Problems)
		} else if f.Registration != nil && !reflect.DeepEqual(f.Registration, plain.Registration) {
			t.Errorf("%s:\n got %+v\nwant %+v", site, f.Registration, plain.Registration)
		}
	}
}

func TestSiteFaultsAreNamed(t *testing.T) {
	for _, test := range []struct{ name, site, want string }{
		{"syntax", "a b", "schema/site.cue:1:3: "},
		{"a conflict", "\n#Registration: volume: perDay: string", "schema/site.cue:2:32: "},
		{"an unknown field", `#Registration: volum: perDay: <=3`, "volum"},
		{"an unknown optional field", `#Registration: volum?: perDay: <=3`, `did you mean "volume"?`},
		{"an unknown inner field", `#Registration: volume: perDya?: <=3`, `#Registration.volume has no field "perDya"`},
		{"an unknown definition", `#Registraton: volume: perDay: <=3`, "only #Registration, #Network, #Department, #Block"},
		{"another file's definition", `#Relay: hostname: "x"`, "only #Registration"},
		{"a plain field", `Registration: {}`, "only #Registration"},
		{"an embedded value", `{#Registration: {}}`, "only #Registration"},
		{"an unresolved name", `#Registration: department: nobody`, `#Registration.department: reference "nobody" not found`},
		{"a foreign import", "import \"example.com/x\"\n#Registration: department: x.y", "example.com/x"},
		{"too large", "//" + strings.Repeat("x", maxSite), "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewParser([]byte(test.site))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), opened) {
				t.Errorf("got %v, want something with %q", err, test.want)
			}
		})
	}
}
