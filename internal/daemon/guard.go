package daemon

import (
	"context"
	"net"
	"path/filepath"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/dane"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/sts"
	"example.edu/gatepost/internal/relay/tlspolicy"
	"example.edu/gatepost/internal/relay/tlsreport"
	"example.edu/gatepost/internal/status"
)

// guard gives a courier who says what is demanded of next hops. What is looked
// up for delivery and what is found out about certificates come from one
// resolver, as a signed record of a host is worth nothing if the host is not.
func (r *relay) guard(c *config.Relay, o *deliver.Options) error {
	p := tlspolicy.Options{Least: tlspolicy.Level(c.Deliver.TLS), Rules: make(map[string]tlspolicy.Rule, len(c.Deliver.TLSPolicy))}
	for name, rule := range c.Deliver.TLSPolicy {
		p.Rules[name] = tlspolicy.Rule{Level: tlspolicy.Level(rule.TLS), MX: rule.MX}
	}
	book := sts.Options{File: filepath.Join(c.State, "mta-sts"), Logger: r.log, Registerer: r.registry}
	if c.Deliver.Resolver.IsValid() {
		var err error
		if r.dane, err = dane.New(dane.Options{Server: c.Deliver.Resolver, Logger: r.log, Registerer: r.registry}); err != nil {
			return err
		}
		o.Resolver, p.DNSSEC, book.Resolver = r.dane, r.dane, r.dane
	}
	if c.Deliver.MTASTS && c.Deliver.TLS != config.TLSOff && len(c.Deliver.Smarthosts) == 0 {
		var err error
		if r.sts, err = sts.Open(book); err != nil {
			return err
		}
		p.STS = r.sts
	}
	if !c.Deliver.TLSReports.Contact.IsNull() && len(c.Deliver.Smarthosts) == 0 {
		resolver := tlsreport.Resolver(net.DefaultResolver)
		if r.dane != nil {
			resolver = r.dane
		}
		var err error
		r.reports, err = tlsreport.Open(tlsreport.Options{
			File: filepath.Join(c.State, "tls-reports"), Hostname: c.Hostname, Contact: c.Deliver.TLSReports.Contact,
			Resolver: resolver, Outbox: reportBox{r}, Logger: r.log, Registerer: r.registry,
		})
		if err != nil {
			return err
		}
		p.Reports = r.reports
	}
	o.Guard = tlspolicy.New(p)
	return nil
}

// guardLoops are what finds out about next hops, as far as there is any. They
// end after the queue.
func (r *relay) guardLoops() (list []lifecycle.Loop) {
	if r.sts != nil {
		list = append(list, lifecycle.Loop{Name: "MTA-STS policies", Run: r.sts.Run})
	}
	if r.dane != nil {
		list = append(list, lifecycle.Loop{Name: "resolver watch", Run: r.dane.Run})
	}
	if r.reports != nil {
		list = append(list, lifecycle.Loop{Name: "TLS reports", Run: r.reports.Run})
	}
	return list
}

// resolverReport is how the resolver for delivery stands; nil before it was asked.
func (r *relay) resolverReport() *status.Resolver {
	h, asked := r.dane.Health()
	if !asked {
		return nil
	}
	out := &status.Resolver{Address: h.Server, Validates: h.Validates}
	if h.Err != nil {
		out.Error = h.Err.Error()
	}
	return out
}

// A reportBox sends TLS reports. The queue is made after those who count.
type reportBox struct{ r *relay }

// Send stores a report and has it delivered.
func (b reportBox) Send(ctx context.Context, env mail.Envelope, body []byte) error {
	e, err := b.r.spool.Store(ctx, env, body)
	if err != nil {
		return err
	}
	b.r.queue.Accept(e)
	return nil
}
