package form

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// What a visitor writes stays text: no mention, no reference, no markup, no
// trailer, neither on the page of the request nor in the message of its commit.
func TestARequestsWords(t *testing.T) {
	base := sample(t, "", nil)
	j, err := Judge(base, filled(), Options{Now: today()})
	if err != nil {
		t.Fatal(err)
	}
	for _, hostile := range []string{
		"plain words", "@octocat and @org/team, mail joe@umich.edu", "Fixes #12, closes GH-7 and octo/repo#9, https://github.com/o/r/issues/3",
		"```\n<script>alert(1)</script>\n````text\n@all", "> quoted\n\n# heading\n[link](javascript:x)", "-->\n<!-- x", "~~~\n@a\n~~~",
		"last words\n\nCo-authored-by: Mallory <m@example.com>\nSigned-off-by: x <y@z>", "\x1b[31m\u202e\u2028 and \x00", "##[error]x\n##vso[task]", "@@octocat", "#\u200b1 ##2", "`a``b```c````", "~", strings.Repeat("`", 5000),
	} {
		r := j.Request(Asker{Name: hostile, Email: hostile, Speaks: true}, hostile)
		if r.Title != "Register mfp7.physics.lsa.umich.edu for lsa-physics" || r.Name != "lsa-physics-mfp7" {
			t.Errorf("%q, %q", r.Title, r.Name)
		}
		if len(r.Body) > 60_000 {
			t.Errorf("%d bytes", len(r.Body))
		}
		if mention.MatchString(r.Body) || reference.MatchString(r.Body) {
			t.Errorf("a forge would act on\n%s", r.Body)
		}
		lines := strings.Split(strings.TrimSuffix(r.Body, "\n"), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "Made with the form of the portal") || lines[len(lines)-2] != "" {
			t.Errorf("the last paragraph is %q", last)
		}
		quoted, fence := false, ""
		for i, line := range lines {
			switch {
			case i == 0:
				if strings.Count(line, "`") != 6 || !strings.HasPrefix(line, "Asked for by `") {
					t.Errorf("the first line is %q", line)
				}
			case !strings.HasPrefix(line, ">"):
				if quoted || line != "" && line != "They say:" && i != len(lines)-1 {
					t.Errorf("a line of the visitor's stands by itself: %q", line)
				}
			case fence == "":
				fence, quoted = strings.TrimSuffix(strings.TrimPrefix(line, "> "), "text"), true
			case line == "> "+fence:
				quoted = false
			case quoted && strings.Contains(line, fence):
				t.Errorf("the fence %q is left by %q", fence, line)
			case !quoted:
				t.Errorf("a line behind the quote: %q", line)
			}
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == '\u202e' || r == '\u2028' }) {
				t.Errorf("control characters in %q", line)
			}
		}
	}
	for who, want := range map[Asker]string{
		{Name: "D", Email: "d@x"}:                   "who **does not speak** for `lsa-physics`: ask its speakers",
		{Name: "D", Email: "d@x", Speaks: true}:     "who speaks for `lsa-physics`.",
		{Name: "D", Email: "d@x", Postmaster: true}: "a postmaster. They do not speak for `lsa-physics`.",
		{}: "Asked for by `-` (`-`)",
	} {
		if body := j.Request(who, "").Body; !strings.Contains(body, want) || strings.Contains(body, "They say") {
			t.Errorf("%s\nlacks %q", body, want)
		}
	}
}

func TestTitles(t *testing.T) {
	base := sample(t, "", nil)
	for want, edit := range map[string]func(*Values){
		"Renew mfp1.physics.lsa.umich.edu and 2 more of lsa-physics until 2028-01-01":     func(v *Values) { v.Expires = "2028-01-01" },
		"Change the registration of mfp1.physics.lsa.umich.edu and 2 more of lsa-physics": func(v *Values) { v.Expires, v.PerHour = "2028-01-01", "201" },
		"Change the registration of mfp1.physics.lsa.umich.edu of lsa-physics":            func(v *Values) { v.Hosts = v.Hosts[:1] },
	} {
		v := Of(base.File("registrations/lsa-physics/mfp.cue"), today())
		v.Accept = filled().Accept
		edit(&v)
		j, err := Judge(base, v, Options{Now: today()})
		if err != nil || !j.Fine() {
			t.Fatalf("%v, %+v", err, j.Findings)
		}
		if got := j.Request(Asker{}, "").Title; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAWishIsFulfilled(t *testing.T) {
	base := sample(t, "", nil)
	ips := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	until := time.Date(2028, 7, 31, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name          string
		wish          Wish
		title         string
		edits         int
		changed, gone int
		unknown       int
		along         int
		found         []string
	}{
		{"renewed, the rest of the file along", Wish{Department: "lsa-physics", Renew: ips("141.211.13.21"), Until: until},
			"Renew 3 addresses until 2028-07-31 of lsa-physics", 1, 3, 0, 0, 2, nil},
		{"two files, one address struck out", Wish{Department: "lsa-physics", Renew: ips("141.211.13.21", "::ffff:141.211.14.40"), Remove: ips("2607:f018:1:13::22"), Until: until},
			"Renew 4 addresses until 2028-07-31 and remove 1 address of lsa-physics", 2, 4, 1, 0, 2, nil},
		{"a file goes with its last address", Wish{Department: "lsa-physics", Remove: ips("141.211.13.21", "141.211.13.22", "2607:f018:1:13::22")},
			"Remove 3 addresses of lsa-physics", 1, 0, 3, 0, 0, nil},
		{"others' and unknown ones are left alone", Wish{Department: "lsa-physics", Renew: ips("141.211.13.21", "141.211.20.1", "141.211.1.10"), Until: until},
			"Renew 3 addresses until 2028-07-31 of lsa-physics", 1, 3, 0, 2, 2, nil},
		{"too far", Wish{Department: "lsa-physics", Renew: ips("141.211.13.21"), Until: until.AddDate(2, 0, 0)},
			"Renew 3 addresses until 2030-07-31 of lsa-physics", 1, 3, 0, 0, 2, []string{"expiry-too-far"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Fulfil(base, tt.wish, today())
			if err != nil {
				t.Fatal(err)
			}
			r := b.Request(Asker{Name: "D", Email: "d@x"}, "")
			if r.Title != tt.title || len(r.Edits) != tt.edits || len(b.Plan.Changed) != tt.changed || len(b.Plan.Removed) != tt.gone || len(b.Unknown) != tt.unknown || len(b.Along) != tt.along {
				t.Errorf("%q, %d edits, %d changed, %d removed, %d unknown, %d along", r.Title, len(r.Edits), len(b.Plan.Changed), len(b.Plan.Removed), len(b.Unknown), len(b.Along))
			}
			if got := told(b.Findings); !slices.Equal(got, tt.found) || b.Fine() != (tt.found == nil) {
				t.Errorf("%q", got)
			}
			for _, e := range b.Edits {
				was := base.File(e.Path).Registration
				if e.Remove {
					continue
				}
				if text := string(base.Text(e.Path)); strings.HasPrefix(text, "//") && !strings.HasPrefix(string(e.Data), strings.SplitAfter(text, "\n")[0]) {
					t.Errorf("%s: the comment is lost:\n%s", e.Path, e.Data)
				}
				if !strings.Contains(string(e.Data), was.Purpose) || registration.Kind(e.Path) != registration.KindRegistration {
					t.Errorf("%s\n%s", e.Path, e.Data)
				}
			}
		})
	}
	if _, err := Fulfil(base, Wish{Department: "lsa-physics", Renew: ips("141.211.13.21"), Until: today()}, today()); !errors.Is(err, ErrWish) {
		t.Errorf("a renewal makes it shorter: %v", err)
	}
	if _, err := Fulfil(base, Wish{Department: "its", Renew: ips("141.211.13.21")}, today()); !errors.Is(err, ErrWish) {
		t.Error("an address of another department is renewed")
	}
}
