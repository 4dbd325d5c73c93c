package registration

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
)

// networksHead stands above the networks of a file that has none yet.
const networksHead = "// Which department holds which part of the address space.\n"

// ReplaceNetworks writes the networks of a file under campus/ anew, one line
// each in the order given, and keeps all else that the file says, its comments
// included. A comment above a network or behind it stays with it; those of
// networks that go are returned, as are those that belonged to no network. The
// result is laid out as FormatSource does. The same networks make the same
// text, whatever order they were in before. Data may be empty; if it is not
// data, or the result would be too large, the error is a *ProblemError.
func ReplaceNetworks(path string, data []byte, networks []Network) (out []byte, lost []string, err error) {
	r := &report{file: path}
	l := limitsOf(Kind(path))
	data, ok := plainText(data, r)
	if !ok || !bounded(data, l, r) {
		return nil, nil, &ProblemError{r.sorted()}
	}
	file, ok := parse(data, r, parser.ParseComments)
	if !ok || admit(file, l, r) == nil {
		return nil, nil, &ProblemError{r.sorted()}
	}
	field := networksField(file)
	remarks := remarksOf(field)
	var block bytes.Buffer
	block.WriteString("networks: {\n")
	for _, n := range networks {
		mine := remarks[n.Prefix]
		for _, line := range mine.above {
			block.WriteString("\t" + line + "\n")
		}
		fmt.Fprintf(&block, "\t%s: {department: %s, use: %s}%s\n", text(n.Prefix.String()), text(n.Department), text(n.Use), mine.behind)
	}
	block.WriteString("}")

	var b bytes.Buffer
	if field == nil {
		if b.Write(bytes.TrimRight(data, "\n")); b.Len() > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(networksHead)
		b.Write(block.Bytes())
		b.WriteByte('\n')
	} else {
		b.Write(data[:field.Pos().Offset()])
		b.Write(block.Bytes())
		b.Write(data[field.End().Offset():])
	}
	if out, err = FormatSource(path, b.Bytes()); err != nil {
		return nil, nil, err
	}
	if again, ok := parse(out, r, parser.ParseComments); ok {
		lost = without(comments(file), comments(again))
	}
	return out, lost, nil
}

// networksField is the field of that name at the top of a file, or nil. The
// gate has seen to it that there is one at most.
func networksField(file *ast.File) *ast.Field {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.Field); ok && labelText(f.Label) == "networks" {
			return f
		}
	}
	return nil
}

// labelText is the name of a field that the gate let through.
func labelText(l ast.Label) string {
	name, _ := (&gate{report: &report{}}).label(l)
	return name
}

// A remark is what people wrote at one network, in whole comments. There is
// room behind the entry for one; of more, all stand above.
type remark struct {
	above  []string
	behind string // with a space before it, or ""
}

// remarksOf collects the comments by the network they stand at.
func remarksOf(field *ast.Field) map[netip.Prefix]remark {
	all := map[netip.Prefix]remark{}
	if field == nil {
		return all
	}
	record, ok := field.Value.(*ast.StructLit)
	if !ok {
		return all
	}
	var above []string // that stand alone, above the next network
	for _, d := range record.Elts {
		switch d := d.(type) {
		case *ast.CommentGroup:
			above = append(above, linesOf(d)...)
		case *ast.Field:
			prefix, err := netip.ParsePrefix(labelText(d.Label))
			if err != nil {
				continue
			}
			m := remark{above: above}
			above = nil
			var after []string
			ast.Walk(d, func(n ast.Node) bool {
				for _, group := range ast.Comments(n) {
					if lines := linesOf(group); group.Pos().Offset() < d.Label.Pos().Offset() {
						m.above = append(m.above, lines...)
					} else {
						after = append(after, lines...)
					}
				}
				return true
			}, nil)
			if len(after) == 1 {
				m.behind = " " + after[0]
			} else {
				m.above = append(m.above, after...)
			}
			all[prefix] = m
		}
	}
	return all
}

func linesOf(g *ast.CommentGroup) []string {
	lines := make([]string, len(g.List))
	for i, c := range g.List {
		lines[i] = c.Text
	}
	return lines
}

// without is what of a sorted list is not in another one.
func without(all, others []string) []string {
	var left []string
	for _, s := range all {
		if i, found := slices.BinarySearch(others, s); found {
			others = slices.Delete(slices.Clone(others), i, i+1)
		} else if s != "" {
			left = append(left, s)
		}
	}
	return left
}
