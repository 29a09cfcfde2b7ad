// Client speaks to the boards' door with the version of nats.go that it was built with: it logs in by a
// key, publishes, receives an ack, is refused another board's subject, and comes back after a cut. It is
// a program of its own, since a module has one version of a library.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// patience ends a client that hangs.
const patience = time.Minute

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// run reads "cut" from standard input when the connection has been cut.
func run(url, seed string) error {
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return err
	}
	refused, back := make(chan error, 10), make(chan struct{}, 1)
	nc, err := nats.Connect(url, nats.Nkey(public, pair.Sign), nats.Secure(&tls.Config{InsecureSkipVerify: true}), nats.Timeout(patience),
		nats.ReconnectWait(10*time.Millisecond), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }),
		nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	if err != nil {
		return err
	}
	defer nc.Close()
	acks := make(chan *nats.Msg, 10)
	if _, err := nc.ChanSubscribe("ack.b1", acks); err != nil {
		return err
	}
	exchange := func(text string) error {
		if err := nc.Publish("telemetry.b1", []byte(text)); err != nil {
			return err
		}
		if err := nc.FlushTimeout(patience); err != nil {
			return err
		}
		select {
		case m := <-acks:
			if string(m.Data) != text {
				return fmt.Errorf("an ack of %q", m.Data)
			}
			return nil
		case <-time.After(patience):
			return fmt.Errorf("no ack of %q", text)
		}
	}
	for _, text := range []string{"first", strings.Repeat("x", 200_000)} {
		if err := exchange(text); err != nil {
			return err
		}
	}
	if err := nc.Publish("telemetry.b2", nil); err != nil {
		return err
	}
	select {
	case err := <-refused:
		if !strings.Contains(strings.ToLower(err.Error()), "permissions violation") {
			return fmt.Errorf("another board's subject: %w", err)
		}
	case <-time.After(patience):
		return fmt.Errorf("another board's subject is not refused")
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	select {
	case <-back:
	case <-time.After(patience):
		return fmt.Errorf("not back after a cut")
	}
	if err := exchange("again"); err != nil {
		return err
	}
	fmt.Println("done with nats.go", nats.Version)
	return nil
}
