package review

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// shelfSources are so many registrations, the first of which is faulty.
func shelfSources(n int) []Source {
	out := make([]Source, n)
	for i := range out {
		text := fmt.Sprintf(`department: "its"
contact: {name: "IT", email: "it@umich.edu"}
purpose:   "Mail from a machine."
whyNoAuth: "It has no SMTP AUTH client."
hosts: [{ip: "35.1.%d.%d", name: "a.umich.edu", kind: "printer"}]
senders: ["*@umich.edu"]
volume:  {perHour: 2, perDay: 10}
expires: "2027-11-20"
accept:  {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
`, i/250, 1+i%250)
		if i == 0 {
			text = strings.Replace(text, "purpose", "purpos", 1)
		}
		out[i] = Source{
			Source: registration.Source{Path: fmt.Sprintf("registrations/its/%04d.cue", i), Size: int64(len(text)), Data: []byte(text)},
			Blob:   gitsync.BlobHash([]byte(text)).String(),
		}
	}
	return out
}

func TestShelfGivesBackWhatWasParsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatepost", "parsed")
	sources := shelfSources(worthFiles + 1500)
	site := []byte("#Registration: volume: perDay: <=500")
	files, err := Parse(t.Context(), site, sources, nil)
	if err != nil {
		t.Fatal(err)
	}
	OpenShelf(path, "this one").Keep(site, sources, files)

	s := OpenShelf(path, "this one")
	read := 0
	content := s.Left(site, func(gitsync.Entry, int64) ([]byte, error) { read++; return nil, nil })
	left := slices.Clone(sources)
	for i := range left {
		h, err := gitsync.ParseHash(left[i].Blob)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := content(gitsync.Entry{Path: left[i].Path, Hash: h}, 1); !errors.Is(err, ErrLeft) {
			t.Fatalf("%s is read: %v", left[i].Path, err)
		}
		left[i].Data, left[i].Left = nil, true
	}
	var c Counter
	got, err := s.Parse(t.Context(), site, left, &c)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, files) || c.Total.Load() != 0 || read != 0 {
		t.Errorf("%d files were parsed, and %d read; the first is\n%+v, want\n%+v", c.Total.Load(), read, got[0], files[0])
	}
	for _, e := range []gitsync.Entry{
		{Path: sources[1].Path},                                                   // git has not looked
		{Path: sources[1].Path, Hash: gitsync.Hash{19: 3}},                        // another content
		{Path: "registrations/its/other.cue", Hash: gitsync.Hash{19: 2}},          // another name
		{Path: sources[1].Path, Hash: gitsync.Hash{19: 2}, Odd: "x"},              // seen beside others
		{Path: sources[1].Path, Hash: gitsync.Hash{19: 2}, Mode: gitsync.Symlink}, // no file
	} {
		if e.Hash != (gitsync.Hash{}) && e.Hash[0] == 0 {
			e.Hash, _ = gitsync.ParseHash(sources[e.Hash[19]-1].Blob)
		}
		if _, err := content(e, 1); err != nil {
			t.Errorf("%+v is left: %v", e, err)
		}
	}
}

// What another program, or other site rules, made of a file counts for nothing,
// and neither does damage.
func TestShelfOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "parsed")
	sources := shelfSources(worthFiles)
	files, err := Parse(t.Context(), nil, sources, nil)
	if err != nil {
		t.Fatal(err)
	}
	OpenShelf(path, "this one").Keep(nil, sources, files)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := gitsync.ParseHash(sources[1].Blob)
	knows := func(program string, site []byte) bool {
		_, err := OpenShelf(path, program).Left(site, func(gitsync.Entry, int64) ([]byte, error) { return nil, nil })(gitsync.Entry{Path: sources[1].Path, Hash: h}, 1)
		return errors.Is(err, ErrLeft)
	}
	if !knows("this one", nil) {
		t.Fatal("nothing is on the shelf")
	}
	if knows("another", nil) || knows("", nil) || knows("this one", []byte{}) || knows("this one", []byte("_x: 1")) {
		t.Error("another's shelf is trusted")
	}
	for _, spoil := range []func([]byte) []byte{
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { return b[:len(shelfHeader)+3] },
		func([]byte) []byte { return nil },
	} {
		if err := os.WriteFile(path, spoil(slices.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		if knows("this one", nil) {
			t.Error("a damaged shelf is trusted")
		}
	}
	sources[1].Data = []byte("as git has rewritten it") // is not what its name means
	OpenShelf(path, "this one").Keep(nil, sources, files)
	if knows("this one", nil) {
		t.Error("what git has rewritten was kept")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	OpenShelf(path, "this one").Keep(nil, sources[:worthFiles-1], files) // too few
	if knows("this one", nil) {
		t.Error("few files were kept")
	}
}
