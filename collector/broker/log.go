package broker

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Lines a second, and at once, that clients can cause.
const logRate, logBurst = 1, 20

// limitedLog is the log for lines that clients cause. It is safe for concurrent use.
type limitedLog struct {
	log        *slog.Logger
	lines      *rate.Limiter
	suppressed prometheus.Counter
}

func newLimitedLog(log *slog.Logger, count *metrics) *limitedLog {
	return &limitedLog{log: log, lines: rate.NewLimiter(logRate, logBurst), suppressed: count.suppressed}
}

// warn logs, or counts a line that is one too many.
func (l *limitedLog) warn(message string, args ...any) {
	if !l.lines.Allow() {
		l.suppressed.Inc()
		return
	}
	l.log.Warn(message, args...)
}

// serverLog passes the message server's warnings and errors on and drops the rest.
type serverLog struct {
	*limitedLog
	fatal chan string // the first fatal message; the server cannot start
}

func newServerLog(l *limitedLog) *serverLog {
	return &serverLog{limitedLog: l, fatal: make(chan string, 1)}
}

func (l *serverLog) say(format string, v ...any) {
	l.warn("message server", "message", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any)  { l.say(format, v...) }
func (l *serverLog) Errorf(format string, v ...any) { l.say(format, v...) }
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
