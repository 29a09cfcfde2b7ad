package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options is a command line that was understood and can be carried out.
type options struct {
	source     string // absolute
	out        string // absolute
	previous   string // absolute, or empty
	version    version
	time       time.Time // of everything that is made; not of signatures
	signer     *signer   // nil = unsigned
	maintainer string
	products   []product
	archs      []string // Debian's names
}

// options validates the flags and reports every problem of them.
func (f *flags) options(ctx context.Context) (*options, error) {
	source, err := filepath.Abs(f.Source)
	if err != nil {
		return nil, err
	}
	o := &options{source: source, out: f.under(source, f.Out), previous: f.under(source, f.Previous), maintainer: f.Maintainer, archs: f.Arch}
	if b, err := os.ReadFile(filepath.Join(source, "go.mod")); err != nil || !strings.HasPrefix(string(b), "module bramble\n") {
		return nil, fmt.Errorf("--source %s is not the root of Bramble's source (no go.mod of the module bramble)", source)
	}
	var keyErr, versionErr, timeErr, productErr error
	o.signer, keyErr = f.signer(source)
	o.version, versionErr = f.version(ctx, source)
	o.time, timeErr = sourceTime(ctx, source)
	o.products, productErr = f.products()
	return o, errors.Join(keyErr, versionErr, timeErr, productErr, o.checkOut(), o.checkMaintainer())
}

// checkOut wants the destination to be free: nothing is overwritten, nothing mixed.
func (o *options) checkOut() error {
	if _, err := os.Lstat(o.out); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--out %s exists: remove it or name another", o.out)
	}
	return nil
}

func (o *options) checkMaintainer() error {
	if _, err := mail.ParseAddress(o.maintainer); err != nil || strings.ContainsAny(o.maintainer, "\r\n") {
		return fmt.Errorf("--maintainer %q is not like `Name <name@example.org>`", o.maintainer)
	}
	return nil
}

// under makes a name absolute, relative to the source's root. The working
// directory is of no use: `go run -C` sets it.
func (*flags) under(source, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(source, name)
}

// signer opens the key. Without one it requires --unsigned.
func (f *flags) signer(source string) (*signer, error) {
	switch {
	case f.Key == "" && !f.Unsigned:
		return nil, errors.New("no key: give --key FILE with the OpenPGP secret key that signs, or say --unsigned")
	case f.Key != "" && f.Unsigned:
		return nil, errors.New("--key and --unsigned: give one of them")
	case f.Unsigned:
		return nil, nil
	}
	var passphrase []byte
	if f.PassphraseFile != "" {
		var err error
		if passphrase, err = firstLine(f.under(source, f.PassphraseFile)); err != nil {
			return nil, fmt.Errorf("read passphrase: %w", err)
		}
	}
	return openSigner(f.under(source, f.Key), passphrase)
}

func (f *flags) version(ctx context.Context, source string) (version, error) {
	if f.Release != "" {
		return parseVersion(f.Release)
	}
	return tagged(ctx, source)
}

func (f *flags) products() ([]product, error) {
	var chosen []product
	for _, name := range f.Product {
		i := slices.IndexFunc(products, func(p product) bool { return p.command == name })
		if i < 0 {
			return nil, fmt.Errorf("--product %q: want pisensor or collector", name)
		}
		chosen = append(chosen, products[i])
	}
	for _, arch := range f.Arch {
		if _, known := platforms[arch]; !known {
			return nil, fmt.Errorf("--arch %q: want amd64, arm64 or armhf", arch)
		}
	}
	return chosen, nil
}
