package program

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTwoBuildsHaveTwoNames(t *testing.T) {
	if os.Getenv("TELL_ID") != "" {
		os.Stdout.WriteString("id=" + ID() + "\n")
		return
	}
	if linked() == "" {
		t.Error("this build has no name of the linker's")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tell := func(path string) string {
		cmd := exec.CommandContext(t.Context(), path, "-test.run", "TestTwoBuildsHaveTwoNames")
		cmd.Env = append(os.Environ(), "TELL_ID=1")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		_, id, _ := strings.Cut(string(out), "id=")
		id, _, _ = strings.Cut(id, "\n")
		return id
	}
	copied := filepath.Join(t.TempDir(), "copy")
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if a, b := tell(self), tell(copied); a == "" || a != b || a != ID() {
		t.Errorf("one build under two paths is %q and %q", a, b)
	}
	// Another build: the same program, whose note of the linker says otherwise.
	i := strings.Index(string(data), "Go build ID: ")
	note := strings.LastIndex(string(data[:min(len(data), 8192)]), "Go\x00\x00")
	if note < 0 {
		note = i
	}
	data[note+8] ^= 1
	if err := os.WriteFile(copied, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if a, b := tell(self), tell(copied); a == b {
		t.Errorf("two builds are %q", a)
	}
}
