package reconcile

import (
	"fmt"
	"slices"
	"time"

	"example.edu/gatepost/internal/register/approval"
	"example.edu/gatepost/internal/register/registration"
)

// A Condition says how the relay stands to the branch.
type Condition string

// The conditions.
const (
	Following Condition = ""       // what is on the branch is in force, or will be with the next round
	Frozen    Condition = "frozen" // the branch cannot be followed; an operator must look
	Held      Condition = "held"   // the newest commit takes too much away; an operator must say yes
)

func (c Condition) result() result {
	switch c {
	case Frozen:
		return resultFrozen
	case Held:
		return resultHeld
	}
	return resultUnchanged
}

// How says by what right a commit is in force.
type How string

// The rights.
const (
	First     How = "first"     // there was none before it
	Descended How = "descended" // it descends from the one before
	Operator  How = "operator"  // an operator accepted it
)

// A Substitution is a faulty file whose last good version stays in force.
type Substitution struct {
	Path string `json:"path"`
	From string `json:"from"` // the commit that the version in force was read from; "" if it is none at all
}

// A Withheld is a path whose version in the accepted commit is not in force,
// since nobody vouches for a commit that changed it.
type Withheld struct {
	Path     string            `json:"path"`
	Since    time.Time         `json:"since"`
	Commit   string            `json:"commit"` // that has to be vouched for
	Standing approval.Standing `json:"standing,omitempty"`
	Why      string            `json:"why"`
	InForce  string            `json:"inForce,omitempty"` // a commit that has the version in force; "" if nothing is
}

// A State tells all there is to know about the register and the relay.
type State struct {
	Accepted    string    `json:"accepted"` // commit in force; "" if there is none
	AcceptedAt  time.Time `json:"acceptedAt,omitzero"`
	CommittedAt time.Time `json:"committedAt,omitzero"`
	How         How       `json:"how,omitempty"`
	Reason      string    `json:"reason,omitempty"` // the operator's, for How Operator

	Newest    string    `json:"newest"`             // head of the branch when it was last seen
	ContactAt time.Time `json:"contactAt,omitzero"` // last time that the repository answered; after a restart, until it does, AcceptedAt
	Error     string    `json:"error,omitempty"`    // what the last round failed on; "" if it did not. Holds no secret

	Condition Condition `json:"condition,omitempty"`
	Why       string    `json:"why,omitempty"`     // of Frozen and Held
	Command   string    `json:"command,omitempty"` // what an operator types to go on, once it is right

	Addresses   int                    `json:"addresses"` // registered, live or not
	Files       int                    `json:"files"`     // of the register that are in force
	Dropped     int                    `json:"dropped"`   // of these, faulty and with no good version
	HeldBlocks  int                    `json:"heldBlocks"`
	Substituted []Substitution         `json:"substituted,omitempty"`
	Problems    []registration.Problem `json:"problems,omitempty"` // at most a thousand
	Withheld    []Withheld             `json:"withheld,omitempty"` // at most a thousand
	WithheldAll int                    `json:"withheldAll"`        // all of them
	Unannounced bool                   `json:"unannounced"`        // OnAccept is still to take the accepted commit
}

// State is the present state. The caller owns it.
func (r *Reconciler) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Substituted = slices.Clone(s.Substituted)
	s.Problems = slices.Clone(s.Problems)
	s.Withheld = slices.Clone(s.Withheld)
	return s
}

// told is what is withheld, in words for an operator.
func (w *withholding) told() (out []Withheld) {
	commits := w.commits()
	for _, p := range w.Paths[:min(len(w.Paths), maxProblems)] {
		t := Withheld{Path: p.Path, Since: p.Since, Commit: p.Cause.String()}
		if !p.InForce.absent() {
			t.InForce = p.InForce.From.String()
		}
		if cause := commits[p.Cause]; cause != nil {
			t.Standing, t.Why = cause.Standing, cause.Why
		}
		switch {
		case p.Stuck:
			t.Why = fmt.Sprintf("it was changed more than %d times since; only what is in force sets it free", maxRemembered)
		case p.Moved:
			t.Why = "it may be a file that this commit changed, under another name: " + t.Why
		}
		out = append(out, t)
	}
	return out
}

func (r *Reconciler) update(f func(*State)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.state)
}

// show brings State in step with what is in force and what waits. The caller
// has the turn.
func (r *Reconciler) show() {
	r.update(func(s *State) {
		s.Accepted, s.AcceptedAt, s.CommittedAt = r.commit.String(), r.at, r.committedAt
		s.How, s.Reason = r.how, r.reason
		s.Condition, s.Why, s.Command = r.evaluated.condition, r.evaluated.why, ""
		if !r.evaluated.head.IsZero() {
			s.Command = fmt.Sprintf("gatepost accept %s --reason '…'", r.evaluated.head)
		}
		s.Addresses, s.Dropped, s.HeldBlocks = r.snapshot.Len(), r.dropped(), len(r.held)
		s.Files = len(r.files) - len(r.bad)
		s.Withheld, s.WithheldAll = r.withheld.told(), len(r.withheld.Paths)
		s.Substituted = r.substituted
		s.Problems = r.problems[:min(len(r.problems), maxProblems)]
	})
}

// note records how a round ended. The caller has the turn.
func (r *Reconciler) note(err error) {
	r.update(func(s *State) {
		s.Unannounced = r.known() && !r.announced.has(&r.inForce)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != s.Error {
			switch {
			case err != nil:
				r.log.Warn("the register could not be brought up to date", "event", "register.failed", "err", err)
			default:
				r.log.Info("the register is up to date again", "event", "register.recovered")
			}
		}
		s.Error = text
	})
}
