// Package dkim signs messages as they leave: it owns the keys, the choice of
// those that a message is signed with, and which header fields they cover.
//
// A message is signed with the keys of the domain in its From field, or of the
// closest domain above it whose keys say subdomains. Signatures that a message
// has already stay as they are, as they may be older than a mailing list's
// change and still worth something.
//
// It never holds a body: the message streams through it once, and what comes
// out are the header fields to put before it. It never looks at who sent a
// message: whoever may send through the relay gets the signature for what
// stands in From.
//
// RFC 6376 (DKIM), RFC 8301 (key sizes, SHA-256), RFC 8463 (Ed25519).
package dkim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// Bounds on a message that is signed; one beyond them goes without.
const (
	maxHeader = 256 << 10 // octets of the header section
	maxRun    = 64 << 10  // octets of line ends in a row, which the library keeps in memory until something follows
)

// A Key is where one key is, and what it signs for.
type Key struct {
	Domain     string // d=; in lower case and A-labels
	Selector   string // s=
	File       string // the private key in PEM: RSA of 1024 bits at least, or Ed25519
	Subdomains bool   // mail from domains below Domain as well
}

// A Ring is the keys of a relay. It is safe for concurrent use.
type Ring struct {
	keys    []Key
	signers atomic.Pointer[[]signer]
}

// Open reads the keys. The error names the first that cannot be used.
func Open(keys []Key) (*Ring, error) {
	r := &Ring{keys: slices.Clone(keys)}
	_, err := r.Reload()
	return r, err
}

// Files are the files of the keys, for who watches them.
func (r *Ring) Files() []string {
	var files []string
	for _, k := range r.keys {
		if !slices.Contains(files, k.File) {
			files = append(files, k.File)
		}
	}
	return files
}

// Reload reads the keys anew and reports whether any is another one. All are
// replaced or, with an error, none.
func (r *Ring) Reload() (changed bool, err error) {
	next := make([]signer, 0, len(r.keys))
	for _, k := range r.keys {
		s, err := readKey(k)
		if err != nil {
			return false, err
		}
		next = append(next, s)
	}
	before := r.signers.Load()
	changed = before == nil || !slices.EqualFunc(*before, next, func(a, b signer) bool { return a.record == b.record })
	r.signers.Store(&next)
	return changed, nil
}

// Records are what the DNS must say for the keys to count, as lines of a zone:
// the name, and the content of its TXT record in texts of 255 octets at most.
func (r *Ring) Records() []string {
	var lines []string
	for _, s := range *r.signers.Load() {
		line := s.key.Selector + "._domainkey." + s.key.Domain + ". TXT"
		for part := range slices.Chunk([]byte(s.record), 255) {
			line += " \"" + string(part) + "\""
		}
		lines = append(lines, line)
	}
	return lines
}

// Errors with which a signature ends early; the message goes without.
var (
	errNotOurs  = errors.New("dkim: no key for its From")
	errTooLarge = errors.New("dkim: the header is too large, or has no end")
	errRun      = errors.New("dkim: too many empty lines in a row")
	errHeader   = errors.New("dkim: no one domain in its From")
)

// Sign returns the header fields that are to stand before a message, each with
// its CRLF, and "" if it is none of ours. write hands over the message as it
// will be sent, without dots put before for transparency. The error is of
// write, or says why a message of ours cannot be signed: it goes without then.
func (r *Ring) Sign(write func(io.Writer) error) (fields string, err error) {
	s := &signing{signers: *r.signers.Load()}
	defer s.abandon()
	switch err := write(s); {
	case errors.Is(err, errNotOurs):
		return "", nil
	case err != nil:
		return "", err
	}
	return s.finish()
}

// A signing is a message on its way through the signers.
type signing struct {
	signers []signer
	header  []byte // as far as it has come; nil once it is over
	past    bool   // the header is over
	open    []*msgauth.Signer
	run     int // octets of line ends in a row
}

// Write takes the next octets of the message.
func (s *signing) Write(p []byte) (int, error) {
	n := len(p)
	if !s.past {
		rest, err := s.begin(p)
		if err != nil || !s.past {
			return n, err
		}
		p = rest
	}
	if s.long(p) {
		return 0, errRun
	}
	return n, s.pass(p)
}

// begin collects the header. Once it is whole it decides who signs, and
// returns what of p is body.
func (s *signing) begin(p []byte) (rest []byte, err error) {
	before := len(s.header)
	seam := max(0, before-3) // its end may be torn between two writes
	room := maxHeader - before
	s.header = append(s.header, p[:min(len(p), room)]...)
	end := bytes.Index(s.header[seam:], []byte("\r\n\r\n"))
	switch {
	case bytes.HasPrefix(s.header, []byte("\r\n")):
		return nil, errHeader
	case len(s.header) > 0 && (s.header[0] == ' ' || s.header[0] == '\t'):
		return nil, errHeader // it would go on with whatever field is put before it
	case end < 0 && len(p) > room:
		return nil, errTooLarge
	case end < 0:
		return nil, nil
	}
	end += seam + 4
	body := p[end-before:]
	h := readHeader(s.header[:end])
	domain, err := h.from()
	if err != nil {
		return nil, err
	}
	chosen := choose(s.signers, domain)
	if len(chosen) == 0 {
		return nil, errNotOurs
	}
	for _, k := range chosen {
		one, err := msgauth.NewSigner(&msgauth.SignOptions{
			Domain: k.key.Domain, Selector: k.key.Selector, Signer: k.private,
			HeaderCanonicalization: msgauth.CanonicalizationRelaxed,
			BodyCanonicalization:   msgauth.CanonicalizationRelaxed,
			HeaderKeys:             h.covered(),
		})
		if err != nil {
			return nil, fmt.Errorf("dkim: signing for %s: %w", k.key.Domain, err)
		}
		s.open = append(s.open, one)
	}
	s.past = true
	if err := s.pass(s.header[:end]); err != nil {
		return nil, err
	}
	s.header = nil
	return body, nil
}

// long reports whether line ends go on for too long.
func (s *signing) long(p []byte) bool {
	for _, c := range p {
		if c != '\r' && c != '\n' {
			s.run = 0
		} else if s.run++; s.run > maxRun {
			return true
		}
	}
	return false
}

func (s *signing) pass(p []byte) error {
	for _, one := range s.open {
		if _, err := one.Write(p); err != nil {
			return fmt.Errorf("dkim: signing: %w", err)
		}
	}
	return nil
}

// finish ends the message and gives its signatures.
func (s *signing) finish() (string, error) {
	if !s.past {
		return "", errTooLarge
	}
	var b strings.Builder
	for len(s.open) > 0 {
		one := s.open[0]
		s.open = s.open[1:]
		if err := one.Close(); err != nil {
			return "", fmt.Errorf("dkim: signing: %w", err)
		}
		b.WriteString(one.Signature())
	}
	return b.String(), nil
}

// abandon ends signers that are still open: each has a goroutine.
func (s *signing) abandon() {
	for _, one := range s.open {
		_ = one.Close()
	}
}

// choose returns the keys of a domain, or of the closest one above it that has
// some for its subdomains.
func choose(signers []signer, domain string) []signer {
	for at, own := domain, true; at != ""; own = false {
		var found []signer
		for _, s := range signers {
			if s.key.Domain == at && (own || s.key.Subdomains) {
				found = append(found, s)
			}
		}
		if len(found) > 0 {
			return found
		}
		_, at, _ = strings.Cut(at, ".")
	}
	return nil
}
