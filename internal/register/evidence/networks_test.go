package evidence

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var campus = []netip.Prefix{netip.MustParsePrefix("141.211.0.0/16"), netip.MustParsePrefix("2607:f018::/32")}

func TestSelect(t *testing.T) {
	table := `Prefix,VRF,Status,Tenant,Role,Description
2607:f018:1::/48,,Active,ITS,static,
141.211.13.0/24,,Active,"Physics, LSA",Servers,"with a comma, and more"
141.211.0.0/16,,Container,,,
141.211.14.0/24,,reserved,lsa-physics,dhcp,
141.211.13.0/24,,active,"physics, lsa",SERVERS,the same again
141.211.9.0/24,,deprecated,gone,gone,
141.211.10.0/24,lab,active,gone,gone,
10.0.0.0/8,,active,gone,gone,
141.211.99.0/24,,active,voip,static,
141.211.0.0/21,,active,its,,
# the end
`
	blocks, err := ParseTable([]byte("\ufeff" + table))
	if err != nil {
		t.Fatal(err)
	}
	m := mapping(t, "tenant,\"Physics, LSA\",lsa-physics\nrole, servers,static\nrole,none,static\ntenant,voip,-\n")
	s := Select(blocks, m, campus)
	var got []string
	for _, n := range s.Networks {
		got = append(got, fmt.Sprint(n.Prefix, " ", n.Department, " ", n.Use))
	}
	want := []string{
		"141.211.0.0/21 its static", "141.211.13.0/24 lsa-physics static", "141.211.14.0/24 lsa-physics dhcp",
		"2607:f018:1::/48 its static",
	}
	if !slices.Equal(got, want) || len(s.Mistakes) > 0 {
		t.Errorf("got %q, mistakes %q", got, s.Mistakes)
	}
	if s.Outside != 1 || s.Containers != 2 || s.Virtual != 1 || s.Mapped != 1 {
		t.Errorf("%+v", s)
	}
	slices.Reverse(blocks)
	if again := Select(blocks, m, campus); !slices.Equal(again.Networks, s.Networks) {
		t.Error("the order of the rows matters")
	}
}

// TestSelectLeavesNothingOutInSilence: were a pool inside a static network
// missing, machines could register in it.
func TestSelectLeavesNothingOutInSilence(t *testing.T) {
	block := func(prefix, tenant, role string) Block {
		return Block{Prefix: netip.MustParsePrefix(prefix), Tenant: tenant, Role: role}
	}
	tests := map[string]struct {
		blocks []Block
		want   string
	}{
		"an unknown tenant": {[]Block{block("141.211.1.0/24", "x\n,y", "static")}, `no row tenant,"x ,y",DEPARTMENT, for 1 of the networks`},
		"no tenant":         {[]Block{block("141.211.1.0/24", "", "static")}, "no row tenant,none,DEPARTMENT, for 1 of the networks"},
		"unknown roles":     {[]Block{block("141.211.1.0/24", "its", "voice"), block("141.211.2.0/24", "its", "voice")}, "no row role,voice,USE, for 2 of the networks"},
		"two holders":       {[]Block{block("141.211.1.0/24", "its", "static"), block("141.211.1.0/24", "lsa-physics", "static")}, "141.211.1.0/24 is there twice: of its (static) and of lsa-physics (static)"},
		"no network":        {[]Block{block("141.211.1.1/24", "its", "static")}, "141.211.1.1/24 is no network"},
		"IPv4 in IPv6":      {[]Block{block("::ffff:141.211.1.0/120", "its", "static")}, "is no network"},
		"nothing at all":    {[]Block{{}}, "is no network"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := Select(tt.blocks, mapping(t, ""), campus)
			if len(s.Mistakes) != 1 || !strings.Contains(s.Mistakes[0], tt.want) {
				t.Errorf("%q, want %q", s.Mistakes, tt.want)
			}
		})
	}
	var many []Block
	for i := range 1000 {
		many = append(many, block("141.211.1.0/24", fmt.Sprint("t", i), "static"))
	}
	if s := Select(many, mapping(t, ""), campus); len(s.Mistakes) != maxMistakes+1 {
		t.Errorf("%d mistakes", len(s.Mistakes))
	}
}

func TestParseTableRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ table, want string }{
		"nothing":          {"", "empty"},
		"no prefix column": {"a,tenant,role\n", "no column is called prefix or network"},
		"no tenant column": {"prefix,role\n", "no column is called tenant or department"},
		"no network":       {"prefix,tenant,role\n192.0.2.0/24,its,static\n192.0.2.1/24,its,static\nx,its,static\n", "line 3: \"192.0.2.1/24\" is no network such as 192.0.2.0/24\nline 4: \"x\""},
		"a short row":      {"prefix,tenant,role\n192.0.2.0/24,its\n", "line 2"},
		"an open quote":    {"prefix,tenant,role\n\"192.0.2.0/24,its,static\n", "line 2"},
	} {
		if blocks, err := ParseTable([]byte(tt.table)); err == nil || blocks != nil && name != "no network" || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMapping(t *testing.T) {
	m := mapping(t, "# remarks\ntenant,Physics,lsa-physics\ntenant,guests,-\nrole,*,static\nrole,none,nat\nrole,wifi,wireless\n")
	for tenant, want := range map[string]string{"physics": "lsa-physics", " PHYSICS ": "lsa-physics", "its": "its", "ITS": "its", "guests": LeaveOut, "x": "", "": ""} {
		if got, ok := m.Department(tenant); got != want || ok != (want != "") {
			t.Errorf("tenant %q: %q %t", tenant, got, ok)
		}
	}
	for role, want := range map[string]string{"wifi": "wireless", "dhcp": "dhcp", "": "nat", "voice": "static"} {
		if got, _ := m.Use(role); got != want {
			t.Errorf("role %q: %q", role, got)
		}
	}
	for rows, want := range map[string]string{
		"tenant,a":                              "wrong number of fields",
		"tennant,a,its":                         `line 1: "tennant" is neither tenant nor role`,
		"tenant,a,it":                           `line 1: "it" is no department`,
		"role,a,static\nrole,b,fixed\n":         `line 2: "fixed" is no use`,
		"tenant,,its":                           "is called none",
		"tenant,a,its\ntenant,A,lsa-physics\n":  "line 2: tenant \"A\" stands here twice",
		"tenant,a,\"its\nrole,b,static\n\x00\n": "line",
	} {
		if _, err := ParseMapping([]byte(rows), []string{"its", "lsa-physics"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", rows, err)
		}
	}
}
