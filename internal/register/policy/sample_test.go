package policy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

const root = "../../.."

// readRegister parses the register of the repository at dir.
func readRegister(t *testing.T, dir string) []*registration.File {
	t.Helper()
	p, err := registration.NewParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	return parseRegister(t, p, filepath.Join(dir, "registrations"))
}

// parseRegister parses the files below dir as those of registrations/.
func parseRegister(t *testing.T, p *registration.Parser, dir string) []*registration.File {
	t.Helper()
	var files []*registration.File
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		files = append(files, p.Parse(registration.Source{Path: "registrations/" + name, Mode: registration.Regular, Size: int64(len(data)), Data: data}))
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
		seen["commands "+e.Host.Device.Commands] = true
		seen["addHeaders "+strconv.FormatBool(e.Host.Device.AddHeaders)] = true
		seen["senders "+strconv.FormatBool(len(e.Registration.Senders) > 0)] = true
		seen["IPv6 "+strconv.FormatBool(ip.Is6())] = true
		registrations[e.Registration.Path] = true
	}
	for _, want := range []string{
		"kind printer", "kind scanner", "kind appliance", "kind server", "kind application", "kind sensor", "kind other",
		"bareLF reject", "bareLF fix", "tls modern", "tls legacy", "tls off", "commands strict", "commands sloppy", "addHeaders true", "addHeaders false",
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

// Every rule has a section in registrations/README.md that says what it means,
// shows a line that breaks it and says how to mend that, and every section is
// about a rule: "gatepost check" points there.
func TestReadmeHasASectionForEveryRule(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "registrations", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[registration.Rule]string{}
	for part := range strings.SplitSeq(string(text), "\n### ") {
		rule, body, _ := strings.Cut(part, "\n")
		sections[registration.Rule(rule)], _, _ = strings.Cut(body, "\n## ")
	}
	delete(sections, registration.Rule(strings.SplitN(string(text), "\n", 2)[0])) // what stands before the first
	for _, r := range registration.Rules() {
		body, ok := sections[r]
		meaning, rest, shown := strings.Cut(strings.TrimSpace(body), "\n\n    registrations/")
		example, mend, _ := strings.Cut(rest, "\n\n")
		switch {
		case !ok:
			t.Errorf("no section ### %s", r)
		case len(meaning) < 20:
			t.Errorf("### %s does not say what it means", r)
		case !shown || !strings.Contains(example, ": "+string(r)+": "):
			t.Errorf("### %s shows no line that breaks it", r)
		case !strings.HasPrefix(mend, "To mend it, "):
			t.Errorf("### %s does not say how to mend it", r)
		}
		delete(sections, r)
	}
	for s := range sections {
		t.Errorf("section ### %s is about no rule", s)
	}
}
