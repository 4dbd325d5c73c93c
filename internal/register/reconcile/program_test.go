package reconcile_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// What a program has parsed counts for that very program; any other build reads
// the files themselves, since its rules may be others.
func TestOnlyTheSameProgramTrustsWhatWasParsed(t *testing.T) {
	s := newSite(t)
	head := s.begin(2)
	const scan, edited = "Scan-to-email from a multifunction printer.", "This is what the same program parsed before."
	s.editLastGood(scan, edited[:len(scan)])
	purpose := func() string {
		e, _ := s.live.Load().Find(address(1))
		return e.Registration.Purpose
	}
	for program, want := range map[string]string{
		"this one":    edited[:len(scan)],
		"another one": scan,
		"":            scan,
	} {
		s.program = program
		s.restart()
		s.want(head, 1, 2)
		if got := purpose(); got != want {
			t.Errorf("program %q: %q, want %q", program, got, want)
		}
	}
	s.program = "another one"
	s.restart()
	s.write(printer(3), registration(3))
	head = s.commit()
	s.once()
	s.restart()
	s.want(head, 1, 2, 3)
	if got := purpose(); got != scan {
		t.Errorf("after the next commit: %q", got)
	}
}

// editLastGood replaces a text in the register on the disk by another of the
// same length, with a good sum. In quotation marks it is the file's own content,
// which is left as it is.
func (s *site) editLastGood(old, new string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "register.last-good")
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	line, body, _ := bytes.Cut(data, []byte("\n"))
	edited := bytes.ReplaceAll(body, []byte(old), []byte(new))
	edited = bytes.ReplaceAll(edited, []byte(`"`+new), []byte(`"`+old))
	if len(new) != len(old) || bytes.Equal(edited, body) {
		s.t.Fatalf("%q cannot be replaced by %q", old, new)
	}
	sum := sha256.Sum256(edited)
	line = append(line[:len(line)-2*len(sum)], hex.EncodeToString(sum[:])+"\n"...)
	if err := os.WriteFile(path, append(line, edited...), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
