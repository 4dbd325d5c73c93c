package deliver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

// flight is how many recipients are sent ahead of their replies. It bounds
// what both sides buffer, so that neither waits for the other to read:
// RFC 2920 §3.1.
const flight = 100

// A message is what one attempt is about.
type message struct {
	e     *spool.Entry
	body  func() (io.ReadCloser, error)
	rcpts []int // indexes into e.Envelope.To
	seal  *seal // nil: nothing is signed
}

// A transaction is one MAIL to one final reply. Its plan:
//
//  1. Decide what needs no peer: addresses that cannot go there, size.
//  2. MAIL, RCPT…, DATA: in flights if the peer has PIPELINING, else one by one.
//     Where it has CHUNKING there is no DATA, and the body follows in chunks if
//     a recipient was accepted (chunks.go).
//  3. If the peer wants data although it took no recipient: a lone dot.
//  4. The body, and the dot only after the last octet of it.
//  5. The final reply stands for every recipient that was accepted.
//
// A recipient that has no outcome when it ends early gets the reason why.
type transaction struct {
	s   *session
	m   message
	res []mail.Result // in the order of m.rcpts

	live     []int // positions in m.rcpts that are sent
	done     []bool
	accepted []int // positions accepted by RCPT
	mail     bool  // MAIL was accepted
	chunks   bool  // the body goes by BDAT, and no DATA is said
	asked    bool  // 354 was given, or a chunk was sent
	data     bool  // a 2xx is for the message: 354 was given, or the last chunk sent

	left   []int // positions that another next hop may be asked for: this one is in trouble, and has not asked for the message
	clean  bool  // ended in 2xx, with nothing odd on the way: the session may be used again
	broken bool  // not even QUIT is worth saying
	unable bool  // it offers CHUNKING and does not know BDAT
	stale  bool  // the peer had hung up before it saw anything: nothing happened
	down   bool  // it closed the session, or broke it, before it asked for the message
}

// transact delivers m over s.
func (s *session) transact(ctx context.Context, m message) *transaction {
	t := &transaction{s: s, m: m, res: make([]mail.Result, len(m.rcpts)), done: make([]bool, len(m.rcpts))}
	s.arm(ctx)
	t.run()
	if !s.release() {
		t.clean = false
	}
	return t
}

func (t *transaction) run() {
	if err := t.m.seal.make(t.m.body); err != nil {
		t.clean = true // nothing was said
		t.rest(mail.Result{Status: statusLocal(), Cause: err.Error()})
		return
	}
	commands := t.plan()
	if len(t.live) == 0 {
		t.clean = true // nothing was said
		return
	}
	body, err := t.m.body()
	if err != nil {
		t.clean = true
		t.rest(mail.Result{Status: statusLocal(), Cause: "deliver: opening the body: " + err.Error()})
		return
	}
	defer func() { _ = body.Close() }()
	if !t.envelope(commands) {
		t.broken = true
		return
	}
	switch {
	case t.chunks:
		if len(t.accepted) > 0 {
			t.chunked(body)
		}
	case t.data && len(t.accepted) == 0:
		// RFC 2920 §3.1: it asked for data for nobody. An empty message to no
		// one ends the state it is in; its answer means nothing.
		t.s.line(".")
		if t.s.flush("the end of nothing") == nil {
			_, _ = t.s.read("the end of nothing", t.s.t.Command)
		}
	case t.data:
		t.content(body)
	}
}

// plan fails the recipients that cannot be sent to this peer and writes the
// commands for the others: MAIL, one RCPT for each of live, DATA.
func (t *transaction) plan() []string {
	s, env := t.s, &t.m.e.Envelope
	size := t.m.e.Size + int64(len(t.m.seal.fields()))
	if limit := s.maxSize(); limit > 0 && size > limit { // RFC 1870 §6.1
		t.rest(failed(mail.CodeTooLarge, mail.Enhanced{5, 3, 4}, fmt.Sprintf("the message has %d octets, %s takes %d", size, s.hop, limit)))
		return nil
	}
	if env.RequireTLS && !s.has("REQUIRETLS") { // RFC 8689 §4.2.1
		t.rest(noRequireTLS(s.hop))
		return nil
	}
	able := s.has("SMTPUTF8")
	from, needs8, ok := wirePath(env.From, able)
	switch {
	case !ok:
		t.rest(failed(mail.CodeBadMailbox, mail.Enhanced{5, 1, 7}, "the sender's address cannot be sent"))
		return nil
	case !able && (needs8 || env.UTF8 && t.has8(true)):
		t.rest(failed(mail.CodeBadMailbox, mail.Enhanced{5, 6, 7}, s.hop+" does not offer SMTPUTF8, and the sender's address or the header needs it")) // RFC 6531 §3.5
		return nil
	}
	if s.strict8 && !s.has("8BITMIME") && t.has8(false) { // RFC 6152 §3
		t.rest(failed(mail.CodeFailed, mail.Enhanced{5, 6, 3}, "the message holds octets beyond ASCII, and "+s.hop+" does not offer 8BITMIME"))
		return nil
	}
	smtputf8 := able && (env.UTF8 || needs8)
	var rcpts []string
	for i, n := range t.m.rcpts {
		to := &env.To[n]
		path, needs8, ok := wirePath(to.Address, able)
		switch {
		case !ok:
			t.set(i, failed(mail.CodeBadMailbox, mail.Enhanced{5, 1, 3}, "the address cannot be sent"))
		case needs8 && !able:
			t.set(i, failed(mail.CodeBadMailbox, mail.Enhanced{5, 6, 7}, s.hop+" does not offer SMTPUTF8, and the address needs it"))
		default:
			smtputf8 = smtputf8 || needs8
			t.live = append(t.live, i)
			rcpts = append(rcpts, path)
		}
	}
	commands := make([]string, 0, len(rcpts)+2)
	commands = append(commands, s.mailCommand(env, size, from, smtputf8))
	for k, path := range rcpts {
		commands = append(commands, s.rcptCommand(&env.To[t.m.rcpts[t.live[k]]], path, smtputf8))
	}
	if t.chunks = s.has("CHUNKING") && !s.plain; t.chunks { // RFC 3030 §2
		return commands
	}
	return append(commands, "DATA")
}

// has8 reports whether the message, or its header, holds octets beyond ASCII: a
// client that asks for SMTPUTF8 or 8BITMIME often does not need it, and one that
// needs it often does not ask. When in doubt it does.
func (t *transaction) has8(header bool) bool {
	body, err := t.m.body()
	if err != nil {
		return true
	}
	defer func() { _ = body.Close() }()
	src := io.Reader(body)
	if header {
		src = io.LimitReader(body, 256<<10)
	}
	r := bufio.NewReader(src)
	for {
		line, err := r.ReadSlice('\n')
		for _, c := range line {
			if c >= 0x80 {
				return true
			}
		}
		if header && len(bytes.TrimRight(line, "\r\n")) == 0 && err == nil {
			return false // the empty line: the header is over
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return !errors.Is(err, io.EOF)
		}
	}
}

// envelope sends the commands and takes their replies. It reports whether the
// session is still in step.
func (t *transaction) envelope(commands []string) bool {
	step := 1
	if t.s.has("PIPELINING") { // RFC 2920
		step = flight
	}
	for at := 0; at < len(commands); at += step {
		group := commands[at:min(at+step, len(commands))]
		// The peer has answered everything so far: what is hopeless is not sent.
		if at > 0 && !t.mail || at == len(t.live)+1 && len(t.accepted) == 0 {
			return true
		}
		for _, c := range group {
			t.s.line(c)
		}
		if err := t.s.flush(verb(group[0])); err != nil {
			t.stale = at == 0
			return t.lost(err)
		}
		for k, c := range group {
			wait := t.s.t.Command
			if c == "DATA" {
				wait = t.s.t.Data
			}
			r, err := t.s.read(verb(c), wait)
			if err != nil {
				t.stale = at+k == 0
				return t.lost(err)
			}
			if !t.take(at+k, r) {
				t.stale = at+k == 0 && (r.code == mail.CodeShutdown || r.code == mail.CodeBadSequence)
				return false
			}
		}
	}
	return true
}

// take is the meaning of the reply to command number k. It reports false
// when the connection is of no further use.
func (t *transaction) take(k int, r reply) bool {
	got := t.result(r)
	if r.code == mail.CodeShutdown { // RFC 5321 §3.8: it closes now
		t.down = true
		t.elsewhere(got)
		return false
	}
	switch {
	case k == 0: // MAIL
		t.mail = r.ok()
		if !t.mail {
			if r.code.Temporary() {
				t.elsewhere(got)
			}
			t.rest(got)
			return r.code != mail.CodeBadSequence
		}
	case k <= len(t.live): // RCPT
		i := t.live[k-1]
		switch {
		case !t.mail:
		case r.ok():
			t.accepted = append(t.accepted, i)
		case r.code == mail.CodeTooLarge && len(t.accepted) > 0 && got.Status.Enhanced == (mail.Enhanced{}):
			got.Outcome = mail.Deferred // RFC 5321 §4.5.3.1.10: an old way to say 'too many recipients'
			t.set(i, got)
		default:
			t.set(i, got)
		}
	default: // DATA
		t.data = r.code == mail.CodeStartData
		t.asked = t.data
		if !t.data {
			for _, i := range t.accepted {
				t.set(i, got)
			}
		}
	}
	return true
}

// content sends the body and the dot, and takes the final reply.
func (t *transaction) content(body io.Reader) {
	s := t.s
	_, _ = s.w.WriteString(t.m.seal.fields()) // an error sticks to the writer
	err := writeBody(s.w, s.reading(body))
	s.reading(nil)
	if errors.Is(err, errBody) {
		// No dot: the peer must not take half a message for a whole one.
		t.broken = true
		t.rest(mail.Result{Status: statusLocal(), Cause: s.fault("sending the body", err).Error()})
		return
	}
	if err == nil {
		s.line(".")
		err = s.w.Flush()
	}
	if err != nil {
		t.lost(t.lastWords(s.fault("sending the body", err)))
		return
	}
	s.linger()
	r, err := readReply(s.r)
	if err != nil {
		t.lost(s.fault("waiting for the reply to the message", err))
		return
	}
	t.end(r)
}

// end is the reply to the message.
func (t *transaction) end(r reply) {
	got := t.result(r)
	if t.chunks && unable(r.code) {
		t.unable, got.Outcome = true, mail.Deferred // next time by DATA
	}
	t.clean = r.ok() && t.s.r.Buffered() == 0
	if t.clean {
		t.s.used++
	}
	t.rest(got)
}

// lastWords looks for what a peer said before it stopped reading the body. A
// refusal counts, as the message cannot have been taken; anything else is
// only told to the operator.
func (t *transaction) lastWords(err error) error {
	t.s.within(t.s.t.Quit)
	r, none := readReply(t.s.r)
	if none != nil {
		return err
	}
	if got := t.result(r); r.code.Permanent() || r.code.Temporary() {
		got.Cause = err.Error()
		t.rest(got)
	}
	return fmt.Errorf("%w (it had said %s)", err, strconv.Quote(r.status().String()))
}

// result is what a reply means for a recipient. RFC 5321 §4.2.1; a reply of a
// class that makes no sense here is not understood, so temporary.
func (t *transaction) result(r reply) mail.Result {
	res := mail.Result{Status: r.status(), RemoteMTA: t.s.hop, TLS: t.s.secured()}
	switch {
	case r.ok() && t.data:
		res.Outcome, res.DSN = mail.Delivered, t.s.has("DSN")
	case r.code.Permanent():
		res.Outcome = mail.Failed
	}
	if res.Outcome != mail.Delivered {
		res.Cause = t.s.peer + ": " + res.Status.String()
	}
	return res
}

// lost gives everyone without an outcome that of a broken connection.
func (t *transaction) lost(err error) bool {
	t.broken = true
	got := mail.Result{Status: statusLost(t.s.hop, err), Cause: err.Error()}
	if !t.asked { // nobody has the message
		t.down = true
		t.elsewhere(got)
	}
	t.rest(got)
	return false
}

// elsewhere gives r to everyone without an outcome, unless another next hop
// has a better one: RFC 5321 §5.1.
func (t *transaction) elsewhere(r mail.Result) {
	for i, done := range t.done {
		if !done {
			t.left = append(t.left, i)
		}
	}
	t.rest(r)
}

// set gives one recipient its outcome; the first one given stands.
func (t *transaction) set(i int, r mail.Result) {
	if !t.done[i] {
		t.done[i] = true
		r.TLS = t.s.secured()
		t.res[i] = r
	}
}

// rest gives r to everyone without an outcome.
func (t *transaction) rest(r mail.Result) {
	for i := range t.res {
		t.set(i, r)
	}
}

// verb names a command in an error.
func verb(cmd string) string { return cmd[:4] }
