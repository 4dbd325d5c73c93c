package approval

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"example.edu/gatepost/internal/register/gitsync"
)

// An sshKey is a key that ssh-keygen made.
type sshKey struct{ path, public string }

func newSSHKey(t *testing.T, kind string) sshKey {
	t.Helper()
	needs(t, "ssh-keygen")
	k := sshKey{path: filepath.Join(t.TempDir(), "key")}
	kind, bits, _ := strings.Cut(kind, "-")
	args := []string{"-q", "-N", "", "-C", "a comment", "-t", kind, "-f", k.path}
	if bits != "" {
		args = append(args, "-b", bits)
	}
	run(t, "", "ssh-keygen", args...)
	data, err := os.ReadFile(k.path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	k.public = strings.TrimSpace(string(data))
	return k
}

// signing is what makes git sign with a key.
func (k sshKey) signing() []string {
	return []string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + k.path, "-c", "commit.gpgsign=true"}
}

// keyring is a Keyring of files with these contents.
func keyring(t *testing.T, contents ...string) *Keyring {
	t.Helper()
	var files []string
	for i, c := range contents {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("keys%d", i))
		if err := os.WriteFile(file, []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	k, err := NewKeyring(files, true)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// judged is the verdict on a commit of a repo.
func judged(t *testing.T, r *repo, k *Keyring, reviews *Reviews, commit gitsync.Hash) Verdict {
	t.Helper()
	j, err := NewJudge(r, k, reviews)
	if err != nil {
		t.Fatal(err)
	}
	v, err := j.Vouch(t.Context(), r.step(commit))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v Verdict) want(t *testing.T, name string, standing Standing, why string) {
	t.Helper()
	if v.Standing != standing || !strings.Contains(v.Why, why) {
		t.Errorf("%s: %s, %q; want %s, %q", name, v.Standing, v.Why, standing, why)
	}
}

func TestSSHSignatures(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048", "rsa-1024"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t)
			key, other := newSSHKey(t, kind), newSSHKey(t, "ed25519")
			first := r.commit(nil)
			good := r.commit(key.signing(), "registrations/a.cue", "a")
			unsigned := r.commit(nil, "registrations/a.cue", "b")
			k := keyring(t, "pm@umich.edu "+key.public+"\n")
			weak := kind == "rsa-1024"
			v := judged(t, r, k, nil, good)
			if weak {
				v.want(t, "weak", Unknown, "not all keys are known")
				if n, problems := k.Problems(); n != 0 || !strings.Contains(strings.Join(problems, ""), "1024 bits") {
					t.Errorf("%d, %q", n, problems)
				}
				return
			}
			v.want(t, "good", Vouched, "signed by pm@umich.edu")
			judged(t, r, k, nil, unsigned).want(t, "unsigned", Refused, "not signed")
			judged(t, r, keyring(t, "pm@umich.edu "+other.public), nil, good).want(t, "of another key", Refused, "not listed")

			// The signature of one commit on another: content, parent and message count.
			raw, err := r.Raw(t.Context(), good)
			if err != nil {
				t.Fatal(err)
			}
			forged := strings.Replace(string(raw), "A change", "A chance", 1)
			judged(t, r, k, nil, r.store(forged)).want(t, "forged", Refused, "signature is wrong")
			moved := strings.Replace(string(raw), first.String(), unsigned.String(), 1)
			judged(t, r, k, nil, r.store(moved)).want(t, "another parent", Refused, "signature is wrong")

			// A step that is not made on the commit before is no business of a key.
			j, err := NewJudge(r, k, nil)
			if err != nil {
				t.Fatal(err)
			}
			step, err := j.Vouch(t.Context(), gitsync.Step{Commit: good, Base: unsigned})
			if err != nil {
				t.Fatal(err)
			}
			step.want(t, "elsewhere", Refused, "not made on top")
		})
	}
}

// store writes a commit object as it is.
func (r *repo) store(raw string) gitsync.Hash {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "commit")
	if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.hash(r.git("hash-object", "-t", "commit", "-w", "--literally", file))
}

// TestAllowedSignersAsSSHKeygen: for every option, what ssh-keygen says of a
// signature is what is said here.
func TestAllowedSignersAsSSHKeygen(t *testing.T) {
	t.Parallel()
	key := newSSHKey(t, "ed25519")
	dir := t.TempDir()
	message := filepath.Join(dir, "message")
	if err := os.WriteFile(message, []byte("a commit"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "ssh-keygen", "-q", "-Y", "sign", "-f", key.path, "-n", "git", message)
	signature, err := os.ReadFile(message + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	const at = "20260601120000Z"
	now, err := parseSSHTime(at, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	allowed := filepath.Join(dir, "allowed")
	for _, options := range []string{
		"", `namespaces="git"`, `namespaces="file"`, `namespaces="file,git"`, `namespaces="g*"`, `namespaces="*,!git"`, `namespaces="!git,*"`,
		`namespaces="!file,*"`, `namespaces="g?t"`, `namespaces="gi"`, `namespaces="GIT"`, `NAMESPACES="git"`, `namespaces="git",namespaces="git"`,
		`namespaces=git`, `namespaces="git`, `namespaces="a b,git"`, `namespaces=""`, `namespaces`,
		`valid-after="20260601120000Z"`, `valid-after="20260601120001Z"`, `valid-after="20260601Z"`, `valid-after="20260602Z"`, `valid-after="202606011200Z"`,
		`valid-before="20260601120000Z"`, `valid-before="20260601115959Z"`, `valid-before="20260601Z"`, `valid-before="20270101Z"`,
		`valid-after="20260101Z",valid-before="20270101Z"`, `valid-after="20270101Z",valid-before="20260101Z"`, `valid-after="20260101Z",valid-before="20260101Z"`,
		`valid-after="yesterday"`, `valid-after="20261301Z"`, `valid-after="2026060112Z"`, `valid-after=""`,
		`namespaces="git",valid-before="20270101Z"`, `namespaces="git",`, `namespaces="git"x`, `nonsense`, `nonsense="git"`,
		`cert-authority`, `cert-authority,namespaces="git"`, `namespaces="git\""`, `namespaces="git,\"x\""`,
	} {
		line := "pm@umich.edu "
		if options != "" {
			line += options + " "
		}
		line += key.public + "\n"
		if err := os.WriteFile(allowed, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "pm@umich.edu", "-n", "git", "-s", message+".sig", "-O", "verify-time="+at)
		cmd.Stdin = strings.NewReader("a commit")
		out, failed := cmd.CombinedOutput()
		keys, problems := parseAllowed([]byte(line), time.UTC)
		c := &commit{at: now, payload: []byte("a commit"), signature: signature}
		who, err := checkSSH(c, keys, now)
		if (failed == nil) != (err == nil) {
			t.Errorf("%s\nssh-keygen: %v %s\nhere: %q, %v, %q", line, failed, out, who, err, problems)
		}
		if err != nil && len(keys) == 0 && len(problems) == 0 {
			t.Errorf("%s is left out without a word", line)
		}
	}
}

func TestParseAllowed(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	_, blob, _ := strings.Cut(text, " ")
	const many = "# the postmasters\r\n\n   \t\n"
	keys, problems := parseAllowed([]byte(many+"a@x,b@x "+text+" comment here\r\n\t c@x\tnamespaces=\"git\"\t"+text+"\n"), time.UTC)
	if len(keys) != 2 || len(problems) > 0 || keys[0].principals != "a@x,b@x" || keys[1].principals != "c@x" || keys[1].namespaces != "git" {
		t.Errorf("%+v, %q", keys, problems)
	}
	for line, want := range map[string]string{
		text:                                    "whose key it is", // a .pub file: no principals
		"pm":                                    "no public key",
		"pm ssh-ed25519":                        "no public key",
		"pm ssh-rsa " + blob:                    "a key of type ssh-ed25519 where ssh-rsa is written",
		"pm ssh-ed25519 AAAA":                   "a key that cannot be read",
		"pm ssh-ed25519 " + blob[:20]:           "a key that cannot be read",
		", " + text:                             "no principals",
		"pm cert-authority " + text:             "certificates are not taken",
		"pm valid-after=\"soon\" " + text:       "a time is written",
		"pm valid-before=\"20261340Z\" " + text: "is no time",
		"pm " + strings.Repeat("x", maxKeyLine): "longer than",
	} {
		keys, problems := parseAllowed([]byte("# first\n"+line+"\npm "+text+"\n"), time.UTC)
		if len(problems) != 1 || !strings.HasPrefix(problems[0], "line 2: ") || !strings.Contains(problems[0], want) {
			t.Errorf("%.60s: %q, want %q", line, problems, want)
		}
		if len(keys) != 1 && want != "longer than" {
			t.Errorf("%.60s: costs other lines", line)
		}
	}
	_, problems = parseAllowed([]byte(strings.Repeat("pm "+text+"\n", maxKeys+1)), time.UTC)
	if len(problems) != 1 {
		t.Errorf("too many: %q", problems)
	}
	zone := time.FixedZone("", 3600)
	if at, err := parseSSHTime("20260601", zone); err != nil || !at.Equal(time.Date(2026, 5, 31, 23, 0, 0, 0, time.UTC)) {
		t.Errorf("a local time: %v, %v", at, err)
	}
}

// A key that has ended is no key for what is dated back.
func TestBackdatedSSH(t *testing.T) {
	t.Parallel()
	r, key := newRepo(t), newSSHKey(t, "ed25519")
	r.commit(nil)
	r.date = "2026-01-01T12:00:00Z"
	old := r.commit(key.signing(), "registrations/a.cue", "a")
	k := keyring(t, `pm valid-before="20260201Z" `+key.public)
	k.now = func() time.Time { return time.Date(2026, 1, 1, 12, 5, 0, 0, time.UTC) }
	judged(t, r, k, nil, old).want(t, "in time", Vouched, "pm")
	k.now = func() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }
	judged(t, r, k, nil, old).want(t, "dated back", Refused, "was valid until 2026-02-01")
	k = keyring(t, `pm valid-after="20260201Z" `+key.public)
	judged(t, r, k, nil, old).want(t, "made before the key counted", Refused, "valid from 2026-02-01")
}

// Files of keys are read again when they change, and one that is gone is no
// verdict.
func TestKeyFilesChange(t *testing.T) {
	t.Parallel()
	r, one, two := newRepo(t), newSSHKey(t, "ed25519"), newSSHKey(t, "ed25519")
	r.commit(nil)
	first := r.commit(one.signing(), "registrations/a.cue", "a")
	second := r.commit(two.signing(), "registrations/a.cue", "b")
	k := keyring(t, "one "+one.public, "# nobody yet\none "+one.public)
	policy := k.Policy()
	judged(t, r, k, nil, first).want(t, "first", Vouched, "one")
	judged(t, r, k, nil, second).want(t, "second", Refused, "not listed")
	if k.Policy() != policy {
		t.Error("the policy changes by itself")
	}
	if err := os.WriteFile(k.files[1], []byte("two "+two.public), 0o600); err != nil {
		t.Fatal(err)
	}
	judged(t, r, k, nil, second).want(t, "second, listed", Vouched, "two")
	if k.Policy() == policy {
		t.Error("the policy is the same with other keys")
	}
	if err := os.Remove(k.files[1]); err != nil {
		t.Fatal(err)
	}
	judged(t, r, k, nil, first).want(t, "first, by the file that is left", Vouched, "one")
	judged(t, r, k, nil, second).want(t, "second, its file gone", Unknown, "not all keys are known: "+k.files[1]+" cannot be read: no such file or directory")
	if n, problems := k.Problems(); n != 1 || len(problems) != 1 || !slices.Equal(problems, k.Broken()) || !slices.Equal(problems, k.Trouble()) {
		t.Errorf("%d, %q", n, problems)
	}

	// Overwritten with something else: nobody's signature is refused for that.
	for name, text := range map[string]string{"nothing": "", "no key": "garbage\n", "a .pub file": two.public, "private": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n"} {
		if err := os.WriteFile(k.files[1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		judged(t, r, k, nil, second).want(t, name, Unknown, "not all keys are known: "+k.files[1]+": ")
	}
	// One bad line beside a good one costs that line alone.
	if err := os.WriteFile(k.files[1], []byte("garbage\nother "+one.public), 0o600); err != nil {
		t.Fatal(err)
	}
	judged(t, r, k, nil, second).want(t, "second, and one bad line", Refused, "not listed")
	if len(k.Broken()) != 0 || len(k.Trouble()) != 1 {
		t.Errorf("%q, %q", k.Broken(), k.Trouble())
	}
}
