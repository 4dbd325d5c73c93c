package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/evidence"
	"example.edu/gatepost/internal/register/policy"
	"example.edu/gatepost/internal/register/review"
)

// maxRelays bounds the relays that are asked.
const maxRelays = 16

// maxTokenFile bounds what is read of a token's file, in bytes.
const maxTokenFile = 64 << 10

// evidenceFlags say whom to ask about addresses.
type evidenceFlags struct {
	on                  bool
	dns                 string
	rdap, registrant    string
	netbox, netboxToken string
	mapping             string
	relays              []string
	timeout             time.Duration
}

// addEvidence adds --evidence and what belongs to it.
func addEvidence(cmd *cobra.Command) *evidenceFlags {
	f := &evidenceFlags{}
	flags := cmd.Flags()
	flags.BoolVar(&f.on, "evidence", false, "also ask the DNS, and the services named below, about the addresses")
	flags.StringVar(&f.dns, "dns", "", "ask this DNS `SERVER`, an address, in place of the system's")
	flags.StringVar(&f.rdap, "rdap", "", "ask the internet registry at `URL`, such as https://rdap.arin.net/registry")
	flags.StringVar(&f.registrant, "rdap-registrant", "", "the university's `NAME` or handle there")
	flags.StringVar(&f.netbox, "netbox", "", "ask the NetBox at `URL`, such as https://netbox.example.edu")
	flags.StringVar(&f.netboxToken, "netbox-token-file", "", "the `FILE` with its API token")
	addMap(cmd, &f.mapping)
	flags.StringArrayVar(&f.relays, "relay", nil, "ask the relay at `URL|SOCKET`, such as http://127.0.0.1:9587; once for each relay of a fleet")
	flags.DurationVar(&f.timeout, "evidence-timeout", evidence.DefaultTimeout, "how long one service may take for one address")
	return f
}

// addMap adds --map, which evidence and import read alike.
func addMap(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "map", "", "a CSV `FILE` with rows tenant,TENANT,DEPARTMENT and role,ROLE,USE")
	_ = cmd.MarkFlagFilename("map", "csv")
}

// check finds mistakes that need no look at the register.
func (f *evidenceFlags) check(cmd *cobra.Command, o Options) error {
	if !f.on {
		for _, name := range []string{"dns", "rdap", "rdap-registrant", "netbox", "netbox-token-file", "map", "relay", "evidence-timeout"} {
			if cmd.Flags().Changed(name) {
				return fail("--"+name+" is about evidence, and none was asked for", "did you mean: "+commandLine(append(o.Args, "--evidence")...))
			}
		}
		return nil
	}
	switch {
	case f.registrant != "" && f.rdap == "":
		return fail("--rdap-registrant needs --rdap, the service to ask", "for example: --rdap https://rdap.arin.net/registry")
	case f.netboxToken != "" && f.netbox == "":
		return fail("--netbox-token-file needs --netbox, the service to ask", "for example: --netbox https://netbox.example.edu")
	case f.mapping != "" && f.netbox == "":
		return fail("--map needs --netbox, whose words it explains")
	case len(f.relays) > maxRelays:
		return fail(fmt.Sprintf("--relay is given over %d times", maxRelays))
	case f.timeout <= 0 || f.timeout > time.Minute:
		return fail(fmt.Sprintf("--evidence-timeout %s: give a time up to 1m", f.timeout))
	}
	_, err := f.sources(nil)
	return err
}

// sources are those that the flags name. The departments are the mapping's.
func (f *evidenceFlags) sources(departments []string) ([]evidence.Source, error) {
	dns, err := evidence.NewDNS(f.dns)
	if err != nil {
		return nil, err
	}
	sources := []evidence.Source{dns}
	if f.rdap != "" {
		rdap, err := evidence.NewRDAP(f.rdap, f.registrant)
		if err != nil {
			return nil, err
		}
		sources = append(sources, rdap)
	}
	if f.netbox != "" {
		netbox, err := openNetBox(f.netbox, f.netboxToken)
		if err != nil {
			return nil, err
		}
		mapping := &evidence.Mapping{}
		if departments != nil {
			if mapping, err = readMapping(f.mapping, departments); err != nil {
				return nil, err
			}
		}
		sources = append(sources, evidence.NewIPAM(netbox, mapping))
	}
	for _, where := range f.relays {
		relay, err := evidence.NewRelay(where)
		if err != nil {
			return nil, err
		}
		sources = append(sources, relay)
	}
	return sources, nil
}

func openNetBox(url, tokenFile string) (*evidence.NetBox, error) {
	token := ""
	if tokenFile != "" {
		data, err := durable.ReadFile(tokenFile, maxTokenFile)
		if err != nil {
			return nil, fmt.Errorf("reading the token of NetBox: %w", err)
		}
		token = string(data)
	}
	return evidence.NewNetBox(url, token)
}

// readMapping reads the file of --map; without one, every word stands for itself.
func readMapping(file string, departments []string) (*evidence.Mapping, error) {
	var data []byte
	if file != "" {
		var err error
		if data, err = durable.ReadFile(file, evidence.MaxMapping); errors.Is(err, fs.ErrNotExist) {
			return nil, fail("there is no file "+file, "rows are: tenant,TENANT,DEPARTMENT or role,ROLE,USE")
		} else if err != nil {
			return nil, err
		}
	}
	m, err := evidence.ParseMapping(data, departments)
	if err != nil {
		return nil, fail(file+": "+strings.ReplaceAll(err.Error(), "\n", "; "),
			"rows are: tenant,TENANT,DEPARTMENT or role,ROLE,USE; none stands for no tenant or role, * for any other, - leaves out")
	}
	return m, nil
}

// gather asks about the addresses that after has and before has not, or has for
// another name or department. A nil before has none.
func (f *evidenceFlags) gather(ctx context.Context, o Options, before, after *policy.Snapshot) (*review.Witnesses, error) {
	if !f.on {
		return nil, nil
	}
	departments := []string{}
	for d := range after.Departments() {
		departments = append(departments, d.ID)
	}
	sources, err := f.sources(departments)
	if err != nil {
		return nil, err
	}
	p, stop := startProgress(ctx, o.Stderr, "asking", "questions")
	defer stop()
	return review.Gather(ctx, before, after, sources,
		evidence.Options{Timeout: f.timeout, Asked: func() { p.Done.Add(1) }}, func(n int) { p.Total.Store(int64(n)) })
}
