package registration

import (
	"bytes"
	"fmt"
	"iter"
	"regexp"
	"strings"
	"unicode"

	"cuelang.org/go/cue/ast"
)

// slip reports a syntax error in words for a person who does not know CUE. at
// and message are the parser's, whose first complaint is often behind the slip
// itself: brackets are looked at first.
func (r *report) slip(data []byte, at Pos, message string) {
	line := lineAt(data, at.Line)
	if strings.ContainsAny(line, "“”„‘’«»") {
		r.add(at, RuleSyntax, "there are quotation marks here that are none to a computer",
			`type them again as plain double quotes ("): a word processor has turned them into others`)
		return
	}
	if strings.Contains(message, "expected ')'") && r.round(data, at) || r.brackets(data, at) || r.equals(data, at) {
		return
	}
	plain, hint := r.plainSyntax(line, message)
	r.add(at, RuleSyntax, plain, hint)
}

// plainSyntax words a message of the parser, and guesses what was meant.
func (r *report) plainSyntax(line, message string) (plain, hint string) {
	character, illegal := strings.CutPrefix(message, "illegal character U+")
	blank := false
	if illegal {
		var char rune
		_, err := fmt.Sscanf(character, "%X", &char)
		blank = err == nil && unicode.IsSpace(char)
	}
	switch {
	case strings.Contains(message, "not terminated"):
		return "a text begins here and does not end", `end it with a double quote (") on the same line`
	case blank:
		return "there is a character here that looks like a blank and is none",
			"delete this spot and type a blank; text copied from a web page or a mail often brings such characters along"
	case illegal:
		return "this character has no place here: " + strings.TrimSpace(clip(character, 20)),
			"text stands in double quotes; delete what is left over"
	case dateInLine.MatchString(line) && strings.Contains(message, "number"):
		return "a date stands here without quotes", "write " + quote(dateInLine.FindStringSubmatch(line)[1])
	case strings.Contains(message, "illegal") && strings.Contains(message, "number"):
		return "this is no number", "write digits alone, without commas, blanks or zeros in front: 1000, not 1,000"
	case strings.Contains(message, "missing ','"):
		return "quotation marks or a comma are missing before this",
			"put text, dates and addresses in double quotes, " + r.like(`ip: "192.0.2.21"`) + ", and a comma between two entries of one line"
	case strings.HasPrefix(strings.TrimSpace(line), "#"):
		return "a remark begins with //, not with #", "write // in place of #"
	case strings.Contains(message, "expected label or ':'"):
		return "a colon is missing before this",
			"write a name, a colon and a value, " + r.like(`department: "lsa-physics"`) + "; a remark begins with //"
	case strings.Contains(message, "EOF"):
		return "the file ends while something is still open", "close each { with } and each [ with ]"
	default:
		return clip(message, 200), `look at this line and the one above it: text, dates and addresses stand in double quotes, each { has its } and each [ its ]`
	}
}

var (
	dateInLine = regexp.MustCompile(`:\s*([0-9]{4}-[0-9]{2}-[0-9]{2})\b`)
	assignment = regexp.MustCompile(`^\s*"?\w+"?\s*(=)`)
)

// equals reports a = between a name and its value. The parser takes that for
// something else, and complains of it on the next line.
func (r *report) equals(data []byte, at Pos) bool {
	for line := max(1, at.Line-1); line <= at.Line; line++ {
		if found := assignment.FindStringSubmatchIndex(lineAt(data, line)); found != nil {
			r.add(Pos{line, int32(found[2]) + 1}, RuleSyntax, "= stands between a name and its value", "write a colon in place of =")
			return true
		}
	}
	return false
}

// bareDate is the date that x is without its quotes, read as a subtraction; or "".
func bareDate(x *ast.BinaryExpr) string {
	left, ok := x.X.(*ast.BinaryExpr)
	if !ok {
		return ""
	}
	var parts []string
	for _, x := range []ast.Expr{left.X, left.Y, x.Y} {
		lit, ok := x.(*ast.BasicLit)
		if !ok {
			return ""
		}
		parts = append(parts, lit.Value)
	}
	date := strings.Join(parts, "-")
	if !dateInLine.MatchString(": " + date) {
		return ""
	}
	return date
}

// closers are the brackets that close those that open. No value has round ones,
// but fingers do.
var closers = map[byte]byte{'{': '}', '[': ']', '(': ')'}

// A bracket is one that is open.
type bracket struct {
	char byte
	at   Pos
}

// round reports the last round bracket before the place where the parser missed
// its end.
func (r *report) round(data []byte, at Pos) bool {
	last := Pos{}
	for b := range symbols(data) {
		if b.char == '(' && before(b.at, at) {
			last = b.at
		}
	}
	if last == (Pos{}) {
		return false
	}
	r.add(last, RuleSyntax, "a round bracket stands here", "write [ and ] around a list, { and } around fields")
	return true
}

// brackets reports the first bracket that does not fit, if that is what the
// parser stumbled over at the place given.
func (r *report) brackets(data []byte, at Pos) bool {
	var open []bracket
	for b := range symbols(data) {
		if b.char == 0 { // a text without an end: what follows is guesswork
			return false
		}
		if closers[b.char] != 0 {
			open = append(open, b)
			continue
		}
		last := len(open) - 1
		if last >= 0 && closers[open[last].char] == b.char {
			open = open[:last]
			continue
		}
		if before(at, b.at) {
			return false // the parser has stumbled earlier, over something else
		}
		if last < 0 {
			r.add(b.at, RuleSyntax, fmt.Sprintf("a %c stands here, and nothing is open that it closes", b.char), "delete it")
			return true
		}
		hint := fmt.Sprintf("write %c here", closers[open[last].char])
		for _, outer := range open[:last] {
			if closers[outer.char] == b.char {
				hint = fmt.Sprintf("close it with %c before this", closers[open[last].char])
			}
		}
		r.add(b.at, RuleSyntax, fmt.Sprintf("a %c stands here, and the %c of line %d is still open", b.char, open[last].char, open[last].at.Line), hint)
		return true
	}
	if len(open) == 0 || before(at, open[len(open)-1].at) {
		return false
	}
	last := open[len(open)-1]
	r.add(at, RuleSyntax, fmt.Sprintf("the %c of line %d is still open here", last.char, last.at.Line),
		fmt.Sprintf("close it with %c where it ends", closers[last.char]))
	return true
}

// symbols are the brackets of a file outside of texts and remarks. One without
// a character stands for a text that does not end.
func symbols(data []byte) iter.Seq[bracket] {
	return func(yield func(bracket) bool) {
		at := Pos{1, 1}
		for len(data) > 0 {
			n, c := 1, data[0]
			switch {
			case bytes.HasPrefix(data, []byte("//")):
				n = lineLen(data)
			case c == '"' || c == '\'':
				if n = textLen(data); n == 0 {
					yield(bracket{at: at})
					return
				}
			case strings.IndexByte("{}[]()", c) >= 0 && !yield(bracket{c, at}):
				return
			}
			if lines := bytes.Count(data[:n], []byte("\n")); lines > 0 {
				at = Pos{at.Line + int32(lines), int32(n - bytes.LastIndexByte(data[:n], '\n'))}
			} else {
				at.Column += int32(n)
			}
			data = data[n:]
		}
	}
}

// lineLen is how long the first line is, without its end.
func lineLen(data []byte) int {
	if n := bytes.IndexByte(data, '\n'); n >= 0 {
		return n
	}
	return len(data)
}

// textLen is how long the text is that data begins with, quotes included, or 0
// if it does not end. A text in three quotes may have several lines.
func textLen(data []byte) int {
	quote := data[:1]
	if triple := bytes.Repeat(quote, 3); bytes.HasPrefix(data, triple) {
		end := bytes.Index(data[3:], triple)
		if end < 0 {
			return 0
		}
		return end + 6
	}
	line := data[:lineLen(data)]
	for i := 1; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case quote[0]:
			return i + 1
		}
	}
	return 0
}

func lineAt(data []byte, line int32) string {
	for i := int32(1); i < line; i++ {
		n := lineLen(data)
		if n == len(data) {
			return ""
		}
		data = data[n+1:]
	}
	return string(data[:lineLen(data)])
}
