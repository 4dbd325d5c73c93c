package session

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"
)

// MinSecret is how long a secret has to be, in octets.
const MinSecret = 32

// The cookies, by the names that they have over https, which a browser takes
// from this host alone, over https alone and for all of its paths (the draft that
// follows RFC 6265). Over http the prefix is left out.
const (
	prefix        = "__Host-"
	ticketCookie  = "gatepost"
	attemptCookie = "gatepost-signing-in"
	visitorCookie = "gatepost-visitor"
)

// maxCookie is what every browser takes as the value of one cookie, with its
// name and attributes beside it.
const maxCookie = 3900

// A ticket says who is signed in.
type ticket struct {
	From   string   `json:"f"` // the way in, and the provider; of another one it is worth nothing
	ID     string   `json:"i"`
	Name   string   `json:"n,omitempty"`
	Email  string   `json:"e"`
	Groups []string `json:"g,omitempty"` // of the values that make a postmaster
	Until  int64    `json:"u"`           // Unix time
}

// newCodecs makes what seals and opens cookies of each secret, in their order.
func newCodecs(secrets [][]byte) ([]securecookie.Codec, error) {
	if len(secrets) == 0 {
		return nil, errors.New("session: there is no secret for cookies")
	}
	var codecs []securecookie.Codec
	for _, secret := range secrets {
		if len(secret) < MinSecret {
			return nil, fmt.Errorf("session: a secret for cookies is shorter than %d octets", MinSecret)
		}
		sign, err := hkdf.Key(sha256.New, secret, nil, "gatepost-portal cookies: authentication", 32)
		if err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
		seal, err := hkdf.Key(sha256.New, secret, nil, "gatepost-portal cookies: encryption", 32)
		if err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
		// How long something holds is in what is sealed, and judged by our clock.
		codecs = append(codecs, securecookie.New(sign, seal).SetSerializer(securecookie.JSONEncoder{}).MaxAge(0).MaxLength(maxCookie))
	}
	return codecs, nil
}

func (s *Sessions) cookieName(name string) string {
	if s.secure {
		return prefix + name
	}
	return name
}

func (s *Sessions) setCookie(w http.ResponseWriter, name string, value any, life time.Duration) error {
	name = s.cookieName(name)
	text, err := s.codecs[0].Encode(name, value)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	s.putCookie(w, &http.Cookie{Name: name, Value: text, MaxAge: int(life / time.Second)})
	return nil
}

func (s *Sessions) dropCookie(w http.ResponseWriter, name string) {
	s.putCookie(w, &http.Cookie{Name: s.cookieName(name), MaxAge: -1})
}

// putCookie: Lax, as the provider sends people back by a link from its site.
func (s *Sessions) putCookie(w http.ResponseWriter, c *http.Cookie) {
	c.Path, c.Secure, c.HttpOnly, c.SameSite = "/", s.secure, true, http.SameSiteLaxMode
	http.SetCookie(w, c)
	w.Header().Set("Cache-Control", "no-store")
}

// readCookie opens a cookie of ours; false if there is none, or it is not ours.
func (s *Sessions) readCookie(r *http.Request, name string, into any) bool {
	name = s.cookieName(name)
	c, err := r.Cookie(name)
	if err != nil || len(c.Value) > maxCookie {
		return false
	}
	return securecookie.DecodeMulti(name, c.Value, into, s.codecs...) == nil
}

// ticketOf is the request's ticket, if it has one that holds.
func (s *Sessions) ticketOf(r *http.Request) *ticket {
	var t ticket
	if !s.readCookie(r, ticketCookie, &t) {
		return nil
	}
	if left := time.Unix(t.Until, 0).Sub(s.now()); left <= 0 || left > s.life { // the lifetime may have been made shorter
		return nil
	}
	return &t
}

// random is n octets that nobody can guess, as text.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
