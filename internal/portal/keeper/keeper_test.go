package keeper

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/status"
)

// TestARequestFromFormToConfirmation is the life of a request, as its page, its
// comment and its contact have it.
func TestARequestFromFormToConfirmation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.relays.add("relay1", w.run(w.bare, "rev-parse", "main"))
	two := w.relays.add("relay2", w.run(w.bare, "rev-parse", "main"))
	ip := netip.MustParseAddr("141.211.13.23")
	r := w.propose(physics+"new.cue", request("lsa-physics", w.day(200), ip.String()))
	w.must(w.book.Put(book.Request{
		Number: r.Number, Kind: book.KindForm, Department: "lsa-physics", By: book.Person{ID: "u1", Name: "Ann @all", Email: "ann@umich.edu"},
		Contacts: []book.Contact{{Name: "IT", Email: "it@umich.edu"}},
	}))
	w.round()
	w.contains("the comment", w.comment(1), "**Nothing to mend.**", "| `141.211.13.23` | `registrations/lsa-physics/new.cue`", "(0 of 1 proved)",
		"`Ann @all (ann@umich.edu)`, who is **not** listed", "<https://relay.umich.edu/requests/1>")
	if b := w.get(1); b.Checked.Conclusion != "success" || !slices.Equal(b.IPs, []netip.Addr{ip}) || !slices.Equal(b.Paths, []string{physics + "new.cue"}) || b.State != "open" {
		t.Errorf("the book: %+v", b)
	}

	// A proof, seen by a relay.
	one.Proofs.Newest = []status.Proof{{IP: ip, Request: 1, At: w.now.Add(-time.Minute)}}
	w.k.light(t.Context())
	w.contains("the comment", w.comment(1), "(1 of 1 proved)")

	// A question, an answer.
	w.must(w.git.Comment(t.Context(), 1, forge.Person{Name: "Pat", Email: "pat@umich.edu"}, "/ask Is it in\nroom 12?\n\n— Pat Postmaster, through the portal"))
	w.must(w.git.Comment(t.Context(), 1, forge.Person{Name: "Pat", Email: "pat@umich.edu"}, "/asking is another word"))
	w.round()
	w.round()
	if len(w.post.sent) != 2 || !strings.HasPrefix(w.post.sent[0], "ask 1 ") {
		t.Fatalf("mails: %q", w.post.sent)
	}
	w.contains("the mail", w.post.sent[0], "|ann@umich.edu|A question about your request 1|", "(Pat Postmaster)", "> Is it in\n> room 12?\n", "    https://relay.umich.edu/requests/1")
	w.contains("the other mail", w.post.sent[1], "|it@umich.edu|")
	asked := w.get(1).Asked
	if len(asked) != 1 || asked[0].Text != "Is it in\nroom 12?" || asked[0].By != "Pat Postmaster" || asked[0].MailedAt.IsZero() {
		t.Fatalf("asked: %+v", asked)
	}
	ann := book.Person{ID: "u1", Name: "Ann <b>", Email: "ann@umich.edu"}
	for _, bad := range []error{w.k.Answer(t.Context(), 1, "another", ann, "x"), w.k.Answer(t.Context(), 9, asked[0].ID, ann, "x")} {
		if !errors.Is(bad, ErrNoQuestion) {
			t.Errorf("%v, want ErrNoQuestion", bad)
		}
	}
	if err := w.k.Answer(t.Context(), 1, asked[0].ID, ann, " "); err == nil {
		t.Error("an empty answer is taken")
	}
	w.must(w.k.Answer(t.Context(), 1, asked[0].ID, ann, "Yes.\n```\n@all <img src=x> ![x](y)"))
	if err := w.k.Answer(t.Context(), 1, asked[0].ID, ann, "No."); !errors.Is(err, ErrNoQuestion) {
		t.Errorf("a second answer: %v", err)
	}
	w.round()
	w.round()
	var answers []string
	for _, m := range w.remarks(1) {
		if strings.HasPrefix(m.Body, answerLead) {
			answers = append(answers, m.Body)
		}
	}
	if len(answers) != 1 || !strings.HasSuffix(answers[0], "(`Pat Postmaster`), by `Ann <b> (ann@umich.edu)` in the portal:\n\n````text\nYes.\n```\n@all <img src=x> ![x](y)\n````") {
		t.Errorf("answers: %q", answers)
	}

	// Merged, and live on one relay after the other.
	w.now = w.now.Add(time.Minute)
	merged, err := w.git.Merge(t.Context(), 1, r.Head, forge.Person{Name: "Pat", Email: "pat@umich.edu"}, w.now)
	w.must(err)
	w.round()
	w.contains("the comment", w.comment(1), "**Merged.**", "**live on 0 of 2 relays**", "| `relay1` | not yet |", "| `141.211.13.23` |")
	w.now = w.now.Add(8 * time.Second)
	one.Register.Commit, one.Register.AcceptedAt = merged, w.now.Add(-time.Second)
	two.Register.Condition, two.Register.Reason = status.Held, "too many\nremovals"
	w.k.light(t.Context())
	w.contains("the comment", w.comment(1), "**live on 1 of 2 relays**", "`it waits for an operator: too many\\nremovals`")
	w.now = w.now.Add(33 * time.Second)
	two.Register.Commit, two.Register.AcceptedAt = w.commit(map[string]string{"README.md": "later"}), w.now
	w.look()
	w.k.light(t.Context())
	w.contains("the comment", w.comment(1), "**live on 2 of 2 relays, 41 s after merge**", "| `relay1` | "+w.now.Add(-34*time.Second).Format("2006-01-02 15:04:05 UTC"))

	// The confirmation.
	w.relays.address = map[netip.Addr]status.Address{ip: {Confirmation: &status.Confirmation{SentAt: w.now}}}
	w.now = w.now.Add(time.Minute)
	w.restart()
	w.round()
	if b := w.get(1); !b.Confirmed[ip].Equal(w.now.Add(-time.Minute)) || len(b.Live) != 2 || b.MergedBy != "Pat <pat@umich.edu>" {
		t.Errorf("the book: %+v", b)
	}
	before := w.run(w.bare, "rev-parse", "refs/gatepost/comments/1/register")
	for range 3 {
		w.now = w.now.Add(time.Hour)
		w.round()
	}
	if after := w.run(w.bare, "rev-parse", "refs/gatepost/comments/1/register"); after != before || len(w.post.sent) != 2 {
		t.Errorf("it is still writing: %s, %s; mails %q", before, after, w.post.sent)
	}
}

// TestAClosingIsTold: with the words of a postmaster near it, once.
func TestAClosingIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.propose(physics+"new.cue", request("lsa-physics", w.day(200), "141.211.13.23"))
	w.propose(physics+"two.cue", request("lsa-physics", w.day(200), "141.211.13.24"))
	w.round()
	ctx := t.Context()
	w.must(w.git.Comment(ctx, 1, forge.Person{Name: "Pat", Email: "pat@umich.edu"}, "That machine can sign in.\n\n— Pat Postmaster, through the portal"))
	w.must(w.git.Close(ctx, 1))
	w.must(w.git.Close(ctx, 2))
	w.now = w.now.Add(5 * time.Second)
	w.round()
	if len(w.post.sent) != 1 {
		t.Fatalf("mails: %q", w.post.sent)
	}
	w.contains("the mail", w.post.sent[0], "closed 1 it@umich.edu|it@umich.edu|Request 1 was closed|", "a request about your registrations was closed", "(Pat Postmaster)", "> That machine can sign in.\n\n", "https://relay.umich.edu/register")
	w.now = w.now.Add(11 * time.Minute) // nobody wrote a word about the second
	w.restart()
	w.round()
	w.round()
	if len(w.post.sent) != 2 {
		t.Fatalf("mails: %q", w.post.sent)
	}
	w.contains("the mail", w.post.sent[1], "closed 2 it@umich.edu", "No reason was given")
	// A branch that somebody removed by hand: nobody recorded when.
	third := w.propose(physics+"three.cue", request("lsa-physics", w.day(200), "141.211.13.25"))
	w.round()
	w.run(w.bare, "branch", "-q", "-D", third.Branch)
	w.round()
	w.now = w.now.Add(11 * time.Minute)
	w.round()
	w.now = w.now.Add(20 * 24 * time.Hour)
	w.round()
	if len(w.post.sent) != 3 || !strings.HasPrefix(w.post.sent[2], "closed 3 it@umich.edu") {
		t.Fatalf("mails: %q", w.post.sent)
	}
	if b := w.get(1); b.ClosedWords != "That machine can sign in." || b.State != "closed" {
		t.Errorf("%+v", b)
	}
}

// TestBlocksAreMirroredOnce: what relays block by command comes into one request.
func TestBlocksAreMirroredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	since := w.now.Add(-time.Hour)
	one, two := w.relays.add("relay1", ""), w.relays.add("relay2", "")
	one.Drift = []status.Drift{
		{Prefix: "141.211.13.21", Reason: "spam\n```\n@all \" + x", Since: since, Until: w.now.AddDate(0, 0, 7)},
		{Prefix: "141.211.14.0/24", Reason: "x", Since: since.Add(time.Minute)},
		{Prefix: "141.211.13.9", Reason: "over", Since: since, Until: w.now.Add(-time.Second)},
		{Prefix: "141.211.13.8", Reason: "agreed", Since: since, Agreed: "registrations/blocks/x.cue"},
		{Prefix: "rubbish", Reason: "rubbish", Since: since},
		{Prefix: "141.211.13.7/24", Reason: "no prefix", Since: since},
	}
	two.Drift = []status.Drift{{Prefix: "141.211.13.21", Reason: "again", Since: since.Add(time.Second), Until: w.now.AddDate(0, 0, 9)}}
	for range 3 {
		w.round()
		w.restart()
	}
	list, err := w.git.List(t.Context(), "")
	if err != nil || len(list) != 2 || list[1].Title != "Block 141.211.13.21" || list[0].Title != "Block 141.211.14.0/24" {
		t.Fatalf("%+v, %v", list, err)
	}
	path := "registrations/blocks/" + since.Format(time.DateOnly) + "-141.211.13.21.cue"
	w.contains("the file", w.run(w.bare, "show", list[1].Head+":"+path), `reason: "spam`, "until:  \""+w.now.AddDate(0, 0, 9).Format(time.RFC3339), "// Blocked by an operator on relay1, relay2")
	w.contains("the comment", w.comment(1), "**Nothing to mend, 1 warning.**", "#### Blocked (1)")
	if b := w.get(1); b.Kind != book.KindBlock || b.Department != "lsa-physics" || len(b.Contacts) != 1 {
		t.Errorf("%+v", b)
	}
	// Closed: that was the last word about what began before it was opened.
	w.must(w.git.Close(t.Context(), 1))
	one.Drift = one.Drift[1:2]
	w.round()
	if list, _ = w.git.List(t.Context(), ""); len(list) != 2 || len(w.post.sent) != 0 {
		t.Errorf("opened again, or told: %+v, %q", list, w.post.sent)
	}
	// Another block of the same address, later.
	w.now = w.now.Add(48 * time.Hour)
	one.Drift = []status.Drift{{Prefix: "141.211.13.21", Reason: "once more", Since: w.now.Add(-time.Minute)}}
	w.round()
	if list, _ = w.git.List(t.Context(), ""); len(list) != 3 {
		t.Errorf("a new one: %+v", list)
	}
}

// TestRenewals: one a department, a year on, without what has been silent.
func TestRenewals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	today := w.now
	w.now = today.AddDate(0, 0, -500)
	w.commit(map[string]string{
		physics + "a.cue":         request("lsa-physics", w.day(500+20), "141.211.13.31", "141.211.13.32"),
		physics + "b.cue":         request("lsa-physics", w.day(500+25), "141.211.13.33"),
		"registrations/its/c.cue": strings.Replace(request("its", w.day(500+90), "141.211.14.7"), "it@", "c@", 1),
	})
	w.relays.add("relay1", "")
	w.restart()
	w.now = today.AddDate(0, 0, -400)
	w.round() // the portal knows its relay from here on
	w.now = today.AddDate(0, 0, -300)
	remarked := strings.NewReplacer("\t{ip: \"141.211.13.32\"", "\t// The old one.\n\t{ip: \"141.211.13.32\"", "\t{ip: \"141.211.13.39\"", "\t// In the cellar.\n\t{ip: \"141.211.13.39\"")
	w.commit(map[string]string{physics + "a.cue": remarked.Replace(request("lsa-physics", today.AddDate(0, 0, 20).Format(time.DateOnly), "141.211.13.31", "141.211.13.32", "141.211.13.39"))})
	w.now = today
	w.relays.last = map[netip.Addr]time.Time{netip.MustParseAddr("141.211.13.31"): today.AddDate(0, 0, -1), netip.MustParseAddr("141.211.13.32"): today.AddDate(0, 0, -380)}
	for range 3 {
		w.restart()
		w.round()
	}
	list, err := w.git.List(t.Context(), "")
	if err != nil || len(list) != 1 || list[0].Title != "Renew 2 registrations of lsa-physics" {
		t.Fatalf("%+v, %v", list, err)
	}
	text := w.run(w.bare, "show", list[0].Head+":"+physics+"a.cue")
	w.contains("the file", text, "// Room 12.\n", "// In the cellar.\n", "141.211.13.31", "141.211.13.39", today.AddDate(0, 0, 20).AddDate(1, 0, 0).Format(time.DateOnly))
	if strings.Contains(text, "141.211.13.32") || strings.Contains(text, "The old one") {
		t.Errorf("a silent address is still there:\n%s", text)
	}
	if names := w.run(w.bare, "ls-tree", "--name-only", list[0].Head+":"+strings.TrimSuffix(physics, "/")); names != "a.cue\nmfp.cue" {
		t.Errorf("files: %s", names)
	}
	w.contains("the description", list[0].Body, "- `registrations/lsa-physics/a.cue`: from ", "a year (2)", "- `141.211.13.33` in `registrations/lsa-physics/b.cue`")
	if len(w.post.sent) != 1 {
		t.Fatalf("mails: %q", w.post.sent)
	}
	w.contains("the mail", w.post.sent[0], "|it@umich.edu|Your registrations are about to be renewed (request 1)|", "https://relay.umich.edu/requests/1", "any mail from for a")

	// Closed by a postmaster: not again. Another registration of it, later: a new one.
	w.must(w.git.Close(t.Context(), 1))
	w.now = w.now.Add(2 * time.Hour)
	w.round()
	if list, _ = w.git.List(t.Context(), ""); len(list) != 1 || len(w.post.sent) != 2 {
		t.Fatalf("opened again, or not told: %+v, %q", list, w.post.sent)
	}
	w.contains("the mail", w.post.sent[1], "closed 1 it@umich.edu", "ends on its day")
	w.now = today.AddDate(0, 0, 70)
	w.relays.silent = true // one of them does not say
	w.round()
	if list, _ = w.git.List(t.Context(), ""); len(list) != 2 || list[0].Title != "Renew 1 registration of its" {
		t.Errorf("the other department: %+v", list)
	}
	w.contains("what nobody knows to be silent", w.run(w.bare, "show", list[0].Head+":registrations/its/c.cue"), "141.211.14.7")
}

// TestRemovals: only where the site wants them, and once.
func TestRemovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	today := w.now
	w.now = today.AddDate(0, 0, -500)
	w.commit(map[string]string{physics + "a.cue": request("lsa-physics", w.day(500+200), "141.211.13.31", "141.211.13.32")})
	w.relays.add("relay1", "")
	w.round()
	w.now = today
	w.restart()
	w.relays.last = map[netip.Addr]time.Time{netip.MustParseAddr("141.211.13.31"): today, netip.MustParseAddr("141.211.13.21"): today}
	w.round()
	if list, _ := w.git.List(t.Context(), ""); len(list) != 0 {
		t.Fatalf("nobody wanted that: %+v", list)
	}
	w.change = func(o *Options) { o.RemoveSilent = 365 * 24 * time.Hour }
	for range 2 {
		w.restart()
		w.round()
	}
	list, err := w.git.List(t.Context(), "")
	if err != nil || len(list) != 1 || list[0].Title != "Remove 1 silent address of lsa-physics" {
		t.Fatalf("%+v, %v", list, err)
	}
	if text := w.run(w.bare, "show", list[0].Head+":"+physics+"a.cue"); strings.Contains(text, "141.211.13.32") || !strings.Contains(text, "141.211.13.31") {
		t.Errorf("the file:\n%s", text)
	}
	w.must(w.git.Close(t.Context(), 1))
	w.now = w.now.Add(3 * time.Hour)
	w.restart()
	w.round()
	if list, _ = w.git.List(t.Context(), ""); len(list) != 1 {
		t.Errorf("opened again: %+v", list)
	}
}

// A crash ends the program in the middle of something.
type crash struct{}

// TestACrashAnywhere: after each write to the book, and before and after each to
// the forge. Nothing is opened, asked or answered twice, and no mail is lost.
func TestACrashAnywhere(t *testing.T) {
	t.Parallel()
	crashes := 0
	for n := 1; ; n++ {
		w := newWorld(t)
		relay := w.relays.add("relay1", "")
		relay.Drift = []status.Drift{{Prefix: "141.211.13.21", Reason: "spam", Since: w.now.Add(-time.Hour)}}
		w.commit(map[string]string{physics + "a.cue": request("lsa-physics", w.day(20), "141.211.13.31")})
		w.propose(physics+"new.cue", request("lsa-physics", w.day(200), "141.211.13.23"))
		w.must(w.git.Comment(t.Context(), 1, forge.Person{Name: "Pat", Email: "pat@umich.edu"}, "/ask Why?"))
		left := n
		step := func() {
			if left--; left == 0 {
				panic(crash{})
			}
		}
		w.forge = crashing{w.git, step}
		w.change = func(o *Options) {
			at := *o
			at.Forge = w.git
			o.AfterBookWrite, o.Judge = step, judging(at)
		}
		live := func() (crashed bool) {
			defer func() {
				if p := recover(); p != nil {
					if _, ok := p.(crash); !ok {
						panic(p)
					}
					crashed = true
				}
			}()
			w.restart()
			w.round()
			for _, a := range w.get(1).Asked {
				if a.Answered.IsZero() {
					w.must(w.k.Answer(t.Context(), 1, a.ID, book.Person{Name: "Ann", Email: "ann@umich.edu"}, "Because."))
				}
			}
			w.round()
			return false
		}
		crashed := live()
		if crashed {
			crashes++
			live()
		}
		list, err := w.git.List(t.Context(), "")
		w.must(err)
		titles := []string{}
		for _, r := range list {
			titles = append(titles, r.Title)
		}
		slices.Sort(titles)
		if !slices.Equal(titles, []string{"Block 141.211.13.21", "Register it", "Renew 1 registration of lsa-physics"}) {
			t.Errorf("crash %d: requests %q", n, titles)
		}
		answers := 0
		for _, m := range w.remarks(1) {
			if strings.HasPrefix(m.Body, answerLead) {
				answers++
			}
		}
		mails := map[string]int{}
		for _, m := range w.post.sent {
			subject := strings.Split(m, "|")[2]
			mails[subject]++
		}
		if answers != 1 || len(mails) != 2 || mails["A question about request 1"] != 1 {
			t.Errorf("crash %d: %d answers, mails %v", n, answers, mails)
		}
		if !crashed {
			if crashes < 15 {
				t.Errorf("only %d crashes", crashes)
			}
			return
		}
	}
}

// crashing is a forge at which the program ends before or after it has written.
type crashing struct {
	*forge.Git
	step func()
}

func (c crashing) Open(ctx context.Context, p forge.Proposal) (forge.Request, error) {
	c.step()
	r, err := c.Git.Open(ctx, p)
	c.step()
	return r, err
}

func (c crashing) Comment(ctx context.Context, n int, by forge.Person, body string) error {
	c.step()
	err := c.Git.Comment(ctx, n, by, body)
	c.step()
	return err
}

func (c crashing) SetComment(ctx context.Context, n int, mark, body string) error {
	c.step()
	err := c.Git.SetComment(ctx, n, mark, body)
	c.step()
	return err
}
