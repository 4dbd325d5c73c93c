package registration

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
)

// Format writes the one canonical text of a registration, with the comment, if
// any, above it. Parsing the text gives the registration again, but for the
// positions. Every string is quoted, so that none can become anything but
// itself, and a comment cannot end before its line does. What is as the schema
// fills it in is left out.
func Format(r *Registration, comment string) []byte {
	out, _ := FormatDraft(DraftOf(r), comment)
	return out
}

// text writes a string of CUE on one line.
func text(s string) string { return literal.String.Quote(s) }

// writeComment writes each line of a comment behind two slashes, without what
// is invisible.
func writeComment(b *bytes.Buffer, comment string) {
	if comment = strings.TrimSpace(comment); comment == "" {
		return
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(comment, "\r\n", "\n"), "\n") {
		writeRemark(b, "", line)
	}
}

// writeRemark writes one line of a comment, without what is invisible.
func writeRemark(b *bytes.Buffer, indent, line string) {
	b.WriteString(strings.TrimRightFunc(indent+"// "+oneLine(line), unicode.IsSpace) + "\n")
}

// A ProblemError is why a file was not formatted.
type ProblemError struct{ Problems []Problem }

// Error names the first problem.
func (e *ProblemError) Error() string {
	if len(e.Problems) == 0 {
		return "registration: formatting: no reason given"
	}
	return "registration: formatting: " + e.Problems[0].String()
}

// maxPasses bounds how often a text is formatted until it stays as it is.
const maxPasses = 5

// FormatSource lays a file out in the canonical way and keeps its comments. It
// looks at the layout only: what a file says may be wrong, as long as it is
// data; otherwise the error is a *ProblemError. Formatting twice changes
// nothing. A text that would lose a value or a comment is not formatted.
func FormatSource(path string, data []byte) ([]byte, error) {
	r := &report{file: path}
	l := limitsOf(Kind(path))
	if int64(len(data)) > l.octets {
		tooLarge(r, l.octets)
		return nil, &ProblemError{r.sorted()}
	}
	want, file := readCommented(data, l, r)
	if want == nil {
		return nil, &ProblemError{r.sorted()}
	}
	remarks := comments(file)
	for range maxPasses {
		out, err := format.Node(file)
		if err != nil {
			return nil, fmt.Errorf("registration: formatting %s: %w", path, err)
		}
		got, again := readCommented(out, l, &report{file: path})
		if got == nil || !got.same(want) || !slices.Equal(comments(again), remarks) {
			return nil, fmt.Errorf("registration: formatting %s: %w", path, errLossy)
		}
		if bytes.Equal(out, data) {
			return out, nil
		}
		data, file = out, again
	}
	return nil, fmt.Errorf("registration: formatting %s: %w", path, errRestless)
}

var (
	errLossy    = errors.New("a value or a comment would be lost; move the comments to lines of their own")
	errRestless = errors.New("the layout does not settle; move the comments to lines of their own")
)

// readCommented reads a file as read does, and keeps the syntax tree with its
// comments.
func readCommented(data []byte, l limits, r *report) (*node, *ast.File) {
	data, ok := plainText(data, r)
	if !ok || !bounded(data, l, r) {
		return nil, nil
	}
	file, ok := parse(data, r, parser.ParseComments)
	if !ok {
		return nil, nil
	}
	return admit(file, l, r), file
}

// comments lists the words of all comments, sorted: formatting may move a
// comment past a neighbour, and must not drop one.
func comments(file *ast.File) []string {
	var words []string
	ast.Walk(file, func(n ast.Node) bool {
		if c, ok := n.(*ast.Comment); ok {
			words = append(words, strings.TrimSpace(strings.TrimPrefix(c.Text, "//")))
		}
		return true
	}, nil)
	slices.Sort(words)
	return words
}

// same reports whether two nodes mean the same.
func (n *node) same(o *node) bool {
	return n.kind == o.kind && n.text == o.text && n.truth == o.truth &&
		slices.EqualFunc(n.elems, o.elems, (*node).same) &&
		slices.EqualFunc(n.fields, o.fields, func(a, b field) bool { return a.name == b.name && a.value.same(b.value) })
}
