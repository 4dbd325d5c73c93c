// Package daemon is the relay daemon: it makes the parts of the two lines,
// joins them, and takes them down again in the opposite order.
//
// It decides nothing about mail or about the register. What it owns is the
// wiring: which part is handed to which, what must have ended before what, and
// what an operator's socket may ask.
//
// The start has two halves. First everything that can fail: the files are
// read, the state is opened, the ports are bound. Then everything begins to
// run, which cannot fail. So a relay that cannot start has delivered nothing,
// fetched nothing and told nobody anything, and leaves nothing behind.
//
// The end goes backwards: all SMTP ports together, so that nothing new comes in
// and bodies under way are finished; what operators and the monitoring look at;
// the forge's webhook, which wakes the register; the register, whose confirmations go into the spool; the queue, so that
// attempts under way are recorded; the spool, as everything writes to it; and
// last the lock on the state folder, which lets the next relay in. It takes no
// longer than endWithin, whatever hangs.
//
// Sockets that a service manager has passed stay open there: what connects
// meanwhile waits for the next relay, which takes its turn at the lock.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/program"
	"example.edu/gatepost/internal/register/approval"
	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/credential"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/reconcile"
	"example.edu/gatepost/internal/relay/activity"
	"example.edu/gatepost/internal/relay/blocks"
	"example.edu/gatepost/internal/relay/brake"
	"example.edu/gatepost/internal/relay/dane"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/limits"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/smtpd"
	"example.edu/gatepost/internal/relay/spool"
	"example.edu/gatepost/internal/relay/sts"
	"example.edu/gatepost/internal/relay/tlsreport"
	"example.edu/gatepost/internal/relay/trace"
	"example.edu/gatepost/internal/status"
	"example.edu/gatepost/internal/watch"
)

// Options of Run.
type Options struct {
	ConfigFile string
	Logger     *slog.Logger
	// Reserve is how many octets of the state folder's disk stay free; 0: the
	// spool's default.
	Reserve int64
	// Ready, if set, is called once all listeners are open, before there is a
	// register necessarily.
	Ready func()
	// Sockets were passed by a service manager, in place of ports that the
	// relay would open itself; see Passed.
	Sockets []Socket
	// Notify, if set, tells the service manager how far the relay is; see
	// Notifier.
	Notify func(state string) error
	// Wait has a relay that still uses the state waited for, as is done where
	// sockets were passed: the one before is ending. Its time is bounded by
	// what the configuration gives it to end.
	Wait bool
	// Step, if set, is told of each step of the durable order, by one of the
	// names of Steps, on the goroutine that makes it: for tests that end the
	// process there. It is nil in every relay at work.
	Step func(name string)
}

// A relay is one running daemon.
type relay struct {
	log     *slog.Logger
	started time.Time
	conf    *settings // what may change while it runs

	registry *prometheus.Registry
	spool    *spool.Spool
	lost     bool // the spool has failed, and Run says so; set before the steps are undone
	ending   atomic.Bool
	tell     func(state string) // to the service manager
	step     stepper            // nil but in tests
	live     policy.Live
	liveNow  liveCount
	source   *gitsync.Mirror
	register *reconcile.Reconciler
	hook     *hook             // nil: no webhook
	keys     *approval.Keyring // nil: signatures do not matter
	portal   *portalDoor       // nil: no portal
	dkim     *signatures       // nil: nothing is signed
	confirm  *confirm.Confirmer
	queue    *queue.Queue
	proofs   prover
	activity *activity.Book
	brake    *brake.Brake
	trace    *trace.Book
	sts      *sts.Book       // nil: nobody's MTA-STS policy matters
	reports  *tlsreport.Book // nil: nobody is told how TLS went
	dane     *dane.Resolver  // nil: the system's resolver, and no DANE
	budgets  *limits.Budgets
	senders  senderList
	certs    *certificates // nil: no TLS
	server   *smtpd.Server
	status   *status.Server
	blocks   *blocks.List // those of this relay alone
}

// Run runs the relay until ctx ends, and returns nil if everything that was
// under way came to its end. An error at the start says what is wrong with the
// configuration or the machine.
func Run(ctx context.Context, o Options) (err error) {
	s := newSteps(o.Logger)
	var stopping time.Time // when it was asked to; zero: not yet
	limit := endWithin(0)  // for the end
	defer func() {
		err = errors.Join(err, s.Unwind(limit))
		if !stopping.IsZero() {
			o.Logger.Info("stopped", "event", "relay.stopped", "duration", time.Since(stopping))
		}
	}()
	watched, err := watch.New([]string{o.ConfigFile}) // first: what changes after the first reading is seen
	if err != nil {
		return err
	}
	s.Later("configuration watch", watched.Close)
	c, err := config.LoadRelay(o.ConfigFile)
	if err != nil {
		return err
	}
	limit = endWithin(c.Drain)
	r := &relay{log: o.Logger, started: time.Now(), conf: newSettings(o.ConfigFile, c), registry: prometheus.NewRegistry(), tell: o.tell, step: o.Step}
	r.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.log.Info("starting", "event", "relay.start", "config", c, "version", Version())
	for _, w := range warnings(c) {
		r.log.Warn("the configuration has a problem", "event", "config.warning", "problem", w.problem, "hint", w.hint)
	}
	doors, err := r.prepare(ctx, c, &o, s)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // asked to end before it had begun
	case err != nil:
		return err
	}
	r.step.pass(stepOpened)
	r.start(doors, watched, s)
	r.tell(tellReady)
	if o.Ready != nil {
		o.Ready()
	}
	select {
	case <-ctx.Done():
		stopping = time.Now()
		r.ending.Store(true) // before the first client is sent away
		r.tell(tellStopping(limit))
		r.log.Info("stopping", "event", "relay.stop")
		return nil
	case err := <-s.Failed():
		return err
	case <-r.spool.Failed():
		r.lost = true
		return fmt.Errorf("the spool has failed, so nothing more can be accepted: %w", r.spool.Err())
	}
}

// prepare does everything that can fail: it opens what holds state, and then
// the doors, which nobody answers yet.
func (r *relay) prepare(ctx context.Context, c *config.Relay, o *Options, s *lifecycle.Steps) (d doors, err error) {
	if err := r.lockState(ctx, c, o, s); err != nil {
		return d, err
	}
	if c.TLS.Enabled() {
		if r.certs, err = loadCertificates(c.TLS, r.registry); err != nil {
			return d, err
		}
	}
	r.spool, err = spool.Open(spool.Options{Dir: filepath.Join(c.State, "spool"), Reserve: o.Reserve, Logger: r.log, Registerer: r.registry, Step: o.Step})
	if err != nil {
		return d, fmt.Errorf("opening the spool in %s: %w", c.State, err)
	}
	s.Later("spool", r.closeSpool)
	if err := r.openTrace(c); err != nil {
		return d, err
	}
	if err := r.openDKIM(c, s); err != nil {
		return d, err
	}
	if err := r.openQueue(c, s); err != nil {
		return d, err
	}
	if err := r.openBlocks(c); err != nil { // before the register: it is never without them
		return d, err
	}
	if err := r.openRegister(ctx, c, s); err != nil {
		return d, err
	}
	if err := r.openWebhook(c, s); err != nil {
		return d, err
	}
	if err := r.openPortal(c, s); err != nil {
		return d, err
	}
	if err := r.openClients(c); err != nil {
		return d, err
	}
	if err := r.openBrake(c); err != nil {
		return d, err
	}
	if err := r.newServer(c); err != nil {
		return d, err
	}
	r.status = r.newStatus(c)
	return r.openDoors(ctx, c, o.Sockets, s)
}

// lockState takes the state folder. Where the sockets are not the relay's own,
// the one before may still be finishing what is under way.
func (r *relay) lockState(ctx context.Context, c *config.Relay, o *Options, s *lifecycle.Steps) error {
	var patience time.Duration
	if o.Wait || len(o.Sockets) > 0 {
		patience = endWithin(c.Drain) + 10*time.Second
	}
	return lifecycle.LockState(ctx, c.State, patience, s, func() {
		r.tell(tellWaiting(patience))
		r.log.Info("waiting for the relay before to end", "event", "relay.wait", "most", patience)
	})
}

// closeSpool is the end of the spool. That it has failed is told once.
func (r *relay) closeSpool() error {
	err := r.spool.Close()
	if r.lost && errors.Is(err, spool.ErrFailed) {
		return nil
	}
	return err
}

// start lets everything run, the clients last.
func (r *relay) start(d doors, watched *watch.Watcher, s *lifecycle.Steps) {
	s.Start(lifecycle.Loop{Name: "pace of the collector", Run: paceCollector})
	s.Start(lifecycle.Loop{Name: "trace of messages", Run: r.trace.Run}) // ends after the queue, and writes what that brought
	if watching := r.guardLoops(); len(watching) > 0 {
		s.Start(watching...) // likewise
	}
	s.Start(
		lifecycle.Loop{Name: "queue", Run: r.queue.Run},
		lifecycle.Loop{Name: "holds", Run: r.recheckHolds},
		lifecycle.Loop{Name: "blocks", Run: r.blocks.Run},
		lifecycle.Loop{Name: "activity of the clients", Run: r.activity.Run}, // ends after the ports, and saves what they brought
		lifecycle.Loop{Name: "budgets of the clients", Run: r.budgets.Run},   // likewise
		lifecycle.Loop{Name: "brake", Run: r.brake.Run},                      // likewise
	)
	s.Start(
		lifecycle.Loop{Name: "register", Run: r.register.Run},
		lifecycle.Loop{Name: "confirmations", Run: r.recheckConfirmations},
	)
	if r.hook != nil {
		s.Start(
			lifecycle.Loop{Name: "webhook", Run: func(ctx context.Context) error { return r.hook.server.Serve(ctx, d.webhook) }},
			lifecycle.Loop{Name: "webhook's secret watch", Run: r.watchWebhookSecret},
		)
	}
	if r.dkim != nil {
		s.Start(lifecycle.Loop{Name: "watch of the DKIM keys", Run: r.watchDKIM})
	}
	s.Start(r.fileWatches(watched)...)
	const patient = 5 * time.Minute // a long queue takes its time
	s.Start(httpServer{"operators' socket", d.control, r.orders(), nil, patient, slog.LevelWarn}.loop(r.log))
	if d.status != nil {
		s.Start(httpServer{"status pages", d.status, r.status.Handler(), nil, patient, slog.LevelWarn}.loop(r.log))
	}
	if r.portal != nil {
		s.Start(
			httpServer{"portal's questions", d.portal, r.portal.handler(r), r.portal.secure(r.certs), 30 * time.Second, slog.LevelDebug}.loop(r.log),
			lifecycle.Loop{Name: "watch of the portal's tokens", Run: r.watchPortalTokens},
		)
	}
	var ports []lifecycle.Loop
	for _, ln := range d.relay {
		ports = append(ports, lifecycle.Loop{Name: "listen.relay", Run: func(ctx context.Context) error { return r.server.ServeRelay(ctx, r.step.listener(ln)) }})
	}
	for _, ln := range d.submission {
		ports = append(ports, lifecycle.Loop{Name: "listen.submission", Run: func(ctx context.Context) error { return r.server.ServeSubmission(ctx, ln) }})
	}
	s.Start(ports...) // one group: at the end none takes mail while another drains
}

// openQueue makes what takes mail out.
func (r *relay) openQueue(c *config.Relay, s *lifecycle.Steps) error {
	options, err := r.courierOptions(c)
	if err != nil {
		return err
	}
	courier, err := deliver.New(options)
	if err != nil {
		return err
	}
	s.Later("next hops", courier.Close)
	delay := c.Queue.DelayWarning
	if delay == 0 {
		delay = -1 // the queue's word for never
	}
	r.queue, err = queue.New(queue.Options{
		Spool:      r.step.store(r.spool),
		Courier:    r.step.courier(courier),
		Hostname:   c.Hostname,
		Postmaster: c.Postmaster.String(),
		Held:       r.held,
		Result:     r.result,
		Trace:      r.trace,
		Schedule:   c.Queue.Retry,
		Expiry:     c.Queue.Expiry,
		DelayAfter: delay,

		Workers:        c.Queue.Workers,
		PerDestination: c.Queue.PerDestination,

		Grace:      c.Drain,
		Logger:     r.log,
		Registerer: r.registry,
	})
	return err
}

// openRegister makes what says who may send. What was in force before is in
// force when it returns.
func (r *relay) openRegister(ctx context.Context, c *config.Relay, s *lifecycle.Steps) (err error) {
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
	s.Later("register's host", func() error { r.source.Close(); return nil })
	r.confirm = confirm.New(confirm.Options{
		Letter: confirm.Letterhead{
			Host: c.Hostname, Relay: firstPort(c.Listen.Relay), Submission: firstPort(c.Listen.Submission),
			Postmaster: c.Postmaster, Portal: c.Portal,
		},
		Ledger:     r.step.ledger(ledger{r.spool}),
		Outbox:     r.step.outbox(outbox{r.spool, r.queue}),
		Provenance: r.provenance,
		Standby:    !c.Confirm,
		Logger:     r.log,
	})
	approver, err := r.openVerify(c, r.source)
	if err != nil {
		return err
	}
	r.register, err = reconcile.New(reconcile.Options{
		Approver:    approver,
		Source:      credential.Mirror{Mirror: r.source, Holder: &r.conf.app},
		Dir:         dir,
		Live:        &r.live,
		MaxRemovals: c.Register.MaxRemovals,
		Poll:        c.Register.Poll,
		OnAccept:    r.accepted,
		Program:     program.ID(),
		Disk:        r.step.disk(),
		Logger:      r.log,
		Registerer:  r.registry,
	})
	return err
}

// newServer makes what takes mail in.
func (r *relay) newServer(c *config.Relay) (err error) {
	l := c.Limits
	o := smtpd.Options{
		Hostname:   c.Hostname,
		Postmaster: c.Postmaster.String(),
		Portal:     c.Portal,
		Register:   smtpd.RegisterFunc(r.lookup),
		Store:      store{r.spool, r.queue, r.step},
		Limiter:    limiter{r.budgets},
		Brake:      braker{r.brake},
		Prover:     r.proofs,
		Observer:   observer{r.activity},
		Balancers:  c.Listen.Proxy,
		RequireTLS: true,
		AllowBulk:  l.BulkMail == config.BulkAccept,
		Limits: smtpd.Limits{
			MaxMessage: l.MessageBytes, MaxRecipients: l.Recipients,
			Sessions: l.Sessions, SessionsPerAddress: l.SessionsPerAddress, SessionsPerRegistration: l.SessionsPerRegistration,
			Memory:  l.MemoryBytes,
			Command: l.IdleCommand, Stall: l.IdleData, MinRate: int(l.DataRate),
			Drain: c.Drain,
		},
		Logger:     r.log,
		Registerer: r.registry,
	}
	if r.certs != nil {
		o.GetCertificate = r.certs.get
	}
	r.server, err = smtpd.New(o)
	return err
}
