// Package book is the portal's memory on the disk: who asked for what, what was
// asked of them and what they said, what they were told, since when each relay has
// it, which mails are owed, and what was opened without anybody asking.
//
// It decides nothing and knows neither the forge nor the register: it holds what
// the form and the reporter put there. All of it could be lost without an address
// being lost; what would be missing is who is to be told.
//
// Each request is a file, and so is each mail. A change is on the disk before a
// method returns, whole or not at all (package durable), and what a method returned
// once, a crash does not take back. A file that makes no sense is put aside as
// FILE.damaged with a log line, and costs itself.
//
// A mail is owed under a key, at most once: owing it again does nothing, before it
// was sent and for a year after. Exactly once is not to be had: a crash between the
// relay's 250 and the note of it sends the mail again, with the same Message-ID.
//
// The number of requests, of mails and of keys is bounded, and so is the size of
// each. All methods may be called at the same time.
package book

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Bounds. Beyond those on numbers, what is oldest goes.
const (
	maxFile     = 1 << 20   // octets of a request
	maxMailFile = 256 << 10 // octets of a mail
	maxList     = 16 << 20  // octets of the list of what was opened
	keepSent    = 365 * 24 * time.Hour
	keepOpened  = 3 * 365 * 24 * time.Hour
)

// bounds are those on numbers.
type bounds struct {
	requests, mails int // mails: owed, and remembered as sent
	owed            int // at one time
	opened          int
}

var usual = bounds{requests: 20_000, mails: 20_000, owed: 5_000, opened: 50_000}

// The errors that callers tell apart.
var (
	ErrTooLarge = errors.New("more than the book holds of one thing")
	ErrFull     = errors.New("too many mails are waiting for the relay already")
)

// Options say where the memory is. Dir must be set.
type Options struct {
	Dir    string // made if it is not there; this program's alone
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// A Book is the memory. Make it with Open.
type Book struct {
	dir  string
	log  *slog.Logger
	now  func() time.Time
	most bounds

	writing sync.Mutex // one change at a time: held over the disk's work

	mu       sync.RWMutex     // what follows; never held over the disk's work
	requests map[int]*Request // a value is never changed, but replaced
	mails    map[string]*Mail // by key; the same
	opened   map[string]Opened
}

// Open reads what is remembered. The error is what stops the portal: a disk that
// cannot be read or written, or files of a newer version.
func Open(o Options) (*Book, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Book{
		dir: o.Dir, log: o.Logger, now: o.Now, most: usual,
		requests: map[int]*Request{}, mails: map[string]*Mail{}, opened: map[string]Opened{},
	}
	for _, load := range []func() error{b.loadRequests, b.loadMails, b.loadOpened} {
		if err := load(); err != nil {
			return nil, fmt.Errorf("book: reading what is remembered: %w", err)
		}
	}
	return b, nil
}

// folder is a folder of the memory, made if need be.
func (b *Book) folder(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}
