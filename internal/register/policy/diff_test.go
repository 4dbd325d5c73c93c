package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"example.edu/gatepost/internal/register/registration"
)

func snapshot(t testing.TB, commit string, fs ...*registration.File) *Snapshot {
	t.Helper()
	s, problems := Build(append(campus(), fs...), Options{Commit: commit})
	for _, p := range problems {
		t.Fatal(p)
	}
	return s
}

func briefChanges(changes []Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Kind, c.IP, strings.Join(c.What, "; "))))
	}
	return out
}

func TestDiff(t *testing.T) {
	mfp := request(mfpPath, "141.211.13.21", "2607:f018:1:13::22")
	base := snapshot(t, "a", mfp, block("gone", "141.212.7.0/24", "2026-11-01", ""), block("stays", "141.212.8.0/24", "2026-11-01", ""), block("longer", "141.212.1.9/32", "2026-11-01", "2026-12-01"),
		request(alarmPath, "141.212.1.9"))
	moved := *request("registrations/lsa-physics/b.cue", "141.211.13.21")
	for _, tt := range []struct {
		name string
		base *Snapshot
		head *Snapshot
		want []string
	}{
		{"nothing and nothing", nil, nil, nil},
		{"the same", base, base, nil},
		{"other lines, comments and commits are no change", snapshot(t, "a", mfp), snapshot(t, "b", with(mfp, func(r *registration.Registration) { r.Hosts[0].At.Line++; r.At.Expires.Line++ })), nil},
		{"all new", nil, snapshot(t, "b", mfp, block("b", "141.211.13.0/24", "2026-11-01", "")),
			[]string{"added 141.211.13.21/32", "added 2607:f018:1:13::22/128", "blocked 141.211.13.0/24"}},
		{"all gone", snapshot(t, "a", mfp), nil, []string{"removed 141.211.13.21/32", "removed 2607:f018:1:13::22/128"}},
		{"one of two moves to another file", snapshot(t, "a", mfp), snapshot(t, "b", &moved, request(mfpPath, "2607:f018:1:13::22")),
			[]string{"changed 141.211.13.21/32 file: registrations/lsa-physics/mfp.cue → registrations/lsa-physics/b.cue",
				"changed 2607:f018:1:13::22/128 name: h1.umich.edu → h0.umich.edu"}},
		{"what changed is said", snapshot(t, "a", request(mfpPath, "141.211.13.21")), snapshot(t, "b", with(request(mfpPath, "141.211.13.21"), func(r *registration.Registration) {
			r.Senders, r.Expires, r.Volume.PerDay, r.Hosts[0].Device.TLS = []string{"b@umich.edu", "*@a.umich.edu"}, day("2028-06-30"), 2000, "off"
		})), []string{"changed 141.211.13.21/32 tls: modern → off; senders: any → *@a.umich.edu, b@umich.edu; perDay: 1000 → 2000; expires: 2027-11-30 → 2028-06-30"}},
		{"who is told of failures", snapshot(t, "a", request(mfpPath, "141.211.13.21")), snapshot(t, "b", with(request(mfpPath, "141.211.13.21"), func(r *registration.Registration) {
			r.Bounces = registration.BouncesToContact
		})), []string{"changed 141.211.13.21/32 bounces: sender → contact"}},
		{"blocks come, change and go", base, snapshot(t, "b", mfp, request(alarmPath, "141.212.1.9"), block("new", "141.212.9.0/24", "2026-11-01", ""),
			block("stays-under-another-name", "141.212.8.0/24", "2026-11-01", ""), block("longer", "141.212.1.9/32", "2026-11-01", "2027-01-01")),
			[]string{`changed 141.212.1.9/32 block: "sent spam" since 2026-11-01T00:00:00Z until 2026-12-01T00:00:00Z → "sent spam" since 2026-11-01T00:00:00Z until 2027-01-01T00:00:00Z`,
				"blocked 141.212.9.0/24", "unblocked 141.212.7.0/24"}},
		{"break-glass blocks are no change of the register", snapshot(t, "a", mfp), snapshot(t, "a", mfp).WithBlocks([]registration.Block{*block("x", "141.211.13.21/32", "2026-11-01", "").Block}), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := briefChanges(Diff(tt.base, tt.head)); !slices.Equal(got, tt.want) {
				t.Errorf(" got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestPlan(t *testing.T) {
	base := snapshot(t, "aaa", request(mfpPath, "141.211.13.21"), request("registrations/its/gone.cue", "141.211.1.1"), request("registrations/its/hand.cue", "141.211.1.2"))
	head := snapshot(t, "bbb", with(request(mfpPath, "141.211.13.21", "141.211.13.22"), func(r *registration.Registration) { r.Volume.PerHour = 50 }),
		request("registrations/its/barred.cue", "141.211.1.9"), with(request("registrations/its/hand.cue", "141.211.1.2"), func(r *registration.Registration) { r.Contact.Email = "other@umich.edu" }),
		block("one", "141.211.1.9/32", "2026-11-01", ""), block("net", "141.211.13.0/24", "2026-11-01", "2026-11-02"))
	plan := NewPlan(base, head)
	got, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "base": "aaa",
  "head": "bbb",
  "added": [
    {
      "ip": "141.211.1.9",
      "registration": "registrations/its/barred.cue",
      "department": "its",
      "contact": "it@its.umich.edu"
    },
    {
      "ip": "141.211.13.22",
      "registration": "registrations/lsa-physics/mfp.cue",
      "department": "lsa-physics",
      "contact": "it@lsa-physics.umich.edu"
    }
  ],
  "removed": [
    {
      "ip": "141.211.1.1",
      "registration": "registrations/its/gone.cue",
      "department": "its",
      "contact": "it@its.umich.edu"
    }
  ],
  "changed": [
    {
      "ip": "141.211.1.2",
      "registration": "registrations/its/hand.cue",
      "department": "its",
      "contact": "other@umich.edu",
      "what": [
        "contact: IT \u003cit@its.umich.edu\u003e → IT \u003cother@umich.edu\u003e"
      ]
    },
    {
      "ip": "141.211.13.21",
      "registration": "registrations/lsa-physics/mfp.cue",
      "department": "lsa-physics",
      "contact": "it@lsa-physics.umich.edu",
      "what": [
        "perHour: 100 → 50"
      ]
    }
  ],
  "blocked": [
    {
      "ip": "141.211.1.9",
      "registration": "registrations/its/barred.cue",
      "department": "its",
      "contact": "it@its.umich.edu",
      "block": "registrations/blocks/one.cue",
      "affects": 1
    },
    {
      "ip": "141.211.13.0/24",
      "registration": "",
      "department": "",
      "contact": "",
      "block": "registrations/blocks/net.cue",
      "affects": 2
    }
  ],
  "unblocked": [],
  "confirmations": [
    {
      "ip": "141.211.13.22",
      "to": "it@lsa-physics.umich.edu"
    }
  ],
  "senders": [
    {
      "ip": "141.211.1.9",
      "registration": "registrations/its/barred.cue",
      "department": "its",
      "senders": [
        "any"
      ],
      "before": []
    },
    {
      "ip": "141.211.13.22",
      "registration": "registrations/lsa-physics/mfp.cue",
      "department": "lsa-physics",
      "senders": [
        "any"
      ],
      "before": []
    }
  ],
  "warnings": [],
  "before": 3,
  "after": 4,
  "digest": "` + plan.Digest + `"
}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
	if !strings.HasPrefix(plan.Digest, "sha256:") || len(plan.Digest) != len("sha256:")+64 {
		t.Errorf("digest %q", plan.Digest)
	}

	again, other := NewPlan(base, head), NewPlan(base, snapshot(t, "ccc", request(mfpPath, "141.211.13.21")))
	again2 := NewPlan(base, func() *Snapshot { s := *head; s.commit = "ddd"; return &s }())
	if again.Digest != plan.Digest || again2.Digest != plan.Digest || again2.Head != "ddd" || other.Digest == plan.Digest {
		t.Error("the digest must follow the effect, not the commits")
	}
	terms := NewPlan(base, snapshot(t, "bbb", with(request(mfpPath, "141.211.13.21", "141.211.13.22"), func(r *registration.Registration) { r.Volume.PerHour = 50 }),
		request("registrations/its/barred.cue", "141.211.1.9"), with(request("registrations/its/hand.cue", "141.211.1.2"), func(r *registration.Registration) { r.Contact.Email = "other@umich.edu" }),
		with(request("registrations/its/other.cue", "141.211.1.77"), func(r *registration.Registration) { r.Volume.PerDay = 999 })))
	terms2 := NewPlan(base, snapshot(t, "bbb", with(request(mfpPath, "141.211.13.21", "141.211.13.22"), func(r *registration.Registration) { r.Volume.PerHour = 50 }),
		request("registrations/its/barred.cue", "141.211.1.9"), with(request("registrations/its/hand.cue", "141.211.1.2"), func(r *registration.Registration) { r.Contact.Email = "other@umich.edu" }),
		with(request("registrations/its/other.cue", "141.211.1.77"), func(r *registration.Registration) { r.Volume.PerDay = 998 })))
	if terms.Digest == terms2.Digest {
		t.Error("the digest must follow the terms of what is added")
	}
	if empty := NewPlan(base, base); !empty.Empty() || plan.Empty() || len(empty.Confirmations) != 0 {
		t.Error("Empty")
	}
	if first := NewPlan(nil, base); len(first.Added) != 3 || first.Base != "" || len(first.Confirmations) != 3 {
		t.Errorf("from nothing: %+v", first)
	}
}
