package reconcile_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// What a program has parsed counts for that very program; any other build reads
// the files themselves, since its rules may be others.
func TestOnlyTheSameProgramTrustsWhatWasParsed(t *testing.T) {
	s := newSite(t)
	head := s.begin(2)
	s.editLastGood(`"Purpose":"Scan-to-email from a multifunction printer."`, `"Purpose":"as parsed by this one"`)
	purpose := func() string {
		e, _ := s.live.Load().Find(address(1))
		return e.Registration.Purpose
	}
	for program, want := range map[string]string{
		"this one":    "as parsed by this one",
		"another one": "Scan-to-email from a multifunction printer.",
		"":            "Scan-to-email from a multifunction printer.",
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
	if got := purpose(); got != "Scan-to-email from a multifunction printer." {
		t.Errorf("after the next commit: %q", got)
	}
}

// editLastGood replaces a text in the register on the disk, with a good sum.
func (s *site) editLastGood(old, new string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "register.last-good")
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	line, body, _ := bytes.Cut(data, []byte("\n"))
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		s.t.Fatalf("%q is not in the file", old)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err = w.Write(bytes.ReplaceAll(text, []byte(old), []byte(new)))
	if err := errors.Join(err, w.Close()); err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(out.Bytes())
	line = append(line[:len(line)-2*len(sum)], hex.EncodeToString(sum[:])+"\n"...)
	if err := os.WriteFile(path, append(line, out.Bytes()...), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
