package broker

import (
	"fmt"
	"log/slog"
)

// Lines a second, and at once, that clients can cause.
const logRate, logBurst = 1, 20

// serverLog passes the server's warnings and errors on and drops the rest. Most
// of them are caused by clients, so their rate is limited.
type serverLog struct {
	log   *slog.Logger
	rate  *bucket
	count *metrics
	fatal chan string // the first fatal message; the server cannot start
}

func newServerLog(log *slog.Logger, count *metrics) *serverLog {
	return &serverLog{log: log, rate: newBucket(logRate, logBurst), count: count, fatal: make(chan string, 1)}
}

func (l *serverLog) warn(format string, v ...any) {
	if !l.rate.allow() {
		l.count.suppressed.Inc()
		return
	}
	l.log.Warn("message server", "message", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any)  { l.warn(format, v...) }
func (l *serverLog) Errorf(format string, v ...any) { l.warn(format, v...) }
func (l *serverLog) Noticef(string, ...any)         {}
func (l *serverLog) Debugf(string, ...any)          {}
func (l *serverLog) Tracef(string, ...any)          {}

// Fatalf is called where the server gives up starting.
func (l *serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
