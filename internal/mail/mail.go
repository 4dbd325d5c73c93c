// Package mail holds the words that the whole relay shares: an address, an
// envelope, a reply status and the outcome of a delivery attempt.
//
// It owns no behaviour but parsing and formatting, does no I/O, and imports
// nothing of the project. All types are plain values; a value that has been
// handed on is never changed. RFC 5321 (SMTP), RFC 3461 (DSN parameters),
// RFC 6531 (SMTPUTF8), RFC 3463 (enhanced status codes).
package mail

import (
	"net/netip"
	"time"
)

// An Envelope is what SMTP says about a message besides its content: who sent
// it, to whom, and how it arrived. RFC 5321 §2.3.1.
type Envelope struct {
	From       Address     `json:"from"`                 // reverse-path; the zero Address is the null reverse-path
	To         []Recipient `json:"to"`                   // forward-paths, in the order given, at least one
	Body       BodyType    `json:"body,omitempty"`       // RFC 6152 BODY=
	UTF8       bool        `json:"utf8,omitempty"`       // RFC 6531 SMTPUTF8 was asked for
	RequireTLS bool        `json:"requireTLS,omitempty"` // RFC 8689
	AnyTLS     bool        `json:"anyTLS,omitempty"`     // of mail of the relay's own: it goes even where TLS fails that is demanded. RFC 8460 §3
	Ret        string      `json:"ret,omitempty"`        // RFC 3461 §4.3: "", "FULL" or "HDRS"
	EnvID      string      `json:"envID,omitempty"`      // RFC 3461 §4.4, decoded from xtext

	Client       netip.Addr `json:"client,omitzero"`        // the connected address, unmapped; invalid for mail of the relay's own
	HELO         string     `json:"helo,omitempty"`         // the EHLO or HELO argument, sanitised
	Protocol     string     `json:"protocol,omitempty"`     // RFC 3848 "with" keyword: SMTP, ESMTP, ESMTPS, UTF8SMTP, UTF8SMTPS
	TLS          string     `json:"tls,omitempty"`          // TLS version and suite of the arriving session; "" for clear text
	Registration string     `json:"registration,omitempty"` // path of the registration that allowed it; "" for mail of the relay's own
	Contact      Address    `json:"contact,omitzero"`       // who is told of a failure that From cannot be told of, as the registration asks; null: nobody
	Commit       string     `json:"commit,omitempty"`       // the register's commit under which it was admitted
	Arrival      time.Time  `json:"arrival"`                // when the transaction was accepted
}

// A Recipient is one forward-path with its RFC 3461 parameters.
type Recipient struct {
	Address Address `json:"address"`
	Notify  string  `json:"notify,omitempty"` // RFC 3461 §4.1: "", "NEVER" or a comma-separated list of SUCCESS, FAILURE, DELAY
	ORcpt   string  `json:"orcpt,omitempty"`  // RFC 3461 §4.2: "rfc822;user@example.org", decoded; "" if not given
}

// BodyType is the BODY parameter of MAIL. RFC 6152, RFC 3030.
type BodyType string

// The body types. The zero value is 7BIT by default, not by declaration.
const (
	BodyDefault BodyType = ""
	Body7Bit    BodyType = "7BIT"
	Body8Bit    BodyType = "8BITMIME"
	BodyBinary  BodyType = "BINARYMIME"
)
