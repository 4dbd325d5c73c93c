package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/status"
)

// ok runs an operator's command that must work, and returns what it says.
func (w *world) ok(args ...string) string {
	w.t.Helper()
	code, out := w.gatepost(args...)
	if code != 0 {
		w.t.Fatalf("gatepost %v: %d\n%s", args, code, out)
	}
	return out
}

// fails runs an operator's command that must not work and say why.
func (w *world) fails(says string, args ...string) {
	w.t.Helper()
	code, out := w.gatepost(args...)
	if code != 2 || !strings.Contains(out, says) {
		w.t.Errorf("gatepost %v: %d, and does not say %q:\n%s", args, code, says, out)
	}
}

// says fails the test if a text lacks one of some words.
func (w *world) says(text string, words ...string) {
	w.t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			w.t.Errorf("it does not say %q:\n%s", word, text)
		}
	}
}

// TestBreakGlass is a block by command from end to end: at the greeting, in a
// live session, over the queue, over a crash and a restart, in the operator's
// commands, and back.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.registered("scanner", "127.0.0.2")
	w.commit("a scanner")
	w.push()
	w.hop.answerTo("MAIL", "451 4.7.1 not now")
	w.start()
	w.accepted("127.0.0.1", "put off")
	w.eventually("the first attempt is over", func() bool {
		_, out := w.gatepost("queue", "list")
		return strings.Contains(out, "not now")
	})
	w.hop.say(nil)
	busy, greeting := w.dial("127.0.0.1")
	busy.expect(greeting, "220")
	busy.expect(busy.say("EHLO printer.lab.example"), "250")
	busy.expect(busy.say("MAIL FROM:<device@lab.example>"), "250")
	busy.expect(busy.say("RCPT TO:<someone@example.org>"), "250")
	busy.expect(busy.say("DATA"), "354")
	live, greeting := w.dial("127.0.0.1")
	live.expect(greeting, "220")
	live.expect(live.say("EHLO printer.lab.example"), "250")
	live.expect(live.say("MAIL FROM:<a@lab.example>"), "250")

	began := time.Now()
	out := w.ok("block", "127.0.0.1", "--reason", "sends 40 messages a second")
	told := time.Since(began)
	day := time.Now().UTC().Format(time.DateOnly)
	w.says(out, "127.0.0.1 is blocked, until it is taken back\n", "registrations/lab/printer.cue", "1 message in the queue is held",
		"registrations/blocks/"+day+"-127.0.0.1.cue", `block: {ip: "127.0.0.1", reason: "sends 40 messages a second", since: "`, "gatepost unblock 127.0.0.1\n")
	t.Logf("gatepost block: done after %v", told)
	said := "554 5.7.1 127.0.0.1 is blocked (on this relay, " + day + "); write to postmaster@lab.example"
	if reply := live.say("RCPT TO:<someone@example.org>"); reply != said {
		t.Errorf("a live session hears %q", reply)
	}
	if reply := live.say("NOOP"); reply != "" {
		t.Errorf("a blocked session goes on: %q", reply)
	}
	w.refused("127.0.0.1", said)
	w.accepted("127.0.0.2", "others go on")
	busy.expect(busy.say("Subject: under way\r\n\r\nx\r\n."), "250") // it is kept, and held

	// In the operator's eyes, also where the attempt is not due.
	w.eventually("both messages are held", func() bool {
		return strings.Count(w.ok("queue", "list", "--status", "held"), "held: 127.0.0.1 is blocked: sends 40 messages a second") == 2
	})
	w.says(w.ok("status"), "127.0.0.1 is blocked here, and not in the register: sends 40 messages a second", "gatepost unblock 127.0.0.1")
	if code, out := w.gatepost("status", "127.0.0.1"); code != 1 || !strings.Contains(out, "block     by command, here only, until it is taken back\n") {
		t.Errorf("%d\n%s", code, out)
	}
	for _, list := range [][]string{{"block"}, {"status", "--blocks"}} {
		w.says(w.ok(list...), "127.0.0.1            since "+day, "by command, here only", "1 block\n")
	}

	// Blocked again: the end changes, the beginning does not.
	w.says(w.ok("block", "127.0.0.1", "--reason", "still", "--for", "2h"), "it was already, until it is taken back: sends 40 messages a second")

	w.kill()
	w.start()
	w.refused("127.0.0.1", said)
	w.stop()
	w.start()
	w.refused("127.0.0.1", said)
	r := w.report()
	if len(r.Drift) != 1 || r.Drift[0].Prefix != "127.0.0.1" || r.Drift[0].Reason != "still" || r.Drift[0].Until.Before(time.Now().Add(time.Hour)) {
		t.Errorf("drift after two restarts: %+v", r.Drift)
	}
	w.waitReport("the mail is held", func(r status.Report) bool { return r.Queue.Depth["held"] == 2 })

	w.says(w.ok("unblock", "127.0.0.1"), "127.0.0.1 is no longer blocked\n  2 messages in the queue go on, unless something else holds them\n")
	w.arrives("under way")
	w.accepted("127.0.0.1", "and new mail")
	w.arrives("and new mail")
	w.fails("127.0.0.1 is not blocked", "unblock", "127.0.0.1")
}

// TestABlockEndsByItself: with --for, and its mail goes on then.
func TestABlockEndsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	live, _ := w.dial("127.0.0.1")
	live.expect(live.say("EHLO printer.lab.example"), "250")
	live.expect(live.say("MAIL FROM:<device@lab.example>"), "250")
	live.expect(live.say("RCPT TO:<someone@example.org>"), "250")
	live.expect(live.say("DATA"), "354")
	w.ok("block", "127.0.0.0/28", "--reason", "a storm", "--for", "6s")
	live.expect(live.say("Subject: under way\r\n\r\nx\r\n."), "250") // a body under way is kept, and held
	live.expect(live.say("NOOP"), "554 5.7.1 127.0.0.1 is blocked")
	w.eventually("it is held", func() bool { return strings.Contains(w.ok("queue", "list"), "held: 127.0.0.1 is blocked: a storm") })
	w.arrives("under way")
	w.accepted("127.0.0.1", "after")
	if r := w.report(); len(r.Drift) > 0 || r.Blocks.Commands > 0 {
		t.Errorf("it is over, and there is %+v", r.Drift)
	}
	w.eventually("the log has its end", func() bool { return strings.Contains(w.log.tail(1000), "event=block.ended prefix=127.0.0.0/28") })
	w.says(w.log.tail(1000), "event=block.added prefix=127.0.0.0/28")
}

// TestBlocksOfAllSources: what the register blocks is ended there, and the
// commands say so; what it blocks as well is no drift.
func TestBlocksOfAllSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := filepath.Join(w.dir, "blocks")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("# written by a program\n127.0.0.7 scans the campus\n")
	w.extra = fmt.Sprintf("blocks: file: %q", file)
	w.write("registrations/blocks/old.cue", `block: {prefix: "127.0.0.8/31", reason: "of the register", since: "2026-01-01T00:00:00Z"}`)
	w.commit("a block")
	w.push()
	w.start()

	w.refused("127.0.0.7", "554 5.7.1 127.0.0.7 is blocked (on this relay); write to")
	w.refused("127.0.0.9", "554 5.7.1 127.0.0.9 is blocked (old); write to")
	w.fails("127.0.0.7 is blocked by line 2 of "+file+": scans the campus", "unblock", "127.0.0.7")
	w.fails("127.0.0.9 is blocked as part of 127.0.0.8/31 by the register, in registrations/blocks/old.cue: of the register", "unblock", "127.0.0.9")
	w.fails("delete registrations/blocks/old.cue in the register", "unblock", "127.0.0.8/31")
	w.says(w.ok("block"), "127.0.0.7            until it is taken back; "+file+":2", "127.0.0.8/31         since 2026-01-01 00:00 UTC, until it is taken back; registrations/blocks/old.cue", "2 blocks")

	// The file changes; half of it does not.
	write("127.0.0.1 the printer\n127.0.0.999 nonsense\n")
	w.eventually("the new line is in force", func() bool { return strings.HasPrefix(w.send("127.0.0.1", "no"), "554") })
	w.refused("127.0.0.7", "550 5.7.1 127.0.0.7 is not registered") // and no longer blocked
	if r := w.report(); r.Blocks.Local == nil || r.Blocks.Local.Blocks != 1 || len(r.Blocks.Local.Bad) != 1 || r.Blocks.Local.Bad[0].Line != 2 {
		t.Errorf("%+v", r.Blocks.Local)
	}
	w.says(w.log.tail(1000), "event=block.file_line", "line=2")
	write("127.0.0.2 half a li")
	w.waitReport("the relay says that it is half a file", func(r status.Report) bool {
		return r.Blocks.Local.Error != "" && strings.Contains(r.Text(), "its last line has no end")
	})
	w.refused("127.0.0.1", "554 5.7.1 127.0.0.1 is blocked (on this relay)")
	w.kill() // what was good before is good after
	w.start()
	w.refused("127.0.0.1", "554 5.7.1 127.0.0.1 is blocked (on this relay)")
	write("# none\n")
	w.eventually("none is in force", func() bool { return strings.HasPrefix(w.send("127.0.0.1", "yes"), "250") })

	// A line with an end ends by itself, and its mail goes on.
	live, _ := w.dial("127.0.0.1")
	live.expect(live.say("EHLO printer.lab.example"), "250")
	live.expect(live.say("MAIL FROM:<device@lab.example>"), "250")
	live.expect(live.say("RCPT TO:<someone@example.org>"), "250")
	live.expect(live.say("DATA"), "354")
	write("127.0.0.1 until=" + time.Now().Add(6*time.Second).UTC().Format(time.RFC3339) + " for a moment\n")
	w.eventually("the line is in force", func() bool { return strings.HasPrefix(w.send("127.0.0.1", "no"), "554") })
	live.expect(live.say("Subject: for a moment\r\n\r\nx\r\n."), "250")
	w.eventually("it is held", func() bool {
		return strings.Contains(w.ok("queue", "list"), "held: 127.0.0.1 is blocked: for a moment")
	})
	w.arrives("for a moment")
	write("# none\n")

	// A block by command, and then the register's own, as the command says that
	// it would be written.
	out := w.ok("block", "127.0.0.1", "--reason", `says "buy \ this" – ä`)
	_, rest, _ := strings.Cut(out, "for all relays, add ")
	name, rest, _ := strings.Cut(rest, " to the register:\n")
	text, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	w.merge("block", 12, func() { w.write(name, text+"\n") })
	w.waitReport("they agree", func(r status.Report) bool {
		return slices.ContainsFunc(r.Drift, func(d status.Drift) bool { return d.Agreed == name })
	})
	w.says(w.report().Text(), "127.0.0.1 is blocked here and, by now, in the register as well: "+name, "gatepost unblock 127.0.0.1, which changes nothing any more")
	w.says(w.ok("unblock", "127.0.0.1"), "127.0.0.1 is no longer blocked by command, and still blocked:\n  "+name+`, until it is taken back: says "buy \ this" – ä`)
	w.refused("127.0.0.1", "554 5.7.1 127.0.0.1 is blocked ("+strings.TrimSuffix(filepath.Base(name), ".cue")+"); write to")
	if r := w.report(); len(r.Drift) > 0 {
		t.Errorf("drift: %+v", r.Drift)
	}
}

// TestAWideBlockTakesAWord: a slip of the finger does not silence a campus.
func TestAWideBlockTakesAWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	for _, p := range []string{"0.0.0.0/0", "127.0.0.0/16", "::/0"} {
		w.fails("is wide: it would keep ", "block", p, "--reason", "all of it")
	}
	w.fails("if that is meant, say so: --wide", "block", "127.0.0.0/16", "--reason", "all of it")
	w.fails("127.0.0.0/16 is wide: it would keep 1 registered address from sending", "block", "127.0.0.0/16", "--reason", "all of it")
	w.accepted("127.0.0.1", "not blocked")
	w.says(w.ok("block", "127.0.0.0/16", "--reason", "all of it", "--wide"), "127.0.0.0/16 is blocked", "1 registered address is in it, and cannot send (registrations/lab/printer.cue)")
	w.refused("127.0.0.1", "554 5.7.1 127.0.0.1 is blocked")
	w.fails("127.0.0.1 is blocked as part of 127.0.0.0/16 by command: all of it", "unblock", "127.0.0.1")
	w.fails("127.0.0.0/8 is not blocked as a whole; 1 block by command lies in it, that of 127.0.0.0/16", "unblock", "127.0.0.0/8")
	w.ok("unblock", "127.0.0.0/16")
	w.accepted("127.0.0.1", "again")
}

// TestAnotherBlockFile names a file in the configuration of a running relay, and
// takes it away again.
func TestAnotherBlockFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.accepted("127.0.0.1", "before")
	w.file("tool", "127.0.0.1 of a tool\n")
	w.extra = fmt.Sprintf("blocks: file: %q", filepath.Join(w.dir, "tool"))
	w.configure()
	w.eventually("the file is in force", func() bool { return strings.HasPrefix(w.send("127.0.0.1", "no"), "554") })
	w.file("tool", "127.0.0.7 of a tool\n")
	w.eventually("the file is watched", func() bool { return strings.HasPrefix(w.send("127.0.0.1", "yes"), "250") })
	w.refused("127.0.0.7", "554")
	w.extra = ""
	w.configure()
	w.eventually("the file is let go", func() bool { return !strings.HasPrefix(w.send("127.0.0.7", "no"), "554") })
	if r := w.report(); len(r.Config.NeedRestart) > 0 || r.Blocks.Local != nil {
		t.Errorf("%+v, %+v", r.Config, r.Blocks.Local)
	}
}

// TestABlockNeedsNoRegister: with the register lost and its host gone, what is
// queued of a blocked client stays where it is.
func TestABlockNeedsNoRegister(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hop.answerTo("MAIL", "451 4.7.1 not now")
	w.start()
	w.accepted("127.0.0.1", "put off")
	w.eventually("the first attempt is over", func() bool { return strings.Contains(w.ok("queue", "list"), "not now") })
	w.hop.say(nil)
	w.ok("block", "127.0.0.0/30", "--reason", "spam")
	w.stop()
	w.stopGit()
	if err := os.RemoveAll(filepath.Join(w.state, "register")); err != nil {
		t.Fatal(err)
	}
	w.launch()
	w.eventually("the relay answers", func() bool { code, _ := w.page("/healthz"); return code == 200 })
	w.refused("127.0.0.1", "421 4.3.2")
	w.eventually("it is held", func() bool { return w.report().Queue.Depth["held"] == 1 })
	w.says(w.ok("block"), "127.0.0.0/30 ", "1 block\n")
	w.says(w.ok("unblock", "127.0.0.0/30"), "127.0.0.0/30 is no longer blocked")
	w.waitReport("it is not held any more", func(r status.Report) bool { return r.Queue.Depth["held"] == 0 })
}

// TestBlocksSurviveKills: whenever the relay is killed, what an operator was told
// is so, for blocks that are made and for those that are taken back.
func TestBlocksSurviveKills(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	type word struct {
		prefix  string
		blocked bool // as an operator was told last; what has no answer is either
		known   bool
	}
	words := map[string]*word{}
	for round := range 6 {
		var mu sync.Mutex
		var operators sync.WaitGroup
		for who := range 3 {
			operators.Go(func() {
				for i := 0; ; i++ {
					p := fmt.Sprintf("127.0.%d.%d", 10+who, i%7)
					mu.Lock()
					k := words[p]
					if k == nil {
						k = &word{prefix: p, known: true}
						words[p] = k
					}
					block := !k.blocked || !k.known
					k.known = false
					mu.Unlock()
					order := []string{"unblock", p}
					if block {
						order = []string{"block", p, "--reason", "torture"}
					}
					code, _ := w.gatepost(order...)
					if code != 0 {
						return // killed
					}
					mu.Lock()
					k.blocked, k.known = block, true
					mu.Unlock()
				}
			})
		}
		timer := time.NewTimer(time.Duration(40+37*round) * time.Millisecond)
		<-timer.C
		w.kill()
		operators.Wait()
		w.start()
		var there []string
		for _, d := range w.report().Drift {
			there = append(there, d.Prefix)
		}
		told := 0
		for _, k := range words {
			if k.known {
				told++
				if slices.Contains(there, k.prefix) != k.blocked {
					t.Errorf("round %d: %s is blocked: %v, and an operator was told: %v", round, k.prefix, !k.blocked, k.blocked)
				}
			}
		}
		t.Logf("round %d: %d blocks there, %d answers held", round, len(there), told)
	}
	if w.report().Blocks.Damaged != "" {
		t.Error("a kill damages the file")
	}
}

// TestHowSoonABlockIsInForce measures from before the command to the first
// refused greeting, beside a client that connects all the time.
func TestHowSoonABlockIsInForce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	var took []time.Duration
	for range 20 {
		done := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(done)
			if code, out := w.gatepost("block", "127.0.0.1", "--reason", "storm"); code != 0 {
				t.Error(out)
			}
		}()
		for {
			c, greeting := w.dial("127.0.0.1")
			c.conn.Close()
			if strings.HasPrefix(greeting, "554") {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("after 10 s: %q", greeting)
			}
		}
		took = append(took, time.Since(began))
		<-done
		w.ok("unblock", "127.0.0.1")
	}
	slices.Sort(took)
	t.Logf("from the command to the first refusal: median %v, at most %v", took[len(took)/2], took[len(took)-1])
	if m := took[len(took)/2]; m > 2*time.Second {
		t.Errorf("%v is no break-glass", m)
	}
}

// TestCheckReadsTheLocalFileOfBlocks, so that whoever writes one can try it.
func TestCheckReadsTheLocalFileOfBlocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := filepath.Join(w.dir, "blocks")
	w.extra = fmt.Sprintf("blocks: file: %q", file)
	w.configure()
	for _, tc := range []struct {
		content string
		code    int
		says    string
	}{
		{"# none\n", 0, ""},
		{"127.0.0.7 scans\n127.0.0.8\n", 1, file + ":2: a block needs a reason\n  hint: the relay would start, and this line block nothing\n"},
		{"127.0.0.7 scans", 1, file + ": its last line has no end"},
		{"127.0.0.7 scans\n" + strings.Repeat("x\n", 30), 1, file + ": and 10 more lines\n"},
	} {
		if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		if code := daemon.Check(w.config, &out, &errs); code != tc.code || !strings.Contains(errs.String(), tc.says) {
			t.Errorf("%q: %d, and not %d: %s", tc.content, code, tc.code, errs.String())
		}
	}
	var out, errs strings.Builder
	if os.Chmod(file, 0o602) != nil {
		t.Fatal("no chmod")
	}
	if daemon.Check(w.config, &out, &errs); !strings.Contains(errs.String(), "says who may not send, and everybody on this machine may write it (warning)\n  hint: chmod o-w "+file) {
		t.Errorf("%s", errs.String())
	}
}
