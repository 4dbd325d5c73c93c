package registration

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxProblems bounds what is told of one file.
const maxProblems = 100

// A report gathers the problems of one file.
type report struct {
	file     string
	config   bool // the file is a daemon's configuration, none of the register
	problems []Problem
	errors   int
	told     map[*node]bool // values that a problem has been told about: one is enough
}

func (r *report) add(at Pos, rule Rule, message, hint string) {
	r.put(at, rule, Error, message, hint)
}

func (r *report) put(at Pos, rule Rule, severity Severity, message, hint string) {
	if severity == Error {
		r.errors++
	}
	r.problems = append(r.problems, Problem{
		File: r.file, Line: int(at.Line), Column: int(at.Column),
		Rule: rule, Severity: severity, Message: oneLine(message), Hint: oneLine(hint),
	})
}

// oneLine blanks out what would break a line of output or disturb a terminal.
func oneLine(s string) string {
	return strings.Map(func(char rune) rune {
		if !unicode.IsGraphic(char) {
			return ' '
		}
		return char
	}, s)
}

// blame reports a value; a second problem with it is not told.
func (r *report) blame(n *node, rule Rule, message, hint string) {
	if r.told[n] {
		return
	}
	if r.told == nil {
		r.told = map[*node]bool{}
	}
	r.told[n] = true
	r.add(n.at, rule, message, hint)
}

// sorted returns the problems in order of position.
func (r *report) sorted() []Problem {
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Rule, b.Rule))
	})
	r.problems = slices.Compact(r.problems)
	if more := len(r.problems) - maxProblems; more > 0 {
		last := r.problems[maxProblems]
		r.problems = append(r.problems[:maxProblems:maxProblems], Problem{
			File: r.file, Line: last.Line, Column: last.Column, Rule: last.Rule, Severity: Error,
			Message: fmt.Sprintf("%d more problems follow from here", more),
			Hint:    "correct those above first, then check again",
		})
	}
	return r.problems
}

// show writes a name from a file so that it cannot break a line of output.
func show(name string) string { return quote(name) }

// quote shortens and quotes a value from a file for a message.
func quote(s string) string { return strconv.Quote(clip(s, 80)) }

// clip shortens s to about n octets, on the border of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// orList writes a choice: "a", "b" or "c".
func orList(choices []string) string {
	quoted := make([]string, len(choices))
	for i, c := range choices {
		quoted[i] = quote(c)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

// nearest returns the known name that name was probably meant to be, or "".
func nearest(name string, known []string) string {
	best, least := "", 1+max(1, len(name)/3)
	for _, k := range known {
		if d := distance(strings.ToLower(clip(name, 64)), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions, changes and swaps of neighbours
// that turn a into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
