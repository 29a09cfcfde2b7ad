package source

import "cmp"

// Roots say where the kernel's trees are mounted. Empty fields mean the usual places.
type Roots struct {
	Sysfs  string // /sys
	Procfs string // /proc
	Devfs  string // /dev
	Etc    string // /etc, for os-release
}

// Complete returns the roots with the usual places in empty fields.
func (r Roots) Complete() Roots {
	return Roots{
		Sysfs: cmp.Or(r.Sysfs, "/sys"), Procfs: cmp.Or(r.Procfs, "/proc"),
		Devfs: cmp.Or(r.Devfs, "/dev"), Etc: cmp.Or(r.Etc, "/etc"),
	}
}
