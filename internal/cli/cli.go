// Package cli is the command gatepost: what departments, CI, postmasters and
// operators type.
//
// It owns flags, output formats and the wording of mistakes. It decides
// nothing: check, plan and why call the same parser and the same policy.Build
// as the relay, and the operator commands ask the running relay over its unix
// socket.
//
// Invariants:
//   - Results go to stdout, everything else to stderr: "gatepost: error: …",
//     then one "gatepost: hint: …" for each next step.
//   - The exit code is 0 when all is fine, 1 when problems were found, 2 when
//     the command was not understood or could not do its work.
//   - Nothing read from a register or a relay reaches a terminal, a workflow
//     log or a page unescaped.
//   - A failed command leaves no file behind.
package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// Options are what the process hands to Main. All but Args and Stdin must be
// set.
type Options struct {
	Args   []string  // without the program's name
	Stdin  io.Reader // for import csv -, and for questions if it is a terminal; nil: nobody is asked
	Stdout io.Writer
	Stderr io.Writer
	Now    func() time.Time
}

// The exit codes.
const (
	exitOK       = 0
	exitProblems = 1 // the register has an error, a file would change, an address may not send
	exitFailed   = 2 // usage or I/O
)

// Main runs one command line and returns the exit code. It never ends the
// process, and returns soon after ctx is done.
func Main(ctx context.Context, o Options) int {
	root := newRoot(o)
	root.SetArgs(o.Args)
	root.SetOut(o.Stdout)
	root.SetErr(o.Stderr)
	err := unknownCommand(root, o.Args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return exitOK
	}
	return tell(o.Stderr, err)
}

// newRoot is the tree of commands. Each has a file of its own.
func newRoot(o Options) *cobra.Command {
	root := &cobra.Command{
		Use:   "gatepost",
		Short: "The register of machines that may send mail, and the relay that reads it",
		Long: `gatepost checks and explains the register of machines that may send mail
without signing in, and asks the running relay.

Exit codes: 0 fine, 1 problems found, 2 usage or I/O.`,
		SilenceErrors:      true, // tell words them
		SilenceUsage:       true,
		DisableSuggestions: true, // unknownCommand makes better ones
		Version:            buildVersion(),
	}
	root.SetVersionTemplate(versionText() + "\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, o.Args, err) })
	root.AddGroup(
		&cobra.Group{ID: groupRegister, Title: "The register (a checkout of the repository):"},
		&cobra.Group{ID: groupRelay, Title: "The running relay (over its socket):"},
	)
	root.AddCommand(
		newCheck(o), newPlan(o), newNew(o), newFmt(o), newSubmit(o), newReport(o), newInit(o), newWhy(o), newImport(o),
		newStatus(o), newQueue(o), newTrace(o), newBlock(o), newBrake(o), newUnblock(o), newProve(o), newAccept(o),
		newDemo(o), newVersion(o),
	)
	return root
}

const (
	groupRegister = "register"
	groupRelay    = "relay"
)
