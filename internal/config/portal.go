package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/registration"
)

// A Portal is the effective configuration of gatepost-portal: what the file
// says, and the defaults of schema/portal.cue where it says nothing. It is
// never changed after loading.
type Portal struct {
	URL      string // "https://host[:port]", or http where the host is a loopback address or "localhost"; lower case, no final slash
	Listen   string
	Metrics  string // a loopback address; "": none
	TLS      TLS
	Proxies  []netip.Prefix // masked, at most 64
	State    string         // an absolute path
	Site     Site
	Register Register // Verify and MaxRemovals are the relay's alone, and so is Webhook.Listen
	SignIn   SignIn
	Cookies  Cookies
	Relays   []PortalRelay // at most 32, each with a name and a URL of its own
	Proof    PortalProof
	Mail     PortalMail
	Reporter Reporter
	Limits   PortalLimits

	// Warnings are findings that do not stop the portal, such as no relays.
	Warnings []registration.Problem
}

// Site says what the pages look like.
type Site struct {
	Name        string // of the university
	Service     string
	Logo        string // a file, an absolute path; "": none
	Colour      Colour
	Postmaster  mail.Address
	PoliciesURL string // "": none
	HelpURL     string // "": none
}

// SignIn says how people sign in: exactly one is not nil.
type SignIn struct {
	OIDC        *OIDC
	Proxy       *SignInProxy
	Development *Development
}

// OIDC is an OpenID provider.
type OIDC struct {
	Issuer           string // an https URL, or http on this machine, exactly as written
	ClientID         string
	ClientSecretFile string // "": a public client
	Scopes           []string
	NameClaim        string
	EmailClaim       string
	EmailsVerified   bool
	Domains          []string // lower case; one that begins with a dot stands for all below it; empty: any
	Postmasters      Postmasters
}

// Postmasters says who is a postmaster.
type Postmasters struct {
	Emails []string // lower case
	Claim  string   // "": none
	Values []string // of Claim, or the groups of a proxy's header
}

func (o OIDC) String() string {
	return fmt.Sprintf("{issuer: %q, clientID: %q, clientSecretFile: %q, scopes: %s, nameClaim: %q, emailClaim: %q, emailsVerified: %v, domains: %s, postmasters: {emails: %s, claim: %q, values: %s}}",
		o.Issuer, o.ClientID, o.ClientSecretFile, texts(o.Scopes), o.NameClaim, o.EmailClaim, o.EmailsVerified, texts(o.Domains), texts(o.Postmasters.Emails), o.Postmasters.Claim, texts(o.Postmasters.Values))
}

// texts is a list as the file has it.
func texts[T any](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = fmt.Sprintf("%q", fmt.Sprint(v))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// A SignInProxy is a web server that says in headers who somebody is.
type SignInProxy struct {
	From        []netip.Prefix // masked, 1 to 64
	Headers     SignInHeaders
	SignOutURL  string // "": none
	Postmasters Postmasters
}

// SignInHeaders are names of header fields, in their canonical form; no two are
// the same.
type SignInHeaders struct{ Email, Name, Groups string }

func (p SignInProxy) String() string {
	return fmt.Sprintf("{from: %s, headers: {email: %q, name: %q, groups: %q}, signOutURL: %q, postmasters: {emails: %s, groups: %s}}",
		texts(p.From), p.Headers.Email, p.Headers.Name, p.Headers.Groups, p.SignOutURL, texts(p.Postmasters.Emails), texts(p.Postmasters.Values))
}

// Development lets whoever comes choose who to be.
type Development struct {
	People []Someone // 1 to 32, each with an address of its own
}

// Someone is a person to choose.
type Someone struct {
	Name       string
	Email      string // lower case
	Postmaster bool
}

func (v Development) String() string {
	list := make([]string, len(v.People))
	for i, p := range v.People {
		list[i] = fmt.Sprintf("{name: %q, email: %q, postmaster: %v}", p.Name, p.Email, p.Postmaster)
	}
	return "{people: [" + strings.Join(list, ", ") + "]}"
}

// Cookies says how those who are signed in are known again.
type Cookies struct {
	SecretFile string // an absolute path; "": the portal's own
	Lifetime   time.Duration
}

// A PortalRelay is one relay that the portal asks.
type PortalRelay struct {
	Name              string
	URL               string // https, or http on this machine; without a final slash
	TokenFile         string
	OperatorTokenFile string // "": none
	CAFile            string // "": what the system trusts
}

func (r PortalRelay) String() string {
	return fmt.Sprintf("{name: %q, url: %q, tokenFile: %q, operatorTokenFile: %q, caFile: %q}", r.Name, r.URL, r.TokenFile, r.OperatorTokenFile, r.CAFile)
}

// PortalProof says how proofs of control are asked for.
type PortalProof struct {
	SecretFile string // an absolute path; "": no proofs
	Hostname   string // lower case
	Server     string // "host:port"; "" where proof is absent
}

// PortalMail says how mail leaves the portal.
type PortalMail struct {
	Server string // "host:port"; "": no mail
	From   mail.Address
	TLS    string // TLSOpportunistic, TLSVerify or TLSOff
}

// Reporter says what the portal does by itself for the register.
type Reporter struct {
	Renewals struct{ Ahead time.Duration }  // 0: off
	Removals struct{ Silent time.Duration } // 0: off
	Blocks   bool
	Askers   []Account // empty: whoever may write to the repository
}

// An Account is one of the forge.
type Account struct {
	GitHub string
	ID     int64
}

func (a Account) String() string { return fmt.Sprintf("{github: %q, id: %d}", a.GitHub, a.ID) }

// PortalLimits are what a visitor may take; none is zero.
type PortalLimits struct {
	Connections       int
	Streams           int // server-sent events, all visitors together
	StreamsPerPerson  int
	FormBytes         int64
	RequestsPerMinute int // of one address, as FormsPerMinute
	FormsPerMinute    int
	FormsPerPerson    int // in a minute
	OpenedPerDay      int // of one person
	Answer            time.Duration
}

// LoadPortal reads the portal's configuration, as LoadRelay does the relay's.
func LoadPortal(path string) (*Portal, error) {
	data, err := content(path)
	if err != nil {
		return nil, err
	}
	return CheckPortal(path, data)
}

// CheckPortal makes a Portal of the content of a configuration file, as
// CheckRelay does a Relay.
func CheckPortal(path string, data []byte) (*Portal, error) {
	if len(data) > MaxFile {
		return nil, &Error{[]registration.Problem{tooLarge(path)}}
	}
	var raw rawPortal
	d := read(path, data, "#Portal", &raw)
	if d.data == nil {
		return nil, d.err()
	}
	p := d.portalConfig(&raw)
	if err := d.err(); err != nil {
		return nil, err
	}
	p.Warnings = d.warnings()
	return p, nil
}
