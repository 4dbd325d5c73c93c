package cli_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"example.edu/gatepost/internal/cli"
)

// TestOwnRegisterIsClean holds the sample register of this repository to what
// every other one is held to.
func TestOwnRegisterIsClean(t *testing.T) {
	at, err := time.Parse(time.RFC3339, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "-C", "../.."},
		{"fmt", "-l", "-C", "../.."},
	} {
		var stdout, stderr bytes.Buffer
		code := cli.Main(t.Context(), cli.Options{Args: args, Stdout: &stdout, Stderr: &stderr, Now: func() time.Time { return at }})
		if code != 0 || stdout.Len() > 0 {
			t.Errorf("%v: exit code %d\n%s%s", args, code, stdout.String(), stderr.String())
		}
	}
}

func TestInterruptedCommandSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code := cli.Main(ctx, cli.Options{Args: []string{"check", "-C", "../.."}, Stdout: &stdout, Stderr: &stderr, Now: time.Now})
	if code != 2 || stdout.Len() > 0 || stderr.String() != "gatepost: error: interrupted\n" {
		t.Errorf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
}
