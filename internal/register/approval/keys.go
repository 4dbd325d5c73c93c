package approval

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"example.edu/gatepost/internal/durable"
)

// maxKeyFiles bounds the files of a Keyring.
const maxKeyFiles = 32

// A Keyring is the keys of postmasters, in files outside of the register: each
// holds armoured OpenPGP public keys, or allowed signers of ssh-keygen. The
// files are read again when they change. It is safe for concurrent use.
type Keyring struct {
	files []string
	alone bool // nothing but the signature is asked for
	zone  *time.Location
	now   func() time.Time

	mu       sync.Mutex
	digest   string             // of the files as they were read
	openpgp  openpgp.EntityList // guarded by mu, as what follows
	ssh      []allowedKey
	problems []string
	broken   []string // of problems, one for each file from which no key could be had
}

// NewKeyring names the files. alone says that nothing else is asked for than a
// signature: the keys of a forge itself, with which it signs whatever is merged
// on the web, then count for nothing.
func NewKeyring(files []string, alone bool) (*Keyring, error) {
	if len(files) == 0 || len(files) > maxKeyFiles {
		return nil, fmt.Errorf("approval: %d files of keys; 1 to %d it must be", len(files), maxKeyFiles)
	}
	return &Keyring{files: slices.Clone(files), alone: alone, zone: time.Local, now: time.Now}, nil
}

// Policy names the keys as they are now.
func (k *Keyring) Policy() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	return "keys " + k.digest
}

// Problems reads the files and tells, in a line each, what is wrong with them.
// usable is how many keys can vouch for a commit now.
func (k *Keyring) Problems() (usable int, problems []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.digest = ""
	k.refresh()
	now := k.now()
	usable = len(k.ssh)
	for _, e := range k.openpgp {
		if _, err := e.VerifyPrimaryKey(now, nil); err == nil {
			usable++
		}
	}
	for i := range k.ssh {
		if k.ssh[i].permits(namespace, now) != nil {
			usable--
		}
	}
	return usable, slices.Clone(k.problems)
}

// Trouble is what was wrong with the files when they were last read, a line each.
// Unlike Problems it reads nothing.
func (k *Keyring) Trouble() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.problems)
}

// Broken is, of Trouble, a line for each file from which no key could be had: it
// is gone, or holds something else than keys. While there is one, a signature
// that no other file explains is not refused: it could not be judged.
func (k *Keyring) Broken() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.broken)
}

// refresh reads the files, and the keys anew if they are others. The caller
// holds mu.
func (k *Keyring) refresh() {
	sum, now := sha256.New(), k.now()
	contents := make(map[string][]byte, len(k.files))
	var failed []string
	for i, file := range k.files {
		data, err := durable.ReadFile(file, maxKeyFile)
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s cannot be read: %v", file, cause(err)))
		} else {
			contents[file] = data
		}
		fmt.Fprintf(sum, "%d %d %t\x00", i, len(data), err != nil)
		sum.Write(data)
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	if digest == k.digest {
		return
	}
	k.digest, k.openpgp, k.ssh, k.problems, k.broken = digest, nil, nil, failed, slices.Clone(failed)
	var all openpgp.EntityList
	for _, file := range k.files {
		data, ok := contents[file]
		if !ok {
			continue
		}
		var problems []string
		found := 0
		if isOpenPGP(data) {
			var keys openpgp.EntityList
			keys, problems = parseOpenPGP(data)
			found = len(keys)
			for _, e := range keys {
				if k.alone && ofForge(e) {
					problems = append(problems, name(e, now)+" is a forge's own key, with which it signs whatever is merged on the web: it is left out")
					continue
				}
				all = append(all, e)
			}
		} else {
			var keys []allowedKey
			keys, problems = parseAllowed(data, k.zone)
			found = len(keys)
			if k.ssh = append(k.ssh, keys...); len(keys)+len(problems) == 0 {
				problems = append(problems, "it holds no key")
			}
		}
		for i, p := range problems {
			k.problems = append(k.problems, file+": "+p)
			if i == 0 && found == 0 {
				k.broken = append(k.broken, file+": "+p)
			}
		}
	}
	good, problems := settle(all, now)
	k.openpgp, k.problems = good, append(k.problems, problems...)
}

// isOpenPGP tells the two kinds of file apart.
func isOpenPGP(data []byte) bool { return strings.Contains(string(data), "-----BEGIN PGP ") }

// check says who of the keyring vouches for a commit by its signature.
func (k *Keyring) check(c *commit) Verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	now := k.now()
	who, err := "", fmt.Errorf("it is not signed")
	switch text := string(c.signature); {
	case len(text) > maxSignature:
		err = fmt.Errorf("its signature is longer than %d bytes", maxSignature)
	case strings.HasPrefix(text, sshArmour):
		who, err = checkSSH(c, k.ssh, now)
	case strings.HasPrefix(text, signatureArmour):
		who, err = checkOpenPGP(c, k.openpgp, now)
	case text != "":
		err = fmt.Errorf("its signature is neither OpenPGP nor SSH")
	}
	switch {
	case err == nil:
		return Verdict{Vouched, "signed by " + who}
	case len(k.broken) > 0:
		return Verdict{Unknown, err.Error() + "; but not all keys are known: " + k.broken[0]}
	}
	return Verdict{Refused, err.Error()}
}

// cause is what the system says of a file, without its name and what was done.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
