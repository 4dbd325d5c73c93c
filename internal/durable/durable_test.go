package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"

	"example.edu/gatepost/internal/durable"
)

// names lists a folder, hidden files included.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, step := range []struct {
		text string
		perm os.FileMode
	}{
		{"first", 0o600},
		{"a longer second", 0o644},
		{"", 0o600}, // an empty file is content too
		{"last", 0o640},
	} {
		if err := durable.WriteFile(path, []byte(step.text), step.perm); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != step.text {
			t.Errorf("got %q, want %q", got, step.text)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != step.perm { // whatever the umask
			t.Errorf("perm %v, want %v", got, step.perm)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("left behind: %v", got)
		}
	}
}

// TestWriteFileReplacesALinkNotItsTarget keeps a hostile or forgotten link from
// leading the write elsewhere.
func TestWriteFileReplacesALinkNotItsTarget(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(link, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := content(t, target); got != "old" {
		t.Errorf("the target became %q", got)
	}
	if got := content(t, link); got != "new" {
		t.Errorf("the link's name holds %q", got)
	}
}

func TestFailureLeavesTheOldAndNothingBeside(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, dir string) (path string){
		"no folder": func(t *testing.T, dir string) string {
			return filepath.Join(dir, "absent", "state.json")
		},
		"the name is taken by a folder": func(t *testing.T, dir string) string { // the rename fails, after all data is written
			path := filepath.Join(dir, "taken")
			if err := os.MkdirAll(filepath.Join(path, "inner"), 0o700); err != nil {
				t.Fatal(err)
			}
			return path
		},
		"a name too long": func(t *testing.T, dir string) string {
			return filepath.Join(dir, fmt.Sprintf("%0300d", 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			old := filepath.Join(dir, "old")
			if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			path := prepare(t, dir)
			before := names(t, dir)
			if err := durable.WriteFile(path, []byte("new"), 0o600); err == nil {
				t.Fatal("no error")
			}
			if after := names(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("before %v, after %v", before, after)
			}
			if content(t, old) != "old" {
				t.Error("the old file changed")
			}
		})
	}
}

// TestReadersSeeOldOrNew reads while writers replace: there is never a mixture
// and never nothing.
func TestReadersSeeOldOrNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	texts := map[string]bool{}
	for i := range 4 {
		texts[fmt.Sprintf("%0*d", 1000*(i+1), i)] = true
	}
	for text := range texts {
		if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var writers sync.WaitGroup
	for text := range texts {
		writers.Go(func() {
			for range 10 {
				if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for {
		data, err := durable.ReadFile(path, 1<<20)
		if err != nil || !texts[string(data)] {
			t.Fatalf("read %d bytes, %v", len(data), err)
		}
		select {
		case <-done:
			if got := names(t, filepath.Dir(path)); len(got) != 1 {
				t.Errorf("left behind: %v", got)
			}
			return
		default:
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		max  int64
		want error
	}{{6, nil}, {5, nil}, {4, durable.ErrTooLarge}, {0, durable.ErrTooLarge}} {
		data, err := durable.ReadFile(path, tc.max)
		if !errors.Is(err, tc.want) {
			t.Errorf("max %d: %v, want %v", tc.max, err, tc.want)
		}
		if tc.want == nil && string(data) != "12345" {
			t.Errorf("max %d: %q", tc.max, data)
		}
		if tc.want != nil && data != nil {
			t.Errorf("max %d: %q beside an error", tc.max, data)
		}
	}
	if _, err := durable.ReadFile(path+".absent", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := durable.ReadFile("/dev/zero", 1000); !errors.Is(err, durable.ErrTooLarge) {
		t.Errorf("an endless file: %v", err)
	}
}

func TestRecover(t *testing.T) {
	errSense := errors.New("it makes no sense")
	for name, tc := range map[string]struct {
		content string // "": there is no file
		decode  error
		damage  error
		aside   bool
	}{
		"no file":         {decode: errSense},
		"a sound one":     {content: "sound"},
		"one of nonsense": {content: "other", decode: errSense, damage: errSense, aside: true},
		"one too long":    {content: "much too long", damage: durable.ErrTooLarge, aside: true},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if tc.content != "" {
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		damage, err := durable.Recover(path, 8, func(data []byte) error {
			got = string(data)
			return tc.decode
		})
		if !errors.Is(damage, tc.damage) || err != nil {
			t.Errorf("%s: %v, %v", name, damage, err)
		}
		if tc.damage == nil && got != tc.content {
			t.Errorf("%s: decoded %q", name, got)
		}
		aside, _ := os.ReadFile(durable.Aside(path))
		if _, err := os.Stat(path); tc.aside && (string(aside) != tc.content || err == nil) || !tc.aside && aside != nil {
			t.Errorf("%s: aside is %q", name, aside)
		}
	}
	dir := t.TempDir() // it cannot be read as a file
	if damage, err := durable.Recover(dir, 8, func([]byte) error { return errSense }); damage != nil || err == nil {
		t.Errorf("what cannot be read: %v, %v", damage, err)
	}
}

func TestSyncDir(t *testing.T) {
	if err := durable.SyncDir(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := durable.SyncDir(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestFrames(t *testing.T) {
	var file []byte
	want := [][]byte{{}, []byte("one"), bytes.Repeat([]byte("two"), 1000)}
	for _, p := range want {
		file = slices.Concat(file, durable.Frame(p), p)
	}
	got, err := durable.Frames(file)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, n := range []int{1, 7, 9, 18, len(file) - 1} {
		if _, err := durable.Frames(file[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d octets: %v", n, err)
		}
	}
	if _, err := durable.Frames(bytes.Repeat([]byte{0xff}, 64)); err == nil {
		t.Error("a length beyond all bounds was taken")
	}
}
