package smtpd

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// An old device has no ECDSA, so what it can do shows with an RSA key only.
func withRSA(t *testing.T) func(*Options) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificateOf(t, key)
	return func(o *Options) {
		o.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	}
}

// What old devices can do, what they get, and that nobody else gets it.
func TestSuitesOfOldDevices(t *testing.T) {
	const legacy = "127.0.0.11"
	f := start(t, quick, withRSA(t))
	for _, tt := range []struct {
		name    string
		version uint16
		suite   uint16
		modern  bool // everybody gets it
		never   bool // not even a legacy device
	}{
		{"TLS 1.0, RSA key exchange, AES-CBC", tls.VersionTLS10, tls.TLS_RSA_WITH_AES_128_CBC_SHA, false, false},
		{"TLS 1.0, RSA key exchange, 3DES", tls.VersionTLS10, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, false, false},
		{"TLS 1.0, ECDHE, AES-CBC", tls.VersionTLS10, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, false, false},
		{"TLS 1.1, RSA key exchange, AES-CBC", tls.VersionTLS11, tls.TLS_RSA_WITH_AES_256_CBC_SHA, false, false},
		{"TLS 1.2, RSA key exchange, AES-CBC", tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_CBC_SHA, false, false},
		{"TLS 1.2, RSA key exchange, AES-GCM", tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, false, false},
		{"TLS 1.2, RSA key exchange, 3DES", tls.VersionTLS12, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, false, false},
		{"TLS 1.0, RC4", tls.VersionTLS10, tls.TLS_RSA_WITH_RC4_128_SHA, false, true},
		{"TLS 1.2, ECDHE, AES-GCM", tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, true, false},
		{"TLS 1.3", tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for from, want := range map[string]bool{strictClient: tt.modern, legacy: !tt.never} {
				c := f.dial(t, from, submissionPort)
				c.want("220")
				err := c.startTLS(&tls.Config{MinVersion: tt.version, MaxVersion: tt.version, CipherSuites: []uint16{tt.suite}})
				if (err == nil) != want {
					t.Errorf("%s: %v", from, err)
				}
				if err != nil {
					// The client hears nothing; whoever asks later is told what helps.
					_, _ = io.Copy(io.Discard, c.nc) // until the relay has closed
					all := append([]string{""}, f.told.all()...)
					told := all[len(all)-1]
					if want := from + " true STARTTLS tls: 454 4.7.0 STARTTLS failed with " + from + " (tls: "; !strings.Contains(told, want) || strings.Contains(told, `device: {tls: "legacy"}; change it at https://relay.example.edu/register?ip=`) != (from == strictClient) {
						t.Errorf("told %s", told)
					}
					continue
				}
				c.do("EHLO x", "250")
				c.transaction()
				c.do("DATA", "354")
				c.send("Date: x\r\nMessage-ID: <1@x>\r\n\r\n.\r\n")
				c.want("250")
				needed := ""
				if !tt.modern {
					needed = "old-tls"
				}
				if got, want := f.told.newest(), from+" recipients=1 octets=30 tls="+tls.VersionName(tt.version)+" needed="+needed; got != want {
					t.Errorf("told %q, want %q", got, want)
				}
			}
		})
	}
}

// OpenSSL in the place of an old printer.
func TestOpenSSLAsAnOldDevice(t *testing.T) {
	needs(t, "openssl")
	f := start(t, quick, withRSA(t))
	for _, tt := range []struct {
		from string
		args string
		want string // what the relay heard of TLS; "": no handshake
	}{
		{"127.0.0.11", "-tls1 -cipher DEFAULT@SECLEVEL=0", "TLS 1.0"},
		{"127.0.0.11", "-tls1 -cipher AES128-SHA@SECLEVEL=0", "TLS 1.0"},
		{"127.0.0.11", "-tls1_1 -cipher AES256-SHA@SECLEVEL=0", "TLS 1.1"},
		{"127.0.0.11", "-tls1_2 -cipher AES128-SHA", "TLS 1.2"},
		{"127.0.0.11", "-tls1_3", "TLS 1.3"},
		{strictClient, "-tls1 -cipher DEFAULT@SECLEVEL=0", ""},
		{strictClient, "-tls1_1 -cipher DEFAULT@SECLEVEL=0", ""},
		{strictClient, "-tls1_2 -cipher AES128-SHA", ""},
		{strictClient, "-tls1_2", "TLS 1.2"},
		{"127.0.0.10", "-tls1_2", ""}, // its profile says tls: "off"
	} {
		t.Run(tt.from+" "+tt.args, func(t *testing.T) {
			before := len(f.store.all())
			args := append([]string{"s_client", "-quiet", "-crlf", "-starttls", "smtp", "-connect", f.addr[relayPort], "-bind", net.JoinHostPort(tt.from, "0")}, strings.Fields(tt.args)...)
			cmd := exec.CommandContext(t.Context(), "openssl", args...)
			cmd.Stdin = strings.NewReader("EHLO printer\nMAIL FROM:<a@example.edu>\nRCPT TO:<b@example.org>\nDATA\nSubject: x\n\nscan\n.\nQUIT\n")
			out, err := cmd.CombinedOutput()
			all := f.store.all()
			switch {
			case tt.want == "" && (err == nil || len(all) != before):
				t.Errorf("it got through: %s", out)
			case tt.want != "" && (err != nil || len(all) != before+1):
				t.Errorf("%v: %s", err, out)
			case tt.want != "" && !strings.HasPrefix(all[before].env.TLS, tt.want+" "):
				t.Errorf("it came over %s, want %s", all[before].env.TLS, tt.want)
			}
		})
	}
}
