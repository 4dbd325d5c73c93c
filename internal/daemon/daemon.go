// Package daemon is the relay daemon: it makes the parts of the two lines,
// joins them, and takes them down again in the opposite order.
//
// It decides nothing about mail or about the register. What it owns is the
// wiring: which part is handed to which, what must have ended before what, and
// what an operator's socket may ask.
//
// The order of the end: listeners first, so that nothing new comes in and
// bodies under way are finished; then the queue, so that attempts under way are
// recorded; then the register; the spool last, as everything writes to it.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/limits"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/smtpd"
	"example.edu/gatepost/internal/relay/spool"
	"example.edu/gatepost/internal/status"
)

// Options of Run.
type Options struct {
	ConfigFile string
	Logger     *slog.Logger
	// Ready, if set, is called once all listeners are open, before there is a
	// register necessarily.
	Ready func()
}

// A relay is one running daemon.
type relay struct {
	log     *slog.Logger
	started time.Time
	conf    *settings // what may change while it runs

	registry *prometheus.Registry
	spool    *spool.Spool
	live     policy.Live
	source   *gitsync.Mirror
	register *reconcile.Reconciler
	confirm  *confirm.Confirmer
	queue    *queue.Queue
	certs    *certificates // nil: no TLS
	server   *smtpd.Server
	status   *status.Server
}

// Run runs the relay until ctx ends, and returns nil if everything that was
// under way came to its end. An error at the start says what is wrong with the
// configuration or the machine.
func Run(ctx context.Context, o Options) (err error) {
	c, err := config.LoadRelay(o.ConfigFile)
	if err != nil {
		return err
	}
	r := &relay{log: o.Logger, started: time.Now(), conf: newSettings(o.ConfigFile, c), registry: prometheus.NewRegistry()}
	r.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.log.Info("starting", "event", "relay.start", "config", c, "version", version())
	for _, w := range c.Warnings {
		r.log.Warn("configuration", "event", "config.warning", "problem", w.String(), "hint", w.Hint)
	}

	s := newSteps(r.log)
	defer func() { err = errors.Join(err, s.unwind()) }()
	if err := r.open(ctx, c, s); err != nil {
		return err
	}
	if err := r.serve(ctx, c, s); err != nil {
		return err
	}
	if o.Ready != nil {
		o.Ready()
	}
	select {
	case <-ctx.Done():
		r.log.Info("stopping", "event", "relay.stop")
		return nil
	case err := <-s.failed:
		return err
	case <-r.spool.Failed():
		return fmt.Errorf("the spool has failed, so nothing more can be accepted: %w", r.spool.Err())
	}
}

// open makes the parts that hold state: spool, register, queue. They run
// before the first client is let in.
func (r *relay) open(ctx context.Context, c *config.Relay, s *steps) (err error) {
	if r.spool, err = spool.Open(spool.Options{Dir: filepath.Join(c.State, "spool"), Logger: r.log, Registerer: r.registry}); err != nil {
		return fmt.Errorf("opening the spool in %s: %w", c.State, err)
	}
	s.later("spool", r.spool.Close)

	if err := r.openQueue(c, s); err != nil {
		return err
	}
	return r.openRegister(ctx, c, s)
}

// openQueue makes what takes mail out.
func (r *relay) openQueue(c *config.Relay, s *steps) error {
	t := c.Deliver.Timeouts
	courier, err := deliver.New(deliver.Options{
		Hostname:   c.Hostname,
		Smarthosts: c.Deliver.Smarthosts,
		NoTLS:      c.Deliver.TLS == config.TLSOff,
		Timeouts:   deliver.Timeouts{Connect: t.Connect, Greeting: t.Command, Command: t.Command, Data: t.Data, Block: t.Data, End: t.Dot},
		Logger:     r.log,
		Registerer: r.registry,
	})
	if err != nil {
		return err
	}
	s.later("next hops", courier.Close)
	delay := c.Queue.DelayWarning
	if delay == 0 {
		delay = -1 // the queue's word for never
	}
	r.queue, err = queue.New(queue.Options{
		Spool:      r.spool,
		Courier:    courier,
		Hostname:   c.Hostname,
		Postmaster: c.Postmaster.String(),
		Held:       r.held,
		Schedule:   c.Queue.Retry,
		Expiry:     c.Queue.Expiry,
		DelayAfter: delay,
		Logger:     r.log,
		Registerer: r.registry,
	})
	if err != nil {
		return err
	}
	s.start("queue", r.queue.Run)
	s.start("holds", r.recheckHolds)
	return nil
}

// openRegister makes what says who may send. What was in force before is in
// force when it returns.
func (r *relay) openRegister(ctx context.Context, c *config.Relay, s *steps) (err error) {
	dir := filepath.Join(c.State, "register")
	if err := makeDir(dir); err != nil {
		return err
	}
	r.source, err = gitsync.Open(ctx, gitsync.Options{
		Repository: c.Register.Repository,
		Branch:     c.Register.Branch,
		Dir:        dir,
		Token:      r.conf.token,
		Logger:     r.log,
	})
	if err != nil {
		return err
	}
	s.later("register's host", func() error { r.source.Close(); return nil })
	r.confirm = confirm.New(confirm.Options{
		Letter: confirm.Letterhead{
			Host: c.Hostname, Relay: firstPort(c.Listen.Relay), Submission: firstPort(c.Listen.Submission),
			Postmaster: c.Postmaster, Portal: c.Portal,
		},
		Ledger:     ledger{r.spool},
		Outbox:     outbox{r.spool, r.queue},
		Provenance: r.provenance,
		Standby:    !c.Confirm,
		Logger:     r.log,
	})
	r.register, err = reconcile.New(reconcile.Options{
		Source:      r.source,
		Dir:         dir,
		Live:        &r.live,
		MaxRemovals: c.Register.MaxRemovals,
		Poll:        c.Register.Poll,
		OnAccept:    r.accepted,
		Logger:      r.log,
		Registerer:  r.registry,
	})
	if err != nil {
		return err
	}
	s.start("register", r.register.Run)
	s.start("confirmations", r.recheckConfirmations)
	return nil
}

// serve opens the doors: operators' socket, status, SMTP.
func (r *relay) serve(ctx context.Context, c *config.Relay, s *steps) (err error) {
	if c.TLS.Enabled() {
		if r.certs, err = loadCertificates(c.TLS, r.registry); err != nil {
			return err
		}
	}
	l := c.Limits
	o := smtpd.Options{
		Hostname:   c.Hostname,
		Postmaster: c.Postmaster.String(),
		Portal:     c.Portal,
		Register:   smtpd.RegisterFunc(r.lookup),
		Store:      store{r.spool, r.queue},
		Limiter:    &limits.Volume{},
		RequireTLS: true,
		Limits: smtpd.Limits{
			MaxMessage: l.MessageBytes, MaxRecipients: l.Recipients,
			Sessions: l.Sessions, SessionsPerAddress: l.SessionsPerAddress,
			Command: l.IdleCommand, Stall: l.IdleData, MinRate: int(l.DataRate),
		},
		Logger:     r.log,
		Registerer: r.registry,
	}
	if r.certs != nil {
		o.GetCertificate = r.certs.get
	}
	if r.server, err = smtpd.New(o); err != nil {
		return err
	}
	r.status = r.newStatus(c)
	if err := r.serveControl(ctx, c.Listen.Socket, s); err != nil {
		return err
	}
	if err := r.serveStatus(ctx, c.Listen.HTTP, s); err != nil {
		return err
	}
	if err := r.watchFiles(c, s); err != nil {
		return err
	}
	for _, addr := range c.Listen.Relay {
		if err := r.listen(ctx, "port 25", addr, r.server.ServeRelay, s); err != nil {
			return err
		}
	}
	for _, addr := range c.Listen.Submission {
		if err := r.listen(ctx, "port 587", addr, r.server.ServeSubmission, s); err != nil {
			return err
		}
	}
	return nil
}

// listen opens one SMTP listener.
func (r *relay) listen(ctx context.Context, name, addr string, serve func(context.Context, net.Listener) error, s *steps) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listening for %s: %w", name, err)
	}
	r.log.Info("listening", "event", "relay.listen", "port", name, "address", ln.Addr().String())
	s.start(name, func(ctx context.Context) error { return serve(ctx, ln) })
	return nil
}

// tokenMax bounds a token file, in octets.
const tokenMax = 16 << 10

// readToken reads a token file: the token and nothing else.
func readToken(path string) (string, error) {
	data, err := durable.ReadFile(path, tokenMax)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	return string(trimSpace(data)), nil
}
