package storage

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
)

func TestEngineLinesReachTheLog(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := Open(t.TempDir(), Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if out.Len() > 0 {
		t.Errorf("opening is no news, but the log has %s", &out)
	}
	logger.Infof("noise")
	logger.Warnf("first\tline with %d tabs\n", 2)
	logger.Errorf("second")
	got := out.String()
	for _, want := range []string{
		`level=WARN msg="first\tline with 2 tabs" engine=`, `level=ERROR msg=second engine=`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	if strings.Contains(got, "noise") {
		t.Errorf("the engine's information is logged: %s", got)
	}
}

func FuzzEngineLine(f *testing.F) {
	for _, line := range []string{"", "\t", "warn\tfile.go:1\tmessage\n", "no tabs", "panic\tfile.go:1"} {
		f.Add([]byte(line))
	}
	log := &lineLog{}
	log.use(slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, line []byte) {
		if n, err := log.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	})
}
