package portal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"example.edu/gatepost/internal/config"
)

// writeCertificate makes a certificate with a serial number in t's files.
func writeCertificate(test *testing.T, t config.TLS, serial int64) {
	test.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		test.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		test.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		test.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{t.Certificate: {Type: "CERTIFICATE", Bytes: der}, t.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			test.Fatal(err)
		}
		if err := os.Chtimes(path, time.Now(), time.Unix(1_700_000_000+serial, 0)); err != nil {
			test.Fatal(err)
		}
	}
}

// TestCertificateIsRenewed: another certificate is taken up without a restart,
// and a broken one is not.
func TestCertificateIsRenewed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		files := config.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
		var l lastCertificate
		serial := func() int64 {
			t.Helper()
			c, err := l.get(files)
			if err != nil {
				t.Fatal(err)
			}
			return c.Leaf.SerialNumber.Int64()
		}
		if _, err := l.get(files); err == nil {
			t.Error("there is a certificate where there is no file")
		}
		writeCertificate(t, files, 1)
		if n := serial(); n != 1 {
			t.Errorf("it is %d", n)
		}
		writeCertificate(t, files, 2)
		if n := serial(); n != 1 {
			t.Errorf("the files are looked at for each connection: %d", n)
		}
		<-time.After(lookEvery)
		if n := serial(); n != 2 {
			t.Errorf("the new one is not taken up: %d", n)
		}
		if err := os.WriteFile(files.Key, []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		<-time.After(lookEvery)
		if n := serial(); n != 2 {
			t.Errorf("a broken one took its place: %d", n)
		}
	})
}
