package host

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// maxDevices is how many devices are reported: a Pi has two and room for more
// on USB. Four leave room for the rest of a board's 64 series.
const maxDevices = 4

// network is the board's network devices: those with hardware of their own.
// Loopback, bridges and containers' ends are not, and would be counted twice.
type network struct {
	*source.File          // /proc/net/dev: counters of all devices at once
	class        string   // /sys/class/net
	devices      []device // in the order of their names, at most maxDevices
	seed         maphash.Seed
	names        uint64 // hash of the names among which devices were found
	lines        counters
}

type device struct {
	name    string
	carrier *source.Value // how often the link came or went; kernels before 3.15 do not say
}

func newNetwork(r source.Roots) *network {
	return &network{
		File:  source.NewFile(source.At(filepath.Join(r.Procfs, "net/dev"))),
		class: filepath.Join(r.Sysfs, "class/net"), seed: maphash.MakeSeed(),
	}
}

// Prompt is source.Prompt's.
func (n *network) Prompt() bool {
	return n.names != 0 && n.File.Prompt() && !slices.ContainsFunc(n.devices, func(d device) bool { return !d.carrier.Prompt() })
}

// Read adds the devices' counters. They begin again when a device reappears; on 32-bit kernels
// those of some drivers begin again at 4 GiB.
func (n *network) Read(t *report.Tick, scratch []byte) error {
	b, err := n.ReadAll(scratch)
	if err != nil {
		return err
	}
	err = n.lines.parse(b)
	if h := n.hash(); err == nil && h != n.names {
		err = n.find(h)
	}
	for i := range n.devices {
		err = errors.Join(err, n.devices[i].add(t, &n.lines, scratch))
	}
	return err
}

// hash changes when a device comes, goes or is renamed.
func (n *network) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(n.seed)
	for i := range n.lines.found {
		h.Write(n.lines.found[i].name)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// find looks for the devices among those whose names have this hash.
func (n *network) find(names uint64) error {
	entries, err := os.ReadDir(n.class)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.names, err = names, n.forget()
	for _, e := range entries {
		path := filepath.Join(n.class, e.Name())
		if _, err := os.Stat(filepath.Join(path, "device")); err != nil || len(n.devices) == maxDevices {
			continue // nothing but software
		}
		if !ordinary(e.Name()) {
			err = errors.Join(err, fmt.Errorf("network device %q is not reported: name it with letters, digits and . _ : @ - alone", e.Name()))
			continue
		}
		n.devices = append(n.devices, device{e.Name(),
			source.NewValue(report.NetworkCarrier, source.Integer, source.At(filepath.Join(path, "carrier_changes")))})
	}
	return err
}

// ordinary reports whether a name can stand on the wire as an instance. The
// kernel allows nearly anything in a device's name.
func ordinary(name string) bool {
	return len(name) <= report.MaxInstance && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._:@-", r)
	})
}

func (n *network) forget() (err error) {
	for _, d := range n.devices {
		err = errors.Join(err, d.carrier.Close())
	}
	n.devices = n.devices[:0]
	return err
}

func (d *device) add(t *report.Tick, all *counters, scratch []byte) error {
	c := all.of(d.name)
	if c == nil {
		return nil // it has gone since
	}
	err := errors.Join(
		source.AddInstance(t, report.NetworkReceive, d.name, c.received),
		source.AddInstance(t, report.NetworkTransmit, d.name, c.sent),
		source.AddInstance(t, report.NetworkErrors, d.name, c.errors))
	changes, failed := d.carrier.Get(scratch)
	switch {
	case errors.Is(failed, source.ErrAbsent):
	case errors.Is(failed, unix.EINVAL): // the device is being removed
		err = errors.Join(err, d.carrier.Close())
	case failed != nil:
		err = errors.Join(err, fmt.Errorf("%s: %w", d.name, failed))
	default:
		err = errors.Join(err, source.AddInstance(t, report.NetworkCarrier, d.name, changes))
	}
	return err
}

// Close closes the files.
func (n *network) Close() error { return errors.Join(n.File.Close(), n.forget()) }
