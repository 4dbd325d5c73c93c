package daemon

import (
	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/tlspolicy"
)

// courierOptions is how mail leaves, as the configuration says it.
func (r *relay) courierOptions(c *config.Relay) deliver.Options {
	t := c.Deliver.Timeouts
	o := deliver.Options{
		Hostname:   c.Hostname,
		Guard:      tlsPolicy(c),
		Timeouts:   deliver.Timeouts{Connect: t.Connect, Greeting: t.Command, Command: t.Command, Data: t.Data, Block: t.Data, End: t.Dot},
		Logger:     r.log,
		Registerer: r.registry,
	}
	for _, s := range c.Deliver.Smarthosts {
		o.Smarthosts = append(o.Smarthosts, s.Host)
		o.Preferences = append(o.Preferences, s.Preference)
	}
	if r.dkim != nil {
		o.Signer = r.dkim.ring
	}
	return o
}

// tlsPolicy is what is demanded of next hops.
func tlsPolicy(c *config.Relay) *tlspolicy.Policy {
	o := tlspolicy.Options{Least: tlspolicy.Level(c.Deliver.TLS), Rules: make(map[string]tlspolicy.Rule, len(c.Deliver.TLSPolicy))}
	for name, rule := range c.Deliver.TLSPolicy {
		o.Rules[name] = tlspolicy.Rule{Level: tlspolicy.Level(rule.TLS), MX: rule.MX}
	}
	return tlspolicy.New(o)
}
