// Package protocol reads the messages of a NATS client, as a server receives them, and writes a
// server's answers. It knows the verbs that boards use: CONNECT, PING, PONG, PUB, SUB and UNSUB.
// Every other one is an error: headers, and the verbs of clusters and leaf nodes.
//
// It is pure: bytes in, operations out. It keeps no state and allocates nothing for a message; an
// Operation's slices point into the bytes that were read. Limits are checked before the bytes that
// they limit have arrived.
//
// The protocol is that of docs.nats.io/reference/reference-protocols/nats-protocol and of
// nats-server's parser.go, whose answers a differential test compares.
package protocol

import (
	"bytes"
	"strconv"
)

// MaxLine is the largest control line in bytes, without its end (nats-server, const.go,
// MAX_CONTROL_LINE_SIZE).
const MaxLine = 4096

// maxDigits bounds a number (nats-server, util.go, parseSize).
const maxDigits = 9

// A Verb is the kind of an operation. The zero value is none.
type Verb uint8

// The verbs that boards use.
const (
	Connect Verb = iota + 1
	Ping
	Pong
	Publish
	Subscribe
	Unsubscribe
)

// Operation is one message of a client. Its slices are valid as long as the bytes from which it was
// read.
type Operation struct {
	Verb    Verb
	Subject []byte // of Publish and Subscribe
	Queue   []byte // of Subscribe; nil: none
	SID     []byte // of Subscribe and Unsubscribe: the client's number for a subscription
	Max     int    // of Unsubscribe: messages after which it ends, all since it began; 0: at once
	Payload []byte // of Publish; of Connect, its JSON
}

// Error is a reason to end a connection. Its text is nats-server's, so that clients know it.
type Error string

// Error returns the text that the client gets.
func (e Error) Error() string { return string(e) }

// The reasons that lie in a client's bytes.
const (
	ErrUnknown Error = "Unknown Protocol Operation"
	ErrLine    Error = "maximum control line exceeded"
	ErrPayload Error = "Maximum Payload Violation"
	ErrHeaders Error = "message headers not supported"
)

// Next reads the first operation of b and returns how many bytes it takes, 0 where more are needed.
// maxPayload bounds a message in bytes. After an error nothing else of the connection can be read.
func Next(b []byte, maxPayload int) (op Operation, n int, err error) {
	if len(b) > 0 && bytes.IndexByte([]byte("PpSsUuCcHh"), b[0]) < 0 {
		return Operation{}, 0, ErrUnknown
	}
	end := bytes.IndexByte(b, '\n')
	switch {
	case end >= 0:
	case len(b) > MaxLine+1: // the end has up to two bytes
		return Operation{}, 0, ErrLine
	default:
		return Operation{}, 0, nil
	}
	line := bytes.TrimSuffix(b[:end], []byte("\r"))
	if len(line) > MaxLine {
		return Operation{}, 0, ErrLine
	}
	verb, rest := word(line)
	n = end + 1
	switch {
	case is(verb, "PUB"):
		return publish(b, n, rest, maxPayload)
	case is(verb, "PING"):
		op.Verb = Ping
	case is(verb, "PONG"):
		op.Verb = Pong
	case is(verb, "CONNECT"):
		op = Operation{Verb: Connect, Payload: bytes.TrimSpace(rest)}
	case is(verb, "SUB"):
		op, err = subscribe(rest)
	case is(verb, "UNSUB"):
		op, err = unsubscribe(rest)
	case is(verb, "HPUB"):
		err = ErrHeaders
	default:
		err = ErrUnknown
	}
	if err != nil {
		return Operation{}, 0, err
	}
	return op, n, nil
}

// publish reads PUB subject [reply] size, and the message behind the line. The reply subject is
// checked and left out: nobody answers there.
func publish(b []byte, line int, rest []byte, maxPayload int) (Operation, int, error) {
	first, rest := word(rest)
	second, rest := word(rest)
	third, rest := word(rest)
	size := second
	if third != nil {
		size = third
	}
	n, ok := number(size)
	switch {
	case !ok || len(rest) > 0:
		return Operation{}, 0, ErrUnknown
	case n > maxPayload:
		return Operation{}, 0, ErrPayload
	}
	end := line + n
	if len(b) > end && b[end] != '\r' || len(b) > end+1 && b[end+1] != '\n' {
		return Operation{}, 0, ErrUnknown
	}
	if len(b) < end+2 {
		return Operation{}, 0, nil
	}
	return Operation{Verb: Publish, Subject: first, Payload: b[line:end]}, end + 2, nil
}

// subscribe reads subject [queue] sid.
func subscribe(rest []byte) (Operation, error) {
	subject, rest := word(rest)
	second, rest := word(rest)
	third, rest := word(rest)
	switch {
	case second == nil || len(rest) > 0:
		return Operation{}, ErrUnknown
	case third == nil:
		return Operation{Verb: Subscribe, Subject: subject, SID: second}, nil
	}
	return Operation{Verb: Subscribe, Subject: subject, Queue: second, SID: third}, nil
}

// unsubscribe reads sid [max]. A number that is none ends the subscription at once, as
// nats-server does.
func unsubscribe(rest []byte) (Operation, error) {
	sid, rest := word(rest)
	most, rest := word(rest)
	if sid == nil || len(rest) > 0 {
		return Operation{}, ErrUnknown
	}
	n, _ := number(most)
	return Operation{Verb: Unsubscribe, SID: sid, Max: n}, nil
}

// word returns the first word of a line, nil where there is none, and the line behind it from its
// next word on.
func word(line []byte) (first, rest []byte) {
	line = bytes.TrimLeft(line, " \t")
	if len(line) == 0 {
		return nil, nil
	}
	end := bytes.IndexAny(line, " \t")
	if end < 0 {
		return line, nil
	}
	return line[:end], bytes.TrimLeft(line[end:], " \t")
}

// is compares a verb, which may be in small letters.
func is(verb []byte, want string) bool {
	return len(verb) == len(want) && bytes.EqualFold(verb, []byte(want))
}

func number(digits []byte) (n int, ok bool) {
	if len(digits) == 0 || len(digits) > maxDigits {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
	}
	return n, true
}

// AppendMessage appends a message for a subscription: MSG subject sid size and the payload.
func AppendMessage(b []byte, subject, sid string, payload []byte) []byte {
	b = append(b, "MSG "...)
	b = append(b, subject...)
	b = append(b, ' ')
	b = append(b, sid...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, "\r\n"...)
	b = append(b, payload...)
	return append(b, "\r\n"...)
}

// AppendError appends -ERR with a text, which has no line break and no apostrophe.
func AppendError(b []byte, text string) []byte {
	b = append(b, "-ERR '"...)
	b = append(b, text...)
	return append(b, "'\r\n"...)
}
