// Package forge knows pull requests: opening one, reading what one changes and
// what is said on it, saying on one what was found, closing one, and, where no
// forge has a button for it, merging one. There are two kinds of home for them. On
// GitHub (GitHub) a request is a pull request. In a plain git repository (Git)
// a branch request/NUMBER-NAME is a request, and merging it approves it.
//
// It owns the forge's ways: numbers, pages, limits, tokens, annotations, and
// which settings keep a request to them (Settings, Audit). It judges no request:
// what is wrong with one comes from package policy, who may approve one from
// whoever asks.
//
// Invariants:
//   - What a request changes is told in full or not at all: lists are followed
//     to their end and compared with the forge's own count, a rename is both a
//     removal and an addition, and a head that moves meanwhile is an error.
//   - Every answer, every list and every wait is bounded, and ends with its
//     context. Nothing that may have been done already is done twice, but for
//     what the forge's limits have certainly refused.
//   - A token goes to the configured host alone, over TLS unless that host is
//     loopback, and is in no error. Tokens of an App are kept in memory only.
//   - No git binary is run, and the work tree, index and HEAD of a checkout are
//     never touched; CreateGit makes those of a repository that is not there yet.
package forge

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.edu/gatepost/internal/register/registration"
)

// Limits on one request, whatever the forge. What is over them is refused, not
// cut.
const (
	maxFiles   = 300      // files that a request changes
	maxContent = 32 << 20 // bytes of their contents together
	maxTitle   = 200      // runes
	maxBody    = 60_000   // bytes; GitHub takes 65,536 characters
	maxPath    = 1024     // bytes
	maxList    = 1000     // requests in a list
	maxRemarks = 1000     // on one request
)

// The errors that callers tell apart. Their texts are for an operator.
var (
	ErrUnreachable = errors.New("the forge cannot be reached")
	ErrRefused     = errors.New("the forge refused access (token or permissions)")
	ErrNotFound    = errors.New("the forge has no such thing, or hides it from this token")
	ErrLimited     = errors.New("the forge's rate limit is used up")
	ErrConflict    = errors.New("the forge says that this cannot be done")
	ErrIncomplete  = errors.New("the forge did not tell everything")
	ErrMoved       = errors.New("the request has a new head")
	ErrTooMuch     = errors.New("more than is read of one request")
	ErrInvalid     = errors.New("this cannot be proposed")
	ErrClock       = errors.New("the clock of this machine is wrong")
)

// An Opener opens requests.
type Opener interface {
	// Open makes a commit of the proposal, a branch for it, and the request.
	// Nothing is left behind by a proposal that is ErrInvalid. Opening the same
	// proposal again after a failure half-way goes on where that ended.
	Open(context.Context, Proposal) (Request, error)
}

// A Reader tells what requests there are and what they change.
type Reader interface {
	// Get is the request with a number, or ErrNotFound.
	Get(ctx context.Context, number int) (Request, error)
	// List is the requests in a state ("" is any), newest first.
	List(ctx context.Context, state State) ([]Request, error)
	// Files is all that the request changes against the commit on the base
	// branch that it was made from, sorted by path.
	Files(context.Context, Request) ([]File, error)
}

var (
	_ Opener = (*GitHub)(nil)
	_ Reader = (*GitHub)(nil)
	_ Opener = (*Git)(nil)
	_ Reader = (*Git)(nil)
)

// A State is how far a request has come.
type State string

// The states.
const (
	Open   State = "open"
	Merged State = "merged"
	Closed State = "closed" // without having been merged
)

// An Account is somebody at the forge. The number decides; the login is for
// display, as it can be given up and taken by somebody else. In a plain git
// repository there are no accounts, the number is 0 and the login is what the
// commit says.
type Account struct {
	ID    int64
	Login string
}

// A Request is a pull request.
type Request struct {
	Number   int
	URL      string // where a person looks at it; "" in a plain git repository
	Title    string
	Body     string
	Author   Account
	Base     string // the branch that it is to be merged into
	Branch   string // the branch that it is on
	Head     string // the commit at that branch's tip
	Fork     bool   // the branch is in another repository
	State    State
	MergedAs string // the commit with which it came into the base branch
	MergedBy Account
	Files    int // how many files it changes, as the forge counts; -1 where it was not asked
	Commits  int // how many commits it has, as the forge counts; -1 where it was not asked

	// When it was opened, merged, or closed without having been merged; zero if it
	// was not, or if nobody recorded it. In a plain git repository these are what
	// commits say. MergedBy is zero where it is not known: GitHub tells it of one
	// request (Get) and in no list, and a fast-forward records nobody.
	OpenedAt, MergedAt, ClosedAt time.Time

	// UpdatedAt is when anything happened to it, a remark included; zero where
	// nobody tells, as in a plain git repository.
	UpdatedAt time.Time
}

// A Proposal is a request to be opened.
type Proposal struct {
	Base    string // the branch to merge into
	Parent  string // the commit to build on, from that branch's history; "" is its tip
	Name    string // becomes part of the branch's name; any text
	Title   string // one line
	Body    string // Markdown
	Author  Person // of the commit; GitHub puts the token's account where it is empty
	At      time.Time
	Changes []Change
}

// A Person is how git names somebody.
type Person struct {
	Name, Email string
}

// A Change is a file to be written, or removed.
type Change struct {
	Path   string // from the repository's root, with forward slashes
	Data   []byte
	Remove bool
}

// A File is one path that a request changes. A file that was renamed is two.
type File struct {
	// Source is the file as the request leaves it, ready to be parsed: only
	// regular files of the register have Data, and only up to the parser's
	// limit; Size is right in any case.
	registration.Source
	Removed bool   // the path is gone; Source has no more than the path
	Blob    string // git's name of the content
}

// check refuses a proposal that no forge should see.
func (p *Proposal) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("forge: opening a request: %w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	switch {
	case !validBranch(p.Base):
		return invalid("%q is no branch to merge into", p.Base)
	case p.Parent != "" && !isCommit(p.Parent):
		return invalid("%q is no full commit hash", p.Parent)
	case strings.TrimSpace(p.Title) == "" || strings.ContainsFunc(p.Title, unicode.IsControl) || !utf8.ValidString(p.Title):
		return invalid("the title must be one line of text")
	case utf8.RuneCountInString(p.Title) > maxTitle:
		return invalid("the title is longer than %d characters", maxTitle)
	case len(p.Body) > maxBody || !utf8.ValidString(p.Body):
		return invalid("the description is not text, or longer than %d bytes", maxBody)
	case len(p.Changes) == 0:
		return invalid("it changes nothing")
	case len(p.Changes) > maxFiles:
		return invalid("it changes %d files; %d is the most", len(p.Changes), maxFiles)
	}
	total, seen := 0, make(map[string]bool, len(p.Changes))
	for _, c := range p.Changes {
		if !validPath(c.Path) {
			return invalid("%q is no path for a file", c.Path)
		}
		if seen[c.Path] {
			return invalid("%s is changed twice", c.Path)
		}
		seen[c.Path] = true
		if total += len(c.Data); total > maxContent {
			return invalid("more than %d bytes", maxContent)
		}
	}
	for _, c := range p.Changes {
		for i, b := range []byte(c.Path) {
			if b == '/' && seen[c.Path[:i]] {
				return invalid("%s cannot be a file and a folder", c.Path[:i])
			}
		}
	}
	return nil
}

// message is the commit's message: the title and the description.
func (p *Proposal) message() string {
	if body := strings.TrimSpace(p.Body); body != "" {
		return p.Title + "\n\n" + body + "\n"
	}
	return p.Title + "\n"
}

// validPath reports whether a path may be written: plain, relative, and
// nothing that git, or a computer that checks it out, could take for its own.
func validPath(p string) bool {
	if !fs.ValidPath(p) || p == "." || len(p) > maxPath || !utf8.ValidString(p) ||
		strings.ContainsRune(p, '\\') || strings.ContainsFunc(p, unicode.IsControl) {
		return false
	}
	for name := range strings.SplitSeq(p, "/") {
		if strings.EqualFold(name, ".git") {
			return false
		}
	}
	return true
}

// validBranch holds the name of a branch to a safe part of what git allows.
func validBranch(name string) bool {
	if name == "" || len(name) > 200 || name[0] == '-' || name[0] == '/' || strings.HasSuffix(name, "/") ||
		strings.HasSuffix(name, ".") || strings.HasSuffix(name, ".lock") ||
		strings.Contains(name, "..") || strings.Contains(name, "//") || strings.Contains(name, "/.") || name[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./+", r))
	})
}

// isCommit reports whether s is a full hash.
func isCommit(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 20 && s == strings.ToLower(s)
}

// slug makes a part of a branch's name out of any text.
func slug(name string) string {
	const longest = 40
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if b.Len() >= longest {
			break
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if s := b.String(); s != "" && !strings.HasSuffix(s, "-") {
			b.WriteByte('-')
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "change"
}

// wanted is how many bytes of a file's content are read: none of what is no
// regular file of the register.
func wanted(path string, mode registration.Mode) int64 {
	if mode != registration.Regular {
		return 0
	}
	switch registration.Kind(path) {
	case registration.KindRegistration, registration.KindBlock:
		return registration.MaxFile
	case registration.KindCampus:
		return registration.MaxCampusFile
	}
	return 0
}

// printable takes control characters and broken UTF-8 out of a text from
// outside and cuts it.
func printable(s string, most int) string {
	var b strings.Builder
	n := 0
	for _, c := range s {
		if n++; n > most {
			break
		}
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			c = ' '
		}
		b.WriteRune(c)
	}
	return strings.TrimSpace(b.String())
}
