package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"example.edu/gatepost/internal/durable"
)

// maxKeyFile is the longest file of a key, in octets.
const maxKeyFile = 64 << 10

// minBits is the shortest RSA key. RFC 8301 §3.2.
const minBits = 1024

// A signer is a key that was read.
type signer struct {
	key     Key
	private crypto.Signer
	record  string // what its TXT record must say
}

// readKey reads one key. The error names the file, never its content.
func readKey(k Key) (signer, error) {
	wrong := func(err error) (signer, error) {
		return signer{}, fmt.Errorf("dkim: the key of %s, selector %s, in %s: %w", k.Domain, k.Selector, k.File, err)
	}
	data, err := durable.ReadFile(k.File, maxKeyFile)
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return wrong(pathErr.Err)
	}
	if err != nil {
		return wrong(err)
	}
	private, err := parseKey(data)
	if err != nil {
		return wrong(err)
	}
	record, err := recordOf(private.Public())
	if err != nil {
		return wrong(err)
	}
	return signer{key: k, private: private, record: record}, nil
}

// parseKey reads the first private key in PEM.
func parseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("it is encrypted, and nobody is there to type the passphrase")
		default:
			continue
		}
		if err != nil {
			return nil, errors.New("it cannot be read as a private key")
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			if n := key.N.BitLen(); n < minBits {
				return nil, fmt.Errorf("it is RSA of %d bits; %d are the least, 2048 are usual", n, minBits)
			}
			return key, nil
		case ed25519.PrivateKey:
			return key, nil
		}
		return nil, errors.New("it is neither RSA nor Ed25519")
	}
	return nil, errors.New("there is no private key in PEM in it")
}

// recordOf is the TXT record for a public key. RFC 6376 §3.6.1, RFC 8463 §4.
func recordOf(public crypto.PublicKey) (string, error) {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public), nil
	default:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return "", errors.New("its public half cannot be written")
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	}
}
