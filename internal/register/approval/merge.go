package approval

import "bytes"

// maxEdits bounds the lines added and removed between two versions. What is
// over it was not merged cleanly, for us.
const maxEdits = 1000

// mergeText is what a clean merge of two changes of a text makes of it: ours
// and theirs, both made from base. It is false where the two touch, and where
// that takes too long to find out. Any clean merge gives the same, so it tells
// whether a merge added something of its own.
func mergeText(base, ours, theirs []byte) ([]byte, bool) {
	from := lines(base)
	a, okA := hunks(from, lines(ours))
	b, okB := hunks(from, lines(theirs))
	if !okA || !okB {
		return nil, false
	}
	var out bytes.Buffer
	at := 0
	for len(a) > 0 || len(b) > 0 {
		next, twin := &a, &b
		if len(a) == 0 || len(b) > 0 && b[0].from < a[0].from {
			next, twin = &b, &a
		}
		h := (*next)[0]
		*next = (*next)[1:]
		if len(*twin) > 0 {
			switch o := (*twin)[0]; {
			case o.from == h.from && o.to == h.to && o.text == h.text: // both did the same
				*twin = (*twin)[1:]
			case o.from <= h.to: // they touch: git wants a line in between, too
				return nil, false
			}
		}
		for ; at < h.from; at++ {
			out.WriteString(from[at])
		}
		out.WriteString(h.text)
		at = h.to
	}
	for ; at < len(from); at++ {
		out.WriteString(from[at])
	}
	return out.Bytes(), true
}

// lines are the lines of a text, each with its end.
func lines(text []byte) []string {
	var out []string
	for line := range bytes.Lines(text) {
		out = append(out, string(line))
	}
	return out
}

// A hunk puts text in the place of the lines from … to of a base.
type hunk struct {
	from, to int
	text     string
}

// hunks is how to make b of a, after what is the same at both ends is taken
// off. It is false beyond maxEdits.
func hunks(a, b []string) ([]hunk, bool) {
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && a[endA-1] == b[endB-1] {
		endA, endB = endA-1, endB-1
	}
	edits, ok := script(a[start:endA], b[start:endB])
	if !ok {
		return nil, false
	}
	var out []hunk
	x, y := -1, -1 // behind the last edit
	for _, e := range edits {
		if e.x != x || e.y != y {
			out = append(out, hunk{from: start + e.x, to: start + e.x})
		}
		h := &out[len(out)-1]
		if x, y = e.x, e.y; e.insert {
			h.text += b[start+y]
			y++
		} else {
			x++
			h.to = start + x
		}
	}
	return out, true
}

// An edit inserts line y of b before line x of a, or removes line x of a.
type edit struct {
	x, y   int
	insert bool
}

// script finds the shortest way from a to b (Myers, An O(ND) Difference
// Algorithm and Its Variations, 1986).
func script(a, b []string) ([]edit, bool) {
	most := min(len(a)+len(b), maxEdits)
	v := make([]int32, 2*most+3) // for each diagonal x-y, how far along a it was come
	far := func(v []int32, k int) *int32 { return &v[k+most+1] }
	var trace [][]int32 // v before each number of edits
	for d := 0; d <= most; d++ {
		trace = append(trace, append([]int32(nil), v...))
		for k := -d; k <= d; k += 2 {
			x := int(*far(v, k-1)) + 1 // one removed
			if k == -d || k != d && *far(v, k-1) < *far(v, k+1) {
				x = int(*far(v, k+1)) // one inserted
			}
			if d == 0 {
				x = 0
			}
			for x < len(a) && x-k < len(b) && a[x] == b[x-k] {
				x++
			}
			if *far(v, k) = int32(x); x >= len(a) && x-k >= len(b) {
				return back(trace[1:], len(a), len(b), far), true
			}
		}
	}
	return nil, false
}

// back is the edits of the way that script found.
func back(trace [][]int32, x, y int, far func([]int32, int) *int32) []edit {
	out := make([]edit, len(trace))
	for d := len(trace); d > 0; d-- {
		v, k := trace[d-1], x-y
		insert := k == -d || k != d && *far(v, k-1) < *far(v, k+1)
		if k--; insert {
			k += 2
		}
		x = int(*far(v, k))
		y = x - k
		out[d-1] = edit{x, y, insert}
	}
	return out
}
