// Package proof lets a department show that a machine is where it says: the
// relay hands out a token for one address, the machine sends a message to it,
// and the relay, which sees whom it talks to, records that the address is in
// the hands of whoever had the token.
//
// It owns the tokens, which are pure, and the records, which are one durable
// file. It never talks SMTP, never decides who may have a token or who may
// send, and nothing that it records lets anybody send.
//
// Invariants:
//   - a token opens for the one address that it was made for, until it ends,
//     under the secret that it was made with, and otherwise for nobody;
//   - the life of a token is bounded, whoever made it;
//   - a token proves once: used again, it changes no record;
//   - the secret is in no error, no log line and no record.
//
// RFC 2104 (HMAC), RFC 4648 §6 (base32).
package proof

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

// Bounds of a token's life.
const (
	MaxFor     = 14 * 24 * time.Hour // the longest
	DefaultFor = 7 * 24 * time.Hour

	// skew is how far the clocks of a fleet's relays may be apart.
	skew = time.Hour
)

// MaxRequest is the largest number of a request that a token can name.
const MaxRequest = math.MaxInt32

// A token is 25 octets, so that it is 40 letters and digits without padding
// and there is one way to write it:
//
//	version 1 · expiry, Unix seconds 4 · request 4 · the first 16 of the HMAC
//
// The address is not in it: the relay knows who is talking. RFC 2104 §5 wants
// no less than half of the HMAC's octets.
const (
	version   = 1
	headSize  = 1 + 4 + 4
	macSize   = sha256.Size / 2
	TokenSize = (headSize + macSize) * 8 / 5 // characters of a token
)

// domain keeps the HMACs of tokens apart from those of any other use that the
// secret may have.
const domain = "gatepost proof of control\x00"

// text is the alphabet: lower case, as clients may fold a local part either
// way, and without 0, 1, 8 and 9, which are misread.
var text = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// The errors of Key.Open.
var (
	ErrInvalid = errors.New("proof: the token is not one for this address")
	ErrExpired = errors.New("proof: the token has expired")
)

// A Claim is what a token says: that whoever opened a request was handed it to
// show that Addr is theirs.
type Claim struct {
	Addr    netip.Addr // unmapped, without a zone
	Request int        // the number of the pull request; 0: none
	Expires time.Time  // to the second
}

// A Key makes and opens tokens. It may be used by many goroutines. The zero
// Key opens nothing.
type Key struct{ secret []byte }

// MinSecret and MaxSecret are how long a secret may be, in octets.
const (
	MinSecret = 32
	MaxSecret = 4096
)

// NewKey makes a Key of a secret, which it copies. Relays of a fleet that have
// the same secret open each other's tokens.
func NewKey(secret []byte) (Key, error) {
	if len(secret) < MinSecret || len(secret) > MaxSecret {
		return Key{}, fmt.Errorf("proof: the secret has %d octets; it must have from %d to %d", len(secret), MinSecret, MaxSecret)
	}
	return Key{append([]byte(nil), secret...)}, nil
}

// String shows nothing of the secret, in whatever log a Key may end up.
func (Key) String() string { return "a key for proofs" }

// GoString is String.
func (k Key) GoString() string { return k.String() }

// Token makes the token of a claim. It fails if the claim has no ordinary
// address, no possible request, or ends before now or more than MaxFor after.
func (k Key) Token(c Claim, now time.Time) (string, error) {
	c.Addr = c.Addr.Unmap()
	seconds := c.Expires.Unix()
	switch life := c.Expires.Sub(now); {
	case len(k.secret) == 0:
		return "", errors.New("proof: there is no secret")
	case !c.Addr.IsValid() || c.Addr.Zone() != "":
		return "", fmt.Errorf("proof: %q is no address that a token can be for", c.Addr)
	case c.Request < 0 || c.Request > MaxRequest:
		return "", fmt.Errorf("proof: %d is no number of a request", c.Request)
	case life <= 0 || life > MaxFor || seconds < 0 || seconds > math.MaxUint32:
		return "", fmt.Errorf("proof: a token is good for %s at most", MaxFor)
	}
	var head [headSize]byte
	head[0] = version
	binary.BigEndian.PutUint32(head[1:], uint32(seconds))
	binary.BigEndian.PutUint32(head[5:], uint32(c.Request))
	return text.EncodeToString(append(head[:], k.mac(head[:], c.Addr)...)), nil
}

// Open reads the token that addr has sent. It returns ErrInvalid for what is no
// token for addr, and ErrExpired, with the claim, for one that was. It tells
// nothing of a token that is for another address, nor by how long it takes.
func (k Key) Open(token string, addr netip.Addr, now time.Time) (Claim, error) {
	addr = addr.Unmap()
	if len(token) != TokenSize || len(k.secret) == 0 || !addr.IsValid() || addr.Zone() != "" {
		return Claim{}, ErrInvalid
	}
	raw, err := text.DecodeString(strings.ToLower(token))
	if err != nil || len(raw) != headSize+macSize || raw[0] != version {
		return Claim{}, ErrInvalid
	}
	head, mac := raw[:headSize], raw[headSize:]
	if !hmac.Equal(mac, k.mac(head, addr)) {
		return Claim{}, ErrInvalid
	}
	c := Claim{Addr: addr, Request: int(binary.BigEndian.Uint32(head[5:])), Expires: time.Unix(int64(binary.BigEndian.Uint32(head[1:])), 0).UTC()}
	switch left := c.Expires.Sub(now); {
	case left > MaxFor+skew: // made by something that does not keep to the bound
		return Claim{}, ErrInvalid
	case left <= 0:
		return c, ErrExpired
	}
	return c, nil
}

// mac is the HMAC of a token's head and the address, cut to macSize.
func (k Key) mac(head []byte, addr netip.Addr) []byte {
	a := addr.As16() // an IPv4 address has one form here, and it is no IPv6 address's
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte(domain))
	h.Write(head)
	h.Write(a[:])
	return h.Sum(nil)[:macSize]
}

// mailbox is the local part that takes proofs.
const mailbox = "prove"

// LocalPart is where the message with a token goes, at the relay's host name.
// It is no longer than the 64 octets of RFC 5321 §4.5.3.1.1.
func LocalPart(token string) string { return mailbox + "+" + token }

// FromLocalPart reports whether a local part at the relay's host name is one
// for proofs, and the token in it, "" where there is none. Case does not matter.
func FromLocalPart(local string) (token string, ok bool) {
	name, token, _ := strings.Cut(local, "+")
	return token, strings.EqualFold(name, mailbox)
}
