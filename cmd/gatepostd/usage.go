package main

const usage = `gatepostd [--config FILE]          run until SIGTERM or Ctrl-C; the log goes to stderr
gatepostd [--config FILE] --wait   the same, once the relay that runs now has ended
gatepostd [--config FILE] --check  say what is wrong with FILE, or what would be in force
FILE, by default /etc/gatepost/relay.cue, is described in schema/relay.cue, and is
read again when it changes: most of it waits for a restart, gatepost status says what.
Exit codes: 0 fine, 1 problems found, 2 cannot run.
`
