module example.edu/gatepost

go 1.26.0

require (
	cuelang.org/go v0.17.1 // the language of the register and of the configuration: types and constraints that a site can narrow
	github.com/ProtonMail/go-crypto v1.5.2 // OpenPGP: is a commit signed by a postmaster?
	github.com/axiomhq/hyperloglog v0.3.0 // how many different recipients a registration has, in 4 KiB
	github.com/cockroachdb/pebble/v2 v2.1.7 // the spool's engine: one sync serves all writers that wait
	github.com/coreos/go-oidc/v3 v3.21.0 // OpenID Connect: discovery, and whether an ID token is the provider's and for us
	github.com/emersion/go-msgauth v0.7.0 // DKIM signatures of what leaves; and for tests, what verifies them
	github.com/emersion/go-smtp v0.25.1 // the command loop of the SMTP server
	github.com/fsnotify/fsnotify v1.10.1 // tells that a certificate or the configuration has changed
	github.com/gaissmai/bart v0.30.0 // routing tables for addresses and prefixes, immutable and without a lock
	github.com/go-git/go-git/v5 v5.19.3 // git without a git binary
	github.com/go-jose/go-jose/v4 v4.1.9 // for tests: an OpenID provider's signed tokens
	github.com/google/go-github/v60 v60.0.0 // pull requests, reviews and checks of GitHub, in its own words
	github.com/gorilla/securecookie v1.1.2 // sealed cookies: who is signed in at the portal, and tokens of forms
	github.com/hiddeco/sshsig v0.2.0 // SSH signatures of commits, as ssh-keygen makes them
	github.com/miekg/dns v1.1.73 // questions to a DNS server, past /etc/hosts and search lists, for evidence and for DANE; and a real server for tests
	github.com/openrdap/rdap v0.10.2 // reads what internet registries say of an address block, jCards included
	github.com/prometheus/client_golang v1.25.0 // metrics in the format that sites collect
	github.com/rogpeppe/go-internal v1.16.0 // testscript: the command line is tested as it is typed
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // for tests: what check prints as SARIF is held to the schema of SARIF
	github.com/spf13/cobra v1.10.2 // commands, help and shell completion
	github.com/spf13/pflag v1.0.10 // the flags of cobra, for enumerations of our own
	go.yaml.in/yaml/v3 v3.0.5 // reads workflows, for the test that judges them
	golang.org/x/crypto v0.57.0 // ssh: public keys of allowed signers
	golang.org/x/net v0.59.0 // idna: the DNS form of international domains; netutil: a bound on connections
	golang.org/x/oauth2 v0.38.0 // the code flow with PKCE, below OpenID Connect
	golang.org/x/sync v0.23.0 // goroutine groups that end together
	golang.org/x/sys v0.48.0 // system calls that the standard library lacks
	golang.org/x/term v0.46.0 // whether someone sits at the terminal
	golang.org/x/time v0.16.0 // token buckets that fill up with time
)

require (
	dario.cat/mergo v1.0.0 // indirect
	github.com/BurntSushi/toml v1.4.1-0.20240526193622-a339e1f7089c // indirect
	github.com/DataDog/zstd v1.5.7 // indirect
	github.com/Microsoft/go-winio v0.6.2 // indirect
	github.com/RaduBerinde/axisds v0.1.0 // indirect
	github.com/RaduBerinde/btreemap v0.0.0-20250419174037-3d62b7205d54 // indirect
	github.com/alecthomas/kingpin/v2 v2.4.0 // indirect
	github.com/alecthomas/units v0.0.0-20240927000941-0f3dac36c52b // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cloudflare/circl v1.6.3 // indirect
	github.com/cockroachdb/apd/v3 v3.2.3 // indirect
	github.com/cockroachdb/crlib v0.0.0-20241112164430-1264a2edc35b // indirect
	github.com/cockroachdb/errors v1.11.3 // indirect
	github.com/cockroachdb/logtags v0.0.0-20230118201751-21c54148d20b // indirect
	github.com/cockroachdb/redact v1.1.5 // indirect
	github.com/cockroachdb/swiss v0.0.0-20260820225851-333444432258 // indirect
	github.com/cockroachdb/tokenbucket v0.0.0-20230807174530-cc333fc44b06 // indirect
	github.com/cyphar/filepath-securejoin v0.6.1 // indirect
	github.com/dgryski/go-metro v0.0.0-20250106013310-edb8663e5e33 // indirect
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	github.com/emicklei/proto v1.14.3 // indirect
	github.com/emirpasic/gods v1.18.1 // indirect
	github.com/getsentry/sentry-go v0.27.0 // indirect
	github.com/go-git/gcfg v1.5.1-0.20230307220236-3a3c6141e376 // indirect
	github.com/go-git/go-billy/v5 v5.9.2 // indirect
	github.com/gogo/protobuf v1.3.2 // indirect
	github.com/golang/groupcache v0.0.0-20241129210726-2c02b8208cf8 // indirect
	github.com/golang/snappy v0.0.5-0.20231225225746-43d5d4cd4e0e // indirect
	github.com/google/go-querystring v1.1.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jbenet/go-context v0.0.0-20150711004518-d14ea06fba99 // indirect
	github.com/kamstrup/intmap v0.5.2 // indirect
	github.com/kevinburke/ssh_config v1.2.0 // indirect
	github.com/klauspost/compress v1.20.1 // indirect
	github.com/kr/pretty v0.3.1 // indirect
	github.com/kr/text v0.2.0 // indirect
	github.com/kylelemons/godebug v1.1.0 // indirect
	github.com/minio/minlz v1.0.1-0.20250507153514-87eb42fe8882 // indirect
	github.com/mitchellh/go-homedir v1.1.0 // indirect
	github.com/mitchellh/go-wordwrap v1.0.1 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/pelletier/go-toml/v2 v2.3.1 // indirect
	github.com/pjbgf/sha1cd v0.7.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/protocolbuffers/txtpbfmt v0.0.0-20260420112717-c39628bde8b5 // indirect
	github.com/sergi/go-diff v1.3.2-0.20230802210424-5b0b94c5c0d3 // indirect
	github.com/skeema/knownhosts v1.3.1 // indirect
	github.com/xanzy/ssh-agent v0.3.3 // indirect
	github.com/xhit/go-str2duration/v2 v2.1.0 // indirect
	golang.org/x/exp v0.0.0-20260410095643-746e56fc9e2f // indirect
	golang.org/x/exp/typeparams v0.0.0-20231108232855-2478ac86f678 // indirect
	golang.org/x/mod v0.41.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	gopkg.in/warnings.v0 v0.1.2 // indirect
	honnef.co/go/tools v0.8.2 // indirect
)

tool honnef.co/go/tools/cmd/staticcheck
