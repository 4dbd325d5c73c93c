package review

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"

	"example.edu/gatepost/internal/register/registration"
)

// Merge is what merging a request makes of the base: what the request changed
// since ancestor, the commit that both come from, is as head has it, and the
// rest as base has it. Of ancestor only the names of contents are looked at
// (Source.Blob), of the others those and the contents.
//
// Where that is not certain, nothing is made, and the paths are returned about
// which only a real merge could tell: both sides changed them, and not to the
// same; or one side emptied a folder, which git may take for a renamed one, and
// the other put a file into it; or a file and a folder want one name.
func Merge(ancestor, base, head Tree) (Tree, []string) {
	contested := map[string]bool{}
	merged := Tree{Commit: head.Commit, Site: base.Site}
	if !bytes.Equal(ancestor.Site, head.Site) {
		merged.Site = head.Site
	}
	for key, s := range sides(ancestor, base, head) {
		switch {
		case identical(s.head, s.ancestor):
			merged.add(s.base)
		case identical(s.base, s.ancestor), identical(s.base, s.head):
			merged.add(s.head)
		default:
			path, _, _ := strings.Cut(key, "\x00")
			contested[path] = true
		}
	}
	slices.SortFunc(merged.Sources, func(a, b Source) int { return strings.Compare(a.Path, b.Path) })
	moved(contested, ancestor, base, head)
	moved(contested, ancestor, head, base)
	for _, s := range merged.Sources {
		for dir := path.Dir(s.Path); dir != "."; dir = path.Dir(dir) {
			if merged.Find(dir) != nil {
				contested[dir] = true
			}
		}
	}
	if len(contested) > 0 {
		return Tree{}, slices.Sorted(maps.Keys(contested))
	}
	merged.markTwins()
	return merged, nil
}

// A side is one path in three trees; nil where it is not there.
type side struct{ ancestor, base, head *Source }

func sides(ancestor, base, head Tree) map[string]side {
	all := make(map[string]side, len(base.Sources)+8)
	for _, of := range []struct {
		tree Tree
		put  func(*side, *Source)
	}{
		{ancestor, func(to *side, s *Source) { to.ancestor = s }},
		{base, func(to *side, s *Source) { to.base = s }},
		{head, func(to *side, s *Source) { to.head = s }},
	} {
		for i := range of.tree.Sources {
			s := &of.tree.Sources[i]
			key := s.Path
			if s.Unusable { // its path is for display; two may look alike
				key += "\x00" + s.Blob
			}
			at := all[key]
			of.put(&at, s)
			all[key] = at
		}
	}
	return all
}

// identical reports whether two sources are certainly the same, or both absent.
func identical(a, b *Source) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Blob != "" && a.Blob == b.Blob && a.Mode == b.Mode
}

func (t *Tree) add(s *Source) {
	if s != nil {
		t.Sources = append(t.Sources, *s)
	}
}

// moved finds files that the others put into folders which mover emptied.
func moved(contested map[string]bool, ancestor, mover, others Tree) {
	were, left := folders(ancestor), folders(mover)
	for _, s := range others.Sources {
		if dir := path.Dir(s.Path); were[dir] && !left[dir] && ancestor.Find(s.Path) == nil {
			contested[s.Path] = true
		}
	}
}

// folders are those that a file stands in directly.
func folders(t Tree) map[string]bool {
	m := make(map[string]bool)
	for _, s := range t.Sources {
		m[path.Dir(s.Path)] = true
	}
	return m
}

// markTwins tells names that are alike but for their case, which is a matter of
// the whole list.
func (t *Tree) markTwins() {
	for i := range t.Sources {
		if !t.Sources[i].Unusable {
			t.Sources[i].Odd = ""
		}
	}
	registration.Twins(len(t.Sources), func(i int) string { return t.Sources[i].Path }, func(i int, odd string) {
		if t.Sources[i].Odd == "" {
			t.Sources[i].Odd = odd
		}
	})
}
