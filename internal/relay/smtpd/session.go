package smtpd

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/register/registration"
)

// errRefused makes go-smtp leave its state as it is. Its text is never sent:
// conn.pending is.
var errRefused = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "refused"}

// A transaction is one message under way, from MAIL to the reply to its body.
type transaction struct {
	env     mail.Envelope
	verdict policy.Verdict // pinned at MAIL
	msg     Message        // from the end of the recipients on
	chunks  *chunks        // nil for DATA
	proof   *proof.Claim   // of a proof of control; then nothing is stored
	needed  Needed         // of the device's leniencies, so far

	declared int64  // octets that MAIL said, SIZE (RFC 1870); 0: nothing
	took     Use    // from the budgets, and not settled yet
	digest   uint64 // of the body, once it is read; see Sent
	memory   int64  // octets claimed of Server.memory
}

// A session is what go-smtp calls for one client. It reads its arguments from
// conn, which has them with quoting and meaning intact.
type session struct {
	c   *conn
	srv *Server
}

var _ smtp.Session = (*session)(nil)

// Mail begins a transaction.
func (s *session) Mail(_ string, o *smtp.MailOptions) error {
	c := s.c
	from := c.path.addr
	v := c.verdict
	if v.Admit(from) == policy.RefusedSender {
		return s.refuse(s.srv.saySender(v, from))
	}
	_, required := c.path.get("REQUIRETLS")
	c.tx = &transaction{verdict: v, needed: Needed{OldTLS: c.oldTLS, NoHELO: c.noHELO, Commands: c.path.sloppy}, env: mail.Envelope{
		From: from, Body: mail.BodyType(o.Body), UTF8: o.UTF8, RequireTLS: required,
		Ret: string(o.Return), EnvID: o.EnvelopeID,
		Client: c.addr, HELO: c.helo, Protocol: c.protocol(o.UTF8), TLS: c.tlsState,
		Registration: pathOf(v), Contact: contactOf(v), Commit: v.Commit, Arrival: s.srv.now(),
	}}
	if size, ok := c.path.get("SIZE"); ok {
		c.tx.declared, _ = strconv.ParseInt(size.value, 10, 64) // checked by checkMailParam
	}
	c.sayInsteadOf(saySenderOK(from))
	return nil
}

// protocol is the keyword after "with". RFC 3848, RFC 6531 §4.3.
func (c *conn) protocol(utf8 bool) string {
	p := "SMTP"
	if c.esmtp {
		p = "ESMTP"
	}
	if utf8 {
		p = "UTF8SMTP"
	}
	if c.tlsState != "" && p != "SMTP" {
		p += "S"
	}
	return p
}

func pathOf(v policy.Verdict) string {
	if v.Registration == nil {
		return ""
	}
	return v.Registration.Path
}

// contactOf is who is told of a failure that the sender cannot be told of;
// null, unless the registration asks for it.
func contactOf(v policy.Verdict) mail.Address {
	if v.Registration == nil || v.Registration.Bounces != registration.BouncesToContact {
		return mail.Address{}
	}
	contact, err := mail.ParseAddress(v.Registration.Contact.Email, true)
	if err != nil { // the schema asks for less than a mailbox is
		return mail.Address{}
	}
	return contact
}

// Rcpt adds a recipient, if the client is one that may send.
func (s *session) Rcpt(_ string, o *smtp.RcptOptions) error {
	c := s.c
	to := c.path.addr
	if c.tx == nil {
		return s.refuse(sayMailFirst())
	}
	if len(c.tx.env.To) >= s.srv.limits.MaxRecipients {
		return s.refuse(sayTooManyRecipients(s.srv.limits.MaxRecipients))
	}
	if r := s.srv.admit(c, to); r != nil {
		err := s.refuse(*r)
		c.spendTry()
		return err
	}
	if c.tx.proof == nil {
		if r := c.askBrake(to); r != nil {
			return s.refuse(*r)
		}
		if r := c.checkRecipient(to); r != nil {
			return s.refuse(*r)
		}
	}
	if r := c.claim(recipientMemory); r != nil {
		return s.refuse(*r)
	}
	var notify []string
	for _, n := range o.Notify {
		notify = append(notify, string(n))
	}
	rcpt := mail.Recipient{Address: s.srv.resolve(to), Notify: strings.Join(notify, ",")}
	if o.OriginalRecipient != "" {
		rcpt.ORcpt = strings.ToLower(string(o.OriginalRecipientType)) + ";" + o.OriginalRecipient
	}
	c.tx.env.To = append(c.tx.env.To, rcpt)
	c.tx.needed.Commands = c.tx.needed.Commands || c.path.sloppy
	c.sayInsteadOf(sayRecipientOK(to))
	return nil
}

// resolve is where mail for to goes: the postmaster of this host, which has no
// mailboxes, is the person configured. RFC 5321 §4.5.1.
func (s *Server) resolve(to mail.Address) mail.Address {
	if strings.EqualFold(to.Local, "postmaster") && (to.Domain == "" || strings.EqualFold(to.Domain, s.hostname)) {
		return s.person
	}
	return to
}

// standingReply is what a client that may not send is told at RCPT; nil for
// one that may.
func (s *Server) standingReply(v policy.Verdict) *reply {
	var r reply
	switch v.Standing {
	case policy.Registered:
		return nil
	case policy.Expired:
		r = s.sayExpired(v)
	default:
		r = s.sayUnregistered(v.Addr)
	}
	return &r
}

// admit decides on one more recipient, and notes a claim that it proves.
// <prove+TOKEN@hostname> is for proofs, whoever sends: a registered client may
// prove that it is still there, and what it sends there is never relayed. A
// proof is the only recipient of its message.
func (s *Server) admit(c *conn, to mail.Address) *reply {
	no := func(r reply) *reply { return &r }
	token, forProof := "", false
	if s.prover != nil && strings.EqualFold(to.Domain, s.hostname) {
		token, forProof = proof.FromLocalPart(to.Local)
	}
	switch {
	case !forProof && c.tx.proof == nil:
		return s.standingReply(c.standing())
	case !forProof || len(c.tx.env.To) > 0:
		return no(sayProofAlone())
	}
	claim, err := s.prover.Open(token, c.addr, s.now())
	switch {
	case errors.Is(err, proof.ErrExpired):
		return no(s.sayTokenExpired(c.addr, claim.Expires))
	case err != nil:
		return no(s.sayBadToken(c.addr))
	}
	c.tx.proof = &claim
	return nil
}

// Data takes the body off the wire; go-smtp's reader is not used, and then
// reads the end that conn hands out for it.
func (s *session) Data(io.Reader) error {
	s.c.receive()
	return nil
}

// Reset forgets the transaction: after EHLO, RSET, and each message.
func (s *session) Reset() { s.c.dropTransaction() }

// Logout ends the session.
func (s *session) Logout() error {
	s.c.dropTransaction()
	return nil
}

func (s *session) refuse(r reply) error {
	s.c.sayInsteadOf(r)
	return errRefused
}

// dropTransaction aborts what is not committed, and gives back what was taken
// for it.
func (c *conn) dropTransaction() {
	if c.tx == nil {
		return
	}
	if c.tx.msg != nil {
		c.tx.msg.Abort()
		c.tx.msg = nil
	}
	c.settle(Use{})
	c.srv.memory.release(c.tx.memory)
	c.tx = nil
}

// begin checks that a body may come now, charges the budgets, and begins a
// message in the store, so that a full store says so before the body is sent.
// What is refused after the charge is given back by dropTransaction.
func (c *conn) begin() *reply {
	no := func(r reply) *reply { return &r }
	switch {
	case !c.greeted:
		return no(c.srv.sayHelloFirst(c.addr))
	case c.tx == nil:
		return no(sayMailFirst())
	case len(c.tx.env.To) == 0:
		return no(sayRcptFirst())
	case c.tx.proof != nil:
		c.tx.msg = discard{}
		return nil
	}
	if r := c.srv.standingReply(c.standing()); r != nil {
		return r
	}
	if r := c.claim(c.srv.limits.bodyMemory()); r != nil {
		return r
	}
	if r := c.charge(); r != nil {
		return r
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.limits.Commit)
	defer cancel()
	env := c.tx.env
	env.To = slices.Clone(env.To)
	msg, err := c.srv.store.Create(ctx, env)
	if err != nil {
		return no(c.storeFailed("begin", err))
	}
	c.tx.msg = msg
	return nil
}

// storeFailed logs the cause for the operator and makes the client's text.
func (c *conn) storeFailed(doing string, err error) reply {
	full := errors.Is(err, ErrFull)
	if !full || doing != "begin" { // a store without room says so once, and not for each message
		c.log.Error("the store failed", "event", "smtp.store_failed", "client", c.addr, "step", doing, "err", err)
	}
	if full {
		return sayNoSpace()
	}
	return sayStoreFailed()
}

// discard keeps nothing: the message of a proof of control.
type discard struct{}

func (discard) Write(p []byte) (int, error)            { return len(p), nil }
func (discard) Commit(context.Context) (string, error) { return "", nil }
func (discard) Abort()                                 {}
