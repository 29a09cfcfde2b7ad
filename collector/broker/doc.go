// Package broker owns the boards' way in: an embedded NATS server under the collector's own
// certificate authority, the permissions of its clients, and enrolment. It trusts nothing that a
// client sends.
//
// A board publishes telemetry.<board> and subscribes to ack.<board> and control.<board>. The holder
// of an enrolment token publishes enrol and subscribes to enrol.<token-id>, for half a minute.
// Nobody else gets in over the network, and there is neither JetStream nor a system account. The
// broker never publishes to a message's reply subject: a sender could aim that at somebody else.
//
// A panic where a client is accepted, relayed, checked or enrolled ends that connection or request,
// is counted and logged, and never ends the process. Shared state (the places, the live
// connections, the allowances) is changed under a lock in steps that look at no bytes of a client,
// so none is left half changed. The message server's own goroutines cannot be guarded from here:
// the fuzz targets drive them by both doors.
package broker
