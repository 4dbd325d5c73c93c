package main

const usage = `gatepost-portal [--config FILE]          run until SIGTERM or Ctrl-C; the log goes to stderr
gatepost-portal [--config FILE] --check  say what is wrong with FILE, or what would be in force
FILE, by default /etc/gatepost/portal.cue, is described in schema/portal.cue. A
change of it is in force after a restart; nobody is signed out by that, and the
relays go on without the portal. A first one, for trying it on this machine:

    url:      "http://127.0.0.1:8587"
    state:    "/tmp/gatepost-portal"
    site:     {name: "My University", postmaster: "postmaster@example.edu"}
    register: repository: "/path/to/register.git"
    signIn:   development: people: [{name: "Ada", email: "ada@example.edu"}, {name: "Pat", email: "pat@example.edu", postmaster: true}]

Exit codes: 0 fine, 1 problems found, 2 cannot run.
`
