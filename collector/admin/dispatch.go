package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A collector that starts or stops holds the lock without answering. Commands
// wait that long for it.
const (
	patience = 10 * time.Second
	pause    = 50 * time.Millisecond
)

// errNobody says that no collector answers on the control socket.
var errNobody = errors.New("no collector answers")

// Dispatch runs a command inside the collector that holds the data directory,
// or else here: it then takes the directory's lock, calls offline for a state,
// and that state's closer after the command. Root acts as the directory's owner then.
func Dispatch(ctx context.Context, dataDir string, args []string, stdin io.Reader, stdout, stderr io.Writer, offline func() (State, func(), error)) error {
	c, err := parse(args, stdout, stderr)
	if err != nil || c == nil {
		return err
	}
	if _, err := os.Stat(dataDir); errors.Is(err, fs.ErrNotExist) && !begins(c) {
		return fmt.Errorf("there is no collector's data in %s: name its directory with --data-dir DIR", dataDir)
	}
	if err := confirmLabels(ctx, c, stdin, stderr); err != nil {
		return err
	}
	q := request{Args: args, Actor: actor()}
	if wantsPassword(c) {
		if q.Stdin, err = password(ctx, stdin, stderr); err != nil {
			return err
		}
	}
	_, restores := c.(*backupRestore) // it reads and writes elsewhere, too, and looks after owners itself
	var owner string
	deadline := time.Now().Add(patience)
	for {
		err := ask(ctx, filepath.Join(dataDir, SocketName), q, stdout, stderr)
		if !errors.Is(err, errNobody) {
			return err
		}
		if !restores {
			name, err := ActAsOwner(dataDir)
			if err != nil {
				return err
			}
			owner = cmp.Or(owner, name)
		}
		release, err := Lock(dataDir)
		if err == nil {
			return actedAs(owner, dataDir, errors.Join(alone(ctx, q, stdout, stderr, offline), release()))
		}
		if !errors.Is(err, ErrLocked) || time.Now().After(deadline) {
			return actedAs(owner, dataDir, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// actedAs adds to a refusal of the system's that root did not meet it as root.
func actedAs(owner, dataDir string, err error) error {
	if owner == "" || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: root acts here as user %s, whose data %s is: let that user read and write there", err, owner, dataDir)
}

// begins reports whether a command may be the first one on a data directory,
// which is then created. Another command on a directory that is missing is a
// mistyped path.
func begins(c command) bool {
	switch c.(type) {
	case *boardAdd, *boardToken, *userAdd, *tokenCreate, *backupRestore:
		return true
	}
	return false
}

// alone runs the command in this process, which holds the lock.
func alone(ctx context.Context, q request, stdout, stderr io.Writer, offline func() (State, func(), error)) error {
	s, done, err := offline()
	if err != nil {
		return err
	}
	defer done()
	s.Actor = q.Actor
	return Run(ctx, q.Args, strings.NewReader(q.Stdin), stdout, stderr, s)
}

// ask runs the command in the collector behind the socket. It wraps errNobody
// where there is no socket or a dead process's.
func ask(ctx context.Context, path string, q request, stdout, stderr io.Writer) error {
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("ask collector: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		address, done, err := reach(path)
		if err != nil {
			return nil, err
		}
		defer done()
		return new(net.Dialer).DialContext(ctx, "unix", address)
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://collector/run", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask collector: %w", err)
	}
	response, err := transport.RoundTrip(r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: %w", errNobody, err)
	}
	if err != nil {
		return fmt.Errorf("ask collector through %s: %w", path, err)
	}
	defer response.Body.Close()
	return show(response, stdout, stderr)
}

func show(response *http.Response, stdout, stderr io.Writer) error {
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1024)) // only to explain the status
		return fmt.Errorf("ask collector: %s: %s", response.Status, bytes.TrimSpace(text))
	}
	var a answer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		return fmt.Errorf("read collector's answer: %w", err)
	}
	_, outErr := io.WriteString(stdout, a.Stdout)
	_, errErr := io.WriteString(stderr, a.Stderr)
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return errors.Join(outErr, errErr)
}

// DataDir takes --data-dir out of the arguments, wherever it stands before a
// lone --. fallback is the directory where it is not given.
func DataDir(args []string, fallback string) (dir string, rest []string, err error) {
	return TakeFlag(args, "--data-dir", "directory", fallback)
}

// TakeFlag takes a flag that names a kind of thing, such as a file, out of the
// arguments, as DataDir does.
func TakeFlag(args []string, flag, kind, fallback string) (value string, rest []string, err error) {
	value = fallback
	for i := 0; i < len(args); i++ {
		given, joined := strings.CutPrefix(args[i], flag+"=")
		switch {
		case args[i] == "--":
			return value, append(rest, args[i:]...), nil
		case joined:
			value = given
		case args[i] == flag && i+1 < len(args):
			i++
			value = args[i]
		case args[i] == flag:
			return "", nil, fmt.Errorf("%s: name the %s behind it", flag, kind)
		default:
			rest = append(rest, args[i])
			continue
		}
		if value == "" {
			return "", nil, fmt.Errorf("%s: the %s is empty: name one", flag, kind)
		}
	}
	return value, rest, nil
}

// actor names the person at the command line, for the audit table.
func actor() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return "local " + name
	}
	if u, err := user.Current(); err == nil {
		return "local " + u.Username
	}
	return fmt.Sprintf("local uid %d", os.Getuid())
}
