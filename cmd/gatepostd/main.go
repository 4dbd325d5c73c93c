// Gatepostd is the relay daemon: it keeps the register in sync and relays mail
// for the addresses on it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"example.edu/gatepost/internal/daemon"
)

func main() { os.Exit(run()) }

func run() int {
	flags := flag.NewFlagSet("gatepostd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	config := flags.String("config", "/etc/gatepost/relay.cue", "")
	check := flags.Bool("check", false, "")
	wait := flags.Bool("wait", false, "")
	err := flags.Parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return 0
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
		fallthrough
	case err != nil:
		fmt.Fprintf(os.Stderr, "gatepostd: error: %v\ngatepostd: hint: gatepostd --config FILE [--check]\n", err)
		return 2
	case *check:
		return daemon.Check(*config, os.Stdout, os.Stderr)
	}
	// SIGHUP means "read again" elsewhere; who sends it must not end the relay.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one does not wait for what is under way
	log, lines := daemon.NewLog(os.Stderr)
	defer lines.Flush()
	o := daemon.Options{ConfigFile: *config, Logger: log, Wait: *wait, Notify: daemon.Notifier(os.Getenv)}
	if o.Sockets, err = daemon.Passed(os.Getenv); err == nil {
		err = daemon.Run(ctx, o)
	}
	if err != nil {
		lines.Flush()
		fmt.Fprintf(os.Stderr, "gatepostd: error: %v\ngatepostd: hint: gatepostd --config %s --check; schema/relay.cue describes such a file\n", err, *config)
		return 2
	}
	return 0
}
