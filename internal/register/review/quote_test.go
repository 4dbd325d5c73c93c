package review

import (
	"strings"
	"testing"
)

// FuzzQuote: nothing that somebody writes ends the block that it stands in.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "```", "a\n````\nb", "~~~", "\r", "\t```", "\u2028```", strings.Repeat("`", 50)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lines := strings.Split(strings.TrimSuffix(Quote(s), "\n"), "\n")
		fence := strings.TrimSuffix(lines[0], "text")
		if len(lines) < 3 || strings.Trim(fence, "`") != "" || len(fence) < 3 || lines[len(lines)-1] != fence {
			t.Fatalf("%q", lines)
		}
		for _, l := range lines[1 : len(lines)-1] {
			if strings.Contains(l, fence) || strings.ContainsAny(l, "\r\t\u2028\u2029") {
				t.Fatalf("%q leaves the block %q", l, fence)
			}
		}
	})
}
