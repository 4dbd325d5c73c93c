// Package approval judges one commit of the register's branch: did somebody who
// may approve of what it lets in do so?
package approval

// A Standing is what is known of a commit's approval.
type Standing string

// The standings. The zero value is Unknown, so that what was not judged is
// approved by nobody.
const (
	Unknown Standing = ""        // it could not be judged just now
	Refused Standing = "refused" // it was judged, and nobody who may approves of it
	Vouched Standing = "vouched"
)

// String is the word used in logs.
func (s Standing) String() string {
	if s == Unknown {
		return "unknown"
	}
	return string(s)
}

// A Verdict is the judgement of one commit.
type Verdict struct {
	Standing Standing
	// Why is for an operator: who vouches, or what is missing. It holds no
	// secret, and strangers' words in it are made fit for a line.
	Why string
}
