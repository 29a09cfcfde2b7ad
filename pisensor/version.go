package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// release is set by the release build with -ldflags -X.
var release string

// versionText is the release, else the module version that Go recorded in the binary.
func versionText() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func version(_ context.Context, args []string, stdout, stderr io.Writer) error {
	var c config
	if _, err := parse(c.flags("version", "", stderr), args, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "pisensor %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
