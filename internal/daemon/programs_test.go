package daemon_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ciFile is a program that .ci/run puts outside of the repository. In CI it is a
// failure that it is missing.
func ciFile(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("GATEPOST_CI_DIR")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(home, ".cache", "gatepost-ci")
	}
	name = filepath.Join(dir, name)
	if _, err := os.Stat(name); err != nil {
		if os.Getenv("GATEPOST_NO_SKIP") != "" {
			t.Fatalf("%v; bash .ci/run installs it", err)
		}
		t.Skipf("%v; bash .ci/run installs it", err)
	}
	return name
}

// asRoot is a command as root: a mail server gives its rights away itself.
func asRoot(args ...string) []string {
	if os.Getuid() == 0 {
		return args
	}
	return append([]string{"sudo", "-n"}, args...)
}

// template writes a file for another program, with each pair of words replaced.
func (w *world) template(name, text string, replace ...string) string {
	w.t.Helper()
	name = filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(strings.NewReplacer(replace...).Replace(text)), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return name
}

// traversable lets other users reach the world's folder.
func (w *world) traversable() {
	w.t.Helper()
	for dir := w.dir; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
}

const postfixMain = `
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
relayhost = [127.0.0.1]:RELAY
smtp_bind_address = 127.0.0.1
smtp_tls_security_level = encrypt
smtp_tls_loglevel = 1
`

const postfixMaster = `
127.0.0.1:PORT inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
smtp unix - - n - - smtp
relay unix - - n - - smtp
postlog unix-dgram n - n - 1 postlogd
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
`

// postfix runs a Postfix that listens at an address, until the test ends.
func (w *world) postfix(main, master, address string, replace ...string) {
	w.t.Helper()
	t := w.t
	w.traversable()
	w.template("postfix/conf/main.cf", main, append(replace, "DIR", w.dir)...)
	w.template("postfix/conf/master.cf", master, "PORT", port(address))
	conf := filepath.Join(w.dir, "postfix", "conf")
	for _, dir := range []string{"queue", "data"} {
		if err := os.Mkdir(filepath.Join(w.dir, "postfix", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"chown", "-R", "root", filepath.Join(w.dir, "postfix")},
		{"chown", "postfix", filepath.Join(w.dir, "postfix", "data")},
		{"postfix", "-c", conf, "start"},
	} {
		args = asRoot(args...)
		if out, err := w.run("", args[0], args[1:]...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		args := asRoot("postfix", "-c", conf, "abort")
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Errorf("stopping Postfix: %v\n%s", err, out)
		}
		args = asRoot("rm", "-rf", filepath.Join(w.dir, "postfix"))
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(w.dir, "postfix", "log"))
			t.Logf("Postfix's log:\n%s", log)
		}
	})
	w.eventually("Postfix listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// TestPostfixRelaysThrough: a real Postfix takes mail and has the relay carry it
// on, over TLS, with what its client asked for of DSN.
func TestPostfixRelaysThrough(t *testing.T) {
	t.Parallel()
	needs(t, "postfix", "python3")
	w := newWorld(t)
	w.start()
	address := freeAddr(t)
	w.postfix(postfixMain, postfixMaster, address, "RELAY", port(w.submission))
	w.hop.say(func(command string) string {
		if strings.HasPrefix(command, "EHLO") {
			return "250-hop.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE 50000000"
		}
		return ""
	})
	out, err := w.run("", "python3", "-c", `
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as s:
    s.sendmail("device@lab.example", ["someone@example.org"], "Subject: through Postfix\r\n\r\nGrüße\r\n.leading dot\r\n".encode(),
        ["BODY=8BITMIME", "RET=HDRS", "ENVID=e1"], ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;some+2Bone@example.org"])
`, port(address))
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, out)
	}
	w.eventually("it arrives", func() bool { return len(w.hop.holding("Subject: through Postfix")) == 1 })
	got := w.hop.holding("Subject: through Postfix")[0]
	for _, want := range []string{
		"NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;some+2Bone@example.org", "RET=HDRS", "ENVID=e1",
		"Grüße", "\r\n.leading dot\r\n", "Received: from postfix.lab.example ([127.0.0.1])", "with ESMTPS",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it arrived without %q:\n%s", want, got)
		}
	}
}

const eximConf = `
exim_path = EXIM
primary_hostname = exim.lab.example
spool_directory = DIR/exim
log_file_path = DIR/exim/log-%s
keep_environment =
trusted_users = root
begin routers
hub:
  driver = manualroute
  domains = *
  transport = smtp
  route_list = * 127.0.0.1
  self = send
begin transports
smtp:
  driver = smtp
  port = RELAY
  interface = 127.0.0.1
  allow_localhost
  hosts_try_chunking = *
`

// TestEximRelaysThrough: Exim sends its messages by BDAT, and a long one in
// several chunks.
func TestEximRelaysThrough(t *testing.T) {
	t.Parallel()
	exim := ciFile(t, "exim/usr/sbin/exim4")
	w := newWorld(t)
	w.start()
	w.traversable()
	binary, err := os.ReadFile(exim)
	if err != nil {
		t.Fatal(err)
	}
	exim = filepath.Join(w.dir, "exim4") // where its own user reaches it
	if err := os.WriteFile(exim, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := w.template("exim.conf", eximConf, "DIR", w.dir, "RELAY", port(w.relay), "EXIM", exim)
	spool := filepath.Join(w.dir, "exim")
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	chown := asRoot("chown", "Debian-exim", spool)
	if out, err := w.run("", chown[0], chown[1:]...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(spool, "log-main"))
			t.Logf("Exim's log:\n%s", log)
		}
		remove := asRoot("rm", "-rf", spool)
		if out, err := exec.Command(remove[0], remove[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	for name, text := range map[string]string{
		"short": ".leading dot\n.\nFrom here on\n",
		"long":  strings.Repeat(".a line of the long one\n", 20_000),
	} {
		args := asRoot(exim, "-C", conf, "-odf", "-oi", "-f", "device@lab.example", "someone@example.org")
		out, err := w.run("Subject: "+name+" by Exim\n\n"+text, args[0], args[1:]...)
		if err != nil {
			t.Fatalf("exim: %v\n%s", err, out)
		}
		w.eventually("it arrives", func() bool { return len(w.hop.holding("Subject: "+name+" by Exim\r\n")) == 1 })
		got := w.hop.holding("Subject: " + name + " by Exim\r\n")[0]
		_, body, _ := strings.Cut(got, "\r\n\r\n")
		if body != strings.ReplaceAll(text, "\n", "\r\n") {
			t.Errorf("%s: the body is another one, of %d octets", name, len(body))
		}
	}
	log, err := os.ReadFile(filepath.Join(spool, "log-main"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), " K "); n != 2 { // its mark for CHUNKING
		t.Errorf("%d of 2 messages went by BDAT:\n%s", n, log)
	}
}

// TestNodemailer sends by the library that most programs for Node use.
func TestNodemailer(t *testing.T) {
	t.Parallel()
	needs(t, "node")
	library := ciFile(t, "node_modules/nodemailer")
	w := newWorld(t)
	w.start()
	script := w.template("send.js", `
const nodemailer = require(process.argv[2]);
const [relay, submission, cert] = process.argv.slice(3);
const message = {from: "Geräte <device@lab.example>", to: "someone@example.org", subject: "by nodemailer", text: "Scanned.\n.leading dot",
	attachments: [{filename: "page.bin", content: Buffer.alloc(300000, 7)}]};
(async () => {
	await nodemailer.createTransport({host: "127.0.0.1", port: relay, localAddress: "127.0.0.1", ignoreTLS: true}).sendMail(message);
	await nodemailer.createTransport({host: "127.0.0.1", port: submission, localAddress: "127.0.0.1", requireTLS: true,
		tls: {ca: require("fs").readFileSync(cert), servername: "relay.lab.example"}}).sendMail({...message, subject: "by nodemailer, TLS"});
})().catch(e => { console.error(e); process.exit(1); });
`)
	if out, err := w.run("", "node", script, library, port(w.relay), port(w.submission), filepath.Join(w.dir, "cert.pem")); err != nil {
		t.Fatalf("node: %v\n%s", err, out)
	}
	for _, subject := range []string{"by nodemailer\r\n", "by nodemailer, TLS\r\n"} {
		w.eventually("it arrives", func() bool { return len(w.hop.holding("Subject: "+subject)) == 1 })
	}
}

// TestNoOpenRelay runs nmap's script from a registered address, from one that is
// not, and from one off campus. The script counts what it gets through; from a
// registered address the relay is there to relay.
func TestNoOpenRelay(t *testing.T) {
	t.Parallel()
	needs(t, "nmap")
	w := newWorld(t)
	w.start()
	for from, want := range map[string]string{
		"127.0.0.77": "Server doesn't seem to be an open relay, all tests failed",
		"127.1.0.1":  "failed to receive data: connection closed", // behind the 554
		"127.0.0.1":  "Server is an open relay",
	} {
		args := asRoot("nmap", "-n", "-Pn", "-sT", "-e", "lo", "-S", from, "-p", port(w.relay), "--script", "+smtp-open-relay", "--script-args",
			"smtp-open-relay.domain=lab.example,smtp-open-relay.from=device,smtp-open-relay.to=someone", "127.0.0.1")
		out, err := w.run("", args[0], args[1:]...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("from %s: %v, want %q\n%s", from, err, want, out)
		}
	}
}

// TestTLSAsTestsslSeesIt looks at both ports with testssl.sh.
func TestTLSAsTestsslSeesIt(t *testing.T) {
	t.Parallel()
	needs(t, "testssl")
	w := newWorld(t)
	w.start()
	for _, addr := range []string{w.relay, w.submission} {
		out, _ := w.run("", "testssl", "--quiet", "--color", "0", "--warnings", "off", "--starttls", "smtp", "--protocols", "--heartbleed", "--renegotiation", addr)
		for _, want := range []string{
			"SSLv2      not offered", "SSLv3      not offered", "TLS 1      not offered", "TLS 1.1    not offered", "TLS 1.2    offered", "TLS 1.3    offered",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q:\n%s", addr, want, out)
			}
		}
		if strings.Contains(out, "NOT ok") { // its words for what is vulnerable
			t.Errorf("%s:\n%s", addr, out)
		}
	}
}
