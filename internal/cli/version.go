package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(o Options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  noArguments("gatepost version"),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(o.Stdout, versionText())
			return err
		},
	}
}

// buildVersion is the module's version as the Go command recorded it:
// "(devel)" or a pseudo-version for a build from a checkout.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func versionText() string {
	return fmt.Sprintf("gatepost %s (%s %s/%s)", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
