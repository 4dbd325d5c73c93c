// Gatepost-portal is the web form, the status pages and the reporter of pull
// requests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"example.edu/gatepost/internal/portal"
)

func main() { os.Exit(run()) }

func run() int {
	flags := flag.NewFlagSet("gatepost-portal", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	config := flags.String("config", "/etc/gatepost/portal.cue", "")
	check := flags.Bool("check", false, "")
	err := flags.Parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return 0
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
		fallthrough
	case err != nil:
		fmt.Fprintf(os.Stderr, "gatepost-portal: error: %v\ngatepost-portal: hint: gatepost-portal --config FILE [--check]\n", err)
		return 2
	case *check:
		return portal.Check(*config, os.Stdout, os.Stderr)
	}
	// SIGHUP means "read again" elsewhere; who sends it must not end the portal.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one does not wait for what is under way
	if err := portal.Run(ctx, portal.Options{ConfigFile: *config, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}); err != nil {
		fmt.Fprintf(os.Stderr, "gatepost-portal: error: %v\ngatepost-portal: hint: gatepost-portal --config %s --check; schema/portal.cue describes such a file\n", err, *config)
		return 2
	}
	return 0
}
