package registration

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
)

// A shape is a definition of the schema taken apart, so that a refusal can be
// told in plain words: which fields there are, which are required, what each
// is for, and the single constraints on each value. It decides nothing.
type shape struct {
	doc      string // what to write, from the field's comment
	example  string // a line that can be copied, from the same
	required bool
	optional bool
	standard bool // it has a default of its own beside what may be written
	kind     cue.Kind
	parts    []part // each constraint by itself
	names    []string
	fields   map[string]*shape
	elem     *shape // of a list
	pattern  *shape // of the fields of a struct that are not named
}

// A part is one constraint: a type, a bound, a pattern, a choice.
type part struct {
	op    cue.Op
	args  []cue.Value
	value cue.Value
	site  bool // from schema/site.cue
}

// maxShape bounds the depth of a definition; ours are not recursive.
const maxShape = 12

func newShape(v cue.Value, site bool) *shape {
	s := &shape{kind: cue.TopKind}
	s.take(v, site, 0)
	return s
}

// take adds the constraints of v to s.
func (s *shape) take(v cue.Value, site bool, depth int) {
	if depth > maxShape {
		return
	}
	if wide, ok := besideDefault(v); ok {
		v, s.standard = wide, true
	}
	op, args := v.Expr()
	if op == cue.SelectorOp { // a reference to another definition
		v = cue.Dereference(v)
		op, args = v.Expr()
	}
	switch {
	case op == cue.AndOp:
		for _, a := range args {
			s.take(a, site, depth+1)
		}
		return
	case op == cue.NoOp && v.IncompleteKind() == cue.ListKind:
		s.kind &= cue.ListKind
		if e := v.LookupPath(cue.MakePath(cue.AnyIndex)); e.Exists() {
			if s.elem == nil {
				s.elem = &shape{kind: cue.TopKind, doc: s.doc, example: s.example}
			}
			s.elem.take(e, site, depth+1)
		}
		return
	case op == cue.NoOp && v.IncompleteKind() == cue.StructKind:
		s.kind &= cue.StructKind
		s.takeFields(v, site, depth)
		return
	}
	if k := v.IncompleteKind(); k != cue.BottomKind {
		s.kind &= k
	}
	s.parts = append(s.parts, part{op, args, v, site})
}

// besideDefault returns the alternative to a default that takes the default in,
// as string does in *":25" | string: it says all that may be written.
func besideDefault(v cue.Value) (cue.Value, bool) {
	standard, ok := v.Default()
	if !ok {
		return v, false
	}
	_, arms := v.Expr()
	for _, arm := range arms {
		if arm.Subsume(standard) == nil && standard.Subsume(arm) != nil {
			return arm, true
		}
	}
	return v, false
}

func (s *shape) takeFields(v cue.Value, site bool, depth int) {
	if e := v.LookupPath(cue.MakePath(cue.AnyString)); e.Exists() {
		if s.pattern == nil {
			s.pattern = &shape{kind: cue.TopKind}
		}
		s.pattern.take(e, site, depth+1)
	}
	fields, err := v.Fields(cue.Optional(true))
	if err != nil {
		return
	}
	for fields.Next() {
		name := fields.Selector().Unquoted()
		f := s.fields[name]
		if f == nil {
			f = &shape{kind: cue.TopKind}
			if s.fields == nil {
				s.fields = map[string]*shape{}
			}
			s.fields[name] = f
			s.names = append(s.names, name)
		}
		constraint := fields.FieldType().ConstraintType()
		f.required = f.required || constraint == cue.RequiredConstraint
		f.optional = constraint == cue.OptionalConstraint && !f.required
		f.takeDoc(fields.Value())
		f.take(fields.Value(), site, depth+1)
	}
}

// takeDoc reads a field's own comment; that of a definition it refers to comes
// behind it and is left out.
func (s *shape) takeDoc(v cue.Value) {
	docs := v.Doc()
	if len(docs) == 0 || s.doc != "" {
		return
	}
	for line := range strings.SplitSeq(docs[0].Text(), "\n") {
		line = strings.TrimSpace(line)
		switch example, ok := strings.CutPrefix(line, "Example:"); {
		case ok:
			s.example = strings.TrimSpace(example)
		case line != "" && s.doc != "":
			s.doc += " " + line
		case line != "":
			s.doc = line
		}
	}
}

// narrow adds what the site says. A name that the definition does not know is
// an error: it would have no effect.
func (s *shape) narrow(site *shape, path string) error {
	s.kind &= site.kind
	s.parts = append(s.parts, site.parts...)
	s.required = s.required || site.required
	s.optional = s.optional && !s.required
	if site.doc != "" {
		s.doc = site.doc
	}
	if site.example != "" {
		s.example = site.example
	}
	if site.elem != nil && s.elem != nil {
		if err := s.elem.narrow(site.elem, path); err != nil {
			return err
		}
	}
	for _, name := range site.names {
		f := s.fields[name]
		if f == nil {
			err := fmt.Errorf("%s has no field %q", path, name)
			if near := nearest(name, s.names); near != "" {
				err = fmt.Errorf("%w; did you mean %q?", err, near)
			}
			return err
		}
		if err := f.narrow(site.fields[name], path+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// choices returns the texts that a choice allows; false when it is none of
// texts only.
func (p part) choices() ([]string, bool) {
	if p.op == cue.NoOp {
		if text, err := p.value.String(); err == nil {
			return []string{text}, true
		}
		return nil, false
	}
	if p.op != cue.OrOp {
		return nil, false
	}
	var texts []string
	for _, a := range p.args {
		text, err := a.String()
		if err != nil {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
}

// choices returns the texts that all choices among the parts allow.
func (s *shape) choices() ([]string, bool) {
	var all []string
	found := false
	for _, p := range s.parts {
		texts, ok := p.choices()
		switch {
		case !ok:
		case !found:
			all, found = texts, true
		default:
			all = slices.DeleteFunc(slices.Clone(all), func(t string) bool { return !slices.Contains(texts, t) })
		}
	}
	return all, found
}
