package review

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes text from outside safe to show on one line of a terminal, a
// log or a page: control characters, line ends, bidirectional overrides and
// bytes that are not UTF-8 are written as Go escapes, and so is the second of
// two number signs, since "##[…]" and "##vso[…]" are commands to the runners of
// workflows wherever they stand in a line.
func Printable(s string) string {
	return strings.ReplaceAll(visible(s), "##", `#\x23`)
}

func visible(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !hidden(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[size:]
	}
	return b.String()
}

// hidden reports whether r is anything but a mark to be seen or a plain space.
func hidden(r rune) bool {
	return r == utf8.RuneError || r != ' ' && !unicode.IsGraphic(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}

// span is s as a code span of Markdown. That is the one place where the forge
// makes nothing of what it finds: no markup, HTML, link, mention or reference. It
// cannot be left, as every backtick is shown as an apostrophe.
func span(s string) string {
	s = strings.ReplaceAll(Printable(s), "`", "'")
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// code is s as a code span in a cell of a table, which it cannot leave either, as
// every pipe is escaped.
func code(s string) string { return strings.ReplaceAll(span(s), "|", "\\|") }

// Span is any text as a code span, for a line of Markdown.
func Span(s string) string { return span(s) }

// Cell is any text as a code span, for a cell of a table.
func Cell(s string) string { return code(s) }

// Quote is what somebody wrote, of several lines, as a block of code, where the
// forge makes nothing of it: no markup, HTML, link, mention or reference. The
// block cannot be left, as its fence is longer than any run of backticks within.
func Quote(s string) string {
	longest, run := 2, 0
	for _, r := range s {
		if r != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	fence := strings.Repeat("`", longest+1)
	var b strings.Builder
	b.WriteString(fence + "text\n")
	for line := range strings.SplitSeq(strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n"), "\n") {
		b.WriteString(Printable(strings.ReplaceAll(line, "\t", "    ")) + "\n")
	}
	return b.String() + fence + "\n"
}

// Count is "1 address" or "1,234 addresses".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Thousands(n) + " " + many
}

// Thousands is n with commas.
func Thousands(n int) string {
	if n < 0 {
		return "-" + Thousands(-n)
	}
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", Thousands(n/1000), n%1000)
}
