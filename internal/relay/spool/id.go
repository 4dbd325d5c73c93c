package spool

import (
	"crypto/rand"
	"encoding/base32"
	"sync"
	"time"
)

// An ID is 15 characters: 55 bits of microseconds since 1970, never the same
// twice in a process and never behind the newest entry found at the start,
// then 20 random bits of this process, so that a clock that was set back
// across a restart makes no ID a second time. The alphabet sorts as it counts.
const (
	idTime = 11
	idBoot = 4
	idSize = idTime + idBoot

	idAlphabet = "0123456789abcdefghijklmnopqrstuv"
)

type idSource struct {
	boot string // idBoot characters

	mu   sync.Mutex
	last uint64 // microseconds of the newest ID; guarded by mu
}

func newIDSource(newest ID) *idSource {
	var random [5]byte
	rand.Read(random[:]) // never fails, by its documentation
	s := &idSource{boot: base32.NewEncoding(idAlphabet).EncodeToString(random[:])[:idBoot]}
	if at, ok := newest.Time(); ok {
		s.last = uint64(at.UnixMicro())
	}
	return s
}

func (s *idSource) next(now time.Time) ID {
	s.mu.Lock()
	s.last = max(s.last+1, uint64(now.UnixMicro()))
	t := s.last
	s.mu.Unlock()
	return ID(append(countDigits(t), s.boot...))
}

// Time is when an entry got its ID, a moment after it arrived; ok is false if
// id cannot be the ID of an entry.
func (id ID) Time() (at time.Time, ok bool) {
	if !validID(id) {
		return at, false
	}
	return time.UnixMicro(int64(id.count())).UTC(), true
}

// maxCount is the largest count of an ID.
const maxCount = 1<<(5*idTime) - 1

// count is the part of an ID that counts up; of what is none, 0.
func (id ID) count() (n uint64) {
	if !validID(id) {
		return 0
	}
	for _, c := range []byte(id[:idTime]) {
		n = n<<5 | uint64(digit(c))
	}
	return n
}

// countKey is not behind any key of an entry with a count, nor before one with
// a smaller one.
func countKey(n uint64) []byte { return append([]byte{prefixEntry}, countDigits(n)...) }

// countDigits writes a count.
func countDigits(n uint64) []byte {
	digits := make([]byte, idTime)
	for i := idTime - 1; i >= 0; i-- {
		digits[i] = idAlphabet[n&31]
		n >>= 5
	}
	return digits
}

// validID reports whether id is one that this package makes. Only such IDs
// become file names.
func validID(id ID) bool {
	if len(id) != idSize {
		return false
	}
	for _, c := range []byte(id) {
		if digit(c) < 0 {
			return false
		}
	}
	return true
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'v':
		return int(c-'a') + 10
	}
	return -1
}
