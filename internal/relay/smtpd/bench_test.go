package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"example.edu/gatepost/internal/mail"
)

func BenchmarkBodyReader(b *testing.B) {
	for name, line := range map[string]string{"lines of 76": strings.Repeat("x", 76) + "\r\n", "lines of 998": strings.Repeat("x", 998) + "\r\n"} {
		b.Run(name, func(b *testing.B) {
			data := []byte(strings.Repeat(line, 1<<20/len(line)) + ".\r\n")
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				r := &bodyReader{in: bufio.NewReaderSize(bytes.NewReader(data), inSize), dots: true, maxLine: 1 << 20}
				for {
					if _, _, err := r.next(); err != nil {
						if err != io.EOF {
							b.Fatal(err)
						}
						break
					}
				}
			}
		})
	}
}

type sink struct{}

func (sink) Create(context.Context, mail.Envelope) (Message, error) { return discard{}, nil }

// BenchmarkMessages sends messages over one connection of loopback TCP, each
// command waiting for its reply as a plain client does.
func BenchmarkMessages(b *testing.B) {
	for _, size := range []int{4 << 10, 200 << 10} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			f := start(b, Limits{}, func(o *Options) { o.Store, o.Logger = sink{}, nil })
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(strictClient)}}
			nc, err := d.Dial("tcp", f.addr[relayPort])
			if err != nil {
				b.Fatal(err)
			}
			c := newClient(b, nc)
			c.want("220")
			c.do("EHLO x", "250")
			body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78) + ".\r\n"
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				c.transaction()
				c.do("DATA", "354")
				c.send(body)
				c.want("250")
			}
		})
	}
}
