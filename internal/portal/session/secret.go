package session

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"example.edu/gatepost/internal/durable"
)

// The bounds of a file of secrets: its octets, and its lines.
const (
	maxSecretFile = 16 << 10
	maxSecrets    = 16
)

// ReadSecrets reads a file of secrets for cookies, one a line; blank lines and
// white space at the ends of a line do not count.
func ReadSecrets(path string) ([][]byte, error) {
	data, err := durable.ReadFile(path, maxSecretFile)
	if err != nil {
		return nil, fmt.Errorf("session: reading the secrets for cookies: %w", err)
	}
	var out [][]byte
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
			continue
		case len(line) < MinSecret:
			return nil, fmt.Errorf("session: %s: a secret has %d octets; %d are the least", path, len(line), MinSecret)
		case len(out) == maxSecrets:
			return nil, fmt.Errorf("session: %s holds more than %d secrets", path, maxSecrets)
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("session: %s holds no secret", path)
	}
	return out, nil
}

// OwnSecrets reads the portal's own file of secrets, and makes it where there is
// none. What cannot be read is not replaced: that would sign everybody out in
// silence, and hide who damaged it.
func OwnSecrets(path string) ([][]byte, error) {
	secrets, err := ReadSecrets(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secrets, err
	}
	fresh := make([]byte, MinSecret)
	_, _ = rand.Read(fresh) // it never fails
	line := append([]byte(hex.EncodeToString(fresh)), '\n')
	if err := durable.WriteFile(path, line, os.FileMode(0o600)); err != nil {
		return nil, fmt.Errorf("session: keeping the secret for cookies: %w", err)
	}
	return ReadSecrets(path)
}

// trimmed is the one secret of a file, without the white space around it.
func trimmed(data []byte) string { return string(bytes.TrimSpace(data)) }
