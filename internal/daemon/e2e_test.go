package daemon_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.edu/gatepost/internal/status"
)

// run runs a program nobody here wrote and returns all it printed.
func (w *world) run(stdin string, name string, args ...string) (string, error) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "HOME="+w.dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestRequestBecomesDelivery is the whole loop: refused, registered by a
// branch, a merge and a push through git http-backend, confirmed, delivered;
// then taken off again.
func TestRequestBecomesDelivery(t *testing.T) {
	t.Parallel()
	needs(t, "swaks")
	w := newWorld(t)
	w.start()

	out, err := w.swaks("127.0.0.2", "before")
	if err == nil || !strings.Contains(out, "550 5.7.1 127.0.0.2 is not registered with this relay; register at https://relay.lab.example/register?ip=127.0.0.2") {
		t.Fatalf("an unregistered address was not refused as it should be:\n%s", out)
	}
	if got := w.hop.holding("Subject: Your"); len(got) > 0 {
		t.Fatalf("the first sync mailed somebody:\n%s", got[0])
	}

	w.merge("scanner", 7, func() { w.registered("scanner", "127.0.0.2") })
	w.eventually("the confirmation arrives", func() bool { return len(w.hop.holding("127.0.0.2", "it@lab.example")) == 1 })
	confirmation := w.hop.holding("127.0.0.2", "it@lab.example")[0]
	for _, want := range []string{"#7", "scanner.lab.example", "relay.lab.example", port(w.relay), port(w.submission), "STARTTLS", "swaks", "postmaster@lab.example"} {
		if !strings.Contains(confirmation, want) {
			t.Errorf("the confirmation does not say %q:\n%s", want, confirmation)
		}
	}

	if out, err := w.swaks("127.0.0.2", "after"); err != nil {
		t.Fatalf("a registered address was refused:\n%s", out)
	}
	w.eventually("the mail arrives", func() bool { return len(w.hop.holding("Subject: after")) == 1 })

	// A move of the file is no new registration: no second confirmation.
	w.merge("move", 8, func() {
		w.git(w.checkout, "mv", "registrations/lab/scanner.cue", "registrations/lab/scanner-2.cue")
	})
	w.waitCommit()
	w.stop()
	w.start()
	if got := w.hop.holding("127.0.0.2", "it@lab.example"); len(got) != 1 {
		t.Errorf("%d confirmations for one registration", len(got))
	}

	w.merge("gone", 9, func() { w.git(w.checkout, "rm", "-q", "registrations/lab/scanner-2.cue") })
	w.waitCommit()
	if out, err := w.swaks("127.0.0.2", "too late"); err == nil {
		t.Errorf("a removed address was served:\n%s", out)
	}
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

func (w *world) swaks(from, subject string, more ...string) (string, error) {
	w.t.Helper()
	host, port, _ := net.SplitHostPort(w.relay)
	args := []string{"--server", host, "--port", port, "--local-interface", from, "--from", "device@lab.example",
		"--to", "someone@example.org", "--header", "Subject: " + subject, "--body", "Scanned.", "--timeout", "10"}
	return w.run("", "swaks", append(args, more...)...)
}

// TestRealClients sends through both ports with clients nobody here wrote.
func TestRealClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	relayHost, relayPort, _ := net.SplitHostPort(w.relay)
	_, submissionPort, _ := net.SplitHostPort(w.submission)
	message := func(subject string) string {
		return "From: device@lab.example\r\nTo: someone@example.org\r\nSubject: " + subject + "\r\n\r\nScanned.\r\n.leading dot\r\n"
	}
	tests := []struct {
		name  string
		needs []string
		send  func(subject string) (string, error)
	}{
		{"swaks on 25", []string{"swaks"}, func(s string) (string, error) { return w.swaks("127.0.0.1", s) }},
		{"swaks on 587 with STARTTLS", []string{"swaks"}, func(s string) (string, error) {
			return w.swaks("127.0.0.1", s, "--port", submissionPort, "--tls")
		}},
		{"swaks pipelining", []string{"swaks"}, func(s string) (string, error) {
			return w.swaks("127.0.0.1", s, "--pipeline")
		}},
		{"msmtp on 25", []string{"msmtp"}, func(s string) (string, error) {
			return w.run(message(s), "msmtp", "--host="+relayHost, "--port="+relayPort, "--from=device@lab.example", "--auth=off", "--tls=off", "--source-ip=127.0.0.1", "someone@example.org")
		}},
		{"msmtp on 587 with STARTTLS", []string{"msmtp"}, func(s string) (string, error) {
			return w.run(message(s), "msmtp", "--host="+relayHost, "--port="+submissionPort, "--from=device@lab.example", "--auth=off", "--tls=on", "--tls-starttls=on",
				"--tls-trust-file="+filepath.Join(w.dir, "cert.pem"), "--source-ip=127.0.0.1", "someone@example.org")
		}},
		{"curl on 25", []string{"curl"}, func(s string) (string, error) {
			return w.run(message(s), "curl", "-sS", "--interface", "127.0.0.1", "smtp://"+w.relay, "--mail-from", "device@lab.example", "--mail-rcpt", "someone@example.org", "-T", "-")
		}},
		{"curl on 587 with STARTTLS", []string{"curl"}, func(s string) (string, error) {
			return w.run(message(s), "curl", "-sS", "--ssl-reqd", "--cacert", filepath.Join(w.dir, "cert.pem"), "--interface", "127.0.0.1", "smtp://"+w.submission,
				"--mail-from", "device@lab.example", "--mail-rcpt", "someone@example.org", "-T", "-")
		}},
		{"Python's smtplib on both", []string{"python3"}, func(s string) (string, error) {
			return w.run(message(s), "python3", "-c", `
import smtplib, ssl, sys
host, relay, submission, cert = sys.argv[1:]
text = sys.stdin.buffer.read()
with smtplib.SMTP(host, int(submission), source_address=("127.0.0.1", 0)) as s:
    s.starttls(context=ssl.create_default_context(cafile=cert))
    s.sendmail("device@lab.example", ["someone@example.org"], text.replace(b"Subject: ", b"Subject: tls "))
with smtplib.SMTP(host, int(relay), source_address=("127.0.0.1", 0)) as s:
    assert "auth" not in s.esmtp_features
    s.sendmail("device@lab.example", ["someone@example.org"], text)
`, relayHost, relayPort, submissionPort, filepath.Join(w.dir, "cert.pem"))
		}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer w.on(t)()
			needs(t, tt.needs...)
			subject := fmt.Sprintf("client %d", i)
			if out, err := tt.send(subject); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			w.eventually("it arrives", func() bool { return len(w.hop.holding("Subject: "+subject+"\r\n")) == 1 })
			got := w.hop.holding("Subject: " + subject + "\r\n")[0]
			for _, want := range []string{"Received: ", "127.0.0.1", "relay.lab.example", "Date: ", "Message-ID: "} {
				if !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
					t.Errorf("it arrived without %q:\n%s", want, got)
				}
			}
		})
	}
	t.Run("587 without STARTTLS is refused", func(t *testing.T) {
		defer w.on(t)()
		needs(t, "swaks")
		out, err := w.swaks("127.0.0.1", "clear", "--port", submissionPort)
		if err == nil || !strings.Contains(out, "530 5.7.0") {
			t.Errorf("MAIL in clear text on 587:\n%s", out)
		}
	})
}

// TestLoadThroughPostfixTools pushes smtp-source's load through the relay into
// smtp-sink and counts at the far end.
func TestLoadThroughPostfixTools(t *testing.T) {
	for name, more := range map[string][]string{
		"a connection for each message": nil,
		"connections that are kept":     {"-d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needs(t, "smtp-source", "smtp-sink")
			w := newWorld(t)
			const messages = 400
			arrived := w.sink()
			w.start()
			args := append(more, "-s", "10", "-l", "4096", "-m", fmt.Sprint(messages), "-f", "a@lab.example", "-t", "b@example.org", w.relay)
			if out, err := w.run("", "smtp-source", args...); err != nil {
				t.Fatalf("smtp-source: %v\n%s", err, out)
			}
			w.eventually("all arrive", func() bool { return arrived() >= messages })
			w.waitReport("the queue is empty", func(r status.Report) bool { return r.Queue.Entries == 0 })
			if n := arrived(); n != messages {
				t.Errorf("%d messages arrived, of %d", n, messages)
			}
		})
	}
}

// sink puts Postfix's smtp-sink in the place of the next hop; it returns how
// many messages have arrived.
func (w *world) sink() (arrived func() int) {
	w.t.Helper()
	dir := filepath.Join(w.dir, "sink")
	if err := os.Mkdir(dir, 0o777); err != nil {
		w.t.Fatal(err)
	}
	w.hop.addr = freeAddr(w.t)
	args := []string{"-d", filepath.Join(dir, "m."), w.hop.addr, "100"}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "root"}, args...)
	}
	sink := exec.Command("smtp-sink", args...)
	if err := sink.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { sink.Process.Kill(); sink.Wait() })
	return func() (n int) {
		files, err := filepath.Glob(filepath.Join(dir, "m.*"))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				w.t.Fatal(err)
			}
			n += bytes.Count(data, []byte("X-Rcpt-Args: <b@example.org>"))
		}
		return n
	}
}
