// Package config reads the daemons' configuration: one CUE file, held against
// its definition in schema/, where every field has its comment and its default.
//
// A configuration is plain data; package registration, whose Definition holds it
// to the schema, evaluates nothing else. All problems come out in one run, each on the
// operator's own line and with a hint. What the schema cannot say (forms of
// addresses, durations, one field against another) is checked here in Go.
//
// It never opens a file that a configuration names, so it never holds a secret,
// and a Relay or a Portal may be logged whole.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/registration"
)

// MaxFile is the largest configuration file, in bytes.
const MaxFile = registration.MaxConfiguration

// A Relay is the effective configuration of the relay daemon: what the file
// says, and the defaults of schema/relay.cue where it says nothing. It is never
// changed after loading.
type Relay struct {
	Hostname   string // lower case, without a final dot
	Postmaster mail.Address
	Portal     string // without a final slash; "": none
	Listen     Listen
	TLS        TLS
	Register   Register
	State      string // an absolute path
	Deliver    Deliver
	Proof      Proof
	Blocks     Blocks
	Confirm    bool
	Limits     Limits
	Brake      Brake
	Queue      Queue
	Drain      time.Duration // for bodies under way at the end, and again for attempts

	// Warnings are findings that do not stop the relay, such as a submission
	// port without a certificate.
	Warnings []registration.Problem
}

// Listen says where the relay listens, in the form that net.Listen takes.
type Listen struct {
	Relay      []string // at least one of Relay and Submission has an entry
	Submission []string
	Proxy      []netip.Prefix // load balancers that say for whom they speak; masked, at most 64
	HTTP       string         // "": off
	Socket     string         // an absolute path
	Portal     *ListenPortal  // nil: none
}

// A ListenPortal is where the portal asks how the relay stands.
type ListenPortal struct {
	Address           string
	TokenFile         string // an absolute path
	OperatorTokenFile string // likewise; "": it can only read
}

func (p ListenPortal) String() string {
	more := ""
	if p.OperatorTokenFile != "" {
		more = fmt.Sprintf(", operatorTokenFile: %q", p.OperatorTokenFile)
	}
	return fmt.Sprintf("{address: %q, tokenFile: %q%s}", p.Address, p.TokenFile, more)
}

// TLS names the relay's certificate: absolute paths, both or neither.
type TLS struct {
	Certificate string
	Key         string
}

// Enabled reports whether there is a certificate.
func (t TLS) Enabled() bool { return t.Certificate != "" }

// Register says where the register is and how it is followed.
type Register struct {
	Repository  string // an http or https URL without credentials, or an absolute path
	Branch      string
	Poll        time.Duration
	TokenFile   string   // "": none
	App         *App     // nil: none
	Webhook     *Webhook // nil: none
	Verify      *Verify  // nil: none
	MaxRemovals float64  // 0 to 1
}

// An App is a GitHub App to read the repository as.
type App struct {
	ID           int64
	Installation int64
	KeyFile      string
}

// String is the App as the file has it; so it is with what follows.
func (a App) String() string {
	return fmt.Sprintf("{id: %d, installation: %d, keyFile: %q}", a.ID, a.Installation, a.KeyFile)
}

// A Webhook is where the forge's deliveries come in.
type Webhook struct {
	Listen     string
	SecretFile string // an absolute path
}

func (w Webhook) String() string {
	return fmt.Sprintf("{listen: %q, secretFile: %q}", w.Listen, w.SecretFile)
}

// Verify says who must vouch for a commit: Keys, Postmasters, or both.
type Verify struct {
	Keys        []string // files, absolute paths; empty: signatures do not matter
	Postmasters string   // the slug of a GitHub team; "": not asked
}

func (v Verify) String() string {
	var parts []string
	if len(v.Keys) > 0 {
		parts = append(parts, "keys: [\""+strings.Join(v.Keys, "\", \"")+"\"]")
	}
	if v.Postmasters != "" {
		parts = append(parts, fmt.Sprintf("github: {postmasters: %q}", v.Postmasters))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// Deliver says how mail leaves.
type Deliver struct {
	Smarthosts []Smarthost // empty: to the MX of each domain
	TLS        string      // TLSOpportunistic, TLSEncrypt, TLSVerify, TLSDANE or TLSOff
	TLSPolicy  TLSRules
	MTASTS     bool
	TLSReports TLSReports
	Resolver   netip.AddrPort // on this machine, validating; invalid: none
	Source     []netip.Addr   // to connect from, one of each family at most
	Family     string         // a word of deliver.Family
	EightBit   string         // EightBitSend or EightBitBounce
	Chunking   bool
	DKIM       []DKIM // empty: nothing is signed
	Timeouts   Timeouts
}

// Timeouts are the waits for a next hop. RFC 5321 §4.5.3.2.
type Timeouts struct {
	Connect time.Duration // each address of a host by itself
	Command time.Duration // greeting, and replies but to DATA
	Data    time.Duration // the reply to DATA, and each piece written
	Dot     time.Duration // the reply to the final dot
}

// Proof says how proofs of control are made.
type Proof struct {
	SecretFile string // an absolute path; "": a secret of the relay's own
}

// Blocks says where blocks come from besides the register and commands.
type Blocks struct {
	File string // an absolute path; "": none
}

// Limits are what a client may take; none is zero.
type Limits struct {
	MessageBytes            int64
	Recipients              int // of one message
	Sessions                int // all clients together
	SessionsPerAddress      int
	SessionsPerRegistration int
	MemoryBytes             int64
	MinutePart              float64 // of an hour's messages; 0.01 to 1, as MachinePart
	MachinePart             float64 // of a registration's budgets
	RecipientsPerMessage    int
	BytesPerMessage         int64
	BulkMail                string // BulkRefuse or BulkAccept
	Unregistered            Unregistered
	IdleCommand             time.Duration
	IdleData                time.Duration
	DataRate                int64 // octets a second
}

// The values of Limits.BulkMail.
const (
	BulkRefuse = "refuse"
	BulkAccept = "accept"
)

// Unregistered is what an address on campus may do in an hour that may not send.
type Unregistered struct {
	SessionsPerHour   int
	RecipientsPerHour int // that are refused
}

// Queue says how long a message is tried, and how many at a time.
type Queue struct {
	Retry        []time.Duration // after the first attempt, the second, ...; the last repeats; never empty
	Expiry       time.Duration
	DelayWarning time.Duration // 0: off

	Workers        int // attempts at one time
	PerDestination int // of these, to one next hop; at most Workers
}

// An Error lists everything that is wrong with a configuration, in the order
// of position.
type Error struct {
	Problems []registration.Problem
}

// Error writes each problem on a line, FILE:LINE:COL: MESSAGE, and its hint
// below.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		if p.Line > 0 {
			fmt.Fprintf(&b, "%s:%d:%d: %s\n  hint: %s", p.File, p.Line, p.Column, p.Message, p.Hint)
		} else {
			fmt.Fprintf(&b, "%s: %s\n  hint: %s", p.File, p.Message, p.Hint)
		}
	}
	return b.String()
}

// LoadRelay reads the relay's configuration. The error is an *Error where the
// content is at fault, and else says why the file could not be read.
func LoadRelay(path string) (*Relay, error) {
	data, err := content(path)
	if err != nil {
		return nil, err
	}
	return CheckRelay(path, data)
}

// content reads a configuration file, as far as its bound.
func content(path string) ([]byte, error) {
	data, err := durable.ReadFile(path, MaxFile)
	if errors.Is(err, durable.ErrTooLarge) {
		return nil, &Error{[]registration.Problem{tooLarge(path)}}
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	if err != nil {
		return nil, fmt.Errorf("config: reading %s: %w", path, err)
	}
	return data, nil
}

// CheckRelay makes a Relay of the content of a configuration file; path is for
// the problems only. The error is an *Error.
func CheckRelay(path string, data []byte) (*Relay, error) {
	if len(data) > MaxFile {
		return nil, &Error{[]registration.Problem{tooLarge(path)}}
	}
	var raw rawRelay
	d := read(path, data, "#Relay", &raw)
	if d.data == nil {
		return nil, d.err()
	}
	r := d.relay(&raw)
	if err := d.err(); err != nil {
		return nil, err
	}
	r.Warnings = d.warnings()
	return r, nil
}

func tooLarge(path string) registration.Problem {
	return registration.Problem{
		File: path, Rule: registration.RuleTooLarge, Severity: registration.Error,
		Message: fmt.Sprintf("the file is larger than %d bytes", MaxFile),
		Hint:    "a configuration is a page of text; is this the right file?",
	}
}
