package daemon_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/status"
)

// TestBranchThatCannotBeFollowed leaves the branch in each way that no
// ordinary merge does: the relay stays with what it has, through a restart,
// and says so, until the branch is right again or an operator says yes.
func TestBranchThatCannotBeFollowed(t *testing.T) {
	tests := []struct {
		name, says string
		leave      func(w *world)
	}{
		{"rewound", "set back", func(w *world) { w.git(w.checkout, "push", "-q", "-f", "origin", "HEAD~1:main") }},
		{"rewritten", "rewritten", func(w *world) {
			w.git(w.checkout, "commit", "-q", "--amend", "-m", "Another history")
			w.push("-f")
		}},
		{"deleted", "does not exist", func(w *world) { w.git(w.remote, "update-ref", "-d", "refs/heads/main") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.registered("scanner", "127.0.0.2")
			head := w.commit("A scanner")
			w.push()
			w.start()
			if got := w.report().Register.Commit; got != head {
				t.Fatalf("the relay is at %s and not at %s", got, head)
			}
			tt.leave(w)
			frozen := func(r status.Report) bool {
				return r.Register.Condition == status.Frozen && r.Register.Commit == head && strings.Contains(r.Register.Reason, tt.says)
			}
			w.waitReport("the register is frozen", frozen)
			w.accepted("127.0.0.2", "while frozen")
			w.stop()
			w.start()
			w.accepted("127.0.0.2", "after a restart")
			w.waitReport("it is frozen after a restart too", frozen)
			if r := w.report(); len(r.Findings) == 0 || r.Findings[0].Level != status.Wrong {
				t.Errorf("the findings do not begin with it: %+v", r.Findings)
			}

			newest := w.git(w.checkout, "rev-parse", "HEAD")
			if tt.name == "rewritten" {
				code, out := w.gatepost("accept", newest, "--reason", "a name was taken out of the history")
				if code != 0 {
					t.Fatalf("gatepost accept: %s", out)
				}
			} else {
				w.push("-f")
			}
			w.waitReport("the branch is followed again", func(r status.Report) bool {
				return r.Register.Condition == status.Following && r.Register.Commit == newest
			})
		})
	}
}

// TestGitHostDown takes the repository's host away: mail goes on, through a
// restart, and the relay says what is wrong; afterwards it catches up.
func TestGitHostDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.stopGit()
	w.waitReport("the host is missed", func(r status.Report) bool { return r.Register.Error != "" })
	w.accepted("127.0.0.1", "host down")

	w.kill()
	w.start() // waits until it is ready
	w.accepted("127.0.0.1", "host down, restarted")
	w.waitReport("the host is missed after a restart", func(r status.Report) bool {
		return r.Register.Error != "" && r.Register.Addresses == 1 && r.Register.Live == 1 && !r.Register.LastContact.IsZero()
	})
	w.eventually("host down arrives", func() bool { // twice, if it was on its way when the relay was killed
		return len(w.hop.holding("Subject: host down\r\n")) > 0
	})
	w.arrives("host down, restarted")

	w.registered("scanner", "127.0.0.2")
	w.commit("A scanner")
	w.push()
	w.hostGit()
	w.waitCommit()
	w.accepted("127.0.0.2", "host up")
	w.waitReport("the host is back", func(r status.Report) bool { return r.Register.Error == "" })
}

// TestNoRegisterYet starts a relay for the first time with the repository's
// host down: clients are asked to come back, and nobody is turned away.
func TestNoRegisterYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stopGit()
	w.configure()
	w.launch()
	w.eventually("the relay says that it is not ready", func() bool {
		code, text := w.page("/readyz")
		return code == 503 && strings.Contains(text, "no register")
	})
	for _, from := range []string{"127.0.0.1", "127.0.0.9", "127.1.0.1"} {
		_, greeting := w.dial(from)
		if !strings.HasPrefix(greeting, "421 4.3.2 ") {
			t.Errorf("%s is greeted with %q", from, greeting)
		}
	}
	if code, _ := w.page("/healthz"); code != 200 {
		t.Errorf("/healthz answers %d", code)
	}
	w.hostGit()
	w.waitReady()
	w.accepted("127.0.0.1", "register there")
	w.arrives("register there")
}

// TestBrokenFileHoldsNobodyUp brings in a commit in which one registration is
// broken, one was never good, and one is new.
func TestBrokenFileHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.write("registrations/lab/printer.cue", "department: \"lab\"\nhosts: [\n")
	w.write("registrations/lab/never.cue", "department: lab\n")
	w.registered("scanner", "127.0.0.2")
	w.commit("One good and two broken files")
	w.push()
	w.waitCommit()
	w.accepted("127.0.0.1", "the last good version")
	w.accepted("127.0.0.2", "the new one")
	g := w.report().Register
	if len(g.Substituted) != 1 || g.Substituted[0].File != "registrations/lab/printer.cue" || g.Dropped != 1 || g.ProblemCount < 2 {
		t.Errorf("the relay reports substituted %+v, dropped %d, %d problems", g.Substituted, g.Dropped, g.ProblemCount)
	}
	if code, out := w.gatepost("status"); code != 0 || !strings.Contains(out, "the last good version stays in force") {
		t.Errorf("gatepost status says (exit %d):\n%s", code, out)
	}
	w.kill()
	w.start()
	w.accepted("127.0.0.1", "the last good version after a kill")
}

// TestMassRemovalWaits merges the removal of half of the allowlist: nothing
// happens, through a restart, until an operator says yes.
func TestMassRemovalWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := 1; i <= 19; i++ {
		w.registered(fmt.Sprintf("mfp%d", i), fmt.Sprintf("127.0.1.%d", i))
	}
	before := w.commit("Nineteen printers more")
	w.push()
	w.start()
	head := w.merge("renumbering", 12, func() {
		for i := 1; i <= 10; i++ {
			w.git(w.checkout, "rm", "-q", fmt.Sprintf("registrations/lab/mfp%d.cue", i))
		}
	})
	held := func(r status.Report) bool {
		return r.Register.Condition == status.Held && r.Register.Commit == before && strings.Contains(r.Register.Command, head)
	}
	w.waitReport("the merge is held", held)
	w.accepted("127.0.1.1", "held")
	w.kill()
	w.start()
	w.waitReport("the merge is held after a kill", held)
	w.accepted("127.0.1.1", "held after a kill")

	if code, out := w.gatepost("accept", strings.Repeat("0", 40), "--reason", "a slip"); code != 2 || !strings.Contains(out, head) {
		t.Errorf("accepting a commit that there is not (exit %d):\n%s", code, out)
	}
	if code, out := w.gatepost("accept", head[:12], "--reason", "physics is renumbered"); code != 0 || !strings.Contains(out, "accepted") {
		t.Fatalf("gatepost accept (exit %d):\n%s", code, out)
	}
	w.waitReport("the merge is in force", func(r status.Report) bool {
		return r.Register.Condition == status.Following && r.Register.Commit == head && r.Register.Addresses == 10
	})
	w.refused("127.0.1.1", "550 5.7.1 127.0.1.1 is not registered")
	w.accepted("127.0.1.11", "one that stayed")
}

// TestBlock blocks an address by a commit, while it has a session open and a
// message in the queue.
func TestBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.extra = `queue: retry: ["1s"]`
	w.registered("scanner", "127.0.0.2")
	w.commit("A scanner")
	w.push()
	w.start()
	w.hop.answerTo("RCPT", "451 4.2.0 busy")
	w.accepted("127.0.0.1", "caught by the block")
	open, greeting := w.dial("127.0.0.1")
	open.expect(greeting, "220 ")
	open.expect(open.say("EHLO printer.lab.example"), "250")

	w.write("registrations/blocks/2026-printer.cue", fmt.Sprintf(
		"block: {ip: \"127.0.0.1\", reason: \"sent 40,000 messages overnight\", since: %q}\n", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)))
	w.commit("Block the printer")
	w.push()
	w.waitCommit()
	const blocked = "554 5.7.1 127.0.0.1 is blocked (2026-printer); write to postmaster@lab.example"
	open.expect(open.say("MAIL FROM:<device@lab.example>"), blocked)
	if more := open.say("NOOP"); more != "" {
		t.Errorf("the session goes on after the block: %q", more)
	}
	w.refused("127.0.0.1", blocked)
	w.waitReport("its mail is held", func(r status.Report) bool { return r.Queue.Depth["held"] == 1 })
	if code, out := w.gatepost("queue", "list", "--status", "held"); code != 0 || !strings.Contains(out, "sent 40,000 messages overnight") {
		t.Errorf("gatepost queue list (exit %d):\n%s", code, out)
	}

	w.hop.say(nil)
	w.accepted("127.0.0.2", "of another address")
	w.arrives("of another address")
	w.stop()
	w.start()
	w.waitReport("its mail is held after a restart", func(r status.Report) bool { return r.Queue.Depth["held"] == 1 })
	if got := w.hop.holding("caught by the block"); len(got) > 0 {
		t.Error("the blocked address's mail went out")
	}

	w.git(w.checkout, "rm", "-q", "registrations/blocks/2026-printer.cue")
	w.commit("The printer behaves again")
	w.push()
	w.arrives("caught by the block")
	w.accepted("127.0.0.1", "after the block")
}

// TestBlockEndsByItself lets the clock end a block.
func TestBlockEndsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	until := time.Now().Add(6 * time.Second)
	w.write("registrations/blocks/short.cue", fmt.Sprintf("block: {ip: \"127.0.0.1\", reason: \"a test\", since: %q, until: %q}\n",
		time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339)))
	w.commit("A short block")
	w.push()
	w.waitReport("the block counts", func(r status.Report) bool {
		return r.Register.Live == 0 || time.Now().After(until) // a slow machine may miss it
	})
	w.eventually("the block ends", func() bool { return strings.HasPrefix(w.send("127.0.0.1", "later"), "250") })
	if early := time.Until(until); early > time.Second {
		t.Errorf("the block ended %v too early", early)
	}
}

// TestStandingAtTheGate is what a client hears whose address is not live.
func TestStandingAtTheGate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	yesterday := time.Now().UTC().AddDate(0, 0, -1)
	w.registeredUntil("old", "127.0.0.3", yesterday)
	w.commit("A registration that is over")
	w.push()
	w.start()
	for _, tt := range []struct{ name, from, says string }{
		{"expired", "127.0.0.3", "550 5.7.1 the registration of 127.0.0.3 (registrations/lab/old.cue) expired at the end of " +
			yesterday.Format(time.DateOnly) + "; renew at https://relay.lab.example/register?ip=127.0.0.3"},
		{"on campus, not registered", "127.0.0.4", "550 5.7.1 127.0.0.4 is not registered with this relay; register at https://relay.lab.example/register?ip=127.0.0.4"},
		{"off campus", "127.1.0.1", "554 5.7.1 127.1.0.1 is not an address of this university"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer w.on(t)()
			w.refused(tt.from, tt.says)
		})
	}
	c, greeting := w.dial("127.1.0.1")
	c.expect(greeting, "554 5.7.1 ")
	if more := c.say("EHLO elsewhere.example"); more != "" {
		t.Errorf("a client from elsewhere gets a session: %q", more)
	}
	if g := w.report().Register; g.Addresses != 2 || g.Live != 1 {
		t.Errorf("%d addresses, %d live", g.Addresses, g.Live)
	}
}

// TestStandby has two relays of one fleet: the one that does not confirm can
// take over without repeating anything.
func TestStandby(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.quiet = true
	w.start()
	w.merge("scanner", 3, func() { w.registered("scanner", "127.0.0.2") })
	w.waitCommit()
	w.stop()
	w.quiet = false
	w.start()
	w.merge("plotter", 4, func() { w.registered("plotter", "127.0.0.3") })
	w.eventually("the second is confirmed", func() bool { return len(w.hop.holding("To: ", "127.0.0.3")) == 1 })
	if got := w.hop.holding("127.0.0.2"); len(got) > 0 {
		t.Errorf("the first is confirmed although another relay did:\n%s", got[0])
	}
}

// TestConfirmationWaitsForTheEndOfABlock registers an address that is blocked
// already, and restarts the relay when the block is over.
func TestConfirmationWaitsForTheEndOfABlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	until := time.Now().Add(6 * time.Second)
	w.write("registrations/blocks/short.cue", fmt.Sprintf("block: {ip: \"127.0.0.2\", reason: \"a test\", since: %q, until: %q}\n",
		time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339)))
	w.commit("A block")
	w.registered("scanner", "127.0.0.2")
	w.commit("A scanner")
	w.push()
	w.waitCommit()
	w.stop()
	early := len(w.hop.holding("127.0.0.2"))
	if early > 0 && time.Now().Before(until) {
		t.Error("a blocked address is confirmed")
	}
	over := time.NewTimer(time.Until(until) + time.Second)
	defer over.Stop()
	<-over.C
	w.start()
	w.eventually("it is confirmed", func() bool { return len(w.hop.holding("To: ", "127.0.0.2")) == 1 })
}

// TestTokenFile reads a repository that wants a token: without one there is no
// register, and one that the configuration names later is used at once.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := "a-secret-token"
	w.gitToken.Store(&token)
	w.configure()
	w.launch()
	w.eventually("the relay starts", func() bool { code, _ := w.page("/healthz"); return code == 200 })
	w.waitReport("the host says no", func(r status.Report) bool { return r.Register.Error != "" })
	w.file("token", token+"\n")
	w.register = fmt.Sprintf(", tokenFile: %q", filepath.Join(w.dir, "token"))
	w.configure()
	w.waitReady()
	if r := w.report(); len(r.Config.NeedRestart) > 0 || r.Config.Error != "" {
		t.Errorf("the relay says of its configuration: %+v", r.Config)
	}
	if strings.Contains(w.log.tail(1000), token) {
		t.Error("the token is in the log")
	}
}
