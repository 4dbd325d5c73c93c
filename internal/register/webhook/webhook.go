// Package webhook takes the deliveries of a forge's webhook, and makes of a push
// to the branch one thing: a wake-up of the poll.
//
// Nothing that a delivery says is believed. What comes into force is what the
// repository answers when it is asked, so the worst that a stolen secret can do
// is to have it asked a little more often. A delivery that gets lost is made good
// by the next poll.
//
// What always holds:
//   - Nothing is looked at without a signature of the whole body by the secret
//     (HMAC with SHA-256, RFC 2104), compared in constant time. SHA-1 does not
//     count. A secret of less than 16 octets is none.
//   - Before the signature is known to be right, a body is counted and summed,
//     and no more than 64 KiB of it are kept. Whatever its size, its time is
//     bounded, and so is the number of connections. Where all are taken, the
//     oldest goes: who is slow, or means to be, keeps nobody else out.
//   - However many deliveries come, wake-ups have a pace.
//   - A log line has the delivery's id and name, cleaned, and nothing else of
//     it. A stranger can cause one line a minute.
//
// It speaks as GitHub does, at github.com and Enterprise servers, and so do
// Gitea and Forgejo.
package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Path is where deliveries are taken; there is no other page.
const Path = "/webhook"

// Bounds on what is remembered, and how often something happens.
const (
	minSecret   = 16               // octets
	maxRecent   = 1024             // deliveries remembered
	recentFor   = 10 * time.Minute // so that a repeat that somebody asks the forge for later counts
	tellRefused = time.Minute      // between two lines of the log
	burst       = 3                // wake-ups without a pause
	defaultPace = 5 * time.Second  // and then between two
	defaultWait = 10 * time.Second // for one delivery; GitHub waits no longer for the answer
	defaultMost = 64               // connections
)

// A Secret is what the relay and the forge share. The zero Secret is none: it
// verifies nothing.
type Secret struct{ key []byte }

// ParseSecret takes the content of a file that holds the secret and nothing
// else; white space around it does not count.
func ParseSecret(content []byte) (Secret, error) {
	key := bytes.TrimSpace(content)
	switch {
	case len(key) == 0:
		return Secret{}, errors.New("webhook: the secret is empty")
	case len(key) < minSecret:
		return Secret{}, fmt.Errorf("webhook: the secret has %d octets, and %d are the least", len(key), minSecret)
	}
	return Secret{bytes.Clone(key)}, nil
}

// String keeps the secret out of whatever it is printed into.
func (Secret) String() string { return "***" }

// Options of New. Branch, Secret and Wake are required.
type Options struct {
	Branch      string
	Secret      Secret
	Wake        func()                // asks for a poll; it must not block
	Events      []string              // that wake besides a push to the branch, such as "pull_request"; default: none
	Pace        time.Duration         // between two wake-ups once there were three; default 5 s
	Wait        time.Duration         // for one delivery, from its first octet to the answer; default 10 s
	Connections int                   // at one time; default 64
	Logger      *slog.Logger          // default: discard
	Registerer  prometheus.Registerer // default: none
}

// A Server takes deliveries. It is safe for concurrent use.
type Server struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	secret  atomic.Pointer[Secret]
	asked   chan struct{} // holds one token: somebody asked for a wake-up

	mu     sync.Mutex
	recent memory // guarded by mu, as what follows
	counts Counts
	told   time.Time // when the log last had a line on refusals
	untold int       // refusals since then
}

// Counts are what a Server has seen.
type Counts struct {
	VerifiedAt time.Time // the newest delivery with a right signature; zero: none yet
	Verified   int64     // since the start
	RefusedAt  time.Time // the newest delivery with a wrong signature, of the right form
	Refused    int64     // such deliveries since VerifiedAt, or since the start
}

// New makes a Server. It listens nowhere yet: Serve does.
func New(o Options) (*Server, error) {
	switch {
	case o.Branch == "" || o.Wake == nil:
		return nil, errors.New("webhook: Branch and Wake are required")
	case len(o.Secret.key) < minSecret:
		return nil, errors.New("webhook: a secret is required")
	}
	if o.Pace <= 0 {
		o.Pace = defaultPace
	}
	if o.Wait <= 0 {
		o.Wait = defaultWait
	}
	if o.Connections <= 0 {
		o.Connections = defaultMost
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, log: o.Logger, asked: make(chan struct{}, 1), recent: newMemory(2*maxRecent, recentFor)}
	s.secret.Store(&o.Secret)
	var err error
	if s.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return s, nil
}

// SetSecret replaces the secret; deliveries under way may still be held to the
// one before.
func (s *Server) SetSecret(secret Secret) { s.secret.Store(&secret) }

// Counts are the counts of this moment.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}
