package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/durable"
	"example.edu/gatepost/internal/register/registration"
)

func newFmt(o Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fmt [FILE...]",
		Short: "Rewrite files of the register in the one canonical form",
		Long: "Rewrite files of the register in the one canonical form and print the names\n" +
			"of those that changed. Comments stay. Without FILE: all under registrations/.\n" +
			"With -l nothing is written, and the exit code is 1 if a file would change.",
		Example: "  gatepost fmt\n  gatepost fmt -l\n  gatepost fmt registrations/lsa-physics/mfp.cue",
		GroupID: groupRegister,
	}
	dir := addDir(cmd)
	list := cmd.Flags().BoolP("list", "l", false, "only list the files that would change")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, err := filesToFormat(*dir, args)
		if err != nil {
			return err
		}
		p, stop := startProgress(cmd.Context(), o.Stderr, "formatting", "files")
		defer stop()
		p.Total.Store(int64(len(files)))
		f := formatter{dir: *dir, listOnly: *list}
		for _, file := range files {
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if err := f.file(file); err != nil {
				return err
			}
			p.Done.Add(1)
		}
		stop()
		for _, name := range f.changed {
			fmt.Fprintln(o.Stdout, printable(name))
		}
		if err := problemsText(o.Stderr, f.faults); err != nil {
			return err
		}
		if n := len(f.faults); n > 0 {
			fmt.Fprintf(o.Stderr, "%s: these files were left as they are\n", count(n, "problem", "problems"))
		}
		if len(f.faults) > 0 || *list && len(f.changed) > 0 {
			return errProblems
		}
		return nil
	}
	cmd.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	return cmd
}

// filesToFormat is what the arguments name, as they name it; a folder stands
// for the CUE files below it, no argument for the whole register.
func filesToFormat(dir string, args []string) ([]string, error) {
	if len(args) == 0 {
		root, err := findRoot(dir)
		if err != nil {
			return nil, err
		}
		files, err := cueFiles(filepath.Join(root, registerDir))
		for i, file := range files {
			if rel, err := filepath.Rel(root, file); err == nil && root != "" {
				files[i] = displayed(dir, root, rel)
			}
		}
		return files, err
	}
	var files []string
	for _, arg := range args {
		path := within(dir, arg)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fail("there is no file "+arg, "names are relative to "+dir+"; gatepost fmt without a name formats all of "+registerDir+"/")
		case err != nil:
			return nil, err
		case info.IsDir():
			below, err := cueFiles(path)
			if err != nil {
				return nil, err
			}
			for _, file := range below {
				rel, err := filepath.Rel(path, file)
				if err != nil {
					return nil, err
				}
				files = append(files, filepath.Join(arg, rel))
			}
		case !strings.HasSuffix(arg, ".cue"):
			return nil, fail(arg+" is not a file of the register", "registrations, networks, departments and blocks are .cue files under "+registerDir+"/")
		default:
			files = append(files, arg)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// displayed is the path of rel in root as a path from dir.
func displayed(dir, root, rel string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return filepath.Join(root, rel)
	}
	if from, err := filepath.Rel(abs, filepath.Join(root, rel)); err == nil {
		return from
	}
	return filepath.Join(root, rel)
}

// within is path as seen from dir.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// cueFiles lists the regular CUE files below dir in order.
func cueFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".cue") {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// A formatter rewrites files one by one and remembers what it saw.
type formatter struct {
	dir      string
	listOnly bool
	changed  []string
	faults   []registration.Problem // of files that it left alone
}

// file formats one file. The error is one of reading or writing; what is wrong
// with the content goes to faults.
func (f *formatter) file(name string) error {
	path := within(f.dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		f.fault(name, registration.RuleNotRegular, "it is no regular file", "give the file itself")
		return nil
	}
	data, err := durable.ReadFile(path, registration.MaxCampusFile)
	if errors.Is(err, durable.ErrTooLarge) {
		f.fault(name, registration.RuleTooLarge, fmt.Sprintf("it is over %s", octets(registration.MaxCampusFile)), "split it")
		return nil
	}
	if err != nil {
		return err
	}
	formatted, err := registration.FormatSource(registerPath(path), data)
	wrong, isProblem := errors.AsType[*registration.ProblemError](err)
	switch {
	case isProblem:
		for _, p := range wrong.Problems {
			p.File = name // as the user called it
			f.faults = append(f.faults, p)
		}
		return nil
	case err != nil:
		return err
	case bytes.Equal(formatted, data):
		return nil
	}
	f.changed = append(f.changed, name)
	if f.listOnly {
		return nil
	}
	return durable.WriteFile(path, formatted, info.Mode().Perm())
}

func (f *formatter) fault(name string, rule registration.Rule, message, hint string) {
	f.faults = append(f.faults, registration.Problem{File: name, Rule: rule, Severity: registration.Error, Message: message, Hint: hint})
}

// registerPath is the path from the repository's root, as the register calls
// a file: from the last "registrations" on. A file elsewhere keeps its name.
func registerPath(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	slash := filepath.ToSlash(path)
	if i := strings.LastIndex(slash, "/"+registerDir+"/"); i >= 0 {
		return slash[i+1:]
	}
	return slash
}
