package e2e

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// meter passes TCP connections on and counts their bytes, both ways, as TCP
// carries them: TLS included, IP and TCP headers not.
type meter struct {
	address string
	bytes   atomic.Int64
}

func newMeter(t testing.TB, target string) *meter {
	t.Helper()
	l, err := newListener("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{address: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { m.pass(t, c, target) })
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return m
}

// pass ends when either end is gone, or the test.
func (m *meter) pass(t testing.TB, client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-t.Context().Done():
			client.Close()
			server.Close()
		case <-stop:
		}
	}()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, io.TeeReader(client, m))
		server.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, io.TeeReader(server, m))
	client.(*net.TCPConn).CloseWrite()
	up.Wait()
}

// Write counts.
func (m *meter) Write(b []byte) (int, error) {
	m.bytes.Add(int64(len(b)))
	return len(b), nil
}

// collectdSink receives the packets of collectd's network plugin over UDP.
type collectdSink struct {
	address         string
	bytes, readings atomic.Int64
}

func newCollectdSink(t testing.TB) *collectdSink {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &collectdSink{address: c.LocalAddr().String()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 64<<10)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			s.bytes.Add(int64(n))
			s.readings.Add(collectdValues(b[:n]))
		}
	}()
	t.Cleanup(func() { c.Close(); <-ended })
	return s
}

// collectdValues counts the values in a packet: parts of a type and a length,
// of which type 6 holds a number of values (collectd's "Binary protocol").
func collectdValues(b []byte) (n int64) {
	for len(b) >= 4 {
		kind, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			return n
		}
		if kind == 6 && size >= 6 {
			n += int64(binary.BigEndian.Uint16(b[4:]))
		}
		b = b[size:]
	}
	return n
}
