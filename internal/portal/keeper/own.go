package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

const (
	maxOpen = 5  // requests of its own that a round opens
	maxOwn  = 60 // files that one of them changes

	// ownSign begins the last line of a description, by which a request is found
	// again after a crash. Only who may write to the repository can put one there
	// in a branch of it.
	ownSign = "Opened by the portal by itself: "
)

// ownRequests opens what the register needs and nobody asked for.
func (k *Keeper) ownRequests(ctx context.Context, list []forge.Request) {
	reg := k.o.Register()
	if reg == nil || ctx.Err() != nil {
		return
	}
	for _, r := range k.relays() { // how long it has been known says what its silence means
		if _, err := k.o.Book.First("relay " + r.Name); err != nil {
			k.state(ctx, "book", err)
			return
		}
	}
	left := maxOpen
	if k.o.MirrorsBlocks {
		for _, own := range k.blocksToMirror(reg) {
			if left > 0 && k.open(ctx, reg, list, own) {
				left--
			}
		}
	}
	now := k.now()
	if (k.o.RenewAhead <= 0 && k.o.RemoveSilent <= 0) || !k.duties.IsZero() && now.Sub(k.duties) < dutiesEvery {
		return
	}
	due, err := k.due(ctx, reg)
	if err != nil {
		k.state(ctx, "register", err)
		return
	}
	done := true
	for _, own := range due {
		if left <= 0 || ctx.Err() != nil {
			done = false
			break
		}
		if k.open(ctx, reg, list, own) {
			left--
		}
	}
	if done {
		k.duties = now
	}
}

// An own is a request that is to be opened.
type own struct {
	kind    book.Kind
	subject string   // what it is about: the kind, and a department or a prefix
	name    string   // begins with the subject; becomes part of the branch's name, and is the sign
	keys    []string // what it does; never again
	title   string
	body    string // Markdown, safe
	changes []forge.Change
	about   book.Request        // Department, Contacts, IPs
	waits   []book.Kind         // of the same department, that are to come to their end before
	told    func(forge.Request) // once it is open; may be nil
}

// open opens a request, unless it is there; it reports whether it did anything at
// the forge. The order is: the forge, then the mail, then the keys, then the
// request's record. A crash in between leaves a request that is found by its sign,
// as the same one is due as long as its keys are not noted.
func (k *Keeper) open(ctx context.Context, reg *view.Register, list []forge.Request, o own) bool {
	sign := ownSign + o.name
	i := slices.IndexFunc(list, func(r forge.Request) bool { return !r.Fork && r.Base == k.o.Branch && hasLine(r.Body, sign) })
	if i >= 0 {
		k.opened(ctx, list[i], o)
		return false
	}
	if len(o.waits) > 0 && k.running(o.about.Department, o.waits...) {
		return false
	}
	// One about the same, that a crash kept out of the book, and of other files by
	// now: nothing more is opened until it has come to its end.
	i = slices.IndexFunc(list, func(r forge.Request) bool {
		return !r.Fork && r.Base == k.o.Branch && r.State == forge.Open && beginsLine(r.Body, ownSign+o.subject+" ")
	})
	if i >= 0 {
		k.update(ctx, list[i].Number, func(b *book.Request) { b.Kind, b.Department = o.kind, o.about.Department })
		return false
	}
	tip, err := k.o.Forge.Tip(ctx, k.o.Branch)
	if err != nil {
		k.failed = err
		return false
	}
	if tip != reg.Commit || k.unfit(reg, o) || !k.may("request") {
		return false // the register has gone on: it is looked at anew in the next round
	}
	r, err := k.o.Forge.Open(ctx, forge.Proposal{
		Base: k.o.Branch, Parent: tip, Name: o.name, Title: o.title, Body: o.body + "\n\n" + sign, Author: k.o.Author, At: k.now(), Changes: o.changes,
	})
	if errors.Is(err, forge.ErrInvalid) {
		k.log.Error("a request of the reporter's own cannot be opened", "event", "keeper.unfit", "request", o.name, "err", err)
		return false
	}
	if err != nil {
		k.failed = err
		return true
	}
	k.metrics.opened.WithLabelValues(string(o.kind)).Inc()
	k.log.Info("the reporter opened a request", "event", "keeper.opened", "kind", string(o.kind), "request", r.Number, "name", o.name)
	k.opened(ctx, r, o)
	return true
}

// opened puts a request of its own into the book.
func (k *Keeper) opened(ctx context.Context, r forge.Request, o own) {
	if o.told != nil {
		o.told(r)
	}
	err := k.o.Book.SetAutomatic(book.Opened{Number: r.Number, At: k.now().UTC()}, o.keys...)
	if k.state(ctx, "book", err); err != nil {
		return
	}
	if k.o.AfterBookWrite != nil {
		k.o.AfterBookWrite()
	}
	k.update(ctx, r.Number, func(b *book.Request) {
		heard(b, r, k.now())
		b.Kind, b.Department, b.Contacts, b.IPs = o.kind, o.about.Department, o.about.Contacts, o.about.IPs
		for _, c := range o.changes {
			if !slices.Contains(b.Paths, c.Path) {
				b.Paths = append(b.Paths, c.Path)
			}
		}
	})
}

// recognise notes of a request that the reporter opened itself what it is, where a
// crash kept that out of the book.
func recognise(b *book.Request, r forge.Request) {
	if b.Kind != book.KindOther || r.Fork {
		return
	}
	for l := range strings.SplitSeq(r.Body, "\n") {
		rest, ok := strings.CutPrefix(strings.TrimSpace(l), ownSign)
		words := strings.Fields(rest)
		if !ok || len(words) < 2 {
			continue
		}
		switch kind := book.Kind(words[0]); kind {
		case book.KindRenewal, book.KindRemoval:
			b.Kind, b.Department = kind, words[1]
		case book.KindBlock:
			b.Kind = kind
		}
	}
}

// unfit reports whether the register would not take what a request says. Nothing
// of that kind should happen; if it does, nobody is bothered with a request that
// cannot be merged.
func (k *Keeper) unfit(reg *view.Register, o own) bool {
	edits := make([]review.Edit, len(o.changes))
	for i, c := range o.changes {
		edits[i] = review.Edit(c)
	}
	change, err := reg.Base.Change(edits, k.now())
	if err == nil {
		for _, p := range change.Problems(policy.Author{}) {
			if p.Severity == registration.Error && slices.ContainsFunc(o.changes, func(c forge.Change) bool { return c.Path == p.File }) {
				err = errors.New(p.String())
				break
			}
		}
	}
	if err == nil {
		return false
	}
	k.log.Error("a request of the reporter's own cannot be opened", "event", "keeper.unfit", "request", o.name, "err", err)
	return true
}

// hasLine reports whether one of the lines of a text is exactly that.
func hasLine(text, line string) bool {
	for l := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(l) == line {
			return true
		}
	}
	return false
}

// beginsLine reports whether one of the lines of a text begins so.
func beginsLine(text, begin string) bool {
	for l := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(l), begin) {
			return true
		}
	}
	return false
}

// running reports whether a request of one of the kinds, of a department, is open
// as far as anybody knows.
func (k *Keeper) running(department string, kinds ...book.Kind) bool {
	return k.o.Book.Any(func(r *book.Request) bool {
		return slices.Contains(kinds, r.Kind) && r.Department == department && (r.State == "" || r.State == string(forge.Open))
	})
}

// rows is a list in Markdown, cut.
func rows[E any](list []E, row func(E) string) string {
	const most = 100
	var b strings.Builder
	for _, e := range list[:min(len(list), most)] {
		b.WriteString("- " + row(e) + "\n")
	}
	if n := len(list) - most; n > 0 {
		fmt.Fprintf(&b, "- … and %d more\n", n)
	}
	return b.String()
}
