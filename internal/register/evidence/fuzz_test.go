package evidence

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// FuzzTable: a table of an IPAM and a mapping make networks that are the
// campus's, each once, sorted, and of known departments and uses; or they make
// mistakes, each one line.
func FuzzTable(f *testing.F) {
	f.Add([]byte("prefix,tenant,role\n192.0.2.0/25,physics,static\n"), []byte("tenant,physics,lsa-physics\n"))
	f.Add([]byte("\ufeffNetwork;Department;Use\n192.0.2.0/25;its;static\n"), []byte(""))
	f.Add([]byte("cidr,department,use,status,vrf,x\n192.0.2.0/24,its,dhcp,container,,\n192.0.2.0/25,its,\"sta\ntic\",active,red,\n192.0.2.1/25,its,static,,,\n"), []byte("role,\"sta\ntic\",static\ntenant,*,its\nrole,none,-\n"))
	f.Add([]byte("prefix,tenant,role\n192.0.2.0/25,its,static\n192.0.2.0/25,lsa-physics,static\n0.0.0.0/0,its,static\n::ffff:192.0.2.0/120,its,static\n"), []byte("tenant,its,nobody\n"))
	departments := []string{"its", "lsa-physics"}
	campus := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	f.Fuzz(func(t *testing.T, table, mapping []byte) {
		m, err := ParseMapping(mapping, departments)
		if err != nil {
			return
		}
		blocks, err := ParseTable(table)
		if err != nil {
			return
		}
		s := Select(blocks, m, campus)
		if n := len(s.Networks) + s.Outside + s.Containers + s.Virtual + s.Mapped; len(s.Mistakes) == 0 && n > len(blocks) {
			t.Errorf("%d networks out of %d", n, len(blocks))
		}
		for i, n := range s.Networks {
			inside := slices.ContainsFunc(campus, func(c netip.Prefix) bool { return c.Bits() <= n.Prefix.Bits() && c.Contains(n.Prefix.Addr()) })
			if !inside || n.Prefix != n.Prefix.Masked() || !slices.Contains(departments, n.Department) || !slices.Contains(uses, n.Use) {
				t.Errorf("network %+v", n)
			}
			if i > 0 && compareNetworks(s.Networks[i-1], n) >= 0 {
				t.Errorf("%v does not come after %v", n.Prefix, s.Networks[i-1].Prefix)
			}
		}
		for _, line := range s.Mistakes {
			if line == "" || strings.ContainsAny(line, "\n\r\x1b") {
				t.Errorf("mistake %q", line)
			}
		}
		if len(s.Mistakes) > maxMistakes+1 {
			t.Errorf("%d mistakes", len(s.Mistakes))
		}
	})
}
