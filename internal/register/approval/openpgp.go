package approval

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// The armour of OpenPGP (RFC 9580 §6.2).
const (
	publicArmour    = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	privateArmour   = "-----BEGIN PGP PRIVATE KEY BLOCK-----"
	endArmour       = "-----END PGP PUBLIC KEY BLOCK-----"
	signatureArmour = "-----BEGIN PGP SIGNATURE-----"
)

// skew is how far the clock of who signs may be ahead of ours.
const skew = 5 * time.Minute

// parseOpenPGP reads a file of public keys: any number of blocks, each with any
// number of keys. What is wrong with a block costs that block alone.
func parseOpenPGP(data []byte) (keys openpgp.EntityList, problems []string) {
	text := string(data)
	if strings.Contains(text, privateArmour) {
		return nil, []string{"it holds a private key, which belongs nowhere near the relay"}
	}
	for n := 1; ; n++ {
		begin := strings.Index(text, publicArmour)
		if begin < 0 {
			break
		}
		block := text[begin:]
		end := strings.Index(block, endArmour)
		if end < 0 {
			problems = append(problems, fmt.Sprintf("block %d of keys has no end", n))
			break
		}
		block, text = block[:end+len(endArmour)]+"\n", block[end+len(endArmour):]
		list, err := guarded(func() (openpgp.EntityList, error) { return openpgp.ReadArmoredKeyRing(strings.NewReader(block)) })
		if err != nil {
			problems = append(problems, fmt.Sprintf("block %d of keys cannot be read: %s", n, clean(err.Error())))
		}
		if keys = append(keys, list...); len(keys) > maxKeys {
			return keys[:maxKeys], append(problems, fmt.Sprintf("more than %d keys", maxKeys))
		}
	}
	if len(keys) == 0 && len(problems) == 0 {
		problems = append(problems, "it holds no key")
	}
	return keys, problems
}

// guarded turns a panic of the library, which reads what strangers wrote, into
// an error.
func guarded[T any](f func() (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("what stands there made the library fail: %v", p)
		}
	}()
	return f()
}

// checkOpenPGP says whose good signature a commit carries, or what is wrong
// with it. The key must be good when the signature says it was made, and now:
// whoever holds a key that has ended can write any time.
func checkOpenPGP(c *commit, keys openpgp.EntityList, now time.Time) (who string, err error) {
	block, err := armor.Decode(bytes.NewReader(c.signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return "", errors.New("its OpenPGP signature cannot be read")
	}
	data, err := io.ReadAll(io.LimitReader(block.Body, maxSignature))
	if err != nil {
		return "", errors.New("its OpenPGP signature cannot be read")
	}
	return guarded(func() (string, error) {
		sig, err := soleSignature(data)
		if err != nil {
			return "", err
		}
		why := fmt.Errorf("it is signed with an OpenPGP key that is not listed (%016X)", *sig.IssuerKeyId)
		for _, e := range keys.EntitiesById(*sig.IssuerKeyId) {
			if why = checkEntity(c, e, sig, data, now); why == nil {
				return name(e, now), nil
			}
		}
		return "", why
	})
}

// soleSignature reads the one signature packet that a commit's signature is.
func soleSignature(data []byte) (*packet.Signature, error) {
	packets := packet.NewReader(bytes.NewReader(data))
	p, err := packets.Next()
	sig, ok := p.(*packet.Signature)
	if err != nil || !ok || sig.IssuerKeyId == nil || sig.SigType != packet.SigTypeBinary {
		return nil, errors.New("its OpenPGP signature is none of a commit's")
	}
	if _, err := packets.Next(); err != io.EOF {
		return nil, errors.New("it carries more than one OpenPGP signature")
	}
	return sig, nil
}

// checkEntity verifies a signature against one key.
func checkEntity(c *commit, e *openpgp.Entity, sig *packet.Signature, data []byte, now time.Time) error {
	if made := sig.CreationTime; made.After(now) && !made.After(now.Add(skew)) {
		now = made
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	if e.Revoked(now) {
		return errors.New("its OpenPGP key is revoked")
	}
	if _, _, err := openpgp.VerifyDetachedSignature(openpgp.EntityList{e}, bytes.NewReader(c.payload), bytes.NewReader(data), config); err != nil {
		return fmt.Errorf("its OpenPGP signature does not hold: %s", clean(strings.TrimPrefix(err.Error(), "openpgp: ")))
	}
	if _, ok := e.SigningKeyById(now, *sig.IssuerKeyId, config); !ok {
		return errors.New("its OpenPGP key has expired, or may not sign any more")
	}
	return nil
}

// name is how a key is shown.
func name(e *openpgp.Entity, now time.Time) string {
	who := ""
	if _, id := e.PrimaryIdentity(now, nil); id != nil {
		who = id.Name + " "
	}
	return clean(fmt.Sprintf("%s(OpenPGP %X)", who, e.PrimaryKey.Fingerprint))
}

// forgeKeys are the keys that GitHub signs merges with which are made on the
// web, whoever makes them.
var forgeKeys = []string{"5DE3E0509C47EA3CF04A42D34AEE18F83AFDEB23", "968479A1AFF927E37D1A566BB5690EEEBB952194"}

// ofForge reports whether a key is a forge's own.
func ofForge(e *openpgp.Entity) bool {
	if slices.Contains(forgeKeys, fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)) {
		return true
	}
	for _, id := range e.Identities {
		if id.UserId != nil && strings.HasPrefix(strings.ToLower(id.UserId.Email), "noreply@github") {
			return true
		}
	}
	return false
}

// settle takes keys out that are revoked in any of their copies, and makes
// copies stand beside one another.
func settle(keys openpgp.EntityList, now time.Time) (good openpgp.EntityList, problems []string) {
	revoked := map[string]bool{}
	for _, e := range keys {
		if e.Revoked(now) {
			revoked[string(e.PrimaryKey.Fingerprint)] = true
		}
	}
	for _, e := range keys {
		if revoked[string(e.PrimaryKey.Fingerprint)] {
			problems = append(problems, name(e, now)+" is revoked")
			continue
		}
		if _, err := e.VerifyPrimaryKey(now, nil); err != nil {
			problems = append(problems, name(e, now)+" has expired, or its own signature does not hold")
		}
		good = append(good, e)
	}
	return good, problems
}
