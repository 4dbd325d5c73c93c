package portal

import (
	"crypto/tls"
	"os"
	"sync"
	"time"

	"example.edu/gatepost/internal/config"
)

// A lastCertificate is the portal's certificate as its files had it when they
// were last looked at. What cannot be read leaves the one before in use.
type lastCertificate struct {
	mu     sync.Mutex
	now    *tls.Certificate // guarded by mu, as what follows
	read   [2]time.Time     // when the two files were changed last
	looked time.Time
}

// lookEvery is how often the files are looked at.
const lookEvery = 10 * time.Second

func (l *lastCertificate) get(t config.TLS) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now != nil && time.Since(l.looked) < lookEvery {
		return l.now, nil
	}
	l.looked = time.Now()
	var changed [2]time.Time
	for i, path := range []string{t.Certificate, t.Key} {
		if info, err := os.Stat(path); err == nil {
			changed[i] = info.ModTime()
		}
	}
	if l.now != nil && changed == l.read {
		return l.now, nil
	}
	cert, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		if l.now != nil {
			return l.now, nil
		}
		return nil, err
	}
	l.now, l.read = &cert, changed
	return l.now, nil
}
