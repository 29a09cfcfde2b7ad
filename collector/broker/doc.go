// Package broker owns the boards' way in: two doors that speak the boards' part of NATS's protocol
// under the collector's own certificate authority, the permissions of its clients, and enrolment. It
// trusts nothing that a client sends.
//
// A board publishes telemetry.<board> and subscribes to ack.<board> and control.<board>. The holder
// of an enrolment token publishes enrol and subscribes to enrol.<token-id>, for half a minute; it hears
// there the answers for the key that it has asked for, which the collector publishes on a subject of
// each key, enrol.<token-id>.<key>.
// Nobody else gets in over the network. The broker never publishes to a message's reply subject: a
// sender could aim that at somebody else.
//
// The front ends TLS, reads the protocol (package protocol), and forwards what a board may publish
// over one connection within the process to an embedded NATS server, to which the collector's other
// parts subscribe. No client ever reaches that server, which listens nowhere. An idle board costs one
// goroutine, one descriptor and no buffer; limits are on
// bytes as they come, TLS and frames included.
//
// A panic where a client is accepted, read, checked, written to or enrolled ends that connection or
// request, is counted and logged, and never ends the process. Shared state (the places, the live
// connections, the allowances, the subscribers) is changed under a lock in steps that look at no
// bytes of a client, so none is left half changed.
package broker
