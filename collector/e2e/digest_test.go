package e2e

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// mailbox is a real SMTP server that keeps its mails.
type mailbox struct {
	address string
	got     chan string
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	l, err := newListener("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &mailbox{address: l.Addr().String(), got: make(chan string, 100)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	return b
}

func (b *mailbox) serve(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, "220 mailbox ESMTP\r\n")
	in := bufio.NewScanner(conn)
	for in.Scan() {
		switch verb, _, _ := strings.Cut(strings.ToUpper(in.Text()), " "); verb {
		case "DATA":
			fmt.Fprint(conn, "354 go ahead\r\n")
			var text strings.Builder
			for in.Scan() && in.Text() != "." {
				text.WriteString(strings.TrimPrefix(in.Text(), ".") + "\r\n")
			}
			b.got <- text.String()
			fmt.Fprint(conn, "250 taken\r\n")
		case "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 mailbox\r\n")
		}
	}
}

// parts decodes the parts of a mail by their type.
func parts(t *testing.T, m *mail.Message) map[string]string {
	t.Helper()
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(p.Header.Get("Content-Type"), ";")
		out[kind] = string(b)
	}
}

// TestDigest: the daily mail leaves through the alertmanager.yml's mail settings, once, and kill -9 makes it no more.
func TestDigest(t *testing.T) {
	t.Parallel()
	box, dir := newMailbox(t), t.TempDir()
	for name, text := range map[string]string{
		"alertmanager.yml": fmt.Sprintf("global: {smtp_from: bramble@example.org, smtp_smarthost: %q, smtp_require_tls: false}\nroute: {receiver: none}\nreceivers: [{name: none}]\n", box.address),
		"collector.yml":    fmt.Sprintf("alertmanager: alertmanager.yml\ndigest: {at: %q, to: ada@example.org}\n", time.Now().UTC().Add(-time.Minute).Format("15:04")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, "127.0.0.1", "--config", filepath.Join(dir, "collector.yml"))
	s.do("", "board", "add", "r1-a-01", "--label", "rack=r1")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "state.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	eventually(t, patience, func() error {
		var state string
		if err := db.QueryRow(`SELECT state FROM digest`).Scan(&state); err != nil || state != "skipped" {
			return fmt.Errorf("%q %w", state, err)
		}
		return nil
	})
	s.kill()
	if _, err := db.Exec(`UPDATE digest SET due = due - 86400000`); err != nil { // as if it had run for a day
		t.Fatal(err)
	}
	s.start()
	var raw string
	select {
	case raw = <-box.got:
	case <-time.After(patience):
		t.Fatal("no digest")
	}
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	if to, subject, id := m.Header.Get("To"), m.Header.Get("Subject"), m.Header.Get("Message-Id"); to != "ada@example.org" ||
		!strings.HasPrefix(subject, "Bramble, ") || !strings.HasPrefix(id, "<digest-") {
		t.Errorf("to %q, subject %q, id %q", to, subject, id)
	}
	all := parts(t, m)
	for kind, want := range map[string][]string{
		"text/plain": {"1 board, 0 report, 0 silent.", "every alert: no receiver sends anything", "Test pages: none was sent", s.url()},
		"text/html":  {"<h1", "width=device-width", "every alert", "None are waited for."},
	} {
		for _, w := range want {
			if !strings.Contains(all[kind], w) {
				t.Errorf("%s lacks %q: %s", kind, w, all[kind])
			}
		}
	}
	eventually(t, patience, func() error {
		var state string
		if err := db.QueryRow(`SELECT state FROM digest ORDER BY due DESC`).Scan(&state); err != nil || state != "sent" {
			return fmt.Errorf("%q %w", state, err)
		}
		return nil
	})
	s.kill()
	s.start()
	s.do("", "board", "list")
	if len(box.got) != 0 {
		t.Error("a second digest after a restart")
	}
}
