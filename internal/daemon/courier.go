package daemon

import (
	"slices"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/relay/deliver"
)

// courierOptions is how mail leaves, as the configuration says it.
func (r *relay) courierOptions(c *config.Relay) (deliver.Options, error) {
	t := c.Deliver.Timeouts
	dialer, err := deliver.DialFrom(c.Deliver.Source)
	if err != nil {
		return deliver.Options{}, err
	}
	o := deliver.Options{
		Hostname:   c.Hostname,
		Dialer:     r.step.dialer(dialer),
		Family:     deliver.Family(c.Deliver.Family),
		Listeners:  slices.Concat(c.Listen.Relay, c.Listen.Submission),
		Strict8Bit: c.Deliver.EightBit == config.EightBitBounce,
		NoChunking: !c.Deliver.Chunking,
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
	return o, r.guard(c, &o)
}
