package form

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPaste(t *testing.T) {
	rows := func(hosts []Host) string {
		var out []string
		for _, h := range hosts {
			out = append(out, strings.Join([]string{h.IP, h.Name, h.Kind}, " "))
		}
		return strings.Join(out, "|")
	}
	for _, tt := range []struct {
		name, pasted, want, left string
		cut                      []string
	}{
		{"addresses", "141.211.13.1\n\n  141.211.13.2  \n2607:f018::1", "141.211.13.1  printer|141.211.13.2  printer|2607:f018::1  printer", "", nil},
		{"a CSV file with a heading", "\ufeffIP address,Host name,Kind\n141.211.13.1,a.umich.edu,scanner\n\"141.211.13.2\",\"b.umich.edu\",Server\n", "141.211.13.1 a.umich.edu scanner|141.211.13.2 b.umich.edu server", "", nil},
		{"another order, semicolons, more columns", "room 12; printer; a.umich.edu; 141.211.13.1; 2019\nroom 13; sensor; b.umich.edu; 141.211.13.2; 2020", "141.211.13.1 a.umich.edu printer|141.211.13.2 b.umich.edu sensor", "", nil},
		{"a spreadsheet", "a.umich.edu\t141.211.13.1\t\nb.umich.edu\t141.211.13.2\tother", "141.211.13.1 a.umich.edu printer|141.211.13.2 b.umich.edu other", "", nil},
		{"blanks", "141.211.13.1 a.umich.edu sensor\n141.211.13.2 b.umich.edu", "141.211.13.1 a.umich.edu sensor|141.211.13.2 b.umich.edu printer", "", nil},
		{"mixed", "141.211.13.1, a.umich.edu\n141.211.13.2", "141.211.13.1 a.umich.edu printer|141.211.13.2  printer", "", nil},
		{"what is wrong is for the rules to say", "141.211.13.0/24\n141.211.13.300\n141.211.013.1\nfe80::1::2", "141.211.13.0/24  printer|141.211.13.300  printer|141.211.013.1  printer|fe80::1::2  printer", "", nil},
		{"nonsense stays", "141.211.13.1\nthe one in the cellar\n141.211.13.2", "141.211.13.1  printer|141.211.13.2  printer", "the one in the cellar", []string{"pasted bad-ip"}},
		{"one line of nonsense is no heading", "hello", "  printer", "hello", []string{"pasted bad-ip"}},
		{"broken quotes", "\"141.211.13.1,\"a.umich.edu\n'141.211.13.2',b.umich.edu", "", "", nil},
		{"nothing", " \n\t\n", "  printer", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Values{Pasted: tt.pasted, Hosts: []Host{{Kind: "printer"}}}.Paste()
			if got := rows(v.Hosts); got != tt.want && tt.want != "" || v.Pasted != tt.left && tt.want != "" {
				t.Errorf("got %q, left %q; want %q, %q", got, v.Pasted, tt.want, tt.left)
			}
			if got := told(v.Cut); !slices.Equal(got, tt.cut) && tt.want != "" {
				t.Errorf("told %q, want %q", got, tt.cut)
			}
		})
	}
	t.Run("behind what is there, up to the bound", func(t *testing.T) {
		var list []string
		for i := range 70 {
			list = append(list, fmt.Sprintf("141.211.13.%d", i))
		}
		v := Values{Pasted: strings.Join(list, "\n"), Hosts: []Host{{IP: "141.211.14.1"}, {}}}.Paste()
		if len(v.Hosts) != MaxHosts || v.Hosts[0].IP != "141.211.14.1" || v.Hosts[1].IP != "141.211.13.0" || v.Pasted != strings.Join(list[63:], "\n") || len(v.Cut) != 1 {
			t.Errorf("%d rows, left %q, %+v", len(v.Hosts), v.Pasted, v.Cut)
		}
		if more := v.Add(); len(more.Hosts) != MaxHosts || len(more.Cut) != 2 {
			t.Errorf("%d rows after one more", len(more.Hosts))
		}
	})
}

func TestRows(t *testing.T) {
	v := Values{Hosts: []Host{{IP: "a", Kind: "sensor"}}}
	two := v.Add()
	if len(v.Hosts) != 1 || len(two.Hosts) != 2 || two.Hosts[1] != (Host{Kind: "sensor"}) {
		t.Errorf("%+v", two.Hosts)
	}
	if one := two.Remove(0); len(one.Hosts) != 1 || one.Hosts[0].IP != "" || two.Hosts[0].IP != "a" {
		t.Errorf("%+v", one.Hosts)
	}
	if none := v.Remove(0); len(none.Hosts) != 1 || none.Hosts[0] != (Host{}) {
		t.Errorf("%+v", none.Hosts)
	}
	if same := v.Remove(7); len(same.Hosts) != 1 || same.Hosts[0].IP != "a" {
		t.Errorf("%+v", same.Hosts)
	}
}
