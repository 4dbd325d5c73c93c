package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// check tells what a registration breaks other than by claiming an address
// that another one claims, and reports whether it may be built:
//
//	unknown-department  its department is one of campus/
//	contact-domain      its contact's address is in one of the department's domains
//	bad-ip              each address is one public unicast address, or in space that campus names
//	ip-not-campus       each address is the university's
//	ip-not-owned        each address is in a network of the department
//	ip-pool             no address is in a pool
//	ip-blocked          no address is blocked today (warning)
//	volume              not over the site's cap
//	accept              every condition is accepted
//	expired             today is not after the last day (warning)
//	expiry-too-far      the last day is at most two years ahead (built all the same)
func (b *builder) check(c *judged) bool {
	valid := true
	fail := func(at registration.Pos, rule registration.Rule, message, hint string) {
		valid = false
		b.report(c.file.Path, at, rule, registration.Error, message, hint)
	}
	r := c.file.Registration

	d := b.s.departments[r.Department].Department
	switch {
	case d != nil:
		if !inDomains(r.Contact.Email, d.ContactDomains) {
			fail(r.At.Email, registration.RuleContactDomain,
				fmt.Sprintf("%s is not an address that %s may be reached at", r.Contact.Email, r.Department),
				"use an address that the department reads, at "+orList(d.ContactDomains))
		}
	case b.campusBroken:
		valid = false
	default:
		fail(r.At.Department, registration.RuleUnknownDepartment,
			fmt.Sprintf("there is no department %q", r.Department), b.nearestDepartment(r.Department))
	}
	for i := range r.Hosts {
		if !b.checkAddress(c, &r.Hosts[i], fail) {
			valid = false
		}
	}
	b.checkVolume(r, fail)
	checkAccept(r, fail)
	b.checkExpiry(c)
	return valid
}

// checkAddress applies the rules about one address. The first one broken is
// the one to mend, so it is the only one told; ip-blocked aside.
func (b *builder) checkAddress(c *judged, h *registration.Host, fail func(registration.Pos, registration.Rule, string, string)) bool {
	if why := badAddress(h.IP); why != "" {
		fail(h.At, registration.RuleBadIP, fmt.Sprintf("%s %s", h.IP, why), "write one ordinary IPv4 or IPv6 address")
		return false
	}
	b.checkBlock(c, h)
	prefix, campus := b.s.campus.Lookup(h.IP)
	space, what := special(h.IP)
	network, held := b.s.networks.Lookup(h.IP)
	switch {
	case b.campusBroken:
		return campus && held && network.Department == c.file.Registration.Department && isStatic(network.Use)
	case space.IsValid() && (!campus || prefix.Bits() < space.Bits()):
		fail(h.At, registration.RuleBadIP, fmt.Sprintf("%s is %s", h.IP, what),
			"register the address that the relay sees, after any address translation")
	case !campus:
		fail(h.At, registration.RuleIPNotCampus, fmt.Sprintf("%s is not one of the university's addresses", h.IP),
			"only machines on the campus network can use the relay; check the address for a slip of the finger")
	case !held:
		fail(h.At, registration.RuleIPNotOwned, fmt.Sprintf("%s is in no department's network", h.IP),
			"ask the network team to record who holds it in registrations/campus/")
	case !isStatic(network.Use):
		fail(h.At, registration.RuleIPPool,
			fmt.Sprintf("%s is in %s, a pool (%s) whose addresses change hands; see %s", h.IP, network.Prefix, network.Use, place(network.File, network.At)),
			"give the machine a static address and register that")
	case network.Department != c.file.Registration.Department:
		fail(h.At, registration.RuleIPNotOwned,
			fmt.Sprintf("%s is in %s, which %s holds and %s does not; see %s", h.IP, network.Prefix, network.Department, c.file.Registration.Department, place(network.File, network.At)),
			fmt.Sprintf("check the address; if it is right, %s registers it, or the network team corrects the holder", network.Department))
	default:
		return true
	}
	return false
}

func (b *builder) checkBlock(c *judged, h *registration.Host) {
	if b.o.Now.IsZero() {
		return
	}
	if block := b.s.Block(h.IP, b.o.Now); block != nil {
		until := "until a postmaster lifts it"
		if !block.Until.IsZero() {
			until = "until " + block.Until.UTC().Format("2006-01-02 15:04 UTC")
		}
		b.report(c.file.Path, h.At, registration.RuleIPBlocked, registration.Warning,
			fmt.Sprintf("%s is blocked (%s) by %s %s", h.IP, block.Reason, place(block.Path, block.At), until),
			"write to the postmaster; while the block stands the machine cannot send")
	}
}

func (b *builder) checkVolume(r *registration.Registration, fail func(registration.Pos, registration.Rule, string, string)) {
	over := func(name string, asked, limit int) {
		if limit > 0 && asked > limit {
			fail(r.At.Volume, registration.RuleVolume, fmt.Sprintf("%s: %d is over the site's limit of %d", name, asked, limit),
				"ask for what the machines really send; for bulk mail use the university's mailing service")
		}
	}
	over("perHour", r.Volume.PerHour, b.o.MaxVolume.PerHour)
	over("perDay", r.Volume.PerDay, b.o.MaxVolume.PerDay)
}

func checkAccept(r *registration.Registration, fail func(registration.Pos, registration.Rule, string, string)) {
	var missing []string
	for _, condition := range []struct {
		name string
		ok   bool
	}{
		{"policies", r.Accept.Policies},
		{"notBulk", r.Accept.NotBulk},
		{"notWorkstation", r.Accept.NotWorkstation},
		{"noMailServer", r.Accept.NoMailServer},
	} {
		if !condition.ok {
			missing = append(missing, condition.name)
		}
	}
	if len(missing) > 0 {
		fail(r.At.Accept, registration.RuleAccept, "not accepted: "+strings.Join(missing, ", "),
			"if the conditions hold for these machines, set each to true; if not, the relay is not for them")
	}
}

func (b *builder) checkExpiry(c *judged) {
	r, latest := c.file.Registration, b.o.Now.UTC().AddDate(MaxAhead, 0, 0).Format(time.DateOnly)
	c.term = b.term(r)
	switch c.term.word {
	case expired:
		b.report(c.file.Path, r.At.Expires, registration.RuleExpired, registration.Warning,
			fmt.Sprintf("%s was the last day of this registration", lastDay(r.Expires)),
			"if the machines are still in use, set expires to a later day, at most "+latest)
	case tooFar:
		b.report(c.file.Path, r.At.Expires, registration.RuleExpiryTooFar, registration.Error,
			fmt.Sprintf("%s is more than %d years ahead", lastDay(r.Expires), MaxAhead),
			"set expires to "+latest+" or earlier, and renew it then")
	}
}

// A term is what there is to say of a registration's last day, and on which
// day it was said where the words depend on that.
type term struct {
	word termWord
	day  int32 // since 1970
}

type termWord uint8

const (
	inTerm termWord = iota
	expired
	tooFar
)

const aDay = 24 * time.Hour

// dayOf numbers the day of a time in UTC, from 1970 on; 0 for no time.
func dayOf(t time.Time) int32 {
	if t.IsZero() {
		return 0
	}
	return int32(t.Unix() / int64(aDay/time.Second))
}

// term judges the last day, and says the same at any time of one day, as what
// it judges ends at midnight. It is cheap: once a day With asks it of every
// registration.
func (b *builder) term(r *registration.Registration) term {
	now := b.o.Now.UTC()
	if now.IsZero() {
		return term{}
	}
	today := dayOf(now)
	switch latest := now.AddDate(MaxAhead, 0, 0).Truncate(aDay); {
	case !now.Before(r.Expires):
		return term{expired, today}
	case !r.Expires.Before(latest.Add(2 * aDay)): // Expires is the midnight after the last day
		return term{tooFar, today}
	}
	return term{}
}

// badAddress says what keeps ip from ever being registered, or "".
func badAddress(ip netip.Addr) string {
	switch {
	case !ip.IsValid():
		return "is no address"
	case ip.Zone() != "":
		return "has a zone"
	case ip.Is4In6():
		return "is an IPv4 address in IPv6 form"
	case ip.IsUnspecified():
		return "is the unspecified address"
	case ip.IsMulticast():
		return "is a multicast address"
	case ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address"
	}
	return ""
}

// special is the special-purpose space (RFC 6890 and its registries) that ip
// lies in, and what it is called. Such an address registers only where campus
// names space of that kind itself, as a prefix at least as long.
func special(ip netip.Addr) (netip.Prefix, string) {
	if ip.Is4() {
		a := ip.As4()
		switch {
		case a[0] == 0:
			return v4(0, 0, 0, 8), "an address of 'this network'"
		case a[0] == 10:
			return v4(10, 0, 0, 8), "a private address"
		case a[0] == 100 && a[1]&0xc0 == 64:
			return v4(100, 64, 0, 10), "a carrier's shared address"
		case a[0] == 127:
			return v4(127, 0, 0, 8), "a loopback address"
		case a[0] == 169 && a[1] == 254:
			return v4(169, 254, 0, 16), "a link-local address"
		case a[0] == 172 && a[1]&0xf0 == 16:
			return v4(172, 16, 0, 12), "a private address"
		case a[0] == 192 && a[1] == 0 && a[2] == 0:
			return v4(192, 0, 0, 24), "an address reserved for protocols"
		case a[0] == 192 && a[1] == 0 && a[2] == 2:
			return v4(192, 0, 2, 24), "an address for documentation"
		case a[0] == 192 && a[1] == 168:
			return v4(192, 168, 0, 16), "a private address"
		case a[0] == 198 && a[1]&0xfe == 18:
			return v4(198, 18, 0, 15), "an address for benchmarks"
		case a[0] == 198 && a[1] == 51 && a[2] == 100:
			return v4(198, 51, 100, 24), "an address for documentation"
		case a[0] == 203 && a[1] == 0 && a[2] == 113:
			return v4(203, 0, 113, 24), "an address for documentation"
		case a[0] >= 240:
			return v4(240, 0, 0, 4), "a reserved address"
		}
		return netip.Prefix{}, ""
	}
	a := ip.As16()
	in := func(what string, bits int) (netip.Prefix, string) {
		return netip.PrefixFrom(ip, bits).Masked(), what
	}
	switch {
	case ip.IsLoopback():
		return in("a loopback address", 128)
	case a[0]&0xfe == 0xfc:
		return in("a private address", 7)
	case a[0] == 0xfe && a[1]&0xc0 == 0x80:
		return in("a link-local address", 10)
	case a[0] == 0xfe && a[1]&0xc0 == 0xc0:
		return in("a site-local address", 10)
	case a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8:
		return in("an address for documentation", 32)
	case a[0] == 0x20 && a[1] == 0x01 && a[2]&0xfe == 0:
		return in("an address reserved for protocols", 23)
	case a[0] == 0x20 && a[1] == 0x02:
		return in("a 6to4 address", 16)
	case a[0]&0xe0 != 0x20: // global unicast is 2000::/3 (RFC 4291 §2.4, IANA)
		return in("outside the global unicast space", 3)
	}
	return netip.Prefix{}, ""
}

func v4(a, b, c byte, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c, 0}), bits)
}

// isStatic reports whether addresses of a network with that use may register.
func isStatic(use string) bool { return use == "static" }

// inDomains reports whether email is at exactly one of domains.
func inDomains(email string, domains []string) bool {
	_, domain, ok := strings.Cut(email, "@")
	return ok && slices.ContainsFunc(domains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// maxNearest bounds how many departments that do not exist are compared with
// all that do: that takes the product of the two.
const maxNearest = 100

const departmentsHint = "the departments are in registrations/campus/departments.cue; a new one is added there first"

// nearestDepartment is the hint for a department that does not exist.
func (b *builder) nearestDepartment(id string) string {
	if hint, ok := b.nearest[id]; ok {
		return hint
	}
	if len(b.nearest) >= maxNearest {
		return departmentsHint
	}
	best, least := "", max(2, len(id)/3)+1
	for _, known := range slices.Sorted(maps.Keys(b.s.departments)) {
		if d := distance(id, known, least); d < least {
			best, least = known, d
		}
	}
	hint := departmentsHint
	if best != "" {
		hint = fmt.Sprintf("did you mean %q? ", best) + hint
	}
	b.nearest[id] = hint
	return hint
}

// distance is how many letters to change, add or drop to make b of a, or limit
// if it is that many or more.
func distance(a, b string, limit int) int {
	const longest = 64 // bounds the work: ids are short
	if len(a) > longest || len(b) > longest || len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return min(row[len(b)], limit)
}

// orList is "a, b or c".
func orList(list []string) string {
	switch n := len(list); n {
	case 0:
		return "a domain that campus/departments.cue gives the department (it gives none)"
	case 1:
		return list[0]
	default:
		return strings.Join(list[:n-1], ", ") + " or " + list[n-1]
	}
}
