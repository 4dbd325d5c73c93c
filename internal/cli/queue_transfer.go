package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"example.edu/gatepost/internal/daemon"
	"example.edu/gatepost/internal/relay/archive"
)

func newQueueExport(o Options, socket *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export DIR|-",
		Short: "Copy messages out, each as a file of its own",
		Long: `Copy messages out of the queue into a folder that is new or empty: for each ID.eml, the
message as it stands (RFC 5322), and ID.json, its envelope and how far its recipients have
come; at the end export.json, which says that all is there. With - it is a tar stream of
these on standard output. With --all, what was put aside as damaged comes along in the
folder damaged, as far as it is there. All of it is on the disk when it is said.

The messages stay in the queue and go on being delivered. To move them to another relay:
hold them, export them, import them there, delete them here, release them there.

With --state the relay must not run; its lock is taken meanwhile.`,
		Example: "  gatepost queue export --all /var/backups/queue\n  gatepost queue export --to @example.org --status held - | gzip > held.tar.gz\n  sudo -u gatepost gatepost queue export --all --state /var/lib/gatepost /var/backups/queue",
		Args:    oneFolder("gatepost queue export", "to be made"),
	}
	choice := addQueueChoice(cmd)
	all := cmd.Flags().Bool("all", false, "the whole queue is meant, and what is damaged")
	state := addState(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		chosen := slices.ContainsFunc(queueChoices, cmd.Flags().Changed)
		switch {
		case *all && chosen:
			return fail("--all is the whole queue, and another flag chooses", "leave one of them away")
		case !*all && !chosen:
			return fail("gatepost queue export does not say which messages",
				"by what they are, for example: gatepost queue export --to @example.org "+commandLine(args...),
				"the whole queue: "+commandLine(append(slices.Clone(o.Args), "--all")...))
		case *state != "" && !*all:
			return fail("with --state the whole queue is exported", corrected(o.Args, "--state", "--all --state"))
		}
		if f, ok := o.Stdout.(*os.File); ok && args[0] == "-" && term.IsTerminal(int(f.Fd())) {
			return fail("a tar stream is not for a terminal", "into a file: gatepost queue export … - > queue.tar")
		}
		filter, err := choice.filter(o.Args)
		if err != nil {
			return err
		}
		from, err := exportSource(cmd.Context(), *socket, *state, daemon.ExportOrder{Filter: filter, All: *all})
		if err != nil {
			return err
		}
		return errors.Join(export(cmd.Context(), o, from, args[0]), from.Close())
	}
	return cmd
}

// oneFolder is the argument of both commands.
func oneFolder(command, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fail(command+" takes one folder", command+" DIR: the folder "+what+"; - for a tar stream")
		}
		return nil
	}
}

func addState(cmd *cobra.Command) *string {
	return cmd.Flags().String("state", "", "the state `DIR` of a relay that does not run, in place of asking one")
}

// exportSource is the tar stream of an export.
func exportSource(ctx context.Context, socket, state string, order daemon.ExportOrder) (io.ReadCloser, error) {
	if state == "" {
		r, err := dialRelay(socket)
		if err != nil {
			return nil, err
		}
		body, err := r.call(ctx, http.MethodPost, "/v1/queue/export", order)
		if err != nil {
			r.close()
			return nil, err
		}
		return closing{body, func() error { r.close(); return body.Close() }}, nil
	}
	offline, err := openOffline(ctx, state)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	var running sync.WaitGroup
	running.Go(func() { in.CloseWithError(offline.Export(ctx, in)) })
	return closing{out, func() error {
		cancel()
		err := out.Close()
		running.Wait()
		return errors.Join(err, offline.Close())
	}}, nil
}

type closing struct {
	io.Reader
	end func() error
}

func (c closing) Close() error { return c.end() }

func openOffline(ctx context.Context, state string) (*daemon.OfflineSpool, error) {
	offline, err := daemon.OpenOffline(ctx, state, slog.New(slog.DiscardHandler))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, hinted(err, "state in relay.cue says which folder: --state /var/lib/gatepost")
	case errors.Is(err, fs.ErrPermission):
		return nil, hinted(err, "run it as the user that gatepostd runs as: sudo -u gatepost gatepost …")
	case err != nil:
		return nil, hinted(err, "if the relay runs: leave --state away, or stop it: systemctl stop gatepostd.socket gatepostd.service")
	}
	return offline, nil
}

// export writes what comes from a relay to a folder, or on.
func export(ctx context.Context, o Options, from io.Reader, to string) error {
	if to == "-" {
		_, err := io.Copy(o.Stdout, from)
		if err != nil {
			return hinted(fmt.Errorf("the export broke off: %w", err), "what was written is not whole; try it again")
		}
		return nil
	}
	p, stop := startProgress(ctx, o.Stderr, "exporting", "messages")
	all, err := archive.Unpack(ctx, from, to, func(n int) { p.Done.Store(int64(n)) })
	stop()
	switch {
	case errors.Is(err, fs.ErrExist):
		return fail(to+" is there, and not empty", "name a folder that is new or empty")
	case err != nil:
		return hinted(fmt.Errorf("the export broke off: %w", err), "nothing of it was left behind; what the relay logged: journalctl -u gatepostd -n 50")
	}
	fmt.Fprintln(o.Stderr, count(all.Messages, "message", "messages"), "exported to", to)
	if all.Unread {
		fmt.Fprintln(o.Stderr, "note: the spool has places that cannot be read; what is there is missing")
	}
	if all.Damaged > 0 {
		fmt.Fprintln(o.Stderr, count(all.Damaged, "damaged one", "damaged ones"), "in", to+"/damaged: they cannot be imported; a person can read them")
	}
	return nil
}

func newQueueImport(o Options, socket *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import DIR|-",
		Short: "Take in messages that were exported",
		Long: `Take in messages that gatepost queue export has written, to be delivered by this relay.
They keep their ids, when they arrived, what allowed them, and how far their recipients have
come; what was held stays held. What is in the queue already is left alone, and what was
imported before does not come a second time, so an import that broke off is begun again by
the same command. All of it is on the disk when it is said.

With --state the relay must not run; its lock is taken meanwhile.`,
		Example: "  gatepost queue import /var/backups/queue\n  gzip -dc held.tar.gz | gatepost queue import -",
		Args:    oneFolder("gatepost queue import", "that was exported"),
	}
	again := cmd.Flags().Bool("again", false, "take in what was imported before and has left the queue since")
	state := addState(cmd)
	format := addFormat(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		from := o.Stdin
		var skipped archive.Report
		wait := func() {}
		if args[0] != "-" {
			info, err := os.Stat(args[0])
			if err != nil || !info.IsDir() {
				return fail(args[0]+" is no folder", "name the folder that gatepost queue export has made; - reads a tar stream")
			}
			p, stop := startProgress(ctx, o.Stderr, "importing", "messages")
			defer stop()
			out, in := io.Pipe()
			var packing sync.WaitGroup
			packing.Go(func() {
				in.CloseWithError(archive.Pack(ctx, args[0], in, func(r archive.Refusal) {
					skipped.Refuse(r)
				}, func(n int) { p.Done.Store(int64(n)) }))
			})
			wait = func() { out.Close(); packing.Wait() }
			defer wait()
			from = out
		}
		report, err := importFrom(ctx, *socket, *state, from, *again)
		if err != nil {
			return err
		}
		wait()
		report.Refused += skipped.Refused
		report.Reasons = append(report.Reasons, skipped.Reasons...)
		if format.value == "json" {
			err = writeJSON(o.Stdout, report)
		} else {
			err = importText(o, report)
		}
		if err == nil && report.Refused > 0 {
			err = errProblems
		}
		return err
	}
	return cmd
}

func importFrom(ctx context.Context, socket, state string, from io.Reader, again bool) (report archive.Report, err error) {
	if state != "" {
		offline, err := openOffline(ctx, state)
		if err != nil {
			return report, err
		}
		report, err = archive.Read(ctx, from, offline, again)
		return report, errors.Join(err, offline.Close())
	}
	r, err := dialRelay(socket)
	if err != nil {
		return report, err
	}
	defer r.close()
	path := "/v1/queue/import"
	if again {
		path += "?again=true"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gatepostd"+path, io.NopCloser(from))
	if err != nil {
		return report, err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	body, err := r.do(req)
	if err != nil {
		return report, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxRelayAnswer)).Decode(&report); err != nil {
		return report, notUnderstood(err)
	}
	return report, nil
}

// importText tells of an import.
func importText(o Options, r archive.Report) error {
	for _, f := range r.Reasons {
		fmt.Fprintf(o.Stdout, "%s  not imported: %s\n", printable(f.Name), printable(f.Why))
	}
	if more := r.Refused - len(r.Reasons); more > 0 {
		fmt.Fprintf(o.Stdout, "and %s more not imported\n", thousands(more))
	}
	text := count(r.Imported, "message", "messages") + " imported"
	if r.Present > 0 {
		text += "; " + thousands(r.Present) + " in the queue already"
	}
	if r.Before > 0 {
		text += "; " + thousands(r.Before) + " imported before (--again takes them)"
	}
	if _, err := fmt.Fprintln(o.Stdout, text); err != nil {
		return err
	}
	if !r.Whole {
		fmt.Fprintln(o.Stderr, "note: the export is not whole, or was changed: "+archive.SummaryFile+" is missing, or counts otherwise")
	}
	return nil
}
