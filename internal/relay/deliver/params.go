package deliver

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"example.edu/gatepost/internal/mail"
)

// mailCommand is MAIL with the parameters that this next hop knows.
func (s *session) mailCommand(env *mail.Envelope, size int64, path string, smtputf8 bool) string {
	var b strings.Builder
	b.WriteString("MAIL FROM:" + path)
	if s.has("SIZE") && size > 0 { // RFC 1870 §6
		b.WriteString(" SIZE=" + strconv.FormatInt(size, 10))
	}
	// RFC 6152 §3. Where 8BITMIME is not offered the body goes out as it is,
	// see the package comment.
	if s.has("8BITMIME") && (env.Body == mail.Body8Bit || env.Body == mail.BodyBinary) {
		b.WriteString(" BODY=8BITMIME")
	}
	if smtputf8 { // RFC 6531 §3.4
		b.WriteString(" SMTPUTF8")
	}
	if env.RequireTLS { // RFC 8689 §4.2.1
		b.WriteString(" REQUIRETLS")
	}
	if s.has("DSN") { // RFC 3461 §4.3, §4.4
		if env.Ret == "FULL" || env.Ret == "HDRS" {
			b.WriteString(" RET=" + env.Ret)
		}
		if id := xtext(env.EnvID); id != "" && len(id) <= 100 {
			b.WriteString(" ENVID=" + id)
		}
	}
	return b.String()
}

// rcptCommand is RCPT with the parameters that this next hop knows.
func (s *session) rcptCommand(to *mail.Recipient, path string, smtputf8 bool) string {
	var b strings.Builder
	b.WriteString("RCPT TO:" + path)
	if s.has("DSN") { // RFC 3461 §4.1, §4.2
		if n := notify(to.Notify); n != "" {
			b.WriteString(" NOTIFY=" + n)
		}
		if o := orcpt(to.ORcpt, smtputf8); o != "" && len(o) <= 500 {
			b.WriteString(" ORCPT=" + o)
		}
	}
	return b.String()
}

// notify keeps of a NOTIFY value the words of RFC 3461 §4.1.
func notify(s string) string {
	var words []string
	for w := range strings.SplitSeq(strings.ToUpper(s), ",") {
		switch w = strings.TrimSpace(w); w {
		case "NEVER":
			return w
		case "SUCCESS", "FAILURE", "DELAY":
			words = append(words, w)
		}
	}
	return strings.Join(words, ",")
}

// orcpt encodes an original recipient for the wire; "" if it has no encoding.
// RFC 3461 §4.2, RFC 6533 §3.
func orcpt(s string, smtputf8 bool) string {
	kind, addr, ok := strings.Cut(s, ";")
	if !ok || addr == "" || kind == "" || strings.Trim(kind, "-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return ""
	}
	if !strings.EqualFold(kind, "utf-8") {
		if x := xtext(addr); x != "" {
			return kind + ";" + x
		}
		return ""
	}
	if !utf8.ValidString(addr) {
		return ""
	}
	var b strings.Builder
	for _, c := range addr {
		switch {
		case c > ' ' && c < 0x7f && c != '+' && c != '=' && c != '\\', c >= utf8.RuneSelf && smtputf8:
			b.WriteRune(c)
		case c == 0:
			return ""
		default:
			h := strings.ToUpper(strconv.FormatInt(int64(c), 16))
			if len(h) == 1 {
				h = "0" + h
			}
			b.WriteString(`\x{` + h + `}`)
		}
	}
	return kind + ";" + b.String()
}

// xtext encodes printable ASCII and spaces; anything else has no place in it
// (RFC 3461 §4, §4.4) and gives "".
func xtext(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c < ' ' || c > '~':
			return ""
		case c == ' ' || c == '+' || c == '=':
			b.WriteByte('+')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&0xf])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// wirePath is an address as it goes on the wire. needs8 says that it cannot go
// to a host without SMTPUTF8: a domain can be written in A-labels, a local
// part cannot (RFC 6531 §3.2). ok is false for what must not be written at
// all; package mail lets no such address through, but this is where it would
// become syntax.
func wirePath(a mail.Address, smtputf8 bool) (path string, needs8, ok bool) {
	if !smtputf8 && !a.IsASCII() {
		if domain, err := aLabels(a.Domain); err == nil {
			a.Domain = domain
		}
	}
	path = a.Path()
	for i := range len(path) {
		if path[i] < ' ' || path[i] == 0x7f {
			return "", false, false
		}
	}
	return path, !a.IsASCII(), true
}

// aLabels is a domain in lower case and ASCII. RFC 5891 §5. A domain that is
// ASCII already is not judged: some hold an underscore.
func aLabels(domain string) (string, error) {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	for i := range len(domain) {
		if domain[i] >= utf8.RuneSelf {
			return idna.Lookup.ToASCII(domain)
		}
	}
	return domain, nil
}
