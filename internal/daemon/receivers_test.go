package daemon_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const eximServerConf = `
exim_path = EXIM
primary_hostname = exim.lab.example
spool_directory = DIR/exim
log_file_path = DIR/exim/log-%s
keep_environment =
local_interfaces = 127.0.0.1
acl_smtp_rcpt = rcpt
queue_only
host_lookup =
log_selector = +smtp_protocol_error
begin acl
rcpt:
  deny local_parts = nobody
  accept
`

// outgoing are messages that try what chunks are made of: none, exactly one,
// one and an octet, many; with lines that DATA would have to change.
func outgoing() map[string]string {
	line := strings.Repeat("x", 62) + "\n" // 64 octets with CRLF
	return map[string]string{
		"empty":  "",
		"short":  ".leading dot\n.\n..\nand so on\n",
		"chunks": strings.Repeat(line, 5000) + ".\n",
		"folded": strings.Repeat("y", 2500) + "\n",
	}
}

// sendOutgoing sends them through the relay, and each to somebody whom the next
// hop refuses as well.
func (w *world) sendOutgoing() {
	w.t.Helper()
	for subject, body := range outgoing() {
		out, err := w.run("From: device@lab.example\nSubject: "+subject+" outgoing\n\n"+body, "curl", "--silent", "--show-error", "--crlf", "--url", "smtp://"+w.relay,
			"--mail-from", "device@lab.example", "--mail-rcpt", "nobody@example.org", "--mail-rcpt", "someone@example.org", "--upload-file", "-")
		if err != nil {
			w.t.Fatalf("%v\n%s", err, out)
		}
	}
}

// arrivedAs waits for all of outgoing in what read returns, with lines in LF.
func (w *world) arrivedAs(read func() string) {
	w.t.Helper()
	for subject, body := range outgoing() {
		if subject == "folded" {
			body = strings.Repeat("y", 998) + "\n" + strings.Repeat("y", 998) + "\n" + strings.Repeat("y", 504) + "\n"
		}
		w.eventually(subject+" arrives", func() bool {
			places := strings.Split(read(), "Subject: "+subject+" outgoing\n") // a DSN quotes it, too
			return slices.ContainsFunc(places[1:], func(place string) bool {
				_, rest, _ := strings.Cut(place, "\n\n")
				return strings.HasPrefix(rest, body+"-- end --") || strings.HasPrefix(rest, body+"\nFrom ") || rest == body+"\n"
			})
		})
	}
}

// TestEximTakes: what the relay sends by BDAT arrives at Exim as it was, and a
// recipient that is refused costs the others nothing.
func TestEximTakes(t *testing.T) {
	t.Parallel()
	needs(t, "curl")
	exim := ciFile(t, "exim/usr/sbin/exim4")
	w := newWorld(t)
	w.traversable()
	binary, err := os.ReadFile(exim)
	if err != nil {
		t.Fatal(err)
	}
	exim = filepath.Join(w.dir, "exim4") // where its own user reaches it
	if err := os.WriteFile(exim, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(w.dir, "exim")
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	chown := asRoot("chown", "Debian-exim", spool)
	if out, err := w.run("", chown[0], chown[1:]...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.hop.addr = freeAddr(t)
	conf := w.template("exim.conf", eximServerConf, "DIR", w.dir, "EXIM", exim)
	args := asRoot(exim, "-C", conf, "-bdf", "-oX", port(w.hop.addr))
	server := exec.Command(args[0], args[1:]...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	log := func() string { text, _ := os.ReadFile(filepath.Join(spool, "log-main")); return string(text) }
	t.Cleanup(func() {
		kill := asRoot("kill", strconv.Itoa(server.Process.Pid)) // sudo passes it on
		if out, err := exec.Command(kill[0], kill[1:]...).CombinedOutput(); err != nil {
			t.Errorf("stopping Exim: %v\n%s", err, out)
		}
		_ = server.Wait()
		if t.Failed() {
			t.Logf("Exim's log:\n%s", log())
		}
		remove := asRoot("rm", "-rf", spool)
		if out, err := exec.Command(remove[0], remove[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	w.eventually("Exim listens", func() bool {
		conn, err := net.Dial("tcp", w.hop.addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	w.start()
	w.sendOutgoing()
	w.arrivedAs(func() string { // it stays in Exim's queue: a file of the header, and one of the body below its own name
		cat := asRoot("sh", "-c", "cd "+spool+"/input && for h in *-H; do grep -o 'Subject: .* outgoing$' $h; echo 'X: y'; echo; tail -n +2 ${h%H}D; echo '-- end --'; done")
		text, _ := exec.Command(cat[0], cat[1:]...).Output()
		return string(text)
	})
	if n := strings.Count(log(), " K "); n < len(outgoing()) { // its mark for CHUNKING
		t.Errorf("%d of %d messages came by BDAT:\n%s", n, len(outgoing()), log())
	}
	if strings.Contains(log(), "protocol") || strings.Contains(log(), "syntax") {
		t.Errorf("Exim complains:\n%s", log())
	}
}

const postfixServerMain = `
compatibility_level = 3.6
queue_directory = DIR/postfix/queue
data_directory = DIR/postfix/data
maillog_file = DIR/postfix/log
maillog_file_prefixes = DIR
myhostname = postfix.lab.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = check_recipient_access inline:{nobody@example.org=REJECT}, permit_mynetworks, reject
virtual_mailbox_domains = example.org, lab.example
virtual_mailbox_base = DIR/postfix/data
virtual_mailbox_maps = static:got
virtual_uid_maps = static:UID
virtual_gid_maps = static:UID
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
`

// TestPostfixTakes is TestEximTakes with Postfix, whose own client never says
// BDAT.
func TestPostfixTakes(t *testing.T) {
	t.Parallel()
	needs(t, "postfix", "curl")
	w := newWorld(t)
	w.hop.addr = freeAddr(t)
	uid, err := w.run("", "id", "-u", "postfix")
	if err != nil {
		t.Fatal(err)
	}
	w.postfix(postfixServerMain, postfixMaster+"virtual unix - n n - - virtual\n", w.hop.addr, "UID", strings.TrimSpace(uid))
	w.start()
	w.sendOutgoing()
	w.arrivedAs(func() string {
		cat := asRoot("cat", filepath.Join(w.dir, "postfix", "data", "got"))
		text, _ := exec.Command(cat[0], cat[1:]...).Output()
		return string(text)
	})
	text, _ := os.ReadFile(filepath.Join(w.dir, "postfix", "log"))
	if strings.Contains(string(text), "lost connection after BDAT") || strings.Contains(string(text), "improper command") {
		t.Errorf("Postfix complains:\n%s", text)
	}
}
