package reconcile

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"example.edu/gatepost/internal/register/approval"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/registration"
)

// An Approver judges the commits of the branch, one by one.
type Approver interface {
	// Policy names what Vouch goes by: a verdict holds while it stays the same.
	// It is asked each round and must be quick.
	Policy() string
	// Vouch judges what one step let in. What could not be found out is Unknown;
	// an error says that git here could not be read, and ends the round.
	Vouch(context.Context, gitsync.Step) (approval.Verdict, error)
}

// Bounds of judging.
const (
	maxLine     = 10_000           // commits from the accepted one to the head; an operator looks at more
	maxJudged   = 50               // commits that are asked about in one round; the others wait for the next
	judgeFor    = 20 * time.Second // what asking may take in one round
	firstPause  = 30 * time.Second // before a commit that is not vouched for is asked about again; twice as long each time
	pauseOpen   = 15 * time.Minute // at most, if it could not be judged
	pauseClosed = time.Hour        // at most, if it was
	maxTold     = 10               // commits told of in the log at a time

	maxHeldBlocks = 1000 // blocks that nobody vouches for, in force all the same
)

// operatorPolicy is the policy of an operator's word, which always holds.
const operatorPolicy = "operator"

// errTooLong says that the branch has moved on too far to be judged.
var errTooLong = fmt.Errorf("more than %d commits came since the accepted one, too many to be judged one by one", maxLine)

// A receipt says that a commit was vouched for. It saves asking again while the
// policy is the same.
type receipt struct {
	Commit gitsync.Hash `json:"commit"`
	Policy string       `json:"policy"`
	Why    string       `json:"why"`
	At     time.Time    `json:"at"`
}

// A trial remembers a verdict that may change, and when to ask again.
type trial struct {
	verdict approval.Verdict
	policy  string
	n       int
	next    time.Time
	told    bool
}

// approvals is what is known of the approval of commits. Whoever has the
// Reconciler's turn owns it.
type approvals struct {
	receipts map[gitsync.Hash]receipt // on the disk, see ledger
	trials   map[gitsync.Hash]trial
	open     []gitsync.Step // not vouched for when they were judged last
	unsaved  bool           // receipts that are not on the disk
	ledger   bool           // there is one on the disk, to be kept in step
	lost     string         // why it is not known what is withheld; "" if it is
}

// due reports whether a commit that waits is to be looked at again, although
// nothing has moved.
func (r *Reconciler) due() bool {
	a := &r.approvals
	if a.unsaved {
		return true
	}
	if r.o.Approver == nil || len(a.open) == 0 {
		return false
	}
	policy, now := r.o.Approver.Policy(), r.o.Now()
	return slices.ContainsFunc(a.open, func(s gitsync.Step) bool {
		t := a.trials[s.Commit]
		return t.policy != policy || !now.Before(t.next)
	})
}

// judge says what a commit must not bring into force. anew takes it as it is:
// the first one ever, or one that does not follow from the accepted one and
// that an operator named.
func (r *Reconciler) judge(ctx context.Context, head gitsync.Hash, anew bool) (*withholding, error) {
	a := &r.approvals
	if r.o.Approver == nil || anew {
		a.open = nil
		return &withholding{}, nil
	}
	more, err := r.passages(ctx, head)
	if err != nil {
		return nil, err
	}
	known := withholding{Paths: r.withheld.Paths, Passages: slices.Clone(r.withheld.Passages)}
	if err := r.stand(ctx, known.Passages, more); err != nil {
		return nil, err
	}
	w := known.replay(more, r.o.Now().UTC())
	r.tellOpen(w)
	return w, nil
}

// passages is the branch from the accepted commit to head, as far as it
// touches the register.
func (r *Reconciler) passages(ctx context.Context, head gitsync.Hash) ([]passage, error) {
	steps, err := r.o.Source.Line(ctx, r.commit, head, maxLine)
	if errors.Is(err, gitsync.ErrTooMany) {
		return nil, errTooLong
	}
	if err != nil {
		return nil, err
	}
	var out []passage
	for _, s := range steps {
		diff, err := r.o.Source.Diff(ctx, s.Base, s.Commit, registerFolder, siteFile)
		if err != nil {
			return nil, err
		}
		if changes := changesOf(s, diff); len(changes) > 0 {
			out = append(out, passage{Commit: s.Commit, Base: s.Base, Jump: s.Jump, Changes: changes})
		}
	}
	return out, nil
}

// stand fills in how each passage stands. New receipts are on the disk when it
// returns.
func (r *Reconciler) stand(ctx context.Context, lists ...[]passage) error {
	a := &r.approvals
	a.open = nil
	q := inquiry{policy: r.o.Approver.Policy(), left: maxJudged}
	var cancel context.CancelFunc
	q.ctx, cancel = context.WithTimeout(ctx, judgeFor)
	defer cancel()
	for _, list := range lists {
		for i := range list {
			p := &list[i]
			v, err := r.verdict(ctx, &q, p.step())
			if err != nil {
				return err
			}
			if p.Standing, p.Why = v.Standing, v.Why; v.Standing != approval.Vouched {
				a.open = append(a.open, p.step())
			}
		}
	}
	if !a.unsaved {
		return nil
	}
	return r.persistLedger(&r.inForce)
}

// An inquiry is the asking of one round.
type inquiry struct {
	ctx    context.Context // with an end of its own
	policy string
	left   int // of maxJudged
}

// verdict judges one step: by a receipt, by what was found a while ago, or by
// asking.
func (r *Reconciler) verdict(ctx context.Context, q *inquiry, s gitsync.Step) (approval.Verdict, error) {
	a := &r.approvals
	if known, ok := a.receipts[s.Commit]; ok && (known.Policy == q.policy || known.Policy == operatorPolicy) {
		return approval.Verdict{Standing: approval.Vouched, Why: known.Why}, nil
	}
	now := r.o.Now()
	t := a.trials[s.Commit]
	if t.policy != q.policy {
		t = trial{policy: q.policy}
	} else if now.Before(t.next) {
		return t.verdict, nil
	}
	v, err, asked := approval.Verdict{}, error(nil), true
	switch q.left--; {
	case s.Jump:
		v = approval.Verdict{Standing: approval.Refused, Why: "a push moved the branch to a commit that was not made on top of it"}
	case q.left < 0 || q.ctx.Err() != nil:
		v, asked = approval.Verdict{Why: "it is still to be judged: there was no time left"}, false
	default:
		v, err = r.o.Approver.Vouch(q.ctx, s)
	}
	switch {
	case ctx.Err() != nil:
		return v, ctx.Err()
	case err != nil && q.ctx.Err() != nil:
		v = approval.Verdict{Why: "it could not be judged in time"}
	case err != nil:
		return v, err
	}
	if v.Standing == approval.Vouched {
		a.receipts[s.Commit] = receipt{s.Commit, q.policy, v.Why, now.UTC()}
		a.unsaved = true
		delete(a.trials, s.Commit)
		r.log.Info("a commit is vouched for", "event", "register.vouched", "commit", s.Commit.String(), "reason", v.Why)
		return v, nil
	}
	t.told = t.told && t.verdict.Standing == v.Standing
	if t.verdict = v; asked {
		most := pauseOpen
		if v.Standing == approval.Refused {
			most = pauseClosed
		}
		t.next = now.Add(min(firstPause<<min(t.n, 10), most))
		t.n++
	}
	a.trials[s.Commit] = t
	return v, nil
}

// waitsFor reports whether something is withheld until a commit is vouched for.
func (r *Reconciler) waitsFor(commit gitsync.Hash) bool {
	return slices.ContainsFunc(r.approvals.open, func(s gitsync.Step) bool { return s.Commit == commit })
}

// vouch takes an operator's word for a commit.
func (r *Reconciler) vouch(commit gitsync.Hash, reason string) error {
	a := &r.approvals
	a.receipts[commit] = receipt{commit, operatorPolicy, "an operator: " + reason, r.o.Now().UTC()}
	a.unsaved = true
	r.log.Info("a commit is vouched for", "event", "register.vouched", "commit", commit.String(), "reason", a.receipts[commit].Why)
	return r.persistLedger(&r.inForce)
}

// tellOpen logs the commits that withhold something, each once.
func (r *Reconciler) tellOpen(w *withholding) {
	paths := make(map[gitsync.Hash]int)
	for _, p := range w.Paths {
		paths[p.Cause]++
	}
	n := 0
	for _, p := range w.Passages {
		t := r.approvals.trials[p.Commit]
		if paths[p.Commit] == 0 || t.told || n == maxTold {
			continue
		}
		n++
		t.told = true
		r.approvals.trials[p.Commit] = t
		r.log.Warn("nobody vouches for a commit: what was in force before stays so", "event", "register.withheld",
			"commit", p.Commit.String(), "standing", p.Standing.String(), "paths", paths[p.Commit], "reason", p.Why)
	}
}

// withhold puts what is in force in the place of what the commit of c has, where
// that is withheld, and gives the site rules to go by.
func (r *Reconciler) withhold(c *candidate) (site *source) {
	site, c.aside = c.ownSite, make(map[string]*source)
	for _, p := range c.withheld.Paths {
		is := p.InForce.source(p.Path)
		if p.Path == siteFile {
			site = is
			continue
		}
		old := r.files.find(p.Path)
		own, other := c.overlay[p.Path]
		if !other {
			own = old
		}
		c.aside[p.Path] = own
		if c.overlay[p.Path] = is; is.same(old) {
			delete(c.overlay, p.Path)
		}
	}
	return site
}

// addBlocks puts the blocks in force that nobody vouches for, beside what is.
func (r *Reconciler) addBlocks(ctx context.Context, c *candidate) error {
	var blocks []*source
	for _, p := range c.withheld.Paths {
		if registration.Kind(p.Path) != registration.KindBlock {
			continue
		}
		for _, v := range c.withheld.blocks(p.Path) {
			s := v.source(p.Path)
			if s.Withheld = true; s.Mode != registration.Regular || len(blocks) == maxHeldBlocks {
				continue
			}
			if err := r.read(ctx, s); err != nil {
				return err
			}
			blocks = append(blocks, s)
		}
	}
	if len(blocks) == 0 {
		return nil
	}
	if err := r.parse(ctx, c.site, slices.Clone(blocks)); err != nil {
		return err
	}
	c.held = slices.DeleteFunc(blocks, func(s *source) bool { return slices.ContainsFunc(s.File.Problems, isFault) })
	beside(c.held, c.files)
	c.snapshot = r.withHeld(&c.inForce)
	return nil
}

// withheldBlocks are the blocks of the accepted commit that nobody vouches for.
func (r *Reconciler) withheldBlocks() []*source {
	return slices.DeleteFunc(slices.Clone(r.held), func(s *source) bool { return !s.Withheld })
}

// beside marks the blocks whose path is taken.
func beside(blocks []*source, files list) {
	taken := make(map[string]bool)
	for _, s := range blocks {
		s.Beside = taken[s.Path] || files.find(s.Path) != nil
		taken[s.Path] = true
	}
}

// prune forgets commits that nothing waits for any more.
func (r *Reconciler) prune() {
	a := &r.approvals
	a.open = r.withheld.open()
	waiting := r.withheld.commits()
	for h := range a.receipts {
		if waiting[h] == nil {
			delete(a.receipts, h)
		}
	}
	for h := range a.trials {
		if waiting[h] == nil {
			delete(a.trials, h)
		}
	}
}

// sameEffect reports whether two put the same in force. They may differ in why
// something is withheld.
func sameEffect(a, b *withholding) bool {
	bare := func(w *withholding) []passage {
		out := slices.Clone(w.Passages)
		for i := range out {
			out[i].Why = ""
			if out[i].Standing != approval.Vouched {
				out[i].Standing = approval.Unknown
			}
		}
		return out
	}
	return reflect.DeepEqual(a.Paths, b.Paths) && reflect.DeepEqual(bare(a), bare(b))
}
