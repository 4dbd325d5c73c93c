// Package smtpd is the relay's front door: the gate, the listeners and the
// sessions. It decides who is let in (by the register's verdict on the
// client's address, before the greeting), speaks SMTP, and hands each message,
// checked and traced, to a Store.
//
// The command loop is go-smtp's. Between it and the network stands conn, a
// net.Conn that reads for it: conn hands out one checked command line at a
// time, takes bodies off the wire itself, and owns every reply, deadline and
// the TLS layer. So nothing that follows a failure is ever parsed as a
// command, and what the library does not know (RFC 5321 order, <Postmaster>,
// quoted local parts, drain) is settled before it sees the line.
//
// It never queues, never reads the register itself, never offers AUTH, and
// never tells a client the text of an internal error.
//
// Invariants:
//   - A body ends at CRLF.CRLF (or its last BDAT octet) or the connection does.
//   - What is stored has CRLF line ends and no other CR or LF, and no NUL.
//   - A 250 to a body is sent only after Message.Commit returned nil.
//   - A message is committed only if its body was read to the end.
//   - A message that proves control is recorded as a proof and is never stored.
//   - Every read and write has a deadline; every count from outside a bound.
//
// RFC 5321, 1870 (SIZE), 2034 (enhanced codes), 2920 (pipelining), 3030
// (CHUNKING), 3207 (STARTTLS), 3461 (DSN), 3848 (with), 6152 (8BITMIME), 6531 (SMTPUTF8),
// 8689 (REQUIRETLS), 9422 (LIMITS).
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
)

// ErrFull is what a Store's error must match (errors.Is) for the client to be
// told "insufficient storage" (452 4.3.1) and not just "try again" (451 4.3.0).
var ErrFull = errors.New("smtpd: the store is full")

// A Store takes messages. Create may be called by many sessions at once.
type Store interface {
	// Create begins a message. It may fail with ErrFull.
	Create(ctx context.Context, env mail.Envelope) (Message, error)
}

// A Message is one that is being stored: Writes, then exactly one of Commit
// and Abort. What is written is the whole message, trace header included, with
// CRLF line ends, not dot-stuffed.
type Message interface {
	io.Writer
	// Commit returns nil only once the message is on stable storage. If it
	// fails it cleans up by itself: no Abort follows.
	Commit(ctx context.Context) (id string, err error)
	// Abort forgets the message.
	Abort()
}

// A Register answers for addresses. Lookup is called before each greeting and
// at each command, so it must be quick and take no lock.
type Register interface {
	Lookup(addr netip.Addr, now time.Time) policy.Verdict
}

// RegisterFunc adapts a function to Register.
type RegisterFunc func(addr netip.Addr, now time.Time) policy.Verdict

// Lookup calls f.
func (f RegisterFunc) Lookup(addr netip.Addr, now time.Time) policy.Verdict { return f(addr, now) }

var _ Register = RegisterFunc(nil)

// A Prover knows the tokens by which a department proves that it controls an
// address, and keeps the proofs. Its methods may be called by many sessions at
// once.
type Prover interface {
	// Open reads the token that addr has sent: proof.ErrInvalid for what is no
	// token for addr, proof.ErrExpired, with the claim, for one that was.
	Open(token string, addr netip.Addr, now time.Time) (proof.Claim, error)
	// Add returns once the record is on stable storage; news is false if the
	// token had proved before.
	Add(rec proof.Record) (news bool, err error)
}

// An Observer is told of each message that was accepted, and of the refusals of
// clients that are on campus, for whoever asks later who sends what, and why a
// machine's mail did not go out. It is called by many sessions at once and must
// not wait for anything.
type Observer interface {
	// Accepted is called once for each message that was answered 250; not for
	// proofs of control, which are no mail.
	Accepted(addr netip.Addr, a Accepted)
	// Refused: registered says whether the register has the address; stage and
	// reason are the labels of the metrics; said is the reply, printable ASCII.
	Refused(addr netip.Addr, registered bool, stage, reason, said string)
}

// An Accepted is what an Observer is told of a message.
type Accepted struct {
	Recipients int
	Octets     int64  // as they arrived
	TLS        string // version, such as "TLS 1.3"; "": clear text
	Needed     Needed
}

// Options of New. Hostname, Postmaster, Register and Store must be set.
type Options struct {
	Hostname   string   // in the greeting and in Received
	Postmaster string   // whom a refused client is told to write to
	Portal     string   // URL without a trailing slash; "": refusals name the postmaster only
	Register   Register // the allowlist in force
	Store      Store
	Limiter    Limiter  // nil: no budgets
	Brake      Brake    // nil: none
	Prover     Prover   // nil: nothing can be proved here
	Observer   Observer // nil: nobody is told

	// Balancers are the peers that say in front of each connection for whom they
	// speak (PROXY protocol, version 1 or 2), and are believed. Of them a header is
	// required; of others none is read.
	Balancers []netip.Prefix

	// GetCertificate is asked at each handshake, so that certificates can be
	// replaced while the server runs; nil: no STARTTLS.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// RequireTLS offers REQUIRETLS (RFC 8689) in TLS sessions; say so only if
	// the deliverer honours Envelope.RequireTLS.
	RequireTLS bool

	// AllowBulk takes messages that say in their header that they are bulk mail.
	AllowBulk bool

	Limits     Limits
	Now        func() time.Time // nil: time.Now
	Logger     *slog.Logger     // nil: none
	Registerer prometheus.Registerer
}

// Limits bound what a client can make the server hold, wait for or repeat. A
// zero field has the default given beside it.
type Limits struct {
	MaxMessage    int64 // 50 MiB: octets of a message as it arrives
	MaxProof      int64 // 4 MiB: of one that proves control; enough for a scanned page
	MaxLine       int   // 256 KiB: octets of one line of a body
	MaxHeader     int   // 256 KiB: octets of a header section
	MaxHops       int   // 50: Received lines before it is called a loop, RFC 5321 §6.3
	MaxRecipients int   // 1000: recipients of one message

	Sessions                int   // 2000: at once; those that may not send have a quarter of it between them
	SessionsPerAddress      int   // 250: at once, from one address
	SessionsPerRegistration int   // 500: at once, from all machines of one registration
	Memory                  int64 // 384 MiB: octets that recipients and bodies under way may hold, all sessions together
	Refusals                int   // 256: greetings being refused at once; more are closed without a word
	Errors                  int   // 20: refused or unknown commands since the last accepted message; one more closes the connection
	Idle                    int   // 100: commands since the last accepted message that got nothing done

	Command   time.Duration // 5 min, RFC 5321 §4.5.3.2.7: to send one whole command line
	Stall     time.Duration // 3 min, RFC 5321 §4.5.3.2.5: between two pieces of a body
	Grace     time.Duration // 2 min: before MinRate counts
	MinRate   int           // 200: octets a second of a body, on average
	Write     time.Duration // 1 min: to take a reply
	Handshake time.Duration // 30 s: STARTTLS
	Proxy     time.Duration // 5 s: for a load balancer to say who is calling
	Refusal   time.Duration // 5 s: to take a refused greeting, or the last words before a close
	Commit    time.Duration // 1 min: the store's time to begin or to commit a message
	Drain     time.Duration // 1 min: after cancellation, for bodies that are under way
}

func (l Limits) withDefaults() Limits {
	set(&l.MaxMessage, 50<<20)
	set(&l.MaxProof, 4<<20)
	set(&l.MaxLine, 256<<10)
	set(&l.MaxHeader, 256<<10)
	set(&l.MaxHops, 50)
	set(&l.MaxRecipients, 1000)
	set(&l.Sessions, 2000)
	set(&l.SessionsPerAddress, 250)
	set(&l.SessionsPerRegistration, 500)
	set(&l.Memory, 384<<20)
	set(&l.Refusals, 256)
	set(&l.Errors, 20)
	set(&l.Idle, 100)
	set(&l.Command, 5*time.Minute)
	set(&l.Stall, 3*time.Minute)
	set(&l.Grace, 2*time.Minute)
	set(&l.MinRate, 200)
	set(&l.Write, time.Minute)
	set(&l.Handshake, 30*time.Second)
	set(&l.Proxy, 5*time.Second)
	set(&l.Refusal, 5*time.Second)
	set(&l.Commit, time.Minute)
	set(&l.Drain, time.Minute)
	return l
}

// set gives *p the default d if it is zero.
func set[T int | int64 | time.Duration](p *T, d T) {
	if *p <= 0 {
		*p = d
	}
}

// A Server accepts mail. Its methods may be called concurrently; one Server
// may serve several listeners, which then share the session bounds.
type Server struct {
	hostname   string
	postmaster string
	person     mail.Address // postmaster's
	portal     string
	register   Register
	store      Store
	limiter    Limiter
	brake      Brake
	seed       maphash.Seed // of digests of bodies
	prover     Prover
	observer   Observer
	balancers  []netip.Prefix
	limits     Limits
	offerReq   bool // REQUIRETLS
	allowBulk  bool
	tls        tlsConfigs
	now        func() time.Time
	log        *slog.Logger
	metrics    *metrics
	tally      tally
	refusals   refusalLog
	crowd      *crowd
	memory     memory
	buffers    buffers
	loop       *smtp.Server // go-smtp: the command loop
}

// New checks the options and makes a Server.
func New(o Options) (*Server, error) {
	switch {
	case o.Hostname == "" || o.Postmaster == "":
		return nil, errors.New("smtpd: Hostname and Postmaster must be set")
	case o.Register == nil || o.Store == nil:
		return nil, errors.New("smtpd: Register and Store must be set")
	}
	person, err := mail.ParseAddress(o.Postmaster, true)
	if err != nil {
		return nil, fmt.Errorf("smtpd: the postmaster: %w", err)
	}
	s := &Server{
		hostname:   o.Hostname,
		postmaster: o.Postmaster,
		person:     person,
		portal:     strings.TrimRight(o.Portal, "/"),
		register:   o.Register,
		store:      o.Store,
		limiter:    o.Limiter,
		brake:      o.Brake,
		seed:       maphash.MakeSeed(),
		prover:     o.Prover,
		observer:   o.Observer,
		balancers:  o.Balancers,
		limits:     o.Limits.withDefaults(),
		offerReq:   o.RequireTLS,
		allowBulk:  o.AllowBulk,
		tls:        newTLSConfigs(o.GetCertificate),
		now:        o.Now,
		log:        o.Logger,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer, &s.memory)
	if err != nil {
		return nil, fmt.Errorf("smtpd: registering metrics: %w", err)
	}
	s.metrics = m
	s.crowd = newCrowd(s.limits)
	s.memory.most = s.limits.Memory
	s.loop = s.newLoop()
	return s, nil
}

// newLoop sets go-smtp up. Its own limits, time-outs and capability switches
// stay off: conn has them (zero means unlimited in the library). EnableDSN,
// EnableSMTPUTF8 and EnableREQUIRETLS let it parse those parameters; what is
// advertised is conn's reply to EHLO.
func (s *Server) newLoop() *smtp.Server {
	l := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		own, ok := c.Conn().(*conn)
		if !ok {
			return nil, errRefused
		}
		return &session{c: own, srv: s}, nil
	}))
	l.Domain = s.hostname
	l.MaxLineLength = 0
	l.EnableDSN = true
	l.EnableSMTPUTF8 = true
	l.EnableREQUIRETLS = true
	l.ErrorLog = loopLog{s.log}
	return l
}

// loopLog takes go-smtp's internal errors (recovered panics) to slog.
type loopLog struct{ log *slog.Logger }

func (l loopLog) Printf(format string, v ...any) {
	l.log.Error("a session failed", "event", "smtp.failed", "err", fmt.Sprintf(format, v...))
}
func (l loopLog) Println(v ...any) {
	l.log.Error("a session failed", "event", "smtp.failed", "err", fmt.Sprint(v...))
}
