package sensor

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair returns both ends of a connection, the first as the sensor's.
func pair(t *testing.T) (ours, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if peer, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); peer.Close() })
	ours = prompt(c)
	if _, ok := ours.(*promptConn); !ok {
		t.Fatalf("the connection is a %T", ours)
	}
	return ours, peer
}

func TestAConnectionCarriesMoreThanTheKernelBuffers(t *testing.T) {
	ours, peer := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	wrote := make(chan error, 1)
	go func() {
		n, err := ours.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		wrote <- errors.Join(err, ours.Close())
	}()
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), len(sent), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

func TestAConnectionEndsAsAnyOther(t *testing.T) {
	ours, peer := pair(t)
	b := make([]byte, 8)
	if n, err := ours.Read(nil); n != 0 || err != nil {
		t.Errorf("an empty read: %d, %v", n, err)
	}
	if _, err := peer.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(ours, b[:4]); n != 4 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	ours.SetReadDeadline(time.Now())
	var timeout net.Error
	if _, err := ours.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("after its deadline a read says %v", err)
	}
	ours.SetReadDeadline(time.Time{})
	peer.(*net.TCPConn).CloseWrite()
	if n, err := ours.Read(b); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end a read says %d, %v", n, err)
	}
	peer.(*net.TCPConn).SetLinger(0)
	peer.Close()
	if _, err := ours.Write(b); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a write to a peer that has gone says %v", err)
	}
	ours.Close()
	if _, err := ours.Read(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read after the end says %v", err)
	}
}

func TestAWriteHasADeadline(t *testing.T) {
	ours, peer := pair(t)
	b := make([]byte, 1<<20)
	f := func(deadline time.Time) error {
		ours.SetWriteDeadline(deadline)
		_, err := ours.Write([]byte{1})
		return err
	}
	if err := f(time.Now().Add(-time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after its deadline a write says %v", err)
	}
	if err := f(time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if err := f(time.Time{}); err != nil {
		t.Errorf("without a deadline again: %v", err)
	}
	for range 2 { // the second time the scheduler knows of the first
		ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		var err error
		for err == nil { // until the kernel's buffers are full
			_, err = ours.Write(b)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a write that waits too long says %v", err)
		}
	}
	ours.SetWriteDeadline(time.Time{})
	go io.Copy(io.Discard, peer)
	if _, err := ours.Write(b); err != nil {
		t.Errorf("a write that waits for its peer: %v", err)
	}
}

func TestADeadlineOfBeforeIsLifted(t *testing.T) {
	for _, lift := range []func(net.Conn) error{
		func(c net.Conn) error { return c.SetDeadline(time.Time{}) },
		func(c net.Conn) error { return c.SetWriteDeadline(time.Time{}) },
	} {
		ours, _ := pair(t)
		ours.(*promptConn).Conn.SetDeadline(time.Now().Add(-time.Second))
		if err := lift(ours); err != nil {
			t.Fatal(err)
		}
		if _, err := ours.Write([]byte{1}); err != nil {
			t.Error(err)
		}
	}
}

func TestAWriteToAHostThatVanishedFails(t *testing.T) {
	ours, peer := pair(t)
	c := ours.(*promptConn)
	c.arrival.patience = time.Millisecond
	c.SetWriteDeadline(time.Now().Add(time.Minute))
	var err error
	for err == nil { // until the peer, which reads nothing, has room for no more
		_, err = c.Write([]byte{1})
	}
	if timeout := net.Error(nil); !errors.Is(err, syscall.ETIMEDOUT) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a write of which nothing arrives says %v", err)
	}
	read := make([]byte, c.arrival.written)
	if _, err := io.ReadFull(peer, read); err != nil {
		t.Fatal(err)
	}
	c.arrival.patience = time.Minute
	for !c.arrival.since.IsZero() { // until the peer's kernel has said that it has them
		if _, err := c.Write([]byte{1}); err != nil {
			t.Fatalf("a write after others have arrived: %v", err)
		}
	}
}
