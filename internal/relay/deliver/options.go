package deliver

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Resolver answers what the DNS says. Names are absolute, with the final
// dot, except those of smarthosts, which are as configured. An error that says
// "there is none" is a *net.DNSError with IsNotFound; all others are temporary.
// *net.Resolver is one.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// A Dialer makes TCP connections. *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// A Signer makes the header fields that vouch for a message. It is called from
// many goroutines, once for each attempt that reaches a next hop.
type Signer interface {
	// Sign gives the fields to put before a message, whole lines with CRLF; ""
	// for one that is not signed. write hands the message over as it will be
	// sent, dots aside. An error of write comes back; with any other, the message
	// goes without.
	Sign(write func(io.Writer) error) (fields string, err error)
}

var (
	_ Resolver = (*net.Resolver)(nil)
	_ Dialer   = (*net.Dialer)(nil)
)

// Options of a Courier. Hostname is required, the rest has defaults.
type Options struct {
	Hostname   string   // of this relay: said in EHLO, recognised in MX records
	Smarthosts []string // host, host:port or [address]:port; empty: each domain's own MX
	// Preferences of the smarthosts, one for each, as of MX records: the lowest
	// first, and load is spread over those of the same. Nil: in the order given.
	Preferences []int
	Resolver    Resolver // default: net.DefaultResolver
	Dialer      Dialer   // default: a net.Dialer
	// TLS is used for STARTTLS; its ServerName is replaced by the host's name.
	// The default verifies nothing, as the alternative is clear text
	// (RFC 7435): whoever sets it decides otherwise. A failed handshake is
	// followed by clear text in any case, unless the guard demands TLS.
	TLS    *tls.Config
	Guard  Guard  // default: opportunistic TLS, but for a message that says REQUIRETLS
	Family Family // of addresses of next hops; default: both, IPv6 first
	// Listeners are the addresses that this relay listens on, as net.Listen takes
	// them: it does not connect there.
	Listeners  []string
	Interfaces func() ([]net.Addr, error) // of this machine; default: net.InterfaceAddrs
	Strict8Bit bool                       // an 8-bit message for a next hop without 8BITMIME is returned, not sent as it is
	NoChunking bool                       // never BDAT, whatever a peer offers
	Signer     Signer                     // default: nothing is signed
	Timeouts   Timeouts
	Reuse      Reuse
	Now        func() time.Time // default: time.Now
	Logger     *slog.Logger     // default: none
	Registerer prometheus.Registerer
}

// Timeouts of the steps of one attempt. A zero field takes the default, which
// is that of RFC 5321 §4.5.3.2 where it gives one.
type Timeouts struct {
	Lookup   time.Duration // one DNS question: 30 s
	Guard    time.Duration // finding out what is demanded of a host: 1 min
	Connect  time.Duration // one TCP connection: 30 s
	Greeting time.Duration // the 220: 5 min
	Command  time.Duration // EHLO, STARTTLS, the handshake, MAIL, RCPT: 5 min
	Data     time.Duration // the 354: 2 min
	Block    time.Duration // each 32 KiB of the body: 3 min
	End      time.Duration // the reply to the final dot: 10 min
	Quit     time.Duration // the 221, and the last words of a peer that hung up: 2 s
	Drain    time.Duration // the reply to the final dot, once the context is cancelled: 10 s
}

func (t Timeouts) orDefaults() Timeouts {
	return Timeouts{
		Lookup:   cmp.Or(t.Lookup, 30*time.Second),
		Guard:    cmp.Or(t.Guard, time.Minute),
		Connect:  cmp.Or(t.Connect, 30*time.Second),
		Greeting: cmp.Or(t.Greeting, 5*time.Minute),
		Command:  cmp.Or(t.Command, 5*time.Minute),
		Data:     cmp.Or(t.Data, 2*time.Minute),
		Block:    cmp.Or(t.Block, 3*time.Minute),
		End:      cmp.Or(t.End, 10*time.Minute),
		Quit:     cmp.Or(t.Quit, 2*time.Second),
		Drain:    cmp.Or(t.Drain, 10*time.Second),
	}
}

// Reuse says how long a connection is kept for the next message. A zero field
// takes the default.
type Reuse struct {
	Messages       int           // sent over one connection: 100; 1 turns reuse off
	Age            time.Duration // since it was made: 5 min
	Idle           time.Duration // between two messages: 4 s; many servers hang up after 5
	PerDestination int           // idle connections to one destination: 16
	Total          int           // idle connections to all: 64
}

func (r Reuse) orDefaults() Reuse {
	return Reuse{
		Messages:       cmp.Or(r.Messages, 100),
		Age:            cmp.Or(r.Age, 5*time.Minute),
		Idle:           cmp.Or(r.Idle, 4*time.Second),
		PerDestination: cmp.Or(r.PerDestination, 16),
		Total:          cmp.Or(r.Total, 64),
	}
}
