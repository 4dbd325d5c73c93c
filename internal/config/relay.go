package config

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

// rawRelay is #Relay as it is written.
type rawRelay struct {
	Hostname   string
	Postmaster string
	Portal     string
	Listen     rawListen
	TLS        TLS
	Register   rawRegister
	State      string
	Drain      string
	Deliver    struct {
		Smarthosts []any
		Source     []string
		Family     string
		EightBit   string
		Chunking   bool
		DKIM       []DKIM `json:"dkim"`
		TLS        string
		TLSPolicy  map[string]TLSRule
		MTASTS     bool
		Resolver   string
		TLSReports struct{ Contact string }
		Timeouts   struct{ Connect, Command, Data, Dot string }
	}
	Proof   Proof
	Blocks  Blocks
	Confirm bool
	Limits  struct {
		MessageBytes                             int64
		Recipients, Sessions, SessionsPerAddress int
		SessionsPerRegistration                  int
		MemoryBytes, BytesPerMessage             int64
		MinutePart, MachinePart                  float64
		RecipientsPerMessage                     int
		BulkMail                                 string
		Unregistered                             Unregistered
		IdleCommand, IdleData                    string
		DataRate                                 int64
	}
	Brake rawBrake
	Queue struct {
		Retry                   []string
		Expiry, DelayWarning    string
		Workers, PerDestination int
	}
}

// The bounds of durations, as the comments of schema/relay.cue state them.
const (
	day      = 24 * time.Hour
	maxRetry = 32
)

// relay makes the typed configuration and checks what the schema cannot say.
// Whatever does not fit the schema is not given here, and passes in silence.
func (d *document) relay(raw *rawRelay) *Relay {
	r := &Relay{
		Hostname:   d.hostname("hostname", raw.Hostname),
		Postmaster: d.mailbox("postmaster", raw.Postmaster),
		Portal:     d.portal(raw.Portal),
		Listen:     d.listen(raw.Listen),
		TLS: TLS{
			Certificate: d.absolute("tls.certificate", raw.TLS.Certificate),
			Key:         d.absolute("tls.key", raw.TLS.Key),
		},
		Register: d.register(raw),
		State:    d.absolute("state", raw.State),
		Drain:    d.duration("drain", raw.Drain, time.Second, 10*time.Minute),
		Proof:    Proof{SecretFile: d.absolute("proof.secretFile", raw.Proof.SecretFile)},
		Blocks:   Blocks{File: d.absolute("blocks.file", raw.Blocks.File)},
		Confirm:  raw.Confirm,
	}
	r.Deliver.Smarthosts = d.smarthosts("deliver.smarthosts", raw.Deliver.Smarthosts)
	r.Deliver.Source = d.source("deliver.source", raw.Deliver.Source)
	r.Deliver.Family, r.Deliver.EightBit = raw.Deliver.Family, raw.Deliver.EightBit
	r.Deliver.Chunking = raw.Deliver.Chunking
	r.Deliver.DKIM = d.dkim("deliver.dkim", raw.Deliver.DKIM)
	r.Deliver.TLS = raw.Deliver.TLS
	r.Deliver.TLSPolicy = d.tlsPolicy(raw.Deliver.TLSPolicy)
	r.Deliver.TLSReports.Contact = d.mailbox("deliver.tlsReports.contact", raw.Deliver.TLSReports.Contact)
	r.Deliver.MTASTS = raw.Deliver.MTASTS
	r.Deliver.Resolver = d.resolver("deliver.resolver", raw.Deliver.Resolver)
	d.daneNeedsResolver(&r.Deliver)
	t := raw.Deliver.Timeouts
	r.Deliver.Timeouts = Timeouts{
		Connect: d.duration("deliver.timeouts.connect", t.Connect, time.Second, 10*time.Minute),
		Command: d.duration("deliver.timeouts.command", t.Command, time.Second, time.Hour),
		Data:    d.duration("deliver.timeouts.data", t.Data, time.Second, time.Hour),
		Dot:     d.duration("deliver.timeouts.dot", t.Dot, time.Second, time.Hour),
	}
	l := raw.Limits
	r.Limits = Limits{
		MessageBytes: l.MessageBytes, Recipients: l.Recipients, DataRate: l.DataRate,
		Sessions: l.Sessions, SessionsPerAddress: l.SessionsPerAddress, SessionsPerRegistration: l.SessionsPerRegistration,
		MemoryBytes: l.MemoryBytes, MinutePart: l.MinutePart, MachinePart: l.MachinePart,
		RecipientsPerMessage: l.RecipientsPerMessage, BytesPerMessage: l.BytesPerMessage, Unregistered: l.Unregistered, BulkMail: l.BulkMail,
		IdleCommand: d.duration("limits.idleCommand", l.IdleCommand, time.Second, time.Hour),
		IdleData:    d.duration("limits.idleData", l.IdleData, time.Second, time.Hour),
	}
	r.Brake = d.brake(raw.Brake)
	r.Queue = d.queue(raw)
	if l.SessionsPerAddress > l.Sessions && l.Sessions > 0 {
		d.wrong("limits.sessionsPerAddress", "limits.sessionsPerAddress is larger than limits.sessions")
	}
	if l.SessionsPerRegistration < l.SessionsPerAddress && l.SessionsPerRegistration > 0 && d.has("limits.sessionsPerRegistration") {
		d.wrong("limits.sessionsPerRegistration", "limits.sessionsPerRegistration is smaller than limits.sessionsPerAddress")
	}
	if len(r.Listen.Submission) > 0 && !r.TLS.Enabled() && !d.has("tls") {
		d.warn("listen.submission", "the submission port has no certificate, so it can take no message",
			"give tls: {certificate: …, key: …}, or turn the port off with listen: submission: []")
	}
	return r
}

func (d *document) queue(raw *rawRelay) Queue {
	q := Queue{
		Expiry:         d.duration("queue.expiry", raw.Queue.Expiry, time.Minute, 30*day),
		Workers:        raw.Queue.Workers,
		PerDestination: raw.Queue.PerDestination,
	}
	if raw.Queue.DelayWarning != "0s" {
		q.DelayWarning = d.duration("queue.delayWarning", raw.Queue.DelayWarning, time.Minute, 30*day)
	}
	if n := len(raw.Queue.Retry); d.has("queue.retry") && (n == 0 || n > maxRetry) {
		d.wrong("queue.retry", fmt.Sprintf("queue.retry has %d waits", n))
	}
	for i, s := range raw.Queue.Retry[:min(len(raw.Queue.Retry), maxRetry)] {
		q.Retry = append(q.Retry, d.duration(fmt.Sprintf("queue.retry[%d]", i), s, time.Second, day))
	}
	if q.Expiry > 0 && q.DelayWarning >= q.Expiry {
		d.wrong("queue.delayWarning", "queue.delayWarning is not shorter than queue.expiry")
	}
	if q.PerDestination > q.Workers && q.Workers > 0 {
		at := "queue.workers"
		if d.has("queue.perDestination") {
			at = "queue.perDestination"
		}
		d.wrong(at, "queue.perDestination is larger than queue.workers")
	}
	return q
}

// rawRegister is Register as the schema has it; of the portal, some of it.
type rawRegister struct {
	Repository, Branch, Poll, TokenFile string
	App                                 *App
	Webhook                             *Webhook
	Verify                              *struct {
		Keys   []string
		GitHub struct{ Postmasters string }
	}
	MaxRemovals float64
}

// followed checks how the register is followed, by the relay and by the portal.
func (d *document) followed(raw rawRegister) Register {
	g := Register{
		Repository: d.repository(raw.Repository, raw.TokenFile != "" || raw.App != nil),
		Branch:     raw.Branch,
		Poll:       d.duration("register.poll", raw.Poll, time.Second, day),
		TokenFile:  d.absolute("register.tokenFile", raw.TokenFile),
		App:        raw.App,
	}
	if !branchName(g.Branch) {
		d.wrong("register.branch", fmt.Sprintf("register.branch: %q is no name of a branch", g.Branch))
	}
	if g.TokenFile != "" && g.App != nil {
		d.reject("register.tokenFile", "register has both tokenFile and app",
			"keep one: app for a GitHub App, tokenFile for a token that somebody made by hand")
	}
	if g.App != nil {
		d.absolute("register.app.keyFile", g.App.KeyFile)
		if g.Repository != "" && !onGitHub(g.Repository) {
			d.reject("register.app", "register.app reads from GitHub, and register.repository is not there",
				"write the repository as https://github.com/OWNER/NAME, or with the host of your GitHub Enterprise server; a repository elsewhere needs no app")
		}
	}
	return g
}

func (d *document) register(raw *rawRelay) Register {
	g := d.followed(raw.Register)
	g.Webhook, g.MaxRemovals = raw.Register.Webhook, raw.Register.MaxRemovals
	if g.Webhook != nil {
		const path = "register.webhook.listen"
		d.listenAddr(path, g.Webhook.Listen)
		d.alone(path, g.Webhook.Listen, raw.Listen)
		d.absolute("register.webhook.secretFile", g.Webhook.SecretFile)
	}
	if v := raw.Register.Verify; v != nil {
		g.Verify = &Verify{Keys: v.Keys, Postmasters: v.GitHub.Postmasters}
		d.verify(&g)
	}
	return g
}

func portNumber(s string, zero bool) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && (n > 0 || zero)
}

// hostname checks the relay's own name; a name without a dot, or an address,
// is refused by many receivers.
func (d *document) hostname(path, s string) string {
	if s == "" {
		if d.has(path) {
			d.wrong(path, path+" is empty")
		}
		return ""
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	_, err := netip.ParseAddr(s)
	if err == nil || !hostName(s) || !strings.Contains(s, ".") {
		d.wrong(path, fmt.Sprintf("%s: %q is no full host name", path, s))
	}
	return s
}

// hostName reports whether s is a host name in ASCII (RFC 1123 §2.1).
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return false
		}
	}
	return true
}

func (d *document) mailbox(path, s string) mail.Address {
	if s == "" && !d.has(path) {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s, false)
	if err != nil || a.Domain == "" {
		d.wrong(path, fmt.Sprintf("%s: %q is no mailbox with a domain", path, s))
	}
	return a
}

func (d *document) portal(s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		d.wrong("portal", fmt.Sprintf("portal: %q is no web address", s))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		d.wrong("portal", "portal has more than a scheme, a host and a path")
	case len(s) > 200 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		d.wrong("portal", "portal does not fit a reply line: at most 200 printable ASCII characters")
	}
	return strings.TrimRight(s, "/")
}

// repository checks where the register is. Credentials in the URL are refused
// because a URL is logged and shown.
func (d *document) repository(s string, token bool) string {
	const path = "register.repository"
	if s == "" {
		if d.has(path) {
			d.wrong(path, path+" is empty")
		}
		return ""
	}
	if filepath.IsAbs(s) {
		return d.absolute(path, s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		d.wrong(path, path+" is neither an http or https URL nor an absolute path")
		return ""
	case u.User != nil:
		d.reject(path, path+" holds credentials",
			"put the token into a file of its own and name it as register.tokenFile")
		return ""
	case u.RawQuery != "" || u.Fragment != "":
		d.wrong(path, path+" has a query or a fragment")
		return ""
	case u.Scheme == "http" && token && !loopback(u.Hostname()):
		d.reject(path, "the token would be sent to "+u.Host+" in clear text",
			"use https, or leave the token out")
	}
	return s
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// branchName reports whether s can be a branch: what git-check-ref-format says,
// a little stricter.
func branchName(s string) bool {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) }
	return s != "" && len(s) <= 200 && !strings.ContainsFunc(s, bad) && !strings.Contains(s, "..") &&
		!strings.Contains(s, "@{") && !strings.Contains(s, "//") && !strings.HasPrefix(s, "refs/") &&
		!slices.ContainsFunc(strings.Split(s, "/"), func(part string) bool {
			return part == "" || part[0] == '.' || part[0] == '-' || strings.HasSuffix(part, ".lock") || strings.HasSuffix(part, ".")
		})
}

// absolute checks a path and cleans it; the daemon's working folder is nobody's
// choice.
func (d *document) absolute(path, s string) string {
	switch {
	case s == "" && !d.has(path):
		return ""
	case !filepath.IsAbs(s) || strings.ContainsRune(s, 0):
		d.wrong(path, fmt.Sprintf("%s: %q is no absolute path", path, s))
		return s
	}
	return filepath.Clean(s)
}

func (d *document) duration(path, s string, least, most time.Duration) time.Duration {
	if s == "" && !d.has(path) {
		return 0
	}
	v, ok := ParseDuration(s)
	switch {
	case !ok:
		d.wrong(path, fmt.Sprintf("%s: %q is no length of time", path, s))
	case v < least || v > most:
		d.wrong(path, fmt.Sprintf("%s is %s; it must be from %s to %s", path, s, FormatDuration(least), FormatDuration(most)))
	default:
		return v
	}
	return 0
}

// ParseDuration reads a length of time as time.ParseDuration does, and days
// before the rest: "5d", "1d12h". It is never negative.
func ParseDuration(s string) (time.Duration, bool) {
	var total time.Duration
	if days, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, false
		}
		total, s = time.Duration(n)*day, rest
		if s == "" {
			return total, true
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 || s[0] == '-' || s[0] == '+' || v > math.MaxInt64-total {
		return 0, false
	}
	return total + v, true
}

// FormatDuration writes a length of time as a person would: "5d", "4h", "30s".
func FormatDuration(v time.Duration) string {
	if v >= day && v%day == 0 {
		return strconv.FormatInt(int64(v/day), 10) + "d"
	}
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
