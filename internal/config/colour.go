package config

import (
	"fmt"
	"math"
	"strconv"
)

// A Colour is one of sRGB: red, green and blue.
type Colour [3]uint8

// The ends of the scale, and what text stands on in the dark.
var (
	White = Colour{255, 255, 255}
	Black = Colour{0, 0, 0}
	Night = Colour{0x16, 0x18, 0x1c}
)

// readable is the contrast that text needs. WCAG 2.2 §1.4.3.
const readable = 4.5

// ParseColour reads "#rrggbb".
func ParseColour(s string) (Colour, bool) {
	if len(s) != 7 || s[0] != '#' {
		return Colour{}, false
	}
	n, err := strconv.ParseUint(s[1:], 16, 24)
	return Colour{uint8(n >> 16), uint8(n >> 8), uint8(n)}, err == nil
}

// String writes "#rrggbb".
func (c Colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2]) }

// luminance is the relative luminance of WCAG 2.2, from 0 to 1.
func (c Colour) luminance() float64 {
	var parts [3]float64
	for i, v := range c {
		if s := float64(v) / 255; s <= 0.04045 {
			parts[i] = s / 12.92
		} else {
			parts[i] = math.Pow((s+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*parts[0] + 0.7152*parts[1] + 0.0722*parts[2]
}

// Contrast is the contrast ratio of two colours, from 1 to 21. WCAG 2.2.
func (c Colour) Contrast(o Colour) float64 {
	a, b := c.luminance(), o.luminance()
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

// Ink is white or black, whichever can be read better on c; one of them always
// has a contrast of more than 4.5.
func (c Colour) Ink() Colour {
	if c.Contrast(White) >= c.Contrast(Black) {
		return White
	}
	return Black
}

// On is c as text on a background: c itself where it can be read there, else as
// much of black or white mixed in as it takes.
func (c Colour) On(background Colour) Colour {
	end := background.Ink()
	for part := range 101 {
		mixed := c.mix(end, float64(part)/100)
		if mixed.Contrast(background) >= readable {
			return mixed
		}
	}
	return end
}

func (c Colour) mix(o Colour, part float64) Colour {
	for i := range c {
		c[i] = uint8(math.Round(float64(c[i])*(1-part) + float64(o[i])*part))
	}
	return c
}
