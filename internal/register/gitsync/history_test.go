package gitsync

import (
	"strings"
	"testing"
)

// The number of a request comes from where the forge writes it, whatever the
// contributor has put into the title and the description.
func TestRequest(t *testing.T) {
	for _, test := range []struct {
		message string
		number  int
		branch  string
	}{
		{"Merge pull request #12 from physics/form-7\n\nCloses #99", 12, "physics/form-7"},
		{"Merge pull request #12 from evil/x-#99", 12, "evil/x-#99"},
		{"Merge pull request 'Printers' (#12) from physics/form into main", 12, "physics/form"},
		{"Merge pull request 'As in #99' (#12) from b into main", 12, "b"},
		{"Merge pull request 'Printers' (#99) from a' (#12) from b into main", 12, "b"},
		{"Merge pull request from nowhere (#99)", 0, ""},
		{"Merge pull request ", 0, ""},
		{"Merge branch 'form/7' into 'main'\n\nSee merge request g/p!99\n\nSee merge request g/p!12", 12, "form/7"},
		{"Merge branch 'form/7'", 0, "form/7"},
		{"Merge branch 'request/7-mfp3'", 7, "request/7-mfp3"},
		{"Merge branch 'request/7-mfp3' of /srv/register into main", 7, "request/7-mfp3"},
		{"Merge remote-tracking branch 'origin/request/7-mfp3'", 7, "origin/request/7-mfp3"},
		{"Merge branch 'request/99-x' into 'main'\n\nSee merge request g/p!12", 12, "request/99-x"},
		{"Merge branch 'request/x'", 0, "request/x"},
		{"Merge branch 'tom/request/99-x'", 0, "tom/request/99-x"},
		{"Merged PR 12: as in Merged PR 99", 12, ""},
		{"Merged in form/7 (pull request #12)", 12, ""},
		{"Renew the printers (#12)\n\n* more (#99)", 12, ""},
		{"Renew (#99) the printers (#12)", 12, ""},
		{strings.Repeat("A", 195) + "(#99) " + strings.Repeat("B", 40) + " (#12)", 12, ""},
		{"Renew the printers (see there)", 0, ""},
		{"Renew the printers", 0, ""},
		{"", 0, ""},
		{"\n\n Merge pull request #12 from \x1b[31mred\r\n", 12, "[31mred"},
	} {
		number, branch := request(test.message)
		if number != test.number || branch != test.branch {
			t.Errorf("%q: #%d from %q, want #%d from %q", test.message, number, branch, test.number, test.branch)
		}
	}
}
