package sensor

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// events are the loop's inputs beside the time. Goroutines take them and signal the loop's alarm,
// so that the loop waits for the alarm alone: most of its wake-ups are for the time. Events that
// the loop does not take stay in their channel.
type events struct {
	done     <-chan struct{}
	messages chan *nats.Msg
	calls    chan struct{} // of the hardware; holds at most one
	signal   func()
	stop     chan struct{}
	work     sync.WaitGroup
}

func (c *core) listen(ctx context.Context, signal func(), messages <-chan *nats.Msg, changed <-chan struct{}) *events {
	e := &events{done: ctx.Done(), messages: make(chan *nats.Msg, 1), calls: make(chan struct{}, 1), signal: signal, stop: make(chan struct{})}
	e.work.Go(func() { e.forward(messages, changed) })
	e.work.Go(func() { e.pass(c.o.Wake) })
	return e
}

// forward passes messages on, and signals a changed connection and the end of the context, which
// the loop reads by itself.
func (e *events) forward(messages <-chan *nats.Msg, changed <-chan struct{}) {
	for done := e.done; ; e.signal() {
		select {
		case m := <-messages:
			select {
			case e.messages <- m:
			case <-e.stop:
				return
			}
		case <-changed:
		case <-done:
			done = nil
		case <-e.stop:
			return
		}
	}
}

// pass passes calls of the hardware on, the next one when the loop has taken
// the last.
func (e *events) pass(wake <-chan struct{}) {
	for ; ; e.signal() {
		select {
		case _, open := <-wake:
			if !open {
				return
			}
		case <-e.stop:
			return
		}
		select {
		case e.calls <- struct{}{}:
		case <-e.stop:
			return
		}
	}
}

func (e *events) close() {
	close(e.stop)
	e.work.Wait()
}

// poll takes one event, and reports whether there was one. A call of the hardware waits while an
// earlier one is still due.
func (c *core) poll(e *events) (some bool) {
	select {
	case m := <-e.messages:
		c.receive(c.o.Uptime(), m)
		return true
	default:
	}
	if c.sampler != nil && !c.sampler.eventIsDue && !c.stopping {
		select {
		case <-e.calls:
			c.sampler.call(c.o.Uptime())
			return true
		default:
		}
	}
	select {
	case <-e.done:
		if c.stopping {
			return false
		}
		c.feed, c.stopping, c.deadline = ended{}, true, c.o.Uptime()+drainTime
		return true
	default:
		return false
	}
}
