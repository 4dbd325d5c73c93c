package smtpd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"example.edu/gatepost/internal/register/policy"
)

// facts are what go-smtp v0.25.1 does that this relay must not, and the tests
// that would show it: a function of this package, or a dialog. Whoever takes a
// newer version of the library runs these.
var facts = []struct {
	library string // what it does
	tests   []string
}{
	{"its backend first runs at EHLO", []string{"TestFactTheGateComesBeforeAnyCommand"}},
	{"after a time-out inside DATA the rest of the body is parsed as commands", []string{"TestFactAfterAStallInABodyTheRestIsNotParsedAsCommands"}},
	{"what follows an oversize BDAT number is parsed as commands", []string{"fact-bdat-size-beyond-all-bounds-closes.dialog"}},
	{"a chunk that breaks off is taken for a whole one", []string{"TestABodyThatBreaksOffIsNotKept", "fact-bdat-too-large-is-skipped.dialog"}},
	{"the read deadline covers the whole DATA phase and never moves", []string{"TestFactTheDataDeadlineMovesWithProgress", "TestABodyBelowTheMinimumRateIsCutOff"}},
	{"a line that is not whole is a command when the deadline passes", []string{"TestFactAPartialCommandLineIsNeverExecuted"}},
	{"a failed STARTTLS handshake goes on in clear text", []string{"TestFactAFailedHandshakeEndsTheConnectionWithoutAWordInTheClear"}},
	{"what is pipelined behind STARTTLS is carried over", []string{"TestFactCommandsPipelinedBehindSTARTTLSAreDropped"}},
	{"CR CR LF and LF-only bodies hang", []string{"TestFactNoOtherEndVariantEndsAMessageOrHangsAClient", "TestAHalfEndHangsNobody"}},
	{"a session that the backend rejects stays open", []string{"TestFactARejectedSessionIsClosed"}},
	{"refused MAIL and RCPT never count as errors", []string{"fact-refused-commands-spend-an-error-budget.dialog", "fact-noop-floods-end.dialog", "TestParametersThatGoSMTPRefusesAreCounted"}},
	{"a second MAIL keeps the first one's recipients", []string{"fact-nested-mail-is-refused.dialog", "fact-order-errors-are-503.dialog"}},
	{"<Postmaster> gets 501", []string{"fact-postmaster-without-a-domain-is-accepted.dialog"}},
	{"quoted local parts arrive unquoted, and a@b@c passes", []string{"fact-quoted-local-parts-stay-quoted.dialog"}},
	{"CR and NUL in commands pass", []string{"fact-cr-and-nul-in-commands-are-refused.dialog", "fact-helo-is-sanitised.dialog"}},
	{"8-bit addresses pass without SMTPUTF8", []string{"fact-8-bit-addresses-need-smtputf8.dialog"}},
	{"REQUIRETLS is accepted in clear text", []string{"fact-requiretls-in-the-clear-is-refused.dialog"}},
	{"2,000 octets of a line are the most, in DATA too", []string{"TestFactALineOf128KiBIsAccepted"}},
	{"the text of an error is sent to the client", []string{"TestFactTheTextOfAnErrorIsNeverSent"}},
	{"the reply to a body can be set by an error of code 250 only", []string{"TestFactTheQueueIDIsInTheReply"}},
	{"a limit of zero means unlimited", []string{"TestFactZeroLimitsAreTheDefaults"}},
	{"Shutdown waits for idle clients and never says 421", []string{"TestFactADrainSays421ToIdleSessionsAndLetsBodiesFinish", "TestDrainCutsABodyAtItsDeadline"}},
	{"each line of a reply is a write of its own", []string{"TestFactRepliesToAPipelineAreOneWrite"}},
	{"MT-PRIORITY and DELIVERBY are parsed on the wrong command", []string{"fact-unknown-parameters-get-555.dialog"}},
}

// TestFactsAreShown: each fact names tests that exist, and each test that is
// named for a fact is listed.
func TestFactsAreShown(t *testing.T) {
	there := map[string]bool{}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				there[fn.Name.Name] = true
			}
		}
	}
	dialogs, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dialogs {
		there[d.Name()] = true
	}
	listed := map[string]bool{"TestFactsAreShown": true, "fact-a-web-browser-is-hung-up-on.dialog": true} // the browser is no fault of the library's
	for _, f := range facts {
		if len(f.tests) == 0 {
			t.Errorf("nothing shows that %s", f.library)
		}
		for _, name := range f.tests {
			listed[name] = true
			if !there[name] {
				t.Errorf("%s: there is no test %s", f.library, name)
			}
		}
	}
	for name := range there {
		if (strings.HasPrefix(name, "TestFact") || strings.HasPrefix(name, "fact-")) && !listed[name] {
			t.Errorf("%s shows none of the facts", name)
		}
	}
}

func TestFactTheGateComesBeforeAnyCommand(t *testing.T) {
	inBubble(t, Limits{}, func(t *testing.T, f *fixture, dial func(string) (*client, *pipeEnd)) {
		for from, want := range map[string]string{"127.0.0.4": "554 5.7.1", "127.0.0.5": "554 5.7.1", "127.0.0.8": "421 4.3.2"} {
			c, end := dial(from) // and sends nothing
			c.want(want)
			c.wantClosed()
			synctest.Wait()
			if n := end.writes.Load(); n != 1 {
				t.Errorf("%s got %d writes", from, n)
			}
		}
	})
}

func TestFactARejectedSessionIsClosed(t *testing.T) {
	f := start(t, quick)
	for _, hello := range []string{"EHLO x", "HELO x"} {
		f.campus.set(strictClient, policy.Registered)
		c := f.dial(t, strictClient, relayPort)
		c.want("220")
		f.campus.set(strictClient, policy.Blocked) // go-smtp would ask its backend only now
		c.do(hello, "554 5.7.1")
		_ = c.trySend("MAIL FROM:<a@example.edu>\r\n")
		c.wantClosed()
	}
}

func TestFactTheQueueIDIsInTheReply(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	c.do(".", "250 2.0.0 accepted as Q1")
	c.transaction()
	c.send("BDAT 2 LAST\r\n\r\n")
	if got := c.reply(); got != "250 2.0.0 accepted as Q2" {
		t.Errorf("got %q", got)
	}
}

func TestFactZeroLimitsAreTheDefaults(t *testing.T) {
	f := newFixture(t, Limits{})
	l := reflect.ValueOf(f.srv.limits)
	for i := range l.NumField() {
		if l.Field(i).Int() <= 0 {
			t.Errorf("%s is unlimited", l.Type().Field(i).Name)
		}
	}
}
