package main

// platform is Go's target for a Debian architecture.
type platform struct {
	goarch, goarm string
	archive       string // its name in an archive's name
}

// platforms by Debian's names. armhf is ARMv7 with Debian and ARMv6 with
// Raspbian and Raspberry Pi OS; code for ARMv6 runs on both.
var platforms = map[string]platform{
	"amd64": {goarch: "amd64", archive: "linux_amd64"},
	"arm64": {goarch: "arm64", archive: "linux_arm64"},
	"armhf": {goarch: "arm", goarm: "6", archive: "linux_armv6"},
}

// product is a program and the content of its package.
type product struct {
	command     string // the program, and its folder in the source
	name        string // of the Debian package and the archives
	archs       []string
	flags       []string // of `go build`, beside those that all have
	section     string
	depends     []string
	recommends  []string
	description string
	files       []file
}

// file is a file of a package. Its source is relative to the root of the source.
type file struct {
	source, target string
	conf           bool // a conffile: an upgrade keeps the operator's changes
}

// Units and udev rules lie in /lib, where systems with and without a merged
// /usr look for them.
var products = []product{
	{
		command: "pisensor", name: "pisensor", archs: []string{"amd64", "arm64", "armhf"},
		// Inlining everywhere makes the program a tenth larger. In the packages that a
		// tick runs through most it takes a twelfth off a tick at 1 Hz, and no place;
		// the last three become smaller by it, and pisensor/source, which is the kernel's time, larger.
		flags: []string{"-gcflags=all=-l", "-gcflags=bramble/...=", "-gcflags=bramble/pisensor/report=-l", "-gcflags=bramble/pisensor/source=-l", "-gcflags=bramble/pisensor/spool=-l", "-gcflags=runtime=", "-gcflags=internal/runtime/...=",
			"-gcflags=bytes=", "-gcflags=hash/...=", "-gcflags=crypto/internal/fips140/aes/...="},
		section: "net", depends: []string{"adduser"},
		description: `temperature and true clock of a Raspberry Pi, for Bramble
A light daemon that reads the SoC's temperature, the requested and the
measured CPU clock and the firmware's throttle bits, and publishes them
over NATS to a Bramble collector. It writes nothing to the disk while it
runs, and keeps a day of readings in memory while the collector is away.

It does nothing until the board is enrolled; see pisensor(1).`,
		files: []file{
			{source: "pisensor/packaging/pisensor.service", target: "/lib/systemd/system/pisensor.service"},
			{source: "pisensor/packaging/pisensor.udev", target: "/lib/udev/rules.d/60-pisensor.rules"},
			{source: "pisensor/packaging/pisensor.sysusers", target: "/usr/lib/sysusers.d/pisensor.conf"},
			{source: "pisensor/packaging/pisensor.tmpfiles", target: "/usr/lib/tmpfiles.d/pisensor.conf"},
			{source: "pisensor/packaging/pisensor.default", target: "/etc/default/pisensor", conf: true},
			{source: "docs/netboot.md", target: "/usr/share/doc/pisensor/netboot.md"},
		},
	},
	{
		command: "collector", name: "bramble-collector", archs: []string{"amd64", "arm64"},
		section: "net", depends: []string{"adduser", "ca-certificates"}, recommends: []string{"tzdata"},
		description: `server that watches racks of Raspberry Pi boards
Bramble's server: it takes the boards' reports over NATS, stores the series,
pages the person on call, and shows live graphs in the browser. Store and
message server are built in.

As installed it answers on loopback only; see collector(1).`,
		files: []file{
			{source: "collector/packaging/bramble-collector.service", target: "/lib/systemd/system/bramble-collector.service"},
			{source: "collector/packaging/bramble-collector.sysusers", target: "/usr/lib/sysusers.d/bramble-collector.conf"},
			{source: "collector/packaging/collector.yml", target: "/etc/bramble/collector.yml", conf: true},
			{source: "docs/configuration.md", target: "/usr/share/doc/bramble-collector/configuration.md"},
			{source: "alerting/rules/default.rules.yml", target: "/usr/share/doc/bramble-collector/examples/default.rules.yml"},
		},
	},
}
