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
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		ends = append(ends, syscall.SIGHUP) // the terminal was closed: leave nothing behind
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	code := cli.Main(ctx, cli.Options{
		Args:   os.Args[1:],
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Now:    time.Now,
	})
	stop()
	os.Exit(code)
}
