package limits

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Label sets, all closed:
//
//	budget   the names of the budgets, sessions-hour, tries-hour
//	kind     registration, machine, stranger
type metrics struct {
	overs *prometheus.CounterVec // budget
}

// newMetrics registers with reg, if there is one.
func newMetrics(reg prometheus.Registerer, b *Budgets) (*metrics, error) {
	m := &metrics{overs: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatepost_limits_refusals_total", Help: "Times a budget had no room for what a client asked."}, []string{"budget"})}
	if reg == nil {
		return m, nil
	}
	errs := []error{reg.Register(m.overs)}
	for kind, count := range map[string]func() int{
		"registration": func() int { return len(b.registrations) },
		"machine":      func() int { return len(b.machines) },
		"stranger":     func() int { return len(b.strangers) },
	} {
		errs = append(errs, reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatepost_limits_accounts", Help: "Accounts of clients whose budgets are not full.", ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 {
			b.mu.Lock()
			defer b.mu.Unlock()
			return float64(count())
		})))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("limits: registering metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) over(budget string) { m.overs.WithLabelValues(budget).Inc() }
