package approval

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

const someCommit = `tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904
parent 1111111111111111111111111111111111111111
author A <a@x> 1700000000 +0100
committer C <c@x> 1700000001 -0500
encoding latin-1
gpgsig -----BEGIN SSH SIGNATURE-----
 U1NIU0lH
 -----END SSH SIGNATURE-----

A change

with a body
`

// Whatever a commit object holds: a signature cut out of it leaves what has
// none, says the same otherwise, and can be put back.
func FuzzParseCommit(f *testing.F) {
	f.Add([]byte(someCommit))
	f.Add([]byte(strings.Replace(someCommit, "encoding latin-1\n", "mergetag object 1\n type commit\n \n x\n", 1)))
	f.Add([]byte(strings.Replace(someCommit, "\nA change", "gpgsig again\n\nA change", 1)))
	f.Add([]byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@x> 1 +0\ncommitter A> <> 2 +0"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCommit(raw)
		if err != nil {
			return
		}
		bare, err := parseCommit(c.payload)
		if err != nil || bare.signature != nil || len(bare.parents) != len(c.parents) || !bare.at.Equal(c.at) {
			t.Fatalf("the payload of %q is %q: %+v, %v", raw, c.payload, bare, err)
		}
		for i, p := range c.parents {
			if bare.parents[i] != p {
				t.Fatal("another parent")
			}
		}
		if !bytes.HasPrefix(c.payload, []byte("tree ")) || bytes.Count(headOf(c.payload), []byte("\nparent ")) != len(c.parents) {
			t.Fatalf("payload %q", c.payload)
		}
		if c.signature == nil {
			if !bytes.Equal(bytes.TrimSuffix(c.payload, []byte("\n")), bytes.TrimSuffix(raw, []byte("\n"))) {
				t.Fatalf("without a signature %q becomes %q", raw, c.payload)
			}
			return
		}
		folded := "gpgsig " + strings.ReplaceAll(strings.TrimSuffix(string(c.signature), "\n"), "\n", "\n ") + "\n"
		if !strings.Contains(string(raw)+"\n", folded) {
			t.Fatalf("the signature %q is none of %q", c.signature, raw)
		}
	})
}

func headOf(payload []byte) []byte {
	head, _, _ := bytes.Cut(payload, []byte("\n\n"))
	return head
}

// Whatever stands in a file of allowed signers: it ends, nothing is both taken
// and told of, and what is taken has a key and principals.
func FuzzParseAllowed(f *testing.F) {
	public, _, err := ed25519.GenerateKey(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		f.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		f.Fatal(err)
	}
	text := string(ssh.MarshalAuthorizedKey(key))
	for _, options := range []string{"", `namespaces="git" `, `valid-after="20260101",valid-before="20270101Z" `, `cert-authority `, `namespaces="a\"b,!c" `} {
		f.Add([]byte("# x\na@x,*@y " + options + text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, problems := parseAllowed(data, time.UTC)
		if lines := bytes.Count(data, []byte("\n")) + 1; len(keys)+len(problems) > lines {
			t.Fatalf("%d keys and %d problems in %d lines", len(keys), len(problems), lines)
		}
		for _, k := range keys {
			if k.key == nil || k.principals == "" || usableSSH(k.key) != nil {
				t.Fatalf("%+v", k)
			}
			_ = k.permits(namespace, time.Unix(0, 0))
		}
		for _, p := range problems {
			if !strings.HasPrefix(p, "line ") || strings.ContainsAny(p, "\n\r\x1b") {
				t.Fatalf("%q", p)
			}
		}
	})
}

// No signature that was not made with a listed key is good, and none makes the
// program fail.
func FuzzSignature(f *testing.F) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	listed, other := newPGPKey(f, "pm@umich.edu", made, year), newPGPKey(f, "eve@umich.edu", made, year)
	pgp, problems := parseOpenPGP([]byte(listed.public()))
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	const text = "tree x"
	f.Add(listed.sign("another text", made.Add(time.Hour)))
	f.Add(other.sign(text, made.Add(time.Hour)))
	f.Add([]byte(sshArmour + "\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg\n-----END SSH SIGNATURE-----\n"))
	k := &Keyring{openpgp: pgp, digest: "read", now: func() time.Time { return made.Add(2 * time.Hour) }}
	f.Fuzz(func(t *testing.T, signature []byte) {
		c := &commit{payload: []byte(text), signature: signature, at: made}
		if len(signature) > maxSignature {
			return
		}
		if who, err := checkOpenPGP(c, k.openpgp, k.now()); err == nil {
			t.Fatalf("%q is taken for one of %s", signature, who)
		}
		if who, err := checkSSH(c, k.ssh, k.now()); err == nil {
			t.Fatalf("%q is taken for one of %s", signature, who)
		}
	})
}

// FuzzKeyFile: whatever stands in a file of OpenPGP keys.
func FuzzKeyFile(f *testing.F) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key := newPGPKey(f, "pm@umich.edu", made, year)
	f.Add([]byte(key.public()))
	f.Add([]byte(publicArmour + "\n\n" + endArmour))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, problems := parseOpenPGP(data)
		if len(keys) == 0 && len(problems) == 0 {
			t.Fatal("no key, and not a word")
		}
		_, _ = guarded(func() (int, error) { _, p := settle(keys, made); return len(p), nil })
	})
}
