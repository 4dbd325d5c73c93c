package approval

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"example.edu/gatepost/internal/register/gitsync"
)

// A gnupg is a home of gpg's, with keys that gpg itself made.
type gnupg struct {
	t    *testing.T
	home string
}

func newGnuPG(t *testing.T) gnupg {
	t.Helper()
	needs(t, "gpg")
	home, err := os.MkdirTemp("", "gpg") // short: gpg's sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	return gnupg{t, home}
}

func (g gnupg) run(args ...string) string {
	g.t.Helper()
	args = append([]string{"--homedir", g.home, "--batch", "--quiet", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)
	cmd := exec.Command("gpg", args...)
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("gpg %s: %v\n%s", strings.Join(args, " "), err, err.(*exec.ExitError).Stderr)
	}
	return string(out)
}

// key makes a key and gives its armoured public part.
func (g gnupg) key(who, kind string) string {
	g.t.Helper()
	g.run("--quick-generate-key", who, kind, "default", "2y")
	return g.run("--armor", "--export", who)
}

// signing is what makes git sign with a key.
func (g gnupg) signing(who string) []string {
	wrapper := filepath.Join(g.home, "gpg")
	script := "#!/bin/sh\nexec gpg --homedir " + g.home + " --batch --no-tty --pinentry-mode loopback --passphrase '' \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		g.t.Fatal(err)
	}
	return []string{"-c", "gpg.program=" + wrapper, "-c", "user.signingkey=" + who, "-c", "commit.gpgsign=true"}
}

// TestGnuPGSignatures: what git and gpg sign together.
func TestGnuPGSignatures(t *testing.T) {
	t.Parallel()
	g, r := newGnuPG(t), newRepo(t)
	first := r.commit(nil)
	public := map[string]string{}
	for who, kind := range map[string]string{"ed@umich.edu": "ed25519", "rsa@umich.edu": "rsa2048", "nist@umich.edu": "nistp256"} {
		public[who] = g.key(who, kind)
	}
	all := "some words before\n" + public["ed@umich.edu"] + "\nand between\n" + public["rsa@umich.edu"] + public["nist@umich.edu"]
	for who := range public {
		made := r.commit(g.signing(who), "registrations/a.cue", who)
		judged(t, r, keyring(t, all), nil, made).want(t, who, Vouched, "signed by "+who+" (OpenPGP ")
		judged(t, r, keyring(t, "# none\n", public[who]), nil, made).want(t, who+" alone", Vouched, who)
		raw, err := r.Raw(t.Context(), made)
		if err != nil {
			t.Fatal(err)
		}
		forged := strings.Replace(string(raw), "A change", "A chance", 1)
		judged(t, r, keyring(t, all), nil, r.store(forged)).want(t, who+" forged", Refused, "does not hold")
	}
	made := r.commit(g.signing("ed@umich.edu"), "registrations/a.cue", "x")
	judged(t, r, keyring(t, public["rsa@umich.edu"]), nil, made).want(t, "of another key", Refused, "not listed")
	merge := r.merge(g.signing("ed@umich.edu"), first)
	judged(t, r, keyring(t, all), nil, merge).want(t, "a merge", Vouched, "ed@umich.edu")
	if n, problems := keyring(t, all).Problems(); n != 3 || len(problems) > 0 {
		t.Errorf("%d, %q", n, problems)
	}
}

// merge merges a branch that is made from a commit.
func (r *repo) merge(options []string, from gitsync.Hash) gitsync.Hash {
	r.t.Helper()
	r.git("checkout", "-q", "-b", "side", from.String())
	r.commit(nil, "registrations/side.cue", "side")
	r.git("checkout", "-q", "main")
	r.git(append(options, "merge", "-q", "--no-ff", "-m", "Merge", "side")...)
	r.git("branch", "-q", "-D", "side")
	return r.head()
}

// A pgpKey is a key made here, at a time of choice.
type pgpKey struct {
	t      testing.TB
	entity *openpgp.Entity
}

func newPGPKey(t testing.TB, email string, made time.Time, life time.Duration, change ...func(*packet.Config)) pgpKey {
	t.Helper()
	c := &packet.Config{Time: func() time.Time { return made }, KeyLifetimeSecs: uint32(life / time.Second), Algorithm: packet.PubKeyAlgoEdDSA}
	for _, f := range change {
		f(c)
	}
	e, err := openpgp.NewEntity("Post Master", "", email, c)
	if err != nil {
		t.Fatal(err)
	}
	return pgpKey{t, e}
}

func (k pgpKey) public() string {
	k.t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		err = k.entity.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return b.String() + "\n"
}

func (k pgpKey) private() string {
	k.t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PrivateKeyType, nil)
	if err == nil {
		err = k.entity.SerializePrivate(w, nil)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return b.String() + "\n"
}

// sign is a signature of a text, as if made at a time.
func (k pgpKey) sign(text string, at time.Time, change ...func(*packet.Config)) []byte {
	k.t.Helper()
	c := &packet.Config{Time: func() time.Time { return at }}
	for _, f := range change {
		f(c)
	}
	var b bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&b, []*openpgp.Entity{k.entity}, strings.NewReader(text), &openpgp.SignParams{Config: c}); err != nil {
		k.t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

var year = 365 * 24 * time.Hour

// TestOpenPGPTimes: a key must be good when the signature says it was made, and
// when it is looked at.
func TestOpenPGPTimes(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key := newPGPKey(t, "pm@umich.edu", made, year)
	later := made.Add(100 * 24 * time.Hour)
	revoke := func(k pgpKey, why packet.ReasonForRevocation, at time.Time) pgpKey {
		t.Helper()
		if err := k.entity.Revoke(why, "", &packet.Config{Time: func() time.Time { return at }}); err != nil {
			t.Fatal(err)
		}
		return k
	}
	for name, c := range map[string]struct {
		key      pgpKey
		signed   time.Time
		now      time.Time
		standing Standing
		why      string
	}{
		"good":                      {key, later, later.Add(time.Minute), Vouched, "pm@umich.edu"},
		"a clock a little ahead":    {key, later.Add(4 * time.Minute), later, Vouched, "pm@umich.edu"},
		"from the future":           {key, later.Add(time.Hour), later, Refused, "does not hold"},
		"looked at after its end":   {key, later, made.Add(year + time.Hour), Refused, "expired"},
		"revoked since":             {revoke(newPGPKey(t, "r@umich.edu", made, year), packet.KeyCompromised, later), later.Add(-time.Hour), later.Add(time.Hour), Refused, "not listed"},
		"retired since, dated back": {revoke(newPGPKey(t, "s@umich.edu", made, year), packet.KeyRetired, later), later.Add(-time.Hour), later.Add(time.Hour), Refused, "not listed"},
	} {
		text := "tree " + name
		k := keyring(t, c.key.public())
		k.now = func() time.Time { return c.now }
		var signature []byte
		if len(c.key.entity.Revocations) > 0 {
			signature = resign(t, c.key, text, c.signed)
		} else {
			signature = c.key.sign(text, c.signed)
		}
		k.check(&commit{payload: []byte(text), signature: signature}).want(t, name, c.standing, c.why)
	}
}

// resign signs with a key that is revoked by now, as whoever stole it would.
func resign(t *testing.T, k pgpKey, text string, at time.Time) []byte {
	t.Helper()
	stolen := *k.entity
	stolen.Revocations = nil
	return pgpKey{t, &stolen}.sign(text, at)
}

// TestOpenPGPFiles: several keys a file, and what is no help.
func TestOpenPGPFiles(t *testing.T) {
	t.Parallel()
	made := time.Now().Add(-time.Hour)
	one, two := newPGPKey(t, "one@umich.edu", made, year), newPGPKey(t, "two@umich.edu", made, year)
	gone, forge := newPGPKey(t, "gone@umich.edu", made.Add(-2*year), year), newPGPKey(t, "noreply@github.com", made, year)
	weak := newPGPKey(t, "weak@umich.edu", made, year, func(c *packet.Config) { c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, 1024 })
	sign := func(k pgpKey) *commit {
		return &commit{payload: []byte("x"), signature: k.sign("x", time.Now(), func(c *packet.Config) { c.MinRSABits = 512 })}
	}
	k := keyring(t, one.public()+gone.public()+two.public()+weak.public(), forge.public())
	for name, c := range map[string]struct {
		key      pgpKey
		standing Standing
		why      string
	}{
		"first":      {one, Vouched, "one@umich.edu"},
		"third":      {two, Vouched, "two@umich.edu"},
		"weak":       {weak, Refused, "does not hold"},
		"of a forge": {forge, Refused, "not listed"},
	} {
		k.check(sign(c.key)).want(t, name, c.standing, c.why)
	}
	n, problems := k.Problems()
	text := strings.Join(problems, "\n")
	if n != 3 || !strings.Contains(text, "gone@umich.edu") || !strings.Contains(text, "forge's own key") || len(problems) != 2 {
		t.Errorf("%d\n%s", n, text)
	}
	both := keyring(t, forge.public())
	both.alone = false
	both.check(sign(forge)).want(t, "of a forge, beside reviews", Vouched, "noreply@github.com")

	// Two copies of a key, one of them revoked, in any order.
	revoked := *two.entity
	if err := revoked.Revoke(packet.KeyCompromised, "", nil); err != nil {
		t.Fatal(err)
	}
	two.entity.Revocations = nil
	for _, files := range [][]string{{two.public(), pgpKey{t, &revoked}.public()}, {pgpKey{t, &revoked}.public(), two.public()}} {
		keyring(t, files...).check(sign(two)).want(t, "a copy is revoked", Refused, "not listed")
	}

	for name, c := range map[string]struct{ text, want string }{
		"private":  {one.private() + one.public(), "private key"},
		"no end":   {strings.Replace(one.public(), "-----END PGP PUBLIC KEY BLOCK-----", "", 1), "no end"},
		"no key":   {"-----BEGIN PGP MESSAGE-----\n\nabcd\n-----END PGP MESSAGE-----\n", "no key"},
		"broken":   {publicArmour + "\n\nbm90IGEga2V5\n" + endArmour + "\n", "cannot be read"},
		"empty":    {"", "no key"},
		"comments": {"# nothing\n", "no key"},
	} {
		if n, problems := keyring(t, c.text).Problems(); n != 0 || len(problems) != 1 || !strings.Contains(problems[0], c.want) {
			t.Errorf("%s: %d, %q", name, n, problems)
		}
	}
}

// TestOddSignatures: what git would not make is refused.
func TestOddSignatures(t *testing.T) {
	t.Parallel()
	made := time.Now().Add(-time.Hour)
	key := newPGPKey(t, "pm@umich.edu", made, year)
	k := keyring(t, key.public())
	good := key.sign("x", time.Now())
	var body bytes.Buffer
	block, err := armor.Decode(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := body.ReadFrom(block.Body); err != nil {
		t.Fatal(err)
	}
	armoured := func(kind string, data ...[]byte) []byte {
		var b bytes.Buffer
		w, err := armor.Encode(&b, kind, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range data {
			if _, err := w.Write(d); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		return b.Bytes()
	}
	var text bytes.Buffer
	if err := openpgp.DetachSignWithParams(&text, []*openpgp.Entity{key.entity}, strings.NewReader("x"), &openpgp.SignParams{TextSig: true}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		signature []byte
		standing  Standing
		why       string
	}{
		"good":           {good, Vouched, "pm@"},
		"again armoured": {armoured("PGP SIGNATURE", body.Bytes()), Vouched, "pm@"},
		"twice":          {armoured("PGP SIGNATURE", body.Bytes(), body.Bytes()), Refused, "more than one"},
		"of a text":      {armoured("PGP SIGNATURE", text.Bytes()), Refused, "none of a commit"},
		"a message":      {armoured("PGP MESSAGE", body.Bytes()), Refused, "neither"},
		"a key":          {[]byte(key.public()), Refused, "neither"},
		"cut":            {good[:len(good)/2], Refused, ""},
		"empty":          {armoured("PGP SIGNATURE"), Refused, "none of a commit"},
		"huge":           {append(bytes.Clone(good), make([]byte, maxSignature)...), Refused, "longer than"},
		"X.509":          {[]byte("-----BEGIN SIGNED MESSAGE-----\nx\n"), Refused, "neither"},
		"SSH":            {[]byte(sshArmour + "\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"), Refused, "cannot be read"},
	} {
		k.check(&commit{payload: []byte("x"), signature: c.signature}).want(t, name, c.standing, c.why)
	}
}
