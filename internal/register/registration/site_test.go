package registration

import (
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
