package registration

import (
	"bytes"
	"fmt"

	"cuelang.org/go/cue/scanner"
	"cuelang.org/go/cue/token"
)

// CUE's parser and evaluator have no bounds of their own, and neither can be
// stopped: the parser calls itself for each link of a chain (a: a: a: …, 1&1&1…)
// until the stack is full, which ends the program, and the evaluator takes time
// by the square of the entries of a list. What is here stands before each.
const (
	maxChain   = 20_000 // words without a comma between them
	maxNesting = 10_000 // brackets inside one another
	maxWide    = 150    // entries of a list, or fields in a pair of braces, that the evaluator gets to see; the schema allows 100
)

// bounded reports whether the parser can read a text without harm. It looks at
// words only: what they mean is the parser's business.
func bounded(data []byte, l limits, r *report) bool {
	large := len(data) > MaxFile // a smaller one cannot fill the stack, whatever it holds
	var s scanner.Scanner
	s.Init(token.NewFile("", -1, len(data)), data, nil, scanner.ScanComments)
	// The lengths of the chains that are open, one for each bracket around this
	// place: what stands in brackets is one word of the chain outside.
	chains := []int{0}
	for entries := 0; ; {
		if large && bytes.HasPrefix(bytes.TrimLeft(data[s.Offset():], " \t\n"), []byte("@")) {
			r.add(posAt(data, s.Offset()), RuleNotData, "an attribute stands here", "delete it: "+plainHint)
			return false // the scanner calls itself for each bracket of an attribute
		}
		pos, tok, _ := s.Scan()
		top := len(chains) - 1
		switch tok {
		case token.EOF:
			return true
		case token.COMMENT:
		case token.COMMA:
			chains[top] = 0
			entries++
		case token.LBRACE, token.LBRACK, token.LPAREN:
			chains = append(chains, 0)
		case token.RBRACE, token.RBRACK, token.RPAREN:
			if top > 0 {
				chains = chains[:top]
				top--
			}
			chains[top]++
		case token.INTERPOLATION:
			if large { // where the text goes on, only the parser knows
				r.add(posOf(pos), RuleNotData, `a text with \( ) in it stands here`, "write the text out")
				return false
			}
			chains[top]++
		default:
			chains[top]++
		}
		switch {
		case entries > 2*l.nodes: // the gate tells of fewer, more precisely
			r.add(posOf(pos), RuleTooLarge, "the file holds too many values", r.shrink())
			return false
		case len(chains) > maxNesting:
			r.add(posOf(pos), RuleTooLarge, fmt.Sprintf("lists and braces are nested more than %d deep", maxDepth),
				"take the needless brackets and braces away")
			return false
		case chains[len(chains)-1] > maxChain:
			r.add(posOf(pos), RuleTooLarge, fmt.Sprintf("more than %d words stand here without a comma", maxChain), plainHint)
			return false
		}
	}
}

// posAt is the place of an offset.
func posAt(data []byte, offset int) Pos {
	rest := data[offset:]
	offset += len(rest) - len(bytes.TrimLeft(rest, " \t\n"))
	before := data[:offset]
	return Pos{int32(bytes.Count(before, []byte("\n")) + 1), int32(offset - bytes.LastIndexByte(before, '\n'))}
}

// tooWide finds the first list or record below n with more entries than the
// evaluator may see; nil if there is none.
func (n *node) tooWide() *node {
	if len(n.fields) > maxWide || len(n.elems) > maxWide {
		return n
	}
	for f := range n.each() {
		if wide := f.value.tooWide(); wide != nil {
			return wide
		}
	}
	for _, e := range n.elems {
		if wide := e.tooWide(); wide != nil {
			return wide
		}
	}
	return nil
}
