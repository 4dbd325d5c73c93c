package config

import "log/slog"

// portalFields lists every field of a Portal, in the order of the file.
func portalFields(p *Portal) []slog.Attr {
	row := func(path string, v any) slog.Attr { return slog.Any(path, loggable(v)) }
	return []slog.Attr{
		row("url", p.URL),
		row("listen", p.Listen),
		row("metrics", p.Metrics),
		row("tls.certificate", p.TLS.Certificate),
		row("tls.key", p.TLS.Key),
		row("proxies", p.Proxies),
		row("state", p.State),
		row("site.name", p.Site.Name),
		row("site.service", p.Site.Service),
		row("site.logo", p.Site.Logo),
		row("site.colour", p.Site.Colour.String()),
		row("site.postmaster", mailboxText(p.Site.Postmaster)),
		row("site.policiesURL", p.Site.PoliciesURL),
		row("site.helpURL", p.Site.HelpURL),
		row("register.repository", p.Register.Repository),
		row("register.branch", p.Register.Branch),
		row("register.poll", p.Register.Poll),
		row("register.tokenFile", p.Register.TokenFile),
		row("register.app", p.Register.App),
		row("register.webhook.secretFile", p.webhookSecret()),
		row("signIn.oidc", p.SignIn.OIDC),
		row("signIn.proxy", p.SignIn.Proxy),
		row("signIn.development", p.SignIn.Development),
		row("cookies.secretFile", p.Cookies.SecretFile),
		row("cookies.lifetime", p.Cookies.Lifetime),
		row("relays", p.Relays),
		row("proof.secretFile", p.Proof.SecretFile),
		row("proof.hostname", p.Proof.Hostname),
		row("proof.server", p.Proof.Server),
		row("mail.server", p.Mail.Server),
		row("mail.from", mailboxText(p.Mail.From)),
		row("mail.tls", p.Mail.TLS),
		row("reporter.renewals.ahead", p.Reporter.Renewals.Ahead),
		row("reporter.removals.silent", p.Reporter.Removals.Silent),
		row("reporter.blocks", p.Reporter.Blocks),
		row("reporter.askers", p.Reporter.Askers),
		row("limits.connections", p.Limits.Connections),
		row("limits.streams", p.Limits.Streams),
		row("limits.streamsPerPerson", p.Limits.StreamsPerPerson),
		row("limits.formBytes", p.Limits.FormBytes),
		row("limits.requestsPerMinute", p.Limits.RequestsPerMinute),
		row("limits.formsPerMinute", p.Limits.FormsPerMinute),
		row("limits.formsPerPerson", p.Limits.FormsPerPerson),
		row("limits.openedPerDay", p.Limits.OpenedPerDay),
		row("limits.answer", p.Limits.Answer),
	}
}

func (p *Portal) webhookSecret() string {
	if p.Register.Webhook == nil {
		return ""
	}
	return p.Register.Webhook.SecretFile
}

// LogValue is the effective configuration, field by field, without secrets, as
// that of a Relay.
func (p *Portal) LogValue() slog.Value { return slog.GroupValue(portalFields(p)...) }
