package brake

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Label sets, all closed:
//
//	step   slow, hold, block; of steps taken also free
type metrics struct {
	steps *prometheus.CounterVec // step
}

// newMetrics registers with reg, if there is one.
func newMetrics(reg prometheus.Registerer, b *Brake) (*metrics, error) {
	m := &metrics{steps: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatepost_brake_steps_total", Help: "Steps that the abuse brake has taken."}, []string{"step"})}
	if reg == nil {
		return m, nil
	}
	errs := []error{reg.Register(m.steps)}
	for _, step := range []Step{Slowed, Held, Blocked} {
		errs = append(errs, reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatepost_brake_registrations", Help: "Registrations that are braked now.", ConstLabels: prometheus.Labels{"step": step.String()},
		}, func() float64 { return float64(b.braked(step)) })))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("brake: registering metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) took(s Step) { m.steps.WithLabelValues(s.String()).Inc() }

// braked counts the registrations at a step.
func (b *Brake) braked(s Step) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.trackers {
		if t.state.Step == s {
			n++
		}
	}
	return n
}
