package approval

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"example.edu/gatepost/internal/mail"
)

// namespace is what git signs commits under.
const namespace = "git"

// sshArmour begins an SSH signature.
const sshArmour = "-----BEGIN SSH SIGNATURE-----"

// rsaBits is the size of an RSA key, 0 for another one.
func rsaBits(key ssh.PublicKey) int {
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
			return k.N.BitLen()
		}
	}
	return 0
}

// checkSSH says whose good signature a commit carries, or what is wrong with
// it. The key must be valid when the commit says it was made, as git looks at
// it, and now: whoever holds a key that was taken back can write any time.
func checkSSH(c *commit, keys []allowedKey, now time.Time) (who string, err error) {
	sig, err := sshsig.Unarmor(c.signature)
	if err != nil {
		return "", errors.New("its SSH signature cannot be read")
	}
	blob := sig.PublicKey.Marshal()
	why := fmt.Errorf("it is signed with an SSH key that is not listed (%s)", ssh.FingerprintSHA256(sig.PublicKey))
	for i := range keys {
		k := &keys[i]
		if !bytes.Equal(k.key.Marshal(), blob) {
			continue
		}
		if err := sshsig.Verify(bytes.NewReader(c.payload), sig, k.key, sig.HashAlgorithm, namespace); err != nil {
			return "", errors.New("its SSH signature is wrong")
		}
		if why = k.permits(namespace, c.at); why == nil {
			if why = k.permits(namespace, now); why == nil {
				return clean(k.principals), nil
			}
		}
	}
	return "", why
}

// clean makes a text fit for a line of an operator's.
func clean(s string) string { return strings.TrimSpace(mail.Printable(s, 200)) }
