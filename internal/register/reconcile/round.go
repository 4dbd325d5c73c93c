package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// A permit is an operator's word for one commit. The zero permit is none.
type permit struct {
	commit gitsync.Hash
	reason string
}

// An evaluation remembers that a head was looked at and why it waits, so that
// nothing is done again until something moves.
type evaluation struct {
	base, head gitsync.Hash
	condition  Condition
	why        string
}

// Once runs one round. It returns an error if the register could not be
// brought up to date for a reason that may go away. That a commit waits for an
// operator is no error; State tells.
func (r *Reconciler) Once(ctx context.Context) error {
	if err := r.acquire(ctx); err != nil {
		return err
	}
	defer r.release()
	result, err := r.round(ctx)
	r.metrics.round(result, err)
	if told := r.announce(ctx); err == nil {
		err = told
	}
	if ctx.Err() == nil { // that the program ends is no news about the register
		r.note(err)
	}
	return err
}

// round is the part of Once that ends with the store. The caller has the turn.
func (r *Reconciler) round(ctx context.Context) (result, error) {
	head, err := r.fetch(ctx)
	switch {
	case errors.Is(err, gitsync.ErrBranchGone) && r.known():
		r.wait(evaluation{base: r.commit, condition: Frozen, why: "the branch does not exist at the repository any more"})
		return resultFrozen, nil
	case err != nil:
		return resultFailed, fmt.Errorf("reconcile: %w", err)
	}
	result, err := r.consider(ctx, head, permit{})
	if err != nil {
		return resultFailed, fmt.Errorf("reconcile: commit %s: %w", head, err)
	}
	return result, nil
}

// fetch asks for the head of the branch and notes when that worked.
func (r *Reconciler) fetch(ctx context.Context) (gitsync.Hash, error) {
	began := r.o.Now()
	head, err := r.o.Source.Fetch(ctx)
	if err == nil || errors.Is(err, gitsync.ErrBranchGone) {
		r.metrics.fetched(r.o.Now().Sub(began))
		r.update(func(s *State) {
			s.ContactAt = r.o.Now()
			if err == nil {
				s.Newest = head.String()
			}
		})
	}
	return head, err
}

// consider brings commit head into force, or says why it waits. p is the
// operator's permission, if there is one.
func (r *Reconciler) consider(ctx context.Context, head gitsync.Hash, p permit) (result, error) {
	permitted := p.commit == head && !head.IsZero()
	if !permitted && r.evaluated.head == head && r.evaluated.base == r.commit && !r.due() {
		return r.evaluated.condition.result(), nil
	}
	relation, err := r.relation(ctx, head)
	if err != nil {
		return resultFailed, err
	}
	follows := r.known() && (relation == gitsync.Same || relation == gitsync.Descends)
	switch {
	case r.known() && !follows && !permitted:
		r.wait(evaluation{r.commit, head, Frozen, broken(relation, head)})
		return resultFrozen, nil
	case r.approvals.lost != "" && r.o.Approver != nil && !permitted:
		r.wait(evaluation{r.commit, head, Frozen, r.approvals.lost})
		return resultFrozen, nil
	case r.approvals.lost != "":
		follows = false
	}
	if permitted && follows && r.o.Approver != nil {
		if err := r.vouch(head, p.reason); err != nil {
			return resultFailed, err
		}
	}
	w, err := r.judge(ctx, head, !follows)
	switch {
	case errors.Is(err, errTooLong) && !permitted:
		r.wait(evaluation{r.commit, head, Frozen, err.Error()})
		return resultFrozen, nil
	case errors.Is(err, errTooLong):
		follows = false
		w, err = r.judge(ctx, head, true)
	}
	if err != nil {
		return resultFailed, err
	}
	same := relation == gitsync.Same && r.snapshot != nil
	if same && sameEffect(w, &r.withheld) {
		r.withheld = *w // perhaps for other reasons
		return r.settle(ctx)
	}
	c, err := r.load(ctx, head, w)
	if err != nil {
		return resultFailed, err
	}
	if why := guard(r.snapshot, c.snapshot, r.o.MaxRemovals, r.o.Now()); why != "" && !permitted {
		if err := r.hold(c); err != nil {
			return resultFailed, err
		}
		r.wait(evaluation{r.commit, head, Held, why})
		return resultHeld, nil
	}
	c.how, c.reason = Descended, p.reason
	switch {
	case permitted:
		c.how = Operator
	case !r.known():
		c.how = First
	case same:
		c.how, c.reason, c.revision = r.how, r.reason, r.revision+1
	}
	if c.commit == r.announced.Commit && r.snapshot != nil {
		// It was announced before; what came into force since then may not have
		// been, and what went with that is still to be told.
		c.revision = max(c.revision, r.announced.Revision+1)
	}
	c.removed = c.snapshot.StillRemoved(r.untold())
	if r.known() && (relation == gitsync.Same || relation == gitsync.Descends) {
		c.removed = append(c.removed, policy.Removals(r.snapshot, c.snapshot)...)
	}
	if !follows && r.o.Approver != nil {
		r.log.Warn("this commit is taken as it is; those after it are judged", "event", "register.unverified", "commit", head.String())
	}
	return resultAccepted, r.accept(ctx, c)
}

// untold is what was removed before and not announced yet.
func (r *Reconciler) untold() []policy.Removal {
	if r.announced.has(&r.inForce) {
		return nil
	}
	return r.removed
}

// relation is how head stands to the accepted commit; Descends if there is
// none.
func (r *Reconciler) relation(ctx context.Context, head gitsync.Hash) (gitsync.Relation, error) {
	if !r.known() {
		return gitsync.Descends, nil
	}
	return r.o.Source.Relation(ctx, r.commit, head)
}

// broken says why a head that does not descend is not accepted.
func broken(relation gitsync.Relation, head gitsync.Hash) string {
	switch relation {
	case gitsync.Rewound:
		return fmt.Sprintf("the branch was set back to %.12s, which is older than the accepted commit", head)
	case gitsync.Diverged:
		return fmt.Sprintf("the branch was rewritten: %.12s does not descend from the accepted commit", head)
	}
	return fmt.Sprintf("the accepted commit is not in the history of %.12s", head)
}

// settle is what is left to do when the head is the accepted commit: what a
// held commit had added is taken back if the branch has left it.
func (r *Reconciler) settle(ctx context.Context) (result, error) {
	if mine := r.withheldBlocks(); len(mine) < len(r.held) {
		if err := r.publish(mine); err != nil {
			return resultFailed, err
		}
	}
	r.wait(evaluation{})
	r.keep(ctx)
	return resultUnchanged, nil
}

// hold puts the blocks of a commit that waits in force: they take service
// away from one who misbehaves and give nothing to anybody.
func (r *Reconciler) hold(c *candidate) error {
	mine := r.withheldBlocks()
	var extra []*source
	for _, s := range slices.Concat(mine, c.held) {
		held := *s
		held.Withheld = slices.Contains(mine, s) // what is withheld of this commit is not of the accepted one
		if !slices.ContainsFunc(extra, func(o *source) bool { return o.same(s) }) {
			extra = append(extra, &held)
		}
	}
	for path, s := range c.overlay {
		if s == nil || registration.Kind(path) != registration.KindBlock || !c.good(path) {
			continue
		}
		if mine := r.files.find(path); mine == nil || mine.Blob != s.Blob {
			held := *s
			extra = append(extra, &held)
		}
	}
	slices.SortStableFunc(extra, func(a, b *source) int { return strings.Compare(a.Path, b.Path) })
	beside(extra, r.files)
	if sameSources(extra, r.held) {
		return nil
	}
	return r.publish(extra)
}

// publish persists and stores what is in force with other held blocks.
func (r *Reconciler) publish(held []*source) error {
	next := r.inForce
	next.held = held
	next.snapshot = r.withHeld(&next)
	if err := r.persist(&next); err != nil {
		return err
	}
	r.inForce = next
	r.o.Live.Store(r.snapshot)
	r.log.Warn("the blocks of a held commit are in force", "event", "register.blocks", "commit", r.commit.String(), "blocks", len(held))
	return nil
}

// accept puts a candidate in force: first on the disk, then in Live.
func (r *Reconciler) accept(ctx context.Context, c *candidate) error {
	commit, err := r.o.Source.Describe(ctx, c.commit)
	if err != nil {
		return err
	}
	next := c.inForce
	next.at, next.committedAt = r.o.Now().UTC(), commit.Time.UTC()
	if err := r.persist(&next); err != nil {
		return err
	}
	before, known, base := r.commit, r.problems, r.inForce.base.Name
	r.inForce, r.approvals.lost = next, ""
	r.o.Live.Store(r.snapshot)
	r.prune()
	r.workshop.keep(nil) // what was parsed for this commit is in force now
	r.wait(evaluation{})
	r.log.Info("the register is in force", "event", "register.accepted", "commit", r.commit.String(), "before", before.String(),
		"how", string(r.how), "reason", r.reason, "addresses", r.snapshot.Len(), "problems", len(r.problems), "withheld", len(r.withheld.Paths), "subject", commit.Subject)
	r.tellFaulty(known)
	r.keep(ctx)
	r.tidy(base)
	return nil
}

// tellFaulty logs the files that were not faulty among the known problems and
// are now: what they said before stays in force, or nothing does.
func (r *Reconciler) tellFaulty(known []registration.Problem) {
	const most = 10 // lines about one commit; status and the metrics have them all
	told := map[string]bool{}
	for _, p := range known {
		told[p.File] = told[p.File] || p.Severity == registration.Error
	}
	n := 0
	for _, p := range r.problems {
		if p.Severity == registration.Error && !told[p.File] && n < most {
			told[p.File] = true
			n++
			r.log.Warn("a file is faulty and not taken over", "event", "register.faulty", "file", p.File, "rule", string(p.Rule), "err", p.String())
		}
	}
}

// keep tells the source which commit it must not lose. It matters only if the
// branch leaves the commit, and is tried again each round.
func (r *Reconciler) keep(ctx context.Context) {
	if err := r.o.Source.Keep(ctx, r.commit); err != nil && ctx.Err() == nil {
		r.log.Warn("the accepted commit is not protected in the clone", "event", "register.unprotected", "commit", r.commit.String(), "err", err)
	}
}

// wait records how the branch stands to what is in force, and says so once.
func (r *Reconciler) wait(e evaluation) {
	if e.condition != r.evaluated.condition || e.head != r.evaluated.head {
		switch {
		case e.condition != Following:
			event := slog.String("event", "register.frozen")
			if e.condition == Held {
				event = slog.String("event", "register.held")
			}
			r.log.Error("the register waits for an operator", event,
				"commit", e.head.String(), "before", r.commit.String(), "reason", e.why)
		case r.evaluated.condition != Following:
			r.log.Info("the register follows its branch again", "event", "register.following", "commit", r.commit.String())
		}
	}
	r.evaluated = e
	r.show()
}

// announce calls OnAccept for what is in force, unless that was done. The
// caller has the turn.
func (r *Reconciler) announce(ctx context.Context) error {
	if !r.known() || r.snapshot == nil || r.announced.has(&r.inForce) {
		return nil
	}
	a := Accepted{
		Commit: r.commit.String(), Snapshot: r.snapshot,
		First: !r.announced.ever, Removed: r.removed,
	}
	if r.announced.snapshot != nil || a.First {
		a.Changes = policy.Diff(r.announced.snapshot, r.snapshot)
	}
	if r.o.OnAccept != nil {
		if err := r.o.OnAccept(ctx, a); err != nil {
			return fmt.Errorf("reconcile: telling of commit %s: %w", r.commit, err)
		}
	}
	next := announced{Commit: r.commit, Revision: r.revision, ever: true, snapshot: r.snapshot}
	if err := r.persistAnnounced(next); err != nil {
		return err
	}
	r.announced = next
	return nil
}

// Accept is an operator's yes to a commit that is held or frozen, by its hash
// or the first seven digits or more. The commit must be the newest that was
// seen on the branch, or in its history.
func (r *Reconciler) Accept(ctx context.Context, commit, reason string) error {
	if reason = strings.TrimSpace(reason); reason == "" {
		return errors.New("reconcile: accepting a commit takes a reason")
	}
	if err := r.acquire(ctx); err != nil {
		return err
	}
	defer r.release()
	newest, err := r.fetch(ctx)
	if err != nil { // what was seen before can be accepted all the same
		if newest, err = gitsync.ParseHash(r.State().Newest); err != nil {
			return errors.New("reconcile: no commit was seen yet that could be accepted")
		}
	}
	target, err := r.named(ctx, commit, newest)
	if err != nil {
		return err
	}
	p := permit{target, reason}
	if r.evaluated.head != target && r.waitsFor(target) { // the operator's word is for that commit, and no other
		if err := r.vouch(target, reason); err != nil {
			return fmt.Errorf("reconcile: accepting %s: %w", target, err)
		}
		target, p = newest, permit{}
	} else if err := r.acceptable(ctx, target, newest); err != nil {
		return err
	}
	result, err := r.consider(ctx, target, p)
	r.metrics.round(result, err)
	if err != nil {
		r.note(err)
		return fmt.Errorf("reconcile: accepting %s: %w", target, err)
	}
	r.note(r.announce(ctx)) // repeated by the next round if it failed
	if target != newest {
		r.Wake()
	}
	return nil
}

// acceptable refuses a commit that an operator cannot mean.
func (r *Reconciler) acceptable(ctx context.Context, target, newest gitsync.Hash) error {
	if target == r.commit && r.snapshot != nil {
		return fmt.Errorf("reconcile: commit %s is accepted already", target)
	}
	if r.o.Approver == nil || !r.known() || target == newest {
		return nil
	}
	// With an Approver an older commit is named to vouch for it. Once that is done,
	// to name it again must not set the register back.
	relation, err := r.o.Source.Relation(ctx, target, r.commit)
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	if relation == gitsync.Descends {
		return fmt.Errorf("reconcile: nothing waits for commit %s", target)
	}
	return nil
}

// named finds the commit that an operator means.
func (r *Reconciler) named(ctx context.Context, commit string, newest gitsync.Hash) (gitsync.Hash, error) {
	commit = strings.ToLower(strings.TrimSpace(commit))
	if len(commit) >= 7 && strings.HasPrefix(newest.String(), commit) {
		return newest, nil
	}
	target, err := gitsync.ParseHash(commit)
	if err != nil {
		return gitsync.Hash{}, fmt.Errorf("reconcile: %q is not the newest commit of the branch (%s); an older one is named by all 40 digits", commit, newest)
	}
	relation, err := r.o.Source.Relation(ctx, target, newest)
	if err != nil {
		return gitsync.Hash{}, fmt.Errorf("reconcile: %w", err)
	}
	if relation != gitsync.Descends {
		return gitsync.Hash{}, fmt.Errorf("reconcile: commit %s is not on the branch, whose newest commit is %s", target, newest)
	}
	return target, nil
}

// guard says why a change from base to next must wait for an operator, "" if
// it need not. It counts the addresses that can send now and could not after
// the change, whatever the way; blocks do not count, since they are to work at
// once. Fewer than minRemovals never wait, so that a small register can be
// worked on.
func guard(base, next *policy.Snapshot, maxRemovals float64, now time.Time) string {
	if base == nil {
		return ""
	}
	live, removed := next.Losses(base, now)
	if removed >= minRemovals && float64(removed) > maxRemovals*float64(live) {
		return fmt.Sprintf("it takes %d of %d live addresses away, which is more than maxRemovals (%v) allows", removed, live, maxRemovals)
	}
	for range base.Campus() {
		for range next.Campus() {
			return ""
		}
		return "it takes the university's whole address space away"
	}
	return ""
}

// minRemovals is the number of addresses from which on the guard counts.
const minRemovals = 5
