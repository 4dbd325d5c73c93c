package smtpd

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What EHLO says of recipients is what is held: as many are taken, and no more.
func TestLimitsAreToldAsTheyAreHeld(t *testing.T) {
	said := regexp.MustCompile(`^250[ -]LIMITS RCPTMAX=([1-9]\d{0,5})$`)
	for _, tt := range []struct {
		from string
		most int
	}{{strictClient, 7}, {"127.0.0.6", 7}, {"127.0.0.7", 7}, {strictClient, 1}, {strictClient, 5_000_000}} {
		t.Run(fmt.Sprint(tt.from, " ", tt.most), func(t *testing.T) {
			f := start(t, Limits{MaxRecipients: tt.most, Refusal: quick.Refusal})
			c := f.dial(t, tt.from, relayPort)
			c.want("220")
			c.send("EHLO x\r\n")
			told := 0
			for line := c.line(); ; line = c.line() {
				if m := said.FindStringSubmatch(line); m != nil {
					told, _ = strconv.Atoi(m[1])
				}
				if line[3] != '-' {
					break
				}
			}
			if told == 0 {
				t.Fatal("no limit is told")
			}
			if told > 10 {
				return // it is told; a million commands show nothing more
			}
			c.do("MAIL FROM:<a@example.edu>", "250")
			to := func(i int) string { return fmt.Sprintf("<u%d@d%d.example.org>", i, i) }
			if tt.from != strictClient {
				to = func(int) string {
					return "<prove+" + f.proofs.token(t, tt.from, 7, 1e12) + "@relay.example.edu>"
				}
			}
			for i := range told {
				c.do("RCPT TO:"+to(i), "250 2.1.5")
			}
			c.send("RCPT TO:" + to(told) + "\r\n")
			if got := c.reply(); !strings.HasPrefix(got, "452 4.5.3") {
				t.Errorf("%d are told, and one more got %q", told, got)
			}
		})
	}
}
