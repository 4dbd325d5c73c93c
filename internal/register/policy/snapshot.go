package policy

import (
	"net/netip"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// A Standing is what the register says of a client address.
type Standing uint8

// The standings, from least to most welcome.
const (
	NoRegister   Standing = iota // there is no snapshot yet
	OffCampus                    // not the university's address
	Blocked                      // by the register or by an operator
	Unregistered                 // on campus, but nobody registered it
	Expired                      // registered, and the date has passed
	Registered                   // live
)

// A Verdict is the register's answer for one address at one time. It stays
// valid when the snapshot is replaced.
type Verdict struct {
	Standing     Standing
	Addr         netip.Addr
	Registration *registration.Registration // set for Expired and Registered, and for Blocked where there is one
	Host         *registration.Host         // the entry of Registration for Addr
	Block        *registration.Block        // set for Blocked
	Commit       string                     // the commit the answer is from
}

// A Change is one difference between two snapshots.
type Change struct {
	Kind         ChangeKind
	IP           netip.Prefix // a single address, but for blocks
	Registration string       // path after the change; before it, for Removed
	Department   string
	Contact      string
}

// A ChangeKind says what happened to an address.
type ChangeKind string

// The kinds of change, named as in the JSON of "gatepost plan".
const (
	Added     ChangeKind = "added"
	Removed   ChangeKind = "removed"
	Changed   ChangeKind = "changed"
	BlockedBy ChangeKind = "blocked"
	Unblocked ChangeKind = "unblocked"
)

// Build options and results are below; see Build.

// Options of Build.
type Options struct {
	Commit string    // recorded in the snapshot and in each Verdict
	Now    time.Time // for the rules expired and expiry-too-far only; what is built does not depend on it
}
