package view_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/gitsync"
)

// A source is a register of a few files that can change, or fail.
type source struct {
	mu    sync.Mutex // guards what follows
	head  byte
	files map[string]string
	fail  error
	reads int
}

func (s *source) Fetch(context.Context) (gitsync.Hash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return gitsync.Hash{s.head}, s.fail
}

// change has the branch be another one from now on.
func (s *source) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *source) Files(_ context.Context, _ gitsync.Hash, under ...string) (list []gitsync.Entry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if under[0] != "registrations" {
		return nil, nil
	}
	for _, p := range []string{"registrations/campus/c.cue", "registrations/lab/a.cue", "registrations/lab/b.cue"} {
		if text, ok := s.files[p]; ok {
			list = append(list, gitsync.Entry{Path: p, Mode: gitsync.Regular, Hash: blob(text), Size: int64(len(text))})
		}
	}
	return list, nil
}

func (s *source) Read(_ context.Context, h gitsync.Hash, _ int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for _, text := range s.files {
		if blob(text) == h {
			return []byte(text), nil
		}
	}
	return nil, errors.New("no such blob")
}

func blob(text string) (h gitsync.Hash) {
	copy(h[:], text[max(0, len(text)-20):])
	return h
}

const campus = `campus: ["192.0.2.0/24"]
networks: "192.0.2.0/24": {department: "lab", use: "static"}
departments: lab: {name: "Lab", speakers: [{github: "a", id: 1}], contactDomains: ["lab.example"]}
`

func printer(ip string) string {
	return `department: "lab"
contact: {name: "IT", email: "it@lab.example"}
purpose: "Scans to mail, from the lab."
whyNoAuth: "It has no way to sign in."
volume: {perHour: 10, perDay: 100}
expires: "2027-01-01"
accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}
hosts: [{kind: "printer", name: "p.lab.example", ip: "` + ip + `"}]
`
}

// TestFollows: the view has what the branch has, keeps it when the branch
// cannot be read, and reads no more than what differs.
func TestFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{head: 1, files: map[string]string{"registrations/campus/c.cue": campus, "registrations/lab/a.cue": printer("192.0.2.1")}}
		v := view.New(view.Options{Source: src, Poll: time.Minute, Now: time.Now})
		if v.Now() != nil {
			t.Fatal("there is a register before the first look")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- v.Run(ctx) }()
		synctest.Wait()
		has := func(want ...string) {
			t.Helper()
			var got []string
			for _, e := range v.Now().Of("lab") {
				got = append(got, e.Host.IP.String())
			}
			if len(got) != len(want) {
				t.Fatalf("it has %v, and not %v; problems %v", got, want, v.Now().Base.Problems(time.Now()))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("it has %v, and not %v", got, want)
				}
			}
		}
		has("192.0.2.1")

		changed, before := v.Changed(), src.reads
		src.change(func() { src.head, src.files["registrations/lab/b.cue"] = 2, printer("192.0.2.2") })
		v.Wake()
		synctest.Wait()
		has("192.0.2.1", "192.0.2.2")
		select {
		case <-changed:
		default:
			t.Error("nobody was told of the change")
		}
		if src.reads != before+1 {
			t.Errorf("%d files were read for one that is new", src.reads-before)
		}

		src.change(func() { src.fail = errors.New("no route to host") })
		<-time.After(2 * time.Minute)
		has("192.0.2.1", "192.0.2.2")
		if looked, err := v.State(); err == nil || time.Since(looked) < time.Minute {
			t.Errorf("it says that it could look at %v (%v)", looked, err)
		}

		src.change(func() {
			src.fail, src.head = nil, 3
			delete(src.files, "registrations/lab/a.cue")
		})
		<-time.After(2 * time.Minute)
		has("192.0.2.2")
		if _, err := v.State(); err != nil {
			t.Error(err)
		}
		if _, ok := v.Now().Base.Snapshot().Find(netip.MustParseAddr("192.0.2.1")); ok {
			t.Error("a removed address is still there")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
