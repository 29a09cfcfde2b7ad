package storage

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
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
	level, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte("\t"))
	if string(level) == "fatal" {
		crash(string(line))
	}
	if to == nil {
		return len(line), nil
	}
	where, message, ok := bytes.Cut(rest, []byte("\t"))
	if !ok {
		message = line
	}
	to.Log(context.Background(), slogLevel(string(level)), string(message), "engine", string(where))
	return len(line), nil
}

// crash ends the process with a trace in place of the exit that the engine is about to make: an exit leaves nothing
// for the next start to find. It does so from another goroutine, since the caller's might recover, and holds the engine's
// log.
func crash(line string) {
	trace := debug.Stack()
	go func() { panic(fmt.Sprintf("%s\n%s", strings.TrimSpace(line), trace)) }()
	select {}
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
