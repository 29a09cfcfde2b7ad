// Release builds Bramble's published files from a source tree, with one command: archives and
// Debian packages of pisensor and collector, an apt tree, checksums, and signatures over these by a
// key that the caller gives.
//
// It owns how the files are made and laid out; the packages' content is plain files in
// pisensor/packaging and collector/packaging. It publishes nothing and makes no key. It is a module
// of its own, so that its libraries for packages stay out of the module that the boards and the
// server are built from.
//
// All files but the signatures are the same byte for byte, wherever and whenever the same Go builds
// the same source.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// flags is the command line.
type flags struct {
	Key            string   `help:"File with the OpenPGP secret key that signs, armored or binary." placeholder:"FILE"`
	PassphraseFile string   `help:"File whose first line is the key's passphrase." placeholder:"FILE"`
	Unsigned       bool     `help:"Sign nothing. For trying out only: apt refuses such a tree."`
	Release        string   `name:"version" help:"Version, such as v1.2.3 or v1.2.3-rc.1; by default the tag of the commit." placeholder:"V"`
	Out            string   `help:"Directory to make; it must not exist." default:"dist" placeholder:"DIR"`
	Previous       string   `help:"An earlier release; its packages stay in the apt tree, so that a rollback finds them." placeholder:"DIR"`
	Arch           []string `help:"Debian architectures to build: amd64, arm64, armhf." default:"amd64,arm64,armhf" placeholder:"A"`
	Product        []string `help:"Products to build: pisensor, collector." default:"pisensor,collector" placeholder:"P"`
	Maintainer     string   `help:"Maintainer field of the packages." default:"${maintainer}" placeholder:"NAME <MAIL>"`
	Source         string   `help:"Root of the source tree; relative names above are relative to it." default:"../.." placeholder:"DIR"`
}

// errHelp says that the person asked for help and got it.
var errHelp = errors.New("help was given")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parse(args, stdout, stderr)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	o, err := f.options(ctx)
	if err != nil {
		return err
	}
	return o.build(ctx, stdout)
}

// defaultMaintainer names nobody: .invalid never resolves.
const defaultMaintainer = "Bramble <maintainer@bramble.invalid>"

func parse(args []string, stdout, stderr io.Writer) (flags, error) {
	var f flags
	help := false
	p, err := kong.New(&f, kong.Name("release"), kong.Writers(stdout, stderr), kong.Vars{"maintainer": defaultMaintainer},
		kong.Description("Builds archives, Debian packages, an apt tree and checksums, and signs them."),
		kong.Exit(func(int) { help = true }))
	if err != nil {
		return f, err
	}
	_, err = p.Parse(args)
	if help {
		return f, errHelp
	}
	if err != nil {
		return f, fmt.Errorf("%w; see --help", err)
	}
	return f, nil
}

// firstLine returns the first line of a file.
func firstLine(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return []byte(strings.TrimSuffix(line, "\r")), nil
}
