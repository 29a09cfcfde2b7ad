package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxWords bounds the bytes kept of a checking process's output: a panic of the engine prints every goroutine.
const maxWords = 64 << 10

// test restores a backup into a scratch folder, in a child process, and notes the result in its manifest.
func (k *Keeper) test(ctx context.Context, p place, m *Manifest) error {
	started := time.Now()
	shelf := p.at(m.Name)
	job := Job{
		Backup: shelf.String(), S3: k.config.S3, Scratch: filepath.Join(p.scratch(), "."+m.Name+scratch), Key: k.config.Key, Rate: int64(k.config.Rate),
	}
	if err := checkSpace("a test restore", p.scratch(), k.source.DataDir, m.Bytes); err != nil {
		return fmt.Errorf("%w: %w", ErrNotTested, err)
	}
	err := errors.Join(job.runChild(ctx, k.child), os.RemoveAll(job.Scratch))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx) // cut short: that says nothing about the backup
	case errors.Is(err, ErrNotTested):
		return err
	}
	m.Test = &Test{At: time.Now().UTC().Truncate(time.Millisecond), Seconds: time.Since(started).Seconds()}
	if err != nil {
		m.Test.Error = err.Error()
		err = fmt.Errorf("backup %s does not restore: %w", m.Name, err)
	}
	if noted := m.write(ctx, shelf); noted != nil {
		return errors.Join(err, fmt.Errorf("note the test of backup %s: %w", m.Name, explain(noted)))
	}
	return err
}

// runChild does the job in a process of its own and returns its error.
func (j Job) runChild(ctx context.Context, command []string) error {
	argument, err := json.Marshal(j)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], string(argument))...)
	// The child ends when this pipe does, also where this process is killed.
	alive, err := c.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the checking process: %w", err)
	}
	defer alive.Close()
	words := &lastWords{}
	c.Stdout, c.Stderr = words, words
	if err := c.Start(); err != nil {
		return fmt.Errorf("start the checking process: %w", err)
	}
	err = c.Wait()
	switch status, _ := c.ProcessState.Sys().(syscall.WaitStatus); {
	case err == nil:
		return nil
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return fmt.Errorf("%w: the checking process was killed: is there too little memory?", ErrNotTested)
	}
	return words.explain(err)
}

// lastWords keeps the beginning of a process's output.
type lastWords struct{ b bytes.Buffer }

func (w *lastWords) Write(p []byte) (int, error) {
	if space := maxWords - w.b.Len(); space > 0 {
		w.b.Write(p[:min(space, len(p))])
	}
	return len(p), nil
}

// explain picks the line with the reason why the process has ended: a panic's first, else the last.
func (w *lastWords) explain(err error) error {
	lines := strings.Split(strings.TrimSpace(w.b.String()), "\n")
	for _, line := range lines {
		if _, text, ok := strings.Cut(line, "panic: "); ok {
			return errors.New("the store cannot be opened: " + text)
		}
	}
	last := strings.TrimPrefix(lines[len(lines)-1], "collector: ")
	if text, ok := strings.CutPrefix(last, ErrNotTested.Error()+": "); ok {
		return fmt.Errorf("%w: %s", ErrNotTested, text)
	}
	if last != "" {
		return errors.New(last)
	}
	return fmt.Errorf("the checking process ended: %w", err)
}
