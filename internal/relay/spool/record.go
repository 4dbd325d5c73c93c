package spool

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

// The keys of format 2. Everything an entry owns ends in its ID.
//
//	mformat   the format version, in decimal
//	e<ID>     entryRecord: written once, with the body, in one synced batch
//	e<ID>/s   stateRecord: written by Update; without it the entry is fresh
//	b<ID>     the body, if it is at most inlineMax octets; else it is in a file (files.go)
//	k<key>    an idempotency key; the value is the ID stored with it, or empty
//	d<ID>     a damaged e<ID>, as it was found
//
// In format 1 each file has the ID of its entry for a name, and no head.
//
// e<ID> and b<ID> are set exactly once in the life of a spool, so they are
// taken away with SingleDelete, which leaves nothing behind to compact.
const (
	prefixEntry   = 'e'
	prefixBody    = 'b'
	prefixKey     = 'k'
	prefixDamaged = 'd'

	stateSuffix = "/s"
	tmpSuffix   = ".tmp"
)

func entryKey(id ID) []byte   { return append([]byte{prefixEntry}, id...) }
func stateKey(id ID) []byte   { return append(entryKey(id), stateSuffix...) }
func bodyKey(id ID) []byte    { return append([]byte{prefixBody}, id...) }
func damagedKey(id ID) []byte { return append([]byte{prefixDamaged}, id...) }
func usedKey(key string) []byte {
	return append([]byte{prefixKey}, key...)
}

// splitEntryKey tells of a key under prefixEntry whose it is and which of the two.
func splitEntryKey(key []byte) (id ID, state bool) {
	name, state := strings.CutSuffix(string(key[1:]), stateSuffix)
	return ID(name), state
}

// A record is a header of six octets (version, flags, CRC-32C of ID, flags and
// payload) and a JSON payload. A flipped bit anywhere is found by the sum.
const (
	recordVersion = 1
	recordHeader  = 6

	flagFile = 1 << 0 // the body is a file of its own
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // read-only

type entryRecord struct {
	Envelope mail.Envelope `json:"envelope"`
	Size     int64         `json:"size"`
	Sum      uint32        `json:"sum"`            // CRC-32C of the body
	File     string        `json:"file,omitempty"` // in bodies, with flagFile; "" in format 1: the ID
}

// file is the name of the file that the body is in; "": it is in the engine.
func (r *entryRecord) file(id ID, flags byte) string {
	switch {
	case flags&flagFile == 0:
		return ""
	case r.File == "":
		return string(id)
	}
	return r.File
}

type stateRecord struct {
	State    []RecipientState `json:"state"`
	Attempts int              `json:"attempts"`
	Next     time.Time        `json:"next,omitzero"`
	Hold     string           `json:"hold,omitempty"`
	Delayed  time.Time        `json:"delayed,omitzero"`
}

func encodeRecord(id ID, flags byte, v any) ([]byte, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	rec := make([]byte, recordHeader, recordHeader+len(payload))
	rec[0], rec[1] = recordVersion, flags
	rec = append(rec, payload...)
	binary.LittleEndian.PutUint32(rec[2:6], recordSum(id, rec))
	return rec, nil
}

// checkRecord returns the flags and the payload of an undamaged record.
func checkRecord(id ID, rec []byte) (flags byte, payload []byte, err error) {
	switch {
	case len(rec) < recordHeader:
		return 0, nil, fmt.Errorf("%w: %d octets are too few", ErrDamaged, len(rec))
	case rec[0] != recordVersion:
		return 0, nil, fmt.Errorf("%w: record version %d", ErrDamaged, rec[0])
	case binary.LittleEndian.Uint32(rec[2:6]) != recordSum(id, rec):
		return 0, nil, fmt.Errorf("%w: the checksum differs", ErrDamaged)
	}
	return rec[1], rec[recordHeader:], nil
}

func decodeRecord(id ID, rec []byte, v any) (flags byte, err error) {
	flags, payload, err := checkRecord(id, rec)
	if err != nil {
		return 0, err
	}
	quick := false
	switch v := v.(type) {
	case *entryRecord:
		var r entryRecord
		if r, quick = quickEntry(payload); quick {
			*v = r
		}
	case *stateRecord:
		var r stateRecord
		if r, quick = quickState(payload); quick {
			*v = r
		}
	}
	if quick {
		return flags, nil
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return flags, nil
}

func recordSum(id ID, rec []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(id))
	sum = crc32.Update(sum, castagnoli, rec[1:2])
	return crc32.Update(sum, castagnoli, rec[recordHeader:])
}

// encodeState is the value of stateKey for e.
func encodeState(e *Entry) ([]byte, error) {
	if len(e.State) != len(e.Envelope.To) {
		return nil, fmt.Errorf("spool: %s has %d recipients and %d states", e.ID, len(e.Envelope.To), len(e.State))
	}
	return encodeRecord(e.ID, 0, stateRecord{e.State, e.Attempts, e.Next, e.Hold, e.Delayed})
}

// setState puts a stored state into a fresh entry. A state that is damaged or
// does not fit is refused; the entry then stays fresh: deliver again.
func setState(e *Entry, rec []byte) error {
	var st stateRecord
	if _, err := decodeRecord(e.ID, rec, &st); err != nil {
		return err
	}
	if len(st.State) != len(e.Envelope.To) {
		return fmt.Errorf("%w: %d states for %d recipients", ErrDamaged, len(st.State), len(e.Envelope.To))
	}
	e.State, e.Attempts, e.Next, e.Hold, e.Delayed = st.State, st.Attempts, st.Next, st.Hold, st.Delayed
	return nil
}

// checkEnvelope refuses what could not be read back: an entry that is stored
// and then cannot be decoded would be a lost message.
func checkEnvelope(env mail.Envelope) error {
	if len(env.To) == 0 {
		return fmt.Errorf("spool: an envelope without recipients")
	}
	if !env.From.IsNull() {
		if _, err := mail.NewAddress(env.From.Local, env.From.Domain, true); err != nil {
			return fmt.Errorf("spool: the sender: %w", err)
		}
	}
	if !env.Contact.IsNull() {
		if _, err := mail.NewAddress(env.Contact.Local, env.Contact.Domain, true); err != nil {
			return fmt.Errorf("spool: the contact: %w", err)
		}
	}
	for _, to := range env.To {
		if _, err := mail.NewAddress(to.Address.Local, to.Address.Domain, true); err != nil {
			return fmt.Errorf("spool: a recipient: %w", err)
		}
	}
	return nil
}
