package smtpd

import (
	"crypto/tls"
	"slices"
)

// tlsConfigs are the server's two ways to speak TLS; nil without a certificate.
type tlsConfigs struct {
	modern *tls.Config // TLS 1.2 up, the standard library's suites
	legacy *tls.Config // device tls "legacy": TLS 1.0 up, old suites too
}

func newTLSConfigs(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) tlsConfigs {
	if get == nil {
		return tlsConfigs{}
	}
	modern := &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS12}
	legacy := modern.Clone()
	legacy.MinVersion = tls.VersionTLS10 // the register allows it, for one address: RFC 8996 does not
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if c.ID != tls.TLS_RSA_WITH_RC4_128_SHA && c.ID != tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA && c.ID != tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA {
			legacy.CipherSuites = append(legacy.CipherSuites, c.ID)
		}
	}
	return tlsConfigs{modern: modern, legacy: legacy}
}

// forDevice is the configuration for a client with the device profile tls:
// nil where STARTTLS is not offered to it.
func (t tlsConfigs) forDevice(profile string) *tls.Config {
	switch profile {
	case "off":
		return nil
	case "legacy":
		return t.legacy
	}
	return t.modern
}

// needsLegacy reports whether the modern configuration would not have come to
// what s is.
func needsLegacy(s tls.ConnectionState) bool {
	return s.Version < tls.VersionTLS12 || !slices.ContainsFunc(tls.CipherSuites(), func(c *tls.CipherSuite) bool { return c.ID == s.CipherSuite })
}

// tlsName is the version and suite, as the envelope and Received tell it.
func tlsName(s tls.ConnectionState) string {
	return tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
}
