package daemon

import (
	"context"
	"fmt"
	"net"
	"os"

	"example.edu/gatepost/internal/config"
	"example.edu/gatepost/internal/register/credential"
	"example.edu/gatepost/internal/register/reconcile"
)

// token is the forge's token for one fetch; "" without one.
func (s *settings) token(ctx context.Context) (string, error) {
	return s.app.Token(ctx, comesAs(s.current.Load().Register))
}

// comesAs is as whom the configuration comes to the register's host.
func comesAs(g config.Register) credential.Want {
	w := credential.Want{Repository: g.Repository, TokenFile: g.TokenFile}
	if g.App != nil {
		w.App = (*credential.App)(g.App)
	}
	return w
}

var _ reconcile.Source = credential.Mirror{}

// A warning is a finding that does not stop the relay.
type warning struct{ problem, hint string }

// warnings are those of the configuration, and of the files with secrets that
// it names: others than the relay's account may read one, or its group may
// write it.
func warnings(c *config.Relay) (out []warning) {
	for _, w := range c.Warnings {
		out = append(out, warning{w.String(), w.Hint})
	}
	files := []struct{ field, path string }{{"tls.key", c.TLS.Key}, {"register.tokenFile", c.Register.TokenFile}}
	if a := c.Register.App; a != nil {
		files = append(files, struct{ field, path string }{"register.app.keyFile", a.KeyFile})
	}
	if h := c.Register.Webhook; h != nil {
		files = append(files, struct{ field, path string }{"register.webhook.secretFile", h.SecretFile})
	}
	if p := c.Listen.Portal; p != nil {
		files = append(files, struct{ field, path string }{"listen.portal.tokenFile", p.TokenFile}, struct{ field, path string }{"listen.portal.operatorTokenFile", p.OperatorTokenFile})
	}
	for i, k := range c.Deliver.DKIM {
		files = append(files, struct{ field, path string }{fmt.Sprintf("deliver.dkim[%d].keyFile", i), k.KeyFile})
	}
	for _, f := range files {
		if who := credential.Exposed(f.path); who != "" {
			out = append(out, exposedWarning(f.field, f.path, who))
		}
	}
	for i, a := range c.Deliver.Source {
		probe, err := net.ListenPacket("udp", net.JoinHostPort(a.String(), "0")) // as bound as a connection would be
		if err != nil {
			out = append(out, warning{fmt.Sprintf("deliver.source[%d]: %s cannot be used on this machine now: %v", i, a, err), "until it is an address of this machine, mail to next hops of its family waits"})
			continue
		}
		_ = probe.Close()
	}
	if info, err := os.Stat(c.Blocks.File); c.Blocks.File != "" && err == nil && info.Mode().Perm()&0o002 != 0 { // its group may: a program writes it
		out = append(out, warning{fmt.Sprintf("blocks.file: %s says who may not send, and everybody on this machine may write it", c.Blocks.File), "chmod o-w " + c.Blocks.File})
	}
	if v := c.Register.Verify; v != nil {
		for _, file := range v.Keys {
			if who := writable(file); who != "" {
				out = append(out, warning{fmt.Sprintf("register.verify.keys: %s says who may approve, and %s", file, who), "chmod 0644 " + file})
			}
		}
	}
	return out
}

func exposedWarning(field, path, who string) warning {
	return warning{fmt.Sprintf("%s: %s holds a secret, and %s", field, path, who), "chmod 0640 " + path + ", or 0600"}
}
