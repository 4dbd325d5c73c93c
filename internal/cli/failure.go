package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// errProblems ends a command that did its work and found problems. They have
// been printed; only the exit code is left to say.
var errProblems = errors.New("problems found")

// A failure is an error with the next steps. Each hint is one line.
type failure struct {
	err   error
	hints []string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail words an error that has no cause worth keeping.
func fail(message string, hints ...string) error {
	return &failure{err: errors.New(message), hints: hints}
}

// hinted adds next steps to an error; those that it has come first.
func hinted(err error, hints ...string) error {
	if f, ok := errors.AsType[*failure](err); ok {
		hints = append(slices.Clone(f.hints), hints...)
	}
	return &failure{err: err, hints: hints}
}

// tell prints err with its hints and returns the exit code.
func tell(stderr io.Writer, err error) int {
	if errors.Is(err, errProblems) {
		return exitProblems
	}
	message := err.Error()
	if errors.Is(err, context.Canceled) {
		message = "interrupted"
	}
	fmt.Fprintf(stderr, "gatepost: error: %s\n", printable(message))
	if f, ok := errors.AsType[*failure](err); ok {
		for _, hint := range f.hints {
			fmt.Fprintf(stderr, "gatepost: hint: %s\n", printable(hint))
		}
	}
	return exitFailed
}

// unknownCommand refuses a command that does not exist, before its flags are
// looked at, and prints the whole line as it was probably meant.
func unknownCommand(root *cobra.Command, args []string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	// The shell's completion script calls these two, which cobra adds later.
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return nil
	}
	cmd, rest, err := root.Find(args)
	i := slices.IndexFunc(rest, func(a string) bool { return !strings.HasPrefix(a, "-") })
	group := cmd.HasParent() && cmd.HasSubCommands() && cmd.Name() != "completion" // "queue" does nothing by itself
	if i < 0 || err == nil && !group {
		return nil
	}
	word := rest[i]
	message := fmt.Sprintf("there is no command %q", strings.TrimPrefix(cmd.CommandPath()+" "+word, "gatepost "))
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	if near := nearest(word, names, 2); near != "" {
		return fail(message, "did you mean: "+corrected(args, word, near))
	}
	return fail(message, cmd.CommandPath()+" -h lists the commands")
}

// flagError words what pflag says of a flag, with the corrected line where it
// can be guessed.
func flagError(cmd *cobra.Command, args []string, err error) error {
	help := cmd.CommandPath() + " -h lists the flags"
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := unknown.GetSpecifiedName()
		if near := nearestFlag(cmd, name); near != "" && len(name) > 1 {
			return fail(fmt.Sprintf("%s has no flag --%s", cmd.CommandPath(), name),
				"did you mean: "+correctedFlag(args, name, near))
		}
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		return fail(fmt.Sprintf("%s has no flag %s%s", cmd.CommandPath(), dashes, name), help)
	}
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fail(fmt.Sprintf("--%s needs a value", missing.GetFlag().Name), help)
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		flag := invalid.GetFlag()
		if f, ok := flag.Value.(*choice); ok {
			return fail(fmt.Sprintf("--%s %s: not one of %s", flag.Name, invalid.GetValue(), strings.Join(f.allowed, ", ")),
				"did you mean: "+corrected(args, invalid.GetValue(), f.nearest(invalid.GetValue())))
		}
		return fail(fmt.Sprintf("--%s %s: %v", flag.Name, invalid.GetValue(), errors.Unwrap(invalid)), help)
	}
	return fail(err.Error(), help)
}

// noArguments is for commands that take flags only.
func noArguments(hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return fail(fmt.Sprintf("%s takes no argument, and got %s", cmd.CommandPath(), quote(args[0])), hint)
	}
}

// corrected is the command line with one word replaced, ready to paste.
func corrected(args []string, wrong, right string) string {
	args = slices.Clone(args)
	for i, a := range args {
		if a == wrong {
			args[i] = right
			break
		}
		if flag, value, ok := strings.Cut(a, "="); ok && value == wrong {
			args[i] = flag + "=" + right
			break
		}
	}
	return commandLine(args...)
}

// correctedFlag is the command line with one flag's name replaced.
func correctedFlag(args []string, wrong, right string) string {
	args = slices.Clone(args)
	for i, a := range args {
		if name, value, ok := strings.Cut(a, "="); name == "--"+wrong {
			args[i] = "--" + right
			if ok {
				args[i] += "=" + value
			}
			break
		}
	}
	return commandLine(args...)
}

// commandLine quotes args for a POSIX shell.
func commandLine(args ...string) string {
	line := "gatepost"
	for _, a := range args {
		line += " " + quote(a)
	}
	return line
}

// quote writes one word as a POSIX shell reads it; plain words stay as they are.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+~^", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 && word[0] != '~' {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// nearestFlag is the flag of cmd that name was probably meant to be, or "".
func nearestFlag(cmd *cobra.Command, name string) string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return nearest(name, names, 2)
}

// nearest is the word within most edits of got that is closest, or "".
func nearest(got string, words []string, most int) string {
	best := ""
	for _, w := range words {
		if len(got) >= 2 && strings.HasPrefix(w, got) {
			return w
		}
		if d := distance(got, w); d <= most {
			best, most = w, d-1
		}
	}
	return best
}

// distance is the number of single-byte edits between a and b, each bounded,
// as both come from a command line.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, previous+1, row[j]+1)
		}
	}
	return row[len(b)]
}
