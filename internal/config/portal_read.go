package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.edu/gatepost/internal/mail"
)

// rawPortal is #Portal as it is written.
type rawPortal struct {
	URL, Listen, Metrics string
	TLS                  TLS
	Proxies              []string
	State                string
	Site                 struct{ Name, Service, Logo, Colour, Postmaster, PoliciesURL, HelpURL string }
	Register             rawRegister
	SignIn               struct {
		OIDC        *OIDC
		Proxy       *rawSignInProxy
		Development *Development
	}
	Cookies  struct{ SecretFile, Lifetime string }
	Relays   []PortalRelay
	Proof    PortalProof
	Mail     struct{ Server, From, TLS string }
	Reporter struct {
		Renewals struct{ Ahead string }
		Removals struct{ Silent string }
		Blocks   bool
		Askers   []Account
	}
	Limits struct {
		Connections, Streams, StreamsPerPerson                          int
		FormBytes                                                       int64
		RequestsPerMinute, FormsPerMinute, FormsPerPerson, OpenedPerDay int
		Answer                                                          string
	}
}

// The bounds of lists, as the comments of schema/portal.cue state them.
const (
	maxRelays = 32
	maxPeople = 32
	maxAskers = 100
)

var relayName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// portalConfig makes the typed configuration and checks what the schema cannot
// say, as relay does.
func (d *document) portalConfig(raw *rawPortal) *Portal {
	p := &Portal{
		URL: d.origin("url", raw.URL), Listen: raw.Listen, Metrics: raw.Metrics,
		TLS: TLS{
			Certificate: d.absolute("tls.certificate", raw.TLS.Certificate),
			Key:         d.absolute("tls.key", raw.TLS.Key),
		},
		Proxies:  d.balancers("proxies", raw.Proxies),
		State:    d.absolute("state", raw.State),
		Site:     d.site(raw),
		Register: d.portalRegister(raw.Register),
		SignIn:   d.signIn(raw),
		Cookies: Cookies{
			SecretFile: d.absolute("cookies.secretFile", raw.Cookies.SecretFile),
			Lifetime:   d.duration("cookies.lifetime", raw.Cookies.Lifetime, 5*time.Minute, day),
		},
		Relays: d.portalRelays(raw.Relays),
		Proof: PortalProof{
			SecretFile: d.absolute("proof.secretFile", raw.Proof.SecretFile),
			Hostname:   d.hostname("proof.hostname", raw.Proof.Hostname),
			Server:     d.hostPort("proof.server", raw.Proof.Server),
		},
		Mail: PortalMail{
			Server: d.hostPort("mail.server", raw.Mail.Server),
			From:   d.mailbox("mail.from", raw.Mail.From),
			TLS:    raw.Mail.TLS,
		},
	}
	if p.Proof.Server == "" && p.Proof.Hostname != "" {
		p.Proof.Server = net.JoinHostPort(p.Proof.Hostname, "25")
	}
	p.Reporter = d.reporter(raw)
	l := raw.Limits
	p.Limits = PortalLimits{
		Connections: l.Connections, Streams: l.Streams, StreamsPerPerson: l.StreamsPerPerson, FormBytes: l.FormBytes,
		RequestsPerMinute: l.RequestsPerMinute, FormsPerMinute: l.FormsPerMinute, FormsPerPerson: l.FormsPerPerson, OpenedPerDay: l.OpenedPerDay,
		Answer: d.duration("limits.answer", l.Answer, 5*time.Second, 10*time.Minute),
	}
	if l.Streams >= l.Connections && l.Connections > 0 {
		at := "limits.connections"
		if d.has("limits.streams") {
			at = "limits.streams"
		}
		d.reject(at, "limits.streams is not smaller than limits.connections", "pages that keep themselves up to date hold a connection each; leave some for the others")
	}
	d.portalListens(p)
	d.portalWarnings(p)
	return p
}

// portalListens checks the two addresses, against one another and the rest.
func (d *document) portalListens(p *Portal) {
	d.listenAddr("listen", p.Listen)
	d.listenAddr("metrics", p.Metrics)
	if p.Metrics != "" && !onLoopback(p.Metrics) {
		d.wrong("metrics", fmt.Sprintf("metrics: %q is no loopback address", p.Metrics))
	}
	if p.Metrics != "" && p.Metrics == p.Listen {
		d.wrong("metrics", "metrics: "+p.Metrics+" is taken by listen")
	}
	if p.SignIn.Development == nil {
		return
	}
	const hint = "with signIn.development anybody who reaches the portal can be a postmaster, so it is for this machine alone; give signIn: oidc or proxy"
	if !onLoopback(p.Listen) {
		d.reject("listen", fmt.Sprintf("listen is %q, which others can reach, and signIn is development", p.Listen), hint)
	}
	if u, err := url.Parse(p.URL); err == nil && p.URL != "" && !loopback(u.Hostname()) {
		d.reject("url", fmt.Sprintf("url is %q, which is not this machine, and signIn is development", p.URL), hint)
	}
	if len(p.Proxies) > 0 {
		d.reject("proxies", "proxies are named, and signIn is development", hint)
	}
}

func (d *document) portalWarnings(p *Portal) {
	if !p.TLS.Enabled() && !d.written("tls") && strings.HasPrefix(p.URL, "https:") && len(p.Proxies) == 0 && !d.written("proxies") {
		d.warn("listen", "url is https, and there is neither tls nor a web server in proxies",
			"name the web server in front, such as proxies: [\"127.0.0.1\"]; until then all visitors are one address, with one share of limits")
	}
	if p.TLS.Enabled() && strings.HasPrefix(p.URL, "http:") {
		d.warn("url", "there is a certificate, and url is http", "write the url with https")
	}
	if len(p.Relays) == 0 && !d.written("relays") {
		d.warn("relays", "no relay is named", "name each of them in relays; until then nobody sees whether an address is live, and nothing is said of it in pull requests")
	}
	if p.SignIn.OIDC != nil && nobody(p.SignIn.OIDC.Postmasters) || p.SignIn.Proxy != nil && nobody(p.SignIn.Proxy.Postmasters) {
		at := "signIn.oidc"
		if p.SignIn.Proxy != nil {
			at = "signIn.proxy"
		}
		d.warn(at, at+" names no postmasters", "give postmasters: {emails: [\"…\"]}; until then nobody sees the status page")
	}
}

func nobody(p Postmasters) bool { return len(p.Emails)+len(p.Values) == 0 }

// origin checks an address of which scheme and host alone matter.
func (d *document) origin(path, s string) string {
	if s == "" {
		if d.has(path) {
			d.wrong(path, path+" is empty")
		}
		return ""
	}
	u, ok := d.webAddress(path, s)
	switch {
	case !ok:
		return ""
	case strings.Trim(u.Path, "/") != "":
		d.wrong(path, path+" has more than a scheme and a host")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		d.wrong(path, fmt.Sprintf("%s: %s is plain http, and not this machine", path, u.Host))
	}
	host := strings.ToLower(u.Host)
	return u.Scheme + "://" + strings.TrimSuffix(host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme]) // as browsers name it
}

// webAddress checks an http or https URL. Credentials are refused because a
// URL is logged and shown.
func (d *document) webAddress(path, s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Hostname() == "":
		d.wrong(path, fmt.Sprintf("%s: %q is no web address", path, s))
		return nil, false
	case u.User != nil:
		d.wrong(path, path+" holds credentials")
		return nil, false
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		d.wrong(path, path+" has a query or a fragment")
		return nil, false
	case len(s) > 500 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		d.wrong(path, path+" has more than 500 characters, or others than printable ASCII")
		return nil, false
	}
	return u, true
}

// link checks a web address that pages point to.
func (d *document) link(path, s string) string {
	if s == "" && !d.has(path) {
		return ""
	}
	_, _ = d.webAddress(path, s)
	return s
}

// secure checks a web address that secrets are sent to; on this machine it
// may be http.
func (d *document) secure(path, s string) string {
	if s == "" && !d.has(path) {
		return ""
	}
	if u, ok := d.webAddress(path, s); ok && u.Scheme == "http" && !loopback(u.Hostname()) {
		d.reject(path, fmt.Sprintf("%s: secrets would be sent to %s in clear text", path, u.Host), "use https")
	}
	return s
}

func (d *document) site(raw *rawPortal) Site {
	s := Site{
		Name:        d.title("site.name", raw.Site.Name),
		Service:     d.title("site.service", raw.Site.Service),
		Logo:        d.absolute("site.logo", raw.Site.Logo),
		Postmaster:  d.mailbox("site.postmaster", raw.Site.Postmaster),
		PoliciesURL: d.link("site.policiesURL", raw.Site.PoliciesURL),
		HelpURL:     d.link("site.helpURL", raw.Site.HelpURL),
	}
	if ext := strings.ToLower(filepath.Ext(s.Logo)); s.Logo != "" && ext != ".svg" && ext != ".png" {
		d.wrong("site.logo", fmt.Sprintf("site.logo: %q ends neither in .svg nor in .png", s.Logo))
	}
	c, ok := ParseColour(raw.Site.Colour)
	if !ok && (raw.Site.Colour != "" || d.has("site.colour")) {
		d.wrong("site.colour", fmt.Sprintf("site.colour: %q is no colour of the form #rrggbb", raw.Site.Colour))
	}
	if s.Colour = c; ok && c.Contrast(White) < readable {
		d.warn("site.colour", fmt.Sprintf("site.colour: %s has a contrast of %.1f:1 with white, and text needs %.1f:1", c, c.Contrast(White), readable),
			fmt.Sprintf("nothing has to be done: text of this colour is %s on white; choose that, or a darker one, to have one colour", c.On(White)))
	}
	return s
}

// title checks one line of text that pages show.
func (d *document) title(path, s string) string {
	if s == "" && !d.has(path) {
		return ""
	}
	control := func(r rune) bool { return unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) }
	if t := strings.TrimSpace(s); t == "" || utf8.RuneCountInString(t) > 100 || strings.ContainsFunc(t, control) {
		d.wrong(path, path+" is not one line of 1 to 100 characters")
	}
	return strings.TrimSpace(s)
}

func (d *document) portalRegister(raw rawRegister) Register {
	g := d.followed(raw)
	g.Webhook = raw.Webhook
	if g.Webhook != nil {
		g.Webhook.SecretFile = d.absolute("register.webhook.secretFile", g.Webhook.SecretFile)
	}
	switch {
	case g.Repository == "" || filepath.IsAbs(g.Repository):
		if g.Webhook != nil && g.Repository != "" {
			d.reject("register.webhook", "register.webhook waits for a forge, and register.repository is a folder", "take webhook out; a plain repository is looked at each poll")
		}
	case !onGitHub(g.Repository):
		d.reject("register.repository", "register.repository is neither at GitHub nor a folder, so there is nowhere to open requests",
			"write https://github.com/OWNER/NAME, or with the host of your GitHub Enterprise server, or the absolute path of a plain git repository")
	case g.TokenFile == "" && g.App == nil && !d.written("register.tokenFile") && !d.written("register.app"):
		d.reject("register", "register has neither tokenFile nor app, and without one no request can be opened at GitHub",
			"give app: {id: …, installation: …, keyFile: \"…\"}, or tokenFile")
	}
	return g
}

func (d *document) portalRelays(list []PortalRelay) []PortalRelay {
	if len(list) > maxRelays {
		d.wrong("relays", fmt.Sprintf("relays has %d entries, and may have %d", len(list), maxRelays))
		return nil
	}
	var out []PortalRelay
	for i, r := range list {
		at := fmt.Sprintf("relays[%d]", i)
		if d.has(at+".name") && !relayName.MatchString(r.Name) {
			d.wrong(at+".name", fmt.Sprintf("%s.name: %q is no name for a relay", at, r.Name))
		}
		r.URL = strings.TrimRight(d.secure(at+".url", r.URL), "/")
		r.TokenFile = d.absolute(at+".tokenFile", r.TokenFile)
		r.OperatorTokenFile = d.absolute(at+".operatorTokenFile", r.OperatorTokenFile)
		r.CAFile = d.absolute(at+".caFile", r.CAFile)
		if r.CAFile != "" && strings.HasPrefix(r.URL, "http:") {
			d.reject(at+".caFile", at+" has a caFile, and its url is http", "write the url with https, or take caFile out")
		}
		if r.TokenFile != "" && r.TokenFile == r.OperatorTokenFile {
			d.reject(at+".operatorTokenFile", at+" has one file as tokenFile and operatorTokenFile", "give each token a file of its own; the one for reading is sent far more often")
		}
		for _, o := range out {
			if r.Name != "" && o.Name == r.Name {
				d.reject(at+".name", fmt.Sprintf("%s: there is a relay %q before", at, r.Name), "give each relay a name of its own")
			}
			if r.URL != "" && o.URL == r.URL {
				d.reject(at+".url", fmt.Sprintf("%s: %s is the url of %q before", at, r.URL, o.Name), "name each relay once, by an address that leads to it and to no other")
			}
		}
		out = append(out, r)
	}
	return out
}

func (d *document) reporter(raw *rawPortal) Reporter {
	r := Reporter{Blocks: raw.Reporter.Blocks, Askers: raw.Reporter.Askers}
	if s := raw.Reporter.Renewals.Ahead; s != "0s" {
		r.Renewals.Ahead = d.duration("reporter.renewals.ahead", s, day, 180*day)
	}
	if s := raw.Reporter.Removals.Silent; s != "0s" {
		r.Removals.Silent = d.duration("reporter.removals.silent", s, 30*day, 1000*day)
	}
	if n := len(r.Askers); n > maxAskers {
		d.wrong("reporter.askers", fmt.Sprintf("reporter.askers has %d entries, and may have %d", n, maxAskers))
	}
	return r
}

// hostPort checks a server to connect to.
func (d *document) hostPort(path, s string) string {
	if s == "" && !d.has(path) {
		return ""
	}
	host, port, err := net.SplitHostPort(s)
	ip, notIP := netip.ParseAddr(host)
	if err != nil || !portNumber(port, false) || notIP != nil && !hostName(host) || notIP == nil && ip.Zone() != "" {
		d.wrong(path, fmt.Sprintf("%s: %q is not of the form host:port", path, s))
	}
	return s
}

// onLoopback reports whether an address to listen on is one that only this
// machine reaches.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip, bad := netip.ParseAddr(host)
	return err == nil && bad == nil && ip.Unmap().IsLoopback()
}

// signIn checks how people sign in.
func (d *document) signIn(raw *rawPortal) SignIn {
	s := SignIn{OIDC: raw.SignIn.OIDC, Development: raw.SignIn.Development}
	var given []string
	for _, name := range []string{"oidc", "proxy", "development"} {
		if d.written("signIn." + name) {
			given = append(given, name)
		}
	}
	switch {
	case len(given) == 0 && d.has("signIn") == d.written("signIn"):
		d.reject("signIn", "signIn says no way to sign in", "give one of oidc: {…}, proxy: {…} and development: {…}; schema/portal.cue describes each")
	case len(given) > 1:
		d.reject("signIn."+given[1], "signIn has "+strings.Join(given, " and "), "keep one of them")
	}
	if s.OIDC != nil {
		d.oidc(s.OIDC)
	}
	if raw.SignIn.Proxy != nil {
		s.Proxy = d.signInProxy(raw.SignIn.Proxy)
	}
	if s.Development != nil {
		d.development(s.Development)
	}
	return s
}

func (d *document) oidc(o *OIDC) {
	const at = "signIn.oidc"
	d.secure(at+".issuer", o.Issuer)
	if o.ClientID == "" && d.has(at+".clientID") {
		d.wrong(at+".clientID", at+".clientID is empty")
	}
	o.ClientSecretFile = d.absolute(at+".clientSecretFile", o.ClientSecretFile)
	if len(o.Scopes) > 0 && !slices.Contains(o.Scopes, "openid") {
		d.reject(at+".scopes", at+`.scopes lacks "openid"`, `add "openid"; without it the provider does not say who signs in`)
	}
	for i, s := range o.Scopes {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			d.wrong(fmt.Sprintf("%s.scopes[%d]", at, i), fmt.Sprintf("%s.scopes[%d]: %q is no scope", at, i, s))
		}
	}
	for i, s := range o.Domains {
		o.Domains[i] = strings.ToLower(s)
		if name := strings.TrimPrefix(s, "."); !hostName(name) || !strings.Contains(name, ".") {
			d.wrong(fmt.Sprintf("%s.domains[%d]", at, i), fmt.Sprintf("%s.domains[%d]: %q is no domain", at, i, s))
		}
	}
	p := &o.Postmasters
	p.Emails = d.emails(at+".postmasters.emails", p.Emails)
	if (p.Claim == "") != (len(p.Values) == 0) {
		d.reject(at+".postmasters", at+".postmasters has one of claim and values without the other", `give both, such as claim: "groups", values: ["mail-postmasters"]`)
	}
}

// rawSignInProxy is SignInProxy as it is written.
type rawSignInProxy struct {
	From        []string
	Headers     SignInHeaders
	SignOutURL  string
	Postmasters struct{ Emails, Groups []string }
}

func (d *document) signInProxy(raw *rawSignInProxy) *SignInProxy {
	const at = "signIn.proxy"
	p := &SignInProxy{From: d.balancers(at+".from", raw.From), Headers: raw.Headers, SignOutURL: d.link(at+".signOutURL", raw.SignOutURL)}
	if len(raw.From) == 0 && d.has(at+".from") {
		d.wrong(at+".from", at+".from is empty, so nobody could sign in")
	}
	seen := map[string]string{}
	for _, f := range []struct {
		name  string
		value *string
	}{{"email", &p.Headers.Email}, {"name", &p.Headers.Name}, {"groups", &p.Headers.Groups}} {
		path := at + ".headers." + f.name
		*f.value = textproto.CanonicalMIMEHeaderKey(*f.value)
		switch h := *f.value; {
		case h == "" && !d.has(path):
		case h == "" || len(h) > 100 || strings.Trim(h, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "":
			d.reject(path, fmt.Sprintf("%s: %q is no name of a header", path, h), `letters, digits and hyphens, such as "X-Remote-Email"`)
		case slices.Contains([]string{"Host", "Cookie", "Authorization", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "User-Agent", "Origin", "Referer"}, h):
			d.reject(path, fmt.Sprintf("%s: %s says something else", path, h), `a header that only the web server in front sets, such as "X-Remote-Email"`)
		case seen[h] != "":
			d.reject(path, fmt.Sprintf("%s: %s is headers.%s already", path, h, seen[h]), "give each a header of its own")
		default:
			seen[h] = f.name
		}
	}
	p.Postmasters = Postmasters{Emails: d.emails(at+".postmasters.emails", raw.Postmasters.Emails), Values: raw.Postmasters.Groups}
	for i, g := range raw.Postmasters.Groups {
		if strings.TrimSpace(g) != g || g == "" || strings.ContainsAny(g, ",;") {
			d.reject(fmt.Sprintf("%s.postmasters.groups[%d]", at, i), fmt.Sprintf("%s.postmasters.groups[%d]: %q can stand in no list of groups", at, i, g), "one group each, without commas, semicolons or blanks at its ends")
		}
	}
	return p
}

func (d *document) development(v *Development) {
	const at = "signIn.development.people"
	if n := len(v.People); d.has(at) && (n == 0 || n > maxPeople) {
		d.wrong(at, fmt.Sprintf("%s has %d entries; 1 to %d can be chosen from", at, n, maxPeople))
	}
	for i := range v.People {
		who, path := &v.People[i], fmt.Sprintf("%s[%d]", at, i)
		who.Name = d.title(path+".name", who.Name)
		who.Email = strings.ToLower(who.Email)
		d.mailbox(path+".email", who.Email)
		if slices.ContainsFunc(v.People[:i], func(o Someone) bool { return o.Email == who.Email && who.Email != "" }) {
			d.reject(path+".email", fmt.Sprintf("%s.email: %s is somebody's before", path, who.Email), "give each an address of its own")
		}
	}
}

// emails checks mail addresses and makes them lower case.
func (d *document) emails(path string, list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		out[i] = strings.ToLower(s)
		if a, err := mail.ParseAddress(s, false); s != "" && (err != nil || a.Domain == "") || s == "" && d.has(at) {
			d.wrong(at, fmt.Sprintf("%s: %q is no mailbox with a domain", at, s))
		}
	}
	return out
}
