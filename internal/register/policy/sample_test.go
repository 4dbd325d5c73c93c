package policy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

const root = "../../.."

// readRegister parses the register below dir.
func readRegister(t *testing.T, dir string) []*registration.File {
	t.Helper()
	p, err := registration.NewParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	var files []*registration.File
	err = fs.WalkDir(os.DirFS(dir), "registrations", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		files = append(files, p.Parse(registration.Source{Path: name, Mode: registration.Regular, Size: int64(len(data)), Data: data}))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The sample register is what a department copies from: it has no problem, and
// shows every kind of machine and every device setting.
func TestSampleRegisterIsClean(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	files := readRegister(t, root)
	s, problems := policy.Build(files, policy.Options{Commit: "sample", Now: now})
	for _, p := range problems {
		t.Errorf("%v (%s)", p, p.Hint)
	}

	seen := map[string]bool{}
	registrations := map[string]bool{}
	for ip, e := range s.All() {
		if v := s.Lookup(ip, now); v.Standing != policy.Registered {
			t.Errorf("%s is %v", ip, v.Standing)
		}
		seen["kind "+e.Host.Kind] = true
		seen["bareLF "+e.Host.Device.BareLF] = true
		seen["tls "+e.Host.Device.TLS] = true
		seen["addHeaders "+strconv.FormatBool(e.Host.Device.AddHeaders)] = true
		seen["senders "+strconv.FormatBool(len(e.Registration.Senders) > 0)] = true
		seen["IPv6 "+strconv.FormatBool(ip.Is6())] = true
		registrations[e.Registration.Path] = true
	}
	for _, want := range []string{
		"kind printer", "kind scanner", "kind appliance", "kind server", "kind application", "kind sensor", "kind other",
		"bareLF reject", "bareLF fix", "tls modern", "tls legacy", "tls off", "addHeaders true", "addHeaders false",
		"senders true", "senders false", "IPv6 true", "IPv6 false",
	} {
		if !seen[want] {
			t.Errorf("the sample does not show %q", want)
		}
	}
	for h := range s.Networks() {
		seen["use "+h.Use] = true
	}
	for _, use := range []string{"static", "dhcp", "wireless", "vpn", "residence", "nat"} {
		if !seen["use "+use] {
			t.Errorf("no network is used for %q", use)
		}
	}
	if len(registrations) < 20 || len(s.Blocks()) == 0 || s.Len() < 40 {
		t.Errorf("%d registrations, %d addresses, %d blocks", len(registrations), s.Len(), len(s.Blocks()))
	}
}

// Every rule has a section in registrations/README.md, and every section is
// about a rule: "gatepost check" points there.
func TestReadmeHasASectionForEveryRule(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "registrations", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^### ([a-z-]+)\n").FindAllSubmatch(text, -1) {
		sections[string(m[1])] = true
	}
	rules := ruleConstants(t)
	if len(rules) < 21 {
		t.Fatalf("only %d rules found", len(rules))
	}
	for _, r := range rules {
		if !sections[r] {
			t.Errorf("no section ### %s", r)
		}
		delete(sections, r)
	}
	for s := range sections {
		t.Errorf("section ### %s is about no rule", s)
	}
}

// ruleConstants reads the Rule constants from the source: no list of them can
// be forgotten.
func ruleConstants(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path.Join(root, "internal/register/registration/problem.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Rule") {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				rules = append(rules, s)
			}
		}
		return true
	})
	return rules
}
