// Package approval judges one commit of the register's branch: did somebody who
// may approve of what it lets in do so? There are two ways to tell, and where
// both are asked for, both must hold.
//
//   - A signature (Keyring): the commit itself carries one of a key that is
//     listed outside of the register, by OpenPGP (RFC 9580) or SSH (SSHSIG). It
//     covers the content and what came before, so nothing else is looked at.
//   - A review (Reviews): the commit is what a pull request was merged as, a
//     postmaster who wrote none of it has approved of the very head that was
//     merged, and the commit brings what that head brings, and nothing else.
//
// What always holds:
//   - What cannot be found out is Unknown, never Vouched: a forge that does not
//     answer, a list that was cut, a file of keys that cannot be read.
//   - What can be read in two ways is Refused.
//   - Of the forge only this is believed: which requests there are, how they were
//     merged, and who reviewed which commit. What a commit brings is compared
//     here, by git's own names.
//   - The verdict is a function of the commit, of the keys or the team, and of
//     the time; nothing is written.
//
// It does not know what is done with a commit that nobody vouches for; package
// reconcile does.
package approval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/gitsync"
)

// A Standing is what is known of a commit's approval.
type Standing string

// The standings. The zero value is Unknown, so that what was not judged is
// approved by nobody.
const (
	Unknown Standing = ""        // it could not be judged just now
	Refused Standing = "refused" // it was judged, and nobody who may approves of it
	Vouched Standing = "vouched"
)

// String is the word used in logs.
func (s Standing) String() string {
	if s == Unknown {
		return "unknown"
	}
	return string(s)
}

// A Verdict is the judgement of one commit.
type Verdict struct {
	Standing Standing
	// Why is for an operator: who vouches, or what is missing. It holds no
	// secret, and strangers' words in it are made fit for a line.
	Why string
}

func refused(format string, args ...any) Verdict {
	return Verdict{Refused, clean(fmt.Sprintf(format, args...))}
}

func unknown(format string, args ...any) Verdict {
	return Verdict{Unknown, clean(fmt.Sprintf(format, args...))}
}

// A Judge judges commits by a Keyring, by Reviews, or by both. Its methods are
// called from one goroutine.
type Judge struct {
	git     Commits
	keys    *Keyring // nil: signatures do not matter
	reviews *Reviews // nil: reviews do not matter
}

// Commits reads commits.
type Commits interface {
	// Raw is the commit object, see gitsync.Repo.Raw.
	Raw(context.Context, gitsync.Hash) ([]byte, error)
}

// NewJudge makes a Judge. One of keys and reviews may be nil.
func NewJudge(git Commits, keys *Keyring, reviews *Reviews) (*Judge, error) {
	if git == nil || keys == nil && reviews == nil {
		return nil, errors.New("approval: a judge needs git, and keys or reviews to go by")
	}
	return &Judge{git: git, keys: keys, reviews: reviews}, nil
}

// Policy names what a commit is judged by, as it is now: a verdict holds while
// it stays the same.
func (j *Judge) Policy() string {
	var parts []string
	if j.keys != nil {
		parts = append(parts, j.keys.Policy())
	}
	if j.reviews != nil {
		parts = append(parts, j.reviews.Policy())
	}
	return strings.Join(parts, " and ")
}

// Vouch judges what a step of the branch let in. The error says that git here
// could not be read.
func (j *Judge) Vouch(ctx context.Context, s gitsync.Step) (Verdict, error) {
	raw, err := j.git.Raw(ctx, s.Commit)
	if errors.Is(err, gitsync.ErrTooLarge) {
		return refused("the commit object is too large"), nil
	}
	if err != nil {
		return Verdict{}, err
	}
	c, err := parseCommit(raw)
	if err != nil {
		return Verdict{Refused, err.Error()}, nil
	}
	if s.Jump || len(c.parents) == 0 || c.parents[0] != s.Base {
		return refused("it was not made on top of the commit that the branch stood at"), nil
	}
	var whys []string
	if j.keys != nil {
		v := j.keys.check(c)
		if v.Standing != Vouched {
			return v, nil
		}
		whys = append(whys, v.Why)
	}
	if j.reviews != nil {
		v, err := j.reviews.check(ctx, s.Commit, c.parents)
		if err != nil || v.Standing != Vouched {
			return v, err
		}
		whys = append(whys, v.Why)
	}
	return Verdict{Vouched, strings.Join(slices.Clip(whys), "; ")}, nil
}
