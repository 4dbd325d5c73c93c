package status

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// shown bounds how much of a list the text shows.
const shown = 3

// Text is the report as one screen: what is wrong first, and what to do about
// it. Text of strangers in it cannot steer a terminal.
func (r Report) Text() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	title := visible(r.Host) + "  gatepost " + visible(r.Version)
	if !r.Started.IsZero() {
		title += ", up " + span(r.At.Sub(r.Started))
	}
	p("%s", title)
	p("")
	if len(r.Findings) == 0 {
		p("Nothing is wrong.")
	}
	for _, f := range r.Findings {
		p("%-6s %s", strings.ToUpper(string(f.Level)), visible(f.What))
		p("       → %s", visible(f.Do))
	}
	p("")
	r.registerText(func(s string) { p("%s", s) })
	if w := r.Webhook; w != nil {
		p("%-9s %s", "webhook", w.line(r.At))
	}
	if w := r.Portal; w != nil {
		p("%-9s %s", "portal", w.line(r.At))
	}
	p("%-9s %s", "queue", r.queueLine())
	for _, d := range r.Queue.Destinations[:min(shown, len(r.Queue.Destinations))] {
		line := fmt.Sprintf("%-9s %s to %s", "", count(d.Entries, "message", "messages"), visible(d.Name))
		if d.Running > 0 {
			line += fmt.Sprintf(", %d of at most %d at a time", d.Running, d.Window)
		}
		if d.BlockedUntil.After(r.At) {
			line += fmt.Sprintf(", tried again in %s", span(d.BlockedUntil.Sub(r.At)))
		}
		p("%s", line)
	}
	p("%-9s %s; since the start %s accepted, %s refused", "relay",
		count(r.Relay.Sessions, "session", "sessions"), thousands(r.Relay.Accepted), thousands(r.Relay.Refused))
	if q := r.Queue; q.Delivered+q.Deferred+q.Bounced > 0 {
		p("%-9s %s delivered to, %s given back, %s put off", "", count(int(q.Delivered), "recipient", "recipients"),
			thousands(q.Bounced), count(int(q.Deferred), "attempt", "attempts"))
	}
	for i, s := range r.Senders.Top[:min(shown, len(r.Senders.Top))] {
		p("%-9s %s: %s in 24 hours, %s in 7 days", first(i, "senders"), visible(orElse(s.Registration, "registered no more")),
			count(s.Day, "message", "messages"), thousands(int64(s.Week)))
	}
	if more := r.Senders.Count - shown; more > 0 {
		p("%-9s and %s more in 30 days: gatepost status --senders", "", thousands(int64(more)))
	}
	if s := r.Strangers; len(s.Newest) > 0 {
		p("%-9s %s on campus tried in 7 days and may not send, the last %s %s ago: gatepost status --strangers", "strangers",
			count(s.Count, "address", "addresses"), s.Newest[0].IP, span(r.At.Sub(s.Newest[0].Last)))
	}
	if n := r.Proofs.Newest; len(n) > 0 {
		p("%-9s %s of control; the newest %s ago: %s", "proofs", count(r.Proofs.Count, "proof", "proofs"), span(r.At.Sub(n[0].At)), n[0].what())
	}
	r.blocksText(func(s string) { p("%s", s) })
	if r.Certificate != nil {
		p("%-9s valid until %s", "tls", stamp(r.Certificate.NotAfter))
	}
	return b.String()
}

func (r Report) registerText(line func(string)) {
	g := r.Register
	if g.Commit == "" {
		line(fmt.Sprintf("%-9s none yet", "register"))
	} else {
		line(fmt.Sprintf("%-9s commit %s, in force since %s", "register", short(g.Commit), stamp(g.AcceptedAt)))
		line(fmt.Sprintf("%-9s %s, %s live", "", count(g.Addresses, "address", "addresses"), thousands(int64(g.Live))))
	}
	where := visible(g.Repository)
	if g.Branch != "" {
		where += ", branch " + visible(g.Branch)
	}
	contact := "no contact yet"
	if g.AgeSeconds >= 0 && !g.LastContact.IsZero() {
		contact = "last contact " + span(time.Duration(g.AgeSeconds)*time.Second) + " ago"
	}
	line(fmt.Sprintf("%-9s %s", "", strings.TrimPrefix(where+", "+contact, ", ")))
	if g.Newest != "" && g.Newest != g.Commit {
		line(fmt.Sprintf("%-9s newest commit %s is not in force", "", short(g.Newest)))
	}
	for i, s := range g.Substituted {
		if i == shown {
			line(fmt.Sprintf("%-9s and %d more", "", len(g.Substituted)-shown))
			break
		}
		from := ", which has no good version"
		if s.Commit != "" {
			from = " as of " + short(s.Commit)
		}
		line(fmt.Sprintf("%-9s %s%s", "", visible(s.File), from))
	}
	for i, w := range g.Withheld {
		if i == shown {
			line(fmt.Sprintf("%-9s and %s", "", count(g.WithheldCount-shown, "more withheld", "more withheld")))
			break
		}
		in := ", of which nothing is in force"
		if w.InForce != "" {
			in = " as of " + short(w.InForce)
		}
		line(fmt.Sprintf("%-9s withheld: %s%s", "", visible(w.File), in))
	}
	for _, problem := range g.Problems[:min(shown, len(g.Problems))] {
		line(fmt.Sprintf("%-9s %s", "", visible(problem.String())))
	}
	if more := g.ProblemCount - shown; more > 0 {
		line(fmt.Sprintf("%-9s and %s", "", count(more, "more problem", "more problems")))
	}
}

func (w *Webhook) line(now time.Time) string {
	if w.VerifiedAt.IsZero() {
		return "no delivery yet"
	}
	return fmt.Sprintf("%s since the start, the last %s ago", count(int(w.Verified), "delivery", "deliveries"), span(now.Sub(w.VerifiedAt)))
}

func (p *Portal) line(now time.Time) string {
	text := "it has not asked yet"
	if !p.AskedAt.IsZero() {
		text = "it asked " + span(now.Sub(p.AskedAt)) + " ago"
	}
	if p.Refused > 0 {
		text += fmt.Sprintf("; %s without a right token since, the last %s ago", count(int(p.Refused), "question", "questions"), span(now.Sub(p.RefusedAt)))
	}
	return text
}

func (r Report) queueLine() string {
	q := r.Queue
	if q.Loading {
		return "still being read from the spool"
	}
	if q.Entries == 0 {
		return "empty"
	}
	line := count(q.Entries, "message", "messages")
	var parts []string
	for _, state := range []string{"running", "ready", "waiting", "held"} {
		if n := q.Depth[state]; n > 0 {
			parts = append(parts, thousands(int64(n))+" "+state)
		}
	}
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	line += "; oldest " + span(time.Duration(q.OldestAgeSeconds)*time.Second)
	if q.Next.After(r.At) {
		line += "; next attempt in " + span(q.Next.Sub(r.At))
	}
	return line
}

// visible keeps text of strangers on its line and out of the terminal's hands.
func visible(s string) string {
	const most = 400
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

func short(commit string) string { return visible(commit[:min(12, len(commit))]) }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Span is a length of time for people, in its two largest units: "3d4h", "12s".
func Span(d time.Duration) string { return span(d) }

func span(d time.Duration) string {
	d = max(0, d.Round(time.Second))
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		n := d / u.size
		if n == 0 && u.size > time.Second {
			continue
		}
		out := strconv.FormatInt(int64(n), 10) + u.name
		if i+1 < len(units) {
			if rest := (d % u.size) / units[i+1].size; rest > 0 {
				out += strconv.FormatInt(int64(rest), 10) + units[i+1].name
			}
		}
		return out
	}
	return "0s"
}

// thousands is a number in groups of three digits.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
