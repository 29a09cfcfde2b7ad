// Package outbox holds messages until a provider has taken them.
//
// It owns the queue of messages by integration, their order (the messages of one group leave one after the other), the waits
// between tries, the rows of messages that wait, and the health of each integration. It sends nothing itself: the caller's
// function tries a message and records the outcome.
package outbox
