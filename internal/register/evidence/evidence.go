// Package evidence says what the world knows of an address that somebody wants
// to register: whether the DNS, the internet registry and the university's own
// address management (IPAM) agree with the registration, and whether the machine
// has proved to a relay that it is in the hands of whoever asks.
//
// It owns the sources and their time limits, and the reading of an IPAM's
// networks for "gatepost import". It never decides: evidence is shown to a
// postmaster beside the plan, changes no exit code, and the relay does without
// it.
//
// Invariants:
//   - an answer is Confirmed, Contradicted or Unknown; a service that is down,
//     slow, or answers nonsense makes Unknown, never Confirmed, and so does a
//     relay to which nothing was proved;
//   - everything a service sends is bounded in size before it is read, and in
//     length and character set before it is shown;
//   - a token goes to the one service it is for, over TLS or loopback, and into
//     no error or finding.
//
// RFC 1035 §3.5 (PTR), RFC 2317 (PTR behind a CNAME), RFC 9082 and RFC 9083 (RDAP).
package evidence

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// An Outcome is what one source makes of one claim. The zero value is Unknown.
type Outcome uint8

// The outcomes.
const (
	Unknown      Outcome = iota // the source has no say, or could not be asked
	Confirmed                   // the source agrees
	Contradicted                // the source says otherwise
)

// String names the outcome.
func (o Outcome) String() string {
	switch o {
	case Confirmed:
		return "confirmed"
	case Contradicted:
		return "contradicted"
	}
	return "unknown"
}

// MarshalText makes the JSON form the name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// A Claim is what a registration says of one machine.
type Claim struct {
	IP         netip.Addr `json:"ip"`
	Name       string     `json:"name"` // the registered host name
	Department string     `json:"department"`
}

// A Finding is the answer of one source to one claim. Its texts are printable
// and short once Gather returns it.
type Finding struct {
	Source  string   `json:"source"`
	Outcome Outcome  `json:"outcome"`
	Text    string   `json:"text"`             // one line, in plain words
	Detail  []string `json:"detail,omitempty"` // what the source said, a line each
}

// A Report is all that was found of one claim, in the order of the sources.
type Report struct {
	Claim
	Findings []Finding `json:"findings"`
}

// A Source is one service that knows something of addresses. Observe returns
// soon after ctx is done. An error means that the service could not be asked,
// and comes out as Unknown. It may be called by many goroutines at a time.
type Source interface {
	Name() string
	Observe(ctx context.Context, c Claim) (Finding, error)
}

// DefaultTimeout is how long one source may take for one address.
const DefaultTimeout = 5 * time.Second

const (
	workers     = 8 // questions to one source at a time
	maxFailures = 5 // in a row, until a source is asked no more
)

// Options of Gather.
type Options struct {
	Timeout time.Duration // for one question; 0: DefaultTimeout
	Asked   func()        // called after each question, by several goroutines; may be nil
}

// Gather asks every source about every claim, all sources in parallel, and
// returns when all have answered or run out of time. A source that fails
// several times in a row is not asked again, so that one that is down costs
// seconds, not hours. The only error is that of ctx.
func Gather(ctx context.Context, claims []Claim, sources []Source, o Options) ([]Report, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	reports := make([]Report, len(claims))
	for i, c := range claims {
		reports[i] = Report{Claim: c, Findings: make([]Finding, len(sources))}
	}
	var all sync.WaitGroup
	for s, source := range sources {
		q := &questions{source: source, timeout: o.Timeout}
		for range min(workers, len(claims)) {
			all.Go(func() {
				for {
					i := int(q.next.Add(1)) - 1
					if i >= len(claims) || ctx.Err() != nil {
						return
					}
					reports[i].Findings[s] = q.ask(ctx, claims[i])
					if o.Asked != nil {
						o.Asked()
					}
				}
			})
		}
	}
	all.Wait()
	return reports, ctx.Err()
}

// questions are those to one source.
type questions struct {
	source   Source
	timeout  time.Duration
	next     atomic.Int64 // the next claim
	failures atomic.Int64 // in a row
}

func (q *questions) ask(ctx context.Context, c Claim) Finding {
	if q.failures.Load() >= maxFailures {
		return q.finish(Finding{Text: fmt.Sprintf("not asked: the service failed %d times in a row", maxFailures)})
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	f, err := q.source.Observe(ctx, c)
	switch {
	case err == nil:
		q.failures.Store(0)
		return q.finish(f)
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		f = Finding{Text: fmt.Sprintf("no answer within %s", q.timeout)}
	default:
		f = Finding{Text: "could not be asked: " + err.Error()}
	}
	q.failures.Add(1)
	return q.finish(f)
}

// finish names the source and makes the texts fit to be shown.
func (q *questions) finish(f Finding) Finding {
	f.Source = q.source.Name()
	f.Text = clean(f.Text)
	f.Detail = slices.Clone(f.Detail[:min(len(f.Detail), maxDetails)])
	for i, d := range f.Detail {
		f.Detail[i] = clean(d)
	}
	return f
}
