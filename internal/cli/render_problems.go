package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"example.edu/gatepost/internal/register/registration"
)

// printProblems writes problems in one of check's formats. source gives the
// content of a file; only sarif asks for it.
func printProblems(out io.Writer, format string, problems []registration.Problem, source func(path string) []byte) (err error) {
	w := bufio.NewWriter(out)
	defer func() { err = errors.Join(err, w.Flush()) }()
	switch format {
	case "json":
		return problemsJSON(w, problems)
	case "github":
		return problemsGitHub(w, problems)
	case "sarif":
		return problemsSARIF(w, problems, source)
	default:
		return problemsText(w, problems)
	}
}

// problemsText is for people: FILE:LINE:COL: RULE: MESSAGE, then the hint.
func problemsText(w io.Writer, problems []registration.Problem) error {
	for _, p := range problems {
		mark := ""
		if p.Severity == registration.Warning {
			mark = "warning: "
		}
		// A problem of the file as a whole is shown at its beginning, where an
		// editor can jump to.
		_, err := fmt.Fprintf(w, "%s:%d:%d: %s: %s%s\n  hint: %s\n", printable(p.File), max(p.Line, 1), max(p.Column, 1),
			p.Rule, mark, printable(p.Message), printable(p.Hint))
		if err != nil {
			return err
		}
	}
	return nil
}

// problemsJSON is an array, empty when there is no problem.
func problemsJSON(w io.Writer, problems []registration.Problem) error {
	if problems == nil {
		problems = []registration.Problem{}
	}
	return writeJSON(w, problems)
}

// writeJSON writes one indented value and a line end. HTML characters stay as
// they are: this is no web page. What a runner would take for a command is
// escaped, see printable; in JSON it can stand in strings only.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("##"), []byte(`#\u0023`)))
	return err
}

// problemsGitHub writes GitHub workflow commands, which a runner turns into
// annotations on the lines of the pull request.
func problemsGitHub(w io.Writer, problems []registration.Problem) error {
	for _, p := range problems {
		command := "error"
		if p.Severity == registration.Warning {
			command = "warning"
		}
		// "Line 0" would be no line of the file; the first is where a note on
		// the whole file is shown.
		_, err := fmt.Fprintf(w, "::%s file=%s,line=%d,col=%d,title=%s::%s\n", command,
			workflowProperty(p.File), max(p.Line, 1), max(p.Column, 1), workflowProperty(string(p.Rule)),
			workflowData(p.Message+"\nhint: "+p.Hint))
		if err != nil {
			return err
		}
	}
	return nil
}
