package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/status"
)

func (s *spoken) Mails(context.Context) ([]status.LastMail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.about++
	return []status.LastMail{{IP: netip.MustParseAddr("192.0.2.1"), Last: time.Now()}}, s.fails
}

// TestLastMails: the newest sight of any relay counts, what one does not say
// makes the list incomplete, and the relays are not asked for each page.
func TestLastMails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &spoken{}, &spoken{}
		relays := map[string]*spoken{"a": a, "b": b}
		f, err := New(Options{Sources: []Source{{Name: "a"}, {Name: "b"}}, Dial: func(s Source) (Client, error) { return relays[s.Name], nil }})
		if err != nil {
			t.Fatal(err)
		}
		last, all, err := f.LastMail(t.Context())
		if err != nil || !all || !last[netip.MustParseAddr("192.0.2.1")].Equal(time.Now()) || len(last) != 1 {
			t.Errorf("%v %t %v", last, all, err)
		}
		for range 10 {
			if _, _, err := f.LastMail(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if a.about != 1 {
			t.Errorf("it was asked %d times within two minutes", a.about)
		}
		<-time.After(3 * time.Minute)
		b.say(errors.New("no route to host"))
		if last, all, err := f.LastMail(t.Context()); err != nil || all || len(last) != 1 {
			t.Errorf("with one relay away: %v %t %v", last, all, err)
		}
	})
}

// TestMailsOverHTTPS: a list as a relay writes it, and what is none.
func TestMailsOverHTTPS(t *testing.T) {
	for name, tt := range map[string]struct {
		says string
		want int
		err  string
	}{
		"two":     {`{"ip":"192.0.2.1","first":"2026-01-01T00:00:00Z","last":"2026-01-02T00:00:00Z"}` + "\n" + `{"ip":"2001:db8::1","first":"2026-01-01T00:00:00Z","last":"2026-01-02T00:00:00Z"}` + "\n", 2, ""},
		"none":    {"", 0, ""},
		"no JSON": {"<html>\n", 0, "not understood"},
		"no IP":   {"{}\n", 0, "not understood"},
		"endless": {strings.Repeat("x", 1<<20), 0, "broke off"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+token || r.URL.Path != "/v1/mails" {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				fmt.Fprint(w, tt.says)
			})
			list, err := d.client(t).Mails(t.Context())
			if len(list) != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v %v", list, err)
			}
		})
	}
}
