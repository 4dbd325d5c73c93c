package approval

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMergeText(t *testing.T) {
	const base = "a\nb\nc\nd\ne\nf\ng\n"
	for name, c := range map[string]struct{ ours, theirs, want string }{
		"nothing":            {base, base, base},
		"one side":           {base, "a\nB\nc\nd\ne\nf\ng\n", "a\nB\nc\nd\ne\nf\ng\n"},
		"both, apart":        {"A\nb\nc\nd\ne\nf\ng\n", "a\nb\nc\nd\ne\nf\nG\n", "A\nb\nc\nd\ne\nf\nG\n"},
		"both the same":      {"a\nb\nX\nd\ne\nf\ng\n", "a\nb\nX\nd\ne\nf\ng\n", "a\nb\nX\nd\ne\nf\ng\n"},
		"inserted, removed":  {"a\nnew\nb\nc\nd\ne\nf\ng\n", "a\nb\nc\nd\ne\nf\n", "a\nnew\nb\nc\nd\ne\nf\n"},
		"the same line":      {"a\nb\nX\nd\ne\nf\ng\n", "a\nb\nY\nd\ne\nf\ng\n", "-"},
		"lines that touch":   {"a\nb\nX\nd\ne\nf\ng\n", "a\nb\nc\nY\ne\nf\ng\n", "-"},
		"appended by both":   {base + "x\n", base + "y\n", "-"},
		"all gone, and more": {"", base + "y\n", "-"},
		"no line end":        {"a\nb\nc\nd\ne\nf\ng", "A\nb\nc\nd\ne\nf\ng\n", "A\nb\nc\nd\ne\nf\ng"},
	} {
		got, ok := mergeText([]byte(base), []byte(c.ours), []byte(c.theirs))
		if text := string(got); ok && text != c.want || !ok && c.want != "-" {
			t.Errorf("%s: %q, %t; want %q", name, got, ok, c.want)
		}
	}
}

// Whatever it calls a clean merge is what git calls one, to the byte.
func TestMergeTextAgainstGit(t *testing.T) {
	t.Parallel()
	needs(t, "git")
	dir := t.TempDir()
	clean := 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		var base []string
		for range random.IntN(25) {
			base = append(base, strings.Repeat(string(rune('a'+random.IntN(6))), 1+random.IntN(2)))
		}
		change := func() string {
			out := append([]string(nil), base...)
			for range 1 + random.IntN(3) {
				i := random.IntN(len(out) + 1)
				switch random.IntN(3) {
				case 0:
					out = append(out[:i], append([]string{"new" + string(rune('0'+random.IntN(3)))}, out[i:]...)...)
				case 1:
					if i < len(out) {
						out = append(out[:i], out[i+1:]...)
					}
				default:
					if i < len(out) {
						out[i] = "changed" + string(rune('0'+random.IntN(3)))
					}
				}
			}
			return text(out)
		}
		versions := []string{change(), text(base), change()}
		got, ok := mergeText([]byte(versions[1]), []byte(versions[0]), []byte(versions[2]))
		if !ok {
			continue
		}
		var names []string
		for i, v := range versions {
			name := filepath.Join(dir, string(rune('0'+i)))
			if err := os.WriteFile(name, []byte(v), 0o600); err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		want, err := exec.Command("git", append([]string{"merge-file", "-p", "-q"}, names...)...).Output()
		if err != nil { // git sees a conflict: it is stricter where changes are near
			continue
		}
		clean++
		if string(got) != string(want) {
			t.Errorf("seed %d: %q\nbase %q\nours %q\ntheirs %q\ngit: %q", seed, got, versions[1], versions[0], versions[2], want)
		}
	}
	if clean < 50 {
		t.Errorf("only %d clean merges", clean)
	}
}

func text(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestMergeTextIsBounded(t *testing.T) {
	var a, b strings.Builder
	for i := range 40_000 {
		a.WriteString(strings.Repeat("x", i%17) + "\n")
		b.WriteString(strings.Repeat("y", i%19) + "\n")
	}
	start := time.Now()
	if _, ok := mergeText([]byte(a.String()), []byte(b.String()), []byte(a.String()+"z\n")); ok {
		t.Error("merged")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// needs skips a test for want of a program, which CI does not let pass.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("GATEPOST_NO_SKIP") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}
