package blocks

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// local makes a local file.
func local(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "blocks.local")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGoodLines(t *testing.T) {
	until := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for line, want := range map[string]Block{
		"192.0.2.21 spam":                                                   {Prefix: mfp, Reason: "spam"},
		"192.0.2.21\tspam  twice":                                           {Prefix: mfp, Reason: "spam  twice"},
		"  192.0.2.0/24   a worm, 40 of them ":                              {Prefix: floor, Reason: "a worm, 40 of them"},
		"::ffff:192.0.2.21 spam":                                            {Prefix: mfp, Reason: "spam"},
		"2001:db8:1::/64 until=2026-12-01T00:00:00Z scans":                  {Prefix: six, Reason: "scans", Until: until},
		"192.0.2.21 until=2026-12-01T01:00:00+01:00 x":                      {Prefix: mfp, Reason: "x", Until: until},
		"192.0.0.0/16 wide=yes until=2026-12-01T00:00:00Z all":              {Prefix: netip.MustParsePrefix("192.0.0.0/16"), Reason: "all", Until: until},
		"0.0.0.0/0 wide=yes the end":                                        {Prefix: netip.MustParsePrefix("0.0.0.0/0"), Reason: "the end"},
		"192.0.2.21 # is part of the reason":                                {Prefix: mfp, Reason: "# is part of the reason"},
		"192.0.2.21 mails with X=1 in the subject":                          {Prefix: mfp, Reason: "mails with X=1 in the subject"},
		"192.0.2.21 =begins":                                                {Prefix: mfp, Reason: "=begins"},
		"192.0.2.21 Until=2026 is no option, but who writes that? a reason": {Prefix: mfp, Reason: "Until=2026 is no option, but who writes that? a reason"},
	} {
		list, bad, err := parseLocal([]byte("# comment\n\n \t\n" + line + "\r\n"))
		want.Line = 4
		if err != nil || len(bad) > 0 || len(list) != 1 || list[0] != want {
			t.Errorf("%q: %+v, %v, %v", line, list, bad, err)
		}
	}
}

func TestBadLines(t *testing.T) {
	for line, why := range map[string]string{
		"printer spam":                                    "neither an address nor a network",
		"192.0.2 spam":                                    "neither an address nor a network",
		"192.0.2.021 spam":                                "neither an address nor a network",
		"192.0.2.21/33 spam":                              "neither an address nor a network",
		"192.0.2.21,192.0.2.22 spam":                      "neither an address nor a network",
		"192.0.2.21/24 spam":                              "write 192.0.2.0/24 for the network, or 192.0.2.21 for the one address",
		"fe80::1%eth0 spam":                               "neither an address nor a network",
		"::ffff:0:0/95 spam":                              "IPv4-mapped",
		"192.0.2.21":                                      "needs a reason",
		"192.0.2.21 until=2026-12-01T00:00Z":              "is no time",
		"192.0.2.21 until=tomorrow x":                     "is no time",
		"192.0.2.21 until= x":                             "is no time",
		"192.0.2.21 untill=2026-12-01 x":                  "there is no option",
		"192.0.2.21 wide=no x":                            "there is no option",
		"192.0.2.21 a\x1b[2Jb":                            "printable",
		"192.0.2.21 \xff\xfe":                             "printable",
		"192.0.0.0/19 x":                                  "say wide=yes",
		"2001:db8::/47 x":                                 "say wide=yes",
		"0.0.0.0/0 until=2026-12-01T00:00:00Z x":          "say wide=yes",
		"192.0.2.21 " + strings.Repeat("x", MaxReason+1):  "longer than 200 characters",
		"192.0.2.21 " + strings.Repeat("x", maxLocalLine): "longer than 1024 octets",
		strings.Repeat("1", 1000) + " x":                  "neither an address nor a network",
		"192.0.2.21\u00a0spam\u00a0":                      "",
	} {
		if why == "" {
			continue
		}
		list, bad, err := parseLocal([]byte("192.0.2.1 good\n" + line + "\n192.0.2.3 good as well\n"))
		if err != nil || len(bad) != 1 || bad[0].Line != 2 || !strings.Contains(bad[0].Why, why) {
			t.Errorf("%q: %+v, %v", line, bad, err)
		}
		if names(list) != "192.0.2.1 192.0.2.3" {
			t.Errorf("%q costs others: %s", line, names(list))
		}
	}
}

// TestSecretsAreNotQuoted: whoever may write the file can put a link to another
// one there, and what is told of it is read by the monitoring.
func TestSecretsAreNotQuoted(t *testing.T) {
	for _, secret := range []string{
		"ghp_16C7e42F292c6912E7710c838347Ae178B4a", "0123456789abcdef0123456789abcdef01234567",
		strings.Repeat("0123456789abcdef", 4), "root:*:20228:0:99999:7:::", "-----BEGIN PRIVATE KEY-----",
	} {
		_, bad, err := parseLocal([]byte(secret + "\n"))
		if err == nil || len(bad) != 1 || strings.Contains(err.Error()+bad[0].Why, secret[:5]) {
			t.Errorf("%q: %+v, %v", secret, bad, err)
		}
	}
	_, bad, _ := parseLocal([]byte("192.0.2.300 spam\n"))
	if len(bad) != 1 || !strings.Contains(bad[0].Why, `"192.0.2.300"`) {
		t.Errorf("a slip of the finger is not shown: %+v", bad)
	}
}

// TestFilesThatCannotBeUsed change nothing, over a restart too, and say why.
func TestFilesThatCannotBeUsed(t *testing.T) {
	replace := func(content string) func(t *testing.T, file string) {
		return func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	many := strings.Builder{}
	for i := range MaxLocal + 1 {
		fmt.Fprintf(&many, "10.0.%d.%d x\n", i>>8, i&255)
	}
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, file string)
		why   string
	}{
		"empty":                 {replace(""), "it is empty"},
		"half a line":           {replace("192.0.2.2 x\n192.0.2.3 y"), "its last line has no end"},
		"half an address":       {replace("192.0.2.2"), "its last line has no end"},
		"zeros":                 {replace("\x00\x00\x00\n"), "it holds a NUL"},
		"another file":          {replace("<html>\n<body>\nnot found\n"), "none of its lines makes sense; line 1: its first word is neither"},
		"too many blocks":       {replace(many.String()), "it has more than 4096 blocks"},
		"too many lines":        {replace(strings.Repeat("#\n", maxLocalLines+1)), "it has more than 16384 lines"},
		"too large":             {replace(strings.Repeat("# x\n", maxLocalFile)), "it is larger than 1024 KiB"},
		"gone":                  {func(t *testing.T, file string) { os.Remove(file) }, "no such file"},
		"a folder in its place": {func(t *testing.T, file string) { os.Remove(file); os.Mkdir(file, 0o700) }, "not a regular file"},
		"a pipe in its place": {func(t *testing.T, file string) {
			os.Remove(file)
			if err := syscall.Mkfifo(file, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, file := t.TempDir(), local(t, "192.0.2.1 good\n")
			var log strings.Builder
			l := open(t, Options{Dir: dir, Local: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			tc.spoil(t, file)
			for range 3 { // it is told once
				l.ReadLocal()
			}
			for _, l := range []*List{l, open(t, Options{Dir: dir, Local: file})} {
				s := l.State().Local
				if names(l.Set().File()) != "192.0.2.1" || !strings.Contains(s.Error, tc.why) || s.Blocks != 1 || s.ReadAt.IsZero() {
					t.Errorf("%s in force, %+v", names(l.Set().File()), s)
				}
			}
			if strings.Count(log.String(), "block.file_failed") != 1 {
				t.Errorf("%s", log.String())
			}
			os.RemoveAll(file)
			replace("# none\n")(t, file)
			l.ReadLocal()
			if s := l.State().Local; len(l.Set().File()) > 0 || s.Error != "" {
				t.Errorf("a file with a comment alone: %s in force, %+v", names(l.Set().File()), s)
			}
		})
	}
}

func TestTheLocalFileIsFollowed(t *testing.T) {
	dir, file := t.TempDir(), local(t, "192.0.2.1 one\n192.0.2.1 twice\nnonsense\n")
	var log strings.Builder
	l := open(t, Options{Dir: dir, Local: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	add(t, l, mfp, "by command", 0)
	if got := names(l.Set().All()); got != "192.0.2.21 192.0.2.1 192.0.2.1" {
		t.Errorf("got %s", got)
	}
	if s := l.State().Local; s.BadAll != 1 || !slices.Equal(s.Bad, []BadLine{{3, "its first word is neither an address nor a network"}}) || s.Blocks != 2 {
		t.Errorf("%+v", s)
	}
	changes := 0
	l.o.Changed = func(*Set) { changes++ }
	l.ReadLocal()
	if changes != 0 || strings.Count(log.String(), "block.file_loaded") != 1 || !strings.Contains(log.String(), "block.file_line") {
		t.Errorf("%d changes for the same content; %s", changes, log.String())
	}
	content := strings.Repeat("nonsense\n", 100) + "192.0.2.2 two\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ReadLocal()
	if s := l.State().Local; names(l.Set().All()) != "192.0.2.21 192.0.2.2" || s.BadAll != 100 || len(s.Bad) != maxBad || changes != 1 {
		t.Errorf("%s, %+v, %d changes", names(l.Set().All()), s, changes)
	}
	// The copy is of this file: another one that cannot be read does not get it.
	other := open(t, Options{Dir: dir, Local: file + ".other"})
	if got := names(other.Set().All()); got != "192.0.2.21" || other.State().Local.Error == "" {
		t.Errorf("another file: %s", got)
	}
	if s := open(t, Options{Dir: dir}).State(); s.Local != nil {
		t.Errorf("no file: %+v", s)
	}
}

// TestAnotherFileIsFollowed: the one before counts until the new one can be
// used; without a file there is no block of one.
func TestAnotherFileIsFollowed(t *testing.T) {
	dir, first := t.TempDir(), local(t, "192.0.2.1 one\n")
	second := first + ".second"
	l := open(t, Options{Dir: dir})
	add(t, l, mfp, "by command", 0)
	l.ReadLocal() // none: nothing happens
	wants := func(when, from, inForce string, faulty bool) {
		t.Helper()
		s := l.State().Local
		if names(l.Set().All()) != inForce || l.Set().From() != from || s != nil && (s.Error != "") != faulty {
			t.Errorf("%s: %s of %s, %+v", when, names(l.Set().All()), l.Set().From(), s)
		}
	}
	wants("none", "", "192.0.2.21", false)
	l.Follow(first)
	wants("the first", first, "192.0.2.21 192.0.2.1", false)
	l.Follow(second)
	wants("one that is not there", first, "192.0.2.21 192.0.2.1", true)
	if _, err := l.Remove(mfp); err != nil {
		t.Fatal(err)
	}
	wants("after a command", first, "192.0.2.1", true)
	if err := os.WriteFile(second, []byte("192.0.2.2 two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ReadLocal()
	wants("the second", second, "192.0.2.2", false)
	l.Follow(first)
	wants("the first again", first, "192.0.2.1", false)
	l.Follow("")
	wants("none again", "", "", false)
	if l.State().Local != nil {
		t.Errorf("%+v", l.State().Local)
	}
}

func TestTheMostSpecificBlockCounts(t *testing.T) {
	s := (*Set)(nil).with(Block{Prefix: floor, Reason: "floor"}).with(Block{Prefix: mfp, Reason: "mfp", Until: start}).
		withFile([]Block{{Prefix: netip.MustParsePrefix("192.0.2.16/28"), Reason: "file", Line: 1}}, "")
	for _, tc := range []struct {
		addr string
		now  time.Time
		want string
	}{
		{"192.0.2.21", start.Add(-1), "mfp"}, {"192.0.2.21", start, "file"}, {"::ffff:192.0.2.21", start, "file"},
		{"192.0.2.1", start, "floor"}, {"192.0.3.1", start, ""}, {"::1", start, ""},
	} {
		if b, ok := s.Over(netip.MustParseAddr(tc.addr), tc.now); b.Reason != tc.want || ok != (tc.want != "") {
			t.Errorf("%s at %v: %q", tc.addr, tc.now, b.Reason)
		}
	}
	for p, want := range map[string][2]string{
		"192.0.2.21/32": {"192.0.2.0/24 192.0.2.16/28", ""}, "192.0.2.0/24": {"192.0.2.0/24", ""},
		"192.0.0.0/16": {"", "192.0.2.0/24"}, "192.0.2.32/27": {"192.0.2.0/24", ""}, "::/0": {"", ""},
	} {
		covering, within := s.Around(netip.MustParsePrefix(p), start)
		if got := [2]string{names(covering), names(within)}; got != want {
			t.Errorf("around %s: %q, want %q", p, got, want)
		}
	}
	if _, ok := (*Set)(nil).Over(mfp.Addr(), start); ok || (*Set)(nil).All() != nil {
		t.Error("the nil set blocks")
	}
}

// FuzzLocal: whatever a program writes, what comes out is in canonical form and
// within bounds, and the same line gives the same block.
func FuzzLocal(f *testing.F) {
	f.Add("192.0.2.21 spam\n2001:db8:1::/64 until=2026-12-01T00:00:00Z scans\n")
	f.Add("0.0.0.0/0 wide=yes x\n# c\r\n\r\n1.2.3.4/33 x\n")
	f.Fuzz(func(t *testing.T, content string) {
		list, bad, err := parseLocal([]byte(content))
		if err != nil && len(list) > 0 || len(list) > MaxLocal || len(list)+len(bad) > maxLocalLines {
			t.Fatalf("%d blocks, %d bad lines, %v", len(list), len(bad), err)
		}
		for _, b := range list {
			if p, err := ParsePrefix(Text(b.Prefix)); err != nil || p != b.Prefix {
				t.Errorf("%v is not canonical", b.Prefix)
			}
			if r, err := ParseReason(b.Reason); err != nil || r != b.Reason || b.Line < 1 {
				t.Errorf("%+v: %v", b, err)
			}
		}
	})
}

// FuzzSaved: whatever is on the disk, what is in force is sound, and the same
// after it was written again.
func FuzzSaved(f *testing.F) {
	good, err := encode([]Block{{Prefix: mfp, Reason: "spam", Since: start}, {Prefix: six, Reason: "scans", Since: start, Until: start}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, _ := decode(data)
		again, err := encode(list)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode(again); err != nil || !slices.Equal(back, list) {
			t.Errorf("%+v, %v, and then %+v", list, err, back)
		}
	})
}
