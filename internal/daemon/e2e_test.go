package daemon_test

import (
	"bytes"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

	w.merge("scanner", 7, func() { w.register("lab", "scanner", "127.0.0.2") })
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

// waitCommit waits until the relay has taken over what was pushed.
func (w *world) waitCommit() {
	w.t.Helper()
	head := w.git(w.checkout, "rev-parse", "main")
	w.eventually("the relay is at "+head, func() bool { return strings.Contains(w.get("/status"), head) })
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
	needs(t, "smtp-source", "smtp-sink", "sh")
	w := newWorld(t)
	const messages = 500
	sinkDir := filepath.Join(w.dir, "sink")
	if err := os.MkdirAll(sinkDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(sinkDir, 0o777); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	sink := exec.Command("smtp-sink", "-d", filepath.Join(sinkDir, "m."), addr, "100")
	var sinkOut bytes.Buffer
	sink.Stderr = &sinkOut
	if os.Getuid() == 0 {
		sink.Args = append([]string{"smtp-sink", "-u", "root"}, sink.Args[1:]...)
	}
	if err := sink.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sink.Process.Kill(); sink.Wait() }()
	w.hop.addr = addr
	w.start()
	if out, err := w.run("", "smtp-source", "-s", "10", "-l", "4096", "-m", fmt.Sprint(messages), "-f", "a@lab.example", "-t", "b@example.org", w.relay); err != nil {
		t.Fatalf("smtp-source: %v\n%s", err, out)
	}
	w.eventually("all arrive", func() bool {
		files, _ := filepath.Glob(filepath.Join(sinkDir, "m.*"))
		total := 0
		for _, f := range files {
			data, _ := os.ReadFile(f)
			total += bytes.Count(data, []byte("X-Rcpt-Args: <b@example.org>"))
		}
		return total >= messages
	})
}

// TestKilled kills the daemon while mail comes in and goes out. Whatever got a
// 250 must arrive.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	w.extra = `queue: retry: ["1s"]`
	torture(t, w, 5)
}

// torture runs rounds of load, kill -9 and restart.
func torture(t *testing.T, w *world, rounds int) {
	w.configure()
	accepted := map[string]bool{}
	n := 0
	for round := range rounds {
		w.launch()
		w.waitReady()
		killAt := time.NewTimer(time.Duration(50+37*round%400) * time.Millisecond)
		results := make(chan string)
		stop := make(chan struct{})
		for range 4 {
			go func(base int) {
				defer func() { results <- "" }()
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					id := fmt.Sprintf("torture-%d-%d-%d", round, base, i)
					if sendOne(w.relay, id) == nil {
						results <- id
					}
				}
			}(n)
			n++
		}
		running, killed := 4, false
		for running > 0 {
			select {
			case id := <-results:
				if id == "" {
					running--
				} else {
					accepted[id] = true
				}
			case <-killAt.C:
				w.kill()
				killed = true
				close(stop)
			}
		}
		if !killed {
			t.Fatal("the round ended before the kill")
		}
	}
	w.launch()
	w.waitReady()
	if len(accepted) == 0 {
		t.Fatal("no message was accepted in any round")
	}
	count := map[string]int{}
	w.eventually("every accepted message arrives", func() bool {
		clear(count)
		for _, m := range w.hop.received() {
			if _, after, ok := strings.Cut(m, "Subject: torture-"); ok {
				id, _, _ := strings.Cut(after, "\r\n")
				count["torture-"+id]++
			}
		}
		for id := range accepted {
			if count[id] == 0 {
				return false
			}
		}
		return true
	})
	duplicates := 0
	for _, c := range count {
		duplicates += c - 1
	}
	t.Logf("%d kills: %d messages got a 250, every one arrived; %d came twice", rounds, len(accepted), duplicates)
}

// sendOne sends one message; nil means that its end of data got a 250.
func sendOne(addr, id string) error {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	c, err := smtp.NewClient(conn, "relay")
	if err != nil {
		return err
	}
	if err := c.Mail("device@lab.example"); err != nil {
		return err
	}
	if err := c.Rcpt("someone@example.org"); err != nil {
		return err
	}
	data, err := c.Data()
	if err != nil {
		return err
	}
	fmt.Fprintf(data, "From: device@lab.example\r\nSubject: %s\r\n\r\nbody\r\n", id)
	return data.Close()
}
