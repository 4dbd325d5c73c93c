package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/approval"
	"example.edu/gatepost/internal/register/gitsync"
)

// A line is a branch in letters: "1 a=x b=" is commit 1, which writes x to a and
// removes b; "1!" is a commit that nobody vouches for.
func line(t *testing.T, text string) []passage {
	t.Helper()
	at := map[string]version{}
	var out []passage
	base := gitsync.Hash{}
	for commit := range strings.SplitSeq(text, ";") {
		words := strings.Fields(commit)
		name, refused := strings.CutSuffix(words[0], "!")
		p := passage{Commit: hash("commit " + name), Base: base, Standing: approval.Vouched}
		if refused {
			p.Standing, p.Why = approval.Refused, "no"
		}
		for _, w := range words[1:] {
			path, content, _ := strings.Cut(w, "=")
			now := version{}
			if content != "" {
				now = version{Blob: hash(content), From: p.Commit}
			}
			if !at[path].is(now) {
				p.Changes = append(p.Changes, pathChange{Path: path, Was: at[path], Now: now})
			}
			at[path] = now
		}
		base = p.Commit
		out = append(out, p)
	}
	return out
}

func hash(s string) (h gitsync.Hash) {
	copy(h[:], s)
	return h
}

// inForceAfter is what is in force after a line: the branch's end with w over
// it.
func inForceAfter(all []passage, w *withholding) string {
	at := map[string]version{}
	for _, p := range all {
		for _, c := range p.Changes {
			at[c.Path] = c.Now
		}
	}
	for _, p := range w.Paths {
		at[p.Path] = p.InForce
	}
	var out []string
	for _, p := range slices.Sorted(maps.Keys(at)) {
		if v := at[p]; !v.absent() {
			out = append(out, p+"="+strings.TrimRight(string(v.Blob[:]), "\x00"))
		}
	}
	return strings.Join(out, " ")
}

func TestReplay(t *testing.T) {
	for _, c := range []struct{ name, line, want, withheld string }{
		{"nothing to object to", "1 a=x b=y; 2 a=z b=", "a=z", ""},
		{"refused alone", "1 a=x b=y; 2! a=z; 3 b=w", "a=x b=w", "a"},
		{"a refused removal waits", "1 a=x; 2! a=", "a=x", "a"},
		{"a refused file does not begin", "1 a=x; 2! b=y", "a=x", "b"},
		{"nobody reviewed the first as new", "1 a=x; 2! a=evil; 3 a=evil+good", "a=x", "a"},
		{"taken back", "1 a=x; 2! a=evil; 3 a=x; 4 a=y", "a=y", ""},
		{"taken back by nobody in particular", "1 a=x; 2! a=evil; 3! a=x; 4 a=y", "a=y", ""},
		{"taken back and done again", "1 a=x; 2! a=evil; 3 a=x; 4! a=evil", "a=x", "a"},
		{"a new file taken away", "1 a=x; 2! b=evil; 3 b=", "a=x", ""},
		{"a new file taken away and made anew", "1 a=x; 2! b=evil; 3 b=; 4 b=good", "a=x b=good", ""},
		{"removed and written again", "1 a=x; 2! a=; 3 a=y", "a=x", "a"},
		{"moved under another name", "1 a=x; 2! a=evil; 3 a= b=evil", "a=x", "a b"},
		{"moved and changed", "1 a=x; 2! a=evil; 3 a= b=evil+", "a=x", "a b"},
		{"moved twice", "1 a=x; 2! a=evil; 3 a= b=evil; 4 b= c=evil", "a=x", "a c"},
		{"moved, and the old name written again", "1 a=x; 2! a=evil; 3 a= b=evil; 4 a=x", "a=x", "b"},
		{"moved, and what was there changed", "1 a=x c=1; 2! a=evil; 3 a= c=2", "a=x c=2", "a"},
		{"what is not withheld may move", "1 a=x c=1; 2! a=evil; 3 c= d=1", "a=x d=1", "a"},
		{"an executable is the same file", "1 a=x; 2 a=x", "a=x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := line(t, c.line)
			for cut := range len(all) + 1 { // in two rounds, however they come
				w := through(new(withholding).replay(all[:cut], time.Unix(1, 0)))
				w = through(w.replay(all[cut:], time.Unix(2, 0)))
				var names []string
				for _, p := range w.Paths {
					names = append(names, p.Path)
				}
				if got := inForceAfter(all, w); got != c.want || strings.Join(names, " ") != c.withheld {
					t.Errorf("in force: %s; withheld: %v; want %s; %s (a round after %d)", got, names, c.want, c.withheld, cut)
				}
			}
		})
	}
}

// through is what a restart makes of it.
func through(w *withholding) *withholding {
	data, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	out := new(withholding)
	if err := json.Unmarshal(data, out); err != nil {
		panic(err)
	}
	return out
}

// Whatever the branch does, however the rounds fall and whoever is vouched for
// later on: only what is vouched for comes into force. It does not matter how
// many commits a round sees, and when everybody is vouched for, nothing is
// withheld.
func TestReplayForgetsNothingThatMatters(t *testing.T) {
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		var text []string
		for i := range 3 + random.IntN(8) {
			words := []string{fmt.Sprint(i)}
			if i > 0 && random.IntN(2) == 0 {
				words[0] += "!"
			}
			for _, path := range []string{"a", "b", "c"} {
				switch random.IntN(5) {
				case 0:
					words = append(words, path+"=")
				case 1, 2:
					words = append(words, path+"="+string(rune('p'+random.IntN(3))))
				}
			}
			text = append(text, strings.Join(words, " "))
		}
		all := line(t, strings.Join(text, ";"))
		w, done := new(withholding), 0
		for done < len(all) {
			n := min(1+random.IntN(3), len(all)-done)
			w = through(w.replay(all[done:done+n], time.Unix(1, 0)))
			done += n
			if i := random.IntN(done); seed%2 == 1 && random.IntN(3) == 0 { // somebody is vouched for later
				all[i].Standing = approval.Vouched
				for j := range w.Passages {
					if w.Passages[j].Commit == all[i].Commit {
						w.Passages[j].Standing = approval.Vouched
					}
				}
				w = through(w.replay(nil, time.Unix(1, 0)))
			}
			if seed%2 == 0 {
				whole := new(withholding).replay(all[:done], time.Unix(1, 0))
				if got, want := inForceAfter(all[:done], w), inForceAfter(all[:done], whole); got != want {
					t.Fatalf("seed %d: %s\nafter %d in rounds: %s\nat once: %s", seed, strings.Join(text, "; "), done, got, want)
				}
			}
			checkOnlyVouched(t, all[:done], w)
		}
		if again := w.replay(nil, time.Unix(9, 0)); !reflect.DeepEqual(through(again), w) {
			t.Fatalf("seed %d: a round without news changes something:\n%+v\n%+v", seed, again, w)
		}
		for i := range w.Passages {
			w.Passages[i].Standing = approval.Vouched
		}
		if w = w.replay(nil, time.Unix(1, 0)); len(w.Paths) > 0 {
			t.Fatalf("seed %d: %s\neverything is vouched for, and still withheld: %+v", seed, strings.Join(text, "; "), w.Paths)
		}
	}
}

// checkOnlyVouched: each version in force was written by a commit that is
// vouched for, or is one that such a commit's successors restored.
func checkOnlyVouched(t *testing.T, all []passage, w *withholding) {
	t.Helper()
	written := map[string]bool{}
	for _, p := range all {
		if p.Standing != approval.Vouched {
			continue
		}
		for _, c := range p.Changes {
			written[c.Path+string(c.Now.Blob[:])] = true
		}
	}
	for entry := range strings.FieldsSeq(inForceAfter(all, w)) {
		path, content, _ := strings.Cut(entry, "=")
		blob := hash(content)
		if !written[path+string(blob[:])] {
			t.Errorf("%s is in force, and nobody vouched for it", entry)
		}
	}
}

func TestBlocksOfWithheldPaths(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"1 a=x; 2! b=p", "p"},
		{"1 a=x; 2! b=p; 3! b=q", "q p"},
		{"1 a=x; 2! b=p; 3! b=q; 4 b=r", "r"},
		{"1 b=x; 2! b=p; 3 b=; 4! b=q", "q"},
		{"1 b=x; 2! b=", ""},
		{"1 b=x; 2! b=p; 3! b=", "p"},
	} {
		all := line(t, c.line)
		w := new(withholding).replay(all, time.Now())
		var got []string
		for _, v := range w.blocks("b") {
			got = append(got, strings.TrimRight(string(v.Blob[:]), "\x00"))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: blocks %v, want %s", c.line, got, c.want)
		}
	}
}

// A path that is changed again and again is remembered in part: it stays
// withheld until it is what is in force again.
func TestReplayIsBounded(t *testing.T) {
	text := "0 a=x; 1! a=0"
	for i := range maxRemembered + 50 {
		text += fmt.Sprintf("; c%d a=%d", i, i+1)
	}
	all := line(t, text)
	w := new(withholding)
	for _, p := range all {
		w = through(w.replay([]passage{p}, time.Unix(1, 0)))
	}
	if len(w.Paths) != 1 || !w.Paths[0].Stuck || len(w.Passages) > 3 {
		t.Fatalf("%d passages, paths %+v", len(w.Passages), w.Paths)
	}
	for i := range w.Passages {
		w.Passages[i].Standing = approval.Vouched
	}
	w = w.replay(nil, time.Unix(1, 0))
	if len(w.Paths) != 1 {
		t.Fatal("what is not remembered was vouched for")
	}
	end := line(t, text+"; end a=x")
	if w = w.replay(end[len(end)-1:], time.Unix(1, 0)); len(w.Paths) != 0 || len(w.Passages) != 0 {
		t.Errorf("still withheld: %+v", w)
	}
}
