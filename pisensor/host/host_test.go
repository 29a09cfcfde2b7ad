package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

var scratch = make([]byte, 64<<10)

// tree is a board's files.
type tree struct {
	t    *testing.T
	root string
}

func newTree(t *testing.T) tree { return tree{t, t.TempDir()} }

func (f tree) write(name, text string) {
	f.t.Helper()
	path := filepath.Join(f.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f tree) roots() source.Roots {
	return source.Roots{Sysfs: filepath.Join(f.root, "sys"), Procfs: filepath.Join(f.root, "proc"), Etc: filepath.Join(f.root, "etc")}
}

// reads wants these readings, and an error that contains the text, or none.
func reads(t *testing.T, r source.Reader, want map[report.Series]int64, text string) {
	t.Helper()
	var tick report.Tick
	err := r.Read(&tick, scratch)
	if text == "" && err != nil && !errors.Is(err, source.ErrAbsent) || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
		t.Errorf("error %v, want %q", err, text)
	}
	got := map[report.Series]int64{}
	for _, r := range tick.Readings {
		got[r.Series] = r.Value
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func one(m report.Metric, v int64) map[report.Series]int64 {
	return map[report.Series]int64{{Metric: m}: v}
}

var none = map[report.Series]int64{}

func TestBusy(t *testing.T) {
	f := func(in string, want int64, ok bool) {
		t.Helper()
		if got, err := parseBusy([]byte(in)); got != want || (err == nil) != ok {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	f("cpu  100 20 3 9999 888 7 5 1 50 2\ncpu0 1 2 3\n", 136, true) // guest time is part of user
	f("cpu  4705 0 1120 1234567 890 0 33 0 0 0\n", 5858, true)
	f("cpu  1 2 3 4 5 6 7 8\n", 27, true)
	f("cpu  1 2 3 4 5 6 7\n", 0, false) // no kernel of a Pi is as old
	f("cpu  1 2 3 4 5 6 7 8", 0, false) // cut off: the last number may be longer
	f("cpu  1 -2 3 4 5 6 7 8\n", 0, false)
	f("cpu0 1 2 3 4 5 6 7 8\n", 0, false)
	f("cpu  a b c\n", 0, false)
	f("", 0, false)
}

func TestLoad(t *testing.T) {
	f := func(in string, want int64, ok bool) {
		t.Helper()
		if got, err := parseLoad([]byte(in)); got != want || (err == nil) != ok {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	f("0.53 0.40 0.31 1/123 4567\n", 53, true)
	f("104.18 2.01 0.91 5/180 1234\n", 10418, true)
	f("", 0, false)
	f("nan 0.1\n", 0, false)
	files := newTree(t)
	files.write("proc/loadavg", "-0.53 0.40 0.31 1/123 4567\n")
	reads(t, load(files.roots()), none, "-53 is beyond what pi_load1 can be")
}

func TestMemory(t *testing.T) {
	files := newTree(t)
	m := newMemory(files.roots())
	f := func(in string, want map[report.Series]int64, text string) {
		t.Helper()
		files.write("proc/meminfo", in)
		reads(t, m, want, text)
	}
	f("MemTotal:         948304 kB\nMemFree:          106024 kB\nMemAvailable:     612345 kB\nBuffers: 1 kB\n", one(report.MemoryAvailable, 612_345), "")
	f("MemTotal:         448304 kB\nMemFree:          106024 kB\nBuffers: 1 kB\nCached: 5 kB\n", none, "") // kernel 3.12: no guess
	f("MemTotal: 1 kB\nMemAvailable:     612345 MB\n", none, "is not in kB")
	f("MemTotal: 1 kB\nMemAvailable:     -1 kB\n", none, "-1 is beyond")
	f("MemTotal: 1 kB\nMemAvailable: many kB\n", none, `"many" is not a number`)
	f("MemTotal: 1 kB\nMemAvailable:", none, "is not in kB")
	f("", none, "does not begin with MemTotal")
	f("<html>", none, "does not begin with MemTotal")
	f("MemTotal:"+strings.Repeat(" ", 1<<20), none, "longer than 65536 bytes")
}

const devHeader = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
`

func TestNetwork(t *testing.T) {
	files := newTree(t)
	n := newNetwork(files.roots())
	f := func(lines string, want map[report.Series]int64, text string) {
		t.Helper()
		files.write("proc/net/dev", devHeader+lines)
		reads(t, n, want, text)
	}
	of := func(m report.Metric, device string) report.Series { return report.Series{Metric: m, Instance: device} }
	eth0 := map[report.Series]int64{
		of(report.NetworkReceive, "eth0"): 938_533_562, of(report.NetworkTransmit, "eth0"): 2_679_526,
		of(report.NetworkErrors, "eth0"): 5, of(report.NetworkCarrier, "eth0"): 3,
	}
	const (
		lo   = "    lo:  997812    2415    0    0    0     0          0         0   997812    2415    0    0    0     0       0          0\n"
		line = "  eth0:938533562   42013    2    0    0     0          0         0  2679526   25865    3    0    0     0       0          0\n"
		veth = "veth1@if2: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
		br   = "docker0: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
	)
	files.write("sys/class/net/lo/carrier_changes", "0\n")
	files.write("sys/class/net/docker0/carrier_changes", "9\n")
	files.write("sys/class/net/eth0/carrier_changes", "3\n")
	files.write("sys/class/net/eth0/device/uevent", "DRIVER=smsc95xx\n")
	files.write("sys/class/net/bonding_masters", "\n")
	f(lo+line+veth+br, eth0, "")
	f("", none, "")        // it has gone
	f(lo+line, eth0, "")   // and is back
	f(line+line, eth0, "") // never twice
	f("  eth0: 1 2 3\n", none, `network device eth0: "" is not a number`)
	f("  eth0 1 2 3\n", none, "names no network device")
	f(strings.Replace(line, "938533562", "-1", 1), map[report.Series]int64{
		of(report.NetworkTransmit, "eth0"): 2_679_526, of(report.NetworkErrors, "eth0"): 5, of(report.NetworkCarrier, "eth0"): 3,
	}, "-1 is beyond")
	files.write("sys/class/net/eth0/carrier_changes", "often\n")
	noCarrier := map[report.Series]int64{of(report.NetworkReceive, "eth0"): 938_533_562, of(report.NetworkTransmit, "eth0"): 2_679_526, of(report.NetworkErrors, "eth0"): 5}
	f(line, noCarrier, `"often\n" is not a number`)
	if err := os.Remove(filepath.Join(files.root, "sys/class/net/eth0/carrier_changes")); err != nil { // kernel 3.12
		t.Fatal(err)
	}
	f(line, noCarrier, "")
	files.write("proc/net/dev", "<html>\n")
	reads(t, n, none, "is not the heading")
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestNetworkLeavesSpace has more devices than fit a report, and one with a name that would make
// the collector refuse the report.
func TestNetworkLeavesSpace(t *testing.T) {
	files := newTree(t)
	text := devHeader
	for _, d := range []string{"böse", "eth0", "eth1", "eth2", "eth3", "eth4", "usb0"} {
		text += d + ": 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
		files.write("sys/class/net/"+d+"/device/uevent", "")
	}
	files.write("proc/net/dev", text)
	n := newNetwork(files.roots())
	var tick report.Tick
	if err := n.Read(&tick, scratch); err == nil || !strings.Contains(err.Error(), `"böse"`) {
		t.Error(err)
	}
	if len(tick.Readings) != 3*maxDevices {
		t.Errorf("%v", tick.Readings)
	}
	tick.Reset()
	if err := n.Read(&tick, scratch); err != nil { // said and counted once
		t.Error(err)
	}
}

// Two mounts as kernels write them: a root of NFSv3, statvers=1.1 without and
// an NFSv4 mount with the errors column.
const (
	v3Root = `device 10.7.0.1:/srv/nfs/r1-a-03 mounted on / with fstype nfs statvers=1.1
	opts:	ro,vers=3,rsize=65536,wsize=65536,namlen=255,hard,nolock,proto=tcp,timeo=600,retrans=2,sec=sys,local_lock=all
	age:	86400
	caps:	caps=0x3fef,wtmult=512,dtsize=65536,bsize=0,namlen=255
	sec:	flavor=1,pseudoflavor=1
	events:	1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27
	bytes:	1 2 3 4 5 6 7 8
	RPC iostats version: 1.0  p/v: 100003/3 (nfs)
	xprt:	tcp 875 1 1 0 0 2184 2184 0 2184 0 2 0 0
	per-op statistics
	        NULL: 0 0 0 0 0 0 0 0
	     GETATTR: 1000 1002 1 120000 112000 5 900 950
	        READ: 400 405 2 50000 26000000 50 2000 2100
	       WRITE: 0 0 0 0 0 0 0 0
	      LOOKUP: 200 199 0 1 1 0 100 110
	      ACCESS: 50 50 0 1 1 0 25 26

`
	v4Home = `device 10.7.0.9:/home mounted on /home/pi with fstype nfs4 statvers=1.1
	opts:	rw,vers=4.2
	RPC iostats version: 1.1  p/v: 100003/4 (nfs)
	per-op statistics
	        READ: 10 11 0 1 1 0 7777 7777 0
	        OPEN: 5 5 0 1 1 0 50 50 0

`
	others = `device rootfs mounted on / with fstype rootfs
device proc mounted on /proc with fstype proc
no device mounted on /dev with fstype devtmpfs
device overlay mounted on / with fstype overlay
`
)

func TestNFS(t *testing.T) {
	files := newTree(t)
	n := newNFS(files.roots())
	f := func(in string, retransmissions int64, latencies map[string]int64, text string) {
		t.Helper()
		files.write("proc/self/mountstats", in)
		want := map[report.Series]int64{}
		if retransmissions >= 0 {
			want[report.Series{Metric: report.NFSRetransmissions}] = retransmissions
		}
		for op, v := range latencies {
			want[report.Series{Metric: report.NFSRTT, Instance: op}] = v
		}
		reads(t, n, want, text)
	}
	replace := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(v3Root) }

	f(v4Home+others+v3Root, 7, nil, "") // the first look knows no interval
	f(v4Home+others+v3Root, 7, nil, "") // nothing was asked since: no reading, no zero
	f(replace("READ: 400 405 2 50000 26000000 50 2000", "READ: 410 416 2 50000 26000000 50 2123",
		"GETATTR: 1000 1002 1 120000 112000 5 900", "GETATTR: 1003 1005 1 120000 112000 5 901")+v4Home,
		8, map[string]int64{"READ": 12_300, "GETATTR": 333}, "")
	f(v3Root, 7, nil, "") // mounted anew: a new beginning
	f(replace("LOOKUP: 200 199 0 1 1 0 100", "LOOKUP: 201 200 0 1 1 0 40"), 7, nil, "")
	f(replace("per-op statistics", "something else")+v4Home, -1, nil, "without per-op statistics")
	f(replace("READ: 400 405 2 50000 26000000 50 2000 2100", "READ: 400 many"), -1, nil, `"READ: 400 many" is no operation's line`)
	f(replace("READ: 400", "READ: -400"), -1, nil, "is no operation's line")
	f(replace("READ: 400", "READ: 99999999999999999"), -1, nil, "is no operation's line")
	f(replace("READ:", "READ"), -1, nil, "names no operation")
	f(v3Root[:len(v3Root)/2], -1, nil, "without per-op statistics")
	f(v3Root+strings.Repeat("x", 1<<17), -1, nil, "longer than 65536 bytes")

	n = newNFS(files.roots()) // an overlay over NFS: the first mount that is NFS
	f(v4Home+others, 1, nil, "")
	f(strings.Replace(v4Home, "OPEN: 5 5 0 1 1 0 50", "OPEN: 7 7 0 1 1 0 53", 1)+others, 1, map[string]int64{"OPEN": 1500}, "")
}

// TestABoardWithoutNFSIsLeftAlone counts how often its mounts are read.
func TestABoardWithoutNFSIsLeftAlone(t *testing.T) {
	files := newTree(t)
	n := newNFS(files.roots())
	files.write("proc/self/mountstats", others)
	reads(t, n, none, "")
	files.write("proc/self/mountstats", v3Root)
	skipped := 0
	for ; skipped <= lookForNFS; skipped++ {
		var tick report.Tick
		if err := n.Read(&tick, scratch); err == nil {
			break
		}
	}
	if skipped != lookForNFS {
		t.Errorf("a mount that came later was found after %d reads, want %d", skipped, lookForNFS)
	}
}

func TestPrettyName(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got, err := prettyName([]byte(in)); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	f("NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Raspbian GNU/Linux 12 (bookworm)\"\n", "Raspbian GNU/Linux 12 (bookworm)")
	f("PRETTY_NAME='Alpine Linux v3.20'", "Alpine Linux v3.20")
	f("NAME=x\n", "")
	f("", "")
}
