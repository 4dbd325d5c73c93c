package tlsreport

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"example.edu/gatepost/internal/mail"
)

const (
	maxMailboxes = 3  // of one domain
	columns      = 76 // RFC 2045 §6.8
)

// A report is the JSON of one domain and day. RFC 8460 §4.4.
type report struct {
	Organization string `json:"organization-name"`
	Range        struct {
		Start time.Time `json:"start-datetime"`
		End   time.Time `json:"end-datetime"`
	} `json:"date-range"`
	Contact  string        `json:"contact-info"`
	ID       string        `json:"report-id"`
	Policies []policyCount `json:"policies"`
}

type policyCount struct {
	Policy  Policy `json:"policy"`
	Summary struct {
		OK   int64 `json:"total-successful-session-count"`
		Fail int64 `json:"total-failure-session-count"`
	} `json:"summary"`
	Details []detail `json:"failure-details,omitempty"`
}

type detail struct {
	Failure
	Count int64 `json:"failed-session-count"`
}

// A letterhead is what every report of a relay says of the relay.
type letterhead struct {
	host    string
	contact mail.Address
}

// compose makes the report of a domain on a day, which begins at start. The
// same counts give the same bytes but for the date. RFC 8460 §3, §5.3.
func (l letterhead) compose(domain string, start time.Time, t *tally, to []mail.Address, now time.Time) (mail.Envelope, []byte, error) {
	sum := sha256.Sum256([]byte(l.host + "\n" + domain + "\n" + start.Format(time.DateOnly)))
	r := report{Organization: l.host, Contact: l.contact.String(), ID: start.Format(time.DateOnly) + "." + hex.EncodeToString(sum[:8]) + "@" + l.host}
	r.Range.Start, r.Range.End = start, start.Add(24*time.Hour-time.Second)
	for _, c := range t.policies {
		p := policyCount{Policy: c.policy, Details: c.sorted()}
		p.Summary.OK, p.Summary.Fail = c.ok, c.fail
		r.Policies = append(r.Policies, p)
	}
	packed, err := r.pack()
	if err != nil {
		return mail.Envelope{}, nil, err
	}
	env := mail.Envelope{AnyTLS: true, Arrival: now} // from nobody: what cannot be delivered need not come back
	var paths []string
	for _, a := range to {
		env.To = append(env.To, mail.Recipient{Address: a})
		paths = append(paths, a.Path())
	}
	const boundary = "=_gatepost_tls_report"
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("Date: %s", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	line("From: %s", l.contact.Path())
	line("To: %s", strings.Join(paths, ",\r\n "))
	line("Subject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>", domain, l.host, r.ID)
	line("Message-ID: <%s>", r.ID)
	line("TLS-Report-Domain: %s", domain)
	line("TLS-Report-Submitter: %s", l.host)
	line("Auto-Submitted: auto-generated") // RFC 3834 §5
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"%s\"", boundary)
	line("")
	line("--%s", boundary)
	line("Content-Type: text/plain; charset=us-ascii")
	line("")
	line("This is an aggregate report on TLS from %s", l.host)
	line("about %s on %s (UTC).", domain, start.Format(time.DateOnly))
	line("It was asked for by the TXT record at _smtp._tls.%s.", domain)
	line("Questions go to %s.", l.contact)
	line("--%s", boundary)
	line("Content-Type: application/tlsrpt+gzip")
	line("Content-Transfer-Encoding: base64")
	line("Content-Disposition: attachment;\r\n filename=\"%s!%s!%d!%d.json.gz\"", l.host, domain, r.Range.Start.Unix(), r.Range.End.Unix())
	line("")
	for text := base64.StdEncoding.EncodeToString(packed); text != ""; {
		n := min(len(text), columns)
		line("%s", text[:n])
		text = text[n:]
	}
	line("--%s--", boundary)
	return env, b.Bytes(), nil
}

// pack is the JSON, compressed.
func (r *report) pack() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("tlsreport: %w", err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	// Writing to a buffer does not fail.
	_, _ = w.Write(text)
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("tlsreport: %w", err)
	}
	return b.Bytes(), nil
}

// mailbox is where a URI has reports mailed. RFC 6068.
func mailbox(uri string) (mail.Address, bool) {
	u, err := url.Parse(uri)
	if err != nil || !strings.EqualFold(u.Scheme, "mailto") {
		return mail.Address{}, false
	}
	text, err := url.PathUnescape(u.Opaque)
	if err != nil {
		return mail.Address{}, false
	}
	a, err := mail.ParseAddress(text, false)
	return a, err == nil && a.Domain != ""
}

// plain reports whether a domain is one that can stand in a header.
func plain(domain string) bool {
	return domain != "" && len(domain) <= 253 && strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789-._") == ""
}
