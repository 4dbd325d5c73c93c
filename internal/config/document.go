package config

import (
	"cmp"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/registration"
)

// maxProblems bounds what is told of one file.
const maxProblems = 100

// A document is one configuration file on its way to a typed value. Its
// definition in the schema is the first judge; what does not fit there is
// reported and left out, so that the rest can still be checked here.
//
// Paths are those of the file, with dots, and elements of lists in brackets:
// "listen.relay[0]".
type document struct {
	file     string
	def      *registration.Definition
	data     *registration.Data // nil: there is nothing to check any further
	problems []registration.Problem
}

// read holds a file to a definition and decodes what fits into out, a pointer
// to a struct.
func read(file string, content []byte, definition string, out any) *document {
	d := &document{file: file}
	def, err := registration.NewDefinition(definition)
	if err != nil {
		d.add(registration.Pos{}, "the built-in schema does not work: "+err.Error(),
			"this is a fault of the program; report it with the configuration file")
		return d
	}
	d.def = def
	d.data, d.problems = def.Decode(file, content, out)
	return d
}

// has reports whether the file gives a value at path, and one that fits its
// field.
func (d *document) has(path string) bool { return d.data.Given(names(path)...) }

// written reports whether the file gives anything at path; what does not fit
// has been told.
func (d *document) written(path string) bool { return d.data.Written(names(path)...) }

// names takes a path apart.
func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// wrong reports a value, with the schema's comment on its field as the hint.
func (d *document) wrong(path, message string) {
	d.reject(path, message, d.def.Hint(names(path)...))
}

// reject reports the value at path, with a hint of its own. Where the value is
// absent, the problem stands at the closest one around it.
func (d *document) reject(path, message, hint string) {
	d.add(d.data.At(names(path)...), message, hint)
}

// warn reports what does not stop the daemon.
func (d *document) warn(path, message, hint string) {
	before := len(d.problems)
	d.reject(path, message, hint)
	if len(d.problems) > before {
		d.problems[before].Severity = registration.Warning
	}
}

// add records a problem; beyond maxProblems they are dropped.
func (d *document) add(at registration.Pos, message, hint string) {
	if len(d.problems) >= maxProblems {
		return
	}
	d.problems = append(d.problems, registration.Problem{
		File: d.file, Line: int(at.Line), Column: int(at.Column),
		Rule: registration.RuleSchema, Severity: registration.Error, Message: message, Hint: hint,
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
