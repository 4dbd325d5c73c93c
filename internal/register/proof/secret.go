package proof

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"example.edu/gatepost/internal/durable"
)

// ReadKey makes a Key of the secret in a file; white space at its ends does not
// count. An error holds nothing of the content.
func ReadKey(path string) (Key, error) {
	data, err := durable.ReadFile(path, MaxSecret+2)
	if err != nil {
		return Key{}, fmt.Errorf("proof: reading the secret: %w", err)
	}
	k, err := NewKey(bytes.TrimSpace(data))
	if err != nil {
		return Key{}, fmt.Errorf("%w: %s", err, path)
	}
	return k, nil
}

// OwnKey is ReadKey for a secret that nobody else needs to know: where there is
// no such file, one is made, of mode 0600. One caller at a time.
func OwnKey(path string) (Key, error) {
	k, err := ReadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	// 52 letters and digits, 260 bits: text, so that an operator can copy it to
	// the other relays of a fleet.
	secret := rand.Text() + rand.Text()
	if err := durable.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return Key{}, fmt.Errorf("proof: keeping a new secret: %w", err)
	}
	return NewKey([]byte(secret))
}
