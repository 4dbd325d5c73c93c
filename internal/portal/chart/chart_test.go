package chart

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 11, 25, 11, 3, 0, 0, time.UTC)

func charts() map[string]Chart {
	nan := math.NaN()
	accepted, refused := make([]float64, 60), make([]float64, 60)
	for i := range accepted {
		accepted[i], refused[i] = 40+30*math.Sin(float64(i)/7), float64(i%5)
	}
	copy(accepted[20:], []float64{nan, nan, 12, nan, nan})
	return map[string]Chart{
		"hour":    {ID: "hour", Title: "Mail of the last hour", Unit: "messages a minute", From: noon, Span: time.Minute, Series: []Series{{Name: "Accepted", Values: accepted}, {Name: "Refused", Values: refused}}},
		"day":     {ID: "day", Title: "Queue", Unit: "messages", From: noon, Span: 15 * time.Minute, Rows: 24, Series: []Series{{Name: "In the queue", Values: append(make([]float64, 95), 12_345), Peak: true}}},
		"nothing": {ID: "n", Title: "Nothing", Unit: "none", From: noon, Span: time.Minute, Series: []Series{{Name: "x", Values: []float64{nan, nan}}}},
		"empty":   {},
		"hostile": {ID: `"><script>`, Title: `</title><script>alert(1)</script>`, Unit: `"' onload=x`, From: noon, Span: -1,
			Series: []Series{{Name: "<b>&", Values: []float64{math.Inf(1), math.Inf(-1), -7, 1e300, 5e-324, 3}}}},
	}
}

func TestGolden(t *testing.T) {
	for name, c := range charts() {
		t.Run(name, func(t *testing.T) {
			got := string(c.HTML())
			sound(t, got)
			file := filepath.Join("testdata", name+".html")
			if *update {
				if err := os.WriteFile(file, []byte(got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got+"\n" != string(want) {
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
}

// sound holds what is made to its promises: it is well-formed, has no style, no
// script and no number that is none.
func sound(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = true
	ids := map[string]bool{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if e.Name.Local == "style" || e.Name.Local == "script" {
			t.Errorf("<%s> is in it", e.Name.Local)
		}
		for _, a := range e.Attr {
			switch {
			case a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on"):
				t.Errorf("%s=%q is in it", a.Name.Local, a.Value)
			case a.Name.Local == "id" && ids[a.Value]:
				t.Errorf("id %q is there twice", a.Value)
			case a.Name.Local == "d" && strings.ContainsAny(a.Value, "NIe"):
				t.Errorf("a path of %q", a.Value)
			case a.Name.Local == "id":
				ids[a.Value] = true
			}
		}
	}
}

func TestNumbers(t *testing.T) {
	for most, want := range map[float64]float64{0: 4, 1: 4, 4: 4, 5: 8, 9: 20, 39: 40, 41: 80, 100: 100, 101: 200, 12_345: 20_000, 1e15: 1e15} {
		if got := niceTop(most); got != want {
			t.Errorf("the axis of %v ends at %v, not %v", most, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 0.01: "below 0.1", 0.26: "0.3", 9.5: "9.5", 12.4: "12", 1234: "1,234", 1234567: "1,234,567"} {
		if got := plain(v); got != want {
			t.Errorf("%v is %q, not %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 2.5: "2.5", 1500: "1.5k", 2e6: "2M", 1e13: "10T"} {
		if got := short(v); got != want {
			t.Errorf("%v is %q, not %q", v, got, want)
		}
	}
	for whole, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, time.Hour: 15 * time.Minute, 24 * time.Hour: 6 * time.Hour, 7 * 24 * time.Hour: 24 * time.Hour, 1000 * 24 * time.Hour: 200 * 24 * time.Hour} {
		if got := stepOf(whole); got != want {
			t.Errorf("times over %v are %v apart, not %v", whole, got, want)
		}
	}
}

func FuzzChart(f *testing.F) {
	f.Add("id", "title", "unit", "name", 1.0, 2.0, math.Inf(1), 60, int64(time.Minute))
	f.Add("\x00", "<", "&", "\"", math.NaN(), -1.0, 1e308, 2000, int64(-1))
	f.Fuzz(func(t *testing.T, id, title, unit, name string, a, b, c float64, n int, span int64) {
		n = max(0, min(n, 3000))
		values := make([]float64, n)
		for i := range values {
			values[i] = []float64{a, b, c}[i%3]
		}
		clean := strings.NewReplacer("\x00", "").Replace // XML has no way to say these; HTML has
		for _, s := range []string{id, title, unit, name} {
			if err := xml.EscapeText(io.Discard, []byte(s)); err != nil || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > 0xD7FF }) {
				return
			}
		}
		sound(t, string(Chart{ID: id, Title: clean(title), Unit: unit, From: noon, Span: time.Duration(span), Series: []Series{{Name: name, Values: values}, {Name: name}}}.HTML()))
	})
}
