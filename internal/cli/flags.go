package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"example.edu/gatepost/internal/register/policy"
)

// A choice is a flag with a few allowed values; the first is the default.
type choice struct {
	name    string
	allowed []string
	value   string
}

var errChoice = errors.New("not one of the allowed values")

// addFormat adds --format to a command and its values to the completion.
func addFormat(cmd *cobra.Command, allowed ...string) *choice {
	return addChoice(cmd, "format", allowed...)
}

func addChoice(cmd *cobra.Command, name string, allowed ...string) *choice {
	c := &choice{name: name, allowed: allowed, value: allowed[0]}
	cmd.Flags().Var(c, name, "one of "+strings.Join(allowed, ", "))
	// An error here would be a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.ToUpper(c.name) }

// Set takes one of the allowed values.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return errChoice
	}
	c.value = s
	return nil
}

// nearest is the value that s was probably meant to be, else the default.
func (c *choice) nearest(s string) string {
	s = strings.ToLower(s)
	if alias := map[string]string{"md": "markdown", "gh": "github", "actions": "github", "txt": "text"}[s]; slices.Contains(c.allowed, alias) {
		return alias
	}
	if near := nearest(s, c.allowed, 2); near != "" {
		return near
	}
	return c.allowed[0]
}

// addDir adds -C, the register to work on.
func addDir(cmd *cobra.Command) *string {
	dir := cmd.Flags().StringP("directory", "C", ".", "work as if started in `DIR`")
	_ = cmd.MarkFlagDirname("directory")
	return dir
}

// parseAuthor reads LOGIN, LOGIN:ID or a mail address, as --author takes it.
func parseAuthor(s string) (policy.Author, error) {
	if s == "" {
		return policy.Author{}, nil
	}
	if local, domain, ok := strings.Cut(s, "@"); ok && local != "" {
		if domain == "" || strings.ContainsAny(s, ", <>\t") || strings.Contains(domain, "@") {
			return policy.Author{}, fail("--author "+quote(s)+": no mail address", "for example: --author ada@example.edu, as the portal would have it")
		}
		return policy.Author{Email: strings.ToLower(s)}, nil
	}
	login, number, ok := strings.Cut(s, ":")
	login = strings.TrimPrefix(login, "@")
	a := policy.Author{Login: login}
	if ok {
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil || id <= 0 {
			return policy.Author{}, fail(fmt.Sprintf("--author %s: %q is not the number of an account", quote(s), number),
				"write the login alone, or with the account's number: --author octocat:583231")
		}
		a.ID = id
	}
	if login == "" && a.ID == 0 {
		return policy.Author{}, fail("--author "+quote(s)+": no login", "for example: --author octocat or --author octocat:583231")
	}
	return a, nil
}
