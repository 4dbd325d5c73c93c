package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/evidence"
	"example.edu/gatepost/internal/register/registration"
)

// networksPath is the file that import writes; campusDir is where it stands.
const (
	campusDir    = registerDir + "/campus"
	networksPath = campusDir + "/networks.cue"
)

func newImport(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Write the campus's networks from an IPAM",
		Long: "Write " + networksPath + " from the networks of an IPAM, sorted, a\n" +
			"line each, so that a nightly pull request shows what changed and nothing else.\n\n" +
			"The rest of the file stays: its campus list, departments and remarks. Networks\n" +
			"that another file of registrations/campus/ gives away are left to it, and those\n" +
			"outside the campus list, of a VRF, containers and deprecated ones are left out.\n" +
			"Nothing is written if a network has no department or use (see --map), or if too\n" +
			"much of what the file has would go (see --max-removals).",
		GroupID: groupRegister,
	}
	cmd.AddCommand(newImportNetBox(o), newImportCSV(o))
	return cmd
}

func newImportNetBox(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "netbox URL",
		Short:   "… from the prefixes of a NetBox",
		Example: "  gatepost import netbox https://netbox.example.edu --token-file token --map ipam.csv",
	}
	i := addImport(cmd)
	tokenFile := cmd.Flags().String("token-file", "", "the `FILE` with an API token that may read prefixes")
	_ = cmd.MarkFlagFilename("token-file")
	cmd.Args = oneArgument("the address of a NetBox", "for example: gatepost import netbox https://netbox.example.edu")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		netbox, err := openNetBox(args[0], *tokenFile)
		if err != nil {
			return err
		}
		return i.run(cmd.Context(), o, func(ctx context.Context) ([]evidence.Block, error) {
			_, stop := startProgress(ctx, o.Stderr, "reading NetBox", "")
			defer stop()
			return netbox.Blocks(ctx)
		})
	}
	return cmd
}

func newImportCSV(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "csv FILE",
		Short: "… from a table of comma-separated values",
		Long: "Write " + networksPath + " from a table with a heading: prefix,\n" +
			"tenant (or department), role (or use), and status and vrf if there are any. Other\n" +
			"columns do not matter. FILE - is the standard input.",
		Example: "  gatepost import csv prefixes.csv --map ipam.csv\n  gatepost import csv --dry-run prefixes.csv",
	}
	i := addImport(cmd)
	cmd.Args = oneArgument("a table", "for example: gatepost import csv prefixes.csv")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return i.run(cmd.Context(), o, func(context.Context) ([]evidence.Block, error) {
			data, err := readTable(o.Stdin, args[0])
			if err != nil {
				return nil, err
			}
			blocks, err := evidence.ParseTable(data)
			if err != nil {
				return nil, fail(args[0]+": "+strings.ReplaceAll(err.Error(), "\n", "; "), "the first line names the columns: prefix,tenant,role")
			}
			return blocks, nil
		})
	}
	return cmd
}

func readTable(stdin io.Reader, name string) ([]byte, error) {
	if name != "-" {
		data, err := durable.ReadFile(name, evidence.MaxTable)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fail("there is no file " + name)
		}
		return data, err
	}
	if stdin == nil {
		return nil, fail("there is no standard input to read a table from")
	}
	data, err := io.ReadAll(io.LimitReader(stdin, evidence.MaxTable+1))
	if err == nil && len(data) > evidence.MaxTable {
		err = fail(fmt.Sprintf("the table is over %d MiB", evidence.MaxTable>>20))
	}
	return data, err
}

// oneArgument is for commands that take one thing.
func oneArgument(what, hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return fail(cmd.CommandPath()+" needs "+what, hint)
		case 1:
			return nil
		}
		return fail(fmt.Sprintf("%s takes one argument, and got %s as well", cmd.CommandPath(), quote(args[1])), hint)
	}
}

// An importer is what the two imports have in common.
type importer struct {
	dir         string
	mapping     string
	dryRun      bool
	force       bool
	maxRemovals float64
}

func addImport(cmd *cobra.Command) *importer {
	i := &importer{}
	flags := cmd.Flags()
	flags.StringVarP(&i.dir, "directory", "C", ".", "work as if started in `DIR`")
	_ = cmd.MarkFlagDirname("directory")
	addMap(cmd, &i.mapping)
	flags.BoolVarP(&i.dryRun, "dry-run", "l", false, "only list what would change; the exit code is 1 if something would")
	flags.BoolVar(&i.force, "force", false, "write whatever would go")
	flags.Float64Var(&i.maxRemovals, "max-removals", 0.3, "write nothing if more than this `PART` of the file's networks would go")
	return i
}

// run reads, selects, compares, and writes if there is something to write.
func (i *importer) run(ctx context.Context, o Options, read func(context.Context) ([]evidence.Block, error)) error {
	if i.maxRemovals < 0 || i.maxRemovals > 1 {
		return fail("--max-removals is a part of the whole, from 0 to 1", "for example: --max-removals 0.3")
	}
	root, err := findRoot(i.dir)
	if err != nil {
		return err
	}
	campus, err := openCampus(ctx, root)
	if err != nil {
		return err
	}
	mapping, err := readMapping(i.mapping, campus.departments())
	if err != nil {
		return err
	}
	blocks, err := read(ctx)
	if err != nil {
		return err
	}
	selected := evidence.Select(blocks, mapping, campus.prefixes())
	if len(selected.Mistakes) > 0 {
		for _, m := range selected.Mistakes {
			fmt.Fprintln(o.Stderr, printable(m))
		}
		return fail("nothing was written: left out, these networks would fall to the holder of what is around them",
			"name each tenant and role in the file of --map, with - where the register has no business",
			"rows are: tenant,TENANT,DEPARTMENT or role,ROLE,USE; uses are static, dhcp, wireless, vpn, residence, nat")
	}
	networks, elsewhere := campus.withoutElsewhere(selected.Networks)
	diff := compareNetworks(campus.networks(), networks)
	if err := diff.print(o.Stdout); err != nil {
		return err
	}
	fmt.Fprintf(o.Stderr, "left out: %d outside the campus, %d of a VRF, %d containers or deprecated, %d by --map, %d that another file gives away\n",
		selected.Outside, selected.Virtual, selected.Containers, selected.Mapped, elsewhere)
	if err := i.guard(o, diff, len(networks)); err != nil {
		return err
	}
	out, lost, err := registration.ReplaceNetworks(networksPath, campus.data, networks)
	if err != nil {
		return err
	}
	if err := campus.judge(o.Stderr, out); err != nil {
		return err
	}
	for _, remark := range lost {
		fmt.Fprintf(o.Stderr, "a remark has no network any more: %s\n", printable(remark))
	}
	fmt.Fprintf(o.Stderr, "%s: %s\n", networksPath, diff.summary())
	switch {
	case string(out) == string(campus.data):
		return nil
	case i.dryRun:
		return errProblems
	}
	return durable.WriteFile(filepath.Join(root, filepath.FromSlash(networksPath)), out, 0o644)
}

// guard stops an import that looks like an accident.
func (i *importer) guard(o Options, d networksDiff, left int) error {
	if i.force {
		return nil
	}
	hint := "if that is right: " + commandLine(append(o.Args, "--force")...)
	before := d.removed + d.changed + d.same
	switch {
	case left == 0:
		return fail("nothing was written: not one network is left", "does the token see the prefixes, and are they in the campus list?", hint)
	case float64(d.removed) > i.maxRemovals*float64(before):
		return fail(fmt.Sprintf("nothing was written: %d of %s would go, which is more than --max-removals %g allows",
			d.removed, count(before, "network", "networks"), i.maxRemovals), hint)
	}
	return nil
}
