package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/register/credential"
	"example.edu/gatepost/internal/status"
	"example.edu/gatepost/internal/watch"
)

// How files are watched.
const (
	filesQuiet = 300 * time.Millisecond // after a change, before it is looked at
	filesPoll  = time.Minute            // for what the system does not tell
)

// settings is the configuration as far as it may change while the relay runs.
type settings struct {
	file    string
	current atomic.Pointer[config.Relay]
	told    atomic.Pointer[status.Config] // how the file stood when it was read last
	app     credential.Holder
	reviews credential.Holder // the same, for questions about reviews
}

func newSettings(file string, c *config.Relay) *settings {
	if abs, err := filepath.Abs(file); err == nil {
		file = abs // status names it to who may be in another folder
	}
	s := &settings{file: file, reviews: credential.Holder{Access: credential.Reviews}}
	s.current.Store(c)
	s.told.Store(&status.Config{File: file})
	return s
}

func (s *settings) report() status.Config { return *s.told.Load() }

// certificates holds the certificate in force.
type certificates struct {
	current  atomic.Pointer[tls.Certificate]
	failure  atomic.Pointer[string] // of the last load; "" if it was good
	notAfter prometheus.Gauge
}

// loadCertificates reads the certificate for the first time.
func loadCertificates(t config.TLS, reg prometheus.Registerer) (*certificates, error) {
	c := &certificates{notAfter: newNotAfter(reg)}
	return c, c.load(t)
}

// load replaces the certificate, or keeps the old one and says why.
func (c *certificates) load(t config.TLS) error {
	cert, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	text := ""
	if err != nil {
		text = err.Error()
	}
	c.failure.Store(&text)
	if err != nil {
		return fmt.Errorf("loading the certificate %s with the key %s: %w", t.Certificate, t.Key, err)
	}
	c.current.Store(&cert)
	c.notAfter.Set(float64(cert.Leaf.NotAfter.Unix()))
	return nil
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := c.current.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("daemon: no certificate")
}

func (c *certificates) report() *status.Certificate {
	return &status.Certificate{NotAfter: c.current.Load().Leaf.NotAfter, Error: *c.failure.Load()}
}

// fileWatches have changes of the configuration and of the certificate taken
// up. w knows the configuration as it was before it was read.
func (r *relay) fileWatches(w *watch.Watcher) []lifecycle.Loop {
	// The files that the configuration names may change with it, so the watches
	// of certificates and blocks begin anew with each configuration.
	renewed, blocksRenewed := make(chan struct{}, 1), make(chan struct{}, 1)
	loops := []lifecycle.Loop{{Name: "configuration watch", Run: func(ctx context.Context) error {
		return w.Run(ctx, filesQuiet, filesPoll, func() {
			r.reload()
			for _, c := range []chan struct{}{renewed, blocksRenewed} {
				select {
				case c <- struct{}{}:
				default:
				}
			}
		})
	}}, {Name: "watch of the local file of blocks", Run: func(ctx context.Context) error { return r.watchBlocks(ctx, blocksRenewed) }}}
	if r.certs == nil {
		return loops
	}
	return append(loops, lifecycle.Loop{Name: "certificate watch", Run: func(ctx context.Context) error {
		for ctx.Err() == nil {
			r.watchCertificates(ctx, renewed)
		}
		return nil
	}})
}

// watchCertificates reloads the certificate when its files change, until the
// configuration may name others.
func (r *relay) watchCertificates(ctx context.Context, renewed <-chan struct{}) {
	t := r.conf.current.Load().TLS
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	defer watching.Wait()
	if w, err := watch.New([]string{t.Certificate, t.Key}); err != nil {
		r.log.Error("certificates are not watched", "event", "tls.failed", "err", err)
	} else {
		watching.Go(func() {
			r.reloadCertificate(t) // what changed before the watch began
			_ = w.Run(ctx, filesQuiet, filesPoll, func() { r.reloadCertificate(t) })
		})
	}
	select {
	case <-ctx.Done():
	case <-renewed:
	}
	cancel()
}

func (r *relay) reloadCertificate(t config.TLS) {
	before := r.certs.current.Load()
	if err := r.certs.load(t); err != nil {
		r.log.Error("the certificate before stays in use", "event", "tls.failed", "err", err)
		return
	}
	if now := r.certs.current.Load(); before == nil || !before.Leaf.Equal(now.Leaf) {
		r.log.Info("certificate loaded", "event", "tls.loaded", "not_after", now.Leaf.NotAfter)
	}
}

// reload takes up what may change while the relay runs: first everything that
// can fail, then one store that cannot.
func (r *relay) reload() {
	r.tell(tellReloading())
	defer r.tell(tellReady)
	next, err := config.LoadRelay(r.conf.file)
	if err != nil {
		r.log.Error("the configuration before stays in force", "event", "config.failed", "err", err)
		r.conf.told.Store(&status.Config{File: r.conf.file, Error: err.Error()})
		return
	}
	old := r.conf.current.Load()
	applied, restart := config.Live(old, next)
	if len(applied) > 0 {
		effective := *old // what needs a restart stays as it is
		effective.Register.TokenFile, effective.Register.App = next.Register.TokenFile, next.Register.App
		if r.certs != nil && next.TLS.Enabled() {
			effective.TLS = next.TLS
		}
		effective.Blocks = next.Blocks
		r.conf.current.Store(&effective)
		r.register.Wake()
	}
	r.conf.told.Store(&status.Config{File: r.conf.file, NeedRestart: restart})
	r.log.Info("configuration read again", "event", "config.loaded", "applied", applied, "need_restart", restart)
}
