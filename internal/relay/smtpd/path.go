package smtpd

import (
	"errors"
	"strings"

	"example.edu/gatepost/internal/mail"
)

// A mailPath is the argument of MAIL or RCPT, taken apart: the address with its
// quoting resolved, and the parameters, upper-case names first seen first.
type mailPath struct {
	addr   mail.Address
	params []param
	sloppy bool // a blank stood before it or before the colon, or it has no brackets
}

type param struct {
	name  string // upper case
	value string
	bare  bool // no "=" was given
}

var (
	errForm    = errors.New("smtpd: not of the form of the command")
	errMailbox = errors.New("smtpd: not a mailbox")
	errTwice   = errors.New("smtpd: a parameter is given twice")
)

// parsePath reads what follows "FROM:" or "TO:". RFC 5321 §4.1.2, §3.3. It is
// lenient where nothing can be misread: blanks before the path or angle brackets
// missing (mailPath.sloppy; the caller decides), a source route, which is
// ignored (RFC 5321 appendix C). The address
// may hold UTF-8; the caller checks that against SMTPUTF8.
func parsePath(s string, null bool) (mailPath, error) {
	given := s
	s = strings.TrimLeft(s, " \t")
	mailbox, rest, ok := cutPath(s)
	if !ok {
		return mailPath{}, errForm
	}
	if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return mailPath{}, errForm
	}
	p := mailPath{sloppy: len(s) != len(given) || !strings.HasPrefix(s, "<")}
	if mailbox == "" && null && strings.HasPrefix(s, "<") {
		// the null reverse-path, RFC 5321 §4.5.5
	} else {
		a, err := mail.ParseAddress(mailbox, true)
		if err != nil {
			return mailPath{}, errMailbox
		}
		p.addr = a
	}
	for f := range strings.FieldsSeq(rest) {
		name, value, given := strings.Cut(f, "=")
		q := param{name: strings.ToUpper(name), value: value, bare: !given}
		if _, ok := p.get(q.name); ok {
			return p, errTwice
		}
		p.params = append(p.params, q)
	}
	return p, nil
}

// cutPath splits "<mailbox> params" or "mailbox params", minding quotes.
func cutPath(s string) (mailbox, rest string, ok bool) {
	s, bracket := strings.CutPrefix(s, "<")
	if bracket && strings.HasPrefix(s, "@") { // source route: <@a,@b:user@c>
		_, after, found := strings.Cut(s, ":")
		if !found {
			return "", "", false
		}
		s = after
	}
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case bracket && c == '>':
			return s[:i], s[i+1:], true
		case !bracket && (c == ' ' || c == '\t'):
			return s[:i], s[i:], true
		}
	}
	return s, "", !bracket && !quoted
}

func (p mailPath) get(name string) (param, bool) {
	for _, q := range p.params {
		if q.name == name {
			return q, true
		}
	}
	return param{}, false
}

// command is the line that go-smtp is given in place of the client's: the path
// in canonical form, and the parameters that it parses well.
func (p mailPath) command(verb, hostname string, drop ...string) string {
	a := p.addr
	if a.Domain == "" && a.Local != "" { // RFC 5321 §4.5.1: go-smtp knows no <Postmaster>
		a.Domain = hostname
	}
	var b strings.Builder
	b.WriteString(verb)
	b.WriteString(a.Path())
next:
	for _, q := range p.params {
		for _, d := range drop {
			if q.name == d {
				continue next
			}
		}
		b.WriteByte(' ')
		b.WriteString(q.name)
		if !q.bare {
			b.WriteByte('=')
			b.WriteString(q.value)
		}
	}
	return b.String()
}

// isDigits reports whether s is a number, however large.
func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// heloName makes the argument of EHLO fit to be written into an envelope and a
// header: the argument itself if it is a host name or an address literal
// (RFC 5321 §4.1.1.1), else with all that could be syntax replaced.
func heloName(s string) (name string, proper bool) {
	s, _, _ = strings.Cut(s, " ")
	if len(s) > mail.MaxDomain {
		s = s[:mail.MaxDomain]
	}
	if _, err := mail.NewAddress("x", s, false); err == nil && s != "" {
		return s, true
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("-._:[]", r):
			return r
		}
		return '?'
	}, s), false
}
