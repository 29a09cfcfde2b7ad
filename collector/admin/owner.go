package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ActAsOwner lets a process of root's go on as the user whom a data directory belongs to, for good and on all threads:
// a database's -wal file, a segment or a socket of root's would lock the service out. It does nothing for any other
// user, where root owns the directory, and where there is none yet. name is "" where nothing changed.
func ActAsOwner(dir string) (name string, err error) {
	if os.Geteuid() != 0 {
		return "", nil
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look whose data directory it is: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		return "", nil
	}
	name, groups := groupsOf(int(owner.Uid), int(owner.Gid))
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(groups) },
		func() error { return syscall.Setgid(groups[0]) },
		func() error { return syscall.Setuid(int(owner.Uid)) },
	} {
		if err := step(); err != nil {
			return "", fmt.Errorf("go on as user %s, whose data directory %s is: %w", name, dir, err)
		}
	}
	return name, nil
}

// groupsOf names a user and lists the groups, the primary one first: a user without an account has the directory's alone.
func groupsOf(uid, gid int) (name string, groups []int) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return strconv.Itoa(uid), []int{gid}
	}
	if primary, err := strconv.Atoi(u.Gid); err == nil {
		gid = primary
	}
	groups = []int{gid}
	all, err := u.GroupIds()
	if err != nil {
		return u.Username, groups // the primary one is enough for the data directory
	}
	for _, text := range all {
		if id, err := strconv.Atoi(text); err == nil && id != gid {
			groups = append(groups, id)
		}
	}
	return u.Username, groups
}
