package cli

import (
	"strings"

	"example.edu/gatepost/internal/register/review"
)

// printable is review.Printable: safe on one line of a terminal or a log.
func printable(s string) string { return review.Printable(s) }

// count is review.Count: "1 address" or "1,234 addresses".
func count(n int, one, many string) string { return review.Count(n, one, many) }

// thousands is review.Thousands: n with commas.
func thousands(n int) string { return review.Thousands(n) }

// workflowData escapes the message of a GitHub workflow command.
func workflowData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// workflowProperty escapes a property of a GitHub workflow command.
func workflowProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
