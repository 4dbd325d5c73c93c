package registration

import (
	"bytes"
	"regexp"
	"strconv"
	"time"
)

// A Draft is a registration as somebody has written it, each value as text, of
// which nothing need be right: what no Registration can hold, such as "12o" for a
// number, stands here all the same, so that the parser says what is wrong with
// it, in the words in which it says so of a file.
type Draft struct {
	Department                string
	ContactName, ContactEmail string
	Purpose, WhyNoAuth        string
	Hosts                     []DraftHost
	Senders                   []string // empty: any
	Bounces                   string   // "": as "sender"
	PerHour, PerDay           string   // numbers
	Expires                   string   // the last day, as year-month-day
	Accept                    Accept
}

// A DraftHost is one machine of a Draft. Of the device "" is the default.
type DraftHost struct {
	IP, Name, Kind        string
	BareLF, TLS, Commands string
	AddHeaders            string   // "true" or "false"
	Remarks               []string // comments above it, a line each
}

// DraftOf is what somebody would write to get r. The IP of a host without one is
// "".
func DraftOf(r *Registration) Draft {
	d := Draft{
		Department: r.Department, ContactName: r.Contact.Name, ContactEmail: r.Contact.Email,
		Purpose: r.Purpose, WhyNoAuth: r.WhyNoAuth, Senders: r.Senders, Bounces: r.Bounces,
		PerHour: strconv.Itoa(r.Volume.PerHour), PerDay: strconv.Itoa(r.Volume.PerDay),
		Expires: r.Expires.UTC().AddDate(0, 0, -1).Format(time.DateOnly), // Expires is the midnight after it
		Accept:  r.Accept,
	}
	for _, h := range r.Hosts {
		host := DraftHost{IP: h.IP.String(), Name: h.Name, Kind: h.Kind, BareLF: h.Device.BareLF, TLS: h.Device.TLS, Commands: h.Device.Commands}
		if h.Device != (Device{}) && !h.Device.AddHeaders { // the zero Device is one that nobody has filled in
			host.AddHeaders = "false"
		}
		if !h.IP.IsValid() {
			host.IP = ""
		}
		d.Hosts = append(d.Hosts, host)
	}
	return d
}

// Places tells what stands where in the text of a Draft: "department",
// "contact", "contact.email", "hosts", "hosts.0", "hosts.0.ip",
// "hosts.0.device.tls", "senders.0", "volume.perHour" and so on, at the position
// that a Problem with it has.
type Places map[Pos]string

// FormatDraft writes a draft as Format writes a registration. What is no number
// is written as text, which the parser then refuses in words.
func FormatDraft(d Draft, comment string) ([]byte, Places) {
	w := &draftWriter{places: Places{}}
	writeComment(&w.Buffer, comment)
	w.field("department: ", "department", text(d.Department))
	w.WriteString("\ncontact: ")
	w.open("contact")
	w.field("name: ", "contact.name", text(d.ContactName))
	w.field(", email: ", "contact.email", text(d.ContactEmail))
	w.field("}\npurpose:   ", "purpose", text(d.Purpose))
	w.field("\nwhyNoAuth: ", "whyNoAuth", text(d.WhyNoAuth))
	w.WriteString("\nhosts: ")
	w.mark("hosts")
	w.WriteString("[\n")
	for i, h := range d.Hosts {
		w.host("hosts."+strconv.Itoa(i), h)
	}
	w.WriteString("]\n")
	if len(d.Senders) > 0 {
		w.WriteString("senders: ")
		w.mark("senders")
		between := "["
		for i, s := range d.Senders {
			w.field(between, "senders."+strconv.Itoa(i), text(s))
			between = ", "
		}
		w.WriteString("]\n")
	}
	if d.Bounces != "" {
		w.field("bounces: ", "bounces", text(d.Bounces))
		w.WriteByte('\n')
	}
	w.WriteString("volume: ")
	w.open("volume")
	w.field("perHour: ", "volume.perHour", numeral(d.PerHour))
	w.field(", perDay: ", "volume.perDay", numeral(d.PerDay))
	w.field("}\nexpires: ", "expires", text(d.Expires))
	w.WriteString("\naccept: ")
	w.open("accept")
	w.field("policies: ", "accept.policies", strconv.FormatBool(d.Accept.Policies))
	w.field(", notBulk: ", "accept.notBulk", strconv.FormatBool(d.Accept.NotBulk))
	w.field(", notWorkstation: ", "accept.notWorkstation", strconv.FormatBool(d.Accept.NotWorkstation))
	w.field(", noMailServer: ", "accept.noMailServer", strconv.FormatBool(d.Accept.NoMailServer))
	w.WriteString("}\n")
	return w.Bytes(), w.places
}

// A draftWriter writes, and notes what stands where.
type draftWriter struct {
	bytes.Buffer
	places Places
	seen   int // octets of whole lines that are counted
	line   int32
}

// mark notes that the value with this name begins here.
func (w *draftWriter) mark(name string) {
	for {
		end := bytes.IndexByte(w.Bytes()[w.seen:], '\n')
		if end < 0 {
			break
		}
		w.seen, w.line = w.seen+end+1, w.line+1
	}
	w.places[Pos{w.line + 1, int32(w.Len() - w.seen + 1)}] = name
}

func (w *draftWriter) open(name string) {
	w.mark(name)
	w.WriteByte('{')
}

// field writes what stands before a value, and the value.
func (w *draftWriter) field(before, name, value string) {
	w.WriteString(before)
	w.mark(name)
	w.WriteString(value)
}

func (w *draftWriter) host(name string, h DraftHost) {
	for _, line := range h.Remarks {
		writeRemark(&w.Buffer, "\t", line)
	}
	w.WriteByte('\t')
	w.open(name)
	w.field("ip: ", name+".ip", text(h.IP))
	w.field(", name: ", name+".name", text(h.Name))
	w.field(", kind: ", name+".kind", text(h.Kind))
	between := ""
	for _, f := range []struct{ name, value, standard string }{
		{"bareLF", h.BareLF, "reject"}, {"tls", h.TLS, "modern"}, {"commands", h.Commands, "strict"}, {"addHeaders", h.AddHeaders, "true"},
	} {
		if f.value == "" || f.value == f.standard {
			continue
		}
		if between == "" {
			w.WriteString(", device: ")
			w.open(name + ".device")
		}
		value := text(f.value)
		if f.name == "addHeaders" && f.value == "false" {
			value = f.value
		}
		w.field(between+f.name+": ", name+".device."+f.name, value)
		between = ", "
	}
	if between != "" {
		w.WriteByte('}')
	}
	w.WriteString("},\n")
}

var wholeNumber = regexp.MustCompile(`^(0|[1-9][0-9]{0,17})$`)

// numeral is s if it is a whole number as CUE writes it, else s as text.
func numeral(s string) string {
	if wholeNumber.MatchString(s) {
		return s
	}
	return text(s)
}
