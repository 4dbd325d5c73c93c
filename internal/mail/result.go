package mail

import "time"

// An Outcome is what one attempt came to for one recipient. The zero value is
// Deferred: what is unknown is temporary.
type Outcome uint8

// The outcomes.
const (
	Deferred  Outcome = iota // try again later
	Delivered                // the next hop answered 2xx to the end of the data: its responsibility now
	Failed                   // permanently refused; a DSN is due
)

// String is the word used in logs, metrics and JSON.
func (o Outcome) String() string {
	return [...]string{"deferred", "delivered", "failed"}[o]
}

// MarshalText writes the word of String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads the word of String; an unknown word is Deferred.
func (o *Outcome) UnmarshalText(text []byte) error {
	switch string(text) {
	case "delivered":
		*o = Delivered
	case "failed":
		*o = Failed
	default:
		*o = Deferred
	}
	return nil
}

// A Result is the outcome for one recipient of one attempt: everything that a
// retry, a DSN and a log line need. It is a value, not an error.
type Result struct {
	Outcome   Outcome   `json:"outcome"`
	Status    Status    `json:"status"`              // the next hop's reply, or one of ours where there was none
	RemoteMTA string    `json:"remoteMTA,omitempty"` // name of the next hop that Status is from; "" if none was reached
	Cause     string    `json:"cause,omitempty"`     // for the operator only, never for a peer: the network error, the step
	TLS       string    `json:"tls,omitempty"`       // TLS version of the attempt, and what was verified: "TLS 1.3, dane"; "" for clear text
	DSN       bool      `json:"dsn,omitempty"`       // Delivered, and the next hop was told NOTIFY: success is its to report (RFC 3461 §5.2.1)
	At        time.Time `json:"at"`
}
