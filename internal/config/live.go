package config

import (
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

// A field is one row of the table of what can change while the relay runs.
type field struct {
	path string
	live bool // the running relay takes the new value up; else it needs a restart
	get  func(*Relay) any
}

// fields lists every field of a Relay: the one place that says which take
// effect in a running relay, and which wait for a restart.
func fields() []field {
	return []field{
		{"hostname", false, func(r *Relay) any { return r.Hostname }},
		{"postmaster", false, func(r *Relay) any { return r.Postmaster.String() }},
		{"portal", false, func(r *Relay) any { return r.Portal }},
		{"listen.relay", false, func(r *Relay) any { return r.Listen.Relay }},
		{"listen.submission", false, func(r *Relay) any { return r.Listen.Submission }},
		{"listen.proxy", false, func(r *Relay) any { return r.Listen.Proxy }},
		{"listen.http", false, func(r *Relay) any { return r.Listen.HTTP }},
		{"listen.socket", false, func(r *Relay) any { return r.Listen.Socket }},
		{"listen.portal", false, func(r *Relay) any { return r.Listen.Portal }},
		{"tls.certificate", true, func(r *Relay) any { return r.TLS.Certificate }}, // but see tlsSwitched
		{"tls.key", true, func(r *Relay) any { return r.TLS.Key }},
		{"register.repository", false, func(r *Relay) any { return r.Register.Repository }},
		{"register.branch", false, func(r *Relay) any { return r.Register.Branch }},
		{"register.poll", false, func(r *Relay) any { return r.Register.Poll }},
		{"register.tokenFile", true, func(r *Relay) any { return r.Register.TokenFile }},
		{"register.app", true, func(r *Relay) any { return r.Register.App }},
		{"register.webhook", false, func(r *Relay) any { return r.Register.Webhook }},
		{"register.verify", false, func(r *Relay) any { return r.Register.Verify }},
		{"register.maxRemovals", false, func(r *Relay) any { return r.Register.MaxRemovals }},
		{"state", false, func(r *Relay) any { return r.State }},
		{"drain", false, func(r *Relay) any { return r.Drain }},
		{"deliver.smarthosts", false, func(r *Relay) any { return r.Deliver.Smarthosts }},
		{"deliver.tls", false, func(r *Relay) any { return r.Deliver.TLS }},
		{"deliver.tlsPolicy", false, func(r *Relay) any { return r.Deliver.TLSPolicy }},
		{"deliver.mtaSTS", false, func(r *Relay) any { return r.Deliver.MTASTS }},
		{"deliver.tlsReports.contact", false, func(r *Relay) any { return mailboxText(r.Deliver.TLSReports.Contact) }},
		{"deliver.resolver", false, func(r *Relay) any { return addrPort(r.Deliver.Resolver) }},
		{"deliver.source", false, func(r *Relay) any { return r.Deliver.Source }},
		{"deliver.family", false, func(r *Relay) any { return r.Deliver.Family }},
		{"deliver.eightBit", false, func(r *Relay) any { return r.Deliver.EightBit }},
		{"deliver.chunking", false, func(r *Relay) any { return r.Deliver.Chunking }},
		{"deliver.dkim", false, func(r *Relay) any { return r.Deliver.DKIM }},
		{"deliver.timeouts.connect", false, func(r *Relay) any { return r.Deliver.Timeouts.Connect }},
		{"deliver.timeouts.command", false, func(r *Relay) any { return r.Deliver.Timeouts.Command }},
		{"deliver.timeouts.data", false, func(r *Relay) any { return r.Deliver.Timeouts.Data }},
		{"deliver.timeouts.dot", false, func(r *Relay) any { return r.Deliver.Timeouts.Dot }},
		{"proof.secretFile", false, func(r *Relay) any { return r.Proof.SecretFile }},
		{"blocks.file", true, func(r *Relay) any { return r.Blocks.File }},
		{"confirm", false, func(r *Relay) any { return r.Confirm }},
		{"limits.messageBytes", false, func(r *Relay) any { return r.Limits.MessageBytes }},
		{"limits.recipients", false, func(r *Relay) any { return r.Limits.Recipients }},
		{"limits.sessions", false, func(r *Relay) any { return r.Limits.Sessions }},
		{"limits.sessionsPerAddress", false, func(r *Relay) any { return r.Limits.SessionsPerAddress }},
		{"limits.sessionsPerRegistration", false, func(r *Relay) any { return r.Limits.SessionsPerRegistration }},
		{"limits.memoryBytes", false, func(r *Relay) any { return r.Limits.MemoryBytes }},
		{"limits.minutePart", false, func(r *Relay) any { return r.Limits.MinutePart }},
		{"limits.machinePart", false, func(r *Relay) any { return r.Limits.MachinePart }},
		{"limits.recipientsPerMessage", false, func(r *Relay) any { return r.Limits.RecipientsPerMessage }},
		{"limits.bytesPerMessage", false, func(r *Relay) any { return r.Limits.BytesPerMessage }},
		{"limits.bulkMail", false, func(r *Relay) any { return r.Limits.BulkMail }},
		{"limits.unregistered.sessionsPerHour", false, func(r *Relay) any { return r.Limits.Unregistered.SessionsPerHour }},
		{"limits.unregistered.recipientsPerHour", false, func(r *Relay) any { return r.Limits.Unregistered.RecipientsPerHour }},
		{"limits.idleCommand", false, func(r *Relay) any { return r.Limits.IdleCommand }},
		{"limits.idleData", false, func(r *Relay) any { return r.Limits.IdleData }},
		{"limits.dataRate", false, func(r *Relay) any { return r.Limits.DataRate }},
		{"brake.furthest", false, func(r *Relay) any { return r.Brake.Furthest }},
		{"brake.volume.factor", false, func(r *Relay) any { return r.Brake.Volume.Factor }},
		{"brake.volume.least", false, func(r *Relay) any { return r.Brake.Volume.Least }},
		{"brake.recipients.factor", false, func(r *Relay) any { return r.Brake.Recipients.Factor }},
		{"brake.recipients.least", false, func(r *Relay) any { return r.Brake.Recipients.Least }},
		{"brake.sameBody", false, func(r *Relay) any { return r.Brake.SameBody }},
		{"brake.bounces.part", false, func(r *Relay) any { return r.Brake.Bounces.Part }},
		{"brake.bounces.least", false, func(r *Relay) any { return r.Brake.Bounces.Least }},
		{"brake.spam.part", false, func(r *Relay) any { return r.Brake.Spam.Part }},
		{"brake.spam.least", false, func(r *Relay) any { return r.Brake.Spam.Least }},
		{"brake.holdAt", false, func(r *Relay) any { return r.Brake.HoldAt }},
		{"brake.blockAt", false, func(r *Relay) any { return r.Brake.BlockAt }},
		{"brake.stepAfter", false, func(r *Relay) any { return r.Brake.StepAfter }},
		{"brake.slowEvery", false, func(r *Relay) any { return r.Brake.SlowEvery }},
		{"brake.slowFor", false, func(r *Relay) any { return r.Brake.SlowFor }},
		{"brake.blockFor", false, func(r *Relay) any { return r.Brake.BlockFor }},
		{"queue.retry", false, func(r *Relay) any { return r.Queue.Retry }},
		{"queue.expiry", false, func(r *Relay) any { return r.Queue.Expiry }},
		{"queue.delayWarning", false, func(r *Relay) any { return r.Queue.DelayWarning }},
		{"queue.workers", false, func(r *Relay) any { return r.Queue.Workers }},
		{"queue.perDestination", false, func(r *Relay) any { return r.Queue.PerDestination }},
	}
}

// mailboxText is "" for none.
func mailboxText(a mail.Address) string {
	if a.IsNull() {
		return ""
	}
	return a.String()
}

// addrPort is "" for none.
func addrPort(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// Live tells which fields differ between two configurations: those that a
// running relay takes up, and those that wait for a restart, each by its path
// in the file and in the order of the file.
func Live(old, new *Relay) (applied, needRestart []string) {
	// Without a certificate the listeners were made without STARTTLS.
	tlsSwitched := old.TLS.Enabled() != new.TLS.Enabled()
	for _, f := range fields() {
		switch {
		case reflect.DeepEqual(f.get(old), f.get(new)):
		case f.live && !(tlsSwitched && strings.HasPrefix(f.path, "tls.")):
			applied = append(applied, f.path)
		default:
			needRestart = append(needRestart, f.path)
		}
	}
	return applied, needRestart
}

// LogValue is the effective configuration, field by field. There is no secret
// in it: files that hold secrets are named, never opened, and credentials in
// URLs are refused.
func (r *Relay) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, f := range fields() {
		attrs = append(attrs, slog.Any(f.path, loggable(f.get(r))))
	}
	return slog.GroupValue(attrs...)
}

// loggable makes a value read in a log as it reads in the file.
func loggable(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return FormatDuration(v)
	case []time.Duration:
		list := make([]string, len(v))
		for i := range v {
			list[i] = FormatDuration(v[i])
		}
		return list
	}
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer {
		if rv.IsNil() {
			return "" // as what else is not set
		}
		return rv.Elem().Interface()
	}
	return v
}
