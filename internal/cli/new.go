package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

// kinds are what a machine can be, as #Host says.
var kinds = []string{"printer", "scanner", "appliance", "server", "application", "sensor", "other"}

func newNew(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Write a registration, from questions or flags",
		Long: "Write a registration to registrations/<department>/<name>.cue, from answers to\n" +
			"questions at a terminal or from flags; a flag answers its question. It is checked\n" +
			"first, together with the whole register: nothing is written while it has an error,\n" +
			"and no file is ever replaced.",
		Example: "  gatepost new\n" +
			"  gatepost new --department lsa-physics --contact-name 'Physics IT' --contact-email physics-it@lsa.umich.edu \\\n" +
			"    --purpose 'Scan-to-email in the print room.' --why-no-auth 'The firmware has no SMTP AUTH client.' \\\n" +
			"    --host 141.211.13.23,mfp3.physics.lsa.umich.edu,printer --per-hour 200 --per-day 1000 --accept",
		GroupID: groupRegister,
		Args:    noArguments("the file's name is made of the department and the machine; choose it with --name"),
	}
	dir := addDir(cmd)
	var d draft
	f := cmd.Flags()
	f.StringVar(&d.department, "department", "", "the department's short `NAME`")
	f.StringVar(&d.name, "name", "", "the file's `NAME` without .cue (default: the first machine's)")
	f.StringVar(&d.contact.Name, "contact-name", "", "`WHO` gets the confirmation")
	f.StringVar(&d.contact.Email, "contact-email", "", "their `ADDRESS`, better a shared mailbox")
	f.StringVar(&d.purpose, "purpose", "", "what the mail is for")
	f.StringVar(&d.whyNoAuth, "why-no-auth", "", "why the machine cannot log in")
	f.StringArrayVar(&d.hosts, "host", nil, "a machine: `IP,NAME,KIND`; once for each address")
	f.StringArrayVar(&d.senders, "sender", nil, "a sender `ADDRESS` that is used, or *@domain (default: any)")
	f.StringVar(&d.bounces, "bounces", "", "`WHO` is told of failed mail whose sender cannot be: \"contact\" (default: not the department)")
	f.IntVar(&d.volume.PerHour, "per-hour", 0, "the most messages in an hour, a `NUMBER`")
	f.IntVar(&d.volume.PerDay, "per-day", 0, "the most messages in a day, a `NUMBER`")
	f.StringVar(&d.expires, "expires", "", "the last `DAY`, as year-month-day (default: a year from now)")
	f.StringVar(&d.comment, "comment", "", "a remark above it")
	f.BoolVar(&d.accept, "accept", false, "accept the conditions: the IT policies; no bulk mail, no workstation, no mail server of its own")
	_ = cmd.RegisterFlagCompletionFunc("department", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return departmentFolders(*dir), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := openCheckout(o, *dir)
		if err != nil {
			return err
		}
		defer c.close()
		if err := d.complete(cmd.Context(), o, c); err != nil {
			return err
		}
		written, err := d.write(cmd.Context(), o, c)
		if err != nil {
			return err
		}
		shown := displayed(*dir, c.git.Top(), written)
		fmt.Fprintln(o.Stdout, printable(shown))
		fmt.Fprintf(o.Stderr, "gatepost: hint: look it over, then open the pull request: %s\n", printable(commandLine("submit", shown)))
		return nil
	}
	return cmd
}

// A draft is a registration as it was typed.
type draft struct {
	department, name   string
	contact            registration.Contact
	purpose, whyNoAuth string
	hosts, senders     []string // hosts: IP,NAME,KIND
	bounces            string
	volume             registration.Volume
	expires, comment   string
	accept             bool
}

// complete asks for what no flag has said, if there is somebody to ask.
func (d *draft) complete(ctx context.Context, o Options, c *checkout) error {
	missing := d.missing()
	if len(missing) == 0 {
		return nil
	}
	q := newQuestions(ctx, o)
	if q == nil {
		return fail("not said: "+strings.Join(missing, ", "), "at a terminal gatepost new asks for what is missing", "an example of all flags: gatepost new -h")
	}
	known, err := c.snapshot(ctx, o.Now())
	if err != nil {
		return err
	}
	return d.ask(q, known, o.Now())
}

// snapshot is the register as it is on disk, of what is valid.
func (c *checkout) snapshot(ctx context.Context, now time.Time) (*policy.Snapshot, error) {
	t, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	files, err := review.Parse(ctx, t.Site, t.Sources, nil)
	if err != nil {
		return nil, explainTree(err)
	}
	s, _ := policy.Build(files, policy.Options{Now: now})
	return s, nil
}

// missing names the flags that are needed and not there.
func (d *draft) missing() []string {
	var flags []string
	for _, f := range []struct {
		name string
		said bool
	}{
		{"--department", d.department != ""}, {"--contact-name", d.contact.Name != ""}, {"--contact-email", d.contact.Email != ""},
		{"--purpose", d.purpose != ""}, {"--why-no-auth", d.whyNoAuth != ""}, {"--host", len(d.hosts) > 0},
		{"--per-hour", d.volume.PerHour > 0}, {"--per-day", d.volume.PerDay > 0}, {"--accept", d.accept},
	} {
		if !f.said {
			flags = append(flags, f.name)
		}
	}
	return flags
}

// registration is the draft as a value.
func (d *draft) registration(now time.Time) (*registration.Registration, error) {
	r := &registration.Registration{
		Department: d.department, Contact: d.contact, Purpose: d.purpose, WhyNoAuth: d.whyNoAuth, Senders: d.senders, Bounces: d.bounces, Volume: d.volume,
		Accept: registration.Accept{Policies: d.accept, NotBulk: d.accept, NotWorkstation: d.accept, NoMailServer: d.accept},
	}
	for _, text := range d.hosts {
		h, err := parseHost(text)
		if err != nil {
			return nil, err
		}
		r.Hosts = append(r.Hosts, h)
	}
	last := now.UTC().AddDate(1, 0, 0)
	if d.expires != "" {
		var err error
		if last, err = time.Parse(time.DateOnly, d.expires); err != nil {
			return nil, fail("--expires "+quote(d.expires)+" is no day", "write it as year-month-day: --expires "+now.UTC().AddDate(1, 0, 0).Format(time.DateOnly))
		}
	}
	r.Expires = time.Date(last.Year(), last.Month(), last.Day()+1, 0, 0, 0, 0, time.UTC)
	if d.name == "" {
		d.name, _, _ = strings.Cut(strings.ToLower(r.Hosts[0].Name), ".")
	}
	return r, nil
}

// parseHost reads IP,NAME,KIND. The rest is for the judge to say.
func parseHost(text string) (registration.Host, error) {
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return registration.Host{}, fail("--host "+quote(text)+" is not IP,NAME,KIND", "for example: --host 192.0.2.21,mfp1.example.edu,printer")
	}
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	ip, err := netip.ParseAddr(parts[0])
	if err != nil {
		hint := "for example: --host 192.0.2.21,mfp1.example.edu,printer"
		if _, err := netip.ParsePrefix(parts[0]); err == nil {
			hint = "ranges are not registered: one --host for each address"
		}
		return registration.Host{}, fail("--host "+quote(text)+": "+quote(parts[0])+" is no address", hint)
	}
	if !slices.Contains(kinds, parts[2]) {
		hint := "one of " + strings.Join(kinds, ", ")
		if near := nearest(parts[2], kinds, 2); near != "" {
			hint = "did you mean: --host " + quote(strings.Join([]string{parts[0], parts[1], near}, ","))
		}
		return registration.Host{}, fail("--host "+quote(text)+": "+quote(parts[2])+" is no kind of machine", hint)
	}
	return registration.Host{IP: ip, Name: parts[1], Kind: parts[2]}, nil
}

// write judges the registration with all that is on disk, and only then
// writes it. It returns the path from the top of the checkout.
func (d *draft) write(ctx context.Context, o Options, c *checkout) (string, error) {
	r, err := d.registration(o.Now())
	if err != nil {
		return "", err
	}
	p := path.Join(registerDir, d.department, d.name+".cue")
	if d.department == "" || strings.ContainsAny(d.department, `/\`) || path.Base(d.name) != d.name || registration.Kind(p) != registration.KindRegistration {
		return "", fail(quote(d.department+"/"+d.name)+" cannot be the name of a registration", "letters, digits and hyphens: --department lsa-physics --name mfp1")
	}
	text := registration.Format(r, d.comment)
	if err := d.judge(ctx, o, c, p, text); err != nil {
		return "", err
	}
	return p, create(c.git.Top(), p, text)
}

// judge prints what is wrong with the new file, and refuses it.
func (d *draft) judge(ctx context.Context, o Options, c *checkout, p string, text []byte) error {
	base, err := c.disk(ctx)
	if err != nil {
		return err
	}
	i, taken := slices.BinarySearchFunc(base.Sources, p, func(s review.Source, p string) int { return strings.Compare(s.Path, p) })
	if taken {
		return exists(p)
	}
	added := review.Source{Source: registration.Source{Path: p, Size: int64(len(text)), Data: text}}
	head := review.Tree{Site: base.Site, Sources: slices.Insert(slices.Clone(base.Sources), i, added)}
	progress, stop := startProgress(ctx, o.Stderr, "checking", "files")
	defer stop()
	change, err := review.Read(ctx, base.Tree, head, o.Now(), nil, &progress.Counter)
	if err != nil {
		return explainTree(err)
	}
	stop()
	problems := slices.DeleteFunc(change.Problems(policy.Author{}), func(p registration.Problem) bool {
		return p.Severity == registration.Warning
	})
	if len(problems) == 0 {
		return nil
	}
	if err := problemsText(o.Stderr, problems); err != nil {
		return err
	}
	fmt.Fprintf(o.Stderr, "%s: nothing was written\n", count(len(problems), "error", "errors"))
	fmt.Fprintf(o.Stderr, "gatepost: hint: to mend it, change this and run it: %s\n", printable(commandLine(d.flags()...)))
	return errProblems
}

// flags is the command line that says what the draft says, so that no answer
// is lost.
func (d *draft) flags() []string {
	args := []string{"new"}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	add("--department", d.department)
	add("--name", d.name)
	add("--contact-name", d.contact.Name)
	add("--contact-email", d.contact.Email)
	add("--purpose", d.purpose)
	add("--why-no-auth", d.whyNoAuth)
	for _, h := range d.hosts {
		add("--host", h)
	}
	for _, s := range d.senders {
		add("--sender", s)
	}
	add("--bounces", d.bounces)
	add("--per-hour", fmt.Sprint(d.volume.PerHour))
	add("--per-day", fmt.Sprint(d.volume.PerDay))
	add("--expires", d.expires)
	add("--comment", d.comment)
	if d.accept {
		args = append(args, "--accept")
	}
	return args
}

func exists(p string) error {
	return fail(p+" exists already", "change it there, or choose another name: --name")
}

// create writes a new file below top, through no symlink, and takes back what
// it made if it fails.
func create(top, p string, text []byte) (err error) {
	root, err := os.OpenRoot(top)
	if err != nil {
		return err
	}
	defer root.Close()
	folder := path.Dir(p)
	info, statErr := root.Lstat(folder)
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		if err := root.Mkdir(folder, 0o777); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				root.Remove(folder)
			}
		}()
	case statErr != nil:
		return statErr
	case !info.IsDir():
		return fail(folder+" is no folder", "a department has a folder of its own")
	}
	f, err := root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return exists(p)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		root.Remove(p)
	}
	return err
}

// departmentFolders lists the departments that have a folder, for completion.
func departmentFolders(dir string) []string {
	root, err := findRoot(dir)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(path.Join(root, registerDir))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != "campus" && e.Name() != "blocks" {
			names = append(names, e.Name())
		}
	}
	return names
}
