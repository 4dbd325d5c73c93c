package gitsync

import "example.edu/gatepost/internal/register/registration"

// Register is m as the register sees it: whether a file can be run makes no
// difference to what it says.
func (m Mode) Register() registration.Mode {
	switch m {
	case Regular, Executable:
		return registration.Regular
	case Symlink:
		return registration.Symlink
	case Submodule:
		return registration.Submodule
	}
	return registration.Other
}
