// Package form is what somebody types for a registration ⇄ a file of the
// register. Values are what was typed; Judge makes the file of them, has it
// judged by the rules that judge every file (review.Base), and says of each
// problem beside which field it belongs; a Request is how the change is told to
// those who review it.
//
// It is pure: no I/O, no clock, no HTML. It has no rules of its own: what is
// wrong is what package registration and package policy say of the file, in
// their words. Only where these tell how to edit a file, the form says what to do
// in a form.
//
// Invariants:
//   - What was typed is never lost, up to the bounds on each field, and where
//     something is over one, it is said so beside the field.
//   - A file has nothing in it but the values of the form and what
//     registration.FormatDraft puts around them. Each is quoted there. One that
//     was there before keeps its comments.
//   - A file that Judge finds no error in is one that "gatepost check" accepts.
//   - In a request's title there is no text of the visitor's but a host name that
//     has passed the rules; in its description it stands in code spans or a fenced
//     quote, with nothing in it that a forge takes for a mention, a reference or a
//     trailer, in a commit's message either.
package form

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
)

// Bounds on what is kept of a form.
const (
	MaxHosts  = 64     // rows, as the schema has it
	maxLine   = 400    // bytes of a field of one line
	maxProse  = 6_000  // bytes of a field of several; the schema allows 1,000 characters
	maxLong   = 24_000 // bytes of the list of senders
	MaxPasted = 64_000 // bytes of a list that is pasted
)

// Values are what was typed, as it was typed. The zero Values are an empty form.
// They are never changed in place: what changes them returns others.
type Values struct {
	Department                string
	ContactName, ContactEmail string
	Purpose, WhyNoAuth        string
	Hosts                     []Host
	Senders                   string // one a line, or with blanks or commas between them
	Bounces                   string // "contact", or "" and "sender"
	PerHour, PerDay           string
	Expires                   string
	Accept                    registration.Accept
	Comment                   string // for those who review it; none of the file
	Pasted                    string // a list that is to become rows

	From string // the file that is to be changed; "" for a new one
	Sum  string // the file's as it was when the form was filled from it, in hexadecimal
	Key  string // made once for each form that is shown, so that sending it twice is sending it once

	Cut []Finding // what was too long or too much, and is not kept
}

// A Host is one row.
type Host struct {
	IP, Name, Kind        string
	BareLF, TLS, Commands string // "": as the schema fills it in
	AddHeaders            string // "true", "false", ""
}

// Blank reports whether nothing but the kind has been filled in.
func (h Host) Blank() bool {
	return strings.TrimSpace(h.IP+h.Name+h.BareLF+h.TLS+h.Commands) == "" && (h.AddHeaders == "" || h.AddHeaders == "true")
}

// Old reports whether the row asks for any leniency.
func (h Host) Old() bool {
	return h.BareLF != "" && h.BareLF != "reject" || h.TLS != "" && h.TLS != "modern" || h.Commands != "" && h.Commands != "strict" || h.AddHeaders == "false"
}

// The names of the fields. Those of a row are RowField's.
const (
	FieldDepartment       = "department"
	FieldContactName      = "contact-name"
	FieldContactEmail     = "contact-email"
	FieldPurpose          = "purpose"
	FieldWhyNoAuth        = "why-no-auth"
	FieldSenders          = "senders"
	FieldBounces          = "bounces"
	FieldPerHour          = "per-hour"
	FieldPerDay           = "per-day"
	FieldExpires          = "expires"
	FieldAcceptPolicies   = "accept-policies"
	FieldAcceptNotBulk    = "accept-not-bulk"
	FieldAcceptNotDesktop = "accept-not-workstation"
	FieldAcceptNoServer   = "accept-no-mail-server"
	FieldComment          = "comment"
	FieldPasted           = "pasted"
	FieldFrom             = "from"
	FieldSum              = "sum"
	FieldKey              = "key"
)

// The fields of a row.
const (
	RowIP         = "ip"
	RowName       = "name"
	RowKind       = "kind"
	RowBareLF     = "bare-lf"
	RowTLS        = "tls"
	RowCommands   = "commands"
	RowAddHeaders = "add-headers"
)

// RowField is the name of a field of the i-th row, from 0: "host-1-ip".
func RowField(i int, name string) string { return "host-" + strconv.Itoa(i+1) + "-" + name }

// A field is one text of Values.
type field struct {
	name string
	to   *string
	most int // bytes
}

// fields are all texts but those of the rows, in the order of the form.
func (v *Values) fields() []field {
	return []field{
		{FieldDepartment, &v.Department, maxLine}, {FieldContactName, &v.ContactName, maxLine}, {FieldContactEmail, &v.ContactEmail, maxLine},
		{FieldPurpose, &v.Purpose, maxProse}, {FieldWhyNoAuth, &v.WhyNoAuth, maxProse},
		{FieldPasted, &v.Pasted, MaxPasted},
		{FieldSenders, &v.Senders, maxLong}, {FieldBounces, &v.Bounces, maxLine},
		{FieldPerHour, &v.PerHour, maxLine}, {FieldPerDay, &v.PerDay, maxLine}, {FieldExpires, &v.Expires, maxLine},
		{FieldComment, &v.Comment, maxProse},
		{FieldFrom, &v.From, 2 * maxLine}, {FieldSum, &v.Sum, maxLine}, {FieldKey, &v.Key, maxLine},
	}
}

func (h *Host) fields() []field {
	return []field{
		{RowIP, &h.IP, maxLine}, {RowName, &h.Name, maxLine}, {RowKind, &h.Kind, maxLine}, {RowBareLF, &h.BareLF, maxLine},
		{RowTLS, &h.TLS, maxLine}, {RowCommands, &h.Commands, maxLine}, {RowAddHeaders, &h.AddHeaders, maxLine},
	}
}

// acceptances are the boxes that are ticked.
func (v *Values) acceptances() map[string]*bool {
	return map[string]*bool{
		FieldAcceptPolicies: &v.Accept.Policies, FieldAcceptNotBulk: &v.Accept.NotBulk,
		FieldAcceptNotDesktop: &v.Accept.NotWorkstation, FieldAcceptNoServer: &v.Accept.NoMailServer,
	}
}

// Parse reads a form that was sent. It never fails: what is too long is kept up
// to the bound, and Cut says so. Rows may have any numbers; they are numbered
// anew, without gaps. A form has one row at least.
func Parse(sent url.Values) Values {
	var v Values
	for _, f := range v.fields() {
		*f.to = v.keep(f.name, sent.Get(f.name), f.most)
	}
	for name, ticked := range v.acceptances() {
		*ticked = sent.Get(name) != ""
	}
	rows := sentRows(sent)
	if len(rows) > MaxHosts {
		v.cut(RowField(MaxHosts-1, RowIP), fmt.Sprintf("of %d machines the first %d are kept", len(rows), MaxHosts), "a registration has at most that many; send another form for the rest")
		rows = rows[:MaxHosts]
	}
	for i, number := range rows {
		var h Host
		for _, f := range h.fields() {
			*f.to = v.keep(RowField(i, f.name), sent.Get("host-"+number+"-"+f.name), f.most)
		}
		v.Hosts = append(v.Hosts, h)
	}
	if len(v.Hosts) == 0 {
		v.Hosts = []Host{{}}
	}
	return v
}

// sentRows are the numbers of the rows, as they were written, in order.
func sentRows(sent url.Values) []string {
	found := map[int]string{}
	for key := range sent {
		rest, ok := strings.CutPrefix(key, "host-")
		number, name, more := strings.Cut(rest, "-")
		if !ok || !more || !slices.ContainsFunc(new(Host).fields(), func(f field) bool { return f.name == name }) {
			continue
		}
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n < 10_000 && strconv.Itoa(n) == number {
			found[n] = number
		}
	}
	numbers := make([]string, 0, len(found))
	for _, n := range slices.Sorted(maps.Keys(found)) {
		numbers = append(numbers, found[n])
	}
	return numbers
}

// keep is as much of a text as is kept, in valid UTF-8 and with the line ends of
// Unix.
func (v *Values) keep(name, text string, most int) string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\ufffd")
		v.cut(name, "some of what was sent here is no text", "look for � and write what belongs there")
	}
	if len(text) <= most {
		return text
	}
	end := most
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	v.cut(name, fmt.Sprintf("only the first %d characters are kept", utf8.RuneCountInString(text[:end])), "shorten the text")
	return text[:end]
}

func (v *Values) cut(name, message, hint string) {
	v.Cut = append(v.Cut, Finding{Field: name, Rule: registration.RuleTooLarge, Message: message, Hint: hint})
}

// Encode is the reverse of Parse: the form as it would be sent.
func (v Values) Encode() url.Values {
	out := url.Values{}
	for _, f := range v.fields() {
		out.Set(f.name, *f.to)
	}
	for name, ticked := range v.acceptances() {
		if *ticked {
			out.Set(name, "yes")
		}
	}
	for i := range v.Hosts {
		for _, f := range v.Hosts[i].fields() {
			out.Set(RowField(i, f.name), *f.to)
		}
	}
	return out
}

// New is an empty form for somebody, with one row for each address.
func New(name, email string, now time.Time, addresses ...string) Values {
	v := Values{ContactName: name, ContactEmail: email, Expires: now.UTC().AddDate(1, 0, 0).Format(time.DateOnly)}
	for _, ip := range addresses[:min(len(addresses), MaxHosts)] {
		v.Hosts = append(v.Hosts, Host{IP: v.keep(RowField(len(v.Hosts), RowIP), ip, maxLine)})
	}
	if len(v.Hosts) == 0 {
		v.Hosts = []Host{{}}
	}
	return v
}

// Of is the form that changes or renews a file of the register. It renews for as
// long as a new registration would last, unless that would be shorter. Conditions
// are to be accepted anew.
func Of(f *registration.File, now time.Time) Values {
	r := f.Registration
	d := registration.DraftOf(r)
	v := Values{
		Department: d.Department, ContactName: d.ContactName, ContactEmail: d.ContactEmail, Purpose: d.Purpose, WhyNoAuth: d.WhyNoAuth,
		Senders: strings.Join(d.Senders, "\n"), Bounces: d.Bounces, PerHour: d.PerHour, PerDay: d.PerDay,
		Expires: cmp.Or(max(d.Expires, now.UTC().AddDate(1, 0, 0).Format(time.DateOnly)), d.Expires),
		From:    f.Path, Sum: sumOf(f),
	}
	for _, h := range d.Hosts {
		v.Hosts = append(v.Hosts, Host{IP: h.IP, Name: h.Name, Kind: h.Kind, BareLF: h.BareLF, TLS: h.TLS, Commands: h.Commands, AddHeaders: h.AddHeaders})
	}
	return v
}

func sumOf(f *registration.File) string { return fmt.Sprintf("%x", f.Sum) }

// Draft is what the form says, ready to be written. Blanks around a value are
// no part of it, names of machines and senders are in small letters, as the
// register understands them, and rows that are blank are left out: rows tells
// which are there.
func (v Values) Draft() (d registration.Draft, rows []int) {
	line := strings.TrimSpace
	d = registration.Draft{
		Department: line(v.Department), ContactName: line(v.ContactName), ContactEmail: line(v.ContactEmail),
		Purpose: line(v.Purpose), WhyNoAuth: line(v.WhyNoAuth), Bounces: line(v.Bounces),
		PerHour: line(v.PerHour), PerDay: line(v.PerDay), Expires: line(v.Expires), Accept: v.Accept,
	}
	if d.Bounces == "sender" { // as the schema fills it in
		d.Bounces = ""
	}
	d.Senders = strings.FieldsFunc(strings.ToLower(v.Senders), func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\n' })
	for i, h := range v.Hosts {
		if h.Blank() {
			continue
		}
		rows = append(rows, i)
		d.Hosts = append(d.Hosts, registration.DraftHost{
			IP: usual(line(h.IP)), Name: strings.ToLower(line(h.Name)), Kind: line(h.Kind),
			BareLF: line(h.BareLF), TLS: line(h.TLS), Commands: line(h.Commands), AddHeaders: line(h.AddHeaders),
		})
	}
	return d, rows
}

// usual is an address in its usual form; what is none stays as it is.
func usual(ip string) string {
	if a, err := netip.ParseAddr(ip); err == nil && a.Zone() == "" && !a.Is4In6() {
		return a.String()
	}
	return ip
}

// A Finding is a problem beside the field that it is about.
type Finding struct {
	Field   string // the name of a field; "" for the whole
	Rule    registration.Rule
	Message string
	Hint    string
	Warning bool // it does not keep the form from being sent
}

// Latest is the last day that a registration may have.
func Latest(now time.Time) string {
	return now.UTC().AddDate(policy.MaxAhead, 0, 0).Format(time.DateOnly)
}
