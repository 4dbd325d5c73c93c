package daemon

import (
	"context"
	"fmt"
	"sync/atomic"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/lifecycle"
	"example.edu/gatepost/internal/register/credential"
	"example.edu/gatepost/internal/register/webhook"
	"example.edu/gatepost/internal/status"
	"example.edu/gatepost/internal/watch"
)

// secretHint is what to do about a webhook's secret that cannot be used.
const secretHint = "openssl rand -hex 32 makes a secret; the file holds it and nothing else, and the forge's webhook the same"

// readWebhookSecret reads the webhook's secret.
func readWebhookSecret(path string) (webhook.Secret, error) {
	data, err := credential.ReadSecret(path)
	if err != nil {
		return webhook.Secret{}, fmt.Errorf("reading the webhook's secret: %w", err)
	}
	secret, err := webhook.ParseSecret(data)
	if err != nil {
		return webhook.Secret{}, fmt.Errorf("register.webhook.secretFile: %s: %w", path, err)
	}
	return secret, nil
}

// A hook is the forge's webhook, and the file of its secret.
type hook struct {
	server  *webhook.Server
	file    string
	watched *watch.Watcher
	failure atomic.Pointer[string] // of the last reading; "" if it was good
}

// openWebhook makes what takes the forge's deliveries; without one in the
// configuration, nothing.
func (r *relay) openWebhook(c *config.Relay, s *lifecycle.Steps) error {
	if c.Register.Webhook == nil {
		return nil
	}
	h := &hook{file: c.Register.Webhook.SecretFile}
	h.failure.Store(new(string))
	var err error
	if h.watched, err = watch.New([]string{h.file}); err != nil { // first: what changes after the first reading is seen
		return err
	}
	s.Later("webhook's secret watch", h.watched.Close)
	secret, err := readWebhookSecret(h.file)
	if err != nil {
		return fmt.Errorf("%w; %s", err, secretHint)
	}
	h.server, err = webhook.New(webhook.Options{
		Branch: c.Register.Branch, Secret: secret, Wake: r.register.Wake, Logger: r.log, Registerer: r.registry,
	})
	r.hook = h
	return err
}

// watchWebhookSecret has a new secret taken up.
func (r *relay) watchWebhookSecret(ctx context.Context) error {
	return r.hook.watched.Run(ctx, filesQuiet, filesPoll, r.reloadWebhookSecret)
}

// reloadWebhookSecret replaces the secret, or keeps the one before and says why.
func (r *relay) reloadWebhookSecret() {
	text := ""
	secret, err := readWebhookSecret(r.hook.file)
	if err != nil {
		text = err.Error()
		r.log.Error("the webhook's secret before stays in use", "event", "webhook.secret_failed", "err", err, "hint", secretHint)
	} else {
		r.hook.server.SetSecret(secret)
		r.log.Info("webhook's secret loaded", "event", "webhook.secret_loaded")
		if who := credential.Exposed(r.hook.file); who != "" {
			w := exposedWarning("register.webhook.secretFile", r.hook.file, who)
			r.log.Warn("the configuration has a problem", "event", "config.warning", "problem", w.problem, "hint", w.hint)
		}
	}
	r.hook.failure.Store(&text)
}

func (h *hook) report() *status.Webhook {
	n := h.server.Counts()
	return &status.Webhook{VerifiedAt: n.VerifiedAt, Verified: n.Verified, RefusedAt: n.RefusedAt, Refused: n.Refused, Error: *h.failure.Load()}
}
