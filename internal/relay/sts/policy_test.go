package sts

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParseRecord(t *testing.T) {
	for _, c := range []struct {
		txts []string
		id   string // "": no policy
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{[]string{"v=STSv1;id=1"}, "1"},
		{[]string{"v=STSv1 ; \tid=1; more=x"}, "1"},
		{[]string{"v=STSv1; more=x; id=1;"}, "1"},
		{[]string{"v=spf1 -all", "v=STSv1; id=1", "google-site-verification=x"}, "1"},
		{nil, ""},
		{[]string{"v=spf1 -all"}, ""},
		{[]string{"v=STSv1; id=1", "v=STSv1; id=2"}, ""},
		{[]string{"v=STSv10; id=1"}, ""},
		{[]string{"v=stsv1; id=1"}, ""},
		{[]string{" v=STSv1; id=1"}, ""},
		{[]string{"v=STSv1;"}, ""},
		{[]string{"v=STSv1; id="}, ""},
		{[]string{"v=STSv1; id=a-b"}, ""},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 33)}, ""},
	} {
		if id, ok := parseRecord(c.txts); ok != (c.id != "") || ok && id != c.id {
			t.Errorf("%q: %q, %v", c.txts, id, ok)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	const good = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.NET.\r\nmax_age: 604800\r\n"
	for _, c := range []struct {
		name, text string
		want       string // "": an error
	}{
		{"of the RFC", good, "enforce [mail.example.com *.example.net] 168h0m0s"},
		{"line feeds", strings.ReplaceAll(good, "\r", ""), "enforce [mail.example.com *.example.net] 168h0m0s"},
		{"without the last line end", strings.TrimRight(good, "\r\n"), "enforce [mail.example.com *.example.net] 168h0m0s"},
		{"another order, and more", "max_age:10\nnew: x\n\nmx:a.example\nmode:testing\nversion:STSv1\n", "testing [a.example] 10s"},
		{"the first counts", good + "mode: none\nmax_age: 1\n", "enforce [mail.example.com *.example.net] 168h0m0s"},
		{"none needs no mx", "version: STSv1\nmode: none\nmax_age: 0\n", "none [] 0s"},
		{"longer than a year", "version: STSv1\nmode: none\nmax_age: 9999999999\n", "none [] 8766h0m0s"},
		{"no version", strings.Replace(good, "version: STSv1\r\n", "", 1), ""},
		{"another version", strings.Replace(good, "STSv1", "STSv2", 1), ""},
		{"another mode", strings.Replace(good, "enforce", "maybe", 1), ""},
		{"no mode", strings.Replace(good, "mode: enforce\r\n", "", 1), ""},
		{"no mx", "version: STSv1\nmode: enforce\nmax_age: 1\n", ""},
		{"no max_age", "version: STSv1\nmode: none\n", ""},
		{"a negative max_age", "version: STSv1\nmode: none\nmax_age: -1\n", ""},
		{"any host", "version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n", ""},
		{"a star inside", "version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 1\n", ""},
		{"part of a label", "version: STSv1\nmode: enforce\nmx: a*.example\nmax_age: 1\n", ""},
		{"empty mx", "version: STSv1\nmode: enforce\nmx:\nmax_age: 1\n", ""},
		{"many mx", "version: STSv1\nmode: enforce\nmax_age: 1\n" + strings.Repeat("mx: a.example\n", maxPatterns+1), ""},
		{"a web page", "<!DOCTYPE html>\n<html></html>\n", ""},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := parsePolicy([]byte(c.text))
			got := ""
			if err == nil {
				got = fmt.Sprintf("%s %v %v", p.Mode, p.MX, p.MaxAge)
			}
			if got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	p := &Policy{MX: []string{"mail.example.com", "*.example.net"}}
	for host, want := range map[string]bool{
		"mail.example.com": true, "a.mail.example.com": false, "example.com": false,
		"a.example.net": true, "example.net": false, "b.a.example.net": false, "aexample.net": false, "*.example.net": true, "": false, ".example.net": true,
	} {
		if p.Names(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func TestPublicAddresses(t *testing.T) {
	for s, want := range map[string]bool{
		"192.0.2.1": true, "8.8.8.8": true, "2001:db8::1": true, "2607:f018::1": true, "64:ff9b::808:808": true,
		"127.0.0.1": false, "10.0.0.1": false, "192.168.1.1": false, "172.16.0.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false, "192.0.0.8": false,
		"::1": false, "::": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "64:ff9b::7f00:1": false, "64:ff9b::a00:1": false,
		"2002:7f00:1::": false, "::7f00:1": false, "2001::1": false, "fec0::1": false, "fe80::1%eth0": false,
	} {
		if public(netip.MustParseAddr(s)) != want {
			t.Errorf("%s: %v", s, !want)
		}
	}
	if public(netip.MustParseAddr("::ffff:127.0.0.1").Unmap()) {
		t.Error("mapped")
	}
}

func TestMediaTypes(t *testing.T) {
	for s, want := range map[string]bool{"text/plain": true, "text/plain; charset=utf-8": true, "Text/Plain": true, "text/html": false, "": false, "text/plain;": true, "image/png": false} {
		if isText(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add("version: STSv1\r\nmode: enforce\r\nmx: *.example.net\r\nmax_age: 604800\r\n")
	f.Add("v=STSv1; id=1")
	f.Fuzz(func(t *testing.T, text string) {
		if id, ok := parseRecord([]string{text}); ok && (id == "" || len(id) > maxID) {
			t.Fatalf("id %q", id)
		}
		p, err := parsePolicy([]byte(text))
		if err != nil {
			return
		}
		if p.MaxAge < 0 || p.MaxAge > maxAge*time.Second || len(p.MX) > maxPatterns || p.Mode != None && len(p.MX) == 0 || p.Names("localhost") && !strings.Contains(text, "ocalhost") && !strings.Contains(strings.ToLower(text), "localhost") {
			t.Fatalf("%+v", p)
		}
	})
}
