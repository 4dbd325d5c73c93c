package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/register/registration"
)

var update = flag.Bool("update", false, "write the golden files anew")

const minimal = `
hostname: "relay.mail.umich.edu"
postmaster: "postmaster@umich.edu"
tls: {certificate: "/etc/gatepost/fullchain.pem", key: "/etc/gatepost/privkey.pem"}
register: repository: "https://github.com/umich/mail-relay-register"
`

func TestDefaultsComeFromTheSchema(t *testing.T) {
	got, err := CheckRelay("relay.cue", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := &Relay{
		Hostname:   "relay.mail.umich.edu",
		Postmaster: mail.Address{Local: "postmaster", Domain: "umich.edu"},
		Listen: Listen{
			Relay: []string{":25"}, Submission: []string{":587"},
			HTTP: "127.0.0.1:9587", Socket: "/run/gatepost/gatepostd.sock",
		},
		TLS:      TLS{Certificate: "/etc/gatepost/fullchain.pem", Key: "/etc/gatepost/privkey.pem"},
		Register: Register{Repository: "https://github.com/umich/mail-relay-register", Branch: "main", Poll: 30 * time.Second, MaxRemovals: 0.3},
		State:    "/var/lib/gatepost",
		Deliver: Deliver{Family: "ipv6", EightBit: EightBitSend, Chunking: true, TLS: TLSOpportunistic, MTASTS: true, Timeouts: Timeouts{
			Connect: 30 * time.Second, Command: 5 * time.Minute, Data: 3 * time.Minute, Dot: 10 * time.Minute}},
		Limits: Limits{MessageBytes: 35 << 20, Recipients: 100, Sessions: 1000, SessionsPerAddress: 20,
			SessionsPerRegistration: 100, MemoryBytes: 384 << 20, MinutePart: 0.5, MachinePart: 0.8, RecipientsPerMessage: 5, BytesPerMessage: 4 << 20,
			BulkMail:     BulkRefuse,
			Unregistered: Unregistered{SessionsPerHour: 60, RecipientsPerHour: 120},
			IdleCommand:  5 * time.Minute, IdleData: 3 * time.Minute, DataRate: 100},
		Brake: Brake{Furthest: BrakeBlock, Volume: BrakeFactor{5, 500}, Recipients: BrakeFactor{10, 500}, SameBody: 1000,
			Bounces: BrakePart{0.5, 100}, Spam: BrakePart{0.1, 20}, HoldAt: 2, BlockAt: 5,
			StepAfter: 10 * time.Minute, SlowEvery: 30 * time.Second, SlowFor: time.Hour, BlockFor: 24 * time.Hour},
		Queue: Queue{
			Retry: []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute,
				time.Hour, 2 * time.Hour, 4 * time.Hour},
			Expiry: 120 * time.Hour, DelayWarning: 4 * time.Hour, Workers: 64, PerDestination: 16},
		Drain: 30 * time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEveryFieldCanBeSet(t *testing.T) {
	got, err := CheckRelay("relay.cue", []byte(`package gatepost // a comment

hostname: "Relay.Umich.edu."
postmaster: "mail-ops@umich.edu"
portal: "https://relay.umich.edu/"
listen: {relay: ["192.0.2.1:25", "[2001:db8::1]:25"], submission: [], "http": ""}
listen: {socket: "/tmp/x/../g.sock", proxy: ["192.0.2.7", "192.0.2.8/31", "2001:db8:1::/48"]}
register: {repository: "/srv/register.git", branch: "prod/eu", poll: "1m30s", tokenFile: "/etc/t", maxRemovals: 1}
register: webhook: {listen: "127.0.0.1:9588", secretFile: "/etc/s"}
listen: portal: {address: ":9589", tokenFile: "/etc//p", operatorTokenFile: "/etc/o"}
tls: {certificate: "/c", key: "/k"}
state: "/data"
drain: "2m"
deliver: {smarthosts: ["mx1.umich.edu:25", "192.0.2.9:2525"], tls: "off", mtaSTS: false, tlsReports: contact: "tls@umich.edu", resolver: "[::1]", tlsPolicy: {"Example.org.": {tls: "verify", mx: ["*.Mail.example.net."]}, ".b_.example": tls: "encrypt", "[2001:DB8::1]": tls: "off"}, source: ["192.0.2.1", "2001:db8::1"], family: "ipv4only", eightBit: "bounce", chunking: false, dkim: [{domain: "Umich.edu.", selector: "2026a", keyFile: "/etc//k.pem"}, {domain: "umich.edu", selector: "2026b", keyFile: "/l", subdomains: true}], timeouts: {connect: "5s", command: "1m", data: "1m", dot: "1h"}}
proof: secretFile: "/etc/gatepost/../proof"
blocks: file: "/etc/gatepost//blocks"
confirm: true
limits: {messageBytes: 1Mi, recipients: 5, sessions: 10, sessionsPerAddress: 2, sessionsPerRegistration: 3, memoryBytes: 16Mi, minutePart: 1, machinePart: 0.25, recipientsPerMessage: 7,
	bytesPerMessage: 2Mi, bulkMail: "accept", unregistered: {sessionsPerHour: 8, recipientsPerHour: 9}, idleCommand: "1m", idleData: "30s", dataRate: 1000}
brake: {furthest: "off", volume: {factor: 2, least: 3}, recipients: {factor: 4, least: 5}, sameBody: 6, bounces: {part: 0.25, least: 7}, spam: {part: 1, least: 8}
	holdAt: 1.5, blockAt: 1.5, stepAfter: "1s", slowEvery: "2s", slowFor: "1m", blockFor: "30d"}
queue: {retry: ["1m"], expiry: "1d12h", delayWarning: "0s"}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Relay{
		Hostname:   "relay.umich.edu",
		Postmaster: mail.Address{Local: "mail-ops", Domain: "umich.edu"},
		Portal:     "https://relay.umich.edu",
		Listen: Listen{Relay: []string{"192.0.2.1:25", "[2001:db8::1]:25"}, Submission: []string{}, Socket: "/tmp/g.sock",
			Proxy:  []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("192.0.2.8/31"), netip.MustParsePrefix("2001:db8:1::/48")},
			Portal: &ListenPortal{":9589", "/etc/p", "/etc/o"}},
		TLS: TLS{"/c", "/k"},
		Register: Register{Repository: "/srv/register.git", Branch: "prod/eu", Poll: 90 * time.Second, TokenFile: "/etc/t", MaxRemovals: 1,
			Webhook: &Webhook{Listen: "127.0.0.1:9588", SecretFile: "/etc/s"}},
		State: "/data",
		Deliver: Deliver{Smarthosts: []Smarthost{{"mx1.umich.edu:25", 0}, {"192.0.2.9:2525", 1}}, TLS: TLSOff, TLSPolicy: map[string]TLSRule{
			"example.org": {TLSVerify, []string{"*.mail.example.net"}}, ".b_.example": {TLSEncrypt, []string{}}, "2001:db8::1": {TLSOff, []string{}}}, TLSReports: TLSReports{mail.Address{Local: "tls", Domain: "umich.edu"}}, Resolver: netip.MustParseAddrPort("[::1]:53"), Source: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Family: "ipv4only", EightBit: EightBitBounce, DKIM: []DKIM{{"umich.edu", "2026a", "/etc/k.pem", false}, {"umich.edu", "2026b", "/l", true}}, Timeouts: Timeouts{
			Connect: 5 * time.Second, Command: time.Minute, Data: time.Minute, Dot: time.Hour}},
		Proof:   Proof{SecretFile: "/etc/proof"},
		Blocks:  Blocks{File: "/etc/gatepost/blocks"},
		Confirm: true,
		Limits: Limits{MessageBytes: 1 << 20, Recipients: 5, Sessions: 10, SessionsPerAddress: 2,
			SessionsPerRegistration: 3, MemoryBytes: 16 << 20, MinutePart: 1, MachinePart: 0.25, RecipientsPerMessage: 7, BytesPerMessage: 2 << 20,
			BulkMail:     BulkAccept,
			Unregistered: Unregistered{SessionsPerHour: 8, RecipientsPerHour: 9},
			IdleCommand:  time.Minute, IdleData: 30 * time.Second, DataRate: 1000},
		Brake: Brake{Furthest: BrakeOff, Volume: BrakeFactor{2, 3}, Recipients: BrakeFactor{4, 5}, SameBody: 6,
			Bounces: BrakePart{0.25, 7}, Spam: BrakePart{1, 8}, HoldAt: 1.5, BlockAt: 1.5,
			StepAfter: time.Second, SlowEvery: 2 * time.Second, SlowFor: time.Minute, BlockFor: 720 * time.Hour},
		Queue: Queue{Retry: []time.Duration{time.Minute}, Expiry: 36 * time.Hour, Workers: 64, PerDestination: 16},
		Drain: 2 * time.Minute,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSmarthostsWithPreferences(t *testing.T) {
	got, err := CheckRelay("relay.cue", []byte(minimal+`deliver: smarthosts: [{host: "a:25", preference: 10}, {host: "[2001:db8::1]:2525", preference: 0}]`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Smarthost{{"a:25", 10}, {"[2001:db8::1]:2525", 0}}; !slices.Equal(got.Deliver.Smarthosts, want) {
		t.Errorf("%v", got.Deliver.Smarthosts)
	}
}

// TestAllProblemsInOneRun holds every finding, its place and its hint.
func TestAllProblemsInOneRun(t *testing.T) {
	_, err := LoadRelay(filepath.Join("testdata", "invalid.cue"))
	listed, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	golden := filepath.Join("testdata", "invalid.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err2 := os.ReadFile(golden)
	if err2 != nil {
		t.Fatal(err2)
	}
	if got := err.Error() + "\n"; got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	for _, p := range listed.Problems {
		if p.Hint == "" || p.Line == 0 || p.Severity != registration.Error {
			t.Errorf("incomplete: %+v", p)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"empty":                               {"", "1:1: hostname is missing"},
		"syntax":                              {minimal + "listen: {", "syntax"},
		"blocks without its file":             {minimal + "blocks: {}\n", "file is missing"},
		"blocks, a relative path":             {minimal + `blocks: file: "blocks"`, `blocks.file: "blocks" is no absolute path`},
		"proof without its file":              {minimal + "proof: {}\n", "secretFile is missing"},
		"proof, a relative path":              {minimal + `proof: secretFile: "secret"`, `proof.secretFile: "secret" is no absolute path`},
		"import":                              {"import \"strings\"\n" + minimal, "1:1: an import stands here"},
		"reference":                           {minimal + "state: hostname\n", "6:8: hostname stands here without quotes, as a reference"},
		"interpolation":                       {minimal + `state: "/x/\(hostname)"`, "6:8: a text with \\( ) in it stands here"},
		"attribute":                           {minimal + `state: "/x" @tag(x)`, "6:13: an attribute (@tag(x)) stands here"},
		"comprehension":                       {minimal + "if true {confirm: true}", "6:1: a comprehension (for, if) stands here"},
		"expression":                          {minimal + "limits: messageBytes: 2*35Mi", "6:23: an expression (*) stands here"},
		"hidden field":                        {minimal + `_x: 1`, "6:1: _x is a hidden field"},
		"too deep":                            {minimal + "a: b: c: d: e: f: g: h: i: j: 1", "nested more than 8 deep"},
		"key without certificate":             {strings.Replace(minimal, `certificate: "/etc/gatepost/fullchain.pem", `, "", 1), "4:6: certificate is missing in tls"},
		"null":                                {minimal + "portal: null", "6:9: portal must be text in double quotes, and null stands here"},
		"negative":                            {minimal + "limits: recipients: -1", "6:21: limits.recipients must be at least 1, and the number -1 stands here"},
		"struct for a value":                  {minimal + "limits: recipients: {a: 1}", "limits.recipients must be a whole number, and a group of fields stands here"},
		"value for a struct":                  {minimal + "limits: 7", "6:9: limits must be a group of fields in { }, and the number 7 stands here"},
		"empty host name":                     {strings.Replace(minimal, "relay.mail.umich.edu", "", 1), "hostname is empty"},
		"host name is an address":             {strings.Replace(minimal, "relay.mail.umich.edu", "192.0.2.1", 1), "no full host name"},
		"display name":                        {strings.Replace(minimal, "postmaster@", "Joe <postmaster@", 1), "no mailbox"},
		"address taken":                       {minimal + `listen: {relay: [":25"], submission: [":25"]}`, "listen.submission[0]: :25 is taken by listen.relay[0]"},
		"listens nowhere":                     {minimal + `listen: {relay: [], submission: []}`, "the relay listens nowhere"},
		"no relay port":                       {minimal + `listen: relay: ["192.0.2.1"]`, "no address with a port"},
		"no balancer":                         {minimal + `listen: proxy: ["lb1.umich.edu"]`, `listen.proxy[0]: "lb1.umich.edu" is neither an address nor a prefix`},
		"balancer with a zone":                {minimal + `listen: proxy: ["fe80::1%eth0"]`, "is neither an address nor a prefix"},
		"everybody a balancer":                {minimal + `listen: proxy: ["0.0.0.0/0"]`, "0.0.0.0/0 is wider than /16"},
		"half of the campus a balancer":       {minimal + `listen: proxy: ["2001:db8::/32"]`, "2001:db8::/32 is wider than /48"},
		"balancer with bits":                  {minimal + `listen: proxy: ["192.0.2.7/24"]`, "listen.proxy[0]: 192.0.2.7/24 has bits behind its length"},
		"portal without a certificate":        {strings.Replace(minimal, "tls:", "// tls:", 1) + `listen: portal: {address: ":9589", tokenFile: "/t"}`, "listen.portal needs a certificate"},
		"portal without a token":              {minimal + `listen: portal: address: ":9589"`, "tokenFile is missing in listen.portal"},
		"portal with one token for all":       {minimal + `listen: portal: {address: ":9589", tokenFile: "/t", operatorTokenFile: "/x/../t"}`, "both tokens of listen.portal are in the same file"},
		"portal, a relative path":             {minimal + `listen: portal: {address: ":9589", tokenFile: "/t", operatorTokenFile: "o"}`, `listen.portal.operatorTokenFile: "o" is no absolute path`},
		"portal at no address":                {minimal + `listen: portal: {address: "9589", tokenFile: "/t"}`, "no address with a port"},
		"portal and submission":               {minimal + `listen: portal: {address: ":587", tokenFile: "/t"}`, "listen.portal.address: :587 is taken by listen.submission[0]"},
		"portal and webhook":                  {minimal + `listen: portal: {address: ":1", tokenFile: "/t"}, register: webhook: {listen: ":1", secretFile: "/k"}`, "register.webhook.listen: :1 is taken by listen"},
		"many balancers":                      {minimal + `listen: proxy: [` + strings.Repeat(`"192.0.2.7",`, 65) + `]`, "listen.proxy has 65 entries, and may have 64"},
		"smarthosts of both kinds":            {minimal + `deliver: smarthosts: ["a:25", {host: "b:25", preference: 1}]`, "deliver.smarthosts has entries with a preference and others without"},
		"smarthost without a host":            {minimal + `deliver: smarthosts: [{preference: 1}]`, "deliver.smarthosts[0] has no host"},
		"smarthost without a preference":      {minimal + `deliver: smarthosts: [{host: "b:25"}]`, "deliver.smarthosts[0] has no preference"},
		"smarthost with half a preference":    {minimal + `deliver: smarthosts: [{host: "b:25", preference: 1.5}]`, "deliver.smarthosts[0] has no preference"},
		"smarthost with a port only":          {minimal + `deliver: smarthosts: [{host: "b", preference: 1}]`, `deliver.smarthosts[0].host: "b" is not of the form host:port`},
		"smarthost with a mistyped field":     {minimal + `deliver: smarthosts: [{host: "b:25", preference: 1, pref: 1}]`, `there is no field "pref" in deliver.smarthosts[0]`},
		"smarthost that is a number":          {minimal + `deliver: smarthosts: [25]`, "deliver.smarthosts[0] is neither a text nor {host, preference}"},
		"two sources of one family":           {minimal + `deliver: source: ["192.0.2.1", "192.0.2.2"]`, "deliver.source[1]: 192.0.2.2 is the second of its family"},
		"a source that is none":               {minimal + `deliver: source: ["0.0.0.0"]`, `deliver.source[0]: "0.0.0.0" is no address to connect from`},
		"a source with a zone":                {minimal + `deliver: source: ["fe80::1%eth0"]`, "is no address to connect from"},
		"a family that there is not":          {minimal + `deliver: family: "ipv5"`, `deliver.family is "ipv5", and must be`},
		"dkim without a key":                  {minimal + `deliver: dkim: [{domain: "umich.edu", selector: "a"}]`, "deliver.dkim.keyFile is missing"},
		"dkim, a relative path":               {minimal + `deliver: dkim: [{domain: "umich.edu", selector: "a", keyFile: "k"}]`, `deliver.dkim[0].keyFile: "k" is no absolute path`},
		"dkim for no domain":                  {minimal + `deliver: dkim: [{domain: "*", selector: "a", keyFile: "/k"}]`, `deliver.dkim[0].domain: "*" is no full domain name`},
		"dkim with an odd selector":           {minimal + `deliver: dkim: [{domain: "umich.edu", selector: "a b", keyFile: "/k"}]`, `deliver.dkim[0].selector: "a b" is no name in the DNS`},
		"dkim with a selector twice":          {minimal + `deliver: dkim: [{domain: "umich.edu", selector: "a", keyFile: "/k"}, {domain: "UMICH.edu", selector: "a", keyFile: "/l"}]`, "deliver.dkim[1]: umich.edu has a key of the selector a before"},
		"many dkim keys":                      {minimal + `deliver: dkim: [` + strings.Repeat(`{domain: "umich.edu", selector: "a", keyFile: "/k"},`, 33) + `]`, "deliver.dkim has 33 keys, and may have 32"},
		"many smarthosts":                     {minimal + `deliver: smarthosts: [` + strings.Repeat(`"a:25",`, 33) + `]`, "deliver.smarthosts has 33 entries, and may have 32"},
		"zone":                                {minimal + `listen: relay: ["[fe80::1%eth0]:25"]`, "no IP address"},
		"long socket":                         {minimal + `listen: socket: "/` + strings.Repeat("x", 110) + `"`, "longer than the 103 bytes"},
		"credentials in the URL":              {strings.Replace(minimal, "https://", "https://bot:s3cret@", 1), "register.repository holds credentials"},
		"token in clear text":                 {strings.Replace(minimal, "https://", "http://", 1) + `register: tokenFile: "/t"`, "in clear text"},
		"ssh":                                 {strings.Replace(minimal, "https://", "ssh://", 1), "neither an http or https URL"},
		"app and token":                       {minimal + `register: {tokenFile: "/t", app: {id: 1, installation: 2, keyFile: "/k"}}`, "both tokenFile and app"},
		"app without a key":                   {minimal + `register: app: {id: 1, installation: 2}`, "keyFile is missing in register.app"},
		"app without a forge":                 {strings.Replace(minimal, "https://github.com", "", 1) + `register: app: {id: 1, installation: 2, keyFile: "/k"}`, "register.repository is not there"},
		"app without an owner":                {strings.Replace(minimal, "umich/", "", 1) + `register: app: {id: 1, installation: 2, keyFile: "/k"}`, "register.repository is not there"},
		"app in clear text":                   {strings.Replace(minimal, "https://", "http://", 1) + `register: app: {id: 1, installation: 2, keyFile: "/k"}`, "in clear text"},
		"webhook without a secret":            {minimal + `register: webhook: listen: ":1"`, "secretFile is missing in register.webhook"},
		"webhook and status pages":            {minimal + `register: webhook: {listen: "127.0.0.1:9587", secretFile: "/k"}`, "register.webhook.listen: 127.0.0.1:9587 is taken by listen"},
		"verify":                              {minimal + `register: verify: {}`, "register.verify says nobody who could vouch"},
		"verify no keys":                      {minimal + `register: verify: keys: []`, "register.verify says nobody who could vouch"},
		"verify, a relative path":             {minimal + `register: verify: keys: ["pm.asc"]`, `register.verify.keys[0]: "pm.asc" is no absolute path`},
		"verify, a file twice":                {minimal + `register: verify: keys: ["/a", "/b", "/a"]`, "register.verify.keys[2] stands in the list before"},
		"verify, many files":                  {minimal + `register: verify: keys: [` + manyFiles(33) + `]`, "register.verify.keys names 33 files"},
		"verify, no token":                    {minimal + `register: verify: github: postmasters: "pm"`, "there is no token to ask with"},
		"verify, no forge":                    {strings.Replace(minimal, "https://github.com", "", 1) + `register: {tokenFile: "/t", verify: github: postmasters: "pm"}`, "register.verify.github asks GitHub, and register.repository is not there"},
		"verify, an organisation":             {minimal + `register: {tokenFile: "/t", verify: github: postmasters: "umich/pm"}`, "is no team's slug"},
		"verify, no team":                     {minimal + `register: {tokenFile: "/t", verify: github: postmasters: ""}`, "register.verify.github.postmasters is empty"},
		"verify github":                       {minimal + `register: verify: github: {}`, "postmasters is missing in register.verify.github"},
		"a policy for nothing":                {minimal + `deliver: tlsPolicy: "": tls: "off"`, `deliver.tlsPolicy."" is no domain`},
		"a policy for an address of mail":     {minimal + `deliver: tlsPolicy: "a@example.org": tls: "off"`, `deliver.tlsPolicy."a@example.org" is no domain`},
		"a policy without a word":             {minimal + `deliver: tlsPolicy: "example.org": {}`, "tls is missing"},
		"a policy of another kind":            {minimal + `deliver: tlsPolicy: "example.org": tls: "maybe"`, "maybe"},
		"a policy twice":                      {minimal + `deliver: tlsPolicy: {"example.org": tls: "off", "Example.org": tls: "encrypt"}`, "is written twice"},
		"hosts without a certificate":         {minimal + `deliver: tlsPolicy: "example.org": {tls: "encrypt", mx: ["mx.example.org"]}`, `.mx is of no use but with tls: "verify"`},
		"hosts that are none":                 {minimal + `deliver: tlsPolicy: "example.org": {tls: "verify", mx: ["*"]}`, `.mx[0]: "*" is no host name`},
		"a resolver elsewhere":                {minimal + `deliver: resolver: "192.0.2.53:53"`, "192.0.2.53:53 is not on this machine"},
		"a resolver by name":                  {minimal + `deliver: resolver: "localhost:53"`, `"localhost:53" is no address with a port`},
		"DANE without a resolver":             {minimal + `deliver: tls: "dane"`, `deliver.tls: "dane" needs deliver.resolver`},
		"DANE for one without a resolver":     {minimal + `deliver: tlsPolicy: "example.org": tls: "dane"`, `deliver.tlsPolicy."example.org": "dane" needs deliver.resolver`},
		"reports from nobody":                 {minimal + `deliver: tlsReports: {}`, "contact is missing in deliver.tlsReports"},
		"reports from no mailbox":             {minimal + `deliver: tlsReports: contact: "postmaster"`, `"postmaster" is no mailbox with a domain`},
		"no waits":                            {minimal + `queue: retry: []`, "queue.retry has 0 waits"},
		"negative wait":                       {minimal + `queue: retry: ["-5m"]`, `"-5m" is no length of time`},
		"more to one than to all":             {minimal + `queue: perDestination: 65`, "queue.perDestination is larger than queue.workers"},
		"few workers":                         {minimal + `queue: workers: 8`, "queue.perDestination is larger than queue.workers"},
		"no workers":                          {minimal + `queue: workers: 0`, "queue.workers"},
		"warning after expiry":                {minimal + `queue: {expiry: "1h"}`, "not shorter than queue.expiry"},
		"fewer for a file than for one of it": {minimal + `limits: sessionsPerRegistration: 19`, "smaller than limits.sessionsPerAddress"},
		"a block before the hold":             {minimal + `brake: {holdAt: 3, blockAt: 2.5}`, "brake.blockAt is smaller than brake.holdAt"},
		"a brake of another kind":             {minimal + `brake: furthest: "warn"`, "brake.furthest"},
		"no part of an hour":                  {minimal + `limits: minutePart: 0`, "limits.minutePart must be at least 0.01"},
		"more than an hour":                   {minimal + `limits: machinePart: 1.5`, "limits.machinePart must be at most 1"},
		"more per address than all":           {minimal + `limits: sessions: 10`, "larger than limits.sessions"},
		"portal with a line end":              {minimal + `portal: "https://x.edu/\r\nX: y"`, "6:9: the text holds an invisible character"},
		"conflict":                            {minimal + "confirm: true\nconfirm: false", `7:1: "confirm" is written twice, first on line 6`},
		"conflict inside a group":             {minimal + "register: {poll: \"1s\", repository: \"/x\"}", `6:24: "repository" is written twice, first on line 5`},
		"a part of an octet":                  {minimal + "limits: messageBytes: 65.5Mi\nlimits: dataRate: 0.0001Ki", "0.0001Ki is no plain number"},
		"exponent":                            {minimal + "limits: messageBytes: 1e99", "1e99 is no plain number"},
		"too large":                           {minimal + strings.Repeat("// x\n", MaxFile/4), "larger than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := CheckRelay("relay.cue", []byte(tc.text))
			if err == nil {
				t.Fatalf("accepted: %+v", r)
			}
			if name == "syntax" {
				if p := err.(*Error).Problems; len(p) != 1 || p[0].Rule != registration.RuleSyntax {
					t.Errorf("got %v", p)
				}
				return
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

// manyFiles is a list of n paths.
func manyFiles(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("\"/key%d\"", i))
	}
	return strings.Join(list, ", ")
}

func TestVerify(t *testing.T) {
	for text, want := range map[string]Verify{
		`verify: keys: ["/a", "/b"]`:                                              {Keys: []string{"/a", "/b"}},
		`{tokenFile: "/t", verify: github: postmasters: "pm"}`:                    {Keys: []string{}, Postmasters: "pm"},
		`{tokenFile: "/t", verify: {keys: ["/a"], github: {postmasters: "p-m"}}}`: {Keys: []string{"/a"}, Postmasters: "p-m"},
	} {
		r, err := CheckRelay("relay.cue", []byte(minimal+"register: "+text))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Register.Verify; got == nil || !slices.Equal(got.Keys, want.Keys) || got.Postmasters != want.Postmasters {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestWarnsOfSubmissionWithoutCertificate(t *testing.T) {
	text := "hostname: \"r.umich.edu\", postmaster: \"p@umich.edu\"\nregister: repository: \"/r\"\n"
	r, err := CheckRelay("relay.cue", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 1 || r.Warnings[0].Severity != registration.Warning {
		t.Fatalf("got %v", r.Warnings)
	}
	r, err = CheckRelay("relay.cue", []byte(text+"listen: submission: []\n"))
	if err != nil || len(r.Warnings) != 0 {
		t.Fatalf("got %v, %v", r, err)
	}
}

func TestUnreadableFile(t *testing.T) {
	_, err := LoadRelay(filepath.Join(t.TempDir(), "absent.cue"))
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "config: reading ") {
		t.Errorf("got %v", err)
	}
}

// TestTableOfFieldsIsComplete walks the struct, so that a new field needs a row
// in the table, and with it an answer to 'does it change live?'.
func TestTableOfFieldsIsComplete(t *testing.T) {
	var want []string
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for f := range t.Fields() {
			name := strings.ToLower(path + f.Name)
			if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[mail.Address]() && f.Type != reflect.TypeFor[netip.AddrPort]() {
				walk(f.Type, name+".")
			} else if name != "warnings" {
				want = append(want, name)
			}
		}
	}
	walk(reflect.TypeFor[Relay](), "")
	var got []string
	for _, f := range fields() {
		got = append(got, strings.ToLower(f.path))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the table has\n%v\nthe struct\n%v", got, want)
	}
}

func TestLive(t *testing.T) {
	load := func(extra string) *Relay {
		r, err := CheckRelay("relay.cue", []byte(minimal+extra))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	base := load("")
	for name, tc := range map[string]struct {
		new              *Relay
		applied, restart []string
	}{
		"nothing":      {new: load("")},
		"token":        {new: load(`register: tokenFile: "/t"`), applied: []string{"register.tokenFile"}},
		"app":          {new: load(`register: app: {id: 1, installation: 2, keyFile: "/k"}`), applied: []string{"register.app"}},
		"both":         {new: load(`register: {tokenFile: "/t", poll: "10s"}, queue: retry: ["1m"]`), applied: []string{"register.tokenFile"}, restart: []string{"register.poll", "queue.retry"}},
		"tls given up": {new: &Relay{}, restart: nil},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "tls given up" {
				r := *base
				r.TLS = TLS{}
				tc.new, tc.restart = &r, []string{"tls.certificate", "tls.key"}
			}
			applied, restart := Live(base, tc.new)
			if !slices.Equal(applied, tc.applied) || !slices.Equal(restart, tc.restart) {
				t.Errorf("got %v, %v; want %v, %v", applied, restart, tc.applied, tc.restart)
			}
		})
	}
}

func TestLogValueReadsLikeTheFile(t *testing.T) {
	r, err := CheckRelay("relay.cue", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("configuration", "config", r)
	for _, want := range []string{`"register.poll":"30s"`, `"queue.expiry":"5d"`, `"postmaster":"postmaster@umich.edu"`, `"limits.messageBytes":36700160`, `"register.verify":""`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s lacks %s", out.String(), want)
		}
	}
}

// The structures read as in the file too, in the log and in what --check prints.
func TestStructuresReadLikeTheFile(t *testing.T) {
	for want, v := range map[string]any{
		`{id: 7, installation: 77, keyFile: "/etc/gatepost/app.pem"}`:                                   App{7, 77, "/etc/gatepost/app.pem"},
		`{listen: "127.0.0.1:9588", secretFile: "/etc/gatepost/hook"}`:                                  Webhook{"127.0.0.1:9588", "/etc/gatepost/hook"},
		`{keys: ["/a", "/b"], github: {postmasters: "postmasters"}}`:                                    Verify{[]string{"/a", "/b"}, "postmasters"},
		`{".a.example": {tls: "dane"}, "b.example": {tls: "verify", mx: ["*.c.example", "d.example"]}}`: TLSRules{"b.example": {TLSVerify, []string{"*.c.example", "d.example"}}, ".a.example": {TLS: TLSDANE}},
		`{address: ":9589", tokenFile: "/t"}`:                                                           ListenPortal{":9589", "/t", ""},
		`{address: ":9589", tokenFile: "/t", operatorTokenFile: "/o"}`:                                  ListenPortal{":9589", "/t", "/o"},
		`{}`:                                     TLSRules(nil),
		`{github: {postmasters: "postmasters"}}`: Verify{nil, "postmasters"},
	} {
		if got := fmt.Sprintf("%+v", v); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "5d": 120 * time.Hour, "1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute, "0s": 0, "1.5h": 90 * time.Minute,
	} {
		if got, ok := ParseDuration(text); !ok || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "5", "d", "-5m", "1d-12h", "+5m", "5 m", "1w", "99999999d", "1d1d", "m"} {
		if got, ok := ParseDuration(text); ok {
			t.Errorf("ParseDuration(%q) = %v, want a refusal", text, got)
		}
	}
	for want, d := range map[string]time.Duration{"5d": 120 * time.Hour, "4h": 4 * time.Hour, "1h30m": 90 * time.Minute, "30s": 30 * time.Second, "1m30s": 90 * time.Second, "0s": 0, "10m": 10 * time.Minute} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

func FuzzCheckRelay(f *testing.F) {
	f.Add([]byte(minimal))
	if data, err := os.ReadFile(filepath.Join("testdata", "invalid.cue")); err == nil {
		f.Add(data)
	}
	f.Add([]byte("a: [...]\nb: <5\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := CheckRelay("relay.cue", data)
		if (r == nil) == (err == nil) {
			t.Fatalf("got %v and %v", r, err)
		}
	})
}
