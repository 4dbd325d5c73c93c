package smtpd

import (
	"strings"
	"testing"
)

// A message that says that it is bulk mail is refused after it came whole, and
// the session goes on.
func TestBulkMailIsRefused(t *testing.T) {
	tests := []struct {
		name, header string
		bulk         bool
	}{
		{"bulk", "Precedence: bulk", true},
		{"list, in capitals", "PRECEDENCE:LIST", true},
		{"junk, with a comment", "Precedence: junk (it says)", true},
		{"a list that one can leave", "List-Unsubscribe: <https://lists.example.edu/leave>", true},
		{"a list's name", "list-id: <all.example.edu>", true},
		{"another of these fields", "List-Anything: x", true},
		{"first class", "Precedence: first-class", false},
		{"a precedence of nothing", "Precedence:", false},
		{"a word that holds bulk", "Precedence: bulky", false},
		{"a subject about it", "Subject: Precedence: bulk", false},
		{"a field that begins alike", "Listing: 7", false},
		{"no name behind it", "List-: 7", false},
		{"an answer of a machine", "Auto-Submitted: auto-generated", false},
		{"a continuation", "Subject: x\r\n List-Id: y", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := "250 2.0.0 accepted"
			if tt.bulk {
				want = "550 5.7.1 this relay is not for bulk mail, and the message says that it is one (" + tt.header[:9]
			}
			f := start(t, quick)
			c := f.dial(t, strictClient, relayPort)
			c.begin()
			c.send("From: a@example.edu\r\n" + tt.header + "\r\n\r\nPrecedence: bulk\r\n" + strings.Repeat("x\r\n", 1000) + ".\r\n")
			c.want2(want)
			c.transaction()
			c.do("DATA", "354")
			c.do("Subject: x\r\n\r\nhello\r\n.", "250 2.0.0 accepted")
		})
	}
}

// want2 is want for a reply of two lines at most: the first begins with prefix.
func (c *client) want2(prefix string) {
	c.t.Helper()
	got := c.line()
	if len(got) > 3 && got[3] == '-' {
		c.line()
		got = got[:3] + " " + got[4:]
	}
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got reply %q, want %q", got, prefix)
	}
}

func TestBulkMailMayBeAllowed(t *testing.T) {
	f := start(t, quick, func(o *Options) { o.AllowBulk = true })
	c := f.dial(t, strictClient, relayPort)
	c.begin()
	c.do("Precedence: bulk\r\nList-Id: x\r\n\r\nhello\r\n.", "250 2.0.0 accepted")
}

func TestBulkMailInChunksIsRefused(t *testing.T) {
	f := start(t, quick)
	c := f.dial(t, strictClient, relayPort)
	c.want("220")
	c.do("EHLO x", "250")
	c.transaction()
	c.send("BDAT 21 LAST\r\nList-Id: x\r\n\r\nhello\r\n")
	c.want2("550 5.7.1 this relay is not for bulk mail")
	if n := len(f.store.all()); n != 0 {
		t.Errorf("%d stored", n)
	}
}
