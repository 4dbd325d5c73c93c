package blocks

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var (
	start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	mfp   = netip.MustParsePrefix("192.0.2.21/32")
	floor = netip.MustParsePrefix("192.0.2.0/24")
	six   = netip.MustParsePrefix("2001:db8:1::/64")
)

// open opens a list at a clock that stands.
func open(t *testing.T, o Options) *List {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return start }
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func add(t *testing.T, l *List, p netip.Prefix, reason string, lasts time.Duration) Block {
	t.Helper()
	b, _, err := l.Add(p, reason, lasts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// names are the prefixes of some blocks.
func names(list []Block) string {
	var out []string
	for _, b := range list {
		out = append(out, Text(b.Prefix))
	}
	return strings.Join(out, " ")
}

func TestBlocksSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	var told []string
	changed := func(s *Set) { told = append(told, names(s.All())) }
	clock := start
	l := open(t, Options{Dir: dir, Changed: changed, Now: func() time.Time { return clock }})
	first := add(t, l, mfp, "  sends <spam> & \"more\" \u00e4 ", 0)
	if first != (Block{Prefix: mfp, Reason: `sends <spam> & "more" ä`, Since: start}) {
		t.Errorf("%+v", first)
	}
	add(t, l, six, "scans", time.Hour)
	add(t, l, floor, "worm", 0)
	clock = start.Add(time.Minute)
	again, before, err := l.Add(mfp, "still", 2*time.Hour)
	if err != nil || before == nil || *before != first || again.Since != first.Since || again.Until != clock.Add(2*time.Hour) || again.Reason != "still" {
		t.Errorf("%+v, %+v, %v", again, before, err)
	}
	if want := []string{"", "192.0.2.21", "192.0.2.21 2001:db8:1::/64", "192.0.2.0/24 192.0.2.21 2001:db8:1::/64", "192.0.2.0/24 192.0.2.21 2001:db8:1::/64"}; !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
	back := open(t, Options{Dir: dir})
	if !slices.Equal(back.Set().Commands(), l.Set().Commands()) {
		t.Errorf("before %+v, after %+v", l.Set().Commands(), back.Set().Commands())
	}
	removed, err := back.Remove(mfp)
	if err != nil || removed != again {
		t.Errorf("%+v, %v", removed, err)
	}
	if _, err := back.Remove(mfp); !errors.Is(err, ErrUnknown) {
		t.Errorf("twice: %v", err)
	}
	if got := names(open(t, Options{Dir: dir}).Set().All()); got != "192.0.2.0/24 2001:db8:1::/64" {
		t.Errorf("got %s", got)
	}
	if back.State() != (State{}) {
		t.Errorf("%+v", back.State())
	}
}

func TestWhatIsNotTaken(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	for name, tc := range map[string]struct {
		p      netip.Prefix
		reason string
		lasts  time.Duration
	}{
		"no reason":            {mfp, " ", 0},
		"a reason of two":      {mfp, "a\nb", 0},
		"one that is too long": {mfp, strings.Repeat("ä", MaxReason+1), 0},
		"no prefix":            {netip.Prefix{}, "x", 0},
		"bits beyond":          {netip.MustParsePrefix("192.0.2.21/24"), "x", 0},
		"mapped":               {netip.MustParsePrefix("::ffff:192.0.2.21/128"), "x", 0},
		"too short":            {mfp, "x", time.Millisecond},
		"too long":             {mfp, "x", MaxFor + 1},
		"before now":           {mfp, "x", -time.Hour},
	} {
		if _, _, err := l.Add(tc.p, tc.reason, tc.lasts); err == nil || errors.Is(err, ErrUnsaved) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "commands")); err == nil || len(l.Set().All()) > 0 {
		t.Error("something was taken")
	}
	add(t, l, mfp, strings.Repeat("ä", MaxReason), MaxFor)
}

func TestThereIsRoomForSoMany(t *testing.T) {
	dir := t.TempDir()
	var list []Block
	for i := range MaxCommands - 1 {
		list = append(list, Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32), Reason: strings.Repeat("𝄞", MaxReason), Since: start})
	}
	data, err := encode(list)
	if err != nil || os.WriteFile(filepath.Join(dir, "commands"), data, 0o600) != nil {
		t.Fatal(err)
	}
	l := open(t, Options{Dir: dir})
	add(t, l, floor, strings.Repeat("<", MaxReason), MaxFor)
	if _, _, err := l.Add(mfp, "x", 0); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	if _, before, err := l.Add(netip.MustParsePrefix("10.0.0.0/32"), "another reason", 0); err != nil || before == nil {
		t.Errorf("one that is there: %v", err)
	}
	if got := len(open(t, Options{Dir: dir}).Set().All()); got != MaxCommands {
		t.Errorf("%d after a restart", got)
	}
}

// TestDamageCostsWhatIsDamaged: the sound lines stay in force, and somebody is
// asked to look, until the file that was put aside is gone.
func TestDamageCostsWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "commands")
	l := open(t, Options{Dir: dir})
	for _, p := range []netip.Prefix{mfp, floor, six} {
		add(t, l, p, "spam", 0)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flip := slices.Clone(good)
	flip[bytes.Index(good, []byte("192.0.2.21"))+len("192.0.2.2")] ^= 1 // another address
	for name, tc := range map[string]struct {
		content []byte
		want    string
	}{
		"a bit":              {flip, "192.0.2.0/24 2001:db8:1::/64"},
		"cut in a line":      {good[:len(good)-5], "192.0.2.0/24 192.0.2.21"},
		"cut at a line":      {good[:bytes.LastIndexByte(good[:len(good)-1], '\n')+1], "192.0.2.0/24 192.0.2.21"},
		"without its head":   {good[bytes.IndexByte(good, '\n')+1:], "192.0.2.21 2001:db8:1::/64"},
		"empty":              {nil, ""},
		"zeros":              {make([]byte, len(good)), ""},
		"too large":          {bytes.Repeat([]byte("x"), maxSaved+1), ""},
		"a line twice":       {append(slices.Clone(good), good[bytes.IndexByte(good, '\n')+1:]...), "192.0.2.0/24 192.0.2.21 2001:db8:1::/64"},
		"of a later version": {bytes.Replace(good, sealed(t, `{"version":1,"blocks":3}`), sealed(t, `{"version":2,"blocks":3}`), 1), "192.0.2.0/24 192.0.2.21 2001:db8:1::/64"},
		"a prefix of none":   {slices.Concat(good, sealed(t, `{"prefix":"192.0.2.1/24","reason":"x"}`)), "192.0.2.0/24 192.0.2.21 2001:db8:1::/64"},
		"a reason of none":   {slices.Concat(good, sealed(t, `{"prefix":"192.0.2.1/32","reason":""}`)), "192.0.2.0/24 192.0.2.21 2001:db8:1::/64"},
		"no JSON":            {slices.Concat(good, sealed(t, `x`)), "192.0.2.0/24 192.0.2.21 2001:db8:1::/64"},
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove(file + ".damaged")
			if err := os.WriteFile(file, tc.content, 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			l := open(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if got := names(l.Set().All()); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if aside, err := os.ReadFile(file + ".damaged"); err != nil || !bytes.Equal(aside, tc.content) || l.State().Damaged != file+".damaged" || !strings.Contains(log.String(), "block.damaged") {
				t.Errorf("not put aside: %v, %+v, %s", err, l.State(), log.String())
			}
			l = open(t, Options{Dir: dir}) // once more: it is told, and nothing is lost twice
			if got := names(l.Set().All()); got != tc.want || l.State().Damaged == "" {
				t.Errorf("after another start: %q, %+v", got, l.State())
			}
			if os.Remove(file+".damaged") != nil || l.State().Damaged != "" {
				t.Error("it is told for ever")
			}
		})
	}
}

// sealed is a line with a right checksum.
func sealed(t *testing.T, content string) []byte {
	t.Helper()
	return seal([]byte(content))
}

// TestTheTimeOfABlockEnds by the clock, for new questions at once; the list and
// the file follow.
func TestTheTimeOfABlockEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		l := open(t, Options{Dir: dir, Now: time.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		var told []string
		l.o.Changed = func(s *Set) { told = append(told, names(s.All())) }
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		add(t, l, floor, "for good", 0)
		add(t, l, mfp, "for an hour", time.Hour)
		<-time.After(time.Hour - time.Nanosecond)
		if b, ok := l.Set().Over(mfp.Addr(), time.Now()); !ok || b.Prefix != mfp {
			t.Errorf("before the end: %+v", b)
		}
		<-time.After(time.Nanosecond)
		if b, ok := l.Set().Over(mfp.Addr(), time.Now()); !ok || b.Prefix != floor {
			t.Errorf("at the end: %+v", b)
		}
		synctest.Wait()
		if len(told) != 3 || told[2] != "192.0.2.0/24" || !strings.Contains(log.String(), "block.ended") {
			t.Errorf("told %q\n%s", told, log.String())
		}
		if got := names(open(t, Options{Dir: dir, Now: time.Now}).Set().All()); got != "192.0.2.0/24" {
			t.Errorf("after a restart: %s", got)
		}
		// What has ended makes room for a new one, with a beginning of its own.
		if b := add(t, l, mfp, "again", time.Minute); !b.Since.Equal(time.Now()) {
			t.Errorf("since %v", b.Since)
		}
		cancel()
		running.Wait()
	})
}

func TestManyOperatorsAtOnce(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	var running, all sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	for i := range 8 {
		all.Go(func() {
			for j := range 6 {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(j)}), 32)
				if _, _, err := l.Add(p, "spam", 0); err != nil {
					t.Error(err)
				}
				if _, err := l.Remove(p); j%2 == 0 && err != nil {
					t.Error(err)
				} else if j%2 == 1 {
					add(t, l, p, "again", 0)
				}
				_, _ = l.Set().Over(p.Addr(), start)
				_ = l.State()
			}
		})
	}
	all.Wait()
	cancel()
	running.Wait()
	if got, back := len(l.Set().All()), len(open(t, Options{Dir: dir}).Set().All()); got != 24 || back != 24 {
		t.Errorf("%d, %d after a restart", got, back)
	}
}

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	file := local(t, "192.0.2.1 x\n192.0.2.2 until=2026-01-01T00:00:00Z x\nnonsense\n")
	reg := prometheus.NewRegistry()
	l := open(t, Options{Dir: dir, Local: file, Registerer: reg})
	add(t, l, mfp, "spam", 0)
	l.o.Write = failing(1, false, false).write
	_, _, _ = l.Add(floor, "spam", 0)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.ReadLocal()
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gatepost_blocks_file_bad_lines Lines of the local file of blocks that make no sense and block nothing.
# TYPE gatepost_blocks_file_bad_lines gauge
gatepost_blocks_file_bad_lines 1
# HELP gatepost_blocks_file_failing 1: the local file of blocks cannot be used; what was read before stays in force.
# TYPE gatepost_blocks_file_failing gauge
gatepost_blocks_file_failing 1
# HELP gatepost_blocks_in_force Break-glass blocks in force, by source: command, file.
# TYPE gatepost_blocks_in_force gauge
gatepost_blocks_in_force{source="command"} 2
gatepost_blocks_in_force{source="file"} 1
# HELP gatepost_blocks_unsaved 1: the blocks by command are not on the disk and would be lost in a restart.
# TYPE gatepost_blocks_unsaved gauge
gatepost_blocks_unsaved 1
`)); err != nil {
		t.Error(err)
	}
}
