package storage

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
)

// engineLog passes the engine's lines ("level<tab>file:line<tab>message") on to slog. The engine has one
// output a process, so its lines go to the log of the store that was opened last.
var engineLog = &lineLog{}

type lineLog struct {
	to atomic.Pointer[slog.Logger]
}

func (l *lineLog) use(to *slog.Logger) { l.to.Store(to) }

// Write logs one line of the engine. The engine serialises its writes.
func (l *lineLog) Write(line []byte) (int, error) {
	to := l.to.Load()
	if to == nil {
		return len(line), nil
	}
	level, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte("\t"))
	where, message, ok := bytes.Cut(rest, []byte("\t"))
	if !ok {
		message = line
	}
	to.Log(context.Background(), slogLevel(string(level)), string(message), "engine", string(where))
	return len(line), nil
}

func slogLevel(level string) slog.Level {
	switch level {
	case "info":
		return slog.LevelInfo
	case "warn":
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}
