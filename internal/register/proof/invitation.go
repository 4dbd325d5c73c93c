package proof

import (
	"net/netip"
	"time"
)

// An Invitation is a token as it is handed to a department: which machine sends
// a message to which address, through which relay, and until when.
type Invitation struct {
	Addr       netip.Addr `json:"ip"`
	Request    int        `json:"request,omitempty"` // the number of the pull request; 0: none
	Expires    time.Time  `json:"expires"`
	To         string     `json:"to"`                   // prove+TOKEN@ the relay's host name
	Server     string     `json:"server"`               // the relay's host name
	Relay      int        `json:"relay,omitempty"`      // its port without encryption; 0: none
	Submission int        `json:"submission,omitempty"` // its port with STARTTLS; 0: none
}
