package daemon

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifyWithin bounds what is said to the service manager, which reads it soon
// or never.
const notifyWithin = time.Second

// Notifier tells the service manager how far the relay is, by the protocol of
// sd_notify(3): each call sends one message of lines such as READY=1. It is nil
// when nobody wants to know. getenv is os.Getenv.
func Notifier(getenv func(string) string) func(state string) error {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if strings.HasPrefix(path, "@") { // a name that is in no folder
		path = "\x00" + path[1:]
	}
	return func(state string) error {
		conn, err := net.DialTimeout("unixgram", path, notifyWithin)
		if err == nil {
			err = conn.SetWriteDeadline(time.Now().Add(notifyWithin))
			if err == nil {
				_, err = conn.Write([]byte(state))
			}
			err = errors.Join(err, conn.Close())
		}
		if err != nil {
			return fmt.Errorf("daemon: telling the service manager: %w", err)
		}
		return nil
	}
}

// tell says something to the service manager, if there is one.
func (o *Options) tell(state string) {
	if o.Notify == nil {
		return
	}
	if err := o.Notify(state); err != nil {
		o.Logger.Warn("the service manager does not listen", "event", "relay.notify_failed", "err", err)
	}
}

// The messages of sd_notify(3).
const (
	tellReady = "READY=1\nSTATUS=taking mail"
)

// tellStopping also asks for the time that the end may take, so that it need
// not be written into the unit as well.
func tellStopping(within time.Duration) string {
	return fmt.Sprintf("STOPPING=1\nSTATUS=finishing what is under way\nEXTEND_TIMEOUT_USEC=%d", (within + 5*time.Second).Microseconds())
}

// tellWaiting says that the state is still in use, and asks for so much time.
func tellWaiting(within time.Duration) string {
	return fmt.Sprintf("STATUS=waiting for the relay before to end\nEXTEND_TIMEOUT_USEC=%d", (within + 60*time.Second).Microseconds())
}

// tellReloading begins what tellReady ends. The service manager wants the time
// of its own clock.
func tellReloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
