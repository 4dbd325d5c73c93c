package registration

import (
	"encoding/json"
	"fmt"
	"io/fs"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/parser"

	"example.edu/gatepost/schema"
)

// A Definition is one definition of the schema, compiled once and held for as
// long as it is needed. CUE is the judge of what it accepts; the shape only
// explains a refusal.
//
// A Definition keeps nothing of the files it judges: they are parsed, rebuilt
// from the data-only gate's nodes and unified, never compiled. It must not be
// used by two goroutines at a time.
type Definition struct {
	ctx   *cue.Context
	value cue.Value
	site  cue.Value // exists only where the site narrows the definition
	shape *shape
}

// NewDefinition compiles the built-in definition of that name, such as
// "#Relay".
func NewDefinition(name string) (*Definition, error) {
	ctx := cuecontext.New()
	builtin, err := compile(ctx)
	if err != nil {
		return nil, err
	}
	return define(ctx, builtin, name, cue.Value{})
}

// Decode reads a configuration: plain data, in which a group may be opened more
// than once and a number carry a multiplier. It holds the data to the
// definition, fills the defaults in and stores the result in the value that
// into points to, by its JSON tags. The file's name is only used in problems.
//
// What does not fit is left out of the result, an element of a list being zero
// and anything else its default, so that the caller's own checks can add to the
// problems. The Data tells where each value stands; it is nil where nothing is
// stored, since the file is no data or nothing of it makes sense.
func (d *Definition) Decode(file string, data []byte, into any) (*Data, []Problem) {
	r := &report{file: file, config: true}
	if len(data) > MaxConfiguration {
		tooLarge(r, MaxConfiguration)
		return nil, r.sorted()
	}
	n := read(data, limits{MaxConfiguration, maxConfigurationNodes}, r)
	if n == nil {
		return nil, r.sorted()
	}
	result := &Data{root: n}
	value, err := d.judge(n)
	if err != nil {
		result.leaveOut(d.explain("the file", n, err, r))
		if result.out[n] || !d.decodeRest(result, into) {
			return nil, r.sorted()
		}
		return result, r.sorted()
	}
	if err := value.Decode(into); err != nil {
		r.add(n.at, RuleSchema, "the values do not fit: "+clip(err.Error(), 200), r.compare())
		return nil, r.sorted()
	}
	return result, r.sorted()
}

// decodeRest stores what fits. What is left out must not move the elements
// after it in a list, so the way goes over JSON, with null in its place.
func (d *Definition) decodeRest(data *Data, into any) bool {
	var rest any
	value := d.value.Unify(d.ctx.BuildExpr(data.rest(data.root).expr()))
	_ = value.Decode(&rest) // it goes on after what is required and missing, which has been told
	if rest == nil {
		return false
	}
	text, err := json.Marshal(data.space(data.root, rest))
	return err == nil && json.Unmarshal(text, into) == nil
}

// Hint is what the schema's comment says of the field with this path of names:
// what to write there.
func (d *Definition) Hint(path ...string) string {
	s := d.shape
	for _, name := range path {
		next := s.step(name)
		if next == nil {
			break
		}
		s = next
	}
	return s.sentence()
}

// Data tells where the parts of a file stand that a Definition has read.
type Data struct {
	root *node
	out  map[*node]bool // the values that do not fit
}

// leaveOut marks the values with these paths, as far as they are there.
func (d *Data) leaveOut(paths [][]string) {
	d.out = map[*node]bool{}
	for _, path := range paths {
		n := d.root
		for _, name := range path {
			if n = n.step(name); n == nil {
				break
			}
		}
		if n != nil {
			d.out[n] = true
		}
	}
}

// rest copies n without what is left out.
func (d *Data) rest(n *node) *node {
	c := *n
	c.fields, c.elems = nil, nil
	for f := range n.each() {
		if !d.out[f.value] {
			c.fields = append(c.fields, field{f.name, f.at, d.rest(f.value)})
		}
	}
	for _, e := range n.elems {
		if !d.out[e] {
			c.elems = append(c.elems, d.rest(e))
		}
	}
	return &c
}

// space puts nil into decoded, which was made of rest(n), where an element of a
// list is left out.
func (d *Data) space(n *node, decoded any) any {
	switch decoded := decoded.(type) {
	case map[string]any:
		for f := range n.each() {
			if !d.out[f.value] {
				decoded[f.name] = d.space(f.value, decoded[f.name])
			}
		}
	case []any:
		spaced := make([]any, len(n.elems))
		for i, e := range n.elems {
			if !d.out[e] && len(decoded) > 0 {
				spaced[i], decoded = d.space(e, decoded[0]), decoded[1:]
			}
		}
		return spaced
	}
	return decoded
}

// Given reports whether the file gives a value with this path of names, and one
// that fits.
func (d *Data) Given(path ...string) bool {
	n := d.root
	for _, name := range path {
		if n = n.step(name); n == nil || d.out[n] {
			return false
		}
	}
	return true
}

// Written reports whether the file has anything at all at this path of names,
// also what does not fit.
func (d *Data) Written(path ...string) bool {
	n := d.root
	for _, name := range path {
		if n = n.step(name); n == nil {
			return false
		}
	}
	return true
}

// At returns where the value with this path of names stands, or the closest
// value around it that is written in the file. An element of a list is named by
// its number, from 0.
func (d *Data) At(path ...string) Pos {
	n := d.root
	for _, name := range path {
		next := n.step(name)
		if next == nil {
			break
		}
		n = next
	}
	return n.at
}

// compile builds the embedded schema as one package.
func compile(ctx *cue.Context) (cue.Value, error) {
	names, err := fs.Glob(schema.Files(), "*.cue")
	if err != nil {
		return cue.Value{}, fmt.Errorf("registration: listing the schema: %w", err)
	}
	instance := build.NewContext().NewInstance("", nil)
	for _, name := range names {
		text, err := fs.ReadFile(schema.Files(), name)
		if err != nil {
			return cue.Value{}, fmt.Errorf("registration: reading the schema: %w", err)
		}
		file, err := parser.ParseFile("schema/"+name, text, parser.ParseComments)
		if err != nil {
			return cue.Value{}, fmt.Errorf("registration: parsing the schema: %w", err)
		}
		if err := instance.AddSyntax(file); err != nil {
			return cue.Value{}, fmt.Errorf("registration: joining the schema: %w", err)
		}
	}
	value := ctx.BuildInstance(instance)
	if err := value.Err(); err != nil {
		return cue.Value{}, fmt.Errorf("registration: compiling the schema: %w", err)
	}
	return value, nil
}

// define takes one definition out of the compiled schema, and what the site
// says of it, if anything.
func define(ctx *cue.Context, builtin cue.Value, name string, site cue.Value) (*Definition, error) {
	d := &Definition{ctx: ctx, value: builtin.LookupPath(cue.ParsePath(name)), site: site}
	if err := d.value.Err(); err != nil {
		return nil, fmt.Errorf("registration: looking %s up: %w", name, err)
	}
	d.shape = newShape(d.value, false)
	if !site.Exists() {
		return d, nil
	}
	if err := d.value.Unify(site).Validate(); err != nil {
		return nil, fmt.Errorf("registration: narrowing %s: %w", name, siteError(err))
	}
	if err := d.shape.narrow(newShape(site, true), name); err != nil {
		return nil, fmt.Errorf("registration: narrowing %s: %w", name, err)
	}
	return d, nil
}

// judge unifies data with the definition. The data must satisfy the built-in
// definition by itself before the site's is asked: so the site can neither
// loosen a rule nor supply a field that the file leaves out.
func (d *Definition) judge(n *node) (cue.Value, error) {
	value := d.value.Unify(d.ctx.BuildExpr(n.expr()))
	if err := value.Validate(cue.Concrete(true), cue.Final()); err != nil || !d.site.Exists() {
		return value, err
	}
	value = value.Unify(d.site)
	return value, value.Validate(cue.Concrete(true), cue.Final())
}
