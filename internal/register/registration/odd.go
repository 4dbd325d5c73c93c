package registration

import "strings"

// ParseOdd is Parse for a file whose name may be odd: odd says why the name
// cannot be trusted to mean the same file everywhere, "" for nearly every file;
// unusable, that it is no valid path at all, and then the content is not read.
// The relay and the command line both come through here, so that they say the
// same of the same name.
func (p *Parser) ParseOdd(src Source, odd string, unusable bool) *File {
	problem := Problem{
		File: src.Path, Rule: RulePath, Severity: Warning,
		Message: odd, Hint: "rename one of the two: on some computers they are one file",
	}
	switch {
	case unusable:
		problem.Severity, problem.Hint = Error, "rename the file: letters, digits, hyphens and dots work everywhere"
		return &File{Path: src.Path, Problems: []Problem{problem}}
	case odd == "":
		return p.Parse(src)
	}
	f := *p.Parse(src)
	f.Problems = append([]Problem{problem}, f.Problems...)
	return &f
}

// Twins tells of each path of a sorted list that is like an earlier one but for
// its case: on a Mac or under Windows the two are one file. tell gets its place
// in the list and what is odd about it, for ParseOdd.
func Twins(n int, path func(i int) string, tell func(i int, odd string)) {
	first := make(map[string]int, n)
	for i := range n {
		folded := strings.ToLower(path(i))
		if j, taken := first[folded]; taken {
			tell(i, "the name differs only in case from "+path(j))
			continue
		}
		first[folded] = i
	}
}
