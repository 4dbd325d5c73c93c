package form_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/cli"
	"example.edu/gatepost/internal/portal/form"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

const campus = `campus: ["192.0.2.0/24"]
networks: "192.0.2.0/24": {department: "lab", use: "static"}
departments: lab: {name: "Lab", speakers: [{github: "a", id: 1}], contactDomains: ["lab.example"]}
`

// What a form makes is accepted by the command that a postmaster and CI run,
// whatever texts are in it.
func TestGatepostCheckAccepts(t *testing.T) {
	dir := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		at := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("registrations/campus/all.cue", campus)
	base, err := review.NewBase(t.Context(), review.Tree{Sources: []review.Source{{
		Source: registration.Source{Path: "registrations/campus/all.cue", Size: int64(len(campus)), Data: []byte(campus)}}}}, time.Now(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, text := range []string{
		"plain", `"}`, "]\n}\nhosts: []", `\(x) \u0000 \`, "// no comment\n/* nor this */", `#"""#`, "<script>{{.}}</script>", "${jndi:x} $(id) `id`", "Ünïcödé 物理 😀", "tab\tand\nline", "true", "_|_", "int & >0", "a: b, c: {}", "x\"\n\tdevice: {bareLF: \"fix\"}",
	} {
		accepted++
		v := form.Values{
			Department: "lab", ContactName: "IT " + strings.NewReplacer("\n", " ", "\t", " ").Replace(text), ContactEmail: "it@lab.example", Purpose: "For what? " + text, WhyNoAuth: "Why not? " + text,
			Hosts:   []form.Host{{IP: fmt.Sprintf("192.0.2.%d", accepted), Name: "m.lab.example", Kind: "printer", TLS: "legacy"}},
			PerHour: "1", PerDay: "2", Expires: time.Now().UTC().AddDate(1, 0, 0).Format(time.DateOnly), Comment: text,
			Accept: registration.Accept{Policies: true, NotBulk: true, NotWorkstation: true, NoMailServer: true},
		}
		j, err := form.Judge(base, v, form.Options{Now: time.Now()})
		if err != nil || !j.Fine() {
			t.Fatalf("%q: %v, %+v", text, err, j.Findings)
		}
		put(strings.Replace(j.Path, "m.cue", fmt.Sprintf("m%d.cue", accepted), 1), string(j.Text))
	}
	var out, errs bytes.Buffer
	if code := cli.Main(t.Context(), cli.Options{Args: []string{"check", "-C", dir}, Stdout: &out, Stderr: &errs, Now: time.Now}); code != 0 {
		t.Errorf("gatepost check is %d\n%s%s", code, &out, &errs)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "registrations", "lab")); err != nil || len(entries) != accepted {
		t.Errorf("%d files of %d: %v", len(entries), accepted, err)
	}
}
