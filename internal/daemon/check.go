package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/register/credential"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/relay/blocks"
)

// maxBadLines bounds the bad lines of a local file of blocks that are shown.
const maxBadLines = 20

// checkColumn is where the values of --check begin: behind the longest key.
const checkColumn = len("limits.unregistered.recipientsPerHour")

// checkBlocks reads the local file of blocks, if there is one.
func checkBlocks(file string, stderr io.Writer) (code int) {
	if file == "" {
		return 0
	}
	_, bad, err := blocks.CheckLocal(file)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n  hint: the relay would start, with what it has read of the file before; schema/relay.cue says how the file is written\n", file, err)
		return 1
	}
	for i, line := range bad {
		if i == maxBadLines {
			fmt.Fprintf(stderr, "%s: and %d more lines\n", file, len(bad)-maxBadLines)
			break
		}
		fmt.Fprintf(stderr, "%s:%d: %s\n  hint: the relay would start, and this line block nothing\n", file, line.Line, line.Why)
		code = 1
	}
	return code
}

// checkDKIM reads the keys that mail is signed with, and says what the DNS must
// hold for them.
func checkDKIM(c *config.Relay, stdout, stderr io.Writer) (code int) {
	ring, err := readDKIM(c)
	if err != nil {
		fmt.Fprintf(stderr, "deliver.dkim: %v\n  hint: the relay would not start; %s\n", err, dkimHint)
		return 1
	}
	for _, line := range ring.Records() {
		fmt.Fprintln(stdout, "for the DNS:", line)
	}
	return 0
}

// Check reads the configuration and the files that it names, as Run would, and
// says what it found: on stdout what would be in force, on stderr what is
// wrong. It returns the exit code: 0 fine, 1 problems found, 2 unreadable.
func Check(path string, stdout, stderr io.Writer) int {
	c, err := config.LoadRelay(path)
	if err != nil {
		if _, ok := err.(*config.Error); ok {
			fmt.Fprintln(stderr, err)
			return 1
		}
		fmt.Fprintf(stderr, "gatepostd: error: %v\ngatepostd: hint: name the configuration: gatepostd --config FILE --check\n", err)
		return 2
	}
	code := 0
	var also strings.Builder // for stdout, behind what would be in force
	for _, w := range warnings(c) {
		fmt.Fprintf(stderr, "%s (warning)\n  hint: %s\n", w.problem, w.hint)
	}
	if c.TLS.Enabled() {
		if err := (&certificates{notAfter: newNotAfter(nil)}).load(c.TLS); err != nil {
			fmt.Fprintf(stderr, "%v\n  hint: the relay would not start; the key must belong to the first certificate of the chain\n", err)
			code = 1
		}
	}
	const goesOn = "the relay would start, and go on with the register that it has"
	if path := c.Register.Repository; filepath.IsAbs(path) {
		if _, err := forge.OpenGit(path); err != nil {
			fmt.Fprintf(stderr, "register.repository: %v\n  hint: the relay would start, and wait for it; it has to be a git repository that gatepostd may read\n", err)
			code = 1
		}
	}
	if c.Register.TokenFile != "" {
		if _, err := credential.ReadToken(c.Register.TokenFile); err != nil {
			fmt.Fprintf(stderr, "%v\n  hint: %s\n", err, goesOn)
			code = 1
		}
	}
	if c.Register.App != nil {
		if _, err := new(credential.Holder).App(comesAs(c.Register)); err != nil {
			fmt.Fprintf(stderr, "%v\n  hint: %s; the key is the .pem file that GitHub gave out for the App\n", err, goesOn)
			code = 1
		}
	}
	if h := c.Register.Webhook; h != nil {
		if _, err := readWebhookSecret(h.SecretFile); err != nil {
			fmt.Fprintf(stderr, "%v\n  hint: the relay would not start; %s\n", err, secretHint)
			code = 1
		}
	}
	if p := c.Listen.Portal; p != nil {
		if _, err := readPortalTokens(p); err != nil {
			fmt.Fprintf(stderr, "%v\n  hint: the relay would not start; %s\n", err, portalHint)
			code = 1
		}
	}
	if c.Proof.SecretFile != "" {
		if _, err := proof.ReadKey(c.Proof.SecretFile); err != nil {
			fmt.Fprintf(stderr, "%v\n  hint: the relay would not start; 32 octets or more that nobody can guess: openssl rand -hex 32\n", err)
			code = 1
		}
	}
	code = max(code, checkDKIM(c, &also, stderr))
	code = max(code, checkBlocks(c.Blocks.File, stderr))
	code = max(code, checkVerify(c.Register.Verify, c.Register, &also, stderr))
	for _, field := range c.LogValue().Group() {
		if field.Value.Kind() == slog.KindString {
			fmt.Fprintf(stdout, "%*s %q\n", -checkColumn, field.Key, field.Value.String())
			continue
		}
		fmt.Fprintf(stdout, "%*s %v\n", -checkColumn, field.Key, field.Value.Any())
	}
	io.WriteString(stdout, also.String())
	return code
}
