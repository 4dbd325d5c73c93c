package registration

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// What one file may hold, judged before anything is evaluated.
const (
	MaxFile          = 64 << 10  // octets of a registration or a block
	MaxCampusFile    = 8 << 20   // octets of a file under campus/
	MaxRegister      = 256 << 20 // octets of all files of a register together: the bound of the relay and of check
	MaxConfiguration = 1 << 20   // octets of a file that Definition.Decode reads

	maxNodes              = 4_000   // values and fields of a registration or a block
	maxCampusNodes        = 500_000 // values and fields of a file under campus/
	maxConfigurationNodes = 10_000  // values and fields of a configuration
	maxDepth              = 8       // of lists and structs inside one another
	maxNumber             = 20      // octets of a number
	maxNotData            = 20      // findings of rule not-data that are told
)

// limits are the bounds on one file.
type limits struct {
	octets int64
	nodes  int
}

func limitsOf(kind FileKind) limits {
	if kind == KindCampus {
		return limits{MaxCampusFile, maxCampusNodes}
	}
	return limits{MaxFile, maxNodes}
}

// A gate reads a syntax tree as data. It is the allow-list that stands between
// a pull request and the evaluator of CUE, which cannot be cancelled: what it
// does not know is refused.
//
// What a configuration may do beyond a file of the register, see
// configuration.go, is resolved here and means nothing to the evaluator.
type gate struct {
	report *report
	nodes  int // values and fields still allowed
	found  int // findings of rule not-data
	full   bool
}

// read parses a file and lets it through the gate. The node is nil where the
// file is no data; then, and only then, there is a problem, but for a field that
// a configuration has twice: it stands as it was written first.
func read(data []byte, l limits, r *report) *node {
	data, ok := plainText(data, r)
	if !ok || !bounded(data, l, r) {
		return nil
	}
	file, ok := parse(data, r, 0)
	if !ok {
		return nil
	}
	return admit(file, l, r)
}

func admit(file *ast.File, l limits, r *report) *node {
	g := &gate{report: r, nodes: l.nodes}
	n := g.record(Pos{1, 1}, file.Decls, 0, true)
	if g.found > 0 || g.full {
		return nil
	}
	return n
}

// plainText cuts a byte order mark and the line ends of Windows off, which
// moves no position, and refuses what is not visible UTF-8 text: a reviewer
// must see all that counts, in comments too.
func plainText(data []byte, r *report) ([]byte, bool) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if bytes.IndexByte(data, '\r') >= 0 {
		data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	}
	line, start := int32(1), 0
	for i := 0; i < len(data); {
		c := data[i]
		switch {
		case c == '\n':
			line, start = line+1, i+1
			i++
			continue
		case c == '\t', ' ' <= c && c < 0x7f:
			i++
			continue
		}
		at := Pos{line, int32(i-start) + 1}
		char, size := utf8.DecodeRune(data[i:])
		switch {
		case char == utf8.RuneError && size == 1:
			r.add(at, RuleSyntax, "the file is not UTF-8 text",
				"save the file again as plain text with the encoding UTF-8")
			return nil, false
		case !unicode.IsGraphic(char):
			r.add(at, RuleNotData, fmt.Sprintf("there is an invisible character here (%U)", char),
				"delete this spot and type it again; text copied from a web page or a mail often brings such characters along")
			return nil, false
		}
		i += size
	}
	return data, true
}

// parse makes a syntax tree. Of several syntax errors only the first is told:
// the others follow from it.
func parse(data []byte, r *report, mode parser.Mode) (*ast.File, bool) {
	file, err := parser.ParseFile("", data, mode)
	if err == nil {
		return file, true
	}
	at, message := Pos{1, 1}, "the file cannot be read"
	for i, e := range errors.Errors(err) {
		if p := posOf(e.Position()); i == 0 || p.Line != 0 && before(p, at) {
			format, args := e.Msg()
			at, message = p, fmt.Sprintf(format, args...)
		}
	}
	if at.Line == 0 {
		at = Pos{1, 1}
	}
	r.slip(data, at, message)
	return nil, false
}

const plainHint = "write plain values only: text in double quotes, numbers, true or false, lists in [ ] and groups of fields in { }"

// refuse reports one finding of rule not-data.
func (g *gate) refuse(at Pos, message, hint string) *node {
	if g.found++; g.found <= maxNotData {
		g.report.add(at, RuleNotData, message, hint)
	}
	return nil
}

// take counts one value or field, and the depth. It is false when the file
// holds too much, which is told once.
func (g *gate) take(at Pos, depth int) bool {
	switch {
	case g.full:
		return false
	case depth > maxDepth:
		g.full = true
		g.report.add(at, RuleTooLarge, fmt.Sprintf("lists and braces are nested more than %d deep", maxDepth),
			"take the needless brackets and braces away")
		return false
	case g.nodes == 0:
		g.full = true
		g.report.add(at, RuleTooLarge, "the file holds too many values", g.report.shrink())
		return false
	}
	g.nodes--
	return true
}

// record reads the declarations of a struct, or of the file itself.
func (g *gate) record(at Pos, decls []ast.Decl, depth int, top bool) *node {
	n := &node{kind: recordNode, at: at}
	var seen map[string]int // the number of the field
	if len(decls) > 0 {
		n.fields = make([]field, 0, len(decls))
		seen = make(map[string]int, len(decls))
	}
	for i, decl := range decls {
		switch d := decl.(type) {
		case *ast.CommentGroup:
		case *ast.Package:
			// Tolerated, since editors' tools like to put one there; it means nothing.
			if !top || !leads(decls[:i]) {
				g.refuse(posOf(d.Pos()), "a package clause stands here", "delete this line")
			}
		case *ast.Field:
			f, ok := g.field(d, depth)
			if g.full {
				return nil
			}
			if !ok {
				continue
			}
			if first, twice := seen[f.name]; twice {
				g.again(&n.fields[first], &f)
				continue
			}
			seen[f.name] = len(n.fields)
			n.fields = append(n.fields, f)
		default:
			g.decl(d, top)
		}
	}
	return n
}

// leads reports whether only comments stand before a package clause.
func leads(before []ast.Decl) bool {
	for _, d := range before {
		if _, ok := d.(*ast.CommentGroup); !ok {
			return false
		}
	}
	return true
}

// decl refuses a declaration that is no field, by its name.
func (g *gate) decl(d ast.Decl, top bool) {
	at := posOf(d.Pos())
	switch d := d.(type) {
	case *ast.ImportDecl:
		g.refuse(at, "an import stands here", "delete it: "+plainHint)
	case *ast.Attribute:
		g.refuse(at, "an attribute ("+clip(d.Text, 40)+") stands here", "delete it: "+plainHint)
	case *ast.LetClause:
		g.refuse(at, "a let clause stands here", "write each value out where it belongs")
	case *ast.Comprehension:
		g.refuse(at, "a comprehension (for, if) stands here", "write each entry out")
	case *ast.Ellipsis:
		g.refuse(at, "an ellipsis (...) stands here", "delete it: the file must hold all that is meant")
	case *ast.EmbedDecl:
		if _, ok := d.Expr.(*ast.StructLit); ok && top {
			g.refuse(at, "braces stand around the whole file", "delete the first { and the last }")
			return
		}
		g.refuse(at, "there is a value without a name", "write it as name: value, "+g.report.like(`expires: "2027-11-30"`))
	default:
		g.refuse(at, "this is no field", "write it as name: value, "+g.report.like(`expires: "2027-11-30"`))
	}
}

// field reads one "name: value".
func (g *gate) field(d *ast.Field, depth int) (field, bool) {
	at := posOf(d.Pos())
	if !g.take(at, depth) {
		return field{}, false
	}
	name, ok := g.label(d.Label)
	if !ok {
		return field{}, false
	}
	switch {
	case d.Constraint == token.OPTION || d.Constraint == token.NOT:
		g.refuse(at, fmt.Sprintf("%s carries a %s", show(name), d.Constraint), "delete the mark between the name and the colon")
		return field{}, false
	case d.Constraint != token.ILLEGAL || d.Alias != nil:
		g.refuse(at, show(name)+" carries an alias", plainHint)
		return field{}, false
	case len(d.Attrs) > 0:
		g.refuse(posOf(d.Attrs[0].Pos()), "an attribute ("+clip(d.Attrs[0].Text, 40)+") stands here", "delete it: "+plainHint)
		return field{}, false
	}
	value := g.value(d.Value, depth+1)
	return field{name, at, value}, value != nil
}

// label reads a field's name.
func (g *gate) label(l ast.Label) (string, bool) {
	at := posOf(l.Pos())
	switch l := l.(type) {
	case *ast.Ident:
		if strings.HasPrefix(l.Name, "_") || strings.HasPrefix(l.Name, "#") {
			g.refuse(at, clip(l.Name, 64)+" is a hidden field or a definition", "use the plain field names only")
			return "", false
		}
		return l.Name, true
	case *ast.BasicLit:
		if l.Kind == token.STRING && strings.HasPrefix(l.Value, `"`) && !strings.HasPrefix(l.Value, `"""`) {
			if name := g.text(l); name != nil {
				return name.text, true
			}
			return "", false
		}
	case *ast.ListLit:
		g.refuse(at, "a pattern stands here instead of a field's name", "write each field out by its name")
		return "", false
	}
	g.refuse(at, "this is no plain name of a field", `write a name or a text in double quotes before the colon`)
	return "", false
}

// value reads what stands after a colon or in a list.
func (g *gate) value(x ast.Expr, depth int) *node {
	at := posOf(x.Pos())
	if !g.take(at, depth) {
		return nil
	}
	switch x := x.(type) {
	case *ast.BasicLit:
		return g.literal(x)
	case *ast.UnaryExpr:
		if lit, ok := x.X.(*ast.BasicLit); ok && x.Op == token.SUB && (lit.Kind == token.INT || lit.Kind == token.FLOAT) {
			if n := g.literal(lit); n != nil {
				n.at, n.text = at, "-"+n.text
				return n
			}
			return nil
		}
	case *ast.StructLit:
		return g.record(at, x.Elts, depth, false)
	case *ast.ListLit:
		n := &node{kind: listNode, at: at, elems: make([]*node, 0, len(x.Elts))}
		for _, e := range x.Elts {
			v := g.value(e, depth+1)
			if g.full {
				return nil
			}
			n.elems = append(n.elems, v) // nil after a finding, and then n is never used
		}
		return n
	}
	return g.expression(x, at)
}

// literal reads a text, a number, true, false or null.
func (g *gate) literal(lit *ast.BasicLit) *node {
	at := posOf(lit.Pos())
	switch lit.Kind {
	case token.TRUE, token.FALSE:
		return &node{kind: boolNode, at: at, truth: lit.Kind == token.TRUE}
	case token.NULL:
		return &node{kind: nullNode, at: at}
	case token.INT, token.FLOAT:
		text, hint := lit.Value, "write the number in digits only, like 1000"
		if g.report.config {
			text, hint = digits(lit.Value), hint+"; a multiplier may follow, as in 35Mi"
		}
		// Plain digits only: an exponent makes a short text a huge number.
		if len(text) > maxNumber || strings.Trim(text, "0123456789.") != "" || strings.HasPrefix(text, ".") || strings.HasSuffix(text, ".") {
			return g.refuse(at, clip(lit.Value, 40)+" is no plain number", hint)
		}
		return &node{kind: numberNode, at: at, text: text}
	case token.STRING:
		return g.text(lit)
	}
	return g.refuse(at, "this is no plain value", plainHint)
}

// text reads a text. Single quotes make octets in CUE, so they are refused.
func (g *gate) text(lit *ast.BasicLit) *node {
	at := posOf(lit.Pos())
	if strings.HasPrefix(strings.TrimLeft(lit.Value, "#"), "'") {
		return g.refuse(at, "single quotes stand around a text", `use double quotes (")`)
	}
	text, err := literal.Unquote(lit.Value)
	if err != nil {
		return g.refuse(at, "the text cannot be read", `write it in plain double quotes, without backslashes`)
	}
	for _, char := range text {
		if !unicode.IsGraphic(char) && char != '\n' && char != '\t' || char == utf8.RuneError {
			return g.refuse(at, fmt.Sprintf("the text holds an invisible character (%U)", char), "take it out")
		}
	}
	return &node{kind: textNode, at: at, text: text}
}

// expression refuses what would have to be evaluated, by its name.
func (g *gate) expression(x ast.Expr, at Pos) *node {
	switch x := x.(type) {
	case *ast.Ident:
		switch strings.ToLower(x.Name) {
		case "true", "yes", "on":
			return g.refuse(at, x.Name+" is not a value", "write true, in small letters and without quotes")
		case "false", "no", "off":
			return g.refuse(at, x.Name+" is not a value", "write false, in small letters and without quotes")
		}
		return g.refuse(at, clip(x.Name, 64)+" stands here without quotes, as a reference to something else",
			fmt.Sprintf("put text in double quotes: %s", quote(x.Name)))
	case *ast.Interpolation:
		return g.refuse(at, `a text with \( ) in it stands here`, "write the text out")
	case *ast.BinaryExpr:
		if date := bareDate(x); date != "" {
			return g.refuse(at, "a date stands here without quotes", "write "+quote(date))
		}
		return g.refuse(at, "an expression ("+x.Op.String()+") stands here", "write the one value that is meant")
	case *ast.UnaryExpr:
		return g.refuse(at, "an expression ("+x.Op.String()+") stands here", "write the one value that is meant")
	case *ast.CallExpr:
		return g.refuse(at, "a function call stands here", "write the value out")
	case *ast.SelectorExpr, *ast.IndexExpr, *ast.SliceExpr:
		return g.refuse(at, "a reference to something else stands here", "write the value out; text stands in double quotes")
	case *ast.Comprehension:
		return g.refuse(at, "a comprehension (for, if) stands here", "write each entry out")
	case *ast.Ellipsis:
		return g.refuse(at, "an ellipsis (...) stands here", "write each entry out")
	}
	return g.refuse(at, "this is no plain value", plainHint)
}

func posOf(p token.Pos) Pos {
	at := p.Position()
	return Pos{int32(at.Line), int32(at.Column)}
}

func before(a, b Pos) bool {
	return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
}
