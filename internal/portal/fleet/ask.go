package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"example.edu/gatepost/internal/status"
)

// An Answer is what one relay knows of an address.
type Answer struct {
	Relay   string
	Address *status.Address // nil: see Error
	Error   string          // why there is none, for postmasters
}

// Address asks all relays at once what they know of an address, for four
// seconds at most, and returns what came, in the order of the configuration. A
// relay that has not answered for a while is not asked.
func (f *Fleet) Address(ctx context.Context, ip netip.Addr) []Answer {
	ctx, cancel := context.WithTimeout(ctx, addressWait)
	defer cancel()
	ip = ip.Unmap()
	out := make([]Answer, len(f.relays))
	var asking sync.WaitGroup
	for i, r := range f.relays {
		asking.Go(func() {
			a, err := r.address(ctx, ip)
			out[i] = Answer{Relay: r.source.Name, Address: a}
			if err != nil {
				out[i].Error = err.Error()
			}
		})
	}
	asking.Wait()
	return out
}

func (r *relay) address(ctx context.Context, ip netip.Addr) (*status.Address, error) {
	release, err := r.claimIfUp(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return r.client.Address(ctx, ip)
}

// A Block is what a postmaster wants blocked.
type Block struct {
	Prefix string        // "141.211.13.21" or a network; the relay judges it
	Reason string        // one line
	For    time.Duration // 0: until it is taken back
	Wide   bool          // many addresses are meant
}

// A Release ends what the abuse brake does to a registration.
type Release struct {
	Registration string // the file
	Reason       string
	For          time.Duration // how long the brake does not look at it
}

// The values of Outcome.State.
const (
	Done    = "done"
	NotDone = "refused" // the relay said no
	Failed  = "failed"  // it was not told
	Unknown = "unknown" // it was told, perhaps, and did not answer
)

// An Outcome is what became of an order at one relay.
type Outcome struct {
	Relay string
	State string
	Text  string // what the relay did, or why not
	Hint  string // what to do
}

// BlockAt has a relay block a prefix, or each relay if name is "". who is logged
// there and here.
func (f *Fleet) BlockAt(ctx context.Context, name, who string, b Block) []Outcome {
	order := struct {
		Prefix   string `json:"prefix"`
		Reason   string `json:"reason"`
		For      string `json:"for,omitempty"`
		Operator string `json:"operator"`
		Wide     bool   `json:"wide,omitempty"`
	}{b.Prefix, b.Reason, lasting(b.For), who, b.Wide}
	return f.order(ctx, name, who, "block", b.Prefix, b.Reason, func(ctx context.Context, c Client) (string, error) {
		var done status.BlockAdded
		if err := c.Order(ctx, "blocks", order, &done); err != nil {
			return "", err
		}
		return blocked(done), nil
	})
}

// UnblockAt has a relay take a block by command back, or each relay if name is "".
func (f *Fleet) UnblockAt(ctx context.Context, name, who, prefix, reason string) []Outcome {
	order := struct {
		Prefix   string `json:"prefix"`
		Reason   string `json:"reason"`
		Operator string `json:"operator"`
	}{prefix, reason, who}
	return f.order(ctx, name, who, "unblock", prefix, reason, func(ctx context.Context, c Client) (string, error) {
		var done status.BlockEnded
		if err := c.Order(ctx, "blocks/end", order, &done); err != nil {
			return "", err
		}
		return unblocked(done), nil
	})
}

// ReleaseAt has a relay end what its brake does to a registration, or each relay
// if name is "".
func (f *Fleet) ReleaseAt(ctx context.Context, name, who string, r Release) []Outcome {
	order := struct {
		Registration string `json:"registration"`
		Reason       string `json:"reason"`
		For          string `json:"for"`
		Operator     string `json:"operator"`
	}{r.Registration, r.Reason, r.For.String(), who}
	return f.order(ctx, name, who, "release", r.Registration, r.Reason, func(ctx context.Context, c Client) (string, error) {
		var done status.BrakeReleased
		if err := c.Order(ctx, "brake/release", order, &done); err != nil {
			return "", err
		}
		return fmt.Sprintf("released; %s in the queue go on", number(done.Queued, "message", "messages")), nil
	})
}

// order hands an order to one relay or to all at once, and tells what became of
// it at each. Nobody's going away cuts it off: what was begun is known.
func (f *Fleet) order(ctx context.Context, name, who, what, about, reason string, do func(context.Context, Client) (string, error)) []Outcome {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), orderWait)
	defer cancel()
	var to []*relay
	for _, r := range f.relays {
		if name == "" || r.source.Name == name {
			to = append(to, r)
		}
	}
	out := make([]Outcome, len(to))
	var asking sync.WaitGroup
	for i, r := range to {
		asking.Go(func() {
			out[i] = r.order(ctx, do)
			f.metrics.orders.WithLabelValues(what, out[i].State).Inc()
			var why slog.Attr // what is empty is left out
			if out[i].State != Done {
				why = slog.String("err", out[i].Text)
			}
			f.log.Warn("a postmaster's order", "event", "fleet.order", "relay", r.source.Name, "order", what, "about", clean(about),
				"operator", who, "reason", clean(reason), "result", out[i].State, why)
			r.soon()
		})
	}
	asking.Wait()
	return out
}

func (r *relay) order(ctx context.Context, do func(context.Context, Client) (string, error)) Outcome {
	o := Outcome{Relay: r.source.Name, State: Done}
	release, err := r.claim(ctx)
	if err == nil {
		o.Text, err = do(ctx, r.client)
		release()
	}
	if err == nil {
		return o
	}
	o.State, o.Text = Failed, err.Error()
	if no, ok := errors.AsType[*Refusal](err); ok {
		o.State, o.Hint = NotDone, no.Hint
	} else if errors.Is(err, ErrUnknown) {
		o.State = Unknown
	}
	return o
}

// Names are the relays that can be told to do something.
func (f *Fleet) Names() []string {
	var out []string
	for _, r := range f.relays {
		if r.source.OperatorTokenFile != "" {
			out = append(out, r.source.Name)
		}
	}
	return slices.Clip(out)
}

func blocked(b status.BlockAdded) string {
	text := "blocked " + b.End()
	if b.Before != nil {
		text += "; it was blocked before, and the new reason and end count"
	}
	if b.Held > 0 {
		text += "; " + number(b.Held, "message of it in the queue is", "messages of it in the queue are") + " held"
	}
	if b.Unsaved != "" {
		text += "; it is in force and not on the disk, so a restart would lose it"
	}
	return clean(text)
}

func unblocked(b status.BlockEnded) string {
	text := "blocked no more by command"
	if len(b.Still) > 0 {
		return clean(text + ", but still " + b.Still[0].Place() + ": " + b.Still[0].Reason)
	}
	if b.Queued > 0 {
		text += "; " + number(b.Queued, "message", "messages") + " in the queue go on"
	}
	return text
}

func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// lasting writes a length of time as a relay reads it.
func lasting(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
