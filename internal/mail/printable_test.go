package mail

import "testing"

func TestPrintable(t *testing.T) {
	tests := []struct {
		name, in, want string
		max            int
	}{
		{"plain text stays", "user unknown", "user unknown", 100},
		{"a line end becomes a space", "one\r\ntwo", "one two", 100},
		{"spaces at the ends go", "  a  b  ", "a b", 100},
		{"terminal codes lose their escape", "\x1b[31mred", "[31mred", 100},
		{"NUL and DEL", "a\x00b\x7fc", "a b c", 100},
		{"text that turns the line around", "a\u202eb\u2028c", "a b c", 100},
		{"letters beyond ASCII stay", "Müller", "Müller", 100},
		{"broken UTF-8", "a\xffb", "a?b", 100},
		{"cut before a letter that does not fit", "ééé", "é", 4},
		{"nothing fits", "abc", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Printable(tt.in, tt.max); got != tt.want {
				t.Errorf("Printable(%q, %d) = %q, want %q", tt.in, tt.max, got, tt.want)
			}
		})
	}
}
