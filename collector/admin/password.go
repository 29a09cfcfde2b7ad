package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// wantsPassword reports whether a command reads one.
func wantsPassword(c command) bool {
	switch c.(type) {
	case *userAdd, *userPasswd:
		return true
	}
	return false
}

// password reads one line: twice and unseen from a terminal, else as it comes.
func password(ctx context.Context, stdin io.Reader, stderr io.Writer) (string, error) {
	f, saved := terminal(stdin)
	if f == nil {
		return line(stdin)
	}
	quiet := *saved
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ECHONL | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &quiet); err != nil {
		return "", fmt.Errorf("hide password: %w", err)
	}
	text, err := typed(ctx, "password", func() (string, error) { return twice(bufio.NewReader(io.LimitReader(f, 2*maxLine)), stderr) })
	return text, errors.Join(err, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, saved))
}

// terminal returns stdin and its settings where a person sits in front of it, else nil.
func terminal(stdin io.Reader) (*os.File, *unix.Termios) {
	f, ok := stdin.(*os.File)
	if !ok {
		return nil, nil
	}
	settings, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, nil
	}
	return f, settings
}

// typed reads an answer from the terminal. When ctx ends first, its goroutine
// stays with the terminal until the program's end: a read from a terminal
// cannot be called back.
func typed(ctx context.Context, name string, ask func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := ask()
		read <- result{text, err}
	}()
	select {
	case r := <-read:
		return r.text, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("read %s: %w", name, ctx.Err())
	}
}

func twice(r *bufio.Reader, stderr io.Writer) (string, error) {
	var typed [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(stderr, prompt)
		text, err := r.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		typed[i] = strings.TrimRight(text, "\r\n")
	}
	if typed[0] != typed[1] {
		return "", errors.New("read password: the two differ: try again")
	}
	return typed[0], nil
}
