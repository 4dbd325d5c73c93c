package smtpd

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDialogs plays the scripts of testdata/*.dialog over real TCP. A line is
//
//	# a comment
//	from ADDRESS          the client's address (default 127.0.0.2); first
//	port submission       which port; first
//	limit NAME N          a limit; first
//	C: text               the client sends text and CRLF
//	C~ "text"             the client sends the Go string as it is
//	S: text               the next reply line begins with text
//	S~ regexp             the next reply line matches
//	end                   the server closes the connection
//	tls                   the client makes the handshake
//	stored N              so many messages were stored so far
//	holds regexp          the newest message matches
//	lacks regexp          the newest message does not match
//	taken text            the Observer was told so of the newest message
//	proofs N              so many proofs of control are recorded
//
// $TOKEN is a token for the client's address and request 7, $OLD an expired
// one, $OTHER another address's.
func TestDialogs(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialog")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogs: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialog"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			playDialog(t, file, strings.Split(strings.TrimRight(string(data), "\n"), "\n"))
		})
	}
}

func playDialog(t *testing.T, file string, lines []string) {
	from, p := strictClient, relayPort
	limits := Limits{MaxMessage: 100_000, MaxRecipients: 5, Errors: 10, Idle: 15, Refusal: 2e9}
	var f *fixture
	var c *client
	for i, line := range lines {
		where := file + ":" + strconv.Itoa(i+1)
		verb, arg, _ := strings.Cut(line, " ")
		if verb == "" || verb == "#" {
			continue
		}
		switch verb {
		case "from":
			from = arg
			continue
		case "port":
			p = submissionPort
			continue
		case "limit":
			setLimit(t, &limits, arg)
			continue
		}
		if c == nil {
			f = start(t, limits)
			c = f.dial(t, from, p)
		}
		playLine(t, f, c, where, verb, f.proofs.expand(t, from, arg))
	}
}

func setLimit(t *testing.T, l *Limits, arg string) {
	name, value, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatal(err)
	}
	switch name {
	case "hops":
		l.MaxHops = n
	case "header":
		l.MaxHeader = n
	case "line":
		l.MaxLine = n
	case "proof":
		l.MaxProof = int64(n)
	case "idle":
		l.Idle = n
	case "errors":
		l.Errors = n
	default:
		t.Fatalf("unknown limit %s", name)
	}
}

func playLine(t *testing.T, f *fixture, c *client, where, verb, arg string) {
	newest := func() string {
		all := f.store.all()
		if len(all) == 0 {
			t.Fatalf("%s: nothing was stored", where)
		}
		return all[len(all)-1].body
	}
	switch verb {
	case "C:":
		c.send(arg + "\r\n")
	case "C~":
		raw, err := strconv.Unquote(arg)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		_ = c.trySend(raw)
	case "S:":
		if got := c.line(); !strings.HasPrefix(got, arg) {
			t.Fatalf("%s: got %q", where, got)
		}
	case "S~":
		if got := c.line(); !regexp.MustCompile(arg).MatchString(got) {
			t.Fatalf("%s: got %q", where, got)
		}
	case "end":
		if got := c.line(); got != "" {
			t.Fatalf("%s: got %q, want the end", where, got)
		}
	case "tls":
		c.nc = tls.Client(c.nc, &tls.Config{InsecureSkipVerify: true})
		c.r.Reset(c.nc)
	case "stored":
		if got := len(f.store.all()); strconv.Itoa(got) != arg {
			t.Fatalf("%s: %d messages stored", where, got)
		}
	case "taken":
		if got := f.told.newest(); got != arg {
			t.Fatalf("%s: the observer was told %q", where, got)
		}
	case "proofs":
		if got := f.proofs.Len(); strconv.Itoa(got) != arg {
			t.Fatalf("%s: %d proofs recorded", where, got)
		}
	case "holds":
		if body := newest(); !regexp.MustCompile(arg).MatchString(body) {
			t.Fatalf("%s: stored %q", where, body)
		}
	case "lacks":
		if body := newest(); regexp.MustCompile(arg).MatchString(body) {
			t.Fatalf("%s: stored %q", where, body)
		}
	default:
		t.Fatalf("%s: unknown line %q", where, verb)
	}
}
