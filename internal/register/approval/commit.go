package approval

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
)

// A commit is what a commit object says, as far as a signature bears on it.
type commit struct {
	parents   []gitsync.Hash
	at        time.Time // of the committer, who can write any time
	payload   []byte    // what a signature is over
	signature []byte    // armoured; nil: none
}

// maxSignature is the longest signature that is looked at, in bytes, armour
// included. One of RSA with 4,096 bits has 900.
const maxSignature = 16 << 10

var errMalformed = errors.New("the commit is not one that git itself makes")

// parseCommit takes a commit object apart. It is stricter than git: what could
// be read in two ways, such as a second parent line further down or a second
// signature, is refused, so that what was signed is what is in force.
func parseCommit(raw []byte) (*commit, error) {
	c := &commit{}
	head, body, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		head, body = bytes.TrimSuffix(raw, []byte("\n")), nil
	}
	lines := bytes.SplitAfter(append(bytes.Clone(head), '\n'), []byte("\n"))
	lines = lines[:len(lines)-1] // behind the last line end
	stage := 0                   // of tree, parent, author, committer, the rest
	inSignature := false
	for _, line := range lines {
		name, value, spaced := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		if name == "" { // goes on from the line before
			if stage < 4 {
				return nil, errMalformed
			}
			if inSignature {
				c.signature = append(c.signature, line[1:]...)
			} else {
				c.payload = append(c.payload, line...)
			}
			continue
		}
		inSignature = false
		switch name {
		case "tree":
			if _, err := gitsync.ParseHash(value); err != nil || stage != 0 {
				return nil, errMalformed
			}
			stage = 1
		case "parent":
			h, err := gitsync.ParseHash(value)
			if err != nil || stage != 1 {
				return nil, errMalformed
			}
			c.parents = append(c.parents, h)
		case "author":
			if stage != 1 {
				return nil, errMalformed
			}
			stage = 3
		case "committer":
			at, err := timeOf(value)
			if err != nil || stage != 3 {
				return nil, errMalformed
			}
			c.at, stage = at, 4
		case "gpgsig":
			if stage != 4 || c.signature != nil || !spaced {
				return nil, errMalformed
			}
			c.signature, inSignature = []byte(value+"\n"), true
			continue
		case "gpgsig-sha256":
			return nil, errMalformed
		default:
			if stage != 4 {
				return nil, errMalformed
			}
		}
		c.payload = append(c.payload, line...)
	}
	if stage != 4 {
		return nil, errMalformed
	}
	if ok {
		c.payload = append(append(c.payload, '\n'), body...)
	}
	return c, nil
}

// timeOf reads the time of "Name <address> SECONDS ZONE".
func timeOf(person string) (time.Time, error) {
	seconds, _, _ := strings.Cut(strings.TrimLeft(person[strings.LastIndex(person, ">")+1:], " "), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return time.Time{}, fmt.Errorf("%w: no time", errMalformed)
	}
	return time.Unix(n, 0), nil
}
