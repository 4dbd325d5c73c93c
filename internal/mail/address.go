package mail

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Limits of RFC 5321 §4.5.3.1, in octets.
const (
	MaxLocal  = 64
	MaxDomain = 255
	MaxPath   = 254 // without the angle brackets
)

// An Address is a mailbox as SMTP knows it. Local is the meaning of the local
// part, without quoting; String quotes it where the grammar asks for it, so
// that nothing in it can become syntax further down. The zero Address is the
// null reverse-path. Only "postmaster" may stand without a domain
// (RFC 5321 §4.5.1).
type Address struct {
	Local  string
	Domain string // a host name, a U-label name, or an address literal in brackets
}

var errAddress = errors.New("mail: not a mailbox")

// NewAddress checks a local part (unquoted) and a domain and makes an Address
// of them. With allowUTF8 both may hold UTF-8 beyond ASCII (RFC 6531 §3.3).
// Control characters, over-long parts and domains that are neither host names
// nor address literals are refused. Case is kept.
func NewAddress(local, domain string, allowUTF8 bool) (Address, error) {
	a := Address{Local: local, Domain: domain}
	switch {
	case local == "":
		return Address{}, fmt.Errorf("%w: the local part is empty", errAddress)
	case len(local) > MaxLocal:
		return Address{}, fmt.Errorf("%w: the local part is longer than %d octets", errAddress, MaxLocal)
	case len(domain) > MaxDomain || len(local)+len(domain)+1 > MaxPath:
		return Address{}, fmt.Errorf("%w: longer than %d octets", errAddress, MaxPath)
	case domain == "" && !strings.EqualFold(local, "postmaster"):
		return Address{}, fmt.Errorf("%w: no domain", errAddress)
	}
	if err := checkText(local, allowUTF8); err != nil {
		return Address{}, err
	}
	if domain != "" {
		if err := checkDomain(domain, allowUTF8); err != nil {
			return Address{}, err
		}
	}
	return a, nil
}

// ParseAddress reads a mailbox in its written form, without angle brackets:
// user@example.org or "john smith"@example.org.
func ParseAddress(s string, allowUTF8 bool) (Address, error) {
	if len(s) > 2*MaxPath { // quoting can double a local part, no more
		return Address{}, fmt.Errorf("%w: longer than %d octets", errAddress, MaxPath)
	}
	if !strings.HasPrefix(s, `"`) {
		local, domain, at := strings.Cut(s, "@")
		if at && domain == "" {
			return Address{}, fmt.Errorf("%w: nothing behind the @", errAddress)
		}
		if !isDotString(local) {
			return Address{}, fmt.Errorf("%w: %q needs quotes or is empty", errAddress, local)
		}
		return NewAddress(local, domain, allowUTF8)
	}
	var local strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			if i == len(s) {
				return Address{}, fmt.Errorf("%w: ends in a backslash", errAddress)
			}
			local.WriteByte(s[i])
		case '"':
			domain, ok := strings.CutPrefix(s[i+1:], "@")
			if !ok || domain == "" {
				return Address{}, fmt.Errorf("%w: no @ and domain after the quoted local part", errAddress)
			}
			return NewAddress(local.String(), domain, allowUTF8)
		default:
			local.WriteByte(s[i])
		}
	}
	return Address{}, fmt.Errorf("%w: the quote is not closed", errAddress)
}

// IsNull reports whether a is the null reverse-path.
func (a Address) IsNull() bool { return a == Address{} }

// IsASCII reports whether a can be sent without SMTPUTF8.
func (a Address) IsASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

// String is the written form without angle brackets, quoted where needed; ""
// for the null reverse-path.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	local := a.Local
	if !isDotString(local) {
		var b strings.Builder
		b.WriteByte('"')
		for i := range len(local) {
			if local[i] == '"' || local[i] == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(local[i])
		}
		b.WriteByte('"')
		local = b.String()
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// Path is the written form between angle brackets, as in MAIL and RCPT.
func (a Address) Path() string { return "<" + a.String() + ">" }

// MarshalText writes the form of String, for JSON.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	got, err := ParseAddress(string(text), true)
	if err != nil {
		return err
	}
	*a = got
	return nil
}

// checkText refuses what no local part may hold: control characters always,
// anything but valid UTF-8 with allowUTF8, anything but ASCII without.
func checkText(s string, allowUTF8 bool) error {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return fmt.Errorf("%w: it holds a control character", errAddress)
		case c >= utf8.RuneSelf && !allowUTF8:
			return fmt.Errorf("%w: it is not ASCII and SMTPUTF8 was not asked for", errAddress)
		}
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: it is not valid UTF-8", errAddress)
	}
	return nil
}

// checkDomain accepts a host name of letters, digits and hyphens (and, with
// allowUTF8, letters beyond ASCII) or an address literal. RFC 5321 §4.1.2, §4.1.3.
func checkDomain(s string, allowUTF8 bool) error {
	if literal, ok := strings.CutPrefix(s, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		six := len(literal) > 5 && strings.EqualFold(literal[:5], "ipv6:")
		if six {
			literal = literal[5:]
		}
		ip, err := netip.ParseAddr(literal)
		if !ok || err != nil || ip.Zone() != "" || ip.Is6() != six {
			return fmt.Errorf("%w: %q is no address literal", errAddress, s)
		}
		return nil
	}
	if err := checkText(s, allowUTF8); err != nil {
		return err
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("%w: %q is no domain", errAddress, s)
		}
		for i := range len(label) {
			c := label[i]
			alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
			if !alnum && c != '-' && c != '_' && c < utf8.RuneSelf { // '_' is seen in the wild and harmless
				return fmt.Errorf("%w: %q is no domain", errAddress, s)
			}
		}
	}
	return nil
}

// isDotString reports whether s is a Dot-string (RFC 5321 §4.1.2), extended by
// RFC 6531 §3.3, and so needs no quotes.
func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c == 0x7f || strings.IndexByte(`()<>[]:;@\,"`, c) >= 0 {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
