package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// epoch is the time of the releases that the tests make.
const epoch = "1700000000"

// program looks for a program of Debian's. A machine without it skips, unless
// BRAMBLE_REQUIRE_PACKAGING says that it has to be there.
func program(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("BRAMBLE_REQUIRE_PACKAGING") != "" {
			t.Fatalf("%s is missing", name)
		}
		t.Skipf("%s is missing", name)
	}
}

// output runs a program and returns all that it says.
func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a program that has to succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := output(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// secretKey makes a throw-away key and returns the file that holds it.
func secretKey(t *testing.T, passphrase string) string {
	t.Helper()
	e, err := openpgp.NewEntity("Throw-away", "for a test", "test@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PrivateKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if passphrase != "" {
		if err := e.EncryptPrivateKeys([]byte(passphrase), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.SerializePrivateWithoutSigning(w, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return write(t, "key.asc", b.String())
}

// write keeps a text in a file of its own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// release makes a release and returns its directory.
func release(t *testing.T, args ...string) string {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	out := filepath.Join(t.TempDir(), "out")
	if err := run(t.Context(), append(args, "--out", out), io.Discard, os.Stderr); err != nil {
		t.Fatal(err)
	}
	return out
}

// flip changes one bit in the middle of a file, and returns a function that restores it.
func flip(t *testing.T, file string) (restore func()) {
	t.Helper()
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	after := bytes.Clone(before)
	after[len(after)/2] ^= 1
	if err := os.WriteFile(file, after, 0o644); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(file, before, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSignedRelease(t *testing.T) {
	program(t, "gpgv", "apt-get", "sha256sum", "dpkg-deb")
	key := secretKey(t, "open sesame")
	flags := []string{"--key", key, "--passphrase-file", write(t, "passphrase", "open sesame\n"), "--product", "pisensor", "--arch", "amd64"}
	old := release(t, append(flags, "--version", "v1.0.0-rc.1")...)
	out := release(t, append(flags, "--version", "v1.0.0", "--previous", old)...)

	t.Run("signatures", func(t *testing.T) { checkSignatures(t, out) })
	t.Run("checksums", func(t *testing.T) { checkSums(t, out) })
	t.Run("apt", func(t *testing.T) { checkApt(t, out) })
	t.Run("previous", func(t *testing.T) {
		other := []string{"--key", secretKey(t, ""), "--product", "pisensor", "--arch", "amd64", "--version", "v1.0.0"}
		refused(t, append(other, "--previous", old), "is not signed by the key of this release")
		restore := flip(t, filepath.Join(old, "apt/pool/main/pisensor_1.0.0~rc.1_amd64.deb"))
		defer restore()
		refused(t, append(flags, "--version", "v1.0.0", "--previous", old), "is not the file that SHA256SUMS names")
	})
}

func checkSignatures(t *testing.T, out string) {
	dist := filepath.Join(out, "apt/dists", suite)
	sums := filepath.Join(out, sumsFile)
	for _, files := range [][]string{{sums + ".asc", sums}, {filepath.Join(dist, "Release.gpg"), filepath.Join(dist, "Release")}, {filepath.Join(dist, "InRelease")}} {
		args := append([]string{"--keyring", filepath.Join(out, keyringFile)}, files...)
		must(t, "gpgv", args...)
		restore := flip(t, files[len(files)-1])
		if said, err := output("gpgv", args...); err == nil {
			t.Errorf("gpgv takes %s with a flipped bit:\n%s", files, said)
		}
		restore()
	}
}

func checkSums(t *testing.T, out string) {
	check := func() (string, error) {
		cmd := exec.Command("sha256sum", "--check", "--strict", "--quiet", sumsFile)
		cmd.Dir = out
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	if said, err := check(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, name := range []string{"pisensor_1.0.0_linux_amd64.tar.gz", "apt/pool/main/pisensor_1.0.0_amd64.deb", keyringFile} {
		restore := flip(t, filepath.Join(out, name))
		if said, err := check(); err == nil || !strings.Contains(said, name+": FAILED") {
			t.Errorf("%s has a flipped bit: %v: %s", name, err, said)
		}
		restore()
	}
}

// checkApt lets apt install from the tree, with folders of its own.
func checkApt(t *testing.T, out string) {
	tree := filepath.Join(out, "apt")
	fresh := func() *apt { return newApt(t, tree, filepath.Join(out, keyringFile)) }
	a := fresh()
	a.must("update")
	a.must("--download-only", "install", "pisensor")
	a.must("--download-only", "--allow-downgrades", "install", "pisensor=1.0.0~rc.1")
	if said, err := a.run("--download-only", "install", "pisensor=0.9"); err == nil {
		t.Errorf("apt found a version that is not there:\n%s", said)
	}
	for _, name := range []string{"dists/stable/InRelease", "dists/stable/main/binary-amd64/Packages.gz"} {
		restore := flip(t, filepath.Join(tree, name))
		if said, err := fresh().run("update"); err == nil {
			t.Errorf("apt-get update takes %s with a flipped bit:\n%s", name, said)
		}
		restore()
	}
	restore := flip(t, filepath.Join(tree, "pool/main/pisensor_1.0.0_amd64.deb"))
	defer restore()
	a = fresh()
	a.must("update")
	if said, err := a.run("--download-only", "install", "pisensor"); err == nil {
		t.Errorf("apt-get install takes a package with a flipped bit:\n%s", said)
	}
	if said, err := newApt(t, tree, "").run("update"); err == nil {
		t.Errorf("apt takes the tree without its key:\n%s", said)
	}
}

// apt is Debian's apt-get with its state in a directory of the test.
type apt struct {
	t       *testing.T
	options []string
}

func newApt(t *testing.T, tree, keyring string) *apt {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"etc/preferences.d", "etc/trusted.gpg.d", "lists/partial", "cache/archives/partial", "log", "dpkg"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	by := ""
	if keyring != "" {
		by = " signed-by=" + keyring
	}
	// copy:, so that apt checks the files it takes rather than linking to them.
	list := "deb [arch=amd64" + by + "] copy:" + tree + " " + suite + " main\n"
	for name, text := range map[string]string{"etc/sources.list": list, "dpkg/status": adduserInstalled} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a := &apt{t: t, options: []string{"-y", "-q"}}
	for _, o := range []string{
		"Dir::Etc=" + dir + "/etc", "Dir::Etc::SourceList=sources.list", "Dir::Etc::SourceParts=/dev/null", "Dir::Etc::TrustedParts=" + dir + "/etc/trusted.gpg.d",
		"Dir::Etc::Trusted=/dev/null", "Dir::State=" + dir, "Dir::State::status=" + dir + "/dpkg/status", "Dir::Cache=" + dir + "/cache", "Dir::Log=" + dir + "/log",
		"APT::Architecture=amd64", "APT::Architectures=amd64", "APT::Sandbox::User=root", "APT::Update::Error-Mode=any", "Acquire::Languages=none",
	} {
		a.options = append(a.options, "-o", o)
	}
	return a
}

// adduserInstalled is dpkg's entry of the one package that ours depend on.
const adduserInstalled = "Package: adduser\nStatus: install ok installed\nArchitecture: all\nVersion: 3.134\nMaintainer: nobody <nobody@example.org>\nDescription: users\n\n"

func (a *apt) run(args ...string) (string, error) {
	return output("apt-get", append(a.options, args...)...)
}

func (a *apt) must(args ...string) {
	a.t.Helper()
	if said, err := a.run(args...); err != nil {
		a.t.Fatalf("apt-get %s: %v\n%s", args, err, said)
	}
}

// refused wants a command line to fail with a text, and to leave nothing.
func refused(t *testing.T, args []string, want string) {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	parent := t.TempDir()
	err := run(t.Context(), append(args, "--out", filepath.Join(parent, "out")), io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v: %v; want %q", args, err, want)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("%v leaves %v, %v", args, left, err)
	}
}

func TestRefusals(t *testing.T) {
	program(t, "git")
	f := func(want string, args ...string) { t.Helper(); refused(t, args, want) }
	f("give --key FILE with the OpenPGP secret key that signs, or say --unsigned", "--version", "v1.0.0")
	f("give one of them", "--unsigned", "--key", "x", "--version", "v1.0.0")
	f("version \"1.0\" is not like v1.2.3", "--unsigned", "--version", "1.0")
	f("version \"v1.0.0-a-b\" is not like", "--unsigned", "--version", "v1.0.0-a-b")
	f("--arch \"i386\": want amd64", "--unsigned", "--version", "v1.0.0", "--arch", "i386")
	f("--product \"storage\": want pisensor", "--unsigned", "--version", "v1.0.0", "--product", "storage")
	f("--maintainer \"me\"", "--unsigned", "--version", "v1.0.0", "--maintainer", "me")
	f("not an OpenPGP key", "--version", "v1.0.0", "--key", write(t, "key", "nonsense"))
	f("is protected: give --passphrase-file", "--version", "v1.0.0", "--key", secretKey(t, "sesame"))
	f("the passphrase does not open it", "--version", "v1.0.0", "--key", secretKey(t, "sesame"), "--passphrase-file", write(t, "p", "melon"))
	f("is not the root of Bramble's source", "--unsigned", "--source", t.TempDir())
	nowhere := filepath.Join(t.TempDir(), "none")
	f("--previous "+nowhere+": open "+nowhere, "--unsigned", "--version", "v1.0.0", "--previous", nowhere)
	f("see --help", "--unsinged")

	taken := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	err := run(t.Context(), []string{"--unsigned", "--version", "v1.0.0", "--out", taken}, io.Discard, io.Discard)
	for _, want := range []string{"exists: remove it", `SOURCE_DATE_EPOCH: "yesterday"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &out, io.Discard); err != nil || !strings.Contains(out.String(), "--unsigned") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestReproducible builds in another folder with another cache, umask-like modes
// and time zone, and wants the same bytes.
func TestReproducible(t *testing.T) {
	flags := []string{"--unsigned", "--version", "v1.0.0", "--product", "pisensor", "--arch", "amd64"}
	first := release(t, flags...)
	elsewhere := copySource(t)
	t.Setenv("GOCACHE", t.TempDir())
	t.Setenv("TZ", "Pacific/Chatham")
	t.Setenv("GOFLAGS", "-tags=other")
	second := release(t, append(flags, "--source", elsewhere)...)
	a, err := os.ReadFile(filepath.Join(first, sumsFile))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(second, sumsFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) || bytes.Count(a, []byte("\n")) < 5 {
		t.Errorf("not the same:\n%s\n%s", a, b)
	}
}

// copySource copies the tracked files to a folder without git, readable by the owner only.
func copySource(t *testing.T) string {
	t.Helper()
	program(t, "git")
	dir := t.TempDir()
	list, err := git(context.Background(), "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	for _, name := range strings.Split(strings.Trim(list, "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
