package mail

import "fmt"

// A Code is an SMTP reply code. Each is named once, here. RFC 5321 §4.2.3
// unless another RFC is given.
type Code int

// The reply codes that the relay gives or acts upon.
const (
	CodeHelp             Code = 214
	CodeReady            Code = 220
	CodeBye              Code = 221
	CodeOK               Code = 250
	CodeCannotVerify     Code = 252
	CodeStartData        Code = 354
	CodeShutdown         Code = 421 // also: no register yet, draining, too many sessions
	CodeLocalError       Code = 451
	CodeNoStorage        Code = 452 // insufficient storage, too many recipients
	CodeTLSFailed        Code = 454 // RFC 3207 §4
	CodeSyntax           Code = 500
	CodeParamSyntax      Code = 501
	CodeNotImplemented   Code = 502
	CodeBadSequence      Code = 503
	CodeParamUnsupported Code = 504
	CodeMustStartTLS     Code = 530 // RFC 3207 §4
	CodeRefused          Code = 550 // policy: not registered, expired, not yours to send as
	CodeTooLarge         Code = 552
	CodeBadMailbox       Code = 553
	CodeFailed           Code = 554 // transaction failed; as a greeting: no service for you
	CodeUnknownParam     Code = 555
)

// Temporary reports whether c asks the sender to try again.
func (c Code) Temporary() bool { return c >= 400 && c < 500 }

// Permanent reports whether c tells the sender to give up.
func (c Code) Permanent() bool { return c >= 500 && c < 600 }

// An Enhanced is an enhanced status code, class.subject.detail. RFC 3463. The
// zero value means none was given.
type Enhanced [3]int

// String is "5.7.1".
func (e Enhanced) String() string { return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2]) }

// A Status is one SMTP reply: what a peer is told, or told us.
type Status struct {
	Code     Code     `json:"code"`
	Enhanced Enhanced `json:"enhanced"`
	Text     string   `json:"text"` // printable, without line ends; the lines of a multi-line reply joined by spaces, bounded by the reader
}

// String is "550 5.7.1 text".
func (s Status) String() string {
	if s.Enhanced == (Enhanced{}) {
		return fmt.Sprintf("%d %s", s.Code, s.Text)
	}
	return fmt.Sprintf("%d %s %s", s.Code, s.Enhanced, s.Text)
}
