package policy

import (
	"strings"

	"example.edu/gatepost/internal/mail"
)

// A Refusal is the reason why the register does not let a client send. It is a
// value for programs, and a closed set fit for a metric label; what the client
// is told is worded in smtpd.
type Refusal string

// The reasons.
const (
	Admitted            Refusal = ""             // no refusal
	RefusedNoRegister   Refusal = "no-register"  // nothing is known yet: a temporary answer, never a 5xx
	RefusedOffCampus    Refusal = "off-campus"   //
	RefusedBlocked      Refusal = "blocked"      //
	RefusedUnregistered Refusal = "unregistered" //
	RefusedExpired      Refusal = "expired"      //
	RefusedSender       Refusal = "sender"       // the registration does not allow this envelope sender
)

// Admit says whether the client may send with the reverse-path from, and why
// not. The null reverse-path is always allowed to a registered client: a
// machine must be able to send its own bounces (RFC 5321 §4.5.5).
//
// Senders match without regard to case: "*@domain" matches any local part at
// exactly that domain, not below it; "user@domain" matches that mailbox.
func (v Verdict) Admit(from mail.Address) Refusal {
	switch v.Standing {
	case Registered:
	case Expired:
		return RefusedExpired
	case Unregistered:
		return RefusedUnregistered
	case Blocked:
		return RefusedBlocked
	case OffCampus:
		return RefusedOffCampus
	default: // unknown means temporary
		return RefusedNoRegister
	}
	senders := v.Registration.Senders
	if len(senders) == 0 || from.IsNull() {
		return Admitted
	}
	for _, s := range senders {
		at := strings.LastIndexByte(s, '@')
		if at < 0 || !strings.EqualFold(s[at+1:], from.Domain) {
			continue
		}
		if local := s[:at]; local == "*" || strings.EqualFold(local, from.Local) {
			return Admitted
		}
	}
	return RefusedSender
}
