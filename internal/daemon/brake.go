package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/relay/blocks"
	"example.edu/gatepost/internal/relay/brake"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/smtpd"
	"example.edu/gatepost/internal/relay/spool"
	"example.edu/gatepost/internal/status"
)

// openBrake opens the abuse brake. The steps that were taken are in force when
// it returns.
func (r *relay) openBrake(c *config.Relay) (err error) {
	b := c.Brake
	furthest := map[string]brake.Step{config.BrakeOff: brake.Free, config.BrakeSlow: brake.Slowed, config.BrakeHold: brake.Held, config.BrakeBlock: brake.Blocked}
	r.brake, err = brake.Open(brake.Options{
		File: filepath.Join(c.State, "brake"),
		Thresholds: brake.Thresholds{
			Furthest:     furthest[b.Furthest],
			VolumeFactor: b.Volume.Factor, VolumeLeast: b.Volume.Least,
			RecipientsFactor: b.Recipients.Factor, RecipientsLeast: b.Recipients.Least,
			SameBody:   b.SameBody,
			BouncePart: b.Bounces.Part, BounceLeast: b.Bounces.Least,
			SpamPart: b.Spam.Part, SpamLeast: b.Spam.Least,
			HoldAt: b.HoldAt, BlockAt: b.BlockAt, StepAfter: b.StepAfter,
			SlowEvery: b.SlowEvery, SlowFor: b.SlowFor, BlockFor: b.BlockFor,
		},
		Teller:     teller{brake.Letterhead{Host: c.Hostname, Postmaster: c.Postmaster, Portal: c.Portal}, outbox{r.spool, r.queue}},
		Blocker:    blocker{r.blocks},
		Changed:    r.queue.Recheck,
		Logger:     r.log,
		Registerer: r.registry,
	})
	return err
}

// A braker asks and tells the brake for the front door.
type braker struct{ brake *brake.Brake }

var _ smtpd.Brake = braker{}

func brakeClient(v policy.Verdict) brake.Client {
	g := v.Registration
	return brake.Client{Registration: g.Path, Addr: v.Addr, PerHour: g.Volume.PerHour, Contact: g.Contact.Email}
}

func (b braker) Ask(v policy.Verdict, m smtpd.Sent, now time.Time) (smtpd.Braked, bool) {
	if v.Registration == nil {
		return smtpd.Braked{}, true
	}
	said, ok := b.brake.Ask(brakeClient(v), brake.Message(m), now)
	if ok {
		return smtpd.Braked{}, true
	}
	out := smtpd.Braked{Blocked: said.Step == brake.Blocked, Why: said.Why, Until: said.Until}
	if said.Step == brake.Slowed {
		out.Every = said.Every
	}
	return out, false
}

func (b braker) Refused(v policy.Verdict, m smtpd.Sent, now time.Time) {
	if v.Registration != nil {
		b.brake.Refused(brakeClient(v), brake.Message(m), now)
	}
}

func (b braker) Accepted(v policy.Verdict, m smtpd.Sent, now time.Time) {
	if v.Registration != nil {
		b.brake.Accepted(brakeClient(v), brake.Message(m), now)
	}
}

// result tells the brake what a next hop said of a client's mail.
func (r *relay) result(e *spool.Entry, res mail.Result) {
	if e.Envelope.Registration != "" {
		r.brake.Result(e.Envelope.Registration, res, time.Now())
	}
}

// A teller sends the brake's notices.
type teller struct {
	letter brake.Letterhead
	outbox outbox
}

var _ brake.Teller = teller{}

func (t teller) Tell(ctx context.Context, n brake.Notice) error {
	env, body := t.letter.Compose(n, time.Now())
	return t.outbox.Send(ctx, n.Key(), env, body)
}

// A blocker has the brake's blocks among the break-glass blocks, where status
// and gatepost block show them.
type blocker struct{ blocks *blocks.List }

var _ brake.Blocker = blocker{}

// Block does nothing where an operator's block of the address is in force.
func (b blocker) Block(addr netip.Addr, reason string, until time.Time) error {
	p := netip.PrefixFrom(addr, addr.BitLen())
	now := time.Now()
	lasts := until.Sub(now)
	if old, ok := b.blocks.Set().Command(p); ok && !old.Over(now) || lasts < blocks.MinFor {
		return nil
	}
	_, _, err := b.blocks.Add(p, reason, lasts)
	if errors.Is(err, blocks.ErrUnsaved) {
		return nil // it is in force, and the list goes on trying
	}
	return err
}

// Unblock ends a block that Block made, which its reason tells.
func (b blocker) Unblock(addr netip.Addr) error {
	p := netip.PrefixFrom(addr, addr.BitLen())
	old, ok := b.blocks.Set().Command(p)
	if !ok || !strings.HasPrefix(old.Reason, brake.BlockReason) {
		return nil
	}
	_, err := b.blocks.Remove(p)
	if errors.Is(err, blocks.ErrUnknown) {
		return nil
	}
	return err
}

// brakeReport is everybody who is braked.
func (r *relay) brakeReport() []status.Braked {
	out := []status.Braked{}
	for _, g := range r.brake.List() {
		out = append(out, brakedReport(g))
	}
	return out
}

func brakedReport(g brake.Registration) status.Braked {
	out := status.Braked{Registration: g.Path, Step: g.State.Step.String(), Since: g.State.Since, Until: g.State.Until,
		FreeUntil: g.State.FreeUntil, Counts: status.BrakeCounts(g.Counts)}
	for _, m := range g.Machines {
		out.Machines = append(out.Machines, status.BrakeMachine{IP: m.Addr, Messages: m.Messages})
	}
	for _, e := range g.State.Why {
		out.Why = append(out.Why, e.Words)
	}
	return out
}

// listBraked answers with everybody who is braked.
func (r *relay) listBraked(w http.ResponseWriter, _ *http.Request) { answer(w, r.brakeReport()) }

// maxReleased bounds for how long an operator can keep the brake from looking.
const maxReleased = 30 * 24 * time.Hour

// releaseBrake ends what the brake does to a registration, given by its path or
// by one of its addresses.
func (r *relay) releaseBrake(by way) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var order releaseOrder
		if understood(w, req, &order) && by.named(w, order.Operator) {
			r.release(w, by, order)
		}
	}
}

// A releaseOrder ends what the brake does to a registration.
type releaseOrder struct{ Registration, Reason, For, Operator string }

func (r *relay) release(w http.ResponseWriter, by way, order releaseOrder) {
	path := order.Registration
	if addr, err := netip.ParseAddr(path); err == nil {
		e, ok := r.live.Load().Find(addr.Unmap())
		if !ok {
			refuse(w, http.StatusConflict, fmt.Sprintf("%s is not registered", addr), "name the file of the registration; gatepost brake list shows who is braked")
			return
		}
		path = e.Registration.Path
	}
	reason, err := blocks.ParseReason(order.Reason)
	if err != nil {
		refuse(w, http.StatusBadRequest, "a release needs a reason: one line of printable characters, 200 at most", "")
		return
	}
	lasts, ok := config.ParseDuration(order.For)
	if !ok || lasts > maxReleased {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%q is no time up to %s", order.For, config.FormatDuration(maxReleased)), "")
		return
	}
	r.asked(by, order.Operator, "release", path, reason)
	before, err := r.brake.Release(path, lasts, reason)
	switch {
	case errors.Is(err, brake.ErrFree):
		refuse(w, http.StatusConflict, path+" is not braked", "gatepost brake list shows who is")
		return
	case err != nil:
		refuse(w, http.StatusInternalServerError, strings.TrimPrefix(err.Error(), "brake: "), "make room on the disk of the state folder, or mend it; gatepost status shows how it stands")
		return
	}
	held := 0
	_ = r.queue.List(queue.Filter{Registration: path, Limit: queuedMost}, func(*queue.Row) error { held++; return nil }) // a number for people
	answer(w, status.BrakeReleased{Registration: path, Before: before.Step.String(), Queued: held, FreeFor: config.FormatDuration(lasts)})
}
