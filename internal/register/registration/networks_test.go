package registration

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

const networksPath = "registrations/campus/networks.cue"

func networksOf(lines ...string) []Network {
	var all []Network
	for _, l := range lines {
		f := strings.Fields(l)
		all = append(all, Network{Prefix: netip.MustParsePrefix(f[0]), Department: f[1], Use: f[2]})
	}
	return all
}

func TestReplaceNetworks(t *testing.T) {
	tests := map[string]struct {
		old      string
		networks []Network
		want     string
		lost     []string
	}{
		"a new file": {"", networksOf("192.0.2.0/24 its static"), `// Which department holds which part of the address space.
networks: {
	"192.0.2.0/24": {department: "its", use: "static"}
}
`, nil},
		"a file without networks": {`// The campus.
campus: ["192.0.2.0/24"] // all of it
`, networksOf("192.0.2.0/25 its static"), `// The campus.
campus: ["192.0.2.0/24"] // all of it

// Which department holds which part of the address space.
networks: {
	"192.0.2.0/25": {department: "its", use: "static"}
}
`, nil},
		"all else stays as it is": {`// The campus.
campus: [
	"192.0.2.0/24", // all of it
]

// By hand.
networks: {
	"192.0.2.0/25": {department: "its", use: "static"}
}

// Who is who.
departments: its: {name: "ITS", team: {slug: "its", id: 1}, contactDomains: ["its.example.edu"]}
`, networksOf("192.0.2.0/26 its static", "192.0.2.64/26 its dhcp"), `// The campus.
campus: [
	"192.0.2.0/24", // all of it
]

// By hand.
networks: {
	"192.0.2.0/26": {department: "its", use: "static"}
	"192.0.2.64/26": {department: "its", use: "dhcp"}
}

// Who is who.
departments: its: {name: "ITS", team: {slug: "its", id: 1}, contactDomains: ["its.example.edu"]}
`, nil},
		"the short form, and what follows it": {`networks: "192.0.2.0/25": {department: "its", use: "static"} // one
campus: ["192.0.2.0/24"]
`, networksOf("192.0.2.0/25 its dhcp"), `networks: {
	"192.0.2.0/25": {department: "its", use: "dhcp"}
} // one
campus: ["192.0.2.0/24"]
`, nil},
		"remarks go with their networks": {`networks: {
	// A group.

	// The lab.
	// Ask Kim.
	"192.0.2.0/25": {department: "its", use: "static"} // old wing
	"192.0.2.128/25": {
		// inside
		department: "its"
		use: "static" // for now
	}
	// Gone soon.
	"198.51.100.0/24": {department: "its", use: "nat"}
	// At the end.
}
`, networksOf("192.0.2.0/25 lab static", "192.0.2.128/25 its static", "192.0.2.192/26 its dhcp"), `networks: {
	// A group.
	// The lab.
	// Ask Kim.
	"192.0.2.0/25": {department: "lab", use: "static"} // old wing
	// inside
	// for now
	"192.0.2.128/25": {department: "its", use: "static"}
	"192.0.2.192/26": {department: "its", use: "dhcp"}
}
`, []string{"At the end.", "Gone soon."}},
		"none left":            {`networks: "192.0.2.0/25": {department: "its", use: "static"}` + "\n", nil, "networks: {}\n", nil},
		"a quoted name":        {`"networks": {}` + "\n", networksOf("192.0.2.0/25 its static"), "networks: {\n\t\"192.0.2.0/25\": {department: \"its\", use: \"static\"}\n}\n", nil},
		"line ends of Windows": {"campus: [\"192.0.2.0/24\"]\r\nnetworks: {}\r\n", networksOf("192.0.2.0/25 its static"), "campus: [\"192.0.2.0/24\"]\nnetworks: {\n\t\"192.0.2.0/25\": {department: \"its\", use: \"static\"}\n}\n", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, lost, err := ReplaceNetworks(networksPath, []byte(tt.old), tt.networks)
			if err != nil {
				t.Fatal(err)
			}
			if string(out) != tt.want {
				t.Errorf("got\n%s\nwant\n%s", out, tt.want)
			}
			if !slices.Equal(lost, tt.lost) {
				t.Errorf("lost %q, want %q", lost, tt.lost)
			}
			again, lost, err := ReplaceNetworks(networksPath, out, tt.networks)
			if err != nil || string(again) != string(out) || lost != nil {
				t.Errorf("written twice: %v, lost %q\n%s", err, lost, again)
			}
			p, err := NewParser(nil)
			if err != nil {
				t.Fatal(err)
			}
			f := p.Parse(Source{Path: networksPath, Size: int64(len(out)), Data: out})
			if f.Campus == nil {
				t.Fatal(f.Problems)
			}
			for i := range f.Campus.Networks {
				f.Campus.Networks[i].At = Pos{}
			}
			if !slices.Equal(f.Campus.Networks, tt.networks) {
				t.Errorf("parsed %v, want %v", f.Campus.Networks, tt.networks)
			}
		})
	}
}

func TestReplaceNetworksRefusesWhatIsNotData(t *testing.T) {
	for _, old := range []string{"networks: {", "x: 1\nnetworks: [for a in x {a}]", "networks: {}\nnetworks: {}", "campus: [\"\x00\"]"} {
		out, _, err := ReplaceNetworks(networksPath, []byte(old), nil)
		if _, ok := errors.AsType[*ProblemError](err); !ok || out != nil {
			t.Errorf("%q: %v, %q", old, err, out)
		}
	}
}

// TestReplaceNetworksOfTheSample keeps all remarks of the sample register.
func TestReplaceNetworksOfTheSample(t *testing.T) {
	data, err := os.ReadFile("../../../" + networksPath)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := p.Parse(Source{Path: networksPath, Size: int64(len(data)), Data: data})
	if f.Campus == nil {
		t.Fatal(f.Problems)
	}
	out, lost, err := ReplaceNetworks(networksPath, data, f.Campus.Networks)
	if err != nil || len(lost) > 0 {
		t.Fatalf("%v, lost %q", err, lost)
	}
	if len(out) > len(data) {
		t.Errorf("grew from %d to %d octets:\n%s", len(data), len(out), out)
	}
}
