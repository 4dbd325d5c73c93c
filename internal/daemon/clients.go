package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/relay/activity"
	"example.edu/gatepost/internal/relay/limits"
	"example.edu/gatepost/internal/relay/smtpd"
	"example.edu/gatepost/internal/status"
)

// A prover makes, opens and records proofs of control.
type prover struct {
	proof.Key
	*proof.Records
}

var _ smtpd.Prover = prover{}

// openClients opens what is remembered of clients: proofs of control, and what
// each address did last.
func (r *relay) openClients(c *config.Relay) (err error) {
	dir := filepath.Join(c.State, "proof")
	if err := makeDir(dir); err != nil {
		return err
	}
	if c.Proof.SecretFile != "" {
		r.proofs.Key, err = proof.ReadKey(c.Proof.SecretFile)
	} else {
		r.proofs.Key, err = proof.OwnKey(filepath.Join(dir, "secret"))
	}
	if err != nil {
		return err
	}
	if r.proofs.Records, err = proof.OpenRecords(filepath.Join(dir, "records"), r.log); err != nil {
		return err
	}
	r.activity, err = activity.Open(activity.Options{
		File:     filepath.Join(c.State, "activity"),
		Register: r.knownAddresses,
		Logger:   r.log,
	})
	if err != nil {
		return err
	}
	l := c.Limits
	r.budgets, err = limits.Open(limits.Options{
		File: filepath.Join(c.State, "limits"),
		Terms: limits.Terms{
			MinutePart: l.MinutePart, MachinePart: l.MachinePart,
			RecipientsPerMessage: l.RecipientsPerMessage, OctetsPerMessage: l.BytesPerMessage,
			MaxRecipients: l.Recipients, MaxOctets: l.MessageBytes,
			StrangerSessions: l.Unregistered.SessionsPerHour, StrangerTries: l.Unregistered.RecipientsPerHour,
		},
		Logger:     r.log,
		Registerer: r.registry,
	})
	return err
}

// A limiter holds clients to their budgets.
type limiter struct{ budgets *limits.Budgets }

var _ smtpd.Limiter = limiter{}

func (l limiter) Check(v policy.Verdict, u smtpd.Use, now time.Time) (smtpd.Over, bool) {
	over, ok := l.budgets.Check(v, limits.Use(u), now)
	return tell(over), ok
}

func (l limiter) Take(v policy.Verdict, u smtpd.Use, now time.Time) (smtpd.Over, bool) {
	over, ok := l.budgets.Take(v, limits.Use(u), now)
	return tell(over), ok
}

func (l limiter) Settle(v policy.Verdict, took, used smtpd.Use, now time.Time) {
	l.budgets.Settle(v, limits.Use(took), limits.Use(used), now)
}

func tell(o limits.Over) smtpd.Over {
	return smtpd.Over{Limit: o.Limit, Whose: o.Whose, RoomAt: o.RoomAt, RoomIn: o.RoomIn}
}

// knownAddresses asks the register in force whether it has an address.
func (r *relay) knownAddresses() func(netip.Addr) bool {
	s := r.live.Load()
	if s == nil {
		return nil
	}
	return func(addr netip.Addr) bool {
		_, known := s.Find(addr)
		return known
	}
}

// An observer hands on to the activity what was accepted and what was refused.
type observer struct{ activity *activity.Book }

var _ smtpd.Observer = observer{}

func (o observer) Accepted(addr netip.Addr, a smtpd.Accepted) {
	o.activity.Accepted(addr, activity.Message{Recipients: a.Recipients, Octets: a.Octets, TLS: a.TLS, Needed: activity.Needed(a.Needed)})
}

func (o observer) Refused(addr netip.Addr, registered bool, stage, reason, said string) {
	o.activity.Refused(addr, registered, activity.Refusal{Stage: stage, Reason: reason, Said: said})
}

// issueProof hands out a token, for an address that could use one.
func (r *relay) issueProof(w http.ResponseWriter, req *http.Request) {
	var order struct {
		IP      string
		Request int
		For     string
	}
	if !understood(w, req, &order) {
		return
	}
	addr, err := netip.ParseAddr(order.IP)
	if err != nil || addr.Zone() != "" {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%q is not an IP address", order.IP), "")
		return
	}
	life, ok := config.ParseDuration(order.For)
	if !ok || life < time.Minute || life > proof.MaxFor || order.Request < 0 || order.Request > proof.MaxRequest {
		refuse(w, http.StatusBadRequest, "no token can be made of this", "it is good for a minute at least and "+config.FormatDuration(proof.MaxFor)+" at most; a request has a number")
		return
	}
	now := time.Now()
	v := r.lookup(addr, now)
	if code, text, hint := cannotProve(v); code != 0 {
		refuse(w, code, text, hint)
		return
	}
	claim := proof.Claim{Addr: v.Addr, Request: order.Request, Expires: now.Add(life).UTC().Truncate(time.Second)}
	token, err := r.proofs.Token(claim, now)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error(), "")
		return
	}
	r.log.Info("a token for a proof of control is handed out", "event", "proof.issued", "client", claim.Addr, "request", claim.Request, "not_after", claim.Expires)
	c := r.conf.current.Load()
	answer(w, proof.Invitation{
		Addr: claim.Addr, Request: claim.Request, Expires: claim.Expires,
		To:     mail.Address{Local: proof.LocalPart(token), Domain: c.Hostname}.String(),
		Server: c.Hostname, Relay: firstPort(c.Listen.Relay), Submission: firstPort(c.Listen.Submission),
	})
}

// cannotProve says why a token would be of no use to an address; code 0: it
// would.
func cannotProve(v policy.Verdict) (code int, text, hint string) {
	switch v.Standing {
	case policy.NoRegister:
		return http.StatusServiceUnavailable, "the relay has no register yet, so it does not know its own campus", "gatepost status"
	case policy.OffCampus:
		return http.StatusConflict, fmt.Sprintf("%s is not an address of this university, so the relay does not talk to it", v.Addr),
			"a machine behind address translation needs the address that the relay sees; campus: in the register says what is the university's"
	case policy.Blocked:
		return http.StatusConflict, fmt.Sprintf("%s is blocked, so the relay does not talk to it: %s", v.Addr, v.Block.Reason),
			"gatepost status " + v.Addr.String() + " shows the block; it has to end first"
	}
	return 0, "", ""
}

// listProofs writes every proof, the newest first, one JSON value a line.
func (r *relay) listProofs(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	encode := json.NewEncoder(w)
	for _, rec := range r.proofs.Newest(proof.MaxRecords) {
		if encode.Encode(proofReport(rec)) != nil {
			return // the reader went away
		}
	}
}

func (r *relay) proofsReport() status.Proofs {
	return status.Proofs{Count: r.proofs.Len(), Newest: proofReports(r.proofs.Newest(status.MaxProofs))}
}

func proofReports(records []proof.Record) (out []status.Proof) {
	for _, rec := range records {
		out = append(out, proofReport(rec))
	}
	return out
}

func proofReport(p proof.Record) status.Proof {
	return status.Proof{IP: p.Addr, Request: p.Request, At: p.At, Port: p.Port, TLS: p.TLS}
}

// addressReport is what is known of one address.
func (r *relay) addressReport(addr netip.Addr) status.Address {
	now := time.Now()
	v := r.lookup(addr, now)
	seen := r.activity.Of(v.Addr)
	out := status.Address{
		IP:       v.Addr,
		Standing: v.Standing.String(),
		Proofs:   proofReports(r.proofs.Of(v.Addr)),
		Seen:     seen.Seen,
		Mail:     mailReport(seen.Sums),
	}
	if g := v.Registration; g != nil {
		out.Registration = &status.Registration{
			File: g.Path, Department: g.Department, Contact: g.Contact.Email, Commit: v.Commit,
			LastDay: g.Expires.AddDate(0, 0, -1).Format(time.DateOnly), // Expires is the midnight after it
		}
		if v.Host != nil {
			out.Registration.Name = v.Host.Name
			out.Leniencies = leniencies(v.Host.Device, seen.Needs)
		}
		out.Together = r.together(g)
		out.Confirmation = r.confirmation(confirm.Key(v.Addr, g.Department))
	}
	if v.Standing == policy.Blocked {
		out.Blocks = r.covering(netip.PrefixFrom(v.Addr, v.Addr.BitLen()), time.Now())
	}
	if g := v.Registration; g != nil {
		if known, ok := r.brake.Of(g.Path); ok {
			braked := brakedReport(known)
			out.Brake = &braked
		}
	}
	for _, l := range r.budgets.Left(v, now) {
		out.Budgets = append(out.Budgets, status.Budget{Name: l.Budget, Whose: l.Whose, Limit: l.Limit, AtOnce: l.AtOnce, Left: l.Left, FullAt: l.FullAt})
	}
	for _, g := range seen.Reasons {
		out.Reasons = append(out.Reasons, status.Reason(g))
	}
	for _, f := range seen.Refusals {
		out.Refusals = append(out.Refusals, status.Refusal(f))
	}
	return out
}

// confirmation is what the ledger has under a key; nil if nothing, or if it
// cannot be read, which the spool tells by itself.
func (r *relay) confirmation(key string) *status.Confirmation {
	id, found, err := r.spool.KeyMessage(key)
	if err != nil || !found {
		return nil
	}
	out := &status.Confirmation{Message: string(id)}
	if at, ok := id.Time(); ok {
		out.SentAt = at
		_, err := r.spool.Get(id)
		out.Queued = err == nil
	}
	return out
}
