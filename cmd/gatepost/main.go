// Command gatepost is the command line of the register and the relay, for
// departments, CI, postmasters and operators. Everything is in package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.edu/gatepost/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, cli.Options{
		Args:   os.Args[1:],
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Now:    time.Now,
	})
	stop()
	os.Exit(code)
}
