// Package registration turns one file of the register into one typed value,
// and back. It owns the meaning of a single file: syntax, data-only gate,
// schema, value checks, and the position of everything, so that each problem
// points at the user's own line.
//
// It never looks at a second file (package policy does), never touches git or
// a work tree, and never evaluates CUE that has not passed the data-only gate
// (rule not-data): CUE evaluation cannot be cancelled. It is the only importer
// of CUE: what else is written in it, such as a daemon's configuration, is read
// with a Definition.
package registration

import (
	"crypto/sha256"
	"net/netip"
	"time"
)

// A Mode is what a register entry is in the tree. Only Regular is read.
type Mode uint8

// The modes.
const (
	Regular   Mode = iota
	Symlink        // rule not-regular
	Submodule      // rule not-regular
	Other          // rule not-regular: device, socket, ...
)

// A Source is one file as it was found: its path from the repository's root
// with forward slashes ("registrations/lsa-physics/mfp.cue"), what it is, and
// its bytes. Data may be cut at MaxFile+1 bytes; Size is the whole size.
type Source struct {
	Path string
	Mode Mode
	Size int64
	Data []byte
}

// A File is a parsed Source: exactly one of Registration, Campus and Block is
// set when it has no error, none when it is not a file of the register
// (README.md). A File is immutable and may be kept and shared.
type File struct {
	Path         string
	Sum          [sha256.Size]byte // of Source.Data: tells an edit that changes no value, such as a comment, from none
	Registration *Registration
	Campus       *Campus
	Block        *Block
	Problems     []Problem // in order of position
}

// A Registration is one approved request: department, contact, hosts, limits,
// expiry. Hosts share what the request says.
type Registration struct {
	Path       string // its identity inside one snapshot
	Department string
	Contact    Contact
	Purpose    string
	WhyNoAuth  string
	Hosts      []Host   // 1 to 64
	Senders    []string // lower case; "*@domain", "user@domain"; empty: any
	Bounces    string   // "contact": the contact is told of a failure that the sender cannot be told of; "": nobody is
	Volume     Volume
	Expires    time.Time // the first instant at which it is no longer valid, UTC: midnight after the day written
	Accept     Accept
	At         Positions
}

// BouncesToContact is what Registration.Bounces says if it says anything.
const BouncesToContact = "contact"

// A Contact is who hears about a registration.
type Contact struct {
	Name  string
	Email string
}

// A Volume is what a department expects to send; the relay holds it to that.
type Volume struct {
	PerHour int // messages
	PerDay  int // messages
}

// Accept is what a department has agreed to; all must be true.
type Accept struct {
	Policies, NotBulk, NotWorkstation, NoMailServer bool
}

// A Host is one registered address.
type Host struct {
	IP     netip.Addr // canonical, unmapped, without a zone
	Name   string
	Kind   string // printer, scanner, appliance, server, application, sensor, other
	Device Device
	At     Pos // where its ip is written
}

// A Device is a leniency profile for old kit. The zero value is not the
// default; the schema fills the defaults in.
type Device struct {
	BareLF     string // "reject" (default) or "fix"
	TLS        string // "modern" (default), "legacy" (TLS 1.0 up) or "off" (STARTTLS not offered)
	Commands   string // "strict" (default) or "sloppy" (a blank before a path, no brackets, no HELO)
	AddHeaders bool   // add a missing Date and Message-ID; default true
}

// Positions tells where the parts of a registration stand.
type Positions struct {
	Department, Contact, Email, Hosts, Senders, Volume, Expires, Accept Pos
}

// A Pos is a place in a file, counted from one; zero means unknown. Columns
// count bytes.
type Pos struct {
	Line, Column int32
}

// A Campus is what files under campus/ say: the university's address space,
// who holds which part of it, and who may speak for whom.
type Campus struct {
	Path        string
	Prefixes    []Prefix // the university's own space
	Networks    []Network
	Departments []Department
	Portal      Account // that the portal opens requests as; the zero Account is none
}

// A Prefix is one entry of the campus list.
type Prefix struct {
	Prefix netip.Prefix
	At     Pos
}

// A Network is one prefix and the department that holds it.
type Network struct {
	Prefix     netip.Prefix
	Department string
	Use        string // static; or a pool where nothing registers: dhcp, wireless, vpn, residence, nat
	At         Pos
}

// A Department is one that may register, with the people who speak for it.
type Department struct {
	ID             string
	Name           string
	Speakers       []Speaker
	Team           Team // optional
	ContactDomains []string
	At             Pos
}

// A Speaker is a forge account, a mail address, or both. Of an account the
// number decides, the login is for display.
type Speaker struct {
	GitHub string
	ID     int64  // 0: no account
	Email  string // lower case; "": none
}

// Name is what people call the speaker: the login, or else the mail address.
func (s Speaker) Name() string {
	if s.GitHub != "" {
		return s.GitHub
	}
	return s.Email
}

// An Account is one of the forge. The number decides, the login is for display.
type Account struct {
	GitHub string
	ID     int64
}

// A Team is a forge team. The number decides, the slug is for display.
type Team struct {
	Slug string
	ID   int64
}

// A Block takes an address or a prefix out of service. It beats a
// registration, always.
type Block struct {
	Path   string // its file; the file's base name without ".cue" is the reference told to the client
	Prefix netip.Prefix
	Reason string
	Since  time.Time
	Until  time.Time // zero: until it is taken back
	At     Pos
}
