// Package internal_test holds the house to its plan: who may import whom.
package internal_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "example.edu/gatepost/"

// rooms lists, for each package of ours, the other packages of ours it may
// import, and why where it is not plain from the two lines of README.md. What
// is not listed is not allowed.
var rooms = map[string][]string{
	"schema": nil,

	// The ground: no package below imports a line.
	"internal/mail":      nil,
	"internal/durable":   nil,
	"internal/watch":     nil,
	"internal/program":   nil,
	"internal/lifecycle": {"internal/durable"},
	"internal/config":    {"internal/register/registration", "internal/mail", "internal/durable"}, // registration: Definition, Problem

	// The register's line: registration ← policy ← reconcile, confirm, evidence.
	"internal/register/registration":    {"schema"},
	"internal/register/policy":          {"internal/register/registration", "internal/mail"},
	"internal/register/gitsync":         {"internal/register/registration", "internal/durable"},                                                                                        // Source and Mode only
	"internal/register/reconcile":       {"internal/register/registration", "internal/register/policy", "internal/register/gitsync", "internal/register/approval", "internal/durable"}, // approval: the values of a verdict
	"internal/register/approval":        {"internal/register/registration", "internal/register/gitsync", "internal/register/forge", "internal/mail", "internal/durable"},               // registration: kinds of file; mail: Printable
	"internal/register/forge":           {"internal/register/registration", "internal/durable"},                                                                                        // registration: Source and Problem
	"internal/register/forge/forgetest": nil,                                                                                                                                           // for tests: a stand-in for GitHub
	"internal/register/review":          {"internal/register/registration", "internal/register/policy", "internal/register/gitsync", "internal/register/evidence", "internal/durable"}, // gitsync: Entry and Hash
	"internal/register/webhook":         {"internal/mail"},                                                                                                                             // Printable only
	"internal/register/report":          {"internal/register/registration", "internal/register/policy", "internal/register/review", "internal/register/gitsync", "internal/register/forge"},
	"internal/register/confirm":         {"internal/register/registration", "internal/register/policy", "internal/mail"},
	"internal/register/evidence":        {"internal/register/registration"}, // Network only
	"internal/register/credential":      {"internal/register/forge", "internal/register/gitsync", "internal/durable"},
	"internal/register/proof":           {"internal/durable"},

	// The relay's line: spool ← dsn ← queue. Of the register it sees policy and proof only.
	"internal/relay/spool":     {"internal/mail", "internal/durable"},
	"internal/relay/dsn":       {"internal/mail", "internal/relay/spool"},
	"internal/relay/queue":     {"internal/mail", "internal/relay/spool", "internal/relay/dsn"},
	"internal/relay/deliver":   {"internal/mail", "internal/relay/spool"},
	"internal/relay/dane":      nil,
	"internal/relay/sts":       {"internal/durable"},
	"internal/relay/tlsreport": {"internal/mail", "internal/durable"},
	"internal/relay/tlspolicy": {"internal/mail", "internal/relay/deliver", "internal/relay/dane", "internal/relay/sts", "internal/relay/tlsreport"}, // deliver: the question that it answers
	"internal/relay/dkim":      {"internal/durable"},
	"internal/relay/limits":    {"internal/register/policy", "internal/register/registration", "internal/durable"},
	"internal/relay/activity":  {"internal/durable"},
	"internal/relay/trace":     {"internal/relay/spool"}, // Entry
	"internal/relay/archive":   {"internal/mail", "internal/durable", "internal/relay/spool"},
	"internal/relay/brake":     {"internal/mail", "internal/durable"},
	"internal/relay/blocks":    {"internal/durable"},
	"internal/relay/smtpd":     {"internal/mail", "internal/register/policy", "internal/register/proof", "internal/register/registration"}, // registration: the values inside a Verdict

	// The portal's rooms, below internal/portal, which alone knows them all.
	"internal/portal/book":  {"internal/durable"},
	"internal/portal/chart": nil,
	"internal/portal/fleet": {"internal/status", "internal/durable"},
	"internal/portal/form":  {"internal/register/registration", "internal/register/policy", "internal/register/review"},
	"internal/portal/guard": {"internal/config"}, // config: PortalLimits
	"internal/portal/keeper": {
		"internal/portal/book", "internal/portal/fleet", "internal/portal/view", "internal/status", "internal/mail",
		"internal/register/forge", "internal/register/gitsync", "internal/register/report", "internal/register/review", "internal/register/policy", "internal/register/registration",
	},
	"internal/portal/page":    nil,
	"internal/portal/session": {"internal/config", "internal/mail", "internal/durable"}, // config: how people sign in
	"internal/portal/view":    {"internal/register/gitsync", "internal/register/review", "internal/register/policy"},

	// Faces and wiring.
	"internal/status":       {"internal/register/registration"}, // Problem
	"internal/daemon":       {"*"},
	"internal/cli":          {"*"},
	"internal/cli/scaffold": nil, // the files of a repository at a forge
	"internal/demo":         {"*"},
	"internal/portal":       {"*"},
	"cmd/gatepostd":         {"internal/daemon"},
	"cmd/gatepost":          {"internal/cli"},
	"cmd/gatepost-portal":   {"internal/portal"},
}

// loops are the run loops: they meet in daemon, never one another.
var loops = []string{"internal/register/reconcile", "internal/relay/smtpd", "internal/relay/queue", "internal/portal"}

// faces may be imported by nothing but mains and one another.
var faces = []string{"internal/daemon", "internal/portal", "internal/cli", "internal/demo"}

// outside lists the libraries that only some rooms may know, so that each can
// be replaced in one place. The key is a prefix of the import path.
var outside = map[string][]string{
	"cuelang.org/go":                                          {"internal/register/registration"},
	"github.com/go-git/":                                      {"internal/register/gitsync", "internal/register/forge"},
	"github.com/google/go-github/":                            {"internal/register/forge"},
	"github.com/ProtonMail/go-crypto":                         {"internal/register/approval"},
	"github.com/hiddeco/sshsig":                               {"internal/register/approval"},
	"golang.org/x/crypto":                                     {"internal/register/approval"},
	"github.com/coreos/go-oidc/":                              {"internal/portal/session"},
	"github.com/go-jose/go-jose/":                             {}, // tests only
	"github.com/gorilla/securecookie":                         {"internal/portal/session"},
	"golang.org/x/oauth2":                                     {"internal/portal/session"},
	"github.com/emersion/go-smtp":                             {"internal/relay/smtpd"},
	"github.com/emersion/go-msgauth":                          {"internal/relay/dkim"},
	"github.com/gaissmai/bart":                                {"internal/register/policy"},
	"github.com/axiomhq/hyperloglog":                          {"internal/relay/brake"},
	"github.com/cockroachdb/pebble":                           {"internal/relay/spool"},
	"github.com/fsnotify/fsnotify":                            {"internal/watch"},
	"github.com/spf13/cobra":                                  {"internal/cli"},
	"github.com/rogpeppe/go-internal":                         {},
	"go.yaml.in/yaml/":                                        {},
	"github.com/santhosh-tekuri/jsonschema":                   {}, // tests only
	"github.com/miekg/dns":                                    {"internal/register/evidence", "internal/relay/dane"},
	"github.com/openrdap/rdap":                                {"internal/register/evidence"},
	"github.com/prometheus/client_golang/prometheus/promhttp": {"internal/status"},
}

// metricsOnly may be imported by any room, but only in files named metrics.go,
// and by daemon, which owns the registry.
const metricsOnly = "github.com/prometheus/client_golang/"

// anyFile may use prometheus in files of other names: the wiring that makes a
// registry and hands it on as a prometheus.Registerer.
var anyFile = []string{"internal/daemon", "internal/status", "internal/demo", "internal/portal"}

// TestArchitecture reads every non-test file's imports.
func TestArchitecture(t *testing.T) {
	root := moduleRoot(t)
	seen := map[string]bool{}
	for _, file := range goFiles(t, root) {
		room := path.Dir(file)
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		seen[room] = true
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s: the house has no room %s; give it a row in rooms and in internal/README.md", file, room)
			continue
		}
		for _, spec := range parsed.Imports {
			checkImport(t, file, room, allowed, strings.Trim(spec.Path.Value, `"`))
		}
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("rooms lists %s, which has no file", room)
		}
	}
}

func checkImport(t *testing.T, file, room string, allowed []string, imported string) {
	t.Helper()
	if ours, ok := strings.CutPrefix(imported, module); ok {
		if !slices.Contains(allowed, ours) && !slices.Contains(allowed, "*") {
			t.Errorf("%s imports %s: not in its row of rooms", file, ours)
		}
		if slices.Contains(faces, ours) && !slices.Contains(faces, room) && !strings.HasPrefix(room, "cmd/") {
			t.Errorf("%s imports %s: nothing below imports a face", file, ours)
		}
		if slices.Contains(loops, ours) && slices.Contains(loops, room) && ours != room {
			t.Errorf("%s imports %s: run loops meet in daemon only", file, ours)
		}
		return
	}
	for prefix, who := range outside {
		if strings.HasPrefix(imported, prefix) && !slices.Contains(who, room) {
			t.Errorf("%s imports %s: only %v may", file, imported, who)
		}
	}
	if strings.HasPrefix(imported, metricsOnly) && path.Base(file) != "metrics.go" && !slices.Contains(anyFile, room) {
		// A constructor takes a prometheus.Registerer; nothing else is needed outside metrics.go.
		if imported != metricsOnly+"prometheus" || !onlyRegisterer(t, file) {
			t.Errorf("%s imports %s: metrics live in metrics.go", file, imported)
		}
	}
}

// onlyRegisterer reports whether file uses of prometheus no more than the name
// of the constructor argument.
func onlyRegisterer(t *testing.T, file string) bool {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(moduleRoot(t), file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	only := true
	ast.Inspect(parsed, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == "prometheus" && sel.Sel.Name != "Registerer" {
				only = false
			}
		}
		return true
	})
	return only
}

// TestTopLevel keeps the top of the repository to what was agreed.
func TestTopLevel(t *testing.T) {
	agreed := strings.Fields("cmd registrations schema internal go.mod go.sum Makefile CODEOWNERS README.md")
	entries, err := os.ReadDir(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(agreed, e.Name()) {
			t.Errorf("%s: not agreed at the top level", e.Name())
		}
	}
}

// TestShape holds the size of files and of mains, and that every package says
// what it is.
func TestShape(t *testing.T) {
	root := moduleRoot(t)
	documented := map[string]bool{}
	for _, file := range goFiles(t, root) {
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(data, []byte("\n"))
		if lines > 500 {
			t.Errorf("%s has %d lines; split it by concept, 500 at most", file, lines)
		}
		if path.Base(file) == "main.go" && lines >= 60 {
			t.Errorf("%s has %d lines; a main is flags and signals, under 60", file, lines)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, data, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") {
			documented[path.Dir(file)] = documented[path.Dir(file)] || parsed.Doc != nil
		}
		for _, word := range []string{"util", "common", "types", "helpers", "manager"} {
			if parsed.Name.Name == word {
				t.Errorf("%s: a package is named for the noun it owns, not %q", file, word)
			}
		}
		if bytes.Contains(data, []byte("time.Sleep"+"(")) {
			t.Errorf("%s sleeps; use a timer and a context, or testing/synctest", file)
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// TestEveryDirectDependencyHasAReason wants one sentence beside each direct
// requirement in go.mod.
func TestEveryDirectDependencyHasAReason(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(moduleRoot(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = moduleRoot(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "\t"+r.Path+" ") })
		if i < 0 {
			t.Errorf("%s: not found in go.mod", r.Path)
			continue
		}
		if _, reason, _ := strings.Cut(lines[i], "//"); len(strings.Fields(reason)) < 3 {
			t.Errorf("go.mod: %s has no sentence of reason behind it", r.Path)
		}
	}
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// goFiles lists the module's Go files, relative to root, with slashes.
func goFiles(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(p, ".go") {
			files = append(files, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
