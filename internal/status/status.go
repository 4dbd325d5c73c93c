// Package status is the one read model of a running relay: what is in force,
// what is owed, what is wrong and what to do about it. Pages, probes and
// "gatepost status" all show the same Report.
//
// It only reads. It changes nothing, starts nothing, and asks its sources anew
// for each answer; what a source does not tell is left out.
package status

import (
	"net/netip"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// maxProblems bounds the problems, and the withheld files, in a Report;
// Register.ProblemCount and WithheldCount have them all.
const maxProblems = 200

// MaxProofs bounds the proofs in a Report.
const MaxProofs = 20

// A Report is the state of a relay at one time.
type Report struct {
	Host     string    `json:"host"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	At       time.Time `json:"at"`                 // when the report was made
	Ready    bool      `json:"ready"`              // it takes mail
	NotReady []string  `json:"notReady,omitempty"` // why it does not
	Findings []Finding `json:"findings"`           // what is wrong, the worst first; empty: nothing

	Register    Register     `json:"register"`
	Queue       Queue        `json:"queue"`
	Relay       Relay        `json:"relay"`
	Senders     Senders      `json:"senders"`
	Strangers   Strangers    `json:"strangers"`
	Proofs      Proofs       `json:"proofs"`
	Drift       []Drift      `json:"drift"`  // blocks by command, here only or, by now, in the register as well
	Blocks      Blocks       `json:"blocks"` // how the break-glass blocks stand
	Brake       []Braked     `json:"brake"`  // registrations that the abuse brake has, the hardest first
	Config      Config       `json:"config"`
	Certificate *Certificate `json:"certificate,omitempty"` // nil: none
	Webhook     *Webhook     `json:"webhook,omitempty"`     // nil: none
	Portal      *Portal      `json:"portal,omitempty"`      // nil: none
	DKIM        *DKIM        `json:"dkim,omitempty"`        // nil: nothing is signed
	Resolver    *Resolver    `json:"resolver,omitempty"`    // nil: the system's
}

// A Level says how bad a Finding is.
type Level string

// The levels, the worst first.
const (
	Wrong Level = "wrong" // mail or the register stands still until somebody acts
	Look  Level = "look"  // somebody should look at it in working hours
)

// A Finding is one thing that is wrong.
type Finding struct {
	Level Level  `json:"level"`
	What  string `json:"what"`
	Do    string `json:"do"` // a command, or a sentence
}

// The values of Register.Condition.
const (
	Following = "following" // what is on the branch is in force, or soon will be
	Frozen    = "frozen"    // the branch cannot be followed
	Held      = "held"      // the newest commit waits for an operator
)

// A Register is how the relay stands to the register.
type Register struct {
	Repository  string    `json:"repository"` // without credentials
	Branch      string    `json:"branch"`
	Commit      string    `json:"commit"` // in force; "" if there is none yet
	AcceptedAt  time.Time `json:"acceptedAt,omitzero"`
	AgeSeconds  int64     `json:"ageSeconds"` // since LastContact; -1 if there was none. Filled in by Server
	LastContact time.Time `json:"lastContact,omitzero"`
	Newest      string    `json:"newest,omitempty"` // head of the branch when it was last seen
	Error       string    `json:"error,omitempty"`  // what the last look at the repository failed on

	Condition string `json:"condition"`         // Following, Frozen or Held; "" is Following
	Reason    string `json:"reason,omitempty"`  // why it is frozen or held
	Command   string `json:"command,omitempty"` // what an operator types to go on

	Addresses    int                    `json:"addresses"` // registered, live or not
	Live         int                    `json:"live"`      // of these, those that may send now
	Dropped      int                    `json:"dropped"`   // faulty files that have no good version
	Substituted  []Substitution         `json:"substituted"`
	Problems     []registration.Problem `json:"problems"`     // at most 200
	ProblemCount int                    `json:"problemCount"` // all of them; filled in by Server if it is 0

	Withheld      []Withheld `json:"withheld"`      // at most 200
	WithheldCount int        `json:"withheldCount"` // all of them; filled in by Server if it is 0

	Keys []string `json:"keys,omitempty"` // what is wrong with the files of postmasters' keys

	Unconfirmed bool `json:"unconfirmed"` // confirmations of the commit in force are still to be handed over
}

// A Substitution is a faulty file whose last good version stays in force.
type Substitution struct {
	File   string `json:"file"`
	Commit string `json:"commit"` // that the version in force is from; "" if there is none
}

// A Withheld is a file whose newest version is not in force, since nobody
// vouches for a commit that changed it.
type Withheld struct {
	File    string    `json:"file"`
	Since   time.Time `json:"since"`
	Commit  string    `json:"commit"`            // that has to be vouched for
	Refused bool      `json:"refused"`           // it was judged; else it could not be yet, and is judged again
	Why     string    `json:"why"`               // nobody vouches for it
	InForce string    `json:"inForce,omitempty"` // a commit that has the version in force; "" if nothing is
}

// A Queue is what the relay owes.
type Queue struct {
	Entries          int            `json:"entries"`
	Depth            map[string]int `json:"depth"`             // by state: waiting, ready, running, held
	Oldest           time.Time      `json:"oldest,omitzero"`   // arrival
	OldestAgeSeconds int64          `json:"oldestAgeSeconds"`  // filled in by Server
	Next             time.Time      `json:"next,omitzero"`     // the next attempt
	Destinations     []Destination  `json:"destinations"`      // those that are owed most
	Loading          bool           `json:"loading,omitempty"` // the spool is still being read

	// Since the start, by recipients: rates are differences of two reports.
	Delivered int64 `json:"delivered"` // a next hop took them
	Deferred  int64 `json:"deferred"`  // attempts that were put off
	Bounced   int64 `json:"bounced"`   // given back to their senders
}

// A Destination is one next hop.
type Destination struct {
	Name         string    `json:"name"`
	Entries      int       `json:"entries"`
	Running      int       `json:"running"`            // attempts under way
	Window       int       `json:"window"`             // attempts that may be under way, by what became of the last ones
	Failures     int       `json:"failures,omitempty"` // in a row
	BlockedUntil time.Time `json:"blockedUntil,omitzero"`
	Deferrals    int       `json:"deferrals,omitempty"` // attempts in a row that delivered nothing
	Said         string    `json:"said,omitempty"`      // what the newest of them was told
}

// A Relay is the SMTP side.
type Relay struct {
	Sessions int   `json:"sessions"` // now
	Accepted int64 `json:"accepted"` // messages since the start
	Refused  int64 `json:"refused"`  // messages and connections since the start
}

// Proofs are the proofs of control that this relay has recorded.
type Proofs struct {
	Count  int     `json:"count"`
	Newest []Proof `json:"newest"` // at most MaxProofs
}

// A Proof says that control of an address was proved: a message with a token
// for it came from it.
type Proof struct {
	IP      netip.Addr `json:"ip"`
	Request int        `json:"request,omitempty"` // the number of the request that the token was for; 0: none
	At      time.Time  `json:"at"`
	Port    string     `json:"port"`          // "relay" or "submission"
	TLS     string     `json:"tls,omitempty"` // version and suite; "" in clear text
}

// A Drift is a block by command on this relay. As long as the register has none
// that covers it, the two differ.
type Drift struct {
	Prefix string    `json:"prefix"` // "141.211.13.21" or "141.211.13.0/24"
	Reason string    `json:"reason"`
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	Agreed string    `json:"agreed,omitempty"` // a file of the register that blocks as much for as long; "": there is none yet
}

// A Config is how the running relay stands to its configuration file.
type Config struct {
	File        string   `json:"file"`
	Error       string   `json:"error,omitempty"`       // of the last reading; what was read before stays in force
	NeedRestart []string `json:"needRestart,omitempty"` // fields whose change waits for a restart
}

// A Certificate is the one in use.
type Certificate struct {
	NotAfter time.Time `json:"notAfter"`
	Error    string    `json:"error,omitempty"` // of the last reload; the certificate before stays in use
}

// A Webhook is how the forge's deliveries fare.
type Webhook struct {
	VerifiedAt time.Time `json:"verifiedAt,omitzero"` // the newest with a right signature
	Verified   int64     `json:"verified"`            // since the start
	RefusedAt  time.Time `json:"refusedAt,omitzero"`  // the newest with a wrong signature
	Refused    int64     `json:"refused"`             // those since VerifiedAt, or since the start
	Error      string    `json:"error,omitempty"`     // of the last reading of the secret; the one before stays in use
}

// A Portal is how the portal's questions fare.
type Portal struct {
	AskedAt   time.Time `json:"askedAt,omitzero"`   // the newest with a right token
	RefusedAt time.Time `json:"refusedAt,omitzero"` // the newest with a wrong token, or none
	Refused   int64     `json:"refused"`            // those since AskedAt, or since the start
	Operates  bool      `json:"operates"`           // it may block, unblock and release
	Error     string    `json:"error,omitempty"`    // of the last reading of the tokens; those before stay in use
}

// DKIM is how the keys are that mail is signed with.
type DKIM struct {
	Error string `json:"error,omitempty"` // of the last reading; the keys before stay in use
}

// Resolver is how the resolver for delivery stands.
type Resolver struct {
	Address   string `json:"address"`
	Validates bool   `json:"validates"`       // by DNSSEC
	Error     string `json:"error,omitempty"` // why it does not answer
}

// Sources tell a Server what it reports. Each is called for each report and
// must return soon; one that is nil tells nothing.
type Sources struct {
	Register    func() Register
	Queue       func() Queue
	Relay       func() Relay
	Senders     func() Senders
	Strangers   func() Strangers
	Proofs      func() Proofs
	Drift       func() []Drift
	Blocks      func() Blocks
	Brake       func() []Braked
	Config      func() Config
	Certificate func() *Certificate
	Webhook     func() *Webhook
	Portal      func() *Portal
	DKIM        func() *DKIM
	Resolver    func() *Resolver // nil as long as it was not asked
	Spool       func() error     // why it accepts no message; nil if it does
	Ending      func() bool      // it was asked to end, and takes no new clients

	Address func(netip.Addr) Address // Host and At are filled in by Server
}

// ending is why a relay is not ready that was asked to end.
const ending = "it was asked to end, and finishes what is under way"

// read makes the report of one time.
func read(o Options, now time.Time) Report {
	r := Report{Host: o.Host, Version: o.Version, Started: o.Started, At: now}
	s := o.Sources
	if s.Register != nil {
		r.Register = s.Register()
	}
	if s.Queue != nil {
		r.Queue = s.Queue()
	}
	if s.Relay != nil {
		r.Relay = s.Relay()
	}
	if s.Senders != nil {
		r.Senders = s.Senders()
	}
	if s.Strangers != nil {
		r.Strangers = s.Strangers()
	}
	if s.Proofs != nil {
		r.Proofs = s.Proofs()
	}
	if s.Drift != nil {
		r.Drift = s.Drift()
	}
	if s.Blocks != nil {
		r.Blocks = s.Blocks()
	}
	if s.Brake != nil {
		r.Brake = s.Brake()
	}
	if s.Config != nil {
		r.Config = s.Config()
	}
	if s.Certificate != nil {
		r.Certificate = s.Certificate()
	}
	if s.Webhook != nil {
		r.Webhook = s.Webhook()
	}
	if s.Portal != nil {
		r.Portal = s.Portal()
	}
	if s.DKIM != nil {
		r.DKIM = s.DKIM()
	}
	if s.Resolver != nil {
		r.Resolver = s.Resolver()
	}
	g := &r.Register
	if g.Condition == "" {
		g.Condition = Following
	}
	g.AgeSeconds = -1
	if !g.LastContact.IsZero() {
		g.AgeSeconds = seconds(now.Sub(g.LastContact))
	}
	g.ProblemCount = max(g.ProblemCount, len(g.Problems))
	g.Problems = g.Problems[:min(len(g.Problems), maxProblems)]
	g.WithheldCount = max(g.WithheldCount, len(g.Withheld))
	g.Withheld = g.Withheld[:min(len(g.Withheld), maxProblems)]
	if !r.Queue.Oldest.IsZero() {
		r.Queue.OldestAgeSeconds = seconds(now.Sub(r.Queue.Oldest))
	}
	if g.Commit == "" {
		r.NotReady = append(r.NotReady, "there is no register yet")
	}
	if s.Ending != nil && s.Ending() {
		r.NotReady = append(r.NotReady, ending)
	}
	if s.Spool != nil {
		if err := s.Spool(); err != nil {
			r.NotReady = append(r.NotReady, "the spool accepts nothing: "+err.Error())
		}
	}
	r.Ready = len(r.NotReady) == 0
	r.Findings = judge(&r)
	// A list is a list for whoever reads the JSON, an empty one too.
	g.Substituted = append([]Substitution{}, g.Substituted...)
	g.Problems = append([]registration.Problem{}, g.Problems...)
	g.Withheld = append([]Withheld{}, g.Withheld...)
	r.Drift = append([]Drift{}, r.Drift...)
	r.Brake = append([]Braked{}, r.Brake...)
	r.Queue.Destinations = append([]Destination{}, r.Queue.Destinations...)
	r.Findings = append([]Finding{}, r.Findings...)
	r.Senders.Top = append([]Sender{}, r.Senders.Top[:min(len(r.Senders.Top), MaxSenders)]...)
	r.Strangers.Newest = append([]Stranger{}, r.Strangers.Newest[:min(len(r.Strangers.Newest), MaxStrangers)]...)
	r.Proofs.Newest = append([]Proof{}, r.Proofs.Newest[:min(len(r.Proofs.Newest), MaxProofs)]...)
	if r.Queue.Depth == nil {
		r.Queue.Depth = map[string]int{}
	}
	return r
}

func seconds(d time.Duration) int64 { return int64(max(0, d) / time.Second) }
