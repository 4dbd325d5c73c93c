package registration

import (
	"bytes"
	"errors"
	"testing"
)

func seeds(f *testing.F) {
	for _, file := range cases(f) {
		src := caseSource(f, file)
		if len(src.Data) <= 4<<10 { // small ones are the better seeds
			f.Add(src.Path, src.Data)
		}
	}
}

// FuzzParse: Parse never panics, says where and why, and what it accepts means
// the same after Format.
func FuzzParse(f *testing.F) {
	seeds(f)
	p := newParser(f, "")
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		file := p.Parse(Source{Path: path, Size: int64(len(data)), Data: data})
		checkFile(t, file)
		for _, problem := range file.Problems {
			if bytes.Contains([]byte(problem.Message), []byte("cannot be judged")) {
				t.Fatal(problem)
			}
		}
		if file.Registration != nil {
			roundTrip(t, p, file.Registration)
		}
	})
}

// FuzzFormatSource: formatting twice changes nothing, keeps the meaning, and
// refuses the same files as Parse.
func FuzzFormatSource(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		out, err := FormatSource(path, data)
		r := &report{file: path}
		n := read(data, limitsOf(Kind(path)), r)
		var problems *ProblemError
		if err != nil {
			if errors.As(err, &problems) && n != nil {
				t.Fatalf("data was refused: %v", err)
			}
			return
		}
		again, err := FormatSource(path, out)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("not settled: %v\n%q\n%q", err, out, again)
		}
		if n == nil || !n.same(read(out, limitsOf(Kind(path)), r)) {
			t.Fatalf("the meaning has changed:\n%q\n%q", data, out)
		}
	})
}
