package evidence

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/registration"
)

// A Block is a network as an IPAM has it, in the IPAM's own words.
type Block struct {
	Prefix netip.Prefix
	Tenant string
	Role   string
	Status string
	VRF    string
}

// The statuses of networks that nothing registers from, in NetBox's words.
const (
	statusContainer  = "container" // holds networks, and is none
	statusDeprecated = "deprecated"
)

// A Selection is what an IPAM's networks come to here.
type Selection struct {
	Networks []registration.Network // sorted, each prefix once

	// What was left out, in numbers.
	Outside    int // outside the campus
	Containers int // containers and deprecated networks
	Virtual    int // of a VRF
	Mapped     int // by a row of the mapping

	// Mistakes are why Networks must not be used: it would lack a network, and
	// the holder of the one around it could register there. Each is one line.
	Mistakes []string
}

// maxMistakes bounds what is told.
const maxMistakes = 20

// Select turns an IPAM's networks into the register's: those in the university's
// space and the global table, each with department and use. A network that
// cannot be placed is a mistake, never left out in silence.
func Select(blocks []Block, m *Mapping, campus []netip.Prefix) Selection {
	var s Selection
	chosen := map[netip.Prefix]registration.Network{}
	unmapped := map[string]int{}
	for _, b := range blocks {
		switch {
		case !b.Prefix.IsValid() || b.Prefix.Addr().Is4In6() || b.Prefix != b.Prefix.Masked():
			s.mistake("%s is no network", b.Prefix)
			continue
		case b.VRF != "":
			s.Virtual++
			continue
		case !slices.ContainsFunc(campus, func(c netip.Prefix) bool { return c.Bits() <= b.Prefix.Bits() && c.Contains(b.Prefix.Addr()) }):
			s.Outside++
			continue
		case fold(b.Status) == statusContainer || fold(b.Status) == statusDeprecated:
			s.Containers++
			continue
		}
		department, known := m.Department(b.Tenant)
		if !known {
			unmapped["tenant,"+row(b.Tenant)]++
		}
		use, knownUse := m.Use(b.Role)
		if !knownUse {
			unmapped["role,"+row(b.Role)]++
		}
		if department == LeaveOut || use == LeaveOut {
			s.Mapped++
			continue
		}
		if !known || !knownUse {
			continue
		}
		n := registration.Network{Prefix: b.Prefix, Department: department, Use: use}
		if other, twice := chosen[b.Prefix]; twice && other != n {
			s.mistake("%s is there twice: of %s (%s) and of %s (%s)", b.Prefix, other.Department, other.Use, n.Department, n.Use)
			continue
		}
		chosen[b.Prefix] = n
	}
	for _, key := range slices.Sorted(maps.Keys(unmapped)) {
		what := "DEPARTMENT"
		if strings.HasPrefix(key, "role,") {
			what = "USE"
		}
		s.mistake("no row %s,%s, for %d of the networks", key, what, unmapped[key])
	}
	s.Networks = slices.SortedFunc(maps.Values(chosen), compareNetworks)
	return s
}

func (s *Selection) mistake(format string, args ...any) {
	switch {
	case len(s.Mistakes) < maxMistakes:
		s.Mistakes = append(s.Mistakes, clean(fmt.Sprintf(format, args...)))
	case len(s.Mistakes) == maxMistakes:
		s.Mistakes = append(s.Mistakes, "and more")
	}
}

// row is how a tenant or a role is written in a mapping.
func row(name string) string {
	if name = word(strings.TrimSpace(name)); name == "" {
		return noneSet
	}
	if strings.ContainsAny(name, `,"#`) {
		return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return name
}

// compareNetworks sorts by address, IPv4 first, and the wider network before
// what it holds.
func compareNetworks(a, b registration.Network) int {
	return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
}

// columns of a table, by any of their headings in small letters; the first
// heading is the column's name.
var columns = []struct {
	needed   bool
	headings []string
}{
	{true, []string{"prefix", "network", "cidr", "subnet"}},
	{true, []string{"tenant", "department"}},
	{true, []string{"role", "use"}},
	{false, []string{"status"}},
	{false, []string{"vrf"}},
}

// ParseTable reads networks from comma-separated values with a heading: prefix,
// tenant (or department), role (or use), and, if they are there, status and
// vrf. Other columns do not matter. It is all or nothing.
func ParseTable(data []byte) ([]Block, error) {
	r := newCSV(data)
	heading, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the table is empty")
	}
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for _, c := range columns {
		i := slices.IndexFunc(heading, func(h string) bool { return slices.Contains(c.headings, fold(h)) })
		if i >= 0 {
			at[c.headings[0]] = i
		} else if c.needed {
			return nil, fmt.Errorf("line 1: no column is called %s", strings.Join(c.headings, " or "))
		}
	}
	var blocks []Block
	var wrong []error
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return blocks, errors.Join(wrong...)
		}
		if err != nil {
			return nil, errors.Join(append(wrong, err)...)
		}
		get := func(column string) string {
			if i, ok := at[column]; ok {
				return strings.TrimSpace(row[i])
			}
			return ""
		}
		prefix, err := netip.ParsePrefix(get("prefix"))
		if err != nil || prefix != prefix.Masked() {
			line, _ := r.FieldPos(at["prefix"])
			if wrong = append(wrong, fmt.Errorf("line %d: %q is no network such as 192.0.2.0/24", line, word(get("prefix")))); len(wrong) >= maxMistakes {
				return nil, errors.Join(wrong...)
			}
			continue
		}
		blocks = append(blocks, Block{Prefix: prefix, Tenant: get("tenant"), Role: get("role"), Status: get("status"), VRF: get("vrf")})
		if len(blocks) > maxPrefixes {
			return nil, fmt.Errorf("there are over %d networks", maxPrefixes)
		}
	}
}
