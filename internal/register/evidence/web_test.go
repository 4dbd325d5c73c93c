package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestParseBase(t *testing.T) {
	for _, good := range []string{
		"https://netbox.example.edu", "https://netbox.example.edu/", "https://example.edu/netbox/", "HTTPS://netbox.example.edu:8443",
		"http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost",
	} {
		if _, err := parseBase(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "netbox.example.edu", "http://netbox.example.edu", "ftp://netbox.example.edu", "file:///etc/passwd", "https:netbox",
		"https://user:hunter2@netbox.example.edu", "https://netbox.example.edu/?q=hunter2", "https://netbox.example.edu/#x",
		"http://127.0.0.1.example.edu", "http://localhost.example.edu", "https://hunter2 example", "https://",
	} {
		if _, err := parseBase(bad); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// serve answers on loopback and takes what w writes.
func serve(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.URL
}

// trouble are services that must never look fine.
var trouble = map[string]struct {
	handle http.HandlerFunc
	text   string
}{
	"an error":        {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "{}", http.StatusInternalServerError) }, "HTTP 500"},
	"forbidden":       {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "{}", http.StatusForbidden) }, "refuses the token"},
	"too often":       {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "{}", http.StatusTooManyRequests) }, "asked too often"},
	"a web page":      {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Please log in</html>") }, "could not be asked"},
	"nothing":         {func(http.ResponseWriter, *http.Request) {}, ""},
	"another object":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"objectClassName": "domain"}`) }, "could not be asked"},
	"a null":          {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `null`) }, ""},
	"a list":          {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[[[[]]]]`) }, ""},
	"an endless body": {func(w http.ResponseWriter, _ *http.Request) { endless(w) }, "over 8 MiB"},
	"endless headers": {func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
	}, "could not be asked"},
	"a slow body": {func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"count": 1,`))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, "no answer within 300ms"},
	"a hung-up call": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "could not be asked"},
	"a redirect out of here": {func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/x", http.StatusFound)
	}, ""},
	"a redirect in a circle": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, ""},
}

func endless(w http.ResponseWriter) {
	chunk := []byte(strings.Repeat(" ", 1<<16))
	for range 1000 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestWebServicesInTrouble(t *testing.T) {
	for name, tt := range trouble {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, tt.handle)
			r, err := NewRDAP(url, "UNIVERSITY")
			if err != nil {
				t.Fatal(err)
			}
			n, err := NewNetBox(url, "s3cr3t")
			if err != nil {
				t.Fatal(err)
			}
			relay, err := NewRelay(url)
			if err != nil {
				t.Fatal(err)
			}
			sources := []Source{r, NewIPAM(n, mapping(t, "")), relay}
			limit := 20 * time.Second
			if name == "a slow body" {
				limit = 300 * time.Millisecond
			}
			reports, err := Gather(t.Context(), []Claim{claim("141.211.13.21", "mfp1.example.edu")}, sources, Options{Timeout: limit})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range reports[0].Findings {
				if f.Outcome != Unknown || f.Text == "" || !strings.Contains(f.Text, tt.text) || strings.Contains(f.Text, "s3cr3t") {
					t.Errorf("%s: %s %q, want unknown with %q", f.Source, f.Outcome, f.Text, tt.text)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if _, err := n.Blocks(ctx); err == nil {
				t.Error("an import took it")
			}
		})
	}
}

func TestAServiceThatIsNotThere(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	r, err := NewRDAP(s.URL, "UNIVERSITY")
	if err != nil {
		t.Fatal(err)
	}
	f := observe(t, r, claim("141.211.13.21", "mfp1.example.edu"), Unknown, "could not be asked")
	if strings.Contains(f.Text, "/ip/") {
		t.Errorf("the URL is noise: %q", f.Text)
	}
}

// rdapBlock is an answer as registries give it.
const rdapBlock = `{
  "rdapConformance": ["rdap_level_0"], "objectClassName": "ip network",
  "handle": "NET-141-211-0-0-1", "name": "UMNET2", "startAddress": %q, "endAddress": %q, "ipVersion": "v4", "type": "DIRECT ALLOCATION",
  "entities": [
    {"objectClassName": "entity", "handle": "ABUSE-1", "roles": ["abuse"], "vcardArray": ["vcard", [["version", {}, "text", "4.0"], ["fn", {}, "text", "Abuse Desk"]]]},
    {"objectClassName": "entity", "handle": "UNIVER-231", "roles": ["registrant"], "vcardArray": ["vcard", [["version", {}, "text", "4.0"], ["fn", {}, "text", "University of Example"], ["kind", {}, "text", "org"]]]}
  ]}`

func TestRDAP(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/rdap+json")
		switch r.URL.Path {
		case "/registry/ip/141.211.13.21":
			fmt.Fprintf(w, rdapBlock, "141.211.0.0", "141.211.255.255")
		case "/registry/ip/141.211.13.22": // another block than the one asked for
			fmt.Fprintf(w, rdapBlock, "192.0.2.0", "192.0.2.255")
		case "/registry/ip/141.211.13.23":
			fmt.Fprint(w, `{"objectClassName": "ip network", "startAddress": "141.211.0.0", "endAddress": "141.211.255.255"}`)
		case "/registry/ip/141.211.13.24":
			http.Redirect(w, r, "/registry/ip/141.211.13.21", http.StatusFound)
		case "/registry/ip/2607:f018:1:13::21":
			fmt.Fprintf(w, rdapBlock, "2607:f018::", "2607:f018:ffff:ffff:ffff:ffff:ffff:ffff")
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"errorCode": 404, "title": "not found"}`)
		}
	})
	tests := []struct {
		registrant, ip string
		outcome        Outcome
		text           string
	}{
		{"UNIVER-231", "141.211.13.21", Confirmed, "registered to UNIVER-231"},
		{"university of example", "141.211.13.21", Confirmed, "registered to"},
		{"UMNET2", "141.211.13.21", Confirmed, "registered to"},
		{"UNIVER-231", "2607:f018:1:13::21", Confirmed, "registered to"},
		{"UNIVER-231", "141.211.13.24", Confirmed, "registered to"},
		{"Abuse Desk", "141.211.13.21", Contradicted, "registered to University of Example, not to Abuse Desk"},
		{"Example Cloud", "141.211.13.21", Contradicted, "registered to University of Example, not to Example Cloud"},
		{"", "141.211.13.21", Unknown, "nothing was named to compare with"},
		{"UNIVER-231", "141.211.13.22", Unknown, "the answer is about 192.0.2.0"},
		{"UNIVER-231", "141.211.13.23", Unknown, "does not say whose"},
		{"UNIVER-231", "142.211.13.21", Unknown, "knows no block"},
		{"UNIVER-231", "10.0.0.1", Unknown, "private address"},
		{"UNIVER-231", "fd00::1", Unknown, "private address"},
	}
	for _, tt := range tests {
		r, err := NewRDAP(url+"/registry/", tt.registrant)
		if err != nil {
			t.Fatal(err)
		}
		observe(t, r, claim(tt.ip, "mfp1.example.edu"), tt.outcome, tt.text)
	}
}

func mapping(t *testing.T, rows string) *Mapping {
	t.Helper()
	m, err := ParseMapping([]byte(rows), []string{"its", "lsa-physics", "engin-eecs"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// netbox replays what a NetBox would answer: its objects, by list, filtered as
// "contains" and "address" do, in pages of at most page objects.
type netbox struct {
	prefixes, addresses []map[string]any
	page                int
	asked               atomic.Int64
	lie                 func(offset int, answer map[string]any)
}

func (n *netbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.asked.Add(1)
	if r.Header.Get("Authorization") != "Token s3cr3t" {
		http.Error(w, `{"detail": "Invalid token"}`, http.StatusForbidden)
		return
	}
	var all []map[string]any
	q := r.URL.Query()
	switch r.URL.Path {
	case "/api/ipam/prefixes/":
		for _, p := range n.prefixes {
			if ip, err := netip.ParseAddr(q.Get("contains")); err != nil || netip.MustParsePrefix(p["prefix"].(string)).Contains(ip) {
				all = append(all, p)
			}
		}
	case "/api/ipam/ip-addresses/":
		for _, a := range n.addresses {
			if strings.HasPrefix(a["address"].(string), q.Get("address")+"/") {
				all = append(all, a)
			}
		}
	default:
		http.NotFound(w, r)
		return
	}
	offset, _ := strconv.Atoi(q.Get("offset"))
	limit, _ := strconv.Atoi(q.Get("limit"))
	end := min(len(all), offset+min(limit, n.page))
	answer := map[string]any{"count": len(all), "next": nil, "previous": nil, "results": all[offset:end]}
	if end < len(all) {
		answer["next"] = "https://evil.example/api/ipam/prefixes/?offset=" + strconv.Itoa(end)
	}
	if n.lie != nil {
		n.lie(offset, answer)
	}
	json.NewEncoder(w).Encode(answer)
}

// object is a prefix or an address of NetBox: object("prefix", "192.0.2.0/24", "tenant", "its", …).
func object(pairs ...string) map[string]any {
	o := map[string]any{"id": 1, "tenant": nil, "role": nil, "vrf": nil, "status": map[string]any{"value": "active", "label": "Active"}, "custom_fields": map[string]any{}}
	for i := 0; i < len(pairs); i += 2 {
		switch key, value := pairs[i], pairs[i+1]; key {
		case "tenant", "role":
			o[key] = map[string]any{"id": 7, "slug": value, "name": strings.ToUpper(value)}
		case "vrf":
			o[key] = map[string]any{"id": 7, "name": value, "rd": "65000:1"}
		case "status":
			o[key] = map[string]any{"value": value, "label": value}
		default:
			o[key] = value
		}
	}
	return o
}

func startNetBox(t *testing.T, n *netbox) *NetBox {
	t.Helper()
	if n.page == 0 {
		n.page = 1000
	}
	client, err := NewNetBox(serve(t, n.ServeHTTP)+"/api/", " s3cr3t\n")
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestNetBox(t *testing.T) {
	client := startNetBox(t, &netbox{
		page: 2,
		prefixes: []map[string]any{
			object("prefix", "141.211.0.0/16", "status", "container", "tenant", "its"),
			object("prefix", "141.211.13.0/24", "tenant", "physics", "role", "servers"),
			object("prefix", "141.211.13.0/25", "tenant", "eecs", "vrf", "lab"),
			object("prefix", "141.211.14.0/24", "tenant", "lsa-physics", "role", "dhcp"),
			object("prefix", "141.211.15.0/24", "tenant", "guests"),
			object("prefix", "141.211.16.0/24"),
			object("prefix", "141.211.17.0/24", "tenant", "eecs"),
			object("prefix", "141.211.18.0/24", "vrf", "lab", "tenant", "physics"),
			object("prefix", "2607:f018:1:13::/64", "tenant", "physics"),
		},
		addresses: []map[string]any{
			object("address", "141.211.13.21/24", "dns_name", "MFP1.physics.example.edu"),
			object("address", "141.211.13.22/24", "dns_name", "other.physics.example.edu"),
			object("address", "141.211.13.23/24", "status", "dhcp"),
			object("address", "141.211.13.24/24", "status", "deprecated"),
			object("address", "141.211.13.25/24", "tenant", "eecs"),
			object("address", "141.211.13.26/24", "vrf", "lab", "tenant", "eecs"),
			object("address", "141.211.17.5/24", "tenant", "physics"),
		},
	})
	source := NewIPAM(client, mapping(t, "tenant,physics,lsa-physics\ntenant,eecs,engin-eecs\n"))
	tests := []struct {
		ip      string
		outcome Outcome
		text    string
	}{
		{"141.211.13.20", Confirmed, "141.211.13.20 is in 141.211.13.0/24 of lsa-physics"},
		{"141.211.13.21", Confirmed, "is in 141.211.13.0/24"},
		{"141.211.13.26", Confirmed, "is in 141.211.13.0/24"},
		{"141.211.17.5", Confirmed, "is in 141.211.17.0/24"},
		{"141.211.18.5", Confirmed, "is in 141.211.18.0/24"},
		{"2607:f018:1:13::21", Confirmed, "is in 2607:f018:1:13::/64"},
		{"141.211.13.22", Contradicted, "is other.physics.example.edu in NetBox, not mfp1"},
		{"141.211.13.23", Contradicted, "handed out by dhcp"},
		{"141.211.13.24", Contradicted, "no longer in use"},
		{"141.211.13.25", Contradicted, "141.211.13.25 is of engin-eecs"},
		{"141.211.14.5", Contradicted, "141.211.14.0/24 is a pool (dhcp)"},
		{"141.211.17.4", Contradicted, "141.211.17.0/24 is of engin-eecs, not of lsa-physics"},
		{"141.211.15.5", Unknown, `of tenant "guests", which is no department here`},
		{"141.211.16.5", Unknown, "does not say whose 141.211.16.0/24 is"},
		{"141.211.19.5", Unknown, "only in the container 141.211.0.0/16"},
		{"192.0.2.1", Unknown, "shows no network"},
	}
	for _, tt := range tests {
		f := observe(t, source, claim(tt.ip, "mfp1.physics.example.edu"), tt.outcome, tt.text)
		if tt.outcome == Confirmed && (len(f.Detail) == 0 || !strings.Contains(f.Detail[0], "prefix ")) {
			t.Errorf("%s: no detail: %q", tt.ip, f.Detail)
		}
	}
}

func TestNetBoxBlocksComeWholeOrNotAtAll(t *testing.T) {
	var prefixes []map[string]any
	for i := range 1234 {
		prefixes = append(prefixes, object("prefix", fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), "tenant", "its", "role", "static"))
	}
	n := &netbox{prefixes: prefixes, page: 200}
	client := startNetBox(t, n)
	blocks, err := client.Blocks(t.Context())
	if err != nil || len(blocks) != 1234 || n.asked.Load() != 7 {
		t.Fatalf("%d blocks in %d pages, %v", len(blocks), n.asked.Load(), err)
	}
	if b := blocks[300]; b.Prefix.String() != "10.1.44.0/24" || b.Tenant != "its" || b.Role != "static" || b.Status != "active" || b.VRF != "" {
		t.Errorf("%+v", b)
	}
	for name, lie := range map[string]func(int, map[string]any){
		"a page is cut":    func(o int, a map[string]any) { a["results"] = a["results"].([]map[string]any)[:1] },
		"an early end":     func(o int, a map[string]any) { a["next"] = nil },
		"an empty page":    func(o int, a map[string]any) { a["results"] = []any{}; a["next"] = "x" },
		"no count":         func(o int, a map[string]any) { delete(a, "count") },
		"far too many":     func(o int, a map[string]any) { a["count"] = 10_000_000 },
		"no end":           func(o int, a map[string]any) { a["next"] = "x" },
		"a prefix is none": func(o int, a map[string]any) { a["results"] = []any{map[string]any{"prefix": "10.0.0.0"}} },
	} {
		t.Run(name, func(t *testing.T) {
			client := startNetBox(t, &netbox{prefixes: prefixes[:400], page: 200, lie: lie})
			blocks, err := client.Blocks(t.Context())
			if err == nil && name != "a page is cut" || blocks != nil && len(blocks) != 400 {
				t.Errorf("%d blocks, %v", len(blocks), err)
			}
		})
	}
}

func TestNetBoxTokens(t *testing.T) {
	var got atomic.Value
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization"))
		fmt.Fprint(w, `{"count": 0, "next": null, "results": []}`)
	})
	for token, want := range map[string]string{"": "", "abc\n": "Token abc", "nbt_x.y": "Bearer nbt_x.y"} {
		n, err := NewNetBox(url, token)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Blocks(t.Context()); err != nil || got.Load() != want {
			t.Errorf("%q: sent %q, %v", token, got.Load(), err)
		}
	}
	for _, token := range []string{"two words", "a\r\nX-Evil: 1", "ü", strings.Repeat("x", maxToken+1)} {
		if _, err := NewNetBox(url, token); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("%q: %v", token, err)
		}
	}
}
