package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// From when on a delay is worth a person's time.
const (
	contactLate     = 15 * time.Minute    // without a word from the repository
	queueLate       = 4 * time.Hour       // an entry is in the queue
	failuresMany    = 3                   // of one destination, in a row
	deferralsMany   = 10                  // attempts at one destination in a row that delivered nothing
	certificateSoon = 14 * 24 * time.Hour // until it expires
	refusedLong     = 24 * time.Hour      // after which a refused delivery is forgotten
)

// judge lists what is wrong in a report, the worst first. It is pure; Text and
// the pages only show what it says.
func judge(r *Report) []Finding {
	var out []Finding
	wrong := func(do, format string, args ...any) {
		out = append(out, Finding{Wrong, fmt.Sprintf(format, args...), do})
	}
	look := func(do, format string, args ...any) {
		out = append(out, Finding{Look, fmt.Sprintf(format, args...), do})
	}
	for _, why := range r.NotReady {
		if why == ending {
			look("nothing; the next relay takes over", "%s", why)
			continue
		}
		if r.Register.Commit == "" && strings.Contains(why, "register") {
			continue // said below, with the reason
		}
		wrong("make room on the disk of the state folder, then: journalctl -u gatepostd -n 50", "%s", why)
	}
	judgeRegister(r, wrong, look)
	judgeQueue(r, look)
	judgeBlocks(r, wrong, look)
	judgeBrake(r, look)
	if c := r.Certificate; c != nil {
		left := c.NotAfter.Sub(r.At)
		switch {
		case left <= 0:
			wrong("renew the certificate; it is taken up by itself", "the certificate expired %s ago", span(-left))
		case left < certificateSoon:
			look("renew the certificate; it is taken up by itself", "the certificate expires in %s", span(left))
		}
		if c.Error != "" {
			look("mend the files; they are read again when they change", "the new certificate cannot be used: %s", c.Error)
		}
	}
	if w := r.Webhook; w != nil {
		if w.Error != "" {
			look("mend the file; it is read again when it changes", "the webhook's new secret cannot be used, and the one before stays in use: %s", w.Error)
		}
		if w.Refused > 0 && r.At.Sub(w.RefusedAt) < refusedLong {
			look("give register.webhook.secretFile and the forge's webhook the same secret; until then the poll does it alone",
				"%s refused for a wrong signature, the last %s ago, and none was right since", count(int(w.Refused), "delivery of the webhook was", "deliveries of the webhook were"), span(r.At.Sub(w.RefusedAt)))
		}
	}
	if p := r.Portal; p != nil && p.Error != "" {
		look("mend the file; it is read again when it changes", "the portal's new tokens cannot be used, and those before stay in use: %s", p.Error)
	}
	if k := r.DKIM; k != nil && k.Error != "" {
		look("mend the file; it is read again when it changes", "mail is signed with the DKIM keys before: %s", k.Error)
	}
	if d := r.Resolver; d != nil && d.Error != "" {
		wrong("start the resolver at "+d.Address+", or name another as deliver.resolver", "the resolver for delivery does not answer, and mail waits: %s", d.Error)
	} else if d != nil && !d.Validates {
		wrong("give it the root's trust anchor (unbound: auto-trust-anchor-file); dig +ad . SOA @"+hostOf(d.Address)+" must then show the flag ad", "the resolver for delivery, %s, does not validate (DNSSEC), so there is no DANE", d.Address)
	}
	if c := r.Config; c.Error != "" {
		look("gatepostd --config "+c.File+" --check", "the configuration file has problems; the one before stays in force")
	} else if len(c.NeedRestart) > 0 {
		look("systemctl restart gatepostd", "changes in the configuration wait for a restart: %s", strings.Join(c.NeedRestart, ", "))
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return strings.Compare(string(b.Level), string(a.Level)) // "wrong" before "look"
	})
	return out
}

func judgeRegister(r *Report, wrong, look func(do, format string, args ...any)) {
	g := r.Register
	switch {
	case g.Commit == "" && g.Condition == Following:
		why := ""
		if g.Error != "" {
			why = ": " + g.Error
		}
		wrong("check register.repository, and tokenFile or app, in the configuration; journalctl -u gatepostd -n 50",
			"there is no register yet, so nobody can send%s", why)
	case g.Condition == Frozen:
		do := orElse(g.Command, "look at the branch of the register")
		if g.Commit != "" && g.Command != "" {
			do = "put the branch back to where it was, commit " + short(g.Commit) + "; or once you have looked at what is there now: " + g.Command
		}
		wrong(do, "the register is frozen: %s", g.Reason)
	case g.Condition == Held:
		wrong(orElse(g.Command, "look at the newest commit of the register"), "a change of the register waits for an operator: %s", g.Reason)
	}
	if late := r.At.Sub(g.LastContact); g.Commit != "" && g.Error != "" && late >= contactLate {
		ago := "since the start"
		if !g.LastContact.IsZero() {
			ago = "for " + span(late)
		}
		look("the relay goes on with what it has; check the repository's host and the token",
			"the register's repository has not answered %s: %s", ago, g.Error)
	}
	if g.Dropped > 0 {
		look("gatepost check, in a checkout of the register", "%s faulty, without a good version, and not in force", count(g.Dropped, "file of the register is", "files of the register are"))
	}
	if n := len(g.Substituted); n > 0 {
		look("gatepost check, in a checkout of the register", "%s faulty; the last good version stays in force", count(n, "file of the register is", "files of the register are"))
	}
	if n := len(g.Keys); n > 0 {
		more := ""
		if n > 1 {
			more = fmt.Sprintf("; and %d more, gatepostd --check tells", n-1)
		}
		look("mend the files that register.verify.keys names; they are read again when they change", "not all keys of postmasters count: %s%s", g.Keys[0], more)
	}
	judgeWithheld(r, look)
	if g.Unconfirmed && r.At.Sub(g.AcceptedAt) >= contactLate {
		look("journalctl -u gatepostd -n 50", "confirmations are late")
	}
}

// judgeWithheld tells of each commit that nobody vouches for, of the first few
// of them.
func judgeWithheld(r *Report, look func(do, format string, args ...any)) {
	files := map[string]int{} // by commit
	var first []Withheld
	for _, w := range r.Register.Withheld {
		if files[w.Commit]++; files[w.Commit] == 1 {
			first = append(first, w)
		}
	}
	for _, w := range first[:min(shown, len(first))] {
		command := fmt.Sprintf("gatepost accept %s --reason '…'", w.Commit)
		do := "take the change back and propose it anew, for a postmaster to approve; or once you have looked at it: " + command
		if !w.Refused {
			do = "it is judged again by itself; if it stays so, mend what is said there: the forge, the token or the files of keys; or once you have looked at it: " + command
		}
		look(do, "%s not been taken over since %s: nobody vouches for commit %s: %s",
			count(files[w.Commit], "file has", "files have"), stamp(w.Since), short(w.Commit), w.Why)
	}
	if more := len(first) - shown; more > 0 {
		look("gatepost status --format json", "nobody vouches for %s either", count(more, "more commit", "more commits"))
	}
}

func judgeQueue(r *Report, look func(do, format string, args ...any)) {
	q := r.Queue
	if n := q.Depth["held"]; n > 0 {
		look("gatepost queue list --status held", "%s held", count(n, "message is", "messages are"))
	}
	if age := time.Duration(q.OldestAgeSeconds) * time.Second; age >= queueLate {
		look("gatepost queue list", "the oldest message has been in the queue for %s", span(age))
	}
	for _, d := range q.Destinations {
		switch {
		case d.Failures >= failuresMany:
			look("gatepost queue list --destination "+d.Name, "%s has failed %d times in a row; %s for it",
				d.Name, d.Failures, count(d.Entries, "message waits", "messages wait"))
		case d.Deferrals >= deferralsMany:
			look("gatepost queue list --destination "+d.Name, "%s has put off %d attempts in a row; %s for it; the last was told: %s",
				d.Name, d.Deferrals, count(d.Entries, "message waits", "messages wait"), d.Said)
		}
	}
}

// hostOf is an address without its port, as dig takes it.
func hostOf(address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	if at.Port() == 53 {
		return at.Addr().String()
	}
	return fmt.Sprintf("%s -p %d", at.Addr(), at.Port())
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// count is "1 file is" or "2,000 files are".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(int64(n)) + " " + many
}
