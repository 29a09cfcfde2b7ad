package host

import (
	"bytes"
	"path/filepath"
	"strings"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// description lists the files that name the board's kernel, boot and system.
//
// The boot id changes with each boot. It travels with the description, and
// the collector keeps it out of the labels of pi_info: each boot would else
// begin a series of its own.
func description(r source.Roots) []*source.Text {
	kernel := filepath.Join(r.Procfs, "sys/kernel")
	return []*source.Text{
		source.NewText(report.AttributeKernel, source.Plain, filepath.Join(kernel, "osrelease")),
		source.NewText(report.AttributeBootID, source.Plain, filepath.Join(kernel, "random/boot_id")),
		// On a board without a disk /etc is the NFS server's, which may not answer.
		source.NewText(report.AttributeOS, prettyName, filepath.Join(r.Etc, "os-release")),
	}
}

// prettyName finds the system's name in an os-release file.
func prettyName(b []byte) (string, error) {
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("PRETTY_NAME=")); ok {
			return strings.Trim(string(v), `"'`), nil
		}
	}
	return "", source.ErrAbsent
}
