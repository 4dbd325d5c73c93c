// Package gitsync gets commits, trees and history out of git. It is the only
// importer of go-git beside forge, and it knows no policy: it says what is in
// a commit and how two commits are related, never what follows from that.
//
// A Mirror follows one branch of the register: a remote one through a bare
// clone of its own with full history, or a repository on the same disk, which
// is opened in place. A Workdir is a department's checkout: commits from git,
// work in progress from the disk. Both read through a Repo.
//
// What always holds:
//   - There is never a work tree of ours, and no git binary is run.
//   - Every operation ends with its context and has a timeout of its own.
//   - Whatever comes from outside is bounded: bytes of a response, files and
//     depth of a tree, size of a file, length of a walk through history.
//   - No symlink is ever followed, in a tree or on the disk.
//   - Credentials are asked for anew for each fetch, sent to the configured
//     host only, never in clear text but to loopback, and appear in no error
//     and no log line. A host that redirects to another is not followed.
//   - A damaged clone is thrown away and cloned again; it holds nothing that
//     the remote does not have.
package gitsync

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Limits on what is read out of a repository.
const (
	maxFiles   = 250_000 // entries below the paths asked for
	maxDepth   = 16      // folders above a file
	maxPath    = 1024    // bytes of a path
	maxWalk    = 500_000 // commits visited for one question
	maxHistory = 100     // revisions in one answer
)

// The errors that callers tell apart. Their texts are for an operator.
var (
	ErrUnreachable  = errors.New("the repository cannot be reached")
	ErrRefused      = errors.New("the repository's host refused access (token, permissions or name of the repository)")
	ErrRedirected   = errors.New("the repository's host redirects to another one, which is not followed")
	ErrLimited      = errors.New("the forge's rate limit is used up")
	ErrBranchGone   = errors.New("the branch does not exist at the repository")
	ErrDisk         = errors.New("the disk here cannot be read or written")
	ErrDamaged      = errors.New("the repository's data on this disk is damaged")
	ErrTooLarge     = errors.New("larger than the limit")
	ErrTooMany      = errors.New("too many files or folders too deep")
	ErrNoCommit     = errors.New("no such commit here")
	ErrNoPath       = errors.New("no such file in the history")
	ErrNoRepository = errors.New("not inside a git repository")
)

// A Hash names a commit, a tree or a blob. The zero Hash names nothing.
type Hash [20]byte

// ParseHash reads 40 hexadecimal digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != hex.EncodedLen(len(h)) {
		return Hash{}, fmt.Errorf("gitsync: %q is not a full commit hash", s)
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("gitsync: %q is not a full commit hash", s)
	}
	return h, nil
}

// String is the hash in 40 hexadecimal digits, "" for the zero Hash.
func (h Hash) String() string {
	if h.IsZero() {
		return ""
	}
	return hex.EncodeToString(h[:])
}

// IsZero reports whether h names nothing.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText writes the form of String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) (err error) {
	*h = Hash{}
	if len(text) > 0 {
		*h, err = ParseHash(string(text))
	}
	return err
}

// A Mode is what a path is.
type Mode uint8

// The modes. Only Regular and Executable have content that is read.
const (
	Regular Mode = iota
	Executable
	Symlink
	Submodule
	Other // a device, a socket, a mode that git does not know
)

// String is the word used in messages.
func (m Mode) String() string {
	switch m {
	case Regular:
		return "regular file"
	case Executable:
		return "executable file"
	case Symlink:
		return "symlink"
	case Submodule:
		return "submodule"
	}
	return "special file"
}

// An Entry is one file below the paths asked for. Folders are not listed.
type Entry struct {
	Path string // from the root of the repository, with forward slashes; always valid UTF-8
	Mode Mode
	Hash Hash  // of the blob; zero for a file on the disk that git has not looked into as it is now
	Size int64 // bytes; -1 where telling would mean unpacking (see Repo.Size)
	// Odd says why the name cannot be trusted to mean the same file everywhere:
	// not UTF-8, control characters, or equal to another name but for case.
	// "" for nearly every file.
	Odd string
	// Unusable is set when the name itself is no valid path; Path is then an
	// approximation for display and the content is not to be used.
	Unusable bool
}

// A Relation is how a new commit stands to an old one.
type Relation uint8

// The relations. The zero value is Unknown.
const (
	Unknown  Relation = iota // the old commit is not in the clone: it is not part of the branch any more
	Same                     // one and the same
	Descends                 // the new one has the old one in its history
	Rewound                  // the old one has the new one in its history
	Diverged                 // neither
)

// String is the word used in messages.
func (r Relation) String() string {
	return [...]string{"unknown", "same", "descends", "rewound", "diverged"}[r]
}

// A Commit says who made a commit, and when. Names and texts are cleaned of
// control characters and cut; they are still what a stranger wrote.
type Commit struct {
	Hash      Hash
	Author    string // "Name <address>"
	Committer string
	Time      time.Time // of the committer
	Subject   string    // the first line of the message
	Parents   []Hash
}

// A Revision is one change of a path on the branch: how it came in and who
// wrote it.
type Revision struct {
	Commit   Hash      // the commit that wrote the content
	Author   string    // its author, "Name <address>"
	Subject  string    // the first line of its message
	Time     time.Time // when the content came into the branch
	Merge    string    // hash of the merge that brought it in; "" if Commit itself is on the branch (a squash, a push)
	MergedBy string    // author of that merge: for a merge made on the web, who pressed the button
	Landed   string    // committer of the commit on the branch: of a squash made on the web the forge itself, else who put it there
	Request  int       // number of the pull request, 0 if the message on the branch names none
	Branch   string    // the merged branch, if the message names it
	Removed  bool      // the path went away with this change
}
