package portal

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"unicode"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/credential"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/register/webhook"
)

// checkColumn is where the values of --check begin: behind the longest key.
const checkColumn = len("register.webhook.secretFile")

// Check reads the configuration and the files that it names, as Run would, and
// says what it found: on stdout what would be in force, on stderr what is
// wrong, all of it at once. It asks nobody over the network. It returns the exit
// code: 0 fine, 1 problems found, 2 unreadable.
func Check(path string, stdout, stderr io.Writer) int {
	c, err := config.LoadPortal(path)
	if err != nil {
		if _, ok := errors.AsType[*config.Error](err); ok {
			fmt.Fprintln(stderr, err)
			return 1
		}
		fmt.Fprintf(stderr, "gatepost-portal: error: %v\ngatepost-portal: hint: name the configuration: gatepost-portal --config FILE --check\n", err)
		return 2
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(stderr, "%s (warning)\n  hint: %s\n", w, w.Hint)
	}
	code := 0
	for _, f := range filesOf(c) {
		if who := credential.Exposed(f.path); f.secret && who != "" {
			fmt.Fprintf(stderr, "%s: %s holds a secret, and %s (warning)\n  hint: chmod 0640 %s, or 0600\n", f.field, f.path, who, f.path)
		}
		if err := f.read(); err != nil {
			fmt.Fprintf(stderr, "%s: %v\n  hint: %s\n", f.field, err, f.hint)
			code = 1
		}
	}
	for _, field := range c.LogValue().Group() {
		if field.Value.Kind() == slog.KindString {
			fmt.Fprintf(stdout, "%*s %q\n", -checkColumn, field.Key, field.Value.String())
			continue
		}
		fmt.Fprintf(stdout, "%*s %v\n", -checkColumn, field.Key, field.Value.Any())
	}
	for _, line := range elsewhere(c) {
		fmt.Fprintln(stdout, line)
	}
	return code
}

// elsewhere is what has to be entered in other places, so that they find the
// portal.
func elsewhere(c *config.Portal) (lines []string) {
	if c.SignIn.OIDC != nil {
		lines = append(lines, fmt.Sprintf("for the identity provider: redirect address %s/sign-in/callback", c.URL))
	}
	if c.Register.Webhook != nil {
		lines = append(lines, fmt.Sprintf("for the forge: webhook %s%s, content type JSON, with the secret of %s; events: pushes, pull requests, reviews, review comments, issue comments", c.URL, webhook.Path, c.Register.Webhook.SecretFile))
	}
	if !filepath.IsAbs(c.Register.Repository) {
		lines = append(lines, `for the register: in a file of registrations/campus/, portal: {github: "LOGIN", id: NUMBER} of the account that requests are opened as`)
	}
	return lines
}

// A namedFile is a file, or a folder, that the configuration names.
type namedFile struct {
	field, path string
	secret      bool
	read        func() error
	hint        string // what it means that it cannot be read, and what to do
}

const notStart = "the portal would not start; "

// filesOf are all files that a configuration names, in its order.
func filesOf(c *config.Portal) (list []namedFile) {
	add := func(field, path string, secret bool, hint string, read func() error) {
		if path != "" {
			list = append(list, namedFile{field, path, secret, read, hint})
		}
	}
	if c.TLS.Enabled() {
		add("tls.key", c.TLS.Key, true, notStart+"the key must belong to the first certificate of the chain", func() error {
			_, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
			return err
		})
	}
	add("site.logo", c.Site.Logo, false, notStart+"an SVG or PNG image of 256 KiB at most", func() error {
		_, _, err := readLogo(c.Site.Logo)
		return err
	})
	filesOfRegister(c.Register, add)
	if o := c.SignIn.OIDC; o != nil {
		add("signIn.oidc.clientSecretFile", o.ClientSecretFile, true, "the portal would start, and nobody could sign in; the identity provider gives the secret out together with the client's ID", func() error {
			_, err := session.ReadClientSecret(o.ClientSecretFile)
			return err
		})
	}
	add("cookies.secretFile", c.Cookies.SecretFile, true, notStart+"one secret a line, of 32 octets or more: openssl rand -hex 32", func() error {
		_, err := session.ReadSecrets(c.Cookies.SecretFile)
		return err
	})
	for i, r := range c.Relays {
		at := fmt.Sprintf("relays[%d]", i)
		const token = "the portal would start, and hear nothing of this relay; it is the token that the relay's own configuration names in listen.portal"
		add(at+".tokenFile", r.TokenFile, true, token, func() error { return oneToken(r.TokenFile) })
		add(at+".operatorTokenFile", r.OperatorTokenFile, true, "the portal would start, and nobody could block or release on this relay from there", func() error { return oneToken(r.OperatorTokenFile) })
		add(at+".caFile", r.CAFile, false, notStart+"certificates in PEM, of whoever signed the relay's own", func() error {
			_, err := newFleet([]config.PortalRelay{r}, 0, nil, nil)
			return err
		})
	}
	add("proof.secretFile", c.Proof.SecretFile, true, notStart+"it is the secret that the relays have as proof: secretFile", func() error {
		_, err := proof.ReadKey(c.Proof.SecretFile)
		return err
	})
	return list
}

func filesOfRegister(g config.Register, add func(field, path string, secret bool, hint string, read func() error)) {
	if filepath.IsAbs(g.Repository) {
		add("register.repository", g.Repository, false, notStart+"it has to be a git repository that gatepost-portal may read and write: git init --bare makes one", func() error {
			_, err := forge.OpenGit(g.Repository)
			return err
		})
	}
	const goesOn = "the portal would start, and could open no request; "
	add("register.tokenFile", g.TokenFile, true, goesOn+"the forge shows the token once, when it is made", func() error { return oneToken(g.TokenFile) })
	if a := g.App; a != nil {
		add("register.app.keyFile", a.KeyFile, true, goesOn+"the key is the .pem file that GitHub gave out for the App", func() error {
			_, err := new(credential.Holder).App(credential.Want{Repository: g.Repository, App: (*credential.App)(a)})
			return err
		})
	}
	if h := g.Webhook; h != nil {
		add("register.webhook.secretFile", h.SecretFile, true, notStart+"16 octets or more, the same as at the forge: openssl rand -hex 32", func() error {
			data, err := credential.ReadSecret(h.SecretFile)
			if err == nil {
				_, err = webhook.ParseSecret(data)
			}
			return err
		})
	}
}

// oneToken reads a file with a token.
func oneToken(path string) error {
	token, err := credential.ReadToken(path)
	switch {
	case err != nil:
		return err
	case token == "":
		return fmt.Errorf("%s is empty", path)
	case strings.ContainsFunc(token, func(r rune) bool { return r > '~' || unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Errorf("%s holds more than a token", path)
	}
	return nil
}
