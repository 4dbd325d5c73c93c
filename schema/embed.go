// Package schema owns the CUE definitions that everything written by people is
// held to: #Registration, #Network, #Department, #Block and #Campus for the
// register, #Relay and #Portal for the daemons. It holds text only; package
// registration and package config give it effect.
//
// A field's comment is also what a person reads when the field is wrong: its
// first paragraph says what to write, and a line that starts with "Example:"
// shows it. Defaults stand in the definitions and nowhere else.
package schema

import (
	"embed"
	"io/fs"
)

//go:embed *.cue
var files embed.FS

// Files returns the definitions: *.cue files of one CUE package, "schema".
func Files() fs.FS { return files }
