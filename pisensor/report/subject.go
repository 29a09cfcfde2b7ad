package report

import (
	"fmt"
	"strings"
)

// Subjects on NATS. A board publishes its telemetry and receives its acks and its control messages,
// nothing else.
const (
	telemetryPrefix = "telemetry."
	ackPrefix       = "ack."
	controlPrefix   = "control."

	// AllTelemetry is the subject that the collector subscribes to.
	AllTelemetry = telemetryPrefix + "*"
	// EnrolSubject is where a board asks to be enrolled.
	EnrolSubject = "enrol"
)

// TelemetrySubject is where the board publishes reports and hellos.
func TelemetrySubject(board string) string { return telemetryPrefix + board }

// AckSubject is where the board receives acks.
func AckSubject(board string) string { return ackPrefix + board }

// ControlSubject is where the board receives control messages.
func ControlSubject(board string) string { return controlPrefix + board }

// EnrolInbox is the subject under which the holder of a token receives the answer, the only one that
// it may subscribe. The boards' door delivers there the answers for the key that this connection has
// asked for, and no others.
func EnrolInbox(tokenID string) string { return EnrolSubject + "." + tokenID }

// EnrolAnswerSubject is the subject on which the collector answers a key, a public nkey. No client
// subscribes to it by this name.
func EnrolAnswerSubject(tokenID, key string) string { return EnrolInbox(tokenID) + "." + key }

// BoardOf returns the board that a telemetry subject names. It reports false
// for any other subject and for names that ValidateBoard refuses.
func BoardOf(subject string) (string, bool) {
	board, ok := strings.CutPrefix(subject, telemetryPrefix)
	return board, ok && validBoard(board)
}

// ValidateBoard checks a board's name: [a-z0-9][a-z0-9-]{0,62}, so that it
// fits a DNS label, a NATS subject, a URL and a label value as it is.
func ValidateBoard(name string) error {
	if !validBoard(name) {
		return fmt.Errorf("board name %q: use 1 to 63 of a-z, 0-9 and -, not starting with -", name)
	}
	return nil
}

func validBoard(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0) {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 63
}
