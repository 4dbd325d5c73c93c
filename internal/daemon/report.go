package daemon

import (
	"sync"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/register/approval"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/status"
)

// newStatus joins the read model to the parts that it reads.
func (r *relay) newStatus(c *config.Relay) *status.Server {
	sources := status.Sources{
		Register: func() status.Register { return r.registerReport(c) },
		Queue:    func() status.Queue { return queueReport(r.queue.Stats()) },
		Relay: func() status.Relay {
			n := r.server.Counts()
			return status.Relay{Sessions: n.Sessions, Accepted: n.Accepted, Refused: n.Refused}
		},
		Senders: r.sendersReport, Strangers: r.strangersReport,
		Proofs:  r.proofsReport,
		Drift:   r.drift,
		Blocks:  r.blocksReport,
		Brake:   r.brakeReport,
		Config:  r.conf.report,
		Spool:   r.spool.Accepting,
		Ending:  r.ending.Load,
		Address: r.addressReport,
	}
	if r.certs != nil {
		sources.Certificate = r.certs.report
	}
	if r.hook != nil {
		sources.Webhook = r.hook.report
	}
	if r.portal != nil {
		sources.Portal = r.portal.report
	}
	if r.dkim != nil {
		sources.DKIM = r.dkim.report
	}
	if r.dane != nil {
		sources.Resolver = r.resolverReport
	}
	return status.New(status.Options{
		Host:     c.Hostname,
		Version:  Version(),
		Started:  r.started,
		Sources:  sources,
		Gatherer: r.registry,
	})
}

// conditions translates reconcile's words.
var conditions = map[reconcile.Condition]string{
	reconcile.Following: status.Following,
	reconcile.Frozen:    status.Frozen,
	reconcile.Held:      status.Held,
}

func (r *relay) registerReport(c *config.Relay) status.Register {
	s := r.register.State()
	out := status.Register{
		Repository:  c.Register.Repository,
		Branch:      c.Register.Branch,
		Commit:      s.Accepted,
		AcceptedAt:  s.AcceptedAt,
		LastContact: s.ContactAt,
		Newest:      s.Newest,
		Error:       s.Error,
		Condition:   conditions[s.Condition],
		Reason:      s.Why,
		Command:     s.Command,
		Addresses:   s.Addresses,
		Live:        r.liveNow.of(r.live.Load(), time.Now()),
		Dropped:     s.Dropped,
		Problems:    s.Problems,
		Unconfirmed: s.Unannounced,

		WithheldCount: s.WithheldAll,
	}
	if r.keys != nil {
		out.Keys = r.keys.Trouble()
	}
	for _, w := range s.Withheld {
		out.Withheld = append(out.Withheld, status.Withheld{
			File: w.Path, Since: w.Since, Commit: w.Commit, Refused: w.Standing == approval.Refused, Why: w.Why, InForce: w.InForce,
		})
	}
	for _, sub := range s.Substituted {
		out.Substituted = append(out.Substituted, status.Substitution{File: sub.Path, Commit: sub.From})
	}
	return out
}

// liveFor is how long a count of the live addresses is good enough: they change
// by the clock alone, when one expires or a block ends.
const liveFor = 5 * time.Second

// A liveCount remembers how many addresses may send, since counting takes tens
// of milliseconds where there are 100,000 and /readyz is asked often. The zero
// value is ready.
type liveCount struct {
	mu       sync.Mutex
	snapshot *policy.Snapshot // guarded by mu, as the others
	at       time.Time
	n        int
}

// of is how many addresses of s may send at now, or could a moment ago.
func (l *liveCount) of(s *policy.Snapshot, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.snapshot != s || now.Sub(l.at) >= liveFor || now.Before(l.at) {
		l.snapshot, l.at, l.n = s, now, countLive(s, now)
	}
	return l.n
}

// countLive is how many addresses may send at now.
func countLive(s *policy.Snapshot, now time.Time) (n int) {
	for addr := range s.All() {
		if s.Lookup(addr, now).Standing == policy.Registered {
			n++
		}
	}
	return n
}

func queueReport(s queue.Stats) status.Queue {
	out := status.Queue{Entries: s.Entries, Depth: s.Jobs, Oldest: s.Oldest, Loading: s.Loading,
		Delivered: s.Delivered, Deferred: s.Deferred, Bounced: s.Bounced}
	for _, d := range s.Destinations {
		out.Destinations = append(out.Destinations, status.Destination{Name: d.Name, Entries: d.Jobs, Running: d.Running, Window: d.Window, Failures: d.Failures, BlockedUntil: d.BlockedUntil, Deferrals: d.Deferrals, Said: d.Said})
	}
	return out
}
