package portal

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/portal/fleet"
)

// usually is how often each relay is asked at least.
const usually = 5 * time.Second

// newFleet is the relays of a configuration; nil where it names none. They are
// asked as often as the register, if that is more often than usual.
func newFleet(relays []config.PortalRelay, poll time.Duration, log *slog.Logger, reg prometheus.Registerer) (*fleet.Fleet, error) {
	if len(relays) == 0 {
		return nil, nil
	}
	var sources []fleet.Source
	for _, r := range relays {
		sources = append(sources, fleet.Source{Name: r.Name, URL: r.URL, TokenFile: r.TokenFile, OperatorTokenFile: r.OperatorTokenFile, CAFile: r.CAFile})
	}
	return fleet.New(fleet.Options{Sources: sources, Every: min(poll, usually), Logger: log, Registerer: reg})
}
