// Package chart makes lines over time of numbers: inline SVG for a page, with
// the same in words for who cannot see it and as a table for who wants to read
// it.
//
// What it makes has no style and no script in it, only classes, so it keeps to
// the portal's content security policy and its colours follow the page's, in
// the dark as well; series differ by their dashes too. Everything that is text
// is escaped, and everything has a bound, so the values may come from anywhere.
//
// It is our own since no kept library fits, looked at in November 2026:
// github.com/go-analyze/charts (v0.6.4) and github.com/wcharczuk/go-chart/v2
// (v2.1.2, the last of 2024), of which the first is made, write style="…" into
// each shape, which the policy forbids, or one class name for all of a kind;
// neither has <title> and <desc>; both bring a font engine to measure text that
// the browser sets in another font. gonum.org/v1/plot draws presentation
// attributes and fonts too. A line over time is 200 lines.
package chart

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds; what is beyond is left out.
const (
	MaxSeries = 6
	MaxValues = 1000
)

// The drawing, in its own units: a phone shows them at about their size.
const (
	width, height      = 400.0, 190.0
	left, right        = 44.0, 8.0 // of the plot, from the edges
	top, bottom        = 10.0, 26.0
	plotWide, plotHigh = width - left - right, height - top - bottom
)

// A Chart is some series over the same time.
type Chart struct {
	ID     string // unique on its page; letters, digits and hyphens
	Title  string // "Mail of the last hour"
	Unit   string // "messages a minute"
	From   time.Time
	Span   time.Duration // of one value
	Series []Series
	Rows   int // of the table, at most; 0: 12
}

// A Series is one line.
type Series struct {
	Name   string
	Values []float64 // one for each Span since From; NaN: nobody knows
	Peak   bool      // the table has the highest of several values, not their mean
}

// HTML is the chart: a figure with the drawing, a legend and the table.
func (c Chart) HTML() template.HTML {
	c = c.bounded()
	top := niceTop(c.highest())
	var b strings.Builder
	fmt.Fprintf(&b, `<figure class="figure"><figcaption>%s <span class="soft">%s</span></figcaption>`, esc(c.Title), esc(c.Unit))
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %s %s" role="img" aria-labelledby="%s-t %s-d">`, num(width), num(height), c.ID, c.ID)
	fmt.Fprintf(&b, `<title id="%s-t">%s, %s</title><desc id="%s-d">%s</desc>`, c.ID, esc(c.Title), esc(c.Unit), c.ID, esc(c.words()))
	c.drawAxes(&b, top)
	for i, s := range c.Series {
		if len(c.Series) == 1 {
			fmt.Fprintf(&b, `<path class="area s%d" d="%s"/>`, i+1, c.path(s.Values, top, true))
		}
		fmt.Fprintf(&b, `<path class="line s%d" d="%s"/>`, i+1, c.path(s.Values, top, false))
	}
	b.WriteString(`</svg>`)
	c.legend(&b)
	c.table(&b)
	b.WriteString(`</figure>`)
	return template.HTML(b.String())
}

// bounded is the chart with what a drawing can hold, and numbers that are
// numbers.
func (c Chart) bounded() Chart {
	c.ID = strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, c.ID)
	c.Span = max(c.Span, time.Second)
	list := c.Series[:min(len(c.Series), MaxSeries)]
	c.Series = make([]Series, len(list))
	for i, s := range list {
		values := make([]float64, min(len(s.Values), MaxValues))
		for j := range values {
			values[j] = s.Values[j]
			if math.IsInf(values[j], 0) || values[j] > 1e15 {
				values[j] = math.NaN()
			}
			values[j] = math.Max(0, values[j]) // NaN stays
		}
		s.Values = values
		c.Series[i] = s
	}
	if c.Rows <= 0 {
		c.Rows = 12
	}
	return c
}

// n is the number of values.
func (c Chart) n() (n int) {
	for _, s := range c.Series {
		n = max(n, len(s.Values))
	}
	return n
}

func (c Chart) highest() (most float64) {
	for _, s := range c.Series {
		for _, v := range s.Values {
			if v > most { // not so of NaN
				most = v
			}
		}
	}
	return most
}

// niceTop is where the axis ends: 1, 2 or 5 of a power of ten, or four times
// such a number, so that the quarters below it are round.
func niceTop(most float64) float64 {
	if most <= 4 {
		return 4
	}
	for p := math.Pow(10, math.Floor(math.Log10(most/4))); ; p *= 10 {
		for _, m := range []float64{1, 2, 2.5, 5} {
			if q := m * p; q == math.Trunc(q) && 4*q >= most {
				return 4 * q
			}
		}
	}
}

// x is where the middle of a value is.
func (c Chart) x(i int) float64 {
	return left + plotWide*(float64(i)+0.5)/float64(max(1, c.n()))
}

func y(v, most float64) float64 { return top + plotHigh*(1-v/most) }

// drawAxes draws the lines of the quarters with their numbers, and the times.
func (c Chart) drawAxes(b *strings.Builder, most float64) {
	for i := range 5 {
		v := most * float64(i) / 4
		class := "grid"
		if i == 0 {
			class = "axis"
		}
		fmt.Fprintf(b, `<path class="%s" d="M%s %sH%s"/>`, class, num(left), num(y(v, most)), num(width-right))
		fmt.Fprintf(b, `<text class="label end" x="%s" y="%s">%s</text>`, num(left-5), num(y(v, most)+4), short(v))
	}
	whole := time.Duration(c.n()) * c.Span
	step := stepOf(whole)
	for t := c.From.UTC().Truncate(step).Add(step); t.Before(c.From.Add(whole)); t = t.Add(step) {
		at := left + plotWide*float64(t.Sub(c.From))/float64(whole)
		fmt.Fprintf(b, `<path class="axis" d="M%s %sv4"/>`, num(at), num(top+plotHigh))
		if at > left+12 && at < width-right-12 {
			fmt.Fprintf(b, `<text class="label middle" x="%s" y="%s">%s</text>`, num(at), num(height-8), t.Format(clockOf(step)))
		}
	}
}

// stepOf is how far times on the axis are apart: five of them at most.
func stepOf(whole time.Duration) time.Duration {
	for _, step := range []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour} {
		if whole/step <= 5 {
			return step
		}
	}
	return max(24*time.Hour, (whole / 5).Truncate(24*time.Hour))
}

// clockOf is how a time on the axis is written.
func clockOf(step time.Duration) string {
	if step >= 24*time.Hour {
		return "2 Jan"
	}
	return "15:04"
}

// path is the line through the values, broken where nobody knows one; a value
// alone is a dot. With area it is closed along the axis.
func (c Chart) path(values []float64, most float64, area bool) string {
	var b strings.Builder
	for i := 0; i < len(values); i++ {
		if math.IsNaN(values[i]) {
			continue
		}
		begin := i
		fmt.Fprintf(&b, "M%s %s", num(c.x(i)), num(y(values[i], most)))
		for i+1 < len(values) && !math.IsNaN(values[i+1]) {
			i++
			fmt.Fprintf(&b, "L%s %s", num(c.x(i)), num(y(values[i], most)))
		}
		switch {
		case area:
			fmt.Fprintf(&b, "V%sH%sZ", num(top+plotHigh), num(c.x(begin)))
		case begin == i:
			b.WriteString("h0")
		}
	}
	return b.String()
}

// legend says which line is which, where there are several.
func (c Chart) legend(b *strings.Builder) {
	if len(c.Series) < 2 {
		return
	}
	b.WriteString(`<ul class="legend">`)
	for i, s := range c.Series {
		fmt.Fprintf(b, `<li><svg class="key" viewBox="0 0 26 8" aria-hidden="true"><path class="line s%d" d="M1 4H25"/></svg>%s</li>`, i+1, esc(s.Name))
	}
	b.WriteString(`</ul>`)
}

// words are the chart in a sentence for each series.
func (c Chart) words() string {
	var out []string
	for _, s := range c.Series {
		last, most, at, sum, n := math.NaN(), 0.0, -1, 0.0, 0
		for i, v := range s.Values {
			if math.IsNaN(v) {
				continue
			}
			if last = v; at < 0 || v > most {
				most, at = v, i
			}
			sum += v
			n++
		}
		if n == 0 {
			out = append(out, s.Name+": nothing is known yet.")
			continue
		}
		out = append(out, fmt.Sprintf("%s: %s at the end, %s on average, at most %s at %s.", s.Name, plain(last), plain(sum/float64(n)), plain(most), c.at(at).Format("15:04 UTC")))
	}
	return strings.Join(out, " ")
}

func (c Chart) at(i int) time.Time { return c.From.Add(time.Duration(i) * c.Span).UTC() }

// table has the numbers, some values in one row.
func (c Chart) table(b *strings.Builder) {
	n := c.n()
	if n == 0 {
		return
	}
	each := (n + c.Rows - 1) / c.Rows
	fmt.Fprintf(b, `<details id="%s-n"><summary>The numbers</summary><div class="scroll" tabindex="0" role="group" aria-label="%s, the numbers"><table><caption class="hidden">%s, %s</caption><thead><tr><th scope="col">From (UTC)</th>`, c.ID, esc(c.Title), esc(c.Title), esc(c.Unit))
	for _, s := range c.Series {
		fmt.Fprintf(b, `<th scope="col" class="number">%s</th>`, esc(s.Name))
	}
	b.WriteString(`</tr></thead><tbody>`)
	for i := 0; i < n; i += each {
		fmt.Fprintf(b, `<tr><th scope="row">%s</th>`, c.at(i).Format("15:04"))
		for _, s := range c.Series {
			fmt.Fprintf(b, `<td class="number">%s</td>`, plain(s.over(i, i+each)))
		}
		b.WriteString(`</tr>`)
	}
	b.WriteString(`</tbody></table></div></details>`)
}

// over is one number for the values from i to j: their mean, or the highest.
func (s Series) over(i, j int) float64 {
	sum, most, n := 0.0, 0.0, 0
	for ; i < min(j, len(s.Values)); i++ {
		if v := s.Values[i]; !math.IsNaN(v) {
			sum, most, n = sum+v, math.Max(most, v), n+1
		}
	}
	switch {
	case n == 0:
		return math.NaN()
	case s.Peak:
		return most
	}
	return sum / float64(n)
}

func esc(s string) string { return html.EscapeString(s) }

// num is a number of the drawing.
func num(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// plain is a number for people; "–" where nobody knows.
func plain(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v > 0 && v < 0.1:
		return "below 0.1"
	case v < 10:
		return num(v)
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short is a number beside the axis.
func short(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= u.size {
			return strings.TrimSuffix(strconv.FormatFloat(v/u.size, 'f', 1, 64), ".0") + u.name
		}
	}
	return num(v)
}
