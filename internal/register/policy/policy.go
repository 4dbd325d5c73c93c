// Package policy decides who may send. Build turns parsed files into an
// immutable Snapshot, or says why not; Lookup and Admit answer for one client;
// Judge says what a pull request breaks; Diff and NewPlan tell two snapshots
// apart; Live holds the one in force.
//
// It owns every rule that takes a second file, or today's date, to check:
// address space and its holders, duplicates, blocks, departments, contact
// domains, expiry, volume, authority. What one file can break alone belongs to
// package registration.
//
// Everything but Live is pure: no I/O, no clock, no logging. Validating is
// building: the command line, the form and the relay all call Build, so what
// passes in CI is by construction what the relay accepts.
//
// Invariants, whatever the input:
//   - an address is in a Snapshot only if exactly one registration of it was
//     built, and that file had no error (expiry-too-far aside, see Build);
//   - a file is built whole or not at all;
//   - a block in force beats a registration, wherever the block came from;
//   - a Snapshot never changes; any number of goroutines may read it.
package policy

import (
	"strings"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// MaxAhead is how far ahead a registration may expire, in years.
const MaxAhead = 2

// Options of Build.
type Options struct {
	Commit string // recorded in the snapshot and in each Verdict

	// Now serves the rules expired, expiry-too-far and ip-blocked only; what is
	// built does not depend on it. The zero Time leaves these rules out.
	Now time.Time

	// Incumbents is the snapshot that was in force before, if there is one.
	// Where two files claim an address, a network or a department, the one that
	// held it there keeps it and the newcomer is at fault. Without it, the file
	// whose path sorts first keeps it, so that the same files always make the
	// same snapshot.
	Incumbents *Snapshot

	// MaxVolume is a cap on top of the schema's and of schema/site.cue's, which
	// the parser applies. A zero field adds none. Judge knows of no such cap: a
	// site that wants pull requests held to one writes it in schema/site.cue.
	MaxVolume registration.Volume
}

// An Author is who opened a pull request. The zero Author is unknown, and
// nothing is said of authority.
type Author struct {
	Login string  // for display; decides only where ID is 0 (a preview at somebody's desk)
	ID    int64   // the forge's number of the account
	Email string  // of who signed in to the portal, verified by it; never what a commit or a request says
	Teams []int64 // the forge's numbers of the teams that the account is in

	// Unread are teams that nobody here may look into. Where one of them would
	// decide, it is said so, and somebody else must: author-not-speaker is a
	// Warning then.
	Unread []int64
}

// SpeaksFor reports whether the author may change what belongs to d. An
// account is its number: a login can be given up and taken by somebody else. A
// mail address is compared without regard to case.
func (a Author) SpeaksFor(d *registration.Department) bool {
	if d == nil {
		return false
	}
	for _, s := range d.Speakers {
		if a.ID != 0 && s.ID == a.ID {
			return true
		}
		if a.ID == 0 && a.Login != "" && strings.EqualFold(s.GitHub, a.Login) {
			return true
		}
		if a.Email != "" && strings.EqualFold(s.Email, a.Email) {
			return true
		}
	}
	for _, t := range a.Teams {
		if t != 0 && t == d.Team.ID {
			return true
		}
	}
	return false
}

func (a Author) known() bool { return a.Login != "" || a.ID != 0 || a.Email != "" }

// name is how messages call the author.
func (a Author) name() string {
	if a.Login != "" {
		return a.Login
	}
	if a.Email != "" {
		return a.Email
	}
	return "the author"
}
