package daemon

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/confirm"
	"example.edu/gatepost/internal/register/reconcile"
	"example.edu/gatepost/internal/relay/deliver"
	"example.edu/gatepost/internal/relay/queue"
	"example.edu/gatepost/internal/relay/spool"
)

// The steps of the durable order that the spool does not see itself. Each name
// says what has just been done, or, with "before", what comes next.
const (
	stepOpened = "opened" // the state is read, and nothing runs yet

	stepStored   = "stored"     // a client's message is on the disk, and nobody knows
	stepQueued   = "queued"     // the queue knows
	stepBefore   = "before-250" // the reply is made
	stepSaid     = "after-250"  // … and with the kernel
	stepAttempt  = "attempt"    // a worker has the message
	stepDot      = "before-dot" // the next hop has all but the last octets
	stepDotted   = "after-dot"  // … those as well
	stepAnswered = "dot-answered"
	stepResult   = "result"   // the attempt is over, and not recorded
	stepRecorded = "recorded" // … in the engine's memory, or on the disk
	stepDSN      = "before-dsn"
	stepDSNed    = "after-dsn"

	stepLetter   = "before-confirmation"
	stepLettered = "after-confirmation"
	stepMark     = "before-keys"
	stepMarked   = "after-keys"

	stepRegister   = "before-last-good"
	stepRegistered = "after-last-good"
	stepAnnounce   = "before-announced"
	stepAnnounced  = "after-announced"
)

// Steps lists every name that Options.Step is called with, the spool's first.
func Steps() []string {
	return append(spool.Steps(), stepOpened, stepStored, stepQueued, stepBefore, stepSaid, stepAttempt, stepDot, stepDotted, stepAnswered,
		stepResult, stepRecorded, stepDSN, stepDSNed, stepLetter, stepLettered, stepMark, stepMarked,
		stepRegister, stepRegistered, stepAnnounce, stepAnnounced)
}

// A stepper is told of each step; nil, as in every relay at work, is told of
// none, and then nothing is put between the parts either.
type stepper func(name string)

func (f stepper) pass(name string) {
	if f != nil {
		f(name)
	}
}

// listener has the replies to messages told.
func (f stepper) listener(ln net.Listener) net.Listener {
	if f == nil {
		return ln
	}
	return steppedListener{ln, f}
}

type steppedListener struct {
	net.Listener
	step stepper
}

func (l steppedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return replying{conn, l.step}, nil
}

// A replying is a client's connection, as long as it is in clear text.
type replying struct {
	net.Conn
	step stepper
}

func (c replying) Write(p []byte) (int, error) {
	if !bytes.Contains(p, []byte(" accepted as ")) {
		return c.Conn.Write(p)
	}
	c.step(stepBefore)
	n, err := c.Conn.Write(p)
	c.step(stepSaid)
	return n, err
}

// dialer has the ends of messages told that go out in clear text; nil is the
// courier's own.
func (f stepper) dialer(d deliver.Dialer) deliver.Dialer {
	if f == nil {
		return d
	}
	if d == nil {
		d = &net.Dialer{}
	}
	return steppedDialer{d, f}
}

type steppedDialer struct {
	deliver.Dialer
	step stepper
}

func (d steppedDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &dotting{Conn: conn, step: d.step}, nil
}

// A dotting is a connection to a next hop. One goroutine writes and reads it.
type dotting struct {
	net.Conn
	step   stepper
	tail   []byte // the last octets that were written
	dotted bool   // the final dot was written, and no reply read since
}

func (c *dotting) Write(p []byte) (int, error) {
	const dot = "\r\n.\r\n"
	c.tail = append(c.tail, p[max(0, len(p)-len(dot)):]...)
	c.tail = c.tail[max(0, len(c.tail)-len(dot)):]
	last := string(c.tail) == dot
	if last {
		c.step(stepDot)
	}
	n, err := c.Conn.Write(p)
	if last {
		c.step(stepDotted)
		c.dotted = true
	}
	return n, err
}

func (c *dotting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.dotted && n > 0 {
		c.dotted = false
		c.step(stepAnswered)
	}
	return n, err
}

// courier has attempts told.
func (f stepper) courier(c queue.Courier) queue.Courier {
	if f == nil {
		return c
	}
	return steppedCourier{c, f}
}

type steppedCourier struct {
	queue.Courier
	step stepper
}

func (c steppedCourier) Deliver(ctx context.Context, e *spool.Entry, body func() (io.ReadCloser, error), rcpts []int) []mail.Result {
	c.step(stepAttempt)
	results := c.Courier.Deliver(ctx, e, body, rcpts)
	c.step(stepResult)
	return results
}

// store has what the queue records told.
func (f stepper) store(s *spool.Spool) queue.Store {
	if f == nil {
		return s
	}
	return steppedStore{s, f}
}

type steppedStore struct {
	*spool.Spool
	step stepper
}

func (s steppedStore) Update(e *spool.Entry) error {
	err := s.Spool.Update(e)
	s.step(stepRecorded)
	return err
}

func (s steppedStore) Remove(id spool.ID) error {
	err := s.Spool.Remove(id)
	s.step(stepRecorded)
	return err
}

func (s steppedStore) Notify(ctx context.Context, dsn mail.Envelope, body []byte, about *spool.Entry) (*spool.Entry, error) {
	s.step(stepDSN)
	e, err := s.Spool.Notify(ctx, dsn, body, about)
	s.step(stepDSNed)
	return e, err
}

// outbox has confirmations told.
func (f stepper) outbox(o confirm.Outbox) confirm.Outbox {
	if f == nil {
		return o
	}
	return steppedOutbox{o, f}
}

type steppedOutbox struct {
	confirm.Outbox
	step stepper
}

func (o steppedOutbox) Send(ctx context.Context, key string, env mail.Envelope, body []byte) error {
	o.step(stepLetter)
	err := o.Outbox.Send(ctx, key, env, body)
	o.step(stepLettered)
	return err
}

// ledger has the keys of confirmations told.
func (f stepper) ledger(l confirm.Ledger) confirm.Ledger {
	if f == nil {
		return l
	}
	return steppedLedger{l, f}
}

type steppedLedger struct {
	confirm.Ledger
	step stepper
}

func (l steppedLedger) Mark(keys ...string) error {
	l.step(stepMark)
	err := l.Ledger.Mark(keys...)
	l.step(stepMarked)
	return err
}

// disk has the files of the register told; nil is the disk itself.
func (f stepper) disk() reconcile.Disk {
	if f == nil {
		return nil
	}
	return steppedDisk{reconcile.Durable(), f}
}

type steppedDisk struct {
	reconcile.Disk
	step stepper
}

func (d steppedDisk) WriteFile(path string, pieces ...[]byte) error {
	before, after := stepRegister, stepRegistered
	if filepath.Ext(path) == ".announced" {
		before, after = stepAnnounce, stepAnnounced
	}
	d.step(before)
	err := d.Disk.WriteFile(path, pieces...)
	d.step(after)
	return err
}
