package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// defaultSocket is where gatepostd listens for operators unless configured
// otherwise.
const defaultSocket = "/run/gatepost/gatepostd.sock"

// Bounds of a conversation with the relay.
const (
	relayPatience  = 2 * time.Minute // until the head of the answer is there; accept fetches from the repository first
	maxRelayAnswer = 8 << 20         // octets of one JSON value
	maxRelayError  = 4 << 10         // octets of an error text
)

// A relay is the running gatepostd as an operator sees it: HTTP and JSON over
// a unix socket. Who may open the socket may command the relay.
type relay struct {
	socket string
	http   *http.Client
}

func addSocket(cmd *cobra.Command) *string {
	return cmd.PersistentFlags().String("socket", defaultSocket, "the relay's `PATH` for operator commands")
}

// dialRelay looks whether the socket can be one and returns a client for it.
// The caller closes it.
func dialRelay(socket string) (*relay, error) {
	info, err := os.Stat(socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint := "is gatepostd running on this machine? systemctl status gatepostd"
		return nil, fail(fmt.Sprintf("there is no socket %s", socket), hint,
			"if its configuration says otherwise (listen.socket): --socket PATH")
	case errors.Is(err, fs.ErrPermission):
		return nil, notAllowed(socket)
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fail(fmt.Sprintf("%s is not a socket", socket), "give listen.socket of gatepostd's configuration: --socket "+defaultSocket)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		ResponseHeaderTimeout:  relayPatience,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &relay{socket: socket, http: &http.Client{Transport: transport}}, nil
}

func (r *relay) close() { r.http.CloseIdleConnections() }

// notAllowed says how to get at a socket of mode 0600.
func notAllowed(socket string) error {
	return fail("no permission to open "+socket, "run it as root: sudo gatepost …", "or as the user that gatepostd runs as")
}

// call sends one request and returns the answer's body, which the caller
// closes. An answer that is not 2xx is an error with the relay's own words.
func (r *relay) call(ctx context.Context, method, path string, body any) (io.ReadCloser, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://gatepostd"+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return r.do(req)
}

// do sends a request, as call.
func (r *relay) do(req *http.Request) (io.ReadCloser, error) {
	ctx := req.Context()
	resp, err := r.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, notAllowed(r.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fail("nobody answers at "+r.socket, "gatepostd is not running: systemctl status gatepostd")
	case err != nil:
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, hinted(fmt.Errorf("asking the relay: %w", err), "what it logged: journalctl -u gatepostd -n 50")
	case resp.StatusCode/100 != 2:
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return resp.Body, nil
}

// A relayError is an answer that is not 2xx.
type relayError struct {
	code int
	text string
}

func (e *relayError) Error() string { return "the relay says: " + e.text }

// refusal reads the text of an error answer: {"error", "hint"} or plain text.
func refusal(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxRelayError))
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		data = []byte(resp.Status)
	}
	var told struct {
		Error string `json:"error"`
		Hint  string `json:"hint"`
	}
	if json.Unmarshal(data, &told) != nil || told.Error == "" {
		told.Error, told.Hint = strings.TrimSpace(string(data)), ""
	}
	err = &relayError{code: resp.StatusCode, text: told.Error}
	if told.Hint != "" {
		return hinted(err, told.Hint)
	}
	return err
}

// get reads one JSON value into out.
func (r *relay) get(ctx context.Context, path string, out any) error {
	return r.exchange(ctx, http.MethodGet, path, nil, out)
}

// post sends one JSON value and reads the answer into out, if there is one.
func (r *relay) post(ctx context.Context, path string, in, out any) error {
	return r.exchange(ctx, http.MethodPost, path, in, out)
}

func (r *relay) exchange(ctx context.Context, method, path string, in, out any) error {
	body, err := r.call(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxRelayAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading the relay's answer: %w", err)
	case len(data) > maxRelayAnswer:
		return fmt.Errorf("the relay's answer is over %d bytes", maxRelayAnswer)
	case out == nil || len(bytes.TrimSpace(data)) == 0:
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return notUnderstood(err)
	}
	return nil
}

// notUnderstood is for an answer that is not what this program knows.
func notUnderstood(err error) error {
	return hinted(fmt.Errorf("the relay's answer is not understood: %w", err),
		"are gatepost and gatepostd of the same version? gatepost version; gatepostd --version")
}
