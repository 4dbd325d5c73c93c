package evidence

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// poolWords are what the names of addresses that change hands are made of.
var poolWords = []string{
	"dhcp", "dyn", "dynamic", "pool", "ppp", "dialup", "dsl", "resnet", "wifi", "wireless", "wlan",
	"eduroam", "vpn", "guest", "nat", "mobile", "roaming",
}

// poolName says why a host name looks like one that is made up for every
// address of a pool; "" if it does not. Such a name proves nothing: it is as
// true of the next machine that gets the address.
func poolName(name string, ip netip.Addr) string {
	labels := strings.Split(strings.ToLower(name), ".")
	labels = labels[:max(len(labels)-2, 1)] // the domain itself says nothing of the machine
	for _, label := range labels {
		for part := range strings.FieldsFuncSeq(label, func(r rune) bool { return r < 'a' || r > 'z' }) {
			if slices.Contains(poolWords, part) {
				return fmt.Sprintf("%q is in the name", part)
			}
		}
	}
	if ip.Is4() && spells(strings.Join(labels, "-"), ip.As4()) {
		return "the address is in the name"
	}
	return ""
}

// spells reports whether a name holds the four numbers of an address, forwards
// or backwards, or as eight hexadecimal digits.
func spells(name string, ip [4]byte) bool {
	if strings.Contains(name, fmt.Sprintf("%02x%02x%02x%02x", ip[0], ip[1], ip[2], ip[3])) {
		return true
	}
	var numbers []string
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r < '0' || r > '9' }) {
		if part = strings.TrimLeft(part, "0"); part == "" {
			part = "0"
		}
		numbers = append(numbers, part)
	}
	want := make([]string, 4)
	for i, octet := range ip {
		want[i] = fmt.Sprint(octet)
	}
	for range 2 {
		for i := 0; i+4 <= len(numbers); i++ {
			if slices.Equal(numbers[i:i+4], want) {
				return true
			}
		}
		slices.Reverse(want)
	}
	return false
}
