package smtpd

import (
	"bytes"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
)

// Every text that a client reads is in this file. Each fits in two lines of
// 512 octets (RFC 5321 §4.5.3.1.5), names what it is about, says why in plain
// words and whom to turn to, and never holds the text of an error.

// maxReplyLine is what a reply line may hold, CRLF included. RFC 5321 §4.5.3.1.5.
const maxReplyLine = 512

// A reply is what a client is told. word is the metric and log label of a
// refusal, from refusalWords.
type reply struct {
	code  mail.Code
	enh   mail.Enhanced // zero: none, for 220, 354 and the reply to EHLO
	text  string
	word  string
	lines []string // EHLO: keywords that follow text, a line each
}

// String is the reply in one line, "550 5.7.1 text", printable ASCII.
func (r reply) String() string {
	return mail.Status{Code: r.code, Enhanced: r.enh, Text: clean(r.text)}.String()
}

func (r reply) refusal() bool { return r.code.Temporary() || r.code.Permanent() }

// appendTo adds the wire form: the enhanced code on every line (RFC 2034 §4),
// printable ASCII only, at most two lines (but for EHLO) that fit.
func (r reply) appendTo(b *bytes.Buffer) {
	if r.lines != nil {
		all := append([]string{r.text}, r.lines...)
		for i, l := range all {
			r.line(b, l, i < len(all)-1)
		}
		return
	}
	text := clean(r.text)
	const room = maxReplyLine - len("250 5.7.999 \r\n")
	if len(text) <= room {
		r.line(b, text, false)
		return
	}
	cut := strings.LastIndexByte(text[:room], ' ')
	if cut <= 0 {
		cut = room
	}
	rest := strings.TrimLeft(text[cut:], " ")
	if len(rest) > room {
		rest = rest[:room-3] + "..."
	}
	r.line(b, text[:cut], true)
	r.line(b, rest, false)
}

func (r reply) line(b *bytes.Buffer, text string, more bool) {
	sep := byte(' ')
	if more {
		sep = '-'
	}
	fmt.Fprintf(b, "%03d%c", int(r.code), sep)
	if r.enh != (mail.Enhanced{}) {
		b.WriteString(r.enh.String())
		b.WriteByte(' ')
	}
	b.WriteString(text)
	b.WriteString("\r\n")
}

// clip leaves the middle out of what is longer than most octets, so that what
// stands behind it in a reply still fits.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most/2] + "..." + s[len(s)-most/2:]
}

// clean keeps a reply one line of printable ASCII. RFC 5321 §4.2.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
}

// The greeting and what the gate says instead of it.

func (s *Server) sayHello() reply {
	return reply{code: mail.CodeReady, text: s.hostname + " ESMTP Gatepost"}
}

// sayBlocked names the register's file of the block, by which its postmaster
// finds it, or the day of an operator's.
func (s *Server) sayBlocked(v policy.Verdict) reply {
	reference := "on this relay"
	switch b := v.Block; {
	case b == nil:
	case b.Path != "":
		reference = strings.TrimSuffix(path.Base(b.Path), ".cue")
	case !b.Since.IsZero():
		reference += ", " + b.Since.UTC().Format(time.DateOnly)
	}
	return reply{mail.CodeFailed, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("%s is blocked (%s); write to %s", v.Addr, reference, s.postmaster), "blocked", nil}
}

func (s *Server) sayOffCampus(addr netip.Addr) reply {
	return reply{mail.CodeFailed, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("%s is not an address of this university, so this relay does not serve it; write to %s", addr, s.postmaster), "off-campus", nil}
}

func (s *Server) sayNoRegister() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 3, 2}, "the relay has no register of clients yet; try again in a few minutes", "no-register", nil}
}

func (s *Server) sayFull() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 7, 0}, "too many connections at once; try again in a minute", "sessions", nil}
}

func (s *Server) sayCrowded(v policy.Verdict, full crowding) reply {
	switch full {
	case fullAddress:
		return reply{mail.CodeShutdown, mail.Enhanced{4, 7, 0},
			fmt.Sprintf("too many connections at once from %s (%d are allowed); try again in a minute", v.Addr, s.limits.SessionsPerAddress), "sessions-address", nil}
	case fullRegistration:
		return reply{mail.CodeShutdown, mail.Enhanced{4, 7, 0},
			fmt.Sprintf("too many connections at once from the machines of %s (%d are allowed); try again in a minute", registrationPath(v), s.limits.SessionsPerRegistration), "sessions-registration", nil}
	}
	return s.sayFull()
}

// sayStrangerOver is for a client that may not send and keeps trying.
func (s *Server) sayStrangerOver(v policy.Verdict, over Over) reply {
	why := "is not registered with this relay"
	verb := "register"
	if v.Standing == policy.Expired {
		why, verb = "has a registration that has expired", "renew"
	}
	return reply{mail.CodeShutdown, mail.Enhanced{4, 7, 1},
		fmt.Sprintf("%s %s and has used up its %s; the next is in %s, at %s; %s", v.Addr, why, over.Limit, span(over.RoomIn), stamp(over.RoomAt), s.link(verb, v.Addr)), "limit-stranger", nil}
}

// span is a length of time in words, rounded up: "6m", "2h5m", "45s".
func span(d time.Duration) string {
	d = max(time.Second, (d + time.Second - 1).Truncate(time.Second))
	if d > time.Hour {
		d = (d + time.Minute - 1).Truncate(time.Minute)
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// stamp is a time in words, rounded up to the second.
func stamp(t time.Time) string {
	return t.Add(time.Second - 1).UTC().Format("2006-01-02 15:04:05 UTC")
}

// sayNoProxy is for a client whose load balancer does not say who it is: our own
// lack, so never a 5xx.
func (s *Server) sayNoProxy() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 3, 5},
		"the load balancer in front of this relay did not say which machine is calling; write to " + s.postmaster, "proxy", nil}
}

func (s *Server) sayCheck(balancer netip.Addr) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("the load balancer %s says that it speaks for nobody, so nothing can be sent; write to %s", balancer, s.postmaster), "check", nil}
}

// What the register says no to.

// link is where a client's owner goes next: the form, or a person.
func (s *Server) link(verb string, addr netip.Addr) string {
	if s.portal == "" {
		return "write to " + s.postmaster
	}
	return fmt.Sprintf("%s at %s/register?ip=%s", verb, s.portal, addr)
}

func (s *Server) sayUnregistered(addr netip.Addr) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("%s is not registered with this relay; %s", addr, s.link("register", addr)), "unregistered", nil}
}

func (s *Server) sayExpired(v policy.Verdict) reply {
	what := " has expired"
	if v.Registration != nil { // Expires is the midnight after the last day
		what = fmt.Sprintf(" (%s) expired at the end of %s", registrationPath(v), v.Registration.Expires.AddDate(0, 0, -1).Format("2006-01-02"))
	}
	return reply{mail.CodeRefused, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("the registration of %s%s; %s", v.Addr, what, s.link("renew", v.Addr)), "expired", nil}
}

func (s *Server) saySender(v policy.Verdict, from mail.Address) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("%s may not send as %s: the registration (%s) does not list that sender; %s",
			v.Addr, clip(from.Path(), 150), registrationPath(v), s.link("change it", v.Addr)), "sender", nil}
}

// sayOverLimit is for what a budget has no room for: a message, or, if further,
// one more recipient of a message that has some.
func (s *Server) sayOverLimit(v policy.Verdict, over Over, further bool) reply {
	whose := registrationPath(v)
	if over.Whose != whose {
		whose = "as one machine of several in " + whose
	}
	r := reply{mail.CodeLocalError, mail.Enhanced{4, 7, 1},
		fmt.Sprintf("%s is over its limit of %s (%s); there is room again in %s, at %s; to have more, %s",
			v.Addr, over.Limit, whose, span(over.RoomIn), stamp(over.RoomAt), s.link("ask", v.Addr)), "limit", nil}
	if further {
		r.code, r.enh = mail.CodeNoStorage, mail.Enhanced{4, 5, 3}
	}
	return r
}

func (s *Server) sayBraked(v policy.Verdict, b Braked) reply {
	r := reply{code: mail.CodeLocalError, enh: mail.Enhanced{4, 7, 1}, word: "brake"}
	until := "somebody has looked at it"
	if !b.Until.IsZero() {
		until = stamp(b.Until)
	}
	switch {
	case b.Blocked:
		r.code, r.enh = mail.CodeRefused, mail.Enhanced{5, 7, 1}
		r.text = fmt.Sprintf("the machines of %s are blocked until %s", registrationPath(v), until)
	case b.Every > 0:
		r.text = fmt.Sprintf("%s may send one message in %s until %s, all machines of %s together", v.Addr, span(b.Every), until, registrationPath(v))
	default:
		r.text = fmt.Sprintf("the mail of %s waits until %s", registrationPath(v), until)
	}
	r.text += fmt.Sprintf(": %s; write to %s", clip(b.Why, 250), s.postmaster)
	return r
}

// Proofs of control. A token that is for another address gets the same words
// as one that is none.

func (s *Server) sayBadToken(addr netip.Addr) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("this is no token for a proof from %s: each address has its own, to be sent from that address, whole; %s", addr, s.link("get one", addr)), "token", nil}
}

func (s *Server) sayTokenExpired(addr netip.Addr, at time.Time) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("the token for a proof from %s expired at %s; %s", addr, at.UTC().Format("2006-01-02 15:04 UTC"), s.link("get a new one", addr)), "token-expired", nil}
}

func sayProofAlone() reply { // 452, so that a client sends the rest by itself, RFC 5321 §4.5.3.1.10
	return reply{mail.CodeNoStorage, mail.Enhanced{4, 5, 3}, "a proof of control goes to its address alone; send anything else as another message", "proof-alone", nil}
}

func registrationPath(v policy.Verdict) string {
	if v.Registration == nil {
		return "unknown"
	}
	return clip(v.Registration.Path, 150)
}

// Plain answers.

func sayBye() reply {
	return reply{mail.CodeBye, mail.Enhanced{2, 0, 0}, "bye", "", nil}
}
func sayOK(what string) reply {
	return reply{mail.CodeOK, mail.Enhanced{2, 0, 0}, what, "", nil}
}
func saySenderOK(a mail.Address) reply {
	return reply{mail.CodeOK, mail.Enhanced{2, 1, 0}, a.Path() + " is the sender", "", nil}
}
func sayRecipientOK(a mail.Address) reply {
	return reply{mail.CodeOK, mail.Enhanced{2, 1, 5}, a.Path() + " is a recipient", "", nil}
}
func sayGoAhead() reply {
	return reply{code: mail.CodeStartData, text: "send the message, end it with <CRLF>.<CRLF>"}
}
func sayChunk(n int64) reply {
	return reply{mail.CodeOK, mail.Enhanced{2, 0, 0}, fmt.Sprintf("%d octets received", n), "", nil}
}
func sayAccepted(id string) reply {
	return reply{mail.CodeOK, mail.Enhanced{2, 0, 0}, "accepted as " + id, "", nil}
}
func sayProved(c proof.Claim) reply {
	what := fmt.Sprintf("control of %s is proved", c.Addr)
	if c.Request > 0 {
		what += fmt.Sprintf(" for request %d", c.Request)
	}
	return reply{mail.CodeOK, mail.Enhanced{2, 0, 0}, what + "; this message was not kept and nothing is sent", "", nil}
}
func sayVRFY() reply {
	return reply{mail.CodeCannotVerify, mail.Enhanced{2, 5, 0}, "addresses are not looked up here; send to it and see", "", nil}
}
func (s *Server) sayHelp() reply {
	where := "write to " + s.postmaster
	if s.portal != "" {
		where = "see " + s.portal + " or " + where
	}
	return reply{mail.CodeHelp, mail.Enhanced{2, 0, 0}, "mail relay for registered addresses; " + where, "", nil}
}
func sayReadyTLS() reply {
	return reply{mail.CodeReady, mail.Enhanced{2, 0, 0}, "ready to start TLS", "", nil}
}

// Commands that cannot be obeyed.

func sayUnknownCommand() reply {
	return reply{mail.CodeSyntax, mail.Enhanced{5, 5, 2}, "that is not an SMTP command", "syntax", nil}
}
func sayNotImplemented(verb string) reply {
	return reply{mail.CodeNotImplemented, mail.Enhanced{5, 5, 1}, verb + " is not offered here", "not-offered", nil}
}
func sayNoAuth() reply {
	return reply{mail.CodeNotImplemented, mail.Enhanced{5, 5, 1}, "AUTH is not offered: this relay knows its clients by their registered address; turn authentication off", "not-offered", nil}
}
func sayControl() reply {
	return reply{mail.CodeSyntax, mail.Enhanced{5, 5, 2}, "a command holds a NUL or a bare CR", "syntax", nil}
}
func sayLongCommand() reply {
	return reply{mail.CodeSyntax, mail.Enhanced{5, 5, 6}, fmt.Sprintf("a command line is longer than %d octets", maxCommand), "syntax", nil}
}
func sayArguments(form string) reply {
	return reply{mail.CodeParamSyntax, mail.Enhanced{5, 5, 4}, "the form is: " + form, "syntax", nil}
}
func sayUnknownParam(name string) reply {
	name = clip(name, 40)
	return reply{mail.CodeUnknownParam, mail.Enhanced{5, 5, 4}, "parameter " + name + " is not offered here", "parameter", nil}
}
func sayTwice(name string) reply {
	name = clip(name, 40)
	return reply{mail.CodeParamSyntax, mail.Enhanced{5, 5, 4}, "parameter " + name + " is given twice", "parameter", nil}
}
func sayBadParam(name string) reply {
	return reply{mail.CodeParamSyntax, mail.Enhanced{5, 5, 4}, "the value of " + name + " makes no sense", "parameter", nil}
}
func (s *Server) sayHelloFirst(addr netip.Addr) reply {
	return reply{mail.CodeBadSequence, mail.Enhanced{5, 5, 1},
		fmt.Sprintf("say EHLO or HELO first. If %s cannot, its registration can say device: {commands: \"sloppy\"}; %s", addr, s.link("change it", addr)), "sequence", nil}
}
func (s *Server) saySloppy(addr netip.Addr, form string) reply {
	return reply{mail.CodeParamSyntax, mail.Enhanced{5, 5, 4},
		fmt.Sprintf("the form is: %s, no blank beside the colon. If %s cannot say so, its registration can say device: {commands: \"sloppy\"}; %s", form, addr, s.link("change it", addr)), "sloppy", nil}
}
func sayMailFirst() reply {
	return reply{mail.CodeBadSequence, mail.Enhanced{5, 5, 1}, "MAIL comes first", "sequence", nil}
}
func sayRcptFirst() reply {
	return reply{mail.CodeBadSequence, mail.Enhanced{5, 5, 1}, "no recipient was accepted, so there is nobody to send it to", "sequence", nil}
}
func sayNested() reply {
	return reply{mail.CodeBadSequence, mail.Enhanced{5, 5, 1}, "a message is already under way; RSET ends it", "sequence", nil}
}
func sayInChunks() reply {
	return reply{mail.CodeBadSequence, mail.Enhanced{5, 5, 1}, "only BDAT goes on with this message; RSET ends it", "sequence", nil}
}
func sayBadSender() reply {
	return reply{mail.CodeBadMailbox, mail.Enhanced{5, 1, 7}, "the sender is not a mail address; the form is: MAIL FROM:<user@example.org>", "address", nil}
}
func sayBadRecipient() reply {
	return reply{mail.CodeBadMailbox, mail.Enhanced{5, 1, 3}, "the recipient is not a mail address; the form is: RCPT TO:<user@example.org>", "address", nil}
}
func sayNeedUTF8() reply {
	return reply{mail.CodeBadMailbox, mail.Enhanced{5, 6, 7}, "the address is not ASCII, which needs SMTPUTF8 on the MAIL command", "address", nil}
}
func sayTooManyRecipients(most int) reply {
	return reply{mail.CodeNoStorage, mail.Enhanced{4, 5, 3}, fmt.Sprintf("more recipients than %d; send the rest as another message", most), "recipients", nil}
}

// TLS.

func (s *Server) sayTLSFirst() reply {
	return reply{mail.CodeMustStartTLS, mail.Enhanced{5, 7, 0}, "this port needs STARTTLS first; a device that cannot do TLS uses port 25", "tls", nil}
}
func sayTLSAtOnce() reply {
	return reply{mail.CodeSyntax, mail.Enhanced{5, 5, 2}, "a session begins in clear text here: set the machine to STARTTLS, or to no encryption, and not to SSL or TLS from the start", "tls", nil}
}
func sayNoTLS() reply {
	return reply{mail.CodeNotImplemented, mail.Enhanced{5, 5, 1}, "STARTTLS is not offered here", "tls", nil}
}
func (s *Server) sayHiddenTLS(addr netip.Addr) reply {
	return reply{mail.CodeNotImplemented, mail.Enhanced{5, 5, 1},
		fmt.Sprintf("STARTTLS is not offered to %s, whose registration says device: {tls: \"off\"}; %s", addr, s.link("change it", addr)), "tls", nil}
}

// sayFailedTLS is not for the client, with whom nothing can be talked in clear
// text any more, but for whoever asks later why its mail did not go out.
func (s *Server) sayFailedTLS(addr netip.Addr, cause string, legacy bool) reply {
	text := fmt.Sprintf("STARTTLS failed with %s (%s)", addr, clip(cause, 120))
	if legacy {
		text += ", old versions and ciphers allowed; write to " + s.postmaster
	} else {
		text += ". If it knows old TLS alone, its registration can say device: {tls: \"legacy\"}; " + s.link("change it", addr)
	}
	return reply{mail.CodeTLSFailed, mail.Enhanced{4, 7, 0}, text, "tls", nil}
}

func sayAlreadyTLS() reply {
	return reply{mail.CodeBadSequence, mail.Enhanced{5, 5, 1}, "TLS is already in use", "tls", nil}
}
func sayRequireTLSClear() reply {
	return reply{mail.CodeMustStartTLS, mail.Enhanced{5, 7, 10}, "REQUIRETLS can be asked for only after STARTTLS", "tls", nil}
}

// Bodies.

func (s *Server) sayBareLF(addr netip.Addr) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 6, 0},
		fmt.Sprintf("the message holds a bare LF; lines and the final dot must end in CRLF. If %s cannot do so, its registration can say device: {bareLF: \"fix\"}; %s",
			addr, s.link("change it", addr)), "line-end", nil}
}
func sayLFDot(addr netip.Addr) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 6, 0},
		fmt.Sprintf("a line of the message is a lone dot beside a bare LF; bare LF is allowed to %s, but not there: end the message in <CRLF>.<CRLF>, and double a dot that begins a line", addr), "line-end", nil}
}
func sayBareCR() reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 6, 0}, "the message holds a bare CR; lines must end in CRLF, and the message in <CRLF>.<CRLF>", "line-end", nil}
}
func sayNUL() reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 6, 0}, "the message holds a NUL octet, which mail cannot carry", "nul", nil}
}
func sayLongLine(most int) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 6, 0}, fmt.Sprintf("the message has a line of more than %d octets; use quoted-printable or base64", most), "line", nil}
}
func sayTooLarge(most int64) reply {
	return reply{mail.CodeTooLarge, mail.Enhanced{5, 3, 4}, fmt.Sprintf("the message is larger than %d octets", most), "size", nil}
}
func sayHeaderTooLarge(most int) reply {
	return reply{mail.CodeFailed, mail.Enhanced{5, 6, 0}, fmt.Sprintf("the header section is larger than %d octets", most), "header", nil}
}
func sayLoop(most int) reply {
	return reply{mail.CodeFailed, mail.Enhanced{5, 4, 6}, fmt.Sprintf("the message has passed more than %d relays: a mail loop", most), "loop", nil}
}
func (s *Server) sayBulk(addr netip.Addr, field string) reply {
	return reply{mail.CodeRefused, mail.Enhanced{5, 7, 1},
		fmt.Sprintf("this relay is not for bulk mail, and the message says that it is one (%s): newsletters and mailings have a service of their own; if %s sends no such thing, take the field out, or write to %s", field, addr, s.postmaster), "bulk", nil}
}
func sayBadChunk() reply {
	return reply{mail.CodeParamSyntax, mail.Enhanced{5, 5, 4}, "the form is: BDAT <octets> [LAST]; the connection is closed, for what follows cannot be told apart", "syntax", nil}
}
func sayNoSpace() reply {
	return reply{mail.CodeNoStorage, mail.Enhanced{4, 3, 1}, "no space to keep the message safe; try again later", "full", nil}
}
func sayNoMemory() reply {
	return reply{mail.CodeLocalError, mail.Enhanced{4, 3, 2}, "the relay has as many messages under way as it can hold; try again in a minute", "memory", nil}
}
func sayStoreFailed() reply {
	return reply{mail.CodeLocalError, mail.Enhanced{4, 3, 0}, "the message could not be kept safe; try again later", "store", nil}
}

// Last words before the relay closes the connection.

func sayTimeout() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 4, 2}, "waited too long; closing", "timeout", nil}
}
func saySlow() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 4, 2}, "the message came too slowly or stopped; nothing was kept", "timeout", nil}
}
func sayDrain() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 3, 2}, "the relay is being restarted; try again in a moment", "drain", nil}
}
func (s *Server) sayTooManyErrors() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 7, 0}, "too many refused commands on one connection; closing. Questions: " + s.postmaster, "errors", nil}
}
func sayTooIdle() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 7, 0}, "too many commands without a message; closing", "idle", nil}
}
func sayInternal() reply {
	return reply{mail.CodeShutdown, mail.Enhanced{4, 3, 0}, "the relay made a mistake; try again", "internal", nil}
}
