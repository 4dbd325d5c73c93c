package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/schema"
)

// Bounds of a configuration's syntax tree.
const (
	maxNodes    = 10_000
	maxDepth    = 8
	maxProblems = 100
)

// A document is one configuration file on its way to a typed value. It walks
// the syntax tree and the definition side by side:
//
//  1. the tree is data, and nothing else (gate);
//  2. each key is known, each value fits its field, nothing required is missing;
//  3. what fits, with the defaults of what is absent, is decoded into a struct.
//
// A value that does not fit is reported and its default put in place, so that
// the rest can still be checked.
type document struct {
	file     string
	ctx      *cue.Context
	at       map[string]token.Position // where the value at a path stands: "listen.relay[0]"
	bad      map[string]bool           // elements that were reported already
	docs     map[string]string         // the definition's comment on a path without indices
	problems []registration.Problem
	nodes    int
	broken   bool // there is nothing to check any further
}

func newDocument(file string) *document {
	return &document{
		file: file,
		ctx:  cuecontext.New(),
		at:   map[string]token.Position{},
		bad:  map[string]bool{},
		docs: map[string]string{},
	}
}

// read parses data, checks it against a definition of the named file of the
// schema, and decodes what is good into out, a pointer to a struct of plain
// JSON types.
func (d *document) read(data []byte, definition, schemaFile string, out any) {
	file, err := parser.ParseFile(d.file, data, parser.ParseComments)
	if err != nil {
		d.syntax(err)
		return
	}
	root := &ast.StructLit{}
	for _, decl := range file.Decls {
		if _, ok := decl.(*ast.Package); !ok {
			root.Elts = append(root.Elts, decl)
		}
	}
	if d.gate(root, 0); d.broken {
		return
	}
	text, err := fs.ReadFile(schema.Files(), schemaFile)
	if err != nil {
		d.internal(err)
		return
	}
	def := d.ctx.CompileBytes(text, cue.Filename("schema/"+schemaFile)).LookupPath(cue.ParsePath(definition))
	if err := def.Err(); err != nil {
		d.internal(err)
		return
	}
	tree, err := json.Marshal(d.structure("", def, root))
	if err == nil {
		err = json.Unmarshal(tree, out)
	}
	if err != nil {
		d.internal(err)
	}
}

// syntax reports what the parser says, each line once: one slip makes it
// stumble more than once.
func (d *document) syntax(err error) {
	d.broken = true
	last := -1
	for _, e := range errors.Errors(err) {
		pos := e.Position().Position()
		if pos.Line == last {
			continue
		}
		last = pos.Line
		format, args := e.Msg()
		d.add(pos, registration.RuleSyntax, fmt.Sprintf(format, args...),
			"a configuration is CUE data; see the comments of #Relay in schema/relay.cue for every field")
	}
}

func (d *document) internal(err error) {
	d.broken = true
	d.add(token.Position{}, registration.RuleSchema, "the built-in schema does not work: "+err.Error(),
		"this is a fault of the program; report it with the configuration file")
}

// gate holds a tree to plain data, since evaluating CUE cannot be cancelled,
// and marks the document as broken where it is more.
func (d *document) gate(n ast.Node, depth int) {
	if d.nodes++; d.nodes > maxNodes || depth > maxDepth {
		if !d.broken {
			d.notData(n, "the configuration is too large or too deeply nested", "a configuration is a page of text; is this the right file?")
		}
		return
	}
	const hint = "write the value out; a configuration has no imports, references, expressions or attributes"
	switch n := n.(type) {
	case *ast.StructLit:
		for _, elt := range n.Elts {
			switch elt := elt.(type) {
			case *ast.CommentGroup:
			case *ast.Field:
				_, plain := label(elt)
				switch {
				case len(elt.Attrs) > 0:
					d.notData(elt.Attrs[0], "an attribute", hint)
				case !plain || elt.Alias != nil || elt.Constraint != token.ILLEGAL:
					d.notData(elt, "a key that is no plain name", hint)
				default:
					d.gate(elt.Value, depth+1)
				}
			default:
				d.notData(elt, describe(elt), hint)
			}
		}
	case *ast.ListLit:
		for _, elt := range n.Elts {
			d.gate(elt, depth+1)
		}
	case *ast.BasicLit:
	case *ast.UnaryExpr:
		if _, number := n.X.(*ast.BasicLit); !number || n.Op != token.SUB && n.Op != token.ADD {
			d.notData(n, "an expression", hint)
		}
	default:
		d.notData(n, describe(n), hint)
	}
}

func (d *document) notData(n ast.Node, what, hint string) {
	d.broken = true
	pos := token.Position{}
	if p := n.Pos(); p.IsValid() {
		pos = p.Position()
	}
	d.add(pos, registration.RuleNotData, what+" is not data", hint)
}

// describe names a kind of node for people.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.ImportDecl:
		return "an import"
	case *ast.Attribute:
		return "an attribute"
	case *ast.Ident, *ast.SelectorExpr, *ast.IndexExpr:
		return "a reference"
	case *ast.Interpolation:
		return "an interpolation"
	case *ast.Comprehension:
		return "a comprehension"
	case *ast.BottomLit, *ast.BadExpr, *ast.BadDecl:
		return "an error value"
	}
	return "an expression"
}

// label is a field's name, if it is an ordinary one.
func label(f *ast.Field) (string, bool) {
	switch l := f.Label.(type) {
	case *ast.Ident:
		return l.Name, !strings.HasPrefix(l.Name, "_") && !strings.HasPrefix(l.Name, "#")
	case *ast.BasicLit:
		name, err := literal.Unquote(l.Value)
		return name, err == nil && l.Kind == token.STRING
	}
	return "", false
}

// structure checks the fields of a struct and returns it with defaults.
func (d *document) structure(path string, def cue.Value, lit *ast.StructLit) map[string]any {
	given := d.fields(path, lit)
	out := map[string]any{}
	var known []string
	for iter, _ := def.Fields(cue.All()); iter != nil && iter.Next(); {
		name := iter.Selector().Unquoted()
		known = append(known, name)
		sub, field := join(path, name), iter.Value()
		d.docs[sub] = comment(field)
		exprs := given[name]
		delete(given, name)
		switch {
		case len(exprs) > 0:
			d.at[sub] = exprs[0].Pos().Position()
			if v, ok := d.value(sub, field, exprs); ok {
				out[name] = v
				continue
			}
		case iter.FieldType().ConstraintType() == cue.RequiredConstraint:
			d.add(d.position(path), registration.RuleMissingField, sub+" is missing", d.docs[sub])
		}
		if iter.FieldType().ConstraintType() == 0 {
			if v, ok := d.fallback(sub, field); ok {
				out[name] = v
			}
		}
	}
	for name, exprs := range given {
		d.unknown(path, name, exprs[0], known)
	}
	return out
}

// fields gathers the values given to each key; a key can be opened more than
// once, as in "listen: http: …" and "listen: socket: …".
func (d *document) fields(path string, lit *ast.StructLit) map[string][]ast.Expr {
	given := map[string][]ast.Expr{}
	for _, elt := range lit.Elts {
		f, ok := elt.(*ast.Field)
		if !ok {
			continue
		}
		name, _ := label(f)
		d.at[join(path, name)+":"] = f.Pos().Position()
		given[name] = append(given[name], f.Value)
	}
	return given
}

// fallback is the default of an absent field.
func (d *document) fallback(path string, def cue.Value) (any, bool) {
	if def.IncompleteKind() == cue.StructKind {
		return d.structure(path, def, &ast.StructLit{}), true
	}
	var v any
	value, _ := def.Default()
	if value.Validate(cue.Concrete(true)) != nil || value.Decode(&v) != nil {
		return nil, false
	}
	return v, true
}

// value checks what is given to one field.
func (d *document) value(path string, def cue.Value, exprs []ast.Expr) (any, bool) {
	if def.IncompleteKind() == cue.StructKind {
		merged := &ast.StructLit{}
		for _, expr := range exprs {
			lit, ok := expr.(*ast.StructLit)
			if !ok {
				d.misfit(path, def, expr)
				return nil, false
			}
			merged.Elts = append(merged.Elts, lit.Elts...)
		}
		return d.structure(path, def, merged), true
	}
	if len(exprs) > 1 {
		d.add(exprs[1].Pos().Position(), registration.RuleSchema, path+" is given twice", "keep one of them")
	}
	if list, ok := exprs[0].(*ast.ListLit); ok && def.IncompleteKind() == cue.ListKind {
		return d.list(path, def, list)
	}
	return d.leaf(path, def, exprs[0])
}

func (d *document) list(path string, def cue.Value, lit *ast.ListLit) (any, bool) {
	_, arms := def.Expr() // the default, if any, and the open list
	elem := arms[len(arms)-1].LookupPath(cue.MakePath(cue.AnyIndex))
	out := make([]any, 0, len(lit.Elts))
	for i, expr := range lit.Elts {
		sub := path + "[" + strconv.Itoa(i) + "]"
		d.at[sub] = expr.Pos().Position()
		v, ok := d.leaf(sub, elem, expr) // nil where it does not fit: its place is kept, for the others' sake
		d.bad[sub] = !ok
		out = append(out, v)
	}
	return out, true
}

func (d *document) leaf(path string, def cue.Value, expr ast.Expr) (any, bool) {
	var v any
	got := def.Unify(d.ctx.BuildExpr(expr))
	if got.Validate(cue.Concrete(true)) != nil || got.Decode(&v) != nil {
		d.misfit(path, def, expr)
		return nil, false
	}
	return v, true
}

// misfit says in plain words why a value does not fit. CUE's own message has a
// line for each arm of a disjunction, most of them about the default.
func (d *document) misfit(path string, def cue.Value, expr ast.Expr) {
	pos := expr.Pos().Position()
	want := def.IncompleteKind()
	got := d.ctx.BuildExpr(expr)
	if kind := got.IncompleteKind(); kind&want == 0 {
		d.add(pos, registration.RuleSchema, fmt.Sprintf("%s wants %s, not %s", path, words(want), words(kind)), d.hint(path))
		return
	}
	op, arms := def.Expr()
	if op == cue.OrOp && arms[0].IsConcrete() {
		values := make([]string, len(arms))
		for i, arm := range arms {
			values[i] = fmt.Sprint(arm)
		}
		d.add(pos, registration.RuleSchema, fmt.Sprintf("%s is %v; it must be %s", path, got, strings.Join(values, " or ")), d.hint(path))
		return
	}
	var bounds []string
	for part := range strings.SplitSeq(fmt.Sprint(arms[len(arms)-1]), " & ") {
		switch part = strings.Trim(part, "()"); part {
		case "int", "uint", "number":
		default:
			bounds = append(bounds, part)
		}
	}
	d.add(pos, registration.RuleSchema, fmt.Sprintf("%s is %v; it must be %s", path, got, strings.Join(bounds, " and ")), d.hint(path))
}

func words(k cue.Kind) string {
	switch {
	case k == cue.StructKind:
		return "a struct { … }"
	case k == cue.ListKind:
		return "a list [ … ]"
	case k == cue.StringKind:
		return "a string in quotes"
	case k == cue.BoolKind:
		return "true or false"
	case k == cue.IntKind:
		return "a whole number"
	case k&cue.NumberKind == k:
		return "a number"
	case k == cue.NullKind:
		return "null"
	}
	return k.String()
}

func (d *document) unknown(path, name string, expr ast.Expr, known []string) {
	full := join(path, name)
	pos, ok := d.at[full+":"]
	if !ok {
		pos = expr.Pos().Position()
	}
	hint := "the fields here are " + strings.Join(known, ", ")
	if near := nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	d.add(pos, registration.RuleUnknownField, "unknown field "+full, hint)
}

// nearest is the known name at the least edit distance, if it is near enough
// to be a slip.
func nearest(name string, known []string) string {
	best, at := "", max(2, len(name)/3)+1
	for _, k := range known {
		if n := distance(strings.ToLower(name), strings.ToLower(k)); n < at {
			best, at = k, n
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes; long names are not compared.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// comment is the definition's comment on a field, as one line.
func comment(v cue.Value) string {
	var parts []string
	for _, group := range v.Doc() {
		parts = append(parts, strings.Fields(group.Text())...)
	}
	return strings.Join(parts, " ")
}

// hint is the comment on a path, which may end in an index.
func (d *document) hint(path string) string {
	path, _, _ = strings.Cut(path, "[")
	return cmp.Or(d.docs[path], "see schema/relay.cue")
}

// position is where the value at path stands; where it is absent, the nearest
// enclosing one that is there.
func (d *document) position(path string) token.Position {
	for {
		if pos, ok := d.at[path]; ok {
			return pos
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return token.Position{Line: 1, Column: 1}
		}
		path = path[:i]
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// add records a problem; beyond maxProblems they are dropped.
func (d *document) add(pos token.Position, rule registration.Rule, message, hint string) {
	if len(d.problems) >= maxProblems {
		return
	}
	d.problems = append(d.problems, registration.Problem{
		File: d.file, Line: pos.Line, Column: pos.Column,
		Rule: rule, Severity: registration.Error, Message: message, Hint: hint,
	})
}

func (d *document) sorted(s registration.Severity) []registration.Problem {
	var out []registration.Problem
	for _, p := range d.problems {
		if p.Severity == s {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b registration.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Message, b.Message))
	})
	return out
}

// err is all errors so far, or nil.
func (d *document) err() error {
	if list := d.sorted(registration.Error); len(list) > 0 {
		return &Error{list}
	}
	return nil
}

func (d *document) warnings() []registration.Problem { return d.sorted(registration.Warning) }
