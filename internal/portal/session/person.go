package session

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/mail"
)

// A Person is who is signed in. Everything in it comes from the identity
// provider, and is text of a stranger to a page.
type Person struct {
	ID         string // the provider's name of the account, which never becomes another's; 255 octets at most
	Name       string // for display: one line of at most 100 characters, never empty
	Email      string // verified, lower case, never empty
	Postmaster bool   // as the portal's configuration has it now
}

// maxID and maxName bound what a provider may say: an ID as OpenID Connect
// Core §8 does, in octets; a name in characters.
const (
	maxID   = 255
	maxName = 100
)

// cleanName makes one line of a name; of none, the mailbox.
func cleanName(name, email string) string {
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, name)), " ")
	if name == "" {
		return email
	}
	if runes := []rune(name); len(runes) > maxName {
		name = strings.TrimSpace(string(runes[:maxName]))
	}
	return name
}

// cleanEmail makes a mail address lower case; "" if it is none, or if it would be
// taken for another one where case does not count: K, the sign of the kelvin, is a
// k in small letters, and so the mailbox of somebody else.
func cleanEmail(s string) string {
	a, err := mail.ParseAddress(s, true)
	if err != nil || a.Domain == "" || strings.ContainsFunc(s, passesForASCII) {
		return ""
	}
	return strings.ToLower(s)
}

// passesForASCII reports whether a character is the same as one of ASCII without
// regard to case, and is none.
func passesForASCII(r rune) bool {
	if r < utf8.RuneSelf {
		return false
	}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if f < utf8.RuneSelf {
			return true
		}
	}
	return false
}

// isPostmaster decides by mail address, or by a group.
func isPostmaster(p config.Postmasters, email string, groups []string) bool {
	return slices.Contains(p.Emails, email) ||
		slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(p.Values, g) })
}

// inDomains reports whether an address is in one of the domains; with none, it is.
func inDomains(domains []string, email string) bool {
	domain := email[strings.LastIndexByte(email, '@')+1:]
	return len(domains) == 0 || slices.ContainsFunc(domains, func(d string) bool {
		return d == domain || strings.HasPrefix(d, ".") && strings.HasSuffix(domain, d)
	})
}
