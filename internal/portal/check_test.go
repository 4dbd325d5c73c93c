package portal

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/register/registration"
)

// checkConfig has every file that a configuration can name, in a folder.
const checkConfig = `url: "https://relay.example.edu"
proxies: ["127.0.0.1"]
tls: {certificate: "DIR/cert.pem", key: "DIR/key.pem"}
site: {name: "Example University", postmaster: "pm@example.edu", logo: "DIR/logo.svg"}
register: {repository: "https://github.com/umich/register", app: {id: 1, installation: 2, keyFile: "DIR/app.pem"}, webhook: secretFile: "DIR/hook"}
signIn: oidc: {issuer: "https://login.example.edu", clientID: "portal", clientSecretFile: "DIR/client", postmasters: emails: ["pm@example.edu"]}
cookies: secretFile: "DIR/cookies"
relays: [{name: "relay1", url: "https://relay1.example.edu", tokenFile: "DIR/read", operatorTokenFile: "DIR/operate", caFile: "DIR/ca.pem"}]
proof: {secretFile: "DIR/proof", hostname: "relay.example.edu"}
`

func check(t *testing.T, dir, text string) (code int, stdout, stderr string) {
	t.Helper()
	path := filepath.Join(dir, "portal.cue")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, wrong bytes.Buffer
	code = Check(path, &out, &wrong)
	return code, out.String(), strings.ReplaceAll(wrong.String(), dir, "DIR")
}

// TestCheckTellsAllAtOnce: each file that is not as it should be, with what it
// means, in one run; and the same files once they are right.
func TestCheckTellsAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	code, _, stderr := check(t, dir, checkConfig)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"tls.key: open DIR/cert.pem: no such file or directory\n  hint: the portal would not start; ",
		"site.logo: reading the logo: open DIR/logo.svg", "register.app.keyFile: ", "register.webhook.secretFile: ",
		"signIn.oidc.clientSecretFile: ", "cookies.secretFile: ", "relays[0].tokenFile: ", "relays[0].operatorTokenFile: ", "relays[0].caFile: ", "proof.secretFile: ",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("lacks %q:\n%s", want, stderr)
		}
	}
	if n := strings.Count(stderr, "\n  hint: "); n != 10 {
		t.Errorf("%d problems:\n%s", n, stderr)
	}

	for _, args := range [][]string{
		{"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-keyout", dir + "/key.pem", "-out", dir + "/cert.pem"},
		{"genrsa", "-out", dir + "/app.pem", "2048"},
	} {
		if out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	cert, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("0123456789abcdef", 4)
	right := map[string]string{"logo.svg": "<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "hook": long, "client": "s3cret\n", "cookies": long, "read": "t\n", "operate": "u", "ca.pem": string(cert), "proof": long}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range right {
		put(name, text)
	}
	code, stdout, stderr := check(t, dir, checkConfig)
	if code != 0 || stderr != "" {
		t.Errorf("%d\n%s", code, stderr)
	}
	for _, want := range []string{
		"url                         \"https://relay.example.edu\"\n", "for the identity provider: redirect address https://relay.example.edu/sign-in/callback\n",
		"for the forge: webhook https://relay.example.edu/webhook,", "for the register: in a file of registrations/campus/, portal: {github: ",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %q:\n%s", want, stdout)
		}
	}
	for _, secret := range []string{long, "s3cret"} {
		if strings.Contains(stdout+stderr, secret) {
			t.Errorf("a secret is shown:\n%s%s", stdout, stderr)
		}
	}

	for _, name := range []string{"key.pem", "app.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		right[name] = string(text)
	}
	for name, text := range map[string]string{
		"logo.svg": "<html>", "hook": "short", "client": "\n", "cookies": "short", "read": "two words", "operate": "", "ca.pem": "none", "proof": "short", "key.pem": "", "app.pem": "none",
	} {
		put(name, text)
		code, _, stderr := check(t, dir, checkConfig)
		if code != 1 || strings.Count(stderr, "  hint: ") != 1 {
			t.Errorf("%s: %d\n%s", name, code, stderr)
		}
		put(name, right[name])
	}
	if err := os.Chmod(filepath.Join(dir, "cookies"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, stderr := check(t, dir, checkConfig); !strings.Contains(stderr, "cookies.secretFile: DIR/cookies holds a secret, and everybody on this machine may read it (warning)") {
		t.Errorf("a secret that all can read is not told:\n%s", stderr)
	}
}

func TestCheckOfWrongText(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := check(t, dir, "url: 7\nlisten: \"x\"\nfoo: 1\n")
	if code != 1 || stdout != "" {
		t.Errorf("%d %s", code, stdout)
	}
	for _, want := range []string{"portal.cue:1:6: url must be text", "portal.cue:2:9: listen: ", "portal.cue:3:1: there is no field \"foo\"", "name is missing in site", "repository is missing in register", "signIn says no way to sign in"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("lacks %q:\n%s", want, stderr)
		}
	}
	code, _, stderr = check(t, dir, fmt.Sprintf(`url: "http://127.0.0.1:1"
site: {name: "x", postmaster: "pm@example.edu"}
register: repository: %q
signIn: development: people: [{name: "A", email: "a@example.edu"}]
relays: []
`, dir+"/none"))
	if code != 1 || !strings.Contains(stderr, "register.repository: ") || !strings.Contains(stderr, "git init --bare makes one") {
		t.Errorf("%d\n%s", code, stderr)
	}
}

func TestWhoSpeaks(t *testing.T) {
	d := &registration.Department{Speakers: []registration.Speaker{{GitHub: "dana@example.edu", ID: 7}, {Email: "robin@example.edu"}}}
	for email, want := range map[string]bool{"robin@example.edu": true, "dana@example.edu": false, "": false} {
		if got := speaks(session.Person{ID: "7", Email: email}, d); got != want {
			t.Errorf("%q speaks: %v", email, got)
		}
	}
}
