package page

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
)

// functions are what templates may call.
func (p *Pages) functions() template.FuncMap {
	return template.FuncMap{
		"asset": p.asset,
		"when":  when,
		"day":   func(t time.Time) string { return t.UTC().Format("2 January 2006") },
		"ago":   ago,
		"count": count,
		"join":  strings.Join,
		"list":  func(s ...string) []string { return s },
		"under": func(at, page string) bool { return at == page || strings.HasPrefix(at, page+"/") },
		"add":   func(a, b int) int { return a + b },
		"mail":  func(address string) template.URL { return template.URL("mailto:" + strings.Map(mailable, address)) },
	}
}

// mailable drops what would end a mailto URL's address.
func mailable(r rune) rune {
	if strings.ContainsRune("?&#% \"<>\r\n", r) {
		return -1
	}
	return r
}

// when is a moment as a machine and as a person reads it.
func when(t time.Time) template.HTML {
	if t.IsZero() {
		return "never"
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.Format(time.RFC3339), t.Format("2 Jan 2006, 15:04 UTC")))
}

// ago is how long something took or is past, in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " hours"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + " days"
}

// count is a number with its noun.
func count(n int, one, many string) string {
	noun := many
	if n == 1 {
		noun = one
	}
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0 && n >= 10_000; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits + " " + noun
}
