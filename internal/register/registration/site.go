package registration

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// maxSite bounds schema/site.cue, in octets.
const maxSite = 256 << 10

// opened begins the name of the plain field that a definition is compiled as.
const opened = "open·"

// siteName is how errors name the site's file.
const siteName = "schema/site.cue"

// compileSite compiles schema/site.cue and returns its definitions by name. It
// is code of the base commit, reviewed by the postmasters, so it is evaluated;
// its definitions are compiled as open structs, so that a few fields narrow the
// built-in definition and the rest stays as it is.
//
// Nothing but its size bounds what that takes: a file of three lines can keep
// CUE's evaluator busy for ever, and it cannot be stopped. So the text must be
// of the base commit, never of a request's: whoever can merge it is trusted not
// to. It can read no file and run nothing: there is no loader, and imports other
// than CUE's own packages of functions are not found.
//
// What could have no effect is refused: it would look like a rule and be none.
func compileSite(ctx *cue.Context, builtin cue.Value, text []byte, names []string) (map[string]cue.Value, error) {
	if len(text) > maxSite {
		return nil, fmt.Errorf("registration: reading %s: larger than %d KiB", siteName, maxSite>>10)
	}
	file, err := parser.ParseFile(siteName, text, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("registration: reading %s: %w", siteName, siteError(err))
	}
	narrows := map[string]cue.Path{} // definition → the plain field it is compiled as
	for _, decl := range file.Decls {
		field, ok := decl.(*ast.Field)
		if !ok {
			switch decl.(type) {
			case *ast.CommentGroup, *ast.Package, *ast.ImportDecl, *ast.LetClause:
				continue
			}
			return nil, fmt.Errorf("registration: reading %s: %s: only %s can be narrowed here", siteName, decl.Pos(), strings.Join(names, ", "))
		}
		label, ok := field.Label.(*ast.Ident)
		switch {
		case ok && strings.HasPrefix(label.Name, "_"): // a helper of the site's own
			continue
		case !ok || !slices.Contains(names, label.Name) || field.Constraint != token.ILLEGAL:
			return nil, fmt.Errorf("registration: reading %s: %s: only %s can be narrowed here; helpers start with _", siteName, decl.Pos(), strings.Join(names, ", "))
		}
		open := opened + strings.TrimPrefix(label.Name, "#")
		narrows[label.Name] = cue.MakePath(cue.Str(open))
		label.Name = open
	}
	value := ctx.BuildFile(file, cue.Scope(builtin))
	if err := value.Err(); err != nil {
		return nil, fmt.Errorf("registration: compiling %s: %w", siteName, siteError(err))
	}
	narrowed := map[string]cue.Value{}
	for name, path := range narrows {
		narrowed[name] = value.LookupPath(path)
	}
	return narrowed, nil
}

// siteError puts CUE's errors in one line, each with its place in the site's
// file where it has one.
func siteError(err error) error {
	var lines []string
	for _, e := range errors.Errors(err) {
		line := strings.ReplaceAll(e.Error(), opened, "#")
		for _, p := range append(e.InputPositions(), e.Position()) {
			if p.Filename() == siteName {
				line = p.String() + ": " + line
				break
			}
		}
		if len(lines) < 5 {
			lines = append(lines, line)
		}
	}
	return errors.New(strings.Join(lines, "; "))
}
