// Gatepostd is the relay daemon: it keeps the register in sync and relays mail
// for the addresses on it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"example.edu/gatepost/internal/daemon"
)

func main() {
	os.Exit(run())
}

func run() int {
	flags := flag.NewFlagSet("gatepostd", flag.ContinueOnError)
	config := flags.String("config", "/etc/gatepost/relay.cue", "the configuration `FILE` (schema: #Relay)")
	check := flags.Bool("check", false, "check the configuration, print what is in force, and exit")
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "gatepostd: error: unexpected argument %q\ngatepostd: hint: gatepostd --config FILE [--check]\n", flags.Arg(0))
		return 2
	}
	if *version {
		fmt.Println("gatepostd", daemon.Version())
		return 0
	}
	if *check {
		return daemon.Check(*config, os.Stdout, os.Stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal does not wait for the end
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := daemon.Run(ctx, daemon.Options{ConfigFile: *config, Logger: log}); err != nil {
		fmt.Fprintf(os.Stderr, "gatepostd: error: %v\n", err)
		return 2
	}
	return 0
}
