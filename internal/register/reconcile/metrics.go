package reconcile

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/register/registration"
)

// A result is how a round ended: the label of gatepost_register_rounds_total.
type result string

// All results there are.
const (
	resultUnchanged result = "unchanged"
	resultAccepted  result = "accepted"
	resultHeld      result = "held"
	resultFrozen    result = "frozen"
	resultFailed    result = "failed"
)

// metrics are what a round counts; the rest is read out of State.
type metrics struct {
	rounds *prometheus.CounterVec
	fetch  prometheus.Histogram
}

func newMetrics(to prometheus.Registerer, now func() time.Time, state func() State) (*metrics, error) {
	m := &metrics{
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatepost_register_rounds_total",
			Help: "Rounds of synchronisation, by result: unchanged, accepted, held, frozen, failed.",
		}, []string{"result"}),
		fetch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gatepost_register_fetch_seconds",
			Help:    "Time that the repository took to answer, for fetches that succeeded.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 8),
		}),
	}
	for _, r := range []result{resultUnchanged, resultAccepted, resultHeld, resultFrozen, resultFailed} {
		m.rounds.WithLabelValues(string(r))
	}
	if to == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.rounds, m.fetch, newStateCollector(now, state)} {
		if err := to.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) round(r result, err error) {
	if err != nil {
		r = resultFailed
	}
	m.rounds.WithLabelValues(string(r)).Inc()
}

func (m *metrics) fetched(took time.Duration) { m.fetch.Observe(took.Seconds()) }

// A stateCollector shows State as gauges.
type stateCollector struct {
	now   func() time.Time
	state func() State

	age, committed, accepted, frozen, held, failing *prometheus.Desc
	addresses, problems, substituted, dropped       *prometheus.Desc
	withheld                                        *prometheus.Desc
}

func newStateCollector(now func() time.Time, state func() State) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("gatepost_register_"+name, help, labels, nil)
	}
	return &stateCollector{
		now: now, state: state,
		age:         desc("age_seconds", "Time since the repository last answered; after a restart, until it does, since the commit was accepted."),
		committed:   desc("commit_timestamp_seconds", "Commit time of the accepted commit."),
		accepted:    desc("accepted_timestamp_seconds", "When the accepted commit was accepted."),
		frozen:      desc("frozen", "1 while the branch cannot be followed (rewound, rewritten, deleted, not verified)."),
		held:        desc("held", "1 while the newest commit waits because it removes too much."),
		failing:     desc("failing", "1 while the last round failed."),
		addresses:   desc("addresses", "Registered addresses in force, live or not."),
		problems:    desc("problems", "Problems in the files of the register, by severity: error, warning.", "severity"),
		substituted: desc("substituted_files", "Faulty files whose last good version is in force."),
		withheld:    desc("withheld_paths", "Files whose version in the accepted commit is not in force, since nobody vouches for a commit that changed them."),
		dropped:     desc("dropped_files", "Faulty files of which no version is in force."),
	}
}

// Describe names the gauges.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.age, c.committed, c.accepted, c.frozen, c.held, c.failing, c.addresses, c.problems, c.substituted, c.dropped, c.withheld,
	} {
		ch <- d
	}
}

// Collect reads State once.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.state()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	if !s.ContactAt.IsZero() {
		gauge(c.age, c.now().Sub(s.ContactAt).Seconds())
	}
	if !s.AcceptedAt.IsZero() {
		gauge(c.committed, float64(s.CommittedAt.Unix()))
		gauge(c.accepted, float64(s.AcceptedAt.Unix()))
	}
	gauge(c.frozen, flag(s.Condition == Frozen))
	gauge(c.held, flag(s.Condition == Held))
	gauge(c.failing, flag(s.Error != ""))
	gauge(c.addresses, float64(s.Addresses))
	count := map[registration.Severity]int{}
	for _, p := range s.Problems {
		count[p.Severity]++
	}
	gauge(c.problems, float64(count[registration.Error]), string(registration.Error))
	gauge(c.problems, float64(count[registration.Warning]), string(registration.Warning))
	gauge(c.substituted, float64(len(s.Substituted)))
	gauge(c.dropped, float64(s.Dropped))
	gauge(c.withheld, float64(s.WithheldAll))
}
