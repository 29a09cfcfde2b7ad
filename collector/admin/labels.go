package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"bramble/collector/registry"
)

// unusual is the flag of each command that sets labels.
type unusual struct {
	UnusualLabels bool `help:"Take label names that look like a misspelt rack, switch, nfs, site or customer, without asking."`
}

// labelled is a command that sets labels.
type labelled interface {
	// labels returns NAME=VALUE pairs as they were typed, and whether unusual names are meant.
	labels() (typed []string, meant bool)
}

func (a *boardAdd) labels() ([]string, bool)   { return a.Label, a.Unusual.UnusualLabels }
func (a *boardToken) labels() ([]string, bool) { return a.Label, a.Unusual.UnusualLabels }
func (a *boardLabel) labels() ([]string, bool) { return a.Labels, a.Unusual.UnusualLabels }

// confirmLabels asks about each label whose name is one letter away from a
// name that groups boards: a misspelt one would leave the board out of its
// domain, or hide it from its customer, and nobody would notice. Where nobody
// can be asked it refuses.
func confirmLabels(ctx context.Context, c command, stdin io.Reader, stderr io.Writer) error {
	l, ok := c.(labelled)
	if !ok {
		return nil
	}
	typed, meant := l.labels()
	if meant {
		return nil
	}
	for _, arg := range typed {
		name, value, _ := strings.Cut(arg, "=")
		near := registry.Misspelt(name)
		if near == "" || value == "" { // deleting a misspelt label is the cure
			continue
		}
		yes, err := agree(ctx, stdin, stderr, fmt.Sprintf("label %q: boards are grouped by %q; %q is an ordinary label. Set it all the same?", arg, near, name))
		if err != nil {
			return err
		}
		if !yes {
			return fmt.Errorf("label %q: %q is one letter away from %q, by which boards are grouped: write %s=%s, or give --unusual-labels if you mean it", arg, name, near, near, value)
		}
	}
	return nil
}

// agree asks a question on a terminal; elsewhere nobody agrees.
func agree(ctx context.Context, stdin io.Reader, stderr io.Writer, question string) (bool, error) {
	f, _ := terminal(stdin)
	if f == nil {
		return false, nil
	}
	fmt.Fprint(stderr, question+" [y/N] ")
	text, err := typed(ctx, "answer", func() (string, error) { return bufio.NewReader(io.LimitReader(f, maxLine)).ReadString('\n') })
	if err != nil {
		return false, fmt.Errorf("read answer: %w", err)
	}
	text = strings.ToLower(strings.TrimSpace(text))
	return text == "y" || text == "yes", nil
}
