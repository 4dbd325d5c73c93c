// Package spool keeps accepted messages until they are delivered, bounced or
// deleted. It is the only place where a message lives, and the only importer
// of the storage engine.
//
// Invariants:
//   - Commit returns nil only after the envelope, the body and whatever names
//     them are on stable storage. The 250 to the client comes after.
//   - A change of state may be lost in a crash only towards "deliver again".
//   - A damaged record costs that record at most; it is kept aside and reported.
//   - No call waits for ever on the engine. One that fails, or does not answer
//     for two minutes, is given up: every call returns ErrFailed, Failed is
//     closed, and nothing more is changed on the disk.
//   - Bodies are RFC 5322 messages with CRLF line ends and no other CR or LF,
//     not dot-stuffed.
package spool

import (
	"errors"
	"slices"
	"time"

	"example.edu/gatepost/internal/mail"
)

// An ID names an entry for ever. IDs sort by arrival, are safe in file names
// and SMTP replies, and have at most 20 characters.
type ID string

// An Entry is an envelope, the state of each recipient, and a handle to the
// body: the unit of durability. The spool hands out copies; whoever changes
// one passes it back with Update.
type Entry struct {
	ID       ID               `json:"id"`
	Envelope mail.Envelope    `json:"envelope"`
	Size     int64            `json:"size"`  // octets of the body
	State    []RecipientState `json:"state"` // one for each Envelope.To, same order
	Attempts int              `json:"attempts"`
	Next     time.Time        `json:"next,omitzero"`    // the next attempt; zero: at once
	Hold     string           `json:"hold,omitempty"`   // why it is held; "" when it is not
	Delayed  time.Time        `json:"delayed,omitzero"` // when the delay DSN was sent
}

// A RecipientState is how far one recipient has come.
type RecipientState struct {
	Done bool        `json:"done"` // delivered, or failed and told: nothing more is owed
	Last mail.Result `json:"last"` // of the newest attempt; zero before the first
}

// done reports whether nothing more is owed to any recipient.
func (e *Entry) done() bool {
	return !slices.ContainsFunc(e.State, func(st RecipientState) bool { return !st.Done })
}

// Errors that callers tell apart.
var (
	ErrFull      = errors.New("spool: no space")             // 452 4.3.1; reading and delivering go on
	ErrDuplicate = errors.New("spool: key was used already") // Commit with a key: nothing was stored
	ErrNotFound  = errors.New("spool: no such entry")
	ErrDamaged   = errors.New("spool: damaged record")
)
