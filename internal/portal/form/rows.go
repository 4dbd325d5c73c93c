package form

import (
	"encoding/csv"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/registration"
)

// Add is the form with one row more, of the kind of the last.
func (v Values) Add() Values {
	if len(v.Hosts) >= MaxHosts {
		v.Cut = append(slices.Clone(v.Cut), tooMany(len(v.Hosts)-1))
		return v
	}
	var h Host
	if n := len(v.Hosts); n > 0 {
		h.Kind = v.Hosts[n-1].Kind
	}
	v.Hosts = append(slices.Clone(v.Hosts), h)
	return v
}

// Remove is the form without its i-th row, from 0.
func (v Values) Remove(i int) Values {
	if i < 0 || i >= len(v.Hosts) {
		return v
	}
	v.Hosts = slices.Delete(slices.Clone(v.Hosts), i, i+1)
	if len(v.Hosts) == 0 {
		v.Hosts = []Host{{}}
	}
	return v
}

func tooMany(row int) Finding {
	return Finding{Field: RowField(row, RowIP), Rule: registration.RuleTooLarge,
		Message: fmt.Sprintf("a registration has at most %d machines", MaxHosts), Hint: "send this form, and another one for the rest"}
}

// Kinds are the kinds of machine, as in #Host.
func Kinds() []string {
	return []string{"printer", "scanner", "appliance", "server", "application", "sensor", "other"}
}

// Paste is the form with the machines of its list as rows, and without the list:
// a table out of a spreadsheet or a CSV file, or addresses one a line. Of each
// line the address, the name and the kind are taken, in whatever order, as far as
// they can be told apart; the heading of a table is left out. What makes no sense
// stays in the list, and what is over 64 machines, too; Cut says so.
func (v Values) Paste() Values {
	lines := strings.Split(strings.TrimPrefix(v.Pasted, "\ufeff"), "\n")
	hosts := slices.DeleteFunc(slices.Clone(v.Hosts), Host.Blank)
	kind := ""
	if len(v.Hosts) > 0 {
		kind = v.Hosts[len(v.Hosts)-1].Kind
	}
	var left []string
	odd, over := 0, 0
	comma := separator(lines)
	for i, line := range lines {
		h, ok := hostOf(cells(line, comma))
		switch {
		case strings.TrimSpace(line) == "":
		case !ok && i == 0 && len(lines) > 1 && !strings.ContainsAny(line, "0123456789"): // the heading
		case !ok:
			odd++
			left = append(left, line)
		case len(hosts) >= MaxHosts:
			over++
			left = append(left, line)
		default:
			if h.Kind == "" {
				h.Kind = kind
			}
			hosts = append(hosts, h)
		}
	}
	v.Cut = slices.Clone(v.Cut)
	if odd > 0 {
		v.Cut = append(v.Cut, Finding{Field: FieldPasted, Rule: registration.RuleBadIP,
			Message: fmt.Sprintf("%s left here: no address can be found in %s", were(odd), it(odd)),
			Hint:    `write one machine a line, such as "192.0.2.21, mfp1.example.edu, printer"`})
	}
	if over > 0 {
		f := tooMany(0)
		f.Field, f.Message = FieldPasted, fmt.Sprintf("%s left here: %s", were(over), f.Message)
		v.Cut = append(v.Cut, f)
	}
	if len(hosts) == 0 {
		hosts = []Host{{Kind: kind}}
	}
	v.Hosts, v.Pasted = hosts, strings.Join(left, "\n")
	return v
}

func were(n int) string {
	if n == 1 {
		return "one line is"
	}
	return fmt.Sprintf("%d lines are", n)
}

func it(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// separator is what stands between the cells of a table; 0 for blanks.
func separator(lines []string) rune {
	best, most := rune(0), 0
	for _, r := range "\t;,|" {
		n := 0
		for _, line := range lines {
			if strings.ContainsRune(line, r) {
				n++
			}
		}
		if n > most {
			best, most = r, n
		}
	}
	return best
}

// cells are those of one line of a table; quotes around a cell go.
func cells(line string, comma rune) []string {
	if comma == 0 {
		return strings.Fields(line)
	}
	r := csv.NewReader(strings.NewReader(line))
	r.Comma, r.LazyQuotes, r.TrimLeadingSpace = comma, true, true
	list, err := r.Read()
	if err != nil {
		list = strings.Split(line, string(comma))
	}
	if len(list) == 1 { // a line of another form, such as an address by itself
		return strings.Fields(list[0])
	}
	return list
}

// hostOf finds an address, a name and a kind among the cells of a line.
func hostOf(cells []string) (h Host, ok bool) {
	for _, cell := range cells {
		cell = strings.Trim(strings.TrimSpace(cell), `"'`)
		lower := strings.ToLower(cell)
		switch {
		case cell == "":
		case h.IP == "" && addressLike(cell):
			h.IP = cell
		case h.Kind == "" && slices.Contains(Kinds(), lower):
			h.Kind = lower
		case h.Name == "" && strings.Contains(cell, ".") && !strings.ContainsAny(cell, " @/"):
			h.Name = cell
		}
	}
	return h, h.IP != ""
}

// addressLike reports whether a cell is meant as an address, a mistyped one
// included: the rules will say what is wrong with it.
func addressLike(cell string) bool {
	if _, err := netip.ParseAddr(cell); err == nil {
		return true
	}
	if len(cell) > 64 || strings.Trim(cell, "0123456789abcdefABCDEF.:/-") != "" {
		return false
	}
	return strings.Count(cell, ".") == 3 && strings.Trim(cell, "0123456789./-") == "" || strings.Count(cell, ":") > 1
}
