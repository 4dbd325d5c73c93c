package config

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/registration"
)

const minimalPortal = `
url: "https://relay.umich.edu"
proxies: ["127.0.0.1"]
site: {name: "University of Michigan", postmaster: "postmaster@umich.edu"}
register: {repository: "https://github.com/umich/mail-relay-register", tokenFile: "/etc/gatepost/portal-token"}
signIn: oidc: {issuer: "https://login.umich.edu", clientID: "gatepost", postmasters: emails: ["Pm@umich.edu"]}
relays: [{name: "relay1", url: "https://relay1.umich.edu:9587/", tokenFile: "/etc/gatepost/relay1"}]
`

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestPortalDefaultsComeFromTheSchema(t *testing.T) {
	got, err := CheckPortal("portal.cue", []byte(minimalPortal))
	if err != nil {
		t.Fatal(err)
	}
	want := &Portal{
		URL: "https://relay.umich.edu", Listen: "127.0.0.1:8587", Proxies: prefixes("127.0.0.1/32"), State: "/var/lib/gatepost-portal",
		Site: Site{Name: "University of Michigan", Service: "Mail relay", Colour: Colour{0, 0x27, 0x4c}, Postmaster: mail.Address{Local: "postmaster", Domain: "umich.edu"}},
		Register: Register{Repository: "https://github.com/umich/mail-relay-register", Branch: "main", Poll: 30 * time.Second,
			TokenFile: "/etc/gatepost/portal-token"},
		SignIn: SignIn{OIDC: &OIDC{Issuer: "https://login.umich.edu", ClientID: "gatepost", Scopes: []string{"openid", "profile", "email"},
			NameClaim: "name", EmailClaim: "email", Domains: []string{}, Postmasters: Postmasters{Emails: []string{"pm@umich.edu"}, Values: []string{}}}},
		Cookies: Cookies{Lifetime: 12 * time.Hour},
		Relays:  []PortalRelay{{Name: "relay1", URL: "https://relay1.umich.edu:9587", TokenFile: "/etc/gatepost/relay1"}},
		Limits: PortalLimits{Connections: 512, Streams: 128, StreamsPerPerson: 6, FormBytes: 256 << 10, RequestsPerMinute: 1200,
			FormsPerMinute: 120, FormsPerPerson: 30, OpenedPerDay: 40, Answer: 30 * time.Second},
	}
	want.Reporter.Renewals.Ahead, want.Reporter.Blocks = 30*day, true
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEveryFieldOfThePortalCanBeSet(t *testing.T) {
	const rest = `
url: "https://Relay.Umich.edu:8443/"
listen: ":8443"
metrics: "[::1]:8588"
tls: {certificate: "/c//c.pem", key: "/k"}
proxies: ["192.0.2.0/28", "2001:db8::1"]
state: "/data"
site: {name: " U of M ", service: "Relay", logo: "/etc/logo.SVG", colour: "#FFcb05", postmaster: "pm@umich.edu", policiesURL: "https://umich.edu/p?", helpURL: "https://umich.edu/h"}
register: {repository: "https://git.umich.edu/mail/register", branch: "prod", poll: "1m", app: {id: 1, installation: 2, keyFile: "/app"}, webhook: secretFile: "/hook"}
cookies: {secretFile: "/cookies", lifetime: "1h"}
relays: [{name: "a", url: "http://127.0.0.1:1", tokenFile: "/t"}, {name: "b", url: "https://b", tokenFile: "/u", operatorTokenFile: "/o", caFile: "/ca"}]
proof: {secretFile: "/proof", hostname: "Relay.mail.umich.edu.", server: "smtp.umich.edu:2525"}
mail: {server: "[2001:db8::1]:25", from: "relay@umich.edu", tls: "verify"}
reporter: {renewals: ahead: "0s", removals: silent: "365d", blocks: false, askers: [{github: "octocat", id: 583231}]}
limits: {connections: 10, streams: 9, streamsPerPerson: 8, formBytes: 64Ki, requestsPerMinute: 11, formsPerMinute: 7, formsPerPerson: 6, openedPerDay: 5, answer: "5s"}
`
	read := func(signIn string) *Portal {
		t.Helper()
		got, err := CheckPortal("portal.cue", []byte(strings.Replace(rest, "/p?", "/p", 1)+signIn))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := read(`signIn: oidc: {issuer: "http://127.0.0.1:99/x/", clientID: "c", clientSecretFile: "/s", scopes: ["openid", "eduperson"], nameClaim: "display", emailClaim: "mail", emailsVerified: true,
	domains: ["Umich.edu", ".umich.edu"], postmasters: {claim: "groups", values: ["pm"]}}`)
	want := &Portal{
		URL: "https://relay.umich.edu:8443", Listen: ":8443", Metrics: "[::1]:8588", TLS: TLS{"/c/c.pem", "/k"}, Proxies: prefixes("192.0.2.0/28", "2001:db8::1/128"), State: "/data",
		Site: Site{Name: "U of M", Service: "Relay", Logo: "/etc/logo.SVG", Colour: Colour{0xff, 0xcb, 5}, Postmaster: mail.Address{Local: "pm", Domain: "umich.edu"},
			PoliciesURL: "https://umich.edu/p", HelpURL: "https://umich.edu/h"},
		Register: Register{Repository: "https://git.umich.edu/mail/register", Branch: "prod", Poll: time.Minute, App: &App{1, 2, "/app"}, Webhook: &Webhook{SecretFile: "/hook"}},
		SignIn: SignIn{OIDC: &OIDC{"http://127.0.0.1:99/x/", "c", "/s", []string{"openid", "eduperson"}, "display", "mail", true, []string{"umich.edu", ".umich.edu"},
			Postmasters{Emails: []string{}, Claim: "groups", Values: []string{"pm"}}}},
		Cookies: Cookies{"/cookies", time.Hour},
		Relays:  []PortalRelay{{"a", "http://127.0.0.1:1", "/t", "", ""}, {"b", "https://b", "/u", "/o", "/ca"}},
		Proof:   PortalProof{"/proof", "relay.mail.umich.edu", "smtp.umich.edu:2525"},
		Mail:    PortalMail{"[2001:db8::1]:25", mail.Address{Local: "relay", Domain: "umich.edu"}, TLSVerify},
		Limits:  PortalLimits{10, 9, 8, 64 << 10, 11, 7, 6, 5, 5 * time.Second},
	}
	want.Reporter.Removals.Silent, want.Reporter.Askers = 365*day, []Account{{"octocat", 583231}}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0].String(), "#ffcb05 has a contrast of 1.5:1") {
		t.Errorf("warnings: %v", got.Warnings)
	}
	got.Warnings = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	proxy := read(`signIn: proxy: {from: ["192.0.2.1"], headers: {email: "remote-user", name: "remote-name", groups: "remote-groups"}, signOutURL: "https://relay.umich.edu/oauth2/sign_out", postmasters: {emails: ["A@umich.edu"], groups: ["pm"]}}`)
	if want := (&SignInProxy{prefixes("192.0.2.1/32"), SignInHeaders{"Remote-User", "Remote-Name", "Remote-Groups"}, "https://relay.umich.edu/oauth2/sign_out",
		Postmasters{Emails: []string{"a@umich.edu"}, Values: []string{"pm"}}}); !reflect.DeepEqual(proxy.SignIn.Proxy, want) || proxy.SignIn.OIDC != nil {
		t.Errorf("%+v", proxy.SignIn.Proxy)
	}
}

const trial = `
url: "http://127.0.0.1:8587"
site: {name: "Trial", postmaster: "pm@example.edu"}
register: repository: "/srv/register.git"
signIn: development: people: [{name: "Ada", email: "Ada@example.edu"}, {name: "Pat", email: "pat@example.edu", postmaster: true}]
relays: []
`

func TestTheUrlIsAsBrowsersNameIt(t *testing.T) {
	for url, want := range map[string]string{
		"https://Relay.umich.edu:443/": "https://relay.umich.edu", "https://relay.umich.edu:8443": "https://relay.umich.edu:8443",
		"http://127.0.0.1:80": "http://127.0.0.1", "http://[::1]:8587": "http://[::1]:8587", "https://[2001:db8::443]": "https://[2001:db8::443]",
	} {
		p, err := CheckPortal("portal.cue", []byte(strings.Replace(minimalPortal, "https://relay.umich.edu", url, 1)))
		if err != nil || p.URL != want {
			t.Errorf("%s: %v, %v", url, p, err)
		}
	}
}

func TestPortalForTrying(t *testing.T) {
	got, err := CheckPortal("portal.cue", []byte(trial))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Someone{{"Ada", "ada@example.edu", false}, {"Pat", "pat@example.edu", true}}; !slices.Equal(got.SignIn.Development.People, want) || len(got.Warnings) != 0 {
		t.Errorf("%v, %v", got.SignIn.Development, got.Warnings)
	}
}

// TestAllProblemsOfAPortalInOneRun holds every finding, its place and its hint.
func TestAllProblemsOfAPortalInOneRun(t *testing.T) {
	_, err := LoadPortal(filepath.Join("testdata", "invalid-portal.cue"))
	listed, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	golden := filepath.Join("testdata", "invalid-portal.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err2 := os.ReadFile(golden)
	if err2 != nil {
		t.Fatal(err2)
	}
	if got := err.Error() + "\n"; got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	for _, p := range listed.Problems {
		if p.Hint == "" || p.Line == 0 || p.Severity != registration.Error {
			t.Errorf("incomplete: %+v", p)
		}
	}
}

func TestRefusedOfAPortal(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(minimalPortal, old, new, 1) }
	relay := func(s string) string {
		return with(`[{name: "relay1", url: "https://relay1.umich.edu:9587/", tokenFile: "/etc/gatepost/relay1"}]`, s)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"empty":                              {"", "url is missing"},
		"no way to sign in":                  {with("signIn: oidc:", "x: y:"), "signIn says no way to sign in"},
		"an unknown way to sign in":          {with("signIn: oidc:", "signIn: saml:"), `there is no field "saml" in signIn`},
		"two ways to sign in":                {minimalPortal + `signIn: proxy: from: ["192.0.2.1"]`, "signIn has oidc and proxy"},
		"two ways, one of them wrong":        {minimalPortal + `signIn: proxy: 7`, "signIn has oidc and proxy"},
		"development beside others":          {minimalPortal + `signIn: development: people: [{name: "A", email: "a@b.example"}]`, "signIn has oidc and development"},
		"development for all":                {strings.Replace(trial, "url:", "listen: \":8587\"\nurl:", 1), `listen is ":8587", which others can reach, and signIn is development`},
		"development on an address":          {strings.Replace(trial, "url:", "listen: \"192.0.2.1:8587\"\nurl:", 1), "which others can reach"},
		"development with a public url":      {strings.Replace(trial, "http://127.0.0.1:8587", "https://relay.umich.edu", 1), "which is not this machine, and signIn is development"},
		"development behind a proxy":         {trial + `proxies: ["127.0.0.1"]`, "proxies are named, and signIn is development"},
		"development without people":         {strings.Replace(trial, "people: [", "people: [] //", 1), "signIn.development.people has 0 entries"},
		"development with somebody twice":    {strings.Replace(trial, "pat@", "ADA@", 1), "people[1].email: ada@example.edu is somebody's before"},
		"url in clear text":                  {with("https://relay", "http://relay"), "relay.umich.edu is plain http, and not this machine"},
		"url with a path":                    {with("https://relay.umich.edu", "https://relay.umich.edu/portal"), "url has more than a scheme and a host"},
		"url with credentials":               {with("https://relay", "https://a:b@relay"), "url holds credentials"},
		"url with a query":                   {with("https://relay.umich.edu", "https://relay.umich.edu?x"), "url has a query or a fragment"},
		"metrics for the world":              {minimalPortal + `metrics: ":8588"`, `metrics: ":8588" is no loopback address`},
		"metrics and pages at one place":     {minimalPortal + `metrics: "127.0.0.1:8587"`, "metrics: 127.0.0.1:8587 is taken by listen"},
		"everybody a proxy":                  {with(`proxies: ["127.0.0.1"]`, `proxies: ["0.0.0.0/0"]`), "proxies[0]: 0.0.0.0/0 is wider than /16"},
		"a logo of another kind":             {with("site: {", `site: {logo: "/x.gif", `), "ends neither in .svg nor in .png"},
		"a colour by name":                   {with("site: {", `site: {colour: "blue", `), `site.colour: "blue" is no colour of the form #rrggbb`},
		"a short colour":                     {with("site: {", `site: {colour: "#fff", `), "is no colour of the form #rrggbb"},
		"a colour with a sign":               {with("site: {", `site: {colour: "#+12345", `), "is no colour of the form #rrggbb"},
		"a name of two lines":                {with(`name: "University of Michigan"`, `name: "a\nb"`), "site.name is not one line"},
		"a register elsewhere":               {with("https://github.com/umich/mail-relay-register", "https://git.umich.edu/register"), "register.repository is neither at GitHub nor a folder"},
		"no token":                           {with(`, tokenFile: "/etc/gatepost/portal-token"`, ""), "register has neither tokenFile nor app"},
		"token and app":                      {minimalPortal + `register: app: {id: 1, installation: 2, keyFile: "/k"}`, "register has both tokenFile and app"},
		"a webhook for a folder":             {trial + `register: webhook: secretFile: "/x"`, "register.webhook waits for a forge, and register.repository is a folder"},
		"what is the relay's":                {minimalPortal + `register: maxRemovals: 1`, `there is no field "maxRemovals" in register`},
		"an issuer in clear text":            {with("https://login", "http://login"), "signIn.oidc.issuer: secrets would be sent to login.umich.edu in clear text"},
		"scopes without openid":              {minimalPortal + `signIn: oidc: scopes: ["email"]`, `signIn.oidc.scopes lacks "openid"`},
		"a scope of two words":               {minimalPortal + `signIn: oidc: scopes: ["openid email"]`, `"openid email" is no scope`},
		"a claim without values":             {minimalPortal + `signIn: oidc: postmasters: claim: "groups"`, "signIn.oidc.postmasters has one of claim and values without the other"},
		"a domain with a star":               {minimalPortal + `signIn: oidc: domains: ["*.umich.edu"]`, `"*.umich.edu" is no domain`},
		"relay in clear text":                {relay(`[{name: "a", url: "http://relay1.umich.edu", tokenFile: "/t"}]`), "relays[0].url: secrets would be sent to relay1.umich.edu in clear text"},
		"relay without a token":              {relay(`[{name: "a", url: "https://a"}]`), "tokenFile is missing"},
		"relay with an odd name":             {relay(`[{name: "Relay 1", url: "https://a", tokenFile: "/t"}]`), `relays[0].name: "Relay 1" is no name for a relay`},
		"two relays of one name":             {relay(`[{name: "a", url: "https://a", tokenFile: "/t"}, {name: "a", url: "https://b", tokenFile: "/t"}]`), `there is a relay "a" before`},
		"one relay twice":                    {relay(`[{name: "a", url: "https://a", tokenFile: "/t"}, {name: "b", url: "https://a/", tokenFile: "/t"}]`), `https://a is the url of "a" before`},
		"one token for both":                 {relay(`[{name: "a", url: "https://a", tokenFile: "/t", operatorTokenFile: "/t"}]`), "has one file as tokenFile and operatorTokenFile"},
		"a CA for clear text":                {relay(`[{name: "a", url: "http://127.0.0.1", tokenFile: "/t", caFile: "/c"}]`), "has a caFile, and its url is http"},
		"many relays":                        {relay(`[` + strings.Repeat(`{name: "a", url: "https://a", tokenFile: "/t"},`, 33) + `]`), "relays has 33 entries, and may have 32"},
		"proof without a host":               {minimalPortal + `proof: secretFile: "/s"`, "hostname is missing in proof"},
		"mail without from":                  {minimalPortal + `mail: server: "a:25"`, "from is missing in mail"},
		"mail to no port":                    {minimalPortal + `mail: {server: "a", from: "a@b.example"}`, `mail.server: "a" is not of the form host:port`},
		"renewals at once":                   {minimalPortal + `reporter: renewals: ahead: "1h"`, "reporter.renewals.ahead is 1h; it must be from 1d to 180d"},
		"removals after a day":               {minimalPortal + `reporter: removals: silent: "1d"`, "reporter.removals.silent is 1d; it must be from 30d to 1000d"},
		"more streams than connections":      {minimalPortal + `limits: streams: 512`, "limits.streams is not smaller than limits.connections"},
		"a long day":                         {minimalPortal + `cookies: lifetime: "30d"`, "cookies.lifetime is 30d; it must be from 5m to 1d"},
		"a header for two":                   {with("oidc: {issuer: \"https://login.umich.edu\", clientID: \"gatepost\",", `proxy: {from: ["192.0.2.1"], headers: {name: "x-remote-email"},`), "X-Remote-Email is headers.email already"},
		"a header of everybody's":            {with("oidc: {issuer: \"https://login.umich.edu\", clientID: \"gatepost\",", `proxy: {from: ["192.0.2.1"], headers: {email: "x-forwarded-for"},`), "X-Forwarded-For says something else"},
		"a header that is none":              {with("oidc: {issuer: \"https://login.umich.edu\", clientID: \"gatepost\",", `proxy: {from: ["192.0.2.1"], headers: {email: "remote user"},`), `"remote user" is no name of a header`},
		"a proxy from nowhere":               {with("oidc: {issuer: \"https://login.umich.edu\", clientID: \"gatepost\",", `proxy: {from: [],`), "signIn.proxy.from is empty"},
		"a proxy from everywhere":            {with("oidc: {issuer: \"https://login.umich.edu\", clientID: \"gatepost\",", `proxy: {from: ["::/0"],`), "::/0 is wider than /48"},
		"a postmaster who is no mailbox":     {with("Pm@umich.edu", "pm"), `signIn.oidc.postmasters.emails[0]: "pm" is no mailbox`},
		"a group with a comma":               {with("oidc: {issuer: \"https://login.umich.edu\", clientID: \"gatepost\", postmasters: emails: [\"Pm@umich.edu\"]", `proxy: {from: ["192.0.2.1"], postmasters: groups: ["a,b"]`), `"a,b" can stand in no list of groups`},
		"an asker without a number":          {minimalPortal + `reporter: askers: [{github: "a"}]`, "id is missing"},
		"a form of no size":                  {minimalPortal + `limits: formBytes: 1`, "limits.formBytes must be at least"},
		"a number for the name of the relay": {relay(`[{name: 7, url: "https://a", tokenFile: "/t"}]`), "and the number 7 stands here"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := CheckPortal("portal.cue", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got:\n%v\nwant in it: %s", err, tc.want)
			}
			for line := range strings.Lines(errorText(err)) {
				if strings.TrimSpace(line) == "hint:" {
					t.Errorf("a problem without a hint:\n%v", err)
				}
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPortalWarnings(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"all said":               {minimalPortal, ""},
		"nobody in front":        {strings.Replace(minimalPortal, `proxies: ["127.0.0.1"]`, "", 1), "neither tls nor a web server in proxies"},
		"no relays":              {minimalPortal[:strings.Index(minimalPortal, "relays:")], "no relay is named"},
		"no postmasters":         {strings.Replace(minimalPortal, `emails: ["Pm@umich.edu"]`, "emails: []", 1), "signIn.oidc names no postmasters"},
		"a certificate and http": {trial + `tls: {certificate: "/c", key: "/k"}`, "there is a certificate, and url is http"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := CheckPortal("portal.cue", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := (&Error{p.Warnings}).Error(); !strings.Contains(got, tc.want) || (tc.want == "") != (len(p.Warnings) == 0) || len(p.Warnings) > 1 {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestTableOfThePortalsFieldsIsComplete walks the struct, so that a new field
// is logged.
func TestTableOfThePortalsFieldsIsComplete(t *testing.T) {
	leaves := []reflect.Type{reflect.TypeFor[mail.Address](), reflect.TypeFor[Colour]()}
	relays := []string{"register.verify", "register.maxremovals", "warnings"}
	var want []string
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for f := range t.Fields() {
			name := strings.ToLower(path + f.Name)
			switch {
			case name == "register.webhook":
				want = append(want, name+".secretfile")
			case f.Type.Kind() == reflect.Struct && !slices.Contains(leaves, f.Type):
				walk(f.Type, name+".")
			case !slices.Contains(relays, name):
				want = append(want, name)
			}
		}
	}
	walk(reflect.TypeFor[Portal](), "")
	var got []string
	for _, f := range portalFields(&Portal{}) {
		got = append(got, strings.ToLower(f.Key))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the table has\n%v\nthe struct\n%v", got, want)
	}
}

func TestThePortalsLogReadsLikeTheFile(t *testing.T) {
	p, err := CheckPortal("portal.cue", []byte(minimalPortal))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("configuration", "config", p)
	for _, want := range []string{`config.site.colour=#00274c`, `config.register.poll=30s`, `config.reporter.renewals.ahead=30d`, `config.signIn.proxy=""`,
		`clientID: \"gatepost\"`, `name: \"relay1\"`, `config.limits.formBytes=262144`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s lacks %s", out.String(), want)
		}
	}
}

// What is printed of a way to sign in can be read as a configuration again.
func TestWaysToSignInReadLikeTheFile(t *testing.T) {
	const oidc = `oidc: {issuer: "https://login.umich.edu", clientID: "gatepost", clientSecretFile: "/s", scopes: ["openid", "email"], nameClaim: "n", emailClaim: "e", emailsVerified: true, domains: ["umich.edu", ".umich.edu"], postmasters: {emails: ["a@umich.edu", "b@umich.edu"], claim: "groups", values: ["x", "y"]}}`
	const proxy = `proxy: {from: ["192.0.2.1/32", "2001:db8::/48"], headers: {email: "X-E", name: "X-N", groups: "X-G"}, signOutURL: "https://umich.edu/out", postmasters: {emails: ["a@umich.edu"], groups: ["x", "y"]}}`
	base := minimalPortal[:strings.Index(minimalPortal, "signIn:")] + "relays: []\n"
	for _, text := range []string{oidc, proxy} {
		p, err := CheckPortal("portal.cue", []byte(base+"signIn: "+text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if p.SignIn.OIDC != nil {
			got = "oidc: " + p.SignIn.OIDC.String()
		} else {
			got = "proxy: " + p.SignIn.Proxy.String()
		}
		if got != text {
			t.Errorf("got  %s\nwant %s", got, text)
		}
	}
}

func TestColours(t *testing.T) {
	for s, want := range map[string]string{"#00274c": "#00274c", "#ffcb05": "#867", "#ffffff": "#76", "#000000": "#000000"} {
		c, ok := ParseColour(s)
		if on := c.On(White); !ok || !strings.HasPrefix(on.String(), want[:2]) || on.Contrast(White) < readable {
			t.Errorf("%s on white: %v, contrast %.2f", s, on, on.Contrast(White))
		}
		if on := c.On(Night); on.Contrast(Night) < readable {
			t.Errorf("%s in the dark: %v, contrast %.2f", s, on, on.Contrast(Night))
		}
		if c.Contrast(c.Ink()) < readable {
			t.Errorf("ink on %s: %v", s, c.Ink())
		}
	}
	if got := White.Contrast(Black); got != 21 {
		t.Errorf("white and black: %v", got)
	}
	// The example of WCAG's own: #767676 is the lightest grey that can be read on white.
	if a, b := (Colour{0x76, 0x76, 0x76}), (Colour{0x77, 0x77, 0x77}); a.Contrast(White) < readable || b.Contrast(White) >= readable {
		t.Errorf("%v, %v", a.Contrast(White), b.Contrast(White))
	}
}

func FuzzCheckPortal(f *testing.F) {
	f.Add([]byte(minimalPortal))
	f.Add([]byte(trial))
	if data, err := os.ReadFile(filepath.Join("testdata", "invalid-portal.cue")); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := CheckPortal("portal.cue", data)
		if (p == nil) == (err == nil) {
			t.Fatalf("got %v and %v", p, err)
		}
	})
}
