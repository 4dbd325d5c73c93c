package registration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/errors"
)

// explain tells why CUE has refused n. The plan: walk the data beside the
// shape, which finds each unknown and each missing field and each value that
// breaks a constraint of its own, with the user's position; then add what CUE
// says of places that the walk had nothing to say about, such as a site's rule
// over two fields.
//
// whole is what messages call n itself. The paths are those of all that does
// not fit.
func (d *Definition) explain(whole string, n *node, err error, r *report) (paths [][]string) {
	e := &explainer{Definition: d, report: r, root: n, whole: whole}
	e.walk(d.shape, n, nil)
	for _, one := range errors.Errors(err) {
		if len(r.problems) <= maxProblems {
			e.fallback(one)
		}
	}
	if len(e.paths) == 0 { // the judge said no: never let that pass without a word
		r.add(n.at, RuleSchema, whole+" does not fit the schema: "+clip(err.Error(), 200), r.compare())
		e.tell(nil)
	}
	return e.paths
}

type explainer struct {
	*Definition
	report *report
	root   *node
	whole  string
	paths  [][]string // where something has been told
}

func (e *explainer) tell(path []string) { e.paths = append(e.paths, slices.Clone(path)) }

func (e *explainer) walk(s *shape, n *node, path []string) {
	if e.report.told[n] || len(e.report.problems) > maxProblems {
		e.tell(path)
		return
	}
	if s.kind&n.cueKind() == 0 {
		e.tell(path)
		e.report.blame(n, RuleSchema, fmt.Sprintf("%s must be %s, and %s stands here", e.dotted(path), kindWords(s.kind), n.words()), s.hint(n))
		return
	}
	switch n.kind {
	case recordNode:
		e.walkRecord(s, n, path)
	case listNode:
		if s.elem != nil {
			for i, elem := range n.elems {
				e.walk(s.elem, elem, append(path, strconv.Itoa(i)))
			}
		}
		e.parts(s, n, path)
	default:
		e.parts(s, n, path)
	}
}

func (e *explainer) walkRecord(s *shape, n *node, path []string) {
	if s.fields == nil && s.pattern == nil { // judged elsewhere
		return
	}
	renamed := map[string]bool{} // required fields that are there under a mistyped name
	for f := range n.each() {
		below := append(path, f.name)
		switch known := s.fields[f.name]; {
		case known != nil:
			e.walk(known, f.value, below)
		case s.pattern != nil:
			e.walk(s.pattern, f.value, below)
		default:
			e.tell(below)
			renamed[e.unknown(s, n, f, path)] = true
		}
	}
	e.missing(s, n, path, renamed)
}

// missing reports what is required and absent, in n and in each group that n
// leaves out although it is always there.
func (e *explainer) missing(s *shape, n *node, path []string, renamed map[string]bool) {
	for _, name := range s.names {
		f, below := s.fields[name], append(path, name)
		switch {
		case renamed[name] || n.get(name) != nil || f.optional:
		case !f.required:
			e.missing(f, &node{kind: recordNode, at: n.at}, below, nil)
		default:
			e.tell(below)
			message := name + " is missing"
			if len(path) > 0 {
				message += " in " + e.dotted(path)
			}
			e.report.add(n.at, RuleMissingField, message, f.addHint(name))
		}
	}
}

// unknown reports a field that the schema does not know, and returns the name
// that was meant, if that is plain.
func (e *explainer) unknown(s *shape, n *node, f *field, path []string) string {
	message := "there is no field " + show(f.name)
	if len(path) > 0 {
		message += " in " + e.dotted(path)
	}
	free := slices.DeleteFunc(slices.Clone(s.names), func(name string) bool { return n.get(name) != nil })
	if near := nearest(f.name, free); near != "" {
		e.report.add(f.at, RuleUnknownField, message, fmt.Sprintf("did you mean %q? Then change the name", near))
		return near
	}
	hint := "delete it; known here: " + strings.Join(s.names, ", ")
	if inside := e.shape.home(f.name, ""); inside != "" {
		hint = fmt.Sprintf("move it into the braces of %s, where %q belongs", inside, f.name)
	} else if near := nearest(f.name, s.names); near != "" {
		hint = fmt.Sprintf("%q is there already: delete this one", near)
	}
	e.report.add(f.at, RuleUnknownField, message, hint)
	return ""
}

// home finds the one place below s that has a field of this name.
func (s *shape) home(name, path string) string {
	if path != "" && s.fields[name] != nil {
		return path
	}
	for _, n := range s.names {
		below := n
		if path != "" {
			below = path + "." + n
		}
		f := s.fields[n]
		if found := f.home(name, below); found != "" {
			return found
		}
		if f.elem != nil {
			if found := f.elem.home(name, below); found != "" {
				return found
			}
		}
	}
	return ""
}

// parts holds a value to each constraint by itself and tells the first that it
// breaks.
func (e *explainer) parts(s *shape, n *node, path []string) {
	if len(s.parts) == 0 {
		return
	}
	if choices, ok := s.choices(); ok && n.kind == textNode {
		if !slices.Contains(choices, n.text) {
			hint := "write one of these: " + orList(choices)
			if near := nearest(n.text, choices); near != "" {
				hint = "write " + quote(near)
			} else if slices.Contains(choices, "other") {
				hint = "choose the closest one, or \"other\""
			}
			e.tell(path)
			e.report.blame(n, RuleSchema, fmt.Sprintf("%s is %s, and must be %s", e.dotted(path), quote(n.text), orList(choices)), hint)
			return
		}
	}
	value := e.ctx.BuildExpr(n.expr())
	for _, p := range s.parts {
		if p.value.Unify(value).Validate() == nil {
			continue
		}
		e.tell(path)
		rule, what := RuleSchema, p.breaks(n)
		if len(path) > 0 && path[0] == "volume" && (p.op == cue.LessThanEqualOp || p.op == cue.LessThanOp) {
			rule = RuleVolume
		}
		hint := s.hint(n)
		if p.site {
			hint = "this is a rule of this site (schema/site.cue): " + hint
		}
		e.report.blame(n, rule, e.dotted(path)+" "+what, hint)
		return
	}
}

// breaks says in plain words what the constraint asks for that n is not.
func (p part) breaks(n *node) string {
	got := n.words()
	if n.kind == textNode {
		got = quote(n.text)
	}
	arg := func(i int) string {
		if i < len(p.args) {
			return fmt.Sprint(p.args[i])
		}
		return "?"
	}
	switch p.op {
	case cue.GreaterThanEqualOp:
		return fmt.Sprintf("must be at least %s, and %s stands here", arg(0), got)
	case cue.LessThanEqualOp:
		return fmt.Sprintf("must be at most %s, and %s stands here", arg(0), got)
	case cue.GreaterThanOp:
		return fmt.Sprintf("must be more than %s, and %s stands here", arg(0), got)
	case cue.LessThanOp:
		return fmt.Sprintf("must be less than %s, and %s stands here", arg(0), got)
	case cue.CallOp:
		switch arg(0) {
		case "strings.MinRunes":
			return fmt.Sprintf("must have at least %s characters, and has %d", arg(1), len([]rune(n.text)))
		case "strings.MaxRunes":
			return fmt.Sprintf("must have at most %s characters, and has %d", arg(1), len([]rune(n.text)))
		case "list.MinItems":
			return fmt.Sprintf("must have %s at least, and has %d", entries(arg(1)), len(n.elems))
		case "list.MaxItems":
			return fmt.Sprintf("must have %s at most, and has %d", entries(arg(1)), len(n.elems))
		}
	}
	switch {
	case n.kind == textNode && strings.TrimSpace(n.text) == "":
		return "is empty"
	case n.kind == textNode && strings.ContainsAny(n.text, "\n\t"):
		return "must be one line, without tabs"
	case p.site:
		return fmt.Sprintf("must be %s, and %s stands here", clip(fmt.Sprint(p.value), 120), got)
	}
	return "cannot be " + got
}

func entries(count string) string {
	if count == "1" {
		return "one entry"
	}
	return count + " entries"
}

// fallback tells what CUE itself has found, at the closest place that the file
// has.
func (e *explainer) fallback(err errors.Error) {
	path := err.Path()
	if len(path) > 0 && strings.HasPrefix(path[0], "#") { // the definition's own name comes first
		path = path[1:]
	}
	for i, name := range path {
		if text, unquoteErr := strconv.Unquote(name); unquoteErr == nil {
			path[i] = text
		}
	}
	for _, told := range e.paths {
		if prefix(told, path) || prefix(path, told) {
			return
		}
	}
	n, s, there := e.root, e.shape, true
	for i, name := range path {
		if s != nil && s.standard && e.toldIn(path[:i]) {
			return // with one bad entry in the list, CUE says of each that it is not the default's
		}
		next := n.step(name)
		if s != nil {
			s = s.step(name)
		}
		if there = next != nil; !there {
			break
		}
		n = next
	}
	e.tell(path)
	hint := e.report.compare()
	if s != nil {
		hint = s.hint(n)
	}
	if e.site.Exists() {
		hint = "this is a rule of this site (schema/site.cue): " + hint
	}
	if !there {
		e.report.add(n.at, RuleMissingField, e.dotted(path)+" is missing", hint)
		return
	}
	rule := RuleSchema
	if len(path) > 0 && path[0] == "volume" {
		rule = RuleVolume
	}
	format, args := err.Msg()
	e.report.blame(n, rule, e.dotted(path)+" is not allowed as it is: "+clip(fmt.Sprintf(format, args...), 200), hint)
}

// toldIn reports whether something has been told of what is inside the path.
func (e *explainer) toldIn(path []string) bool {
	return slices.ContainsFunc(e.paths, func(told []string) bool { return len(told) > len(path) && prefix(path, told) })
}

func (s *shape) step(name string) *shape {
	if s.elem != nil {
		return s.elem
	}
	if f := s.fields[name]; f != nil {
		return f
	}
	return s.pattern
}

func prefix(short, long []string) bool {
	return len(short) <= len(long) && slices.Equal(short, long[:len(short)])
}

// hint says what to write instead of n.
func (s *shape) hint(n *node) string {
	switch {
	case n.kind == textNode && s.kind&(cue.IntKind|cue.BoolKind) != 0 && s.kind&cue.StringKind == 0:
		return "take the quotes away: " + s.sentence()
	case n.kind == nullNode:
		return "write a value, or delete the line: " + s.sentence()
	}
	return s.sentence()
}

// addHint says how to add the field.
func (s *shape) addHint(name string) string {
	hint := "add " + name
	if s.example != "" {
		hint = "add " + s.example
	}
	if s.doc != "" {
		hint += " (" + lowerFirst(strings.TrimSuffix(s.doc, ".")) + ")"
	}
	return hint
}

// sentence is the field's comment with its example, never empty.
func (s *shape) sentence() string {
	doc := s.doc
	if doc == "" {
		doc = "Write " + kindWords(s.kind) + "."
	}
	if s.example != "" {
		doc += " For example: " + s.example
	}
	return doc
}

func lowerFirst(s string) string {
	if len(s) > 1 && 'A' <= s[0] && s[0] <= 'Z' && 'a' <= s[1] && s[1] <= 'z' {
		return string(s[0]+'a'-'A') + s[1:]
	}
	return s
}

// dotted writes a path for people: the numbers of list entries are left out,
// since the line says which one it is.
func (e *explainer) dotted(path []string) string {
	names := make([]string, 0, len(path))
	for _, name := range path {
		if _, err := strconv.Atoi(name); err != nil {
			names = append(names, strings.Trim(quote(name), `"`))
		}
	}
	if len(names) == 0 {
		return e.whole
	}
	if _, err := strconv.Atoi(path[len(path)-1]); err == nil {
		return "an entry of " + strings.Join(names, ".")
	}
	return strings.Join(names, ".")
}

func (n *node) cueKind() cue.Kind {
	switch n.kind {
	case textNode:
		return cue.StringKind
	case numberNode:
		if strings.Contains(n.text, ".") {
			return cue.FloatKind
		}
		return cue.IntKind
	case boolNode:
		return cue.BoolKind
	case nullNode:
		return cue.NullKind
	case listNode:
		return cue.ListKind
	default:
		return cue.StructKind
	}
}

func kindWords(k cue.Kind) string {
	var words []string
	for _, w := range []struct {
		kind cue.Kind
		text string
	}{
		{cue.StringKind, "text in double quotes"},
		{cue.FloatKind, "a number"},
		{cue.IntKind, "a whole number"},
		{cue.BoolKind, "true or false"},
		{cue.ListKind, "a list in [ ]"},
		{cue.StructKind, "a group of fields in { }"},
	} {
		if k&w.kind != 0 && (w.kind != cue.IntKind || k&cue.FloatKind == 0) {
			words = append(words, w.text)
		}
	}
	return strings.Join(words, ", or ")
}
