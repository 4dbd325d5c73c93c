package history_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// A version is what a file of the register says, as the model knows it. Each
// has a number that the file carries along, so that it can be told in a
// snapshot which version of a file is in force.
type version struct {
	id     int
	text   string
	broken string // why nothing can come of it, whatever else there is; "" if it is fine by itself

	department string // of a registration
	hosts      []netip.Addr
	perDay     int
	expires    time.Time

	networks    []held // of campus/networks.cue
	departments []string

	prefix       netip.Prefix // of a block
	since, until time.Time

	most int // of the site rules: the cap on perDay, 0 for none
}

// held is one network and who holds it.
type held struct {
	prefix netip.Prefix
	holder string
	use    string
}

// faults are the ways in which a registration can be wrong, whoever holds its
// addresses.
var faults = []struct {
	name  string
	spoil func(string) string
}{
	{"syntax", func(s string) string { return s[:min(len(s)/2, 200)] }}, // half of one that is too large would be whole
	{"empty", func(string) string { return "" }},
	{"not data", func(s string) string { return strings.Replace(s, "perDay: ", "perDay: 2*", 1) }},
	{"missing field", func(s string) string { return strings.Replace(s, "whyNoAuth", "// whyNoAuth", 1) }},
	{"unknown field", func(s string) string { return s + "extra: 1\n" }},
	{"not accepted", func(s string) string { return strings.Replace(s, "notBulk: true", "notBulk: false", 1) }},
	{"other folder", func(s string) string { return strings.Replace(s, `department: "`, `department: "x`, 1) }},
	{"too large", func(s string) string { return s + "//" + strings.Repeat(" ", registration.MaxFile) }},
	{"not UTF-8", func(s string) string { return s + "// \xff\n" }},
	{"bad address", func(s string) string { return strings.ReplaceAll(s, `{ip: "`, `{ip: "0`) }},
	{"contact elsewhere", func(s string) string { return strings.Replace(s, "it@umich.edu", "it@example.org", 1) }},
}

// newRegistration is version id of a registration of some hosts.
func newRegistration(id int, department string, hosts []netip.Addr, perDay int, expires time.Time) *version {
	var list strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&list, "\t{ip: %q, name: \"mfp.umich.edu\", kind: \"printer\"},\n", h)
	}
	return &version{
		id: id, department: department, hosts: hosts, perDay: perDay, expires: expires.AddDate(0, 0, 1),
		text: fmt.Sprintf(`department: %q
contact: {name: "IT", email: "it@umich.edu"}
purpose:   "Scan-to-email, version %d"
whyNoAuth: "The firmware has no SMTP AUTH client."
hosts: [
%s]
volume:  {perHour: 10, perDay: %d}
expires: %q
accept:  {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`, department, id, list.String(), perDay, expires.Format(time.DateOnly)),
	}
}

// spoilt is v with a fault.
func (v *version) spoilt(fault int) *version {
	bad := *v
	f := faults[fault%len(faults)]
	bad.broken, bad.text = f.name, f.spoil(v.text)
	return &bad
}

// newNetworks is version id of campus/networks.cue.
func newNetworks(id int, networks ...held) *version {
	// Of all that is in force, only this line tells which version it is.
	networks = append(networks, held{netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", id>>8&255, id&255)), "its", "dhcp"})
	v := &version{id: id, networks: networks}
	var b strings.Builder
	b.WriteString("campus: [\"141.211.0.0/16\", \"10.0.0.0/8\", \"2607:f018::/32\"]\nnetworks: {\n")
	for _, n := range networks {
		fmt.Fprintf(&b, "\t%q: {department: %q, use: %q}\n", n.prefix, n.holder, n.use)
	}
	v.text = b.String() + "}\n"
	return v
}

// newDepartments is version id of campus/departments.cue.
func newDepartments(id int, departments ...string) *version {
	v := &version{id: id, departments: departments}
	var b strings.Builder
	b.WriteString("departments: {\n")
	for _, d := range departments {
		fmt.Fprintf(&b, "\t%q: {name: \"Version %d\", speakers: [{github: \"octocat\", id: 583231}], contactDomains: [\"umich.edu\"]}\n", d, id)
	}
	v.text = b.String() + "}\n"
	return v
}

// newBlock is version id of a block.
func newBlock(id int, prefix netip.Prefix, since, until time.Time) *version {
	text := fmt.Sprintf("block: {prefix: %q, reason: \"version %d\", since: %q", prefix, id, since.UTC().Format(time.RFC3339))
	if !until.IsZero() {
		text += fmt.Sprintf(", until: %q", until.UTC().Format(time.RFC3339))
	}
	return &version{id: id, prefix: prefix, since: since, until: until, text: text + "}\n"}
}

// newSiteRules is version id of schema/site.cue.
func newSiteRules(id, most int) *version {
	return &version{id: id, most: most, text: fmt.Sprintf("// version %d\n#Registration: volume: perDay: <=%d\n", id, most)}
}

// allowed reports whether what v says of its addresses holds under the campus
// and the site's rules that are in force: plain loops, no tables.
func (v *version) allowed(networks, departments, site *version) bool {
	if v.broken != "" || site != nil && site.most > 0 && v.perDay > site.most {
		return false
	}
	if departments == nil || networks == nil || !slices.Contains(departments.departments, v.department) {
		return false
	}
	for _, h := range v.hosts {
		var best held
		for _, n := range networks.networks {
			if n.prefix.Contains(h) && (!best.prefix.IsValid() || n.prefix.Bits() > best.prefix.Bits()) {
				best = n
			}
		}
		if best.holder != v.department || best.use != "static" {
			return false
		}
	}
	return true
}
