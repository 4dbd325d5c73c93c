package deliver

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"example.edu/gatepost/internal/mail"
)

// maxSessions is how many next hops one attempt is offered to, where one after
// the other greets us and then has no time.
const maxSessions = 3

// A round is one attempt on its way from next hop to next hop. What a next hop
// says of one recipient stands. What it says of itself (4xx to MAIL, 421, or
// nothing at all, before it asked for the message) sends the rest to the next
// one: RFC 5321 §5.1.
type round struct {
	c           *Courier
	destination string
	requireTLS  bool

	m        message // to those who are still open
	open     []int   // their positions in the results; nil: all of them, in order
	a        attempt
	sum      failures
	sessions int
	seen     []string // addresses that had their turn; there is no second one
}

// attempt is the plan of the package comment.
func (c *Courier) attempt(ctx context.Context, destination string, m message) attempt {
	r := &round{c: c, destination: destination, m: m, requireTLS: m.e.Envelope.RequireTLS}
	if s := c.kept(destination, r.requireTLS); s != nil {
		t := s.transact(ctx, m)
		c.finish(destination, t)
		if !t.stale || ctx.Err() != nil {
			c.metrics.connection("reused")
			r.a.reused = true
			if !r.take(ctx, t) {
				return r.a
			}
		} else {
			c.metrics.connection("stale")
		}
	}
	hosts, nowhere := c.route(ctx, destination)
	if nowhere != nil {
		r.sum.add(*nowhere)
		return r.end(ctx)
	}
	tries := 0
	for _, h := range hosts {
		if ctx.Err() != nil {
			break
		}
		demand := c.demand(ctx, destination, h, &r.m.e.Envelope)
		if demand.Refused != nil {
			c.metrics.unmet(&demand)
			r.sum.add(*demand.Refused)
			continue
		}
		addrs, err := c.addresses(ctx, h)
		if err != nil {
			r.sum.add(c.unknown(h, err))
			continue
		}
		reached := false
		for _, addr := range addrs {
			if slices.Contains(r.seen, where(h, addr)) {
				reached = true // and known to be of no use now
				continue
			}
			if tries++; tries > maxAddresses || ctx.Err() != nil {
				break
			}
			s, refused := c.reach(ctx, h, addr, &demand)
			if refused != nil {
				r.sum.add(*refused)
				if looped(refused) {
					return r.end(ctx)
				}
				continue
			}
			c.metrics.connection("new")
			c.health.note(h, true, c.o.Now())
			reached = true
			if r.requireTLS && !s.has("REQUIRETLS") { // RFC 8689 §4.2.1: another host may
				r.sum.add(noRequireTLS(h.name))
				c.pool.put(destination, s)
				continue
			}
			t := s.transact(ctx, r.m)
			c.finish(destination, t)
			if !r.take(ctx, t) {
				return r.a
			}
		}
		if !reached && ctx.Err() == nil && !r.requireTLS { // which may want more than the host is to blame for
			c.health.note(h, false, c.o.Now())
		}
	}
	return r.end(ctx)
}

// reach is connect, but for an address that is our own.
func (c *Courier) reach(ctx context.Context, h host, addr netip.Addr, d *Demand) (*session, *mail.Result) {
	if c.self.is(h, addr, c.o.Now()) {
		return nil, ptr(loops(h, "at "+where(h, addr)))
	}
	s, refused := c.connect(ctx, h, addr, d)
	if refused != nil {
		c.metrics.connection("failed")
	}
	return s, refused
}

// take notes what a transaction came to, and reports whether the next hop is
// to be asked for those whom this one left open.
func (r *round) take(ctx context.Context, t *transaction) bool {
	r.a.hop, r.a.s = t.s.hop, t.s
	r.seen = append(r.seen, t.s.where)
	r.sessions++
	if t.unable {
		r.c.plain.note(t.s.host, r.c.o.Now())
	}
	if t.down {
		r.c.health.note(t.s.host, false, r.c.o.Now())
	}
	if r.open == nil {
		r.a.results = t.res
	} else {
		for k, i := range r.open {
			r.a.results[i] = t.res[k]
		}
	}
	if len(t.left) == 0 {
		return false
	}
	left, rcpts := make([]int, 0, len(t.left)), make([]int, 0, len(t.left))
	for _, k := range t.left {
		at := k
		if r.open != nil {
			at = r.open[k]
		}
		left, rcpts = append(left, at), append(rcpts, r.m.rcpts[k])
	}
	r.sum.add(t.res[t.left[0]])
	r.open, r.m.rcpts = left, rcpts
	if r.sessions == maxSessions || ctx.Err() != nil {
		r.end(ctx)
		return false
	}
	return true
}

// end gives those who are open what all next hops came to, together.
func (r *round) end(ctx context.Context) attempt {
	last := r.sum.result(ctx)
	if r.open == nil {
		r.a.results = all(last, len(r.m.rcpts))
		return r.a
	}
	for _, i := range r.open {
		r.a.results[i] = last
	}
	return r.a
}

// where is a host's address as it is dialled.
func where(h host, addr netip.Addr) string { return net.JoinHostPort(addr.String(), h.port) }
