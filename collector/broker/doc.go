// Package broker owns the boards' way in: an embedded NATS server under the
// collector's own certificate authority, who may connect and what each may
// do there, and enrolment. It trusts nothing that a client sends.
//
// A board publishes telemetry.<board> and hears ack.<board> and control.<board>.
// The holder of an enrolment token publishes enrol and hears enrol.<token-id>,
// for half a minute. Nobody else gets in over the network, and there is neither
// JetStream nor a system account. The broker never publishes to a message's
// reply subject: a sender could aim that at somebody else.
package broker
