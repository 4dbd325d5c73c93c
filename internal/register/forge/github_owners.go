package forge

import (
	"regexp"
	"slices"
	"strings"
)

// owners is what CODEOWNERS says: of the lines that match a path, the last one
// decides.
type owners []ownersLine

type ownersLine struct {
	matches *regexp.Regexp // nil: a pattern of a kind that is not read here
	names   []string       // "@org/team", "@login" or an address; none: it is nobody's
}

// parseOwners reads CODEOWNERS. What GitHub finds wrong with it is GitHub's to
// say (OwnersErrors).
func parseOwners(data []byte) owners {
	var out owners
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		out = append(out, ownersLine{ownersPattern(words[0]), words[1:]})
	}
	return out
}

// ownersPattern is a pattern of CODEOWNERS, which is one of .gitignore but for
// "[ ]", "!" and "\", and but for a star at the end, which goes no deeper.
func ownersPattern(p string) *regexp.Regexp {
	if strings.ContainsAny(p, `[]!\`) {
		return nil
	}
	body := strings.TrimPrefix(p, "/")
	var b strings.Builder
	b.WriteString("^")
	if body == p && !strings.Contains(strings.TrimSuffix(p, "/"), "/") {
		b.WriteString("(.*/)?") // a name anywhere
	}
	for rest := body; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "**/"):
			b.WriteString("(.*/)?")
			rest = rest[3:]
		case strings.HasPrefix(rest, "**"):
			b.WriteString(".*")
			rest = rest[2:]
		case rest[0] == '*':
			b.WriteString("[^/]*")
			rest = rest[1:]
		case rest[0] == '?':
			b.WriteString("[^/]")
			rest = rest[1:]
		default:
			b.WriteString(regexp.QuoteMeta(rest[:1]))
			rest = rest[1:]
		}
	}
	switch {
	case body == "*" && body == p, strings.HasSuffix(body, "/"):
		b.WriteString(".*")
	case strings.HasSuffix(p, "/*"):
	default:
		b.WriteString("(/.*)?")
	}
	re, err := regexp.Compile(b.String() + "$")
	if err != nil {
		return nil
	}
	return re
}

// of is who owns a path, and whether that can be told.
func (o owners) of(path string) (names []string, known bool) {
	for _, line := range slices.Backward(o) {
		if line.matches == nil {
			return nil, false
		}
		if line.matches.MatchString(path) {
			return line.names, true
		}
	}
	return nil, true
}

// teams are the slugs of an organisation's teams that are named anywhere.
func (o owners) teams(org string) []string {
	var out []string
	for _, line := range o {
		for _, name := range line.names {
			if slug, ok := teamOf(org, name); ok && !slices.Contains(out, slug) {
				out = append(out, slug)
			}
		}
	}
	slices.Sort(out)
	return out
}

// teamOf reads a team of an organisation's out of "@org/team".
func teamOf(org, name string) (slug string, ok bool) {
	owner, slug, ok := strings.Cut(strings.TrimPrefix(name, "@"), "/")
	return strings.ToLower(slug), ok && strings.HasPrefix(name, "@") && strings.EqualFold(owner, org) && slug != ""
}
