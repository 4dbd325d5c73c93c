package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"example.edu/gatepost/internal/mail"
)

// MaxBody bounds one delivery, in octets; GitHub sends none that is larger.
const MaxBody = 25 << 20

// Bounds on what is kept of one.
const (
	maxKept = 64 << 10 // octets of the body that are looked at; GitHub names the branch at its beginning
	maxID   = 64       // octets of an id; a UUID has 36
	maxName = 40       // octets of an event's name
)

// Why a delivery is not taken.
var (
	errUnsigned   = errors.New("webhook: there is no signature by HMAC SHA-256")
	errMismatched = errors.New("webhook: the signature does not fit the body and the secret")
)

// A delivery is what is kept of one whose signature was right. The
// signature covers the body alone, so the id and the name may be anybody's.
type delivery struct {
	id    string // X-GitHub-Delivery, cleaned
	event string // X-GitHub-Event, cleaned: "push", "ping"
	ref   string // what was pushed, "refs/heads/main"; "" if the body does not say so soon enough
	sum   [sha256.Size]byte
}

// verify reads a delivery and holds it to its signature. Without one of the right
// form, nothing of the body is read. The error is errUnsigned, errMismatched,
// or that of reading the body.
func verify(h http.Header, body io.Reader, secret Secret) (delivery, error) {
	signature, ok := signed(h)
	if !ok || len(secret.key) < minSecret {
		return delivery{}, errUnsigned
	}
	mac, kept := hmac.New(sha256.New, secret.key), &head{}
	if _, err := io.Copy(io.MultiWriter(mac, kept), body); err != nil {
		return delivery{}, fmt.Errorf("webhook: reading a delivery: %w", err)
	}
	d := delivery{sum: [sha256.Size]byte(mac.Sum(nil))}
	if !hmac.Equal(d.sum[:], signature) {
		return delivery{}, errMismatched
	}
	d.id = mail.Printable(h.Get("X-GitHub-Delivery"), maxID)
	d.event = mail.Printable(h.Get("X-GitHub-Event"), maxName)
	if d.event == "push" {
		d.ref = pushed(kept.data, form(h))
	}
	return d, nil
}

// signed reads the one signature of a delivery.
func signed(h http.Header) ([]byte, bool) {
	all := h.Values("X-Hub-Signature-256")
	if len(all) != 1 {
		return nil, false
	}
	digits, ok := strings.CutPrefix(all[0], "sha256=")
	if !ok || len(digits) != hex.EncodedLen(sha256.Size) {
		return nil, false
	}
	sum, err := hex.DecodeString(digits)
	return sum, err == nil
}

// The two types of content that GitHub sends.
const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded" // the JSON is its field "payload"
)

// contentType is the type of the content, without its parameters.
func contentType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

func form(h http.Header) bool { return contentType(h) == typeForm }

// pushed finds what was pushed in the beginning of a body; "" if it is not
// there. The body's sender holds the secret, so a fault in it is no attack.
func pushed(data []byte, form bool) string {
	if form {
		data = payload(data)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return ""
		}
		value, err := d.Token()
		if err != nil {
			return ""
		}
		if key == "ref" {
			ref, _ := value.(string)
			return ref
		}
		if value == json.Delim('{') || value == json.Delim('[') {
			if !skip(d) {
				return ""
			}
		}
	}
	return ""
}

// skip reads to the end of the object or list that has just begun.
func skip(d *json.Decoder) bool {
	for depth := 1; depth > 0; {
		t, err := d.Token()
		if err != nil {
			return false
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return true
}

// payload is the beginning of the field "payload" of a form whose end may be
// missing.
func payload(data []byte) []byte {
	for field := range bytes.SplitSeq(data, []byte("&")) {
		value, ok := bytes.CutPrefix(field, []byte("payload="))
		if !ok {
			continue
		}
		if i := bytes.LastIndexByte(value, '%'); i >= 0 && len(value)-i < 3 {
			value = value[:i] // cut in the middle of an octet
		}
		text, err := url.QueryUnescape(string(value))
		if err != nil {
			return nil
		}
		return []byte(text)
	}
	return nil
}

// A head keeps the beginning of what is written to it.
type head struct{ data []byte }

func (h *head) Write(p []byte) (int, error) {
	h.data = append(h.data, p[:min(len(p), maxKept-len(h.data))]...)
	return len(p), nil
}
