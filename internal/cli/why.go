package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

func newWhy(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why IP",
		Short: "Explain why an address may send, or why not",
		Long: "Explain how an address stands in the committed register: the file and line that\n" +
			"decide, who holds the network, who let it in and when, and what to do next.\n" +
			"With --at, as it stood at a commit or at a time.",
		Example: "  gatepost why 141.211.13.21\n  gatepost why 141.211.13.21 --at 2026-10-01T12:00:00Z\n  gatepost why 2607:f018:1:13::22 --at v1.2 --format json",
		GroupID: groupRegister,
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	dir := addDir(cmd)
	at := cmd.Flags().String("at", "", "as it stood at `COMMIT|TIME` (RFC 3339, or a day)")
	format := addFormat(cmd, "text", "json")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fail("gatepost why needs one address", "for example: gatepost why 141.211.13.21")
		}
		if len(args) > 1 {
			return fail("gatepost why takes one address at a time", "once for each: for ip in "+commandLine(args...)[len("gatepost "):]+"; do gatepost why $ip; done")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		addr, wrong := parseAddress(o.Args, args[0], nil)
		if wrong != nil && !nameShape.MatchString(args[0]) {
			return wrong
		}
		c, err := openCheckout(o, *dir)
		switch {
		case err != nil && wrong != nil:
			return wrong
		case err != nil:
			return err
		}
		defer c.close()
		p, stop := startProgress(cmd.Context(), o.Stderr, "reading", "files")
		defer stop()
		view, err := viewAt(cmd.Context(), c, *at, o.Now(), p)
		if err != nil {
			return err
		}
		if wrong != nil { // a machine's name, which the register may know
			_, wrong = parseAddress(o.Args, args[0], view.snapshot)
			return wrong
		}
		answer, err := explain(cmd.Context(), c, view, addr)
		if err != nil {
			return err
		}
		stop()
		if format.value == "json" {
			return writeJSON(o.Stdout, answer)
		}
		return answer.print(o.Stdout)
	}
	return cmd
}

var nameShape = regexp.MustCompile(`^[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*$`)

// A view is the committed register at one commit, judged at one time.
type view struct {
	tree     *tree
	files    []*registration.File
	snapshot *policy.Snapshot
	problems []registration.Problem
	now      time.Time
}

// viewAt builds the register at HEAD, or as at says: a time means the commit
// that the branch stood at then, a commit means the moment it was made.
func viewAt(ctx context.Context, c *checkout, at string, now time.Time, p *progress) (view, error) {
	t, now, err := c.treeAt(ctx, at, now)
	if err != nil {
		return view{}, err
	}
	files, err := review.Parse(ctx, t.Site, t.Sources, &p.Counter)
	if err != nil {
		return view{}, explainTree(err)
	}
	v := view{tree: t, files: files, now: now}
	v.snapshot, v.problems = policy.Build(files, policy.Options{Commit: t.commit.String(), Now: now})
	return v, nil
}

// parseTime reads what people write for a time; a time without a zone is UTC.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			if layout == time.DateOnly { // the whole of that day has happened
				t = t.AddDate(0, 0, 1).Add(-time.Second)
			}
			return t, true
		}
	}
	return time.Time{}, false
}

// parseAddress reads one address, and tells from what was written instead
// which one was probably meant.
func parseAddress(args []string, s string, in *policy.Snapshot) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err == nil && addr.Zone() == "" {
		return addr.Unmap(), nil
	}
	message := fmt.Sprintf("%s is not one address", quote(s))
	meant := func(a netip.Addr) error {
		return fail(message, "did you mean: "+corrected(args, s, a.Unmap().WithZone("").String()))
	}
	if err == nil {
		return addr, meant(addr)
	}
	if prefix, err := netip.ParsePrefix(s); err == nil {
		return addr, meant(prefix.Addr())
	}
	if port, err := netip.ParseAddrPort(s); err == nil {
		return addr, meant(port.Addr())
	}
	if bare, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return addr, meant(bare)
	}
	if first, _, ok := strings.Cut(s, "-"); ok {
		if bare, err := netip.ParseAddr(strings.TrimSpace(first)); err == nil {
			return addr, meant(bare)
		}
	}
	name := strings.TrimSuffix(s, ".")
	for a, e := range in.All() {
		if short, _, _ := strings.Cut(e.Host.Name, "."); strings.EqualFold(e.Host.Name, name) || strings.EqualFold(short, name) {
			return addr, fail(message, fmt.Sprintf("%s is registered as %s; did you mean: %s", e.Host.Name, a, corrected(args, s, a.String())))
		}
	}
	return addr, fail(message, "for example: gatepost why 141.211.13.21", "the addresses of a machine by its name: host "+quote(s))
}

// explain gathers everything that is known of addr in one view.
func explain(ctx context.Context, c *checkout, v view, addr netip.Addr) (*explanation, error) {
	verdict := v.snapshot.Lookup(addr, v.now)
	e := &explanation{
		IP:       addr,
		Standing: verdict.Standing.String(),
		Commit:   v.snapshot.Commit(),
		At:       v.now.UTC(),
	}
	if r := verdict.Registration; r != nil {
		e.Registration = explainRegistration(v.snapshot, r, verdict.Host)
		e.History, e.Changed = v.origin(ctx, c, r.Path, addr)
	}
	if b := verdict.Block; b != nil {
		e.Block = explainBlock(b)
		e.Block.History, _ = v.origin(ctx, c, b.Path, netip.Addr{})
	}
	if h, ok := v.snapshot.Holder(addr); ok {
		e.Network = &whyNetwork{Prefix: h.Prefix, Department: h.Department, Name: departmentName(v.snapshot, h.Department), Use: h.Use, File: h.File, Line: int(h.At.Line)}
	}
	if verdict.Registration == nil {
		if e.Faulty = v.faulty(addr); len(e.Faulty) == 0 {
			e.Removed = v.removed(ctx, c, addr)
		}
	}
	e.Rule = e.rule()
	e.Next = e.next(v.snapshot)
	return e, ctx.Err()
}

// faulty finds a registration that names addr and was not built, and says why.
// Of one that cannot be read, it is a guess that it registers what it names.
func (v view) faulty(addr netip.Addr) []registration.Problem {
	var found []registration.Problem
	for i, f := range v.files {
		names := f.Registration != nil && hasHost(f.Registration, addr) ||
			f.Registration == nil && registration.Kind(f.Path) == registration.KindRegistration &&
				bytes.Contains(v.tree.Sources[i].Data, strconv.AppendQuote(nil, addr.String()))
		if !names {
			continue
		}
		for _, p := range v.problems {
			if p.File == f.Path && p.Severity != registration.Warning {
				found = append(found, p)
			}
		}
	}
	return found
}

func hasHost(r *registration.Registration, addr netip.Addr) bool {
	return slices.ContainsFunc(r.Hosts, func(h registration.Host) bool { return h.IP == addr })
}

// rule is the rule that keeps the address from sending; "" if none does, or if
// nothing is wrong but that nobody has registered it.
func (e *explanation) rule() registration.Rule {
	switch {
	case e.Standing == policy.Blocked.String():
		return registration.RuleIPBlocked
	case e.Standing == policy.Expired.String():
		return registration.RuleExpired
	case e.Standing == policy.OffCampus.String():
		return registration.RuleIPNotCampus
	case e.Standing != policy.Unregistered.String():
		return ""
	case len(e.Faulty) > 0:
		return e.Faulty[0].Rule
	case e.Network == nil:
		return registration.RuleIPNotOwned
	case e.Network.Use != "static":
		return registration.RuleIPPool
	}
	return ""
}

// next is what the reader can do now, one step a line.
func (e *explanation) next(s *policy.Snapshot) []string {
	switch e.Standing {
	case policy.Registered.String():
		return nil
	case policy.Expired.String():
		return []string{fmt.Sprintf("renew it: set expires in %s to a day at most %d years ahead, and open a pull request", e.Registration.File, policy.MaxAhead)}
	case policy.Blocked.String():
		return []string{fmt.Sprintf("ask the postmasters about block %s; it ends when %s is removed", e.Block.Reference, e.Block.File)}
	case policy.OffCampus.String():
		return []string{"only the university's own addresses can be registered; they are listed in " + registerDir + "/campus/"}
	}
	if len(e.Faulty) > 0 {
		steps := make([]string, 0, len(e.Faulty))
		for _, p := range e.Faulty {
			steps = append(steps, fmt.Sprintf("mend %s:%d: %s", p.File, max(p.Line, 1), p.Hint))
		}
		return append(steps, "until then, a relay that had an earlier version of the file in force goes on with that one: gatepost status")
	}
	switch {
	case e.Network == nil:
		return []string{"no department holds this network; ask the postmasters to enter it in " + registerDir + "/campus/"}
	case e.Network.Use != "" && e.Network.Use != "static":
		return []string{fmt.Sprintf("nothing registers in a %s network, where addresses move; give the machine a static address first", e.Network.Use)}
	}
	steps := []string{fmt.Sprintf("add it to a file in %s/%s/ and open a pull request; %s/README.md says how", registerDir, e.Network.Department, registerDir)}
	if d := s.Department(e.Network.Department); d != nil && len(d.Speakers) > 0 {
		names := make([]string, 0, len(d.Speakers))
		for _, sp := range d.Speakers {
			names = append(names, sp.Name())
		}
		steps = append(steps, "who speaks for the department: "+strings.Join(names, ", "))
	}
	return steps
}
