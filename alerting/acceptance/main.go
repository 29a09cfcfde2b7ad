// Command acceptance stands in for the binary named alertmanager in Alertmanager's own acceptance tests: it takes that binary's
// flags and runs `collector serve` behind them, as a proxy that takes a prefix off does. The alerts, groups, silences and
// notifications that the tests see are the collector's. The adapter adds a token to each request, since nobody gets in without one,
// and names itself as the one member of a cluster, for which the tests wait.
//
// COLLECTOR names the collector's binary.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	_ = stop // the process ends first
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("alertmanager", flag.ContinueOnError)
	config, storage := f.String("config.file", "", ""), f.String("storage.path", "", "")
	listen, prefix := f.String("web.listen-address", "", ""), f.String("web.route-prefix", "", "")
	delay := f.Duration("dispatch.start-delay", 0, "")
	// The ignored flags include the classic matcher mode: the collector has none, and two of the tests that ask for it hold in
	// both.
	for _, ignored := range []string{"enable-feature", "log.level", "cluster.listen-address", "cluster.settle-timeout"} {
		f.String(ignored, "", "")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	c := &collector{binary: os.Getenv("COLLECTOR"), dir: filepath.Join(*storage, "bramble"), config: *config, delay: *delay}
	token, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	serve, address, err := c.start(os.Stderr)
	if err != nil {
		return err
	}
	go passOn(ctx, serve.Process)
	server := &http.Server{Handler: http.StripPrefix(*prefix, front(address, token, l.Addr().String()))}
	go server.Serve(l) //nolint:errcheck // it ends with the process
	fmt.Fprintf(os.Stderr, "msg=\"Listening on\" address=%s\n", l.Addr())
	return errors.Join(serve.Wait(), server.Close())
}

// collector is the collector that the tests drive.
type collector struct {
	binary, dir, config string
	delay               time.Duration
}

// prepare writes its configuration and makes a token.
func (c *collector) prepare(ctx context.Context) (token string, err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return "", err
	}
	receivers, err := plainReceivers(c.config)
	if err != nil {
		return "", err
	}
	settings := fmt.Sprintf("data_dir: %q\nhttp: 127.0.0.1:0\nnats: 127.0.0.1:0\nalertmanager: %q\nreceivers: receivers.yml\nmemory: 32MiB\nstart_delay: %s\n", c.dir, c.config, c.delay)
	for name, text := range map[string][]byte{"collector.yml": []byte(settings), "receivers.yml": receivers} {
		if err := os.WriteFile(filepath.Join(c.dir, name), text, 0o600); err != nil {
			return "", err
		}
	}
	create := exec.CommandContext(ctx, c.binary, "token", "create", "--role", "operator", "--data-dir", c.dir)
	create.Stderr = os.Stderr
	out, err := create.Output()
	if err != nil {
		return "", fmt.Errorf("create a token: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// plainReceivers writes a receivers.yml that leaves all pages as they are: the tests compare annotations.
func plainReceivers(config string) ([]byte, error) {
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	var from struct {
		Receivers []struct {
			Name string `yaml:"name"`
		} `yaml:"receivers"`
	}
	if err := yaml.Unmarshal(text, &from); err != nil {
		return nil, fmt.Errorf("read receivers of %s: %w", config, err)
	}
	to := map[string]map[string]bool{}
	for _, r := range from.Receivers {
		to[r.Name] = map[string]bool{"plain": true}
	}
	return yaml.Marshal(map[string]any{"receivers": to})
}

// start runs the collector and returns where it answers. The caller waits for its end.
func (c *collector) start(stderr io.Writer) (*exec.Cmd, *url.URL, error) {
	serve := exec.Command(c.binary, "serve", "--config", filepath.Join(c.dir, "collector.yml"))
	serve.Stderr = stderr
	out, err := serve.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := serve.Start(); err != nil {
		return nil, nil, err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if at, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			address, err := url.Parse(at)
			return serve, address, err
		}
	}
	return nil, nil, errors.Join(errors.New("the collector did not become ready"), serve.Wait())
}

// passOn passes the signals of the tests on to the collector: SIGHUP, and the end.
func passOn(ctx context.Context, to *os.Process) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	for {
		select {
		case <-hangup:
			to.Signal(syscall.SIGHUP) //nolint:errcheck // it has gone
		case <-ctx.Done():
			to.Signal(syscall.SIGTERM) //nolint:errcheck // it has gone
			return
		}
	}
}

// front passes requests on with the token.
func front(to *url.URL, token, self string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header.Set("Authorization", "Bearer "+token)
		},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path != "/api/v2/status" || r.StatusCode != http.StatusOK {
				return nil
			}
			return withPeer(r, self)
		},
	}
}

// withPeer names a cluster of one in a status: the collector has none.
func withPeer(r *http.Response, self string) error {
	var status map[string]any
	if err := json.NewDecoder(r.Body).Decode(&status); err != nil {
		return fmt.Errorf("decode status: %w", err)
	}
	status["cluster"] = map[string]any{"name": self, "status": "ready", "peers": []any{map[string]string{"name": self, "address": self}}}
	b, err := json.Marshal(status)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	r.ContentLength = int64(len(b))
	r.Header.Set("Content-Length", fmt.Sprint(len(b)))
	return nil
}
