package reconcile

import (
	"cmp"
	"maps"
	"slices"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// A source is one file of the register, as it is in force or would be. It is
// not changed once it is in a list.
type source struct {
	Path     string
	Blob     gitsync.Hash
	From     gitsync.Hash // the commit that the content was read from
	Mode     registration.Mode
	Size     int64  // octets
	Odd      string // see gitsync.Entry
	Unusable bool
	Whole    bool // the content was read: all Size octets
	Beside   bool // of a held block: another version of the path is in force, and stays
	Withheld bool // of a held block: nobody vouches for it, and it is in the accepted commit

	// File is what the content means, under the site rules in force.
	File *registration.File

	// The content, if it is Whole. It is kept in memory until it is in the
	// contents file, and is read from there then.
	content []byte
	shelved bool
	at      int64 // octets into the contents file, if shelved
}

// A key names what a parsed file depends on, but for the site rules.
type key struct {
	path     string
	blob     gitsync.Hash
	mode     registration.Mode
	odd      string
	unusable bool
}

func (s *source) key() key { return key{s.Path, s.Blob, s.Mode, s.Odd, s.Unusable} }

// same reports whether two sources, either of which may be nil, are one file.
func (s *source) same(o *source) bool {
	return s == o || s != nil && o != nil && s.key() == o.key()
}

// plain reports whether the file can be judged without a look at other names.
func (s *source) plain() bool { return s.Odd == "" && !s.Unusable && gitsync.Plain(s.Path) }

// A list is the files of a register, in order of path. It is immutable.
type list []*source

func byPath(s *source, path string) int { return cmp.Compare(s.Path, path) }

// find is the file at a path, or nil.
func (l list) find(path string) *source {
	if i, ok := slices.BinarySearchFunc(l, path, byPath); ok {
		return l[i]
	}
	return nil
}

// with is the list with other files at some paths; nil for one that is gone.
func (l list) with(changed map[string]*source) list {
	next := make(list, 0, len(l)+len(changed))
	for _, path := range slices.Sorted(maps.Keys(changed)) {
		i, there := slices.BinarySearchFunc(l, path, byPath)
		next = append(next, l[:i]...)
		if l = l[i:]; there {
			l = l[1:]
		}
		if s := changed[path]; s != nil {
			next = append(next, s)
		}
	}
	return append(next, l...)
}

// parsed are the meanings of the files.
func (l list) parsed() []*registration.File {
	files := make([]*registration.File, len(l))
	for i, s := range l {
		files[i] = s.File
	}
	return files
}

// octets is how much content the files have together.
func (l list) octets() int64 {
	total := int64(0)
	for _, s := range l {
		if s.Whole {
			total += s.Size
		}
	}
	return total
}

// plain reports whether every name can be judged by itself.
func (l list) plain() bool {
	return !slices.ContainsFunc(l, func(s *source) bool { return !s.plain() })
}

// meanings is what policy.Register.With takes of changed files.
func meanings(changed map[string]*source) map[string]*registration.File {
	files := make(map[string]*registration.File, len(changed))
	for path, s := range changed {
		if s == nil {
			files[path] = nil
		} else {
			files[path] = s.File
		}
	}
	return files
}
