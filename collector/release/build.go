package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
)

// build makes the release in a directory beside its destination and moves it
// there when all of it is done.
func (o *options) build(ctx context.Context, stdout io.Writer) (err error) {
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(o.out), ".release-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	tree := filepath.Join(work, "tree")
	apt := aptTree{dir: filepath.Join(tree, "apt"), time: o.time}
	if err := os.MkdirAll(apt.pool(), 0o755); err != nil {
		return err
	}
	if o.previous != "" {
		// First, so that packages that this release builds again replace the old ones.
		if err := apt.keep(o.previous, o.signer); err != nil {
			return fmt.Errorf("--previous %s: %w", o.previous, err)
		}
	}
	fmt.Fprintf(stdout, "Bramble %s of %s, built by %s\n", o.version, o.time.Format("2006-01-02 15:04:05 MST"), runtime.Version())
	for _, p := range o.products {
		for _, arch := range p.archs {
			if !slices.Contains(o.archs, arch) {
				continue
			}
			if err := o.pack(ctx, stdout, p, arch, work, tree, apt.pool()); err != nil {
				return fmt.Errorf("%s for %s: %w", p.name, arch, err)
			}
		}
	}
	if err := o.finish(apt, tree); err != nil {
		return err
	}
	if err := os.Rename(tree, o.out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\n", o.out)
	return err
}

// pack makes a program, its archive and its package.
func (o *options) pack(ctx context.Context, stdout io.Writer, p product, arch, work, tree, pool string) error {
	dir := filepath.Join(work, p.name+"_"+arch)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	b := built{product: p, arch: arch, dir: dir, options: o}
	if err := b.compile(ctx); err != nil {
		return err
	}
	if err := b.collectLicences(ctx); err != nil {
		return err
	}
	archive, err := b.archive(tree)
	if err != nil {
		return err
	}
	deb, err := b.deb(pool)
	if err != nil {
		return err
	}
	return errors.Join(b.note(stdout, b.binary()), b.note(stdout, archive), b.note(stdout, deb))
}

// finish makes the files that cover the whole release: apt index, public key, checksums.
func (o *options) finish(apt aptTree, tree string) error {
	if err := apt.index(o.signer); err != nil {
		return fmt.Errorf("apt tree: %w", err)
	}
	if o.signer != nil {
		if err := o.signer.writePublicKey(filepath.Join(tree, keyringFile)); err != nil {
			return err
		}
	}
	return writeSums(tree, o.signer)
}

// built is a product for one architecture on its way into archive and package.
type built struct {
	*options
	product product
	arch    string
	dir     string // for its products
}

func (b *built) binary() string   { return filepath.Join(b.dir, b.product.command) }
func (b *built) licences() string { return filepath.Join(b.dir, "licenses.txt") }

// environment is the environment of the go command: it overrides the caller's settings that would
// change the program.
func (b *built) environment() []string {
	p := platforms[b.arch]
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+p.goarch, "GOARM="+p.goarm,
		"GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off", "GO111MODULE=on")
}

func (b *built) compile(ctx context.Context) error {
	args := slices.Concat([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.release=" + b.version.String()},
		b.product.flags, []string{"-o", b.binary(), "./" + b.product.command})
	_, err := b.run(ctx, args...)
	return err
}

// run runs a go command in the source and returns its output.
func (b *built) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = b.source, b.environment()
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, exit.Stderr)
	}
	return out, err
}

func (b *built) note(stdout io.Writer, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%10d bytes  %s\n", info.Size(), filepath.Base(file))
	return err
}
