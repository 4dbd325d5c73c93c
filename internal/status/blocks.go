package status

import (
	"fmt"
	"strings"
	"time"
)

// Where a block comes from: the values of Blocked.Source.
const (
	ByCommand  = "command"  // gatepost block, here
	ByFile     = "file"     // a line of this relay's local file
	ByRegister = "register" // a file of the register
)

// A Blocked is one block, wherever it comes from.
type Blocked struct {
	Prefix string    `json:"prefix"` // "141.211.13.21" or "141.211.13.0/24"
	Reason string    `json:"reason"`
	Source string    `json:"source"`           // ByCommand, ByFile or ByRegister
	File   string    `json:"file,omitempty"`   // of the register, or the local file; "": by command
	Line   int       `json:"line,omitempty"`   // of the local file
	Since  time.Time `json:"since,omitzero"`   // in the future: of the register, and not in force yet
	Until  time.Time `json:"until,omitzero"`   // zero: until it is taken back
	Agreed string    `json:"agreed,omitempty"` // a file of the register that blocks as much for as long, so that this one is superfluous
}

// A BlockAdded is what a block by command has led to.
type BlockAdded struct {
	Blocked
	Before       *Blocked `json:"before,omitempty"`       // the block of the same prefix that it replaces
	Registered   int      `json:"registered"`             // registered addresses in it
	Registration string   `json:"registration,omitempty"` // the file of the one that is registered, if it is one
	Held         int      `json:"held"`                   // messages of it in the queue
	HeldMore     bool     `json:"heldMore,omitempty"`     // and perhaps more: not all of the queue was looked at
	Unsaved      string   `json:"unsaved,omitempty"`      // why it is in force and not on the disk
}

// A BlockEnded is what taking a block by command back has led to.
type BlockEnded struct {
	Blocked
	Still      []Blocked `json:"still"`                // blocks in force over the whole of the prefix still
	Queued     int       `json:"queued"`               // messages of it in the queue
	QueuedMore bool      `json:"queuedMore,omitempty"` // and perhaps more: not all of the queue was looked at
}

// Blocks are how the break-glass blocks of a relay stand.
type Blocks struct {
	Commands int          `json:"commands"`          // by command, in force
	Unsaved  string       `json:"unsaved,omitempty"` // why these are not on the disk
	Damaged  string       `json:"damaged,omitempty"` // the file that could not be read whole at the start
	Local    *LocalBlocks `json:"local,omitempty"`   // nil: no local file is configured
}

// A LocalBlocks is how a relay's local file of blocks stands.
type LocalBlocks struct {
	File     string    `json:"file"`
	Blocks   int       `json:"blocks"`
	ReadAt   time.Time `json:"readAt,omitzero"` // the content in force; zero: none was read
	Error    string    `json:"error,omitempty"` // why the newest content is not in force
	Bad      []BadLine `json:"bad,omitempty"`   // of the content in force, at most 20
	BadCount int       `json:"badCount"`        // all of them
}

// A BadLine is a line of the local file that makes no sense and blocks nothing.
type BadLine struct {
	Line int    `json:"line"`
	Why  string `json:"why"`
}

// Place says for a person whose the block is.
func (b Blocked) Place() string {
	switch b.Source {
	case ByFile:
		return fmt.Sprintf("%s:%d", visible(b.File), b.Line)
	case ByRegister:
		return visible(b.File)
	}
	if strings.HasPrefix(b.Reason, ByBrake) {
		return "by the brake, here only"
	}
	return "by command, here only"
}

// End says for a person when it ends.
func (b Blocked) End() string { return end(b.Until) }

func end(until time.Time) string {
	if until.IsZero() {
		return "until it is taken back"
	}
	return "until " + stamp(until)
}

// BlocksText lists blocks as they come, two lines each. Text of strangers in it
// cannot steer a terminal.
func BlocksText(list []Blocked, now time.Time) string {
	var b strings.Builder
	for _, k := range list {
		since := ""
		switch {
		case k.Since.After(now):
			since = "from " + stamp(k.Since) + " on, "
		case !k.Since.IsZero():
			since = "since " + stamp(k.Since) + ", "
		}
		fmt.Fprintf(&b, "%-20s %s%s; %s\n", visible(k.Prefix), since, k.End(), k.Place())
		fmt.Fprintf(&b, "%-20s %s\n", "", visible(k.Reason))
		if k.Agreed != "" {
			fmt.Fprintf(&b, "%-20s agreed by %s: gatepost unblock %s changes nothing for it\n", "", visible(k.Agreed), visible(k.Prefix))
		}
	}
	return b.String()
}

// text is the lines of a report on blocks.
func (r Report) blocksText(line func(string)) {
	label := "blocks"
	say := func(format string, args ...any) {
		line(fmt.Sprintf("%-9s "+format, append([]any{label}, args...)...))
		label = ""
	}
	for i, d := range r.Drift {
		if i == shown {
			say("and %d more: gatepost block lists all", len(r.Drift)-shown)
			break
		}
		where := "here only"
		if d.Agreed != "" {
			where = "here and in " + visible(d.Agreed)
		}
		say("%s, %s, %s", visible(d.Prefix), where, end(d.Until))
	}
	if f := r.Blocks.Local; f != nil {
		read := "not read yet"
		if !f.ReadAt.IsZero() {
			read = "read " + span(r.At.Sub(f.ReadAt)) + " ago"
		}
		say("%s from %s, %s", thousands(int64(f.Blocks)), visible(f.File), read)
	}
}

// judgeBlocks says what is wrong with the break-glass blocks.
func judgeBlocks(r *Report, wrong, look func(do, format string, args ...any)) {
	if why := r.Blocks.Unsaved; why != "" {
		wrong("make room on the disk of the state folder, or mend it; it is tried again each minute",
			"blocks by command are in force and not on the disk, so a restart would lose them: %s", why)
	}
	if file := r.Blocks.Damaged; file != "" {
		wrong("block again what gatepost block does not list any more; then remove "+file,
			"blocks by command may have been lost, as their file was damaged; what it was is in %s", file)
	}
	if f := r.Blocks.Local; f != nil {
		if f.Error != "" {
			stays := "and what was read of it before stays in force"
			if f.ReadAt.IsZero() {
				stays = "and nothing of it is in force"
			}
			look("mend the file; it is read again when it changes", "%s cannot be used, %s: %s", f.File, stays, f.Error)
		}
		for _, bad := range f.Bad[:min(shown, len(f.Bad))] {
			look("mend the line; the file is read again when it changes", "line %d of %s blocks nothing: %s", bad.Line, f.File, bad.Why)
		}
		if more := f.BadCount - shown; more > 0 {
			look("journalctl -u gatepostd -g block.file_line", "%s nothing either", count(more, "more line of "+f.File+" blocks", "more lines of "+f.File+" block"))
		}
	}
	judgeDrift(r, look)
}

// judgeDrift tells of the blocks by command: those that the register does not
// have, and those that it has by now.
func judgeDrift(r *Report, look func(do, format string, args ...any)) {
	var here, agreed []Drift
	for _, d := range r.Drift {
		if strings.HasPrefix(d.Reason, ByBrake) {
			continue // told with the registration that is braked
		}
		if d.Agreed == "" {
			here = append(here, d)
		} else {
			agreed = append(agreed, d)
		}
	}
	if n := len(here); n > shown {
		look("add the blocks to the register, or take them back with gatepost unblock; gatepost block lists them", "%s here, and not in the register", count(n, "block is", "blocks are"))
	}
	for _, d := range here[:min(shown, len(here))] {
		look(fmt.Sprintf("add the block to the register, or: gatepost unblock %s", d.Prefix),
			"%s is blocked here, and not in the register: %s", d.Prefix, d.Reason)
	}
	if n := len(agreed); n > shown {
		look("take them back here, which changes nothing; gatepost block lists them", "%s here and, by now, in the register", count(n, "block is", "blocks are"))
		return
	}
	for _, d := range agreed {
		look(fmt.Sprintf("gatepost unblock %s, which changes nothing any more", d.Prefix),
			"%s is blocked here and, by now, in the register as well: %s", d.Prefix, d.Agreed)
	}
}
