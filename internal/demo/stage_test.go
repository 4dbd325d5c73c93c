package demo

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// TestUniversity: the demo's register has no fault, looks as gatepost fmt writes
// it, and has what the tour tells of.
func TestUniversity(t *testing.T) {
	parser, err := registration.NewParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"registrations/campus/campus.cue": campusCUE, "registrations/blocks/nmr.cue": blockCUE(today()), scanner.path(): scanner.cue(today())}
	for _, r := range requests {
		files[r.path()] = r.cue(today())
	}
	var parsed []*registration.File
	for path, text := range files {
		parsed = append(parsed, parser.Parse(registration.Source{Path: path, Size: int64(len(text)), Data: []byte(text)}))
		if formatted, err := registration.FormatSource(path, []byte(text)); err != nil || !bytes.Equal(formatted, []byte(text)) {
			t.Errorf("%s is not as gatepost fmt writes it (%v):\n%s", path, err, formatted)
		}
	}
	snapshot, problems := policy.Build(parsed, policy.Options{Now: today(), Commit: "demo"})
	for _, p := range problems {
		if p.Rule != registration.RuleIPBlocked { // a warning, since one of them is blocked
			t.Errorf("%s", p)
		}
	}
	if snapshot == nil {
		t.Fatal("there is no register")
	}
}

// TestConfigurations: the relay and the portal take theirs without a warning.
func TestConfigurations(t *testing.T) {
	dir := t.TempDir()
	repository := filepath.Join(dir, "register.git")
	if err := os.MkdirAll(repository, 0o700); err != nil {
		t.Fatal(err)
	}
	s := stage{dir: dir, repository: repository, nextHop: free(t), door: free(t), o: Options{Relay: free(t), Submission: free(t), Status: free(t), Portal: free(t)}}
	relay, portal, err := s.configure()
	if err != nil {
		t.Fatal(err)
	}
	r, err := config.LoadRelay(relay)
	if err != nil {
		t.Fatal(err)
	}
	p, err := config.LoadPortal(portal)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings)+len(p.Warnings) > 0 {
		t.Errorf("%v %v", r.Warnings, p.Warnings)
	}
	if len(p.SignIn.Development.People) != len(people) {
		t.Errorf("%v", p.SignIn.Development.People)
	}
}
