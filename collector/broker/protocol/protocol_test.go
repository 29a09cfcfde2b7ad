package protocol

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

const limit = 100

func TestNext(t *testing.T) {
	f := func(text string, want Operation, n int, failure error) {
		t.Helper()
		got, length, err := Next([]byte(text), limit)
		if !same(got, want) || length != n || !errors.Is(err, failure) {
			t.Errorf("%.80q: %.80q, %d bytes, %v; want %.80q, %d bytes, %v", text, show(got), length, err, show(want), n, failure)
		}
	}
	ok := func(text string, want Operation) {
		t.Helper()
		f(text, want, len(text), nil)
		f(text+"PING\r\n", want, len(text), nil)
		for i := range text { // not one byte less is enough
			f(text[:i], Operation{}, 0, nil)
		}
	}
	ok("PING\r\n", Operation{Verb: Ping})
	ok("ping\n", Operation{Verb: Ping})
	ok("PONG\r\n", Operation{Verb: Pong})
	ok("CONNECT {\"a\": 1}\r\n", Operation{Verb: Connect, Payload: []byte(`{"a": 1}`)})
	ok("PUB a 0\r\n\r\n", Operation{Verb: Publish, Subject: []byte("a"), Payload: []byte{}})
	ok("pub a.b 3\nx\ry\r\n", Operation{Verb: Publish, Subject: []byte("a.b"), Payload: []byte("x\ry")})
	ok("PUB\ta  reply\t2\r\n\r\n\r\n", Operation{Verb: Publish, Subject: []byte("a"), Payload: []byte("\r\n")})
	ok("SUB a 1\r\n", Operation{Verb: Subscribe, Subject: []byte("a"), SID: []byte("1")})
	ok("SUB a q 1\r\n", Operation{Verb: Subscribe, Subject: []byte("a"), Queue: []byte("q"), SID: []byte("1")})
	ok("UNSUB 1\r\n", Operation{Verb: Unsubscribe, SID: []byte("1")})
	ok("UNSUB 1 5\r\n", Operation{Verb: Unsubscribe, SID: []byte("1"), Max: 5})
	ok("UNSUB 1 99999999999999999999\r\n", Operation{Verb: Unsubscribe, SID: []byte("1")})
	ok("SUB "+strings.Repeat("a", MaxLine-6)+" 1\r\n", Operation{Verb: Subscribe, Subject: bytes.Repeat([]byte("a"), MaxLine-6), SID: []byte("1")})

	bad := func(text string, want error) {
		t.Helper()
		f(text, Operation{}, 0, want)
	}
	for _, text := range []string{
		"\r\n", "G", "INFO {}\r\n", "MSG a 1 1\r\nx\r\n", "RMSG $G a 1\r\nx\r\n", "+OK\r\n", "-ERR 'x'\r\n", "PUBX a 1\r\nx\r\n", "P\r\n",
		"PUB a\r\n", "PUB\r\n", "PUB a b c 1\r\n", "PUB a -1\r\n", "PUB a 1x\r\n", "PUB a 1000000000\r\n", "PUB a 1\r\nxx\r\n", "PUB a 1\r\nx\r\r", "PUB a 1\r\nx\n",
		"SUB a\r\n", "SUB\r\n", "SUB a q 1 2\r\n", "UNSUB\r\n", "UNSUB 1 2 3\r\n",
	} {
		bad(text, ErrUnknown)
	}
	bad("PUB a 101\r\n", ErrPayload) // before a byte of it has come
	bad("HPUB a 12 14\r\n", ErrHeaders)
	bad("SUB "+strings.Repeat("a", MaxLine), ErrLine)
	bad("SUB "+strings.Repeat("a", MaxLine)+" 1\r\n", ErrLine)
}

func same(a, b Operation) bool {
	return a.Verb == b.Verb && bytes.Equal(a.Subject, b.Subject) && bytes.Equal(a.Queue, b.Queue) && bytes.Equal(a.SID, b.SID) &&
		a.Max == b.Max && bytes.Equal(a.Payload, b.Payload)
}

func show(op Operation) string {
	return string(AppendMessage([]byte{byte('0' + op.Verb), ' '}, string(op.Subject)+"|"+string(op.Queue), string(op.SID), op.Payload))
}

func TestAppend(t *testing.T) {
	if got := string(AppendMessage([]byte("x"), "ack.b1", "7", []byte("hello"))); got != "xMSG ack.b1 7 5\r\nhello\r\n" {
		t.Errorf("%q", got)
	}
	if got := string(AppendError(nil, "Stale Connection")); got != "-ERR 'Stale Connection'\r\n" {
		t.Errorf("%q", got)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	b := []byte("PUB telemetry.b1 5\r\nhello\r\n")
	if n := testing.AllocsPerRun(100, func() { _, _, _ = Next(b, limit) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An operation always lies within its bytes, and bytes that come one by one are read as
// those that come together.
func FuzzNext(f *testing.F) {
	for _, text := range []string{
		"PING\r\n", "PUB a b 3\r\nabc\r\n", "SUB a q 1\r\nUNSUB 1 2\r\n", "CONNECT {}\r\nPONG\r\n", "HPUB a 1 2\r\n", "PUB a 101\r\n", "P", "\x16\x03\x01", "GET / HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		op, n, err := Next(b, limit)
		if n < 0 || n > len(b) || n > 0 && (err != nil || op.Verb == 0) || n == 0 && op.Verb != 0 || len(op.Payload) > max(limit, MaxLine) {
			t.Fatalf("%.80q, %d bytes, %v", show(op), n, err)
		}
		if len(b) > 3*MaxLine && n == 0 && err == nil {
			t.Fatalf("%d bytes are no operation yet", len(b))
		}
		for i := range b[:min(n, 2*MaxLine)] {
			if _, early, err := Next(b[:i], limit); early != 0 || err != nil {
				t.Fatalf("%.80q: %d bytes, %v", b[:i], early, err)
			}
		}
	})
}
