package queue

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/mail"
)

// TestPassedOnToOneThatDoesNotTell: NOTIFY=SUCCESS is answered where the next
// hop will not, for those who asked and nobody else, and once.
func TestPassedOnToOneThatDoesNotTell(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.c.set(func() {
			b.c.outcomes = func(to mail.Address, nth int) mail.Result {
				switch {
				case strings.HasPrefix(to.Local, "bad"):
					return mail.Result{Outcome: mail.Failed, RemoteMTA: "mx", Status: mail.Status{Code: 550}}
				case strings.HasPrefix(to.Local, "late") && nth == 1:
					return mail.Result{RemoteMTA: "mx", Status: mail.Status{Code: 450}}
				}
				return mail.Result{Outcome: mail.Delivered, RemoteMTA: "mx", DSN: to.Domain == "tells.example"}
			}
		})
		env := message("r", "asked@one.example", "unasked@one.example", "asked@tells.example", "bad@one.example", "late@one.example")
		for _, i := range []int{0, 2, 3, 4} {
			env.To[i].Notify = "SUCCESS,FAILURE"
		}
		b.Accept(b.mem.put(env, []byte(text)))
		null := message("r", "asked@one.example")
		null.From, null.To[0].Notify = mail.Address{}, "SUCCESS"
		b.Accept(b.mem.put(null, []byte(text)))
		synctest.Wait()
		reports := func(action string) (to []string) {
			for _, k := range b.c.dsns() {
				if k.to[0] == sender && strings.Contains(k.body, "Action: "+action) {
					for line := range strings.SplitSeq(k.body, "\r\n") {
						if a, ok := strings.CutPrefix(line, "Final-Recipient: rfc822; "); ok {
							to = append(to, a)
						}
					}
				}
			}
			return to
		}
		if got := strings.Join(reports("relayed"), " "); got != "asked@one.example" {
			t.Errorf("told of %s", got)
		}
		if got := strings.Join(reports("failed"), " "); got != "bad@one.example" {
			t.Errorf("failed: %s", got)
		}
		pass(10 * time.Minute)
		if got := strings.Join(reports("relayed"), " "); got != "asked@one.example late@one.example" || b.mem.len() != 0 {
			t.Errorf("told of %s, and %d are left", got, b.mem.len())
		}
	})
}

// TestASuccessThatCannotBeToldKeepsNoMessage: it has arrived, and must not
// again.
func TestASuccessThatCannotBeToldKeepsNoMessage(t *testing.T) {
	bubble(t, Options{}, func(b *bench) {
		b.mem.mu.Lock()
		b.mem.full = true
		b.mem.mu.Unlock()
		env := message("r", "a@one.example", "bad@one.example")
		env.To[0].Notify = "SUCCESS"
		e := b.mem.put(env, []byte(text))
		b.Accept(e)
		synctest.Wait()
		if row, err := b.Show(e.ID); err != nil || !row.State[0].Done || row.State[1].Done || row.Attempts != 1 {
			t.Fatalf("%+v, %v", row, err)
		}
		b.mem.mu.Lock()
		b.mem.full = false
		b.mem.mu.Unlock()
		pass(10 * time.Minute)
		if b.mem.len() != 0 || b.c.delivered("a@one.example") != 1 || len(b.c.dsns()) != 1 {
			t.Errorf("%d are left, %d deliveries, %d DSNs", b.mem.len(), b.c.delivered("a@one.example"), len(b.c.dsns()))
		}
	})
}

// TestTheContactIsToldInsteadOfTheVoid: of mail without a sender, of a report
// that the sender does not take, and of nothing after that.
func TestTheContactIsToldInsteadOfTheVoid(t *testing.T) {
	contact, _ := mail.ParseAddress("it@dept.example", false)
	for _, test := range []struct {
		name    string
		null    bool
		refuse  string // these domains take nothing
		contact bool   // is named
		want    string // who got a notification
	}{
		{"the sender is told", false, "one.example", true, sender},
		{"the sender takes no report", false, "one.example sender.example", true, "it@dept.example"},
		{"nor does the contact", false, "one.example sender.example dept.example", true, ""},
		{"nobody asked for it", false, "one.example sender.example", false, ""},
		{"no sender", true, "one.example", true, "it@dept.example"},
		{"no sender, and the contact takes none", true, "one.example dept.example", true, ""},
		{"no sender, and nobody asked for it", true, "one.example", false, "postmaster@relay.example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Options{}, func(b *bench) {
				b.c.set(func() {
					b.c.outcomes = func(to mail.Address, _ int) mail.Result {
						if strings.Contains(test.refuse, to.Domain) {
							return mail.Result{Outcome: mail.Failed, RemoteMTA: "mx", Status: mail.Status{Code: 550}}
						}
						return mail.Result{Outcome: mail.Delivered, RemoteMTA: "mx"}
					}
				})
				env := message("r", "x@one.example")
				env.Client = netip.MustParseAddr("192.0.2.7")
				if test.null {
					env.From = mail.Address{}
				}
				if test.contact {
					env.Contact = contact
				}
				b.Accept(b.mem.put(env, []byte(text)))
				pass(6 * day)
				var got []string
				for to, n := range b.c.copyOf(b.c.got) {
					for range n {
						got = append(got, to)
					}
				}
				if strings.Join(got, " ") != test.want || b.mem.len() != 0 {
					t.Errorf("told: %v, and %d are left", got, b.mem.len())
				}
				if n := b.c.count(); n > 3 {
					t.Errorf("%d attempts: a notice of a notice", n)
				}
			})
		})
	}
}
