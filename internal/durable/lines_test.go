package durable

import (
	"errors"
	"slices"
	"testing"
)

func TestDecodeLines(t *testing.T) {
	type head struct {
		Version int    `json:"version"`
		What    string `json:"what"`
	}
	first := head{1, "a test"}
	const line = `{"version":1,"what":"a test"}`
	refused := errors.New("refused")
	for text, want := range map[string]struct {
		lines []int
		ok    bool
	}{
		line:                                  {nil, true},
		line + "\n1\n2\n":                     {[]int{1, 2}, true},
		line + "\n1\nx":                       {[]int{1}, false},
		line + "\n1\n13\n2":                   {[]int{1}, false}, // take refuses it
		"":                                    {nil, false},
		`{"version":2,"what":"a test"}` + "1": {nil, false},
		`{"version":1,"what":"other"}` + "1":  {nil, false},
	} {
		var got []int
		err := DecodeLines([]byte(text), first, func(n int) error {
			if n == 13 {
				return refused
			}
			got = append(got, n)
			return nil
		})
		if (err == nil) != want.ok || !slices.Equal(got, want.lines) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
