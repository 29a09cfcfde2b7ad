package receivers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/config"
	"go.uber.org/goleak"

	"bramble/alerting/alerttest/readings"
)

func FuzzParseReceivers(f *testing.F) {
	f.Add("receivers: {oncall: {links: false, ntfy: [{url: 'https://n.example', topic: a}]}}")
	f.Add("receivers:\n  a:\n    http:\n      - {url: 'https://g.example', expect: {status: [200]}}\n")
	f.Add("receivers: [1]")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseReceivers([]byte(text))
		if err != nil {
			return
		}
		for name, r := range o.Receivers {
			o.line("receivers", name, "http", len(r.HTTP))
		}
	})
}

// everyWay is an HTTP proxy that stands for all addresses, https ones too, and keeps the requests.
func everyWay(t testing.TB) (proxy string, asked func() string) {
	t.Helper()
	var mu sync.Mutex
	var all strings.Builder
	provider := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&all, "%s %s\n", r.URL.RequestURI(), b)
		for name, values := range r.Header {
			fmt.Fprintf(&all, "%s: %q\n", name, values)
		}
		w.Header().Set("Retry-After", "7")
		io.WriteString(w, `{"ok":true,"success":true,"access_token":"t","result":{"message_id":1,"chat":{"id":77}}}`)
	}))
	t.Cleanup(provider.Close)
	var tunnels sync.WaitGroup
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			provider.Config.Handler.ServeHTTP(w, r)
			return
		}
		to, err := net.Dial("tcp", provider.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
		tunnels.Go(func() { io.Copy(to, from); to.Close() })
		tunnels.Go(func() { io.Copy(from, to); from.Close() })
	}))
	t.Cleanup(func() { provider.CloseClientConnections(); front.Close(); tunnels.Wait() })
	return front.URL, func() string {
		mu.Lock()
		defer mu.Unlock()
		text := all.String()
		all.Reset()
		return text
	}
}

// Files with keys end in a line break, as editors write them. None of it may be sent, whoever the receiver is. Retry-After is
// noted of whoever answers.
func TestKeyFilesKeepNoLineEnd(t *testing.T) {
	t.Parallel()
	proxy, asked := everyWay(t)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key", "s3cret")
	write("url", "https://provider.example/s3cret")
	write("chat", "77")
	f := func(receiver string) {
		t.Helper()
		conf, err := config.Load(strings.ReplaceAll(fmt.Sprintf(`
global: {http_config: {proxy_url: %q, tls_config: {insecure_skip_verify: true}}}
route: {receiver: oncall}
receivers: [{name: oncall, %s}]
`, proxy, receiver), "DIR", dir))
		if err != nil {
			t.Fatalf("%s: %v", receiver, err)
		}
		set := build(t, conf)
		list := set.Of("oncall")
		ctx, cancel := context.WithCancel(exampleContext()) // some integrations leave an answer's body open until then
		defer cancel()
		ctx, retryAfter := withRetryAfter(ctx)
		_, err = list[0].Notify(ctx, exampleAlerts(false)...)
		got := asked()
		if d := retryAfter(); d != 7*time.Second && list[0].Name() != "telegram" { // its client is of another library
			t.Errorf("%s: Retry-After of %s was noted, want 7s", receiver, d)
		}
		if !strings.Contains(got, "s3cret") {
			t.Errorf("%s: asked %q, %v", receiver, got, err)
		}
		for _, end := range []string{"s3cret\n\n", "s3cret%0A", `s3cret\n`, "s3cret\r", "77%0A", `77\n`} {
			if strings.Contains(got, end) {
				t.Errorf("%s: a line end was sent: %q", receiver, got)
			}
		}
	}
	f(`pushover_configs: [{token_file: DIR/key, user_key_file: DIR/key}]`)
	f(`webhook_configs: [{url_file: DIR/url}]`)
	f(`slack_configs: [{api_url_file: DIR/url, channel: c}]`)
	f(`slack_configs: [{app_token_file: DIR/key, channel: c}]`)
	f(`discord_configs: [{webhook_url_file: DIR/url}]`)
	f(`mattermost_configs: [{webhook_url_file: DIR/url}]`)
	f(`msteams_configs: [{webhook_url_file: DIR/url}]`)
	f(`msteamsv2_configs: [{webhook_url_file: DIR/url}]`)
	f(`incidentio_configs: [{url_file: DIR/url, alert_source_token_file: DIR/key}]`)
	f(`opsgenie_configs: [{api_key_file: DIR/key}]`)
	f(`victorops_configs: [{api_key_file: DIR/key, routing_key: r}]`)
	f(`pagerduty_configs: [{routing_key_file: DIR/key}]`)
	f(`pagerduty_configs: [{service_key_file: DIR/key}]`)
	f(`telegram_configs: [{bot_token_file: DIR/key, chat_id_file: DIR/chat}]`)
	f(`wechat_configs: [{api_secret_file: DIR/key, corp_id: c, api_url: 'https://wechat.example/'}]`)
	f(`rocketchat_configs: [{token_file: DIR/key, token_id_file: DIR/key, channel: c}]`)
}

// Telegram's library puts the bot's token into its errors.
func TestErrorsShowNoBotToken(t *testing.T) {
	cause := errors.New(`telebot: Post "https://api.telegram.org/bot123:SECRET/sendMessage": context deadline exceeded`)
	err := WithoutSecrets("telegram", fmt.Errorf("notify: %w", cause))
	if text := err.Error(); strings.Contains(text, "SECRET") || !strings.Contains(text, `/bot<redacted>/sendMessage": context deadline exceeded`) {
		t.Errorf("%s", text)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if err := WithoutSecrets("telegram", nil); err != nil {
		t.Errorf("%v in place of none", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := func(text string, want time.Duration) {
		t.Helper()
		if got := readRetryAfter(text, now); got != want {
			t.Errorf("Retry-After: %s is %s, want %s", text, got, want)
		}
	}
	f("", 0)
	f("30", 30*time.Second)
	f("-1", 0)
	f("soon", 0)
	f("99999999", maxRetryAfter)
	f("18446744073709551616", 0)
	f("Fri, 02 Jan 2026 03:05:05 GMT", time.Minute)
	f("Thu, 01 Jan 2026 03:05:05 GMT", 0)
	f("Sat, 03 Jan 2026 03:05:05 GMT", maxRetryAfter)
}

func TestMain(m *testing.M) {
	// Imported packages start some in their init, the store's engine some for the whole process when it is first used.
	goleak.VerifyTestMain(m, append(readings.Goroutines(), goleak.IgnoreCurrent())...)
}
