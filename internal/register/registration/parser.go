package registration

import (
	"crypto/sha256"
	"fmt"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
)

// A Parser reads files of the register. It holds the compiled schema and keeps
// nothing of the files it reads. It must not be used by two goroutines at a
// time; make one for each.
type Parser struct {
	registration, campus, network, department, block *Definition
}

// NewParser compiles the schema. site is the text of schema/site.cue at the
// base commit, nil when there is none; it is evaluated, which nothing bounds, so
// that of a request must never come here; it narrows the built-in definitions
// #Registration, #Network, #Department and #Block and can loosen none: a file
// must satisfy the built-in definition by itself first. An error names the
// place in the site's file.
func NewParser(site []byte) (*Parser, error) {
	ctx := cuecontext.New()
	builtin, err := compile(ctx)
	if err != nil {
		return nil, err
	}
	var narrowed map[string]cue.Value
	if site != nil {
		names := []string{"#Registration", "#Network", "#Department", "#Block"}
		if narrowed, err = compileSite(ctx, builtin, site, names); err != nil {
			return nil, err
		}
	}
	p := &Parser{}
	for _, d := range []struct {
		name string
		to   **Definition
	}{
		{"#Registration", &p.registration},
		{"#Campus", &p.campus},
		{"#Network", &p.network},
		{"#Department", &p.department},
		{"#Block", &p.block},
	} {
		if *d.to, err = define(ctx, builtin, d.name, narrowed[d.name]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Parse reads one file and never fails: what is wrong is in the File's
// Problems, on the user's own line, all of it at once. In order: what the file
// is (rules not-regular, too-large, path), what it is written in (syntax,
// not-data), and only then what it says.
func (p *Parser) Parse(src Source) (f *File) {
	r := &report{file: src.Path}
	f = &File{Path: src.Path, Sum: sha256.Sum256(src.Data)}
	defer func() {
		// The last defence: no file may take the relay or the check down.
		if fault := recover(); fault != nil {
			r.problems = nil
			r.add(Pos{1, 1}, RuleSchema, "the file cannot be judged: "+clip(fmt.Sprint(fault), 200),
				"this is a fault of the program: write to the postmaster and name this file")
			*f = File{Path: src.Path, Sum: f.Sum}
		}
		f.Problems = r.sorted()
	}()
	kind := Kind(src.Path)
	if n := p.open(src, kind, r); n != nil {
		switch kind {
		case KindRegistration:
			f.Registration = p.readRegistration(src.Path, n, r)
		case KindCampus:
			f.Campus = p.readCampus(src.Path, n, r)
		case KindBlock:
			f.Block = p.readBlock(src.Path, n, r)
		}
	}
	return f
}

// open judges what can be judged without knowing what the file says.
func (p *Parser) open(src Source, kind FileKind, r *report) *node {
	if src.Mode != Regular && inRegister(src.Path) {
		what := map[Mode]string{Symlink: "a symbolic link", Submodule: "a submodule"}[src.Mode]
		if what == "" {
			what = "no regular file"
		}
		r.add(Pos{1, 1}, RuleNotRegular, "this is "+what, "put the file itself here; links and submodules are never followed")
		return nil
	}
	switch kind {
	case KindIgnored:
		return nil
	case KindMisplaced:
		r.add(Pos{1, 1}, RulePath, misplaced(src.Path), placeHint(src.Path))
		return nil
	}
	l := limitsOf(kind)
	if max(src.Size, int64(len(src.Data))) > l.octets {
		tooLarge(r, l.octets)
		return nil
	}
	return read(src.Data, l, r)
}

func tooLarge(r *report, octets int64) {
	r.add(Pos{1, 1}, RuleTooLarge, fmt.Sprintf("the file is larger than %d KiB", octets>>10), r.shrink())
}

// settle ends the reading of one value, which messages call what: r already
// holds what the checks of our own have found; the definition's judgement comes
// on top. It decodes the value when all is well.
func (d *Definition) settle(what string, n *node, r *report, clean bool, into any) bool {
	if wide := n.tooWide(); wide != nil {
		r.add(wide.at, RuleTooLarge, fmt.Sprintf("%d entries stand in one list or one pair of braces", max(len(wide.fields), len(wide.elems))), r.shrink())
		return false
	}
	value, err := d.judge(n)
	if err != nil {
		d.explain(what, n, err, r)
		return false
	}
	if !clean {
		return false
	}
	if err := value.Decode(into); err != nil {
		r.add(n.at, RuleSchema, "the values do not fit: "+clip(err.Error(), 200), r.compare())
		return false
	}
	return true
}
