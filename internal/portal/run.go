package portal

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/portal/book"
	"example.edu/gatepost/internal/portal/fleet"
	"example.edu/gatepost/internal/portal/guard"
	"example.edu/gatepost/internal/portal/keeper"
	"example.edu/gatepost/internal/portal/page"
	"example.edu/gatepost/internal/portal/session"
	"example.edu/gatepost/internal/portal/view"
	"example.edu/gatepost/internal/register/credential"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/gitsync"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/register/webhook"
)

// endWithin is how long the portal takes to end at most: answers under way, and
// what the reporter writes to the forge.
const endWithin = 20 * time.Second

// Options of Run. ConfigFile and Logger must be set.
type Options struct {
	ConfigFile string
	Logger     *slog.Logger
	// Ready, if set, is called once the portal listens.
	Ready func()
	// Extra, if set, adds pages below /demo.
	Extra Extra
}

// A portal is one running portal.
type portal struct {
	log      *slog.Logger
	config   *config.Portal
	registry *prometheus.Registry
	server   *server
	mirror   *gitsync.Mirror
	sessions *session.Sessions
	view     *view.View
	fleet    *fleet.Fleet
	hook     *webhook.Server // nil: none
	guard    *guard.Guard
	keeper   *keeper.Keeper
	ln       net.Listener
	metrics  net.Listener // for /metrics; nil: none
}

// Run serves the portal until ctx ends, and returns nil if everything that was
// under way came to its end. An error at the start says what is wrong with the
// configuration or the machine.
func Run(ctx context.Context, o Options) (err error) {
	c, err := config.LoadPortal(o.ConfigFile)
	if err != nil {
		return err
	}
	steps := lifecycle.New(func(err error) {
		o.Logger.Error("did not end as it should", "event", "portal.stop_failed", "err", err)
	})
	defer func() { err = errors.Join(err, steps.Unwind(endWithin)) }()
	o.Logger.Info("starting", "event", "portal.start", "config", c)
	for _, w := range c.Warnings {
		o.Logger.Warn("the configuration has a problem", "event", "config.warning", "problem", w.String(), "hint", w.Hint)
	}
	p := &portal{log: o.Logger, config: c, registry: prometheus.NewRegistry()}
	if err := p.prepare(ctx, o, steps); err != nil {
		if ctx.Err() != nil {
			return nil // asked to end before it had begun
		}
		return err
	}
	p.start(steps)
	if o.Ready != nil {
		o.Ready()
	}
	select {
	case <-ctx.Done():
		o.Logger.Info("stopping", "event", "portal.stop")
		return nil
	case err := <-steps.Failed():
		return err
	}
}

// prepare does everything that can fail; nobody is answered yet.
func (p *portal) prepare(ctx context.Context, o Options, steps *lifecycle.Steps) (err error) {
	c := p.config
	if err := lifecycle.LockState(ctx, c.State, 0, steps, func() {}); err != nil {
		return err
	}
	s := &server{log: p.log, now: time.Now}
	p.server = s
	site, err := newSite(c, o.Extra != nil)
	if err != nil {
		return err
	}
	if s.pages, err = page.New(site, p.log); err != nil {
		return err
	}
	if p.sessions, err = p.openSessions(); err != nil {
		return err
	}
	s.sessions = p.sessions
	if s.book, err = book.Open(book.Options{Dir: filepath.Join(c.State, "book"), Logger: p.log, Now: time.Now}); err != nil {
		return err
	}
	if err := p.openRegister(ctx, steps); err != nil {
		return err
	}
	if err := p.openProofs(); err != nil {
		return err
	}
	p.openKeeper()
	if err := p.openWebhook(); err != nil {
		return err
	}
	if err := s.addExtra(o.Extra); err != nil {
		return err
	}
	if err := p.openGuard(); err != nil {
		return err
	}
	if p.ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen); err != nil {
		return fmt.Errorf("opening the port: %w", err)
	}
	steps.Later("port", func() error {
		if err := p.ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	p.log.Info("listening", "event", "portal.listen", "address", p.ln.Addr().String())
	return p.openMetrics(ctx, steps)
}

// newSite is the look that the configuration asks for, or the demo's.
func newSite(c *config.Portal, demo bool) (page.Site, error) {
	site := page.Site{
		University: c.Site.Name, Service: c.Site.Service, Postmaster: c.Site.Postmaster.String(), Policies: c.Site.PoliciesURL, Help: c.Site.HelpURL,
		Hostname: c.Proof.Hostname, Demo: demo, Accent: accentOf(c.Site.Colour),
	}
	if c.Site.Logo == "" {
		return site, nil
	}
	var err error
	site.Logo, site.LogoType, err = readLogo(c.Site.Logo)
	return site, err
}

// accentOf makes the site's colour fit to be read on both grounds of style.css.
func accentOf(c config.Colour) page.Accent {
	light, dark := c.On(config.Colour{0xfb, 0xfb, 0xf9}), c.On(config.Colour{0x1c, 0x20, 0x24})
	return page.Accent{Light: light.String(), Dark: dark.String(), OnLight: light.Ink().String(), OnDark: dark.Ink().String()}
}

func (p *portal) openSessions() (*session.Sessions, error) {
	c := p.config
	read, file := session.OwnSecrets, filepath.Join(c.State, "cookies")
	if c.Cookies.SecretFile != "" {
		read, file = session.ReadSecrets, c.Cookies.SecretFile
	}
	secrets, err := read(file)
	if err != nil {
		return nil, err
	}
	return session.New(session.Options{
		SignIn: c.SignIn, URL: c.URL, Lifetime: c.Cookies.Lifetime, Secrets: secrets, Open: []string{webhook.Path},
		Pages: signInPages{p.server.pages, p.server.formAgain}, Logger: p.log,
	})
}

// openRegister makes what reads the register and what writes requests.
func (p *portal) openRegister(ctx context.Context, steps *lifecycle.Steps) error {
	c, s := p.config, p.server
	dir := filepath.Join(c.State, "register")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	as := credential.Want{Repository: c.Register.Repository, TokenFile: c.Register.TokenFile}
	if c.Register.App != nil {
		as.App = (*credential.App)(c.Register.App)
	}
	reader := &credential.Holder{}
	mirror, err := gitsync.Open(ctx, gitsync.Options{
		Repository: c.Register.Repository, Branch: c.Register.Branch, Dir: dir, Logger: p.log,
		Token: func(ctx context.Context) (string, error) { return reader.Token(ctx, as) },
	})
	if err != nil {
		return err
	}
	steps.Later("register's host", func() error { mirror.Close(); return nil })
	p.view = view.New(view.Options{Source: credential.Mirror{Mirror: mirror, Holder: reader}, Poll: c.Register.Poll, Now: s.now, Logger: p.log})
	s.register = p.view.Now
	if s.forge, err = openForge(as); err != nil {
		return err
	}
	s.base = c.Register.Branch
	s.dossiers = newDossiers(s.forge, s.now)
	s.wake = p.wake
	p.mirror = mirror
	return p.openFleet(mirror)
}

// openForge is where requests are opened: at GitHub, or in a plain repository on
// this machine.
func openForge(as credential.Want) (desk, error) {
	if filepath.IsAbs(as.Repository) {
		return forge.OpenGit(as.Repository)
	}
	host, repository, err := forge.ParseURL(as.Repository)
	if err != nil {
		return nil, err
	}
	writer := &credential.Holder{Access: credential.All}
	o := forge.GitHubOptions{Repository: repository, Host: host, Token: func(ctx context.Context) (string, error) { return writer.Token(ctx, as) }}
	if as.App != nil {
		o.Account = func(ctx context.Context) (forge.Account, error) {
			app, err := writer.App(as)
			if err != nil {
				return forge.Account{}, err
			}
			return app.Account(ctx)
		}
	}
	return forge.NewGitHub(o)
}

func (p *portal) openFleet(h history) (err error) {
	if p.fleet, err = newFleet(p.config.Relays, p.config.Register.Poll, p.log, p.registry); err != nil || p.fleet == nil {
		return err
	}
	p.server.fleet = p.fleet
	p.server.relays = &fleetRelays{fleet: p.fleet, history: h, now: p.server.now}
	return nil
}

func (p *portal) openProofs() error {
	c := p.config.Proof
	if c.SecretFile == "" {
		return nil
	}
	key, err := proof.ReadKey(c.SecretFile)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil {
		return fmt.Errorf("proof.server: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("proof.server: %w", err)
	}
	p.server.prover = &prover{Key: key, Hostname: c.Hostname, Server: host, Port: number}
	return nil
}

// openKeeper makes the reporter.
func (p *portal) openKeeper() {
	c, s := p.config, p.server
	o := keeper.Options{
		Forge: s.forge, Book: s.book, Register: p.view.Now, Repo: p.mirror.Repo, Branch: c.Register.Branch, URL: c.URL,
		Author: forge.Person{Name: c.Site.Service + ", " + c.Site.Name, Email: c.Site.Postmaster.String()},
		Poll:   c.Register.Poll, RenewAhead: c.Reporter.Renewals.Ahead, RemoveSilent: c.Reporter.Removals.Silent, MirrorsBlocks: c.Reporter.Blocks,
		Logger: p.log, Registerer: p.registry,
	}
	if p.fleet != nil {
		o.Relays = p.fleet
	}
	if c.Mail.Server != "" {
		o.Mailer = &keeper.SMTP{Server: c.Mail.Server, From: c.Mail.From, Name: c.Site.Service + ", " + c.Site.Name, TLS: c.Mail.TLS, Now: s.now}
	}
	for _, a := range c.Reporter.Askers {
		o.Askers = append(o.Askers, forge.Account{ID: a.ID, Login: a.GitHub})
	}
	if github, ok := s.forge.(*forge.GitHub); ok {
		o.Self = github.Me
	}
	p.keeper = keeper.New(o)
	s.answers = p.keeper
}

// openWebhook makes what takes the forge's deliveries.
func (p *portal) openWebhook() error {
	hook := p.config.Register.Webhook
	if hook == nil {
		return nil
	}
	data, err := credential.ReadSecret(hook.SecretFile)
	if err != nil {
		return fmt.Errorf("reading the webhook's secret: %w", err)
	}
	secret, err := webhook.ParseSecret(data)
	if err != nil {
		return fmt.Errorf("register.webhook.secretFile: %s: %w", hook.SecretFile, err)
	}
	p.hook, err = webhook.New(webhook.Options{
		Branch: p.config.Register.Branch, Secret: secret, Wake: p.wake, Logger: p.log, Registerer: p.registry,
		Events: []string{"pull_request", "pull_request_review", "pull_request_review_comment", "issue_comment"},
	})
	p.server.hook = p.hook
	return err
}

// openGuard makes what every request passes first.
func (p *portal) openGuard() (err error) {
	c, s := p.config, p.server
	p.guard, err = guard.New(guard.Options{
		URL: c.URL, Proxies: c.Proxies, Limits: c.Limits, Logger: p.log, Registerer: p.registry,
		Person: func(r *http.Request) string {
			who, _ := s.sessions.Who(r)
			return who.ID
		},
		Origins: p.sessions.Origins,
		Light:   func(r *http.Request) bool { return r.URL.Path == "/register/check" },
		Bodies:  map[string]int64{webhook.Path: webhook.MaxBody},
		Tell: func(w http.ResponseWriter, r *http.Request, status int, words guard.Words) {
			s.pages.Fail(w, r, status, page.Frame{}, page.Failure{Heading: words.Heading, Text: words.Text, Next: words.Next})
		},
	})
	if p.guard != nil {
		s.stream, s.mayOpen = p.guard.Stream, p.guard.Opening
	}
	return err
}

// wake has everything looked at now: something happened at the forge.
func (p *portal) wake() {
	p.server.dossiers.forget()
	p.view.Wake()
	p.keeper.Wake()
}

// start lets everything run, the visitors last.
func (p *portal) start(steps *lifecycle.Steps) {
	steps.Start(lifecycle.Loop{Name: "register", Run: p.view.Run})
	if p.fleet != nil {
		steps.Start(lifecycle.Loop{Name: "relays", Run: p.fleet.Run})
	}
	steps.Start(lifecycle.Loop{Name: "reporter", Run: p.keeper.Run})
	if p.hook != nil {
		steps.Start(lifecycle.Loop{Name: "webhook", Run: p.hook.Run})
	}
	if p.metrics != nil {
		steps.Start(lifecycle.Loop{Name: "metrics", Run: p.serveMetrics})
	}
	steps.Start(lifecycle.Loop{Name: "pages", Run: p.serve})
}

// serve answers visitors until ctx ends, and then what is under way.
func (p *portal) serve(ctx context.Context) error {
	p.server.end = ctx.Done()
	ln := p.guard.Listen(p.ln)
	if t := p.config.TLS; t.Enabled() {
		ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: certificateOf(t)})
	}
	server := p.guard.Server(p.server.handler(), p.log.With("event", "http.failed", "part", "portal"))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	<-ended
	return nil
}

// certificateOf reads the certificate anew for a connection when its files have
// changed.
func certificateOf(t config.TLS) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	var kept lastCertificate
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return kept.get(t) }
}
