// Package livetest is a browser's side of the live pages for tests: it speaks to a hub over a websocket.
package livetest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

// Patience ends a test that hangs. A machine that is busy with other tests may take a minute for a second's work.
const Patience = 2 * time.Minute

// Leakless fails the test when a goroutine of the server outlives it. Call it first.
func Leakless(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, before)
	})
}

// Browser is a websocket client. Its methods fail the test.
type Browser struct {
	testing.TB
	Conn *websocket.Conn
}

// Dial connects to an http:// address. The test's end closes the connection.
func Dial(t testing.TB, url string, header http.Header) *Browser {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http"), header)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close() // empty behind a successful handshake
	t.Cleanup(func() { conn.Close() })
	return &Browser{t, conn}
}

// Send sends a message.
func (b *Browser) Send(text string) {
	b.Helper()
	if err := b.Conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		b.Fatal(err)
	}
}

// Next returns the next message of a type and skips others.
func (b *Browser) Next(kind string) map[string]any {
	b.Helper()
	if err := b.Conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		b.Fatal(err)
	}
	for {
		_, data, err := b.Conn.ReadMessage()
		if err != nil {
			b.Fatalf("wait for %s: %v", kind, err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			b.Fatalf("message %s: %v", data, err)
		}
		if m["type"] == kind {
			return m
		}
	}
}
