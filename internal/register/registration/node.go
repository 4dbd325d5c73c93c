package registration

import (
	"iter"
	"strconv"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// A nodeKind is one of the six things that data can be.
type nodeKind uint8

const (
	textNode nodeKind = iota
	numberNode
	boolNode
	nullNode
	listNode
	recordNode
)

// A node is one value of a file that has passed the data-only gate, with its
// place. Nothing of the user's syntax tree survives but these; what CUE gets to
// see is built anew from them.
type node struct {
	kind   nodeKind
	at     Pos
	text   string  // the meaning of a text; the digits of a number
	truth  bool    // of a boolNode
	fields []field // of a recordNode, names unique, in order
	elems  []*node // of a listNode
}

type field struct {
	name  string
	at    Pos
	value *node
}

// get returns the value of a record's field; nil where there is none, n being
// nil or no record included.
func (n *node) get(names ...string) *node {
	for _, name := range names {
		var next *node
		for f := range n.each() {
			if f.name == name {
				next = f.value
				break
			}
		}
		if n = next; n == nil {
			return nil
		}
	}
	return n
}

// pos is where the value of a field stands; zero where there is none.
func (n *node) pos(names ...string) Pos {
	if v := n.get(names...); v != nil {
		return v.at
	}
	return Pos{}
}

// each yields the fields of a record; none of anything else.
func (n *node) each() iter.Seq[*field] {
	return func(yield func(*field) bool) {
		if n == nil || n.kind != recordNode {
			return
		}
		for i := range n.fields {
			if !yield(&n.fields[i]) {
				return
			}
		}
	}
}

// list returns the elements of a list; none of anything else.
func (n *node) list() []*node {
	if n == nil || n.kind != listNode {
		return nil
	}
	return n.elems
}

// isText reports whether n is there and a text.
func (n *node) isText() bool { return n != nil && n.kind == textNode }

// number returns the value of a plain whole number.
func (n *node) number() (int, bool) {
	if n == nil || n.kind != numberNode {
		return 0, false
	}
	v, err := strconv.Atoi(n.text)
	return v, err == nil
}

// step goes down by one element of a path of CUE: a name or an index.
func (n *node) step(name string) *node {
	if elems := n.list(); elems != nil {
		if i, err := strconv.Atoi(name); err == nil && 0 <= i && i < len(elems) {
			return elems[i]
		}
		return nil
	}
	return n.get(name)
}

// expr builds a fresh CUE expression of literals, lists and structs.
func (n *node) expr() ast.Expr {
	switch n.kind {
	case textNode:
		return ast.NewString(n.text)
	case numberNode:
		return numberExpr(n.text)
	case boolNode:
		return ast.NewBool(n.truth)
	case nullNode:
		return ast.NewNull()
	case listNode:
		elems := make([]ast.Expr, len(n.elems))
		for i, e := range n.elems {
			elems[i] = e.expr()
		}
		return ast.NewList(elems...)
	default:
		decls := make([]ast.Decl, len(n.fields))
		for i, f := range n.fields {
			decls[i] = &ast.Field{Label: ast.NewString(f.name), Value: f.value.expr()}
		}
		return &ast.StructLit{Elts: decls}
	}
}

func numberExpr(text string) ast.Expr {
	negative := false
	if text[0] == '-' {
		negative, text = true, text[1:]
	}
	kind := token.INT
	for i := range len(text) {
		if text[i] == '.' {
			kind = token.FLOAT
		}
	}
	lit := ast.NewLit(kind, text)
	if negative {
		return &ast.UnaryExpr{Op: token.SUB, X: lit}
	}
	return lit
}

// words says what n is, for a message.
func (n *node) words() string {
	switch n.kind {
	case textNode:
		return "text"
	case numberNode:
		return "the number " + n.text
	case boolNode:
		return strconv.FormatBool(n.truth)
	case nullNode:
		return "null"
	case listNode:
		return "a list"
	default:
		return "a group of fields"
	}
}
