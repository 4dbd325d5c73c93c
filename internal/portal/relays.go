package portal

import (
	"log/slog"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/portal/fleet"
)

// newFleet is the relays of a configuration; nil where it names none.
func newFleet(relays []config.PortalRelay, log *slog.Logger) (*fleet.Fleet, error) {
	if len(relays) == 0 {
		return nil, nil
	}
	var sources []fleet.Source
	for _, r := range relays {
		sources = append(sources, fleet.Source{Name: r.Name, URL: r.URL, TokenFile: r.TokenFile, OperatorTokenFile: r.OperatorTokenFile, CAFile: r.CAFile})
	}
	return fleet.New(fleet.Options{Sources: sources, Logger: log})
}
