package demo

import (
	"fmt"
	"strings"
	"time"
)

// domain is the demo's university in the mail.
const domain = "demo.example"

// The people of the demo's university. Whoever tries the portal chooses one.
var people = []struct {
	name, email string
	postmaster  bool
}{
	{"Dana of Physics", "dana@physics." + domain, false},       // who speaks for Physics
	{"Robin of the library", "robin@library." + domain, false}, // for the library alone
	{"Pat Moss", "pat@" + domain, true},                        // reviews, merges, blocks
}

// campusCUE is the demo's university: the loopback network, all of whose
// addresses a machine with Linux can send from.
const campusCUE = `// The university's address space. In the demo it is the loopback network.
campus: ["127.0.0.0/8"]

// Which department holds which part of it. The closest entry counts.
networks: {
	"127.0.0.0/24": {department: "physics", use: "static"}
	"127.0.0.1/32": {department: "its", use: "static"}
	"127.0.1.0/24": {department: "chemistry", use: "static"}
	"127.0.2.0/24": {department: "library", use: "static"}
	"127.0.3.0/24": {department: "facilities", use: "static"}
	"127.0.4.0/24": {department: "museum", use: "static"}
	"127.0.5.0/24": {department: "its", use: "wireless"}
	"127.0.6.0/24": {department: "its", use: "static"}
}

// Who may speak for a department.
departments: {
	"chemistry": {
		name: "Chemistry"
		speakers: [{github: "chem-priya-raman", id: 90000701}]
		contactDomains: ["chemistry.demo.example"]
	}
	"facilities": {
		name: "Facilities and Operations"
		speakers: [{github: "fo-marta-lindqvist", id: 90000301}]
		contactDomains: ["facilities.demo.example"]
	}
	"its": {
		name: "Information Technology Services"
		speakers: [{github: "its-jonas-achterberg", id: 90000501}]
		contactDomains: ["its.demo.example"]
	}
	"library": {
		name: "University Library"
		speakers: [{email: "robin@library.demo.example"}]
		contactDomains: ["library.demo.example"]
	}
	"museum": {
		name: "Museum of Natural History"
		speakers: [{github: "museum-ada-quist", id: 90000901}]
		contactDomains: ["museum.demo.example"]
	}
	"physics": {
		name: "Physics"
		speakers: [{email: "dana@physics.demo.example"}, {github: "physics-tom-brandvold", id: 90000801}]
		contactDomains: ["physics.demo.example"]
	}
}
`

// A request is one file of the register.
type request struct {
	department, file string
	contact, mailbox string
	purpose, why     string
	hosts            []host
	perHour          int
	endsIn           int // days
}

// A host is one machine. Its name is below the department's domain.
type host struct{ ip, name, kind, device string }

// requests are what is registered when the demo begins.
var requests = []request{
	{"its", "portal", "ITS Mail", "mail", "The portal itself: questions to contacts, and what became of requests.", "It runs beside the relay and has no account.",
		[]host{{"127.0.0.1", "portal", "application", ""}}, 500, 400},
	{"its", "monitoring", "ITS Operations", "noc", "Alarms of the network monitoring.", "An alarm has to arrive when the directory is down, too.",
		[]host{{"127.0.6.10", "watch1", "server", ""}, {"127.0.6.11", "watch2", "server", ""}}, 300, 500},
	{"physics", "printroom", "Physics IT", "it", "Scan-to-email from the multifunction printers of the print room.", "The firmware has no SMTP AUTH client.",
		[]host{{"127.0.0.3", "mfp1", "printer", ""}, {"127.0.0.4", "mfp2", "printer", ""}}, 200, 380},
	{"physics", "telescope", "Observatory", "observatory", "Night reports of the telescope on the roof.", "The control computer dates from 2004, and its software cannot be changed.",
		[]host{{"127.0.0.5", "telescope", "appliance", `{bareLF: "fix", tls: "legacy"}`}}, 20, 600},
	{"physics", "plotter", "Physics IT", "it", "Status mails of the large plotter.", "The plotter can name a mail server, and nothing else.",
		[]host{{"127.0.0.6", "plotter", "printer", ""}}, 20, 12},
	{"chemistry", "freezers", "Chemistry Stores", "stores", "Alarms of the minus-80 freezers.", "The controllers have no user name and no password to set.",
		[]host{{"127.0.1.10", "freezer1", "sensor", ""}, {"127.0.1.11", "freezer2", "sensor", ""}, {"127.0.1.12", "freezer3", "sensor", ""}}, 60, 300},
	{"chemistry", "nmr", "NMR Laboratory", "nmr", "Results of the NMR spectrometer, to whoever measured.", "The vendor's software sends without signing in.",
		[]host{{"127.0.1.20", "nmr600", "appliance", ""}}, 100, 250},
	{"library", "scanners", "Library IT", "it", "Scan-to-email from the book scanners.", "The book scanners know a server's name and a port.",
		[]host{{"127.0.2.10", "scan1", "scanner", ""}, {"127.0.2.11", "scan2", "scanner", ""}, {"127.0.2.12", "scan3", "scanner", ""}}, 300, 450},
	{"library", "notices", "Library IT", "it", "Notices that a book on hold has arrived.", "The catalogue's mail module cannot sign in.",
		[]host{{"127.0.2.20", "catalogue", "application", ""}}, 400, 200},
	{"facilities", "climate", "Building Control", "control", "Alarms of heating and ventilation.", "The control units were built without SMTP AUTH.",
		[]host{{"127.0.3.10", "hvac-north", "sensor", ""}, {"127.0.3.11", "hvac-south", "sensor", ""}}, 60, 330},
	{"facilities", "lifts", "Building Control", "control", "Faults of the lifts.", "The lift controller sends plain mail and nothing else.",
		[]host{{"127.0.3.20", "lifts", "appliance", `{commands: "sloppy"}`}}, 20, 520},
	{"museum", "showcases", "Museum Conservation", "conservation", "Humidity in the show cases, once a day.", "The loggers have no way to sign in.",
		[]host{{"127.0.4.10", "cases", "sensor", ""}}, 20, 150},
}

// scanner is what register.sh registers, in the terminal.
var scanner = request{"physics", "scanner", "Physics IT", "it", "Scan-to-email from the scanner in the workshop.", "The firmware has no SMTP AUTH client.",
	[]host{{"127.0.0.2", "scanner", "scanner", ""}}, 200, 365}

func (r request) path() string { return "registrations/" + r.department + "/" + r.file + ".cue" }

// cue is the file, as gatepost fmt would write it.
func (r request) cue(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "// %s\n", r.purpose)
	fmt.Fprintf(&b, "department: %q\n", r.department)
	fmt.Fprintf(&b, "contact: {name: %q, email: %q}\n", r.contact, r.mailbox+"@"+r.department+"."+domain)
	fmt.Fprintf(&b, "purpose:   %q\nwhyNoAuth: %q\nhosts: [\n", r.purpose, r.why)
	for _, h := range r.hosts {
		fmt.Fprintf(&b, "\t{ip: %q, name: %q, kind: %q", h.ip, h.name+"."+r.department+"."+domain, h.kind)
		if h.device != "" {
			fmt.Fprintf(&b, ", device: %s", h.device)
		}
		b.WriteString("},\n")
	}
	fmt.Fprintf(&b, "]\nvolume: {perHour: %d, perDay: %d}\n", r.perHour, 5*r.perHour)
	fmt.Fprintf(&b, "expires: %q\n", now.AddDate(0, 0, r.endsIn).Format(time.DateOnly))
	b.WriteString("accept: {policies: true, notBulk: true, notWorkstation: true, noMailServer: true}\n")
	return b.String()
}

// blockCUE keeps one of the registered machines from sending.
func blockCUE(now time.Time) string {
	return fmt.Sprintf(`// The spectrometer's control computer was broken into.
block: {
	ip:     "127.0.1.20"
	reason: "sent 40,000 messages overnight; it is being rebuilt"
	since:  %q
}
`, now.AddDate(0, 0, -2).Format(time.RFC3339))
}
