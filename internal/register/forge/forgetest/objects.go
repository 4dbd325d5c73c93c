package forgetest

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A File is what stands at a path.
type File struct {
	Mode string // "100644", "120000", …
	SHA  string
}

type entry struct {
	name, mode, sha string
}

type commitObject struct {
	tree    string
	parents []string
	message string
	author  string // Name <address>
	at      time.Time
}

// objects is git's object store, with git's own names.
type objects struct {
	blobs   map[string][]byte
	trees   map[string][]entry
	commits map[string]commitObject
}

func newObjects() objects {
	return objects{map[string][]byte{}, map[string][]entry{}, map[string]commitObject{}}
}

func name(kind string, data []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

func (o objects) blob(data []byte) string {
	sha := name("blob", data)
	o.blobs[sha] = data
	return sha
}

// write stores the tree that has these files.
func (o objects) write(files map[string]File) string {
	var list []entry
	below := map[string]map[string]File{}
	for p, f := range files {
		first, rest, deeper := strings.Cut(p, "/")
		if !deeper {
			list = append(list, entry{p, f.Mode, f.SHA})
			continue
		}
		if below[first] == nil {
			below[first] = map[string]File{}
		}
		below[first][rest] = f
	}
	for dir, files := range below {
		list = append(list, entry{dir, "040000", o.write(files)})
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(sortName(a), sortName(b)) })
	var data []byte
	for _, e := range list {
		raw, _ := hex.DecodeString(e.sha)
		data = append(data, strings.TrimPrefix(e.mode, "0")+" "+e.name+"\x00"...)
		data = append(data, raw...)
	}
	sha := name("tree", data)
	o.trees[sha] = list
	return sha
}

func sortName(e entry) string {
	if e.mode == "040000" {
		return e.name + "/"
	}
	return e.name
}

// files lists a tree in full.
func (o objects) files(tree string) map[string]File {
	out := map[string]File{}
	for _, e := range o.trees[tree] {
		if e.mode != "040000" {
			out[e.name] = File{e.mode, e.sha}
			continue
		}
		for p, f := range o.files(e.sha) {
			out[e.name+"/"+p] = f
		}
	}
	return out
}

func (o objects) commit(tree string, parents []string, message, author string, at time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	fmt.Fprintf(&b, "author %s %d +0000\ncommitter %s %d +0000\n\n%s", author, at.Unix(), author, at.Unix(), message)
	sha := name("commit", []byte(b.String()))
	o.commits[sha] = commitObject{tree, parents, message, author, at.UTC()}
	return sha
}

// past is a commit and all before it.
func (o objects) past(commit string) map[string]bool {
	seen := map[string]bool{commit: true}
	for queue := []string{commit}; len(queue) > 0; queue = queue[1:] {
		for _, p := range o.commits[queue[0]].parents {
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return seen
}

// fork is the commit that two have in common, nearest to the second.
func (o objects) fork(base, head string) string {
	past := o.past(base)
	for queue := []string{head}; len(queue) > 0; queue = queue[1:] {
		if past[queue[0]] {
			return queue[0]
		}
		queue = append(queue, o.commits[queue[0]].parents...)
	}
	return ""
}

// A changed file as the list of a pull request has it.
type changed struct {
	path, from, status, sha string
}

// diff lists what differs between two trees, as GitHub does: a content that
// went from one name to another was renamed.
func (o objects) diff(from, to string) []changed {
	was, is := o.files(from), o.files(to)
	gone := map[string]string{} // content → path
	for _, p := range slices.Sorted(maps.Keys(was)) {
		if _, ok := is[p]; !ok {
			gone[was[p].SHA] = p
		}
	}
	var out []changed
	for _, p := range slices.Sorted(maps.Keys(is)) {
		f := is[p]
		old, had := was[p]
		switch before, moved := gone[f.SHA]; {
		case had && old == f:
		case had:
			out = append(out, changed{p, "", "modified", f.SHA})
		case moved:
			delete(gone, f.SHA)
			out = append(out, changed{p, before, "renamed", f.SHA})
		default:
			out = append(out, changed{p, "", "added", f.SHA})
		}
	}
	left := map[string]bool{}
	for _, p := range gone {
		left[p] = true
	}
	for p := range was {
		if _, ok := is[p]; !ok && left[p] {
			out = append(out, changed{p, "", "removed", was[p].SHA})
		}
	}
	// Two gone files of one content: only one can have been the source.
	for p := range was {
		if _, ok := is[p]; !ok && !left[p] && !slices.ContainsFunc(out, func(c changed) bool { return c.from == p || c.path == p }) {
			out = append(out, changed{p, "", "removed", was[p].SHA})
		}
	}
	slices.SortFunc(out, func(a, b changed) int { return strings.Compare(a.path, b.path) })
	return out
}
