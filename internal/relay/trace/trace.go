// Package trace remembers for a while what became of messages, after they have
// left the spool. It answers "did it arrive, and what did the next hop say?".
//
// It owns a ring of files of one record a line, and decides nothing. A record
// is made when a message ends, and when a DSN about it is stored; what is still
// in the spool is the spool's to tell. Making one only adds to memory; the
// files are written once a second, without a sync. A crash of the process
// therefore loses up to a second of what is kept here, one of the machine up to
// half a minute, and nothing else: no message depends on it.
//
// Invariants:
//   - it takes MaxBytes of disk and maxPending of memory at most; what comes
//     faster than the disk takes it is not remembered, and counted;
//   - nothing is kept, or told, for longer than KeepFor;
//   - no body and no header is kept.
package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"example.edu/gatepost/internal/relay/spool"
)

// How much is remembered, and for how long.
const (
	MaxBytes = 128 << 20           // octets of all files: about 200,000 messages
	KeepFor  = 30 * 24 * time.Hour // since the end of a message

	maxFile       = MaxBytes / 8
	maxFileAge    = 3 * 24 * time.Hour // then another one is begun, so that each can go in time
	maxPending    = 4 << 20            // octets that are not written yet
	muchPending   = 256 << 10          // … and are written at once
	maxRecipients = 100                // of one message
	maxLine       = 64 << 10           // octets of one record
	writeAfter    = time.Second
)

// How a message ended. Its words are JSON's.
const (
	Finished = "finished" // with a last reply for each recipient
	Expired  = "expired"
	Returned = "returned" // by an operator
	Deleted  = "deleted"  // by an operator
)

// A Record is one thing that happened to a message. Of its end there are How,
// Entry and what follows; of a DSN about it there are DSN and Kind.
type Record struct {
	ID spool.ID  `json:"id"`
	At time.Time `json:"at"`

	How      string       `json:"how,omitempty"`      // it ended
	Reason   string       `json:"reason,omitempty"`   // an operator's
	Operator string       `json:"operator,omitempty"` // who said to be one
	Entry    *spool.Entry `json:"entry,omitempty"`    // as it ended, with its first recipients
	More     int          `json:"more,omitempty"`     // recipients that are not in Entry

	DSN  spool.ID `json:"dsn,omitempty"`  // a message of its own, which tells of this one
	Kind string   `json:"kind,omitempty"` // failure or delay
}

// Options of Open.
type Options struct {
	Dir    string // where the files are; made if it is not there
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// A Book remembers. Its methods may be called from any goroutine.
type Book struct {
	dir  string
	log  *slog.Logger
	now  func() time.Time
	wake chan struct{} // capacity 1: there is something to write
	much chan struct{} // capacity 1: there is muchPending to write

	mu      sync.Mutex
	pending []byte // guarded by mu
	lost    int    // records that found no room; guarded by mu

	filing sync.Mutex // guards the files; taken before mu
	spare  []byte     // what pending is next, empty
	file   *os.File   // the newest; nil: none is open
	size   int64      // of it
	begun  time.Time  // of it
	failed bool       // the last write failed, and that was told
}

// Open opens the files of a folder. Run writes to them.
func Open(o Options) (*Book, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("trace: making the folder: %w", err)
	}
	return &Book{dir: o.Dir, log: o.Logger, now: o.Now, wake: make(chan struct{}, 1), much: make(chan struct{}, 1)}, nil
}

// Ended notes the end of a message. e is read before it returns. It waits for
// no disk.
func (b *Book) Ended(e *spool.Entry, how, reason, operator string) {
	end := *e
	end.Next, end.Hold = time.Time{}, ""
	r := Record{ID: e.ID, At: b.now().UTC(), How: how, Reason: reason, Operator: operator, Entry: &end}
	for most := maxRecipients; ; most /= 2 {
		if n := len(e.Envelope.To); n > most {
			end.Envelope.To, end.State, r.More = e.Envelope.To[:most], e.State[:most], n-most
		}
		if b.add(r) != errLong || most == 0 {
			return
		}
	}
}

// Told notes that a DSN about a message was stored. It waits for no disk.
func (b *Book) Told(about, dsn spool.ID, kind string) {
	_ = b.add(Record{ID: about, At: b.now().UTC(), DSN: dsn, Kind: kind}) // short
}

// tell wakes who listens, unless that is under way.
func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

var errLong = errors.New("trace: a record is too long")

func (b *Book) add(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(line) > maxLine {
		return errLong
	}
	b.mu.Lock()
	if len(b.pending)+len(line) > maxPending {
		b.lost++
	} else {
		b.pending = append(append(b.pending, line...), '\n')
	}
	much := len(b.pending) >= muchPending
	b.mu.Unlock()
	tell(b.wake)
	if much {
		tell(b.much)
	}
	return nil
}
