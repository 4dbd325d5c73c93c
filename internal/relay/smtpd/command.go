package smtpd

import (
	"strconv"
	"strings"

	"example.edu/gatepost/internal/register/policy"
)

// What DSN parameters may hold, in octets. RFC 3461 §4.2, §4.4. Longer ones
// could not be passed on, and a thousand recipients with one each are megabytes.
const (
	maxEnvID = 100
	maxORcpt = 500
)

// command obeys one command line as far as it is ours to obey, and hands out
// to go-smtp what is its to obey: a line that is well formed, in order, and
// allowed. Plan: is the client still welcome; what command is it; may it come
// now; is its argument sound; answer or hand out.
func (c *conn) command(line string) {
	name, arg := cutCommand(line)
	c.verb = verbOf(name)
	if !c.stillWelcome() {
		return
	}
	switch c.verb {
	case "EHLO", "HELO":
		c.hello(arg)
	case "MAIL":
		c.mailFrom(arg)
	case "RCPT":
		c.rcptTo(arg)
	case "DATA":
		c.data(arg)
	case "BDAT":
		c.bdat(arg)
	case "STARTTLS":
		c.startTLSCommand(arg)
	case "QUIT":
		c.sayInsteadOf(sayBye())
		c.handOut("QUIT")
	case "RSET":
		if c.spendIdle() {
			c.sayInsteadOf(sayOK("forgotten"))
			c.handOut("RSET")
		}
	default:
		c.aside(name)
	}
}

// cutCommand splits a line into the command's name and its argument.
func cutCommand(line string) (name, arg string) {
	name, arg, _ = strings.Cut(strings.TrimRight(line, " \t"), " ")
	return name, strings.TrimLeft(arg, " ")
}

// verbOf is the command's name from a closed set, fit for a label.
func verbOf(name string) string {
	switch v := strings.ToUpper(name); v {
	case "EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "STARTTLS", "QUIT", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "AUTH":
		return v
	}
	return "other"
}

// aside answers the commands that change nothing.
func (c *conn) aside(name string) {
	switch c.verb {
	case "NOOP":
		if c.spendIdle() {
			c.say(sayOK("ok"))
		}
	case "VRFY": // RFC 5321 §3.5.3
		if c.spendIdle() {
			c.say(sayVRFY())
		}
	case "HELP":
		if c.spendIdle() {
			c.say(c.srv.sayHelp())
		}
	case "EXPN":
		c.say(sayNotImplemented("EXPN"))
	case "AUTH":
		c.say(sayNoAuth())
	default:
		switch strings.ToUpper(name) {
		case "GET", "POST", "PUT", "CONNECT", "OPTIONS", "HEAD": // a browser made to talk to us: stop before its body
			c.fail(sayUnknownCommand())
		default:
			c.say(sayUnknownCommand())
		}
	}
}

// spendIdle bounds the commands that get nothing done.
func (c *conn) spendIdle() bool {
	c.idle++
	if c.idle > c.srv.limits.Idle {
		c.fail(sayTooIdle())
		return false
	}
	return true
}

// stillWelcome asks the register again: a block or a removal holds from the
// next command on.
func (c *conn) stillWelcome() bool {
	v := c.srv.verdict(c.who)
	c.verdict = v
	if r, no := c.srv.turnAway(v); no {
		c.fail(r)
		return false
	}
	return true
}

// sayInsteadOf replaces go-smtp's reply to the line handed out.
func (c *conn) sayInsteadOf(r reply) { c.pending = &r }

func (c *conn) hello(arg string) {
	if arg == "" && !c.sloppy() {
		c.say(sayArguments(c.verb + " <your host name>"))
		return
	}
	if !c.spendIdle() {
		return
	}
	c.helo, _ = heloName(arg)
	c.greeted, c.esmtp, c.noHELO = true, c.verb == "EHLO", arg == ""
	r := reply{code: 250, text: strings.TrimRight(c.srv.hostname+" greets "+c.helo, " ")}
	if c.esmtp {
		r.lines = c.extensions()
	}
	c.sayInsteadOf(r)
	c.handOut(c.verb + " client")
}

// extensions are what is advertised: what is carried, and no AUTH.
func (c *conn) extensions() []string {
	ext := []string{"PIPELINING", "SIZE " + strconv.FormatInt(c.srv.limits.MaxMessage, 10), "8BITMIME", "SMTPUTF8",
		"CHUNKING", "ENHANCEDSTATUSCODES", "DSN"}
	if c.tlsState == "" && c.tlsConfig() != nil {
		ext = append(ext, "STARTTLS")
	}
	if c.requireTLSOffered() {
		ext = append(ext, "REQUIRETLS")
	}
	return append(ext, c.limitsKeyword(), "HELP")
}

// limitsKeyword tells the one limit of RFC 9422 that there is. Messages of a
// session and domains of a message are not counted, so MAILMAX and
// RCPTDOMAINMAX are left out: to a client that means unknown. Who may not send
// can name one recipient, to prove control.
func (c *conn) limitsKeyword() string {
	most := c.srv.limits.MaxRecipients
	if c.verdict.Standing != policy.Registered {
		most = 1
	}
	return "LIMITS RCPTMAX=" + strconv.Itoa(min(most, 999_999)) // six digits, RFC 9422 §4.2
}

func (c *conn) requireTLSOffered() bool { return c.srv.offerReq && c.tlsState != "" }

func (c *conn) startTLSCommand(arg string) {
	cfg := c.tlsConfig()
	switch {
	case arg != "": // RFC 3207 §4
		c.say(sayArguments("STARTTLS"))
	case c.tlsState != "":
		c.say(sayAlreadyTLS())
	case cfg == nil && c.srv.tls.modern != nil: // the device's profile hides it
		c.say(c.srv.sayHiddenTLS(c.addr))
	case cfg == nil:
		c.say(sayNoTLS())
	default:
		c.startTLS(cfg)
	}
}

func (c *conn) mailFrom(arg string) {
	switch {
	case !c.greeted && c.sloppy():
		c.withoutHELO("MAIL " + arg)
		return
	case !c.greeted:
		c.say(c.srv.sayHelloFirst(c.addr))
		return
	case c.who.check:
		c.say(c.srv.sayCheck(c.addr))
		return
	case c.tx != nil: // RFC 5321 §4.1.4: go-smtp would keep the first message's recipients
		c.say(sayNested())
		return
	case c.port == submissionPort && c.tlsState == "":
		c.say(c.srv.sayTLSFirst())
		return
	}
	p, bad := c.parse(arg, "FROM:", true)
	if bad != nil {
		c.say(*bad)
		return
	}
	for _, q := range p.params {
		if r := c.checkMailParam(q); r != nil {
			c.say(*r)
			return
		}
	}
	if _, utf8 := p.get("SMTPUTF8"); !utf8 && !p.addr.IsASCII() {
		c.say(sayNeedUTF8())
		return
	}
	c.path = p
	c.handOut(p.command("MAIL FROM:", c.srv.hostname, "SIZE"))
}

// checkMailParam knows the parameters of MAIL that are carried, and checks
// what go-smtp would get wrong.
func (c *conn) checkMailParam(q param) *reply {
	var r reply
	switch q.name {
	case "SIZE": // RFC 1870; go-smtp knows no more than 32 bits
		n, err := strconv.ParseInt(q.value, 10, 64)
		switch {
		case !isDigits(q.value):
			r = sayBadParam("SIZE")
		case err != nil || n > c.srv.limits.MaxMessage:
			r = sayTooLarge(c.srv.limits.MaxMessage)
		default:
			return nil
		}
	case "BODY":
		if v := strings.ToUpper(q.value); v != "7BIT" && v != "8BITMIME" {
			r = sayBadParam("BODY")
			break
		}
		return nil
	case "SMTPUTF8":
		if !q.bare {
			r = sayBadParam(q.name)
			break
		}
		return nil
	case "ENVID": // RFC 3461 §4.4
		if len(q.value) > maxEnvID {
			r = sayBadParam(q.name)
			break
		}
		return nil
	case "RET":
		return nil
	case "REQUIRETLS": // RFC 8689 §2: only over TLS; go-smtp takes it in the clear
		switch {
		case c.tlsState == "":
			r = sayRequireTLSClear()
		case !c.srv.offerReq:
			r = sayUnknownParam(q.name)
		case !q.bare:
			r = sayBadParam(q.name)
		default:
			return nil
		}
	default:
		r = sayUnknownParam(q.name)
	}
	return &r
}

func (c *conn) rcptTo(arg string) {
	if c.tx == nil {
		c.say(sayMailFirst())
		return
	}
	p, bad := c.parse(arg, "TO:", false)
	if bad != nil {
		c.say(*bad)
		return
	}
	for _, q := range p.params {
		if q.name != "NOTIFY" && q.name != "ORCPT" {
			c.say(sayUnknownParam(q.name))
			return
		}
		if len(q.value) > maxORcpt {
			c.say(sayBadParam(q.name))
			return
		}
	}
	if !c.tx.env.UTF8 && !p.addr.IsASCII() {
		c.say(sayNeedUTF8())
		return
	}
	c.path = p
	c.handOut(p.command("RCPT TO:", c.srv.hostname))
}

// parse reads the argument of MAIL or RCPT.
func (c *conn) parse(arg, keyword string, null bool) (mailPath, *reply) {
	form := sayArguments(c.verb + " " + keyword + "<user@example.org>")
	word := len(keyword) - len(":")
	if len(arg) < word || !strings.EqualFold(arg[:word], keyword[:word]) {
		return mailPath{}, &form
	}
	path, ok := strings.CutPrefix(strings.TrimLeft(arg[word:], " \t"), ":")
	if !ok {
		return mailPath{}, &form
	}
	p, err := parsePath(path, null)
	p.sloppy = p.sloppy || arg[word] != ':'
	switch err {
	case nil:
		if p.sloppy && !c.sloppy() {
			r := c.srv.saySloppy(c.addr, c.verb+" "+keyword+"<user@example.org>")
			return mailPath{}, &r
		}
		return p, nil
	case errTwice:
		r := sayTwice(p.params[len(p.params)-1].name)
		return mailPath{}, &r
	case errForm:
		return mailPath{}, &form
	}
	r := sayBadRecipient()
	if null {
		r = sayBadSender()
	}
	return mailPath{}, &r
}

func (c *conn) data(arg string) {
	if arg != "" {
		c.say(sayArguments("DATA"))
		return
	}
	if r := c.begin(); r != nil {
		c.refuseBody(*r)
		return
	}
	c.sayInsteadOf(sayGoAhead())
	c.handOut("DATA")
}

// bdat begins a message in chunks. To go-smtp it is a DATA whose 354 is not
// sent: one way to take a body, and none of the library's chunk handling, which
// takes a chunk that breaks off for a whole one and reads on as commands
// behind a size that it cannot parse. RFC 3030.
func (c *conn) bdat(arg string) {
	size, last, ok := parseBDAT(arg)
	if !ok {
		c.fail(sayBadChunk())
		return
	}
	r := c.begin()
	if r == nil && size > c.srv.limits.MaxMessage {
		big := sayTooLarge(c.srv.limits.MaxMessage)
		r = &big
	}
	if r != nil { // the chunk follows whatever we think of it
		if c.skip(size) {
			c.refuseBody(*r)
		}
		return
	}
	c.tx.chunks = &chunks{c: c, size: size, rest: size, total: size, last: last}
	c.handOut("DATA")
	c.swallow = true
}

// refuseBody says why no body is taken, and forgets the message, unless the
// command only came too early.
func (c *conn) refuseBody(r reply) {
	c.say(r)
	if c.tx == nil || len(c.tx.env.To) == 0 || c.closing {
		return
	}
	c.dropTransaction()
	c.handOut("RSET")
	c.swallow = true
}

// parseBDAT reads "<octets> [LAST]".
func parseBDAT(arg string) (size int64, last, ok bool) {
	f := strings.Fields(arg)
	if len(f) == 0 || len(f) > 2 || !isDigits(f[0]) {
		return 0, false, false
	}
	size, err := strconv.ParseInt(f[0], 10, 63)
	if err != nil || size > 1<<40 {
		return 0, false, false
	}
	if len(f) == 2 {
		if !strings.EqualFold(f[1], "LAST") {
			return 0, false, false
		}
		last = true
	}
	return size, last, true
}

// standing is the verdict that counts for the message under way: the one it
// began with, unless the register has become less welcoming since.
func (c *conn) standing() policy.Verdict {
	if c.tx.verdict.Standing == policy.Registered && c.verdict.Standing != policy.Registered {
		return c.verdict
	}
	return c.tx.verdict
}
