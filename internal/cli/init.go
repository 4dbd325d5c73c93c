package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/cli/scaffold"
	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/registration"
	"example.edu/gatepost/internal/register/review"
)

func newInit(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Start a register of your own, workflows included",
		Long: "Make a folder with a register of your own: the guide for departments, your networks\n" +
			"and the first department, an example that lets nobody send, and what GitHub needs to\n" +
			"judge requests. It is a git repository with a first commit, and passes its own check.\n" +
			"Answers come from flags, and from questions at a terminal. A folder that is not\n" +
			"empty is left alone, and a failure leaves nothing behind.\n\n" +
			"With --plain it is for a site without a forge: a branch is a request, and a merge\n" +
			"approves it.\n\n" +
			"With --check-forge it makes nothing: it reads the settings of the repository at\n" +
			"GitHub and names what a register needs and is not switched on, a line each, and\n" +
			"where. What the token may not see is 'unknown'. The exit code is 1 if anything is\n" +
			"missing or unknown. The token is that of GITHUB_TOKEN or of --token-file, or an\n" +
			"App's; an administrator's sees all.",
		Example: "  gatepost init mail-register\n" +
			"  gatepost init mail-register --repo umich/mail-register --postmasters postmasters --network-team network \\\n" +
			"    --campus 141.211.0.0/16,2607:f018::/32 --department lsa-physics --department-name 'Physics, College of LSA' \\\n" +
			"    --holds 141.211.13.0/24 --speaker octocat:583231 --mail-domain umich.edu --gatepost v1.2.3\n" +
			"  gatepost init mail-register --plain\n" +
			"  gatepost init --check-forge mail-register\n" +
			"  GITHUB_TOKEN=$(gh auth token) gatepost init --check-forge --repo umich/mail-register",
		GroupID: groupRegister,
	}
	f := founding{o: o}
	flags := cmd.Flags()
	flags.BoolVar(&f.plain, "plain", false, "without a forge: a branch is a request, and a merge approves it")
	for _, q := range f.fields() {
		flags.Var(q.value, q.flag, q.usage)
		_ = cmd.RegisterFlagCompletionFunc(q.flag, cobra.NoFileCompletions)
	}
	check := forgeCheck{o: o}
	check.add(cmd)
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && check.on:
			return nil
		case len(args) == 0:
			return fail("gatepost init needs the folder to make", "for example: "+commandLine(append(o.Args, "mail-register")...), "to see what is not switched on at the forge: gatepost init --check-forge")
		case len(args) == 1:
			return nil
		}
		return fail("gatepost init takes one folder, and got "+quote(args[1])+" as well", "several networks or speakers have commas between them, or the flag comes once for each")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := check.alone(cmd, f.fields()); err != nil {
			return err
		}
		if check.on {
			return check.run(cmd.Context(), append(args, ".")[0], f.repository.String(), f.branch.String())
		}
		return f.run(cmd.Context(), args[0])
	}
	cmd.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	return cmd
}

// A founding is one run of the command, and what was answered.
type founding struct {
	o     Options
	plain bool

	repository, postmasters, network, maintainers text
	campus, holds, speakers                       words
	department, departmentName, domain            text
	judge, branch                                 text
}

func (f *founding) run(ctx context.Context, dir string) error {
	who, err := author()
	if err != nil {
		return err
	}
	plot, err := openPlot(dir)
	if err != nil {
		return err
	}
	defer plot.close()
	if err := f.make(ctx, plot, who); err != nil {
		return errors.Join(err, plot.clear())
	}
	fmt.Fprintln(f.o.Stdout, printable(dir))
	for _, hint := range f.next(dir) {
		fmt.Fprintf(f.o.Stderr, "gatepost: hint: %s\n", printable(hint))
	}
	return nil
}

// make fills the folder. What it leaves there when it fails is for the caller
// to clear.
func (f *founding) make(ctx context.Context, plot *plot, who forge.Person) error {
	if err := f.complete(ctx); err != nil {
		return err
	}
	site, err := f.site()
	if err != nil {
		return err
	}
	files, err := scaffold.Files(site)
	if err != nil {
		return err
	}
	if err := f.check(ctx, files); err != nil {
		return err
	}
	var changes []forge.Change
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := plot.write(file.Path, file.Data); err != nil {
			return err
		}
		changes = append(changes, forge.Change{Path: file.Path, Data: file.Data})
	}
	plot.made = append(plot.made, ".git")
	_, err = forge.CreateGit(ctx, plot.dir, forge.First{
		Branch: f.branch.String(), Title: "A register of machines that may send mail", Body: "Written by gatepost init.",
		Author: who, At: f.o.Now(), Changes: changes,
	})
	return err
}

// author is who the first commit is by.
func author() (forge.Person, error) {
	p := forge.Person{Name: os.Getenv("GIT_AUTHOR_NAME"), Email: os.Getenv("GIT_AUTHOR_EMAIL")}
	if p.Name != "" && p.Email != "" {
		return p, nil
	}
	usual, err := forge.UsualPerson()
	if p.Name == "" {
		p.Name = usual.Name
	}
	if p.Email == "" {
		p.Email = usual.Email
	}
	if p.Name != "" && p.Email != "" {
		return p, nil
	}
	hints := []string{"git config --global user.name 'Your Name'", "git config --global user.email you@example.edu"}
	if err != nil {
		return p, hinted(err, append(hints, "or set GIT_AUTHOR_NAME and GIT_AUTHOR_EMAIL")...)
	}
	return p, fail("git does not know who you are", hints...)
}

// site is what was answered, as the scaffold takes it.
func (f *founding) site() (scaffold.Site, error) {
	s := scaffold.Site{Plain: f.plain}
	if !f.plain {
		s.Org, _, _ = strings.Cut(f.repository.String(), "/")
		s.Postmasters, s.Network, s.Maintainers = f.postmasters.String(), f.network.String(), f.maintainers.String()
		if url, digest, ok := strings.Cut(f.judge.String(), "#sha256="); ok {
			s.Release = digest + " " + url
		} else {
			s.Version = programPackage() + "@" + f.judge.String()
		}
	}
	example, err := exampleOutside(f.campus)
	if err != nil {
		return s, err
	}
	now := f.o.Now().UTC()
	s.Register = &scaffold.Register{
		Branch: f.branch.String(), Campus: f.campus, Holds: f.holds, MailDomain: strings.ToLower(f.domain.String()), Example: example,
		Department: scaffold.Department{ID: f.department.String(), Name: f.departmentName.String()},
		Expires:    now.AddDate(1, 0, 0).Format(time.DateOnly),
	}
	for i, speaker := range f.speakers {
		who, err := parseAuthor(speaker)
		if err != nil {
			return s, err
		}
		if who.ID == 0 && who.Email == "" { // plain: the number stands for nothing
			who.ID = int64(i + 1)
		}
		s.Register.Department.Speakers = append(s.Register.Department.Speakers, scaffold.Speaker{Login: who.Login, ID: who.ID, Email: who.Email})
	}
	return s, nil
}

// check lays the files out and builds the register that they are, as the relay
// will: nothing is written that has a problem.
func (f *founding) check(ctx context.Context, files []scaffold.File) error {
	var site []byte
	var sources []review.Source
	for i, file := range files {
		if path.Ext(file.Path) != ".cue" {
			continue
		}
		laid, err := registration.FormatSource(file.Path, file.Data)
		if err != nil {
			return err
		}
		files[i].Data = laid
		if file.Path == review.SitePath {
			site = laid
			continue
		}
		sources = append(sources, review.Source{Source: registration.Source{Path: file.Path, Size: int64(len(laid)), Data: laid}})
	}
	parsed, err := review.Parse(ctx, site, sources, nil)
	if err != nil {
		return err
	}
	_, problems := policy.Build(parsed, policy.Options{Now: f.o.Now()})
	if len(problems) == 0 {
		return nil
	}
	if err := problemsText(f.o.Stderr, problems); err != nil {
		return err
	}
	fmt.Fprintf(f.o.Stderr, "%s: nothing was written\n", count(len(problems), "problem", "problems"))
	return errProblems
}

// next is what is left to do.
func (f *founding) next(dir string) []string {
	if f.plain {
		abs, err := filepath.Abs(dir)
		if err != nil {
			abs = dir
		}
		return []string{
			"how a branch is a request and a merge approves it: " + filepath.Join(dir, "README.md"),
			fmt.Sprintf("the relay reads it where it is: register: {repository: %q, branch: %q}", abs, f.branch),
			"a first registration of your own: gatepost new -C " + quote(dir),
		}
	}
	server := os.Getenv("GITHUB_SERVER_URL")
	if server == "" {
		server = "https://github.com"
	}
	teams := slices.Compact(slices.Sorted(slices.Values([]string{f.postmasters.String(), f.network.String(), f.maintainers.String()})))
	there := strings.TrimSuffix(server, "/") + "/" + f.repository.String()
	return []string{
		fmt.Sprintf("make the repository %s, with nothing in it, and let the %s %s write to it", there, plural(len(teams), "team", "teams"), strings.Join(teams, ", ")),
		fmt.Sprintf("bring the register there: git -C %s remote add origin %s.git && git -C %s push -u origin %s", quote(dir), there, quote(dir), f.branch),
		"switch the rules on: " + filepath.Join(dir, "registrations", "README.md") + "#at-the-forge",
		"see what is missing: GITHUB_TOKEN=... gatepost init --check-forge " + quote(dir),
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// A plot is the folder in which a register is made.
type plot struct {
	dir    string
	root   *os.Root
	isMine bool     // the folder was not there
	made   []string // names in it that are to go when it fails
}

// openPlot makes the folder, or takes one that is empty. So a folder that
// cannot be written to is known before any question.
func openPlot(dir string) (*plot, error) {
	p := &plot{dir: dir}
	err := os.Mkdir(dir, 0o777)
	switch {
	case err == nil:
		p.isMine = true
	case errors.Is(err, fs.ErrNotExist):
		return nil, hinted(err, "make the folders above it first: mkdir -p "+quote(filepath.Dir(filepath.Clean(dir))))
	case errors.Is(err, fs.ErrPermission):
		return nil, hinted(err, "choose a folder in which you may write")
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	if err := p.open(); err != nil {
		err = errors.Join(err, p.clear())
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *plot) open() error {
	info, err := os.Stat(p.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fail(p.dir+" is a file", "name a folder that is not there yet")
	}
	if p.root, err = os.OpenRoot(p.dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return notEmpty(p.dir)
	}
	probe, err := os.CreateTemp(p.dir, ".gatepost-")
	if why, ok := errors.AsType[*fs.PathError](err); ok {
		return hinted(fmt.Errorf("%s cannot be written to: %w", p.dir, why.Err), "choose a folder in which you may write")
	}
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func notEmpty(dir string) error {
	err := fail(dir+" is not empty", "name a folder that is not there yet; nothing is ever put among other files")
	if info, statErr := os.Stat(filepath.Join(dir, registerDir)); statErr == nil && info.IsDir() {
		return hinted(err, "it holds a register already: gatepost check -C "+quote(dir)+" looks at it, gatepost new -C "+quote(dir)+" adds to it")
	}
	return err
}

// write writes a new file, and remembers what has to go with it.
func (p *plot) write(name string, data []byte) error {
	top, _, _ := strings.Cut(name, "/")
	if !slices.Contains(p.made, top) {
		p.made = append(p.made, top)
	}
	if err := p.root.MkdirAll(path.Dir(name), 0o777); err != nil {
		return err
	}
	f, err := p.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// clear takes back what was made, and nothing else.
func (p *plot) clear() error {
	var failed error
	for _, name := range p.made {
		failed = errors.Join(failed, p.root.RemoveAll(name))
	}
	if p.isMine {
		failed = errors.Join(failed, os.Remove(p.dir))
	}
	return failed
}

func (p *plot) close() {
	if p.root != nil {
		p.root.Close()
	}
}
