package soc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// description names the files that say which board this is: the device tree,
// and where a kernel was started without one, the lines of a 32-bit kernel's
// cpuinfo.
func description(r source.Roots) []*source.Text {
	tree, cpuinfo := filepath.Join(r.Procfs, "device-tree"), filepath.Join(r.Procfs, "cpuinfo")
	return []*source.Text{
		source.NewText(report.AttributeModel, model, filepath.Join(tree, "model"), cpuinfo),
		source.NewText(report.AttributeRevision, revision, filepath.Join(tree, "system/linux,revision"), cpuinfo),
	}
}

// model is the device tree's text, which ends with a NUL, or cpuinfo's line.
func model(b []byte) (string, error) {
	if bytes.IndexByte(b, 0) >= 0 {
		return string(b), nil
	}
	return cpuinfoLine(b, "Model")
}

// revision writes the board's revision code, four bytes in the device tree, as
// cpuinfo does.
func revision(b []byte) (string, error) {
	if len(b) == 4 {
		return fmt.Sprintf("%04x", binary.BigEndian.Uint32(b)), nil
	}
	v, err := cpuinfoLine(b, "Revision")
	if err != nil {
		return "", err
	}
	if _, err := source.Hex([]byte(v)); err != nil {
		return "", err
	}
	return v, nil
}

// cpuinfoLine finds a line that stands once, behind the processors'.
func cpuinfoLine(b []byte, name string) (string, error) {
	for line := range bytes.Lines(b) {
		key, value, ok := bytes.Cut(line, []byte{':'})
		if ok && string(bytes.TrimSpace(key)) == name {
			return string(bytes.TrimSpace(value)), nil
		}
	}
	return "", source.ErrAbsent
}
