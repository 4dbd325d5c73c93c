package evidence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// needs skips the test by name when a program is missing; in CI, where
// .ci/run installs them all, it fails instead.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("GATEPOST_NO_SKIP") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

func claim(ip, name string) Claim {
	return Claim{IP: netip.MustParseAddr(ip), Name: name, Department: "lsa-physics"}
}

// observe asks one source as Gather does and wants an outcome and a part of
// the text.
func observe(t *testing.T, s Source, c Claim, outcome Outcome, text string) Finding {
	t.Helper()
	reports, err := Gather(t.Context(), []Claim{c}, []Source{s}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := reports[0].Findings[0]
	if f.Outcome != outcome || !strings.Contains(f.Text, text) || f.Source != s.Name() {
		t.Errorf("%s %s: %s: %s %q, want %s with %q", c.IP, c.Name, f.Source, f.Outcome, f.Text, outcome, text)
	}
	return f
}

// scripted is a source that does what it is told.
type scripted struct {
	name  string
	asked atomic.Int64
	do    func(ctx context.Context, c Claim) (Finding, error)
}

func (s *scripted) Name() string { return s.name }
func (s *scripted) Observe(ctx context.Context, c Claim) (Finding, error) {
	s.asked.Add(1)
	return s.do(ctx, c)
}

func hang(ctx context.Context, _ Claim) (Finding, error) {
	<-ctx.Done()
	return Finding{Outcome: Confirmed, Text: "made up"}, ctx.Err()
}

func agree(_ context.Context, c Claim) (Finding, error) {
	return Finding{Outcome: Confirmed, Text: "yes, " + c.Name}, nil
}

func claims(n int) []Claim {
	all := make([]Claim, n)
	for i := range all {
		all[i] = claim(fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("host%d.example.edu", i))
	}
	return all
}

func TestASourceThatHangsIsUnknownAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, quick := &scripted{name: "slow", do: hang}, &scripted{name: "quick", do: agree}
		start := time.Now()
		reports, err := Gather(t.Context(), claims(200), []Source{slow, quick}, Options{Timeout: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range reports {
			if f := r.Findings[0]; f.Source != "slow" || f.Outcome != Unknown || f.Text == "" || strings.Contains(f.Text, "made up") {
				t.Fatalf("slow: %+v", f)
			}
			if f := r.Findings[1]; f.Outcome != Confirmed || f.Text != fmt.Sprintf("yes, host%d.example.edu", i) {
				t.Fatalf("quick: %+v", f)
			}
		}
		if took := time.Since(start); took > 6*time.Second { // some workers ask once more before the others have failed
			t.Errorf("took %s: a source that is down must not be asked 200 times", took)
		}
		if slow.asked.Load() > workers+maxFailures {
			t.Errorf("asked %d times", slow.asked.Load())
		}
	})
}

func TestAFailureNowAndThenEndsNothing(t *testing.T) {
	var n atomic.Int64
	s := &scripted{name: "s", do: func(_ context.Context, c Claim) (Finding, error) {
		if n.Add(1)%3 == 0 {
			return Finding{Outcome: Confirmed}, errors.New("broken\x1b[31m\npipe")
		}
		return Finding{Outcome: Contradicted, Text: "no"}, nil
	}}
	var asked atomic.Int64
	reports, err := Gather(t.Context(), claims(90), []Source{s}, Options{Asked: func() { asked.Add(1) }})
	if err != nil || asked.Load() != 90 || s.asked.Load() != 90 {
		t.Fatalf("%v, asked %d", err, s.asked.Load())
	}
	unknown := 0
	for _, r := range reports {
		if f := r.Findings[0]; f.Outcome == Unknown {
			if unknown++; f.Text != "could not be asked: broken [31m pipe" {
				t.Errorf("%q", f.Text)
			}
		}
	}
	if unknown != 30 {
		t.Errorf("%d unknown, want 30", unknown)
	}
}

func TestGatherEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &scripted{name: "s", do: func(ctx context.Context, c Claim) (Finding, error) { cancel(); return hang(ctx, c) }}
	if _, err := Gather(ctx, claims(50), []Source{s}, Options{Timeout: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestGatherWithNothingToAsk(t *testing.T) {
	if r, err := Gather(t.Context(), nil, []Source{&scripted{name: "s", do: hang}}, Options{}); err != nil || len(r) != 0 {
		t.Error(r, err)
	}
	if r, err := Gather(t.Context(), claims(1), nil, Options{}); err != nil || len(r) != 1 || len(r[0].Findings) != 0 {
		t.Error(r, err)
	}
}

func TestHostileTextIsOneShortLine(t *testing.T) {
	s := &scripted{name: "s", do: func(context.Context, Claim) (Finding, error) {
		f := Finding{Text: "a\u202eb\x00c\r\n\u2028d \xff" + strings.Repeat("é", 5000)}
		for range 100 {
			f.Detail = append(f.Detail, "x\n::error::y")
		}
		return f, nil
	}}
	reports, _ := Gather(t.Context(), claims(1), []Source{s}, Options{})
	f := reports[0].Findings[0]
	if !strings.HasPrefix(f.Text, "a b c d ?é") || len(f.Text) > maxText || !utf8.ValidString(f.Text) || !strings.HasSuffix(f.Text, "…") {
		t.Errorf("%d octets: %q", len(f.Text), f.Text)
	}
	if len(f.Detail) != maxDetails || f.Detail[0] != "x ::error::y" {
		t.Errorf("%q", f.Detail)
	}
}
