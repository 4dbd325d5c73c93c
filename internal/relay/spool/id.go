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
	var id [idSize]byte
	for i := idTime - 1; i >= 0; i-- {
		id[i] = idAlphabet[t&31]
		t >>= 5
	}
	copy(id[idTime:], s.boot)
	return ID(id[:])
}

// Time is when an entry got its ID, a moment after it arrived; ok is false if
// id cannot be the ID of an entry.
func (id ID) Time() (at time.Time, ok bool) {
	if !validID(id) {
		return at, false
	}
	var micro uint64
	for _, c := range []byte(id[:idTime]) {
		micro = micro<<5 | uint64(digit(c))
	}
	return time.UnixMicro(int64(micro)).UTC(), true
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
