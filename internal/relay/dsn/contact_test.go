package dsn

import (
	"bytes"
	"strings"
	"testing"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

const message = header // with its body, all of it

// TestReturnedInFull: what RET=FULL asked for comes back octet for octet, if
// its path can take it.
func TestReturnedInFull(t *testing.T) {
	short := func(body string) string { return "Subject: Scan 17\r\n\r\n" + body }
	for _, c := range []struct {
		name    string
		ret     string
		kind    Kind
		part    bool // the message was not given in full
		message string
		want    bool
	}{
		{name: "asked for", ret: "FULL", message: message, want: true},
		{name: "not asked for", message: message},
		{name: "the header asked for", ret: "HDRS", message: message},
		{name: "not there in full", ret: "FULL", part: true, message: message},
		{name: "a delay", ret: "FULL", kind: Delay, message: message},
		{name: "the longest", ret: "FULL", message: short(strings.Repeat(strings.Repeat("x", 62)+"\r\n", MaxReturned/64)[20:]), want: true},
		{name: "longer", ret: "FULL", message: short(strings.Repeat(strings.Repeat("x", 62)+"\r\n", MaxReturned/64))},
		{name: "a long line", ret: "FULL", message: short(strings.Repeat("x", 999) + "\r\n")},
		{name: "beyond ASCII", ret: "FULL", message: short("Prüfung\r\n")},
		{name: "a control character", ret: "FULL", message: short("\x1b[31m\r\n")},
		{name: "a bare LF", ret: "FULL", message: short("a\nb\r\n")},
		{name: "no last line end", ret: "FULL", message: short("a")},
		{name: "nothing", ret: "FULL"},
		{name: "boundaries", ret: "FULL", message: short("--=_01JDQ4T9ZK_failure--\r\n\r\n--=_01JDQ4T9ZK_failure_1\r\n"), want: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, o := entry(), options()
			e.Envelope.Ret, o.Whole = c.ret, !c.part
			_, msg, ok := Compose(o, c.kind, e, []int{0}, []byte(c.message))
			if !ok {
				t.Fatal("nothing composed")
			}
			_, text, _, original := wellFormed(t, msg)
			full := bytes.Contains(msg, []byte("\r\nContent-Type: message/rfc822\r\n\r\n"+c.message)) && c.message != ""
			if full != c.want || full != bytes.Equal(original, []byte(c.message)) && c.message != "" {
				t.Errorf("returned in full: %v; %q", full, original)
			}
			if strings.Contains(text, "The message is attached.") != c.want || strings.Contains(strings.Join(strings.Fields(text), " "), "although it was asked for") != (c.ret == "FULL" && c.kind == Failure && !c.want) {
				t.Errorf("the text says otherwise:\n%s", text)
			}
		})
	}
}

// TestTheContactIsToldOnce: where there is no sender, and where the sender does
// not take the report; and then nobody.
func TestTheContactIsToldOnce(t *testing.T) {
	contact, o := address("physics-it@umich.edu"), options()
	o.Stead, o.Whole = address(o.Postmaster), true
	asEntry := func(env mail.Envelope) *spool.Entry { // as a relay finds it when it has failed
		return &spool.Entry{ID: "01JDQ4TAAA", Envelope: env, State: []state{{Last: mail.Result{
			Outcome: mail.Failed, Status: mail.Status{Code: 550, Enhanced: mail.Enhanced{5, 1, 2}, Text: "no such domain"}, At: o.Now}}}}
	}
	compose := func(t *testing.T, o Options, e *spool.Entry, body []byte) (mail.Envelope, []byte) {
		t.Helper()
		env, msg, ok := Compose(o, Failure, e, []int{0}, body)
		if !ok {
			t.Fatal("nothing composed")
		}
		wellFormed(t, msg)
		return env, msg
	}
	ends := func(t *testing.T, env mail.Envelope) {
		t.Helper()
		if !env.From.IsNull() || !env.Contact.IsNull() || env.Client.IsValid() {
			t.Errorf("the envelope %+v could cause another one", env)
		}
		o := o
		o.Stead = mail.Address{} // as for all mail of the relay's own
		if _, _, ok := Compose(o, Failure, asEntry(env), []int{0}, nil); ok {
			t.Error("a notice of a notice")
		}
	}
	t.Run("no sender", func(t *testing.T) {
		e := entry()
		e.Envelope.From, e.Envelope.Contact = mail.Address{}, contact
		env, msg := compose(t, o, e, []byte(message))
		if len(env.To) != 1 || env.To[0].Address != contact {
			t.Errorf("%+v", env)
		}
		ends(t, env)
		golden(t, "contact-no-sender", msg)
		for _, kind := range []Kind{Delay, Relayed} {
			e.Envelope.To[0].Notify = "SUCCESS,DELAY"
			if _, _, ok := Compose(o, kind, e, []int{0}, nil); ok {
				t.Errorf("%s is told to the contact", kind)
			}
		}
	})
	t.Run("a sender that takes nothing", func(t *testing.T) {
		e := entry()
		e.Envelope.Contact = contact
		env, report := compose(t, o, e, []byte(message))
		if env.To[0].Address != e.Envelope.From || env.Contact != contact {
			t.Fatalf("%+v", env)
		}
		o := o
		o.Stead = mail.Address{}
		env, msg := compose(t, o, asEntry(env), report)
		if env.To[0].Address != contact || !bytes.Contains(msg, report) {
			t.Errorf("%+v\n%s", env, msg)
		}
		ends(t, env)
		golden(t, "contact-report-failed", msg)
	})
	t.Run("a sender that is the contact", func(t *testing.T) {
		e := entry()
		e.Envelope.From, e.Envelope.Contact = contact, contact
		env, _ := compose(t, o, e, []byte(message))
		ends(t, env)
	})
	t.Run("a delay is no failure", func(t *testing.T) {
		e := entry()
		e.Envelope.Contact = contact
		env, _, ok := Compose(o, Delay, e, []int{2}, nil)
		if !ok || !env.Contact.IsNull() {
			t.Errorf("%v %+v", ok, env)
		}
	})
}
