package limits

import (
	"fmt"
	"math"
	"strings"
	"time"

	"example.edu/gatepost/internal/register/registration"
)

// Terms say how budgets follow from what a department declared, which is
// messages an hour and a day. All must be above zero.
type Terms struct {
	// MinutePart is the part of an hour's messages that one minute may take; at
	// least 20, if the hour has them.
	MinutePart float64
	// MachinePart is the part of a registration's budgets that one of its
	// machines may take, where it has several.
	MachinePart float64
	// RecipientsPerMessage and OctetsPerMessage are the averages that a declared
	// message stands for.
	RecipientsPerMessage int
	OctetsPerMessage     int64
	// MaxRecipients and MaxOctets are those of one message: budgets are never so
	// small that one message could not pass.
	MaxRecipients int
	MaxOctets     int64
	// StrangerSessions and StrangerTries are what an address on campus gets that
	// may not send: sessions, and recipients to be refused, in an hour.
	StrangerSessions, StrangerTries int
}

const (
	minutely = 20 // messages that a minute allows, however little was declared for an hour
	largest  = 10 // messages of the largest size that a day allows, however little was declared
)

// A unit is what a budget counts.
type unit uint8

const (
	messages unit = iota
	recipients
	octets
)

// The budgets of an account.
const (
	messagesMinute = iota
	messagesHour
	messagesDay
	recipientsMinute
	recipientsHour
	recipientsDay
	octetsDay
	kinds
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// A budget is one of an account's: what it counts, and in which span.
type budget struct {
	name string // of the metrics, and of the status
	unit unit
	span time.Duration
}

// budgets lists them.
func budgets() [kinds]budget {
	return [kinds]budget{
		messagesMinute:   {"messages-minute", messages, time.Minute},
		messagesHour:     {"messages-hour", messages, hour},
		messagesDay:      {"messages-day", messages, day},
		recipientsMinute: {"recipients-minute", recipients, time.Minute},
		recipientsHour:   {"recipients-hour", recipients, hour},
		recipientsDay:    {"recipients-day", recipients, day},
		octetsDay:        {"octets-day", octets, day},
	}
}

// rates are the budgets of a declared volume; part is 1, or MachinePart for one
// machine of several. Every burst lets one message of any allowed size through.
func (t Terms) rates(v registration.Volume, part float64) (r [kinds]rate) {
	perHour := max(1, math.Ceil(float64(v.PerHour)*part))
	perDay := max(perHour, math.Ceil(float64(v.PerDay)*part))
	perMinute := min(perHour, max(minutely, math.Ceil(perHour*t.MinutePart)))
	to, size := float64(t.RecipientsPerMessage), float64(t.OctetsPerMessage)
	even := func(n float64, span time.Duration) rate { return rate{n: n, burst: n, span: span} }
	wide := func(n float64, span time.Duration) rate {
		return rate{n: n, burst: max(n, float64(t.MaxRecipients)), span: span}
	}
	return [kinds]rate{
		messagesMinute:   even(perMinute, time.Minute),
		messagesHour:     even(perHour, hour),
		messagesDay:      even(perDay, day),
		recipientsMinute: wide(perMinute*to, time.Minute),
		recipientsHour:   wide(perHour*to, hour),
		recipientsDay:    wide(perDay*to, day),
		octetsDay:        even(max(perDay*size, largest*float64(t.MaxOctets)), day),
	}
}

// strangers are the budgets of an address that may not send.
func (t Terms) strangers() (sessions, tries rate) {
	n, m := float64(t.StrangerSessions), float64(t.StrangerTries)
	return rate{n, n, hour}, rate{m, m, hour}
}

// words say a budget in plain words: "200 messages per hour".
func (b budget) words(r rate) string {
	span := map[time.Duration]string{time.Minute: "minute", hour: "hour", day: "day"}[b.span]
	text := ""
	switch b.unit {
	case octets:
		text = size(r.n)
	case recipients:
		text = plural(r.n, "recipient")
	default:
		text = plural(r.n, "message")
	}
	text += " per " + span
	if r.burst > r.n {
		text += fmt.Sprintf(" and %.0f at once", r.burst)
	}
	return text
}

func plural(n float64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%.0f %ss", n, one)
}

// size writes octets for people.
func size(n float64) string {
	units := []string{"octets", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") + " " + units[i]
}
