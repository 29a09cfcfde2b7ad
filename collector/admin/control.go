package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// SocketName is the control socket's name in the data directory.
const SocketName = "control.sock"

// maxRequest is the largest request on the control socket, in bytes.
const maxRequest = 1 << 20

// request and answer are the messages of the control socket, as JSON.
type request struct {
	Args  []string `json:"args"`
	Stdin string   `json:"stdin,omitempty"`
	Actor string   `json:"actor,omitempty"`
}

type answer struct {
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Serve answers commands on the control socket at path until ctx is done, then
// finishes those that run. The caller holds the data directory's lock, so a
// socket that is already there is a dead process's and is replaced.
func Serve(ctx context.Context, path string, s State) error {
	l, err := listen(path)
	if err != nil {
		return fmt.Errorf("open control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /run", func(w http.ResponseWriter, r *http.Request) { serveRun(w, r, s) })
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(deadline)
	})
	err = srv.Serve(l)
	if !stop() {
		err = <-stopped
	}
	if rm := os.Remove(path); !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}

func serveRun(w http.ResponseWriter, r *http.Request, s State) {
	var q request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&q); err != nil {
		http.Error(w, "request: "+err.Error(), http.StatusBadRequest)
		return
	}
	if q.Actor != "" {
		s.Actor = q.Actor
	}
	var stdout, stderr bytes.Buffer
	var a answer
	// A client that goes away must not leave half a command behind.
	ctx := context.WithoutCancel(r.Context())
	if err := Run(ctx, q.Args, strings.NewReader(q.Stdin), &stdout, &stderr, s); err != nil {
		a.Error = err.Error()
	}
	a.Stdout, a.Stderr = stdout.String(), stderr.String()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // it errs where the client is gone
}

// listen opens a socket that nobody but the owner can ever reach: it is made in
// a directory of the owner's and moved to its place with its mode set.
func listen(path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".control-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	address, done, err := reach(made)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// reach returns a name for a socket's path that fits sockaddr_un, which holds
// 107 bytes on Linux: longer paths go through an open directory.
func reach(path string) (address string, done func(), err error) {
	if len(path) <= 100 {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}
