// Package policy decides who may send. Build turns parsed files into an
// immutable Snapshot, or says why not; Lookup and Admit answer for one client;
// Diff tells two snapshots apart; Live holds the one in force.
//
// Everything but Live is pure: no I/O, no clock, no logging. Validating is
// building: the command line, the form and the relay all call Build, so what
// passes in CI is by construction what the relay accepts.
package policy
