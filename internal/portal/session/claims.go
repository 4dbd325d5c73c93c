package session

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"example.edu/gatepost/internal/config"
)

// claims are what a provider says of somebody, by name.
type claims map[string]json.RawMessage

// text is a claim's one text, or the first of a list; "" if it is none.
func (c claims) text(name string) string {
	if list := c.list(name); len(list) > 0 {
		return list[0]
	}
	return ""
}

// list is a claim's texts, whether it is one or a list of them.
func (c claims) list(name string) []string {
	var one string
	if json.Unmarshal(c[name], &one) == nil && one != "" {
		return []string{one}
	}
	var many []any
	_ = json.Unmarshal(c[name], &many)
	var out []string
	for _, v := range many {
		if s, ok := v.(string); ok && s != "" {
			out = append(out, s)
		}
	}
	return out
}

// flag is a claim that is true or false; some providers write it as text.
func (c claims) flag(name string) (value, said bool) {
	if json.Unmarshal(c[name], &value) == nil && string(c[name]) != "null" {
		return value, len(c[name]) > 0
	}
	switch c.text(name) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// lacks reports whether more has to be asked to know who somebody is.
func (c claims) lacks(o config.OIDC) bool {
	_, verified := c.flag("email_verified")
	return c.text(o.EmailClaim) == "" || !verified && !o.EmailsVerified || len(c[o.NameClaim]) == 0 ||
		o.Postmasters.Claim != "" && len(c[o.Postmasters.Claim]) == 0
}

// with adds what was asked besides. The address and whether it is verified stay
// together: what one document says of its address says nothing of another's.
func (c claims) with(more claims, o config.OIDC) claims {
	out := claims{}
	for name, v := range c {
		out[name] = v
	}
	for name, v := range more {
		if _, has := out[name]; !has && name != "email_verified" && name != o.EmailClaim {
			out[name] = v
		}
	}
	mine, theirs := c.text(o.EmailClaim), more.text(o.EmailClaim)
	if _, said := c.flag("email_verified"); theirs != "" && (mine == "" || mine == theirs && !said) {
		out[o.EmailClaim] = more[o.EmailClaim]
		delete(out, "email_verified")
		if v, has := more["email_verified"]; has {
			out["email_verified"] = v
		}
	}
	return out
}

// The bounds of what of somebody's groups goes into a cookie.
const (
	maxGroups      = 8
	maxGroupOctets = 400
)

// admit decides whether a provider's claims let somebody in, and makes the
// ticket; the words are for the log, those of the Refusal for the visitor.
func admit(o config.OIDC, subject string, c claims) (ticket, string, *Refusal) {
	again := func(text string, next ...string) *Refusal {
		return &Refusal{Heading: "You could not be signed in", Text: text, Next: next, Link: "/", Label: "To the first page"}
	}
	if subject == "" || len(subject) > maxID {
		return ticket{}, "no usable subject", again("The identity provider did not say who you are.", "Tell the Postmaster team: the log says what was missing.")
	}
	email := cleanEmail(c.text(o.EmailClaim))
	if email == "" || len(email) > maxID {
		return ticket{}, fmt.Sprintf("no mail address in the claim %q", o.EmailClaim), again("The identity provider gave no mail address for you, and the portal knows people by it.",
			"Is there a mail address in your account at the identity provider?", "If there is, tell the Postmaster team: the provider may have to be allowed to tell it.")
	}
	verified, said := c.flag("email_verified")
	switch {
	case said && !verified:
		return ticket{}, "the mail address is not verified", again("The identity provider says that your mail address, "+email+", is not verified.", "Verify it in your account there, then sign in again.")
	case !said && !o.EmailsVerified:
		return ticket{}, "the provider does not say whether the mail address is verified (signIn.oidc.emailsVerified)",
			again("The identity provider does not say whether your mail address, "+email+", is verified.", "Tell the Postmaster team: it is a matter of the portal’s configuration.")
	case !inDomains(o.Domains, email):
		return ticket{}, "the mail address is in none of signIn.oidc.domains", again("This portal is for members of the university, and "+email+" is no address of its.", "Sign out at the identity provider, and sign in with your account of the university.")
	}
	t := ticket{From: o.Issuer, ID: subject, Email: email, Name: cleanName(c.text(o.NameClaim), email)}
	left := maxGroupOctets
	for _, g := range c.list(o.Postmasters.Claim) {
		if left -= len(g); left < 0 || len(t.Groups) == maxGroups {
			break
		}
		if o.Postmasters.Claim != "" && slices.Contains(o.Postmasters.Values, g) {
			t.Groups = append(t.Groups, g)
		} else {
			left += len(g)
		}
	}
	return t, "", nil
}

// person is whom a ticket stands for, as the configuration is now; false if it
// would not let them in.
func (t *ticket) person(o config.OIDC) (Person, bool) {
	if t == nil || t.From != o.Issuer || !inDomains(o.Domains, t.Email) {
		return Person{}, false
	}
	return Person{ID: t.ID, Name: t.Name, Email: t.Email, Postmaster: isPostmaster(o.Postmasters, t.Email, t.Groups)}, true
}

// said is a provider's own words for a person: printable, and short.
func said(s string) string {
	return clip(strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)), 200)
}
