package forge

import (
	"context"
	"strings"
	"time"
	"unicode"
)

// A RemarkKind is what somebody who says something says with it.
type RemarkKind string

// The kinds of remarks.
const (
	Said      RemarkKind = "comment"
	Approved  RemarkKind = "approval"
	Wanted    RemarkKind = "changes"   // asks for changes before it may be merged
	Dismissed RemarkKind = "dismissed" // an approval, or a wish for changes, that was taken back
)

// A Remark is one thing that somebody said on a request. All of it is the text of
// strangers, but for the kind and the numbers.
type Remark struct {
	ID     string // one for ever, at this forge
	Author Account
	At     time.Time // zero where what is there cannot be a time
	Body   string    // Markdown; valid UTF-8 without control characters but line ends and tabs; cut at 60,000 bytes
	Kind   RemarkKind
	Commit string // that a review, or a remark on a line, is about; "" for others
	Mark   string // of SetComment, where it is one's own; "" for others
}

// A Speaker reads and adds to what is said on requests.
type Speaker interface {
	// Remarks is all that was said on a request, oldest first. Where there is
	// more than is read of one, it is what was read, and ErrTooMuch.
	Remarks(ctx context.Context, number int) ([]Remark, error)
	// Comment says something on a request. In a plain git repository it is by
	// that person; GitHub knows only the account of the token, so whoever calls
	// names the person in the text.
	Comment(ctx context.Context, number int, by Person, body string) error
	// SetComment keeps one comment with a mark (letters, digits and hyphens):
	// written once, changed in place, gone when body is "".
	SetComment(ctx context.Context, number int, mark, body string) error
}

// A Closer ends requests without merging them.
type Closer interface {
	// Close closes a request. One that is closed already is no error; one that
	// was merged is ErrConflict.
	Close(ctx context.Context, number int) error
}

// A Follower tells what has become of requests, whatever their number.
type Follower interface {
	// Recent is the requests that are open, and those that were opened, merged or
	// closed since, newest first: a thousand at most, the newest.
	Recent(ctx context.Context, since time.Time) ([]Request, error)
	// MayWrite reports whether an account may change the repository, and so is
	// one whose word counts there.
	MayWrite(context.Context, Account) (bool, error)
	// Tip is the commit that a branch stands at.
	Tip(ctx context.Context, branch string) (string, error)
}

// A Merger merges requests where no forge does: in a plain git repository.
// Merging at GitHub stays at GitHub, whose rules say who may.
type Merger interface {
	// Merge merges the request at exactly that head, by that person, and returns
	// the commit; see (*Git).Merge.
	Merge(ctx context.Context, number int, head string, by Person, at time.Time) (string, error)
}

var (
	_ Speaker  = (*GitHub)(nil)
	_ Closer   = (*GitHub)(nil)
	_ Follower = (*GitHub)(nil)
	_ Speaker  = (*Git)(nil)
	_ Closer   = (*Git)(nil)
	_ Follower = (*Git)(nil)
	_ Merger   = (*Git)(nil)
)

// sign is the line that tells a comment with a mark from others of the same
// account, at a forge that has no other place for it.
func sign(mark string) string { return signBegin + mark + signEnd }

const (
	signBegin = "<!-- gatepost:"
	signEnd   = " -->"
)

// markOf is the mark in the first line of a comment, and what follows it.
func markOf(body string) (mark, rest string) {
	first, rest, _ := strings.Cut(body, "\n")
	mark, begins := strings.CutPrefix(strings.TrimRight(first, "\r"), signBegin)
	mark, ends := strings.CutSuffix(mark, signEnd)
	if !begins || !ends || slug(mark) != mark {
		return "", body
	}
	return mark, rest
}

// saying makes the text of a remark fit to be held: bounded, valid, and of
// control characters only line ends and tabs.
func saying(s string) string {
	s = strings.ReplaceAll(clip(s, maxComment), "\r\n", "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return ' '
		}
		return r
	}, s))
}

// recent reports whether a request is open or had something happen to it since.
func (r Request) recent(since time.Time) bool {
	return r.State == Open || !r.OpenedAt.Before(since) || !r.MergedAt.Before(since) || !r.ClosedAt.Before(since)
}
