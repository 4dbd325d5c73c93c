package registration

import (
	"net/netip"
	"strings"
	"time"
)

// hostAddress reads one registered address: exactly one canonical unicast
// address. The empty message means that it is one; otherwise the hint says
// what to write.
//
// Whether the address is the university's, private or somebody else's is the
// question of package policy.
func hostAddress(s string) (addr netip.Addr, message, hint string) {
	const each = "register each machine's address in an entry of its own"
	trimmed := strings.TrimSpace(s)
	addr, err := netip.ParseAddr(s)
	switch {
	case trimmed == "":
		return addr, "the address is empty", `write the machine's address, like ip: "192.0.2.21"`
	case trimmed != s:
		return addr, quote(s) + " has blanks around the address", "write " + quote(trimmed)
	case err == nil && addr.Zone() != "":
		return addr, quote(s) + " carries a zone (the part from % on)", "write the address that other networks see, without % and what follows"
	case err == nil && addr.Is4In6():
		return addr, quote(s) + " is an IPv4 address in the disguise of IPv6", "write " + quote(addr.Unmap().String())
	case err == nil && addr.String() != s:
		return addr, quote(s) + " is not the usual way to write this address", "write " + quote(addr.String())
	case err == nil:
		message, hint = unicast(addr)
		return addr, message, hint
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.IsSingleIP() {
			return addr, quote(s) + " is written as a network", "write " + quote(p.Addr().Unmap().String())
		}
		return addr, quote(s) + " is a network, not one address", each + "; whole networks cannot be registered"
	}
	if plain := withoutZeros(s); plain != "" {
		return addr, quote(s) + " has leading zeros", "write " + quote(plain)
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return addr, quote(s) + " carries a port", "write " + quote(ap.Addr().Unmap().String())
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil {
			return addr, quote(s) + " has brackets around the address", "write " + quote(a.String())
		}
	}
	switch {
	case severalAddresses(s):
		return addr, quote(s) + " is more than one address", each
	case strings.ContainsAny(s, "*/"):
		return addr, quote(s) + " is not one address", each + "; patterns and networks cannot be registered"
	case strings.ContainsAny(s, "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ") && !strings.Contains(s, ":"):
		return addr, quote(s) + " is a name, not an address", "write the address that the name stands for; the name goes into the field name"
	}
	return addr, quote(s) + " is not an IP address", `write four numbers from 0 to 255 with dots between them, like "192.0.2.21", or an IPv6 address, like "2001:db8::21"`
}

// unicast refuses what cannot be the address of one machine.
func unicast(a netip.Addr) (message, hint string) {
	const own = "write the machine's own address"
	switch {
	case a.IsUnspecified():
		return quote(a.String()) + " stands for no address at all", own
	case a.IsMulticast():
		return quote(a.String()) + " is a multicast address, which belongs to a group", own
	case a.Is4() && a.As4()[0] == 0:
		return quote(a.String()) + " is no machine's address (0.0.0.0/8)", own
	case a.Is4() && a.As4()[0] >= 240: // class E and the broadcast address
		return quote(a.String()) + " is reserved (240.0.0.0/4)", own
	}
	return "", ""
}

// withoutZeros takes the leading zeros off a dotted address that is one
// otherwise; "" when it is none.
func withoutZeros(s string) string {
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return ""
	}
	for i, p := range parts {
		if parts[i] = strings.TrimLeft(p, "0"); parts[i] == "" && p != "" {
			parts[i] = "0"
		}
	}
	plain := strings.Join(parts, ".")
	if a, err := netip.ParseAddr(plain); err != nil || !a.Is4() || plain == s {
		return ""
	}
	return plain
}

// severalAddresses recognises ranges and lists: the first piece is an address.
func severalAddresses(s string) bool {
	i := strings.IndexAny(s, "-–,; ")
	if i < 0 {
		i = strings.Index(s, "..")
	}
	if i < 0 {
		return false
	}
	_, err := netip.ParseAddr(strings.TrimSpace(s[:i]))
	return err == nil
}

// network reads a prefix in its one canonical form.
func network(s string) (p netip.Prefix, message, hint string) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err == nil && p.Addr().Is4In6():
		return p, quote(s) + " is an IPv4 network in the disguise of IPv6", `write it as IPv4, like "192.0.2.0/24"`
	case err == nil && p.Masked() != p:
		return p, quote(s) + " has an address inside the network before the slash", "write " + quote(p.Masked().String())
	case err == nil && p.String() != s:
		return p, quote(s) + " is not the usual way to write this network", "write " + quote(p.String())
	case err == nil:
		return p, "", ""
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return p, quote(s) + " is an address, not a network", "write " + quote(netip.PrefixFrom(a, a.BitLen()).String())
	}
	return p, quote(s) + " is not a network", `write an address, a slash and the length, like "192.0.2.0/24" or "2001:db8::/32"`
}

// mailbox checks the shape of an e-mail address as people write it.
func mailbox(s string) (message, hint string) {
	const like = `write one plain address, like "physics-it@example.edu"`
	local, domain, found := strings.Cut(s, "@")
	switch {
	case strings.ContainsAny(s, "<>\" ,;:\t"):
		return quote(s) + " is not one plain e-mail address", like + ", without a name, blanks or brackets; a second person gets the mail through a shared mailbox"
	case !found:
		return quote(s) + " has no @", like
	case strings.Contains(domain, "@"):
		return quote(s) + " has more than one @", like
	case !isLocal(local):
		return quote(s) + " has nothing usable before the @", like
	case !isDomain(domain):
		return quote(s) + " has no usable domain after the @", like
	case len(s) > 254:
		return "the e-mail address is longer than 254 characters", like
	}
	return "", ""
}

// sender checks an entry of senders: a mailbox, or "*@" and a domain.
func sender(s string) (message, hint string) {
	const like = `write a mailbox, like "scan@physics.example.edu", or *@ and a domain, like "*@physics.example.edu"`
	domain, all := strings.CutPrefix(s, "*@")
	switch {
	case s == "*" || s == "*@*":
		return quote(s) + " means any sender", "delete senders to allow any, or " + like
	case all && isDomain(domain):
		return "", ""
	case strings.Contains(s, "*"):
		return quote(s) + " has a * in a place where it means nothing", like
	case !strings.Contains(s, "@") && isDomain(s):
		return quote(s) + " is a domain without a mailbox", "write " + quote("*@"+strings.ToLower(s))
	}
	if message, _ := mailbox(s); message != "" {
		return message, like
	}
	return "", ""
}

// isLocal reports whether s is a dot-string (RFC 5321 §4.1.2) of ASCII.
func isLocal(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>[]:;@\,"*`, c) >= 0 {
			return false
		}
	}
	return true
}

// isDomain reports whether s is a host name of at least two labels, of letters,
// digits, hyphens and underscores (RFC 5321 §4.1.2; the underscore is seen in
// the wild).
func isDomain(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	// A name whose last label is all digits would be an address (RFC 1123 §2.1).
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.Trim(last, "0123456789") != ""
}

// hostName checks a machine's name.
func hostName(s string) (message, hint string) {
	const like = `write the machine's full name in the DNS, like "mfp1.physics.example.edu"`
	switch {
	case isDomain(s):
		return "", ""
	case strings.HasSuffix(s, ".") && isDomain(strings.TrimSuffix(s, ".")):
		return quote(s) + " ends in a dot", "write " + quote(strings.TrimSuffix(s, "."))
	case !strings.Contains(s, "."):
		return quote(s) + " is not a full name", like
	}
	return quote(s) + " is not a host name", like
}

// day reads a date, YYYY-MM-DD, as the midnight that begins it in UTC.
func day(s string) (t time.Time, message, hint string) {
	t, err := time.Parse(time.DateOnly, s)
	switch {
	case err != nil && strings.Contains(err.Error(), "out of range"):
		return t, quote(s) + " is not in the calendar", `write year-month-day, like "2027-11-30"`
	case err != nil:
		return t, quote(s) + " is not a date", `write year-month-day, like "2027-11-30"`
	case t.Year() < 2000 || t.Year() > 9998:
		return t, quote(s) + " is not a usable date", `write year-month-day, like "2027-11-30"`
	}
	return t, "", ""
}

// instant reads a time with its zone.
func instant(s string) (t time.Time, message, hint string) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Nanosecond() != 0 {
		return t, quote(s) + " is not a time with its zone", `write it like "2026-11-23T08:00:00Z"; Z stands for UTC`
	}
	if t.Year() < 2000 || t.Year() > 9998 {
		return t, quote(s) + " is not a usable time", `write it like "2026-11-23T08:00:00Z"; Z stands for UTC`
	}
	return t.UTC(), "", ""
}
