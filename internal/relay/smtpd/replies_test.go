package smtpd

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/proof"
	"example.edu/gatepost/internal/register/registration"
)

// What a refusal has to name, beside the reason.
type duty uint8

const (
	plainly   duty = iota // nothing more: how it is said right, or that it is tried again, is in the text
	theClient             // the client's address, and where its owner mends it
	aPerson               // whom to write to
)

// longest are the replies with the longest values that can come into them, by
// the function that makes them. Each function of replies.go is here.
func longest(s *Server) map[string]struct {
	duty    duty
	replies []reply
} {
	addr := longestAddr
	label := strings.Repeat("d", 63) + "."
	domain := strings.Repeat(label, 2) + strings.Repeat("d", 60)
	from := mail.Address{Local: strings.Repeat(`"`, 64), Domain: domain} // quoting doubles it
	v := policy.Verdict{Addr: addr, Registration: &registration.Registration{
		Path: "registrations/" + strings.Repeat("directory/", 30) + "mfp.cue", Expires: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)},
		Block: &registration.Block{Path: "registrations/blocks/" + strings.Repeat("b", 251) + ".cue"}}
	local := v
	local.Block = &registration.Block{Since: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	gone := v
	gone.Standing, gone.Registration = policy.Expired, nil
	expired := v
	expired.Standing = policy.Expired
	over := Over{Limit: "1000000 messages of one machine per minute", Whose: "someone else", RoomIn: 23*time.Hour + 59*time.Minute, RoomAt: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	const most = 1 << 62
	why := strings.Repeat("many and many recipients ", 100)
	type r = struct {
		duty    duty
		replies []reply
	}
	of := func(d duty, replies ...reply) r { return r{d, replies} }
	return map[string]r{
		"sayHello":             of(plainly, s.sayHello()),
		"sayBlocked":           of(aPerson, s.sayBlocked(v), s.sayBlocked(local), s.sayBlocked(policy.Verdict{Addr: addr})),
		"sayOffCampus":         of(aPerson, s.sayOffCampus(addr)),
		"sayNoRegister":        of(plainly, s.sayNoRegister()),
		"sayFull":              of(plainly, s.sayFull()),
		"sayCrowded":           of(plainly, s.sayCrowded(v, fullAddress), s.sayCrowded(v, fullRegistration), s.sayCrowded(v, fullRelay)),
		"sayStrangerOver":      of(theClient, s.sayStrangerOver(gone, over), s.sayStrangerOver(policy.Verdict{Addr: addr, Standing: policy.Unregistered}, over)),
		"sayNoProxy":           of(aPerson, s.sayNoProxy()),
		"sayCheck":             of(aPerson, s.sayCheck(addr)),
		"sayUnregistered":      of(theClient, s.sayUnregistered(addr)),
		"sayExpired":           of(theClient, s.sayExpired(expired), s.sayExpired(gone)),
		"saySender":            of(theClient, s.saySender(v, from)),
		"sayBraked":            of(aPerson, s.sayBraked(v, Braked{Blocked: true, Why: why}), s.sayBraked(v, Braked{Every: over.RoomIn, Why: why, Until: over.RoomAt}), s.sayBraked(gone, Braked{Why: why})),
		"sayOverLimit":         of(theClient, s.sayOverLimit(v, over, true), s.sayOverLimit(v, over, false), s.sayOverLimit(gone, over, false)),
		"sayBadToken":          of(theClient, s.sayBadToken(addr)),
		"sayTokenExpired":      of(theClient, s.sayTokenExpired(addr, time.Now())),
		"sayProofAlone":        of(plainly, sayProofAlone()),
		"sayBye":               of(plainly, sayBye()),
		"sayOK":                of(plainly, sayOK("forgotten")),
		"saySenderOK":          of(plainly, saySenderOK(from)),
		"sayRecipientOK":       of(plainly, sayRecipientOK(from)),
		"sayGoAhead":           of(plainly, sayGoAhead()),
		"sayChunk":             of(plainly, sayChunk(most)),
		"sayAccepted":          of(plainly, sayAccepted(strings.Repeat("q", 26))),
		"sayProved":            of(plainly, sayProved(proof.Claim{Addr: addr, Request: proof.MaxRequest})),
		"sayVRFY":              of(plainly, sayVRFY()),
		"sayHelp":              of(aPerson, s.sayHelp()),
		"sayReadyTLS":          of(plainly, sayReadyTLS()),
		"sayUnknownCommand":    of(plainly, sayUnknownCommand()),
		"sayNotImplemented":    of(plainly, sayNotImplemented("EXPN")),
		"sayNoAuth":            of(plainly, sayNoAuth()),
		"sayControl":           of(plainly, sayControl()),
		"sayLongCommand":       of(plainly, sayLongCommand()),
		"sayArguments":         of(plainly, sayArguments("MAIL FROM:<user@example.org>")),
		"sayUnknownParam":      of(plainly, sayUnknownParam(strings.Repeat("X", maxCommand))),
		"sayTwice":             of(plainly, sayTwice(strings.Repeat("X", maxCommand))),
		"sayBadParam":          of(plainly, sayBadParam("ORCPT")),
		"sayHelloFirst":        of(theClient, s.sayHelloFirst(addr)),
		"saySloppy":            of(theClient, s.saySloppy(addr, "MAIL FROM:<user@example.org>")),
		"sayMailFirst":         of(plainly, sayMailFirst()),
		"sayRcptFirst":         of(plainly, sayRcptFirst()),
		"sayNested":            of(plainly, sayNested()),
		"sayInChunks":          of(plainly, sayInChunks()),
		"sayBadSender":         of(plainly, sayBadSender()),
		"sayBadRecipient":      of(plainly, sayBadRecipient()),
		"sayNeedUTF8":          of(plainly, sayNeedUTF8()),
		"sayTooManyRecipients": of(plainly, sayTooManyRecipients(1<<31)),
		"sayTLSFirst":          of(plainly, s.sayTLSFirst()),
		"sayTLSAtOnce":         of(plainly, sayTLSAtOnce()),
		"sayNoTLS":             of(plainly, sayNoTLS()),
		"sayHiddenTLS":         of(theClient, s.sayHiddenTLS(addr)),
		"sayFailedTLS":         of(theClient, s.sayFailedTLS(addr, strings.Repeat("tls: client offered only unsupported versions: [302 301] ", 100), false)),
		"sayAlreadyTLS":        of(plainly, sayAlreadyTLS()),
		"sayRequireTLSClear":   of(plainly, sayRequireTLSClear()),
		"sayBareLF":            of(theClient, s.sayBareLF(addr)),
		"sayLFDot":             of(plainly, sayLFDot(addr)),
		"sayBareCR":            of(plainly, sayBareCR()),
		"sayNUL":               of(plainly, sayNUL()),
		"sayLongLine":          of(plainly, sayLongLine(most)),
		"sayTooLarge":          of(plainly, sayTooLarge(most)),
		"sayHeaderTooLarge":    of(plainly, sayHeaderTooLarge(most)),
		"sayLoop":              of(plainly, sayLoop(most)),
		"sayBulk":              of(aPerson, s.sayBulk(addr, "List-Unsubscribe")),
		"sayBadChunk":          of(plainly, sayBadChunk()),
		"sayNoSpace":           of(plainly, sayNoSpace()),
		"sayNoMemory":          of(plainly, sayNoMemory()),
		"sayStoreFailed":       of(plainly, sayStoreFailed()),
		"sayTimeout":           of(plainly, sayTimeout()),
		"saySlow":              of(plainly, saySlow()),
		"sayDrain":             of(plainly, sayDrain()),
		"sayTooManyErrors":     of(aPerson, s.sayTooManyErrors()),
		"sayTooIdle":           of(plainly, sayTooIdle()),
		"sayInternal":          of(plainly, sayInternal()),
	}
}

var longestAddr = netip.MustParseAddr("2607:f018:1111:2222:3333:4444:5555:6666")

// wordyServer has the longest names that a configuration may have.
func wordyServer(portal bool) *Server {
	label := strings.Repeat("d", 62) + "."
	s := &Server{hostname: strings.Repeat(label, 3) + strings.Repeat("e", 60),
		postmaster: strings.Repeat("p", 64) + "@" + strings.Repeat(label, 2) + strings.Repeat("e", 63), limits: Limits{}.withDefaults()}
	if portal {
		s.portal = "https://" + strings.Repeat("w", 192)
	}
	return s
}

// TestEveryReplyFitsAndTeaches walks all of replies.go.
func TestEveryReplyFitsAndTeaches(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "replies.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	said := longest(wordyServer(true))
	for _, d := range file.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "say") {
			if _, ok := said[fn.Name.Name]; !ok {
				t.Errorf("%s is not walked", fn.Name.Name)
			}
		}
	}
	start := regexp.MustCompile(`^[2-5]\d\d[ -]`)
	for _, portal := range []bool{true, false} {
		s := wordyServer(portal)
		where := "write to " + s.postmaster
		if portal {
			where = s.portal + "/register?ip=" + longestAddr.String()
		}
		for name, made := range longest(s) {
			for _, r := range made.replies {
				var b bytes.Buffer
				r.appendTo(&b)
				lines := strings.SplitAfter(strings.TrimSuffix(b.String(), "\r\n"), "\r\n")
				whole := ""
				for _, l := range lines {
					if l = strings.TrimSuffix(l, "\r\n"); len(l)+2 > maxReplyLine || !start.MatchString(l) || strings.ContainsFunc(l, func(c rune) bool { return c < ' ' || c > '~' }) {
						t.Errorf("%s: a line of %d octets: %q", name, len(l), l)
					}
					if r.enh != (mail.Enhanced{}) && !strings.HasPrefix(l[4:], r.enh.String()+" ") {
						t.Errorf("%s: a line without its enhanced code: %q", name, l)
					}
					_, text, _ := strings.Cut(l[4:], " ")
					whole += " " + text
				}
				switch {
				case len(lines) > 2:
					t.Errorf("%s has %d lines", name, len(lines))
				case r.refusal() && (r.word == "" || r.enh == (mail.Enhanced{}) || int(r.code)/100 != int(r.enh[0])):
					t.Errorf("%s: code %d, enhanced code %s, word %q", name, r.code, r.enh, r.word)
				case strings.HasSuffix(whole, "..."):
					t.Errorf("%s does not fit: %q", name, whole)
				case made.duty == theClient && (!strings.Contains(whole, longestAddr.String()) || !strings.Contains(whole, where)):
					t.Errorf("%s does not say of whom, or where it is mended: %q", name, whole)
				case made.duty == aPerson && !strings.Contains(whole, s.postmaster):
					t.Errorf("%s does not say whom to write to: %q", name, whole)
				}
			}
		}
	}
}
