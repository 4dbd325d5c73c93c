package internal_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// notHere are files that README.md names and that belong to a register or to
// the reader's own repository, not to this one.
var notHere = []string{"schema/site.cue"}

var (
	quoted = regexp.MustCompile("`([^`\n]+)`")
	isPath = regexp.MustCompile(`^[A-Za-z_][\w./-]*(/|\.(go|cue|md))$|^[a-z]+/[\w./-]+$`)
)

// TestReadmeNamesFilesThatExist holds every path in README.md to the disk.
func TestReadmeNamesFilesThatExist(t *testing.T) {
	root := moduleRoot(t)
	for _, word := range quotedWords(readme(t)) {
		name, _, _ := strings.Cut(word, "#")
		if !isPath.MatchString(name) || slices.Contains(notHere, name) || strings.Contains(name, "*") {
			continue
		}
		_, below := os.Stat(filepath.Join(root, "internal", name))
		_, top := os.Stat(filepath.Join(root, name))
		if below != nil && top != nil {
			t.Errorf("README.md names %s, which is not there", word)
		}
	}
}

// TestGuideOfNewRegistersIsInStep: what gatepost init gives a site is what
// registrations/README.md says. It is here too, beside the test of the scaffold, as
// whoever changes the guide need not know of it.
func TestGuideOfNewRegistersIsInStep(t *testing.T) {
	root := moduleRoot(t)
	guide, err := os.ReadFile(filepath.Join(root, "registrations", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(filepath.Join(root, "internal", "cli", "scaffold", "guide.md"))
	if err != nil || string(copied) != string(guide) {
		t.Errorf("internal/cli/scaffold/guide.md is not a copy of registrations/README.md (%v); run: make generate", err)
	}
}

// TestReadmeShowsEveryRoom holds the picture of the house to the packages.
func TestReadmeShowsEveryRoom(t *testing.T) {
	house := section(t, "The house")
	for room := range rooms {
		if !strings.Contains(house, path.Base(room)+"/") && !strings.Contains(house, room) {
			t.Errorf("README.md does not show %s in the house", room)
		}
	}
}

// TestReadmeListsRFCs: a row that says yes or partial names a file and a test
// that exist; an RFC that the code cites has a row.
func TestReadmeListsRFCs(t *testing.T) {
	tests := map[string]bool{} // "package.Test"
	cited := map[string]string{}
	number := regexp.MustCompile(`RFC (\d+)`)
	for file, f := range parsed(t, true) {
		if strings.HasSuffix(file, "_test.go") {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					tests[path.Base(path.Dir(file))+"."+fn.Name.Name] = true
				}
			}
			continue
		}
		for _, group := range f.Comments {
			for _, m := range number.FindAllStringSubmatch(group.Text(), -1) {
				cited[m[1]] = file
			}
		}
	}
	listed := map[string]bool{}
	for _, row := range table(t, "RFCs") {
		for n := range strings.SplitSeq(row[0], ", ") {
			listed[n] = true
		}
		named := quotedWords(row[4])
		switch verdict := row[2]; {
		case verdict == "no" && row[3]+row[4] == "":
		case verdict != "yes" && verdict != "partial":
			t.Errorf("RFC %s: %q is not yes, partial or no", row[0], verdict)
		case row[3] == "" || len(named) == 0:
			t.Errorf("RFC %s: %s, and no file or no test that shows it", row[0], verdict)
		}
		for _, name := range named {
			if !tests[name] {
				t.Errorf("RFC %s: there is no test %s", row[0], name)
			}
		}
	}
	for n, file := range cited {
		if !listed[n] {
			t.Errorf("%s cites RFC %s, which has no row in README.md", file, n)
		}
	}
}

// A metric is what both the code and README.md say of one.
type metric struct {
	file, kind, labels string
}

// TestReadmeListsMetrics: the metrics of README.md are those of the code, with
// their types, labels and files.
func TestReadmeListsMetrics(t *testing.T) {
	code := map[string]metric{}
	for file, f := range parsed(t, false) {
		if path.Base(file) == "metrics.go" {
			collectMetrics(t, strings.TrimPrefix(file, "internal/"), f, code)
		}
	}
	page := map[string]metric{}
	file := ""
	for _, row := range table(t, "Metrics") {
		name := strings.Trim(row[0], "`")
		if head, ok := strings.CutPrefix(row[0], "**"); ok {
			file = strings.Trim(head, "*`")
			continue
		}
		page[name] = metric{file, row[1], strings.Join(quotedWords(row[2]), " ")}
	}
	compare(t, "metric", code, page)
}

// collectMetrics finds what a metrics.go registers: options with a Name, and
// descriptions, also those made by a function that puts a prefix before a name.
func collectMetrics(t *testing.T, file string, f *ast.File, into map[string]metric) {
	t.Helper()
	prefixes := map[string]string{} // name of a local function → what it puts before the name
	ast.Inspect(f, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok || len(assign.Lhs) != 1 {
			return true
		}
		fn, isFunc := assign.Rhs[0].(*ast.FuncLit)
		id, isIdent := assign.Lhs[0].(*ast.Ident)
		if !isFunc || !isIdent {
			return true
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && calledName(call) == "NewDesc" {
				if sum, ok := call.Args[0].(*ast.BinaryExpr); ok {
					prefixes[id.Name] = text(sum.X)
				}
			}
			return true
		})
		return true
	})
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		name := calledName(call)
		if prefix, ok := prefixes[name]; ok {
			into[prefix+text(call.Args[0])] = metric{file, "gauge", texts(call.Args[2:])}
			return true
		}
		options, ok := call.Args[0].(*ast.CompositeLit)
		if !ok || !strings.HasPrefix(name, "New") {
			return true
		}
		m := metric{file: file}
		for _, kind := range []string{"Counter", "Gauge", "Histogram", "Summary"} {
			if strings.HasPrefix(name, "New"+kind) {
				m.kind = strings.ToLower(kind)
			}
		}
		part := map[string]string{}
		for _, e := range options.Elts {
			kv, ok := e.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			key := kv.Key.(*ast.Ident).Name
			part[key] = text(kv.Value)
			if labels, ok := kv.Value.(*ast.CompositeLit); ok && key == "ConstLabels" {
				for _, l := range labels.Elts {
					m.labels = text(l.(*ast.KeyValueExpr).Key)
				}
			}
		}
		if part["Name"] == "" || m.kind == "" {
			return true
		}
		if len(call.Args) > 1 {
			if labels, ok := call.Args[1].(*ast.CompositeLit); ok {
				m.labels = texts(labels.Elts)
			}
		}
		full := slices.DeleteFunc([]string{part["Namespace"], part["Subsystem"], part["Name"]}, func(s string) bool { return s == "" })
		into[strings.Join(full, "_")] = m
		return true
	})
}

// verbs are the methods of a slog.Logger that write a line, and the number of
// arguments before the keys and values.
var verbs = map[string]int{
	"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "With": 0, "Log": 3, "LogAttrs": 3,
	"DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2,
}

// TestReadmeListsEvents: every log line has an event, a constant; the events
// of README.md are those of the code; and so are the keys.
func TestReadmeListsEvents(t *testing.T) {
	events, keys := map[string]string{}, map[string]string{}
	form := regexp.MustCompile(`^[a-z]+\.[a-z]+(_[a-z]+)*$`)
	for file, f := range parsed(t, false) {
		if strings.HasPrefix(file, "internal/demo/") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			attrs := attributes(call)
			for key, value := range attrs {
				if key == "event" && value != nil {
					if event := text(value); form.MatchString(event) {
						events[event] = file
					} else {
						t.Errorf("%s: the event %q is no constant of the form part.what_happened", file, event)
					}
				}
				keys[key] = file
			}
			if _, has := attrs["event"]; !has && isLogLine(call) && calledName(call) != "With" {
				t.Errorf("%s: the log line %q has no event", file, text(call.Args[verbs[calledName(call)]-1]))
			}
			return true
		})
	}
	listed, listedKeys := map[string]string{}, map[string]string{"event": ""}
	for _, row := range table(t, "Log lines") {
		if strings.HasPrefix(row[0], "**") {
			continue
		}
		event := strings.Trim(row[0], "`")
		if listed[event] != "" {
			t.Errorf("%s is listed twice", event)
		}
		listed[event] = row[1]
		for _, key := range quotedWords(row[3]) {
			listedKeys[key] = event
		}
	}
	compareKeys(t, "event", events, listed)
	compareKeys(t, "log key", keys, listedKeys)
}

// isLogLine reports whether call writes a line of a slog.Logger, by the names
// that the house gives to loggers and by what a message looks like.
func isLogLine(call *ast.CallExpr) bool {
	fn, ok := call.Fun.(*ast.SelectorExpr)
	before, isVerb := verbs[calledName(call)]
	if !ok || !isVerb || len(call.Args) < max(before, 1) {
		return false
	}
	owner := ""
	switch x := fn.X.(type) {
	case *ast.Ident:
		owner = x.Name
	case *ast.SelectorExpr:
		owner = x.Sel.Name
	}
	return slices.Contains([]string{"log", "logger", "Log", "Logger", "slog"}, owner)
}

// attributes are the constant keys that a call hands to slog, with the values
// that stand beside them. A variable called event stands for one.
func attributes(call *ast.CallExpr) map[string]ast.Expr {
	found := map[string]ast.Expr{}
	if fn, ok := call.Fun.(*ast.SelectorExpr); ok {
		if pkg, ok := fn.X.(*ast.Ident); ok && pkg.Name == "slog" && len(call.Args) == 2 && text(call.Args[0]) != "" {
			found[text(call.Args[0])] = call.Args[1] // slog.String("key", value)
			return found
		}
	}
	if !isLogLine(call) {
		return found
	}
	rest := call.Args[verbs[calledName(call)]:]
	for i := 0; i < len(rest); i++ {
		switch arg := rest[i].(type) {
		case *ast.BasicLit:
			if i+1 < len(rest) {
				found[text(arg)] = rest[i+1]
			}
			i++
		case *ast.Ident:
			if arg.Name == "event" {
				found["event"] = nil
			}
		case *ast.CallExpr:
			maps.Copy(found, attributes(arg))
		}
	}
	return found
}

// parsed reads the module's Go files.
func parsed(t *testing.T, tests bool) map[string]*ast.File {
	t.Helper()
	root := moduleRoot(t)
	files := map[string]*ast.File{}
	for _, file := range goFiles(t, root) {
		if !tests && strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[file] = f
	}
	return files
}

func calledName(call *ast.CallExpr) string {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		return fn.Name
	case *ast.SelectorExpr:
		return fn.Sel.Name
	}
	return ""
}

// text is the value of a string constant, "" of anything else.
func text(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		s, _ := strconv.Unquote(lit.Value)
		return s
	}
	return ""
}

func texts(list []ast.Expr) string {
	var all []string
	for _, e := range list {
		all = append(all, text(e))
	}
	return strings.Join(all, " ")
}

// readme is README.md, and behind it what was too long for it.
func readme(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"README.md", "TELLING.md"} {
		data, err := os.ReadFile(filepath.Join(moduleRoot(t), "internal", name))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

// section is the part of README.md, or of TELLING.md, below a heading of the
// second level.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(readme(t), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no section %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// table is the rows of the section's table, without its head.
func table(t *testing.T, heading string) [][]string {
	t.Helper()
	var rows [][]string
	for line := range strings.SplitSeq(section(t, heading), "\n") {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("section %q of README.md has no table", heading)
	}
	return rows[2:]
}

func quotedWords(s string) []string {
	var words []string
	for _, m := range quoted.FindAllStringSubmatch(s, -1) {
		words = append(words, m[1])
	}
	return words
}

// compareKeys wants the same keys in both; the values help to find one.
func compareKeys(t *testing.T, what string, code, page map[string]string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(code)) {
		if _, ok := page[k]; !ok {
			t.Errorf("%s %s (%s) is not in README.md", what, k, code[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(page)) {
		if _, ok := code[k]; !ok {
			t.Errorf("%s %s (%s) is in README.md and not in the code", what, k, cmp.Or(page[k], "?"))
		}
	}
}

// compare wants the same keys and the same values in both.
func compare(t *testing.T, what string, code, page map[string]metric) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(code)) {
		if got, ok := page[k]; !ok {
			t.Errorf("%s %s is not in README.md: %+v", what, k, code[k])
		} else if got != code[k] {
			t.Errorf("%s %s: README.md says %+v, the code %+v", what, k, got, code[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(page)) {
		if _, ok := code[k]; !ok {
			t.Errorf("%s %s is in README.md and not in the code", what, k)
		}
	}
}
