package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPackages(t *testing.T) {
	program(t, "dpkg", "dpkg-deb", "lintian", "man", "mandoc", "systemd-analyze", "gzip")
	old := release(t, "--unsigned", "--version", "v1.0.0", "--product", "pisensor", "--arch", architecture(t))
	out := release(t, "--unsigned", "--version", "v1.1.0", "--previous", old)
	pool := filepath.Join(out, "apt", poolName)

	for _, p := range products {
		for _, arch := range p.archs {
			deb := filepath.Join(pool, p.name+"_1.1.0_"+arch+".deb")
			t.Run(p.name+"/"+arch, func(t *testing.T) { checkDeb(t, deb, p, arch) })
		}
	}
	t.Run("lists", func(t *testing.T) { checkLists(t, out) })
	t.Run("life of pisensor", func(t *testing.T) {
		livePisensor(t, newRoot(t), filepath.Join(pool, "pisensor_1.0.0_"+architecture(t)+".deb"), filepath.Join(pool, "pisensor_1.1.0_"+architecture(t)+".deb"))
	})
	t.Run("life of the collector", func(t *testing.T) {
		liveCollector(t, newRoot(t), filepath.Join(pool, "bramble-collector_1.1.0_"+architecture(t)+".deb"))
	})
}

// architecture is this machine's, by Debian's name.
func architecture(t *testing.T) string {
	t.Helper()
	program(t, "dpkg")
	return strings.TrimSpace(must(t, "dpkg", "--print-architecture"))
}

func checkDeb(t *testing.T, deb string, p product, arch string) {
	// Go builds a static binary, which runs on every Debian.
	must(t, "lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags", "statically-linked-binary", deb)
	for line := range strings.Lines(must(t, "dpkg-deb", "--contents", deb)) {
		if f := strings.Fields(line); f[1] != "root/root" || f[3] != "2023-11-14" && f[3] != "2023-11-15" || strings.Contains(f[0], "w--w") {
			t.Errorf("odd: %s", line)
		}
	}
	dir := t.TempDir()
	must(t, "dpkg-deb", "--extract", deb, dir)
	info, err := buildinfo.ReadFile(filepath.Join(dir, "usr/bin", p.command))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"GOARCH": platforms[arch].goarch, "GOARM": platforms[arch].goarm, "CGO_ENABLED": "0", "-trimpath": "true"}
	for _, s := range info.Settings {
		if v, asked := want[s.Key]; asked && v != s.Value {
			t.Errorf("%s=%s, want %s", s.Key, s.Value, v)
		}
		delete(want, s.Key)
	}
	delete(want, "GOARM") // only the ARM build names it
	if len(want) > 0 {
		t.Errorf("not said by the program: %v", want)
	}
	page := filepath.Join(dir, "usr/share/man/man1", p.command+".1.gz")
	if said := must(t, "man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page); strings.Contains(said, "warning:") {
		t.Errorf("man: %s", said)
	}
	must(t, "mandoc", "-T", "lint", "-W", "warning", page)
	licences := must(t, "gzip", "-cd", filepath.Join(dir, "usr/share/doc", p.name, "licenses.txt.gz"))
	for _, m := range []string{"Copyright 2009 The Go Authors", "github.com/nats-io/nats.go v", "Apache License"} {
		if !strings.Contains(licences, m) {
			t.Errorf("no %q in licenses.txt", m)
		}
	}
	for _, m := range info.Deps {
		if !strings.Contains(licences, m.Path+" "+m.Version) {
			t.Errorf("no licence of %s", m.Path)
		}
	}
}

// checkLists wants the lists to name every package of the tree, old versions too.
func checkLists(t *testing.T, out string) {
	for arch, want := range map[string]int{"armhf": 1, "arm64": 2, "amd64": 2} {
		if arch == architecture(t) {
			want++
		}
		b, err := os.ReadFile(filepath.Join(out, "apt/dists", suite, "main/binary-"+arch, "Packages"))
		if err != nil || bytes.Count(b, []byte("\nFilename: pool/")) != want {
			t.Errorf("%s: %v, want %d packages in\n%s", arch, err, want, b)
		}
	}
}

func livePisensor(t *testing.T, r root, old, new string) {
	const conf, key, wanted = "/etc/default/pisensor", "/var/lib/pisensor/board.nk", "/etc/systemd/system/multi-user.target.wants/pisensor.service"
	is := func(version string) {
		t.Helper()
		if got := r.must("pisensor", "version"); !strings.HasPrefix(got, "pisensor "+version+" ") {
			t.Errorf("runs %s, want %s", got, version)
		}
		r.has(conf, "PISENSOR_OPTIONS=\"--interval 30s\"\n")
		r.has(key, "a key")
	}
	r.install(old)
	if got := r.must("stat", "-c", "%U:%G %a", "/var/lib/pisensor"); got != "pisensor:pisensor 700\n" {
		t.Errorf("state directory: %s", got)
	}
	if got := r.must("id", "-nG", "pisensor"); got != "pisensor video\n" {
		t.Errorf("groups of the user: %s", got)
	}
	r.exists(wanted, true)
	if said := r.must("systemd-analyze", "verify", "--man=no", "/lib/systemd/system/pisensor.service"); strings.Contains(said, "pisensor") {
		t.Errorf("systemd-analyze verify: %s", said)
	}
	r.write(conf, "PISENSOR_OPTIONS=\"--interval 30s\"\n")
	r.write(key, "a key")
	is("1.0.0")
	r.install(new)
	is("1.1.0")
	r.install(old)
	is("1.0.0")
	r.must("dpkg", "--remove", "pisensor")
	r.exists("/usr/bin/pisensor", false)
	r.has(key, "a key")
	r.install(new)
	is("1.1.0")
	r.must("systemctl", "disable", "pisensor.service")
	r.install(old)
	r.exists(wanted, false)

	r.write("/etc/pisensor/enrol", "PISENSOR_TOKEN=secret\n")
	r.must("dpkg", "--purge", "pisensor")
	for _, name := range r.changed() {
		if strings.Contains(name, "pisensor") {
			t.Errorf("purge leaves %s", name)
		}
	}
	r.must("id", "pisensor")
}

func liveCollector(t *testing.T, r root, deb string) {
	const conf, data = "/etc/bramble/collector.yml", "/var/lib/bramble/state.db"
	r.install(deb)
	if got := r.must("stat", "-c", "%U:%G %a", "/var/lib/bramble"); got != "bramble:bramble 700\n" {
		t.Errorf("data directory: %s", got)
	}
	r.exists("/etc/systemd/system/multi-user.target.wants/bramble-collector.service", true)
	if said := r.must("systemd-analyze", "verify", "--man=no", "/lib/systemd/system/bramble-collector.service"); strings.Contains(said, "bramble") {
		t.Errorf("systemd-analyze verify: %s", said)
	}
	r.must("collector", "rules", "check", "/usr/share/doc/bramble-collector/examples/default.rules.yml")
	r.write(data, "history")
	r.write(conf, "nats: nonsense\n")
	if said, err := r.run("collector", "serve", "--config", conf); err == nil || !strings.Contains(said, conf+":1: nats") {
		t.Errorf("serve with a broken file: %v: %s", err, said)
	}
	r.install(deb)
	r.has(conf, "nats: nonsense\n")
	r.must("dpkg", "--purge", "bramble-collector")
	r.has(data, "history")
	for _, name := range r.changed() {
		if strings.Contains(name, "bramble") && !strings.HasPrefix(name, "var/lib/bramble") {
			t.Errorf("purge leaves %s", name)
		}
	}
}
