package registration

import (
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

// Decode reads plain data, holds it to the definition, fills the defaults in
// and stores the result in the value that into points to, by its JSON tags.
// Without an error among the problems, the Data tells where each value stands.
// The file's name is only used in problems.
func (d *Definition) Decode(file string, data []byte, into any) (*Data, []Problem) {
	r := &report{file: file}
	if len(data) > MaxFile {
		tooLarge(r, MaxFile)
		return nil, r.sorted()
	}
	n := read(data, limits{MaxFile, maxNodes}, r)
	if n == nil {
		return nil, r.sorted()
	}
	value, err := d.judge(n)
	if err != nil {
		d.explain("the file", n, err, r)
		return nil, r.sorted()
	}
	if err := value.Decode(into); err != nil {
		r.add(n.at, RuleSchema, "the values do not fit: "+clip(err.Error(), 200), "compare the file with the documentation")
		return nil, r.sorted()
	}
	return &Data{n}, nil
}

// Data tells where the parts of a file stand that a Definition has accepted.
type Data struct{ root *node }

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
