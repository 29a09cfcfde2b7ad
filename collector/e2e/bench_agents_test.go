package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// agentInterval is how often every agent is asked, or sends: collectd's own
// default and the sensor's.
const agentInterval = 10 * time.Second

// agent is a program that watches a machine, with the figures about it.
type agent struct {
	name  string
	reads string // its sources
	*process
	start    func(testing.TB, *agent) // starts it
	ask      func(*agent) error       // asks it once, nil where it sends by itself
	wire     func() int64             // bytes to and from it so far
	readings func() int64             // so far
	asked    atomic.Int64             // readings that answers held
	costs    []cost                   // at the start, after the warm-up and at the end
	bytes    []int64                  // on the wire, at the same times
}

// installed returns a peer's program, or "" where this machine has none.
func installed(names ...string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// peers returns the peers of whom the programs are there, as Debian packages
// them, listening on loopback and logging to nowhere but a temporary directory.
func peers(b *testing.B) (all []*agent) {
	for _, p := range []struct {
		program func() string
		agent   func(b *testing.B, path string) *agent
	}{
		{func() string { return installed("collectd", "/usr/sbin/collectd") }, collectd},
		{func() string { return installed("prometheus-node-exporter") }, nodeExporter},
		{func() string { return installed("zabbix_agentd", "/usr/sbin/zabbix_agentd") }, zabbixAgent},
		{func() string { return installed("munin-node", "/usr/sbin/munin-node") }, muninNode},
	} {
		if path := p.program(); path != "" {
			all = append(all, p.agent(b, path))
		}
	}
	return all
}

func configured(b *testing.B, text string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "agent.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func collectd(b *testing.B, path string) *agent {
	sink := newCollectdSink(b)
	host, port, _ := strings.Cut(sink.address, ":")
	conf := configured(b, fmt.Sprintf(`Hostname "pi"
FQDNLookup false
Interval %d
PIDFile %q
BaseDir %q
LoadPlugin cpu
LoadPlugin load
LoadPlugin memory
LoadPlugin interface
LoadPlugin thermal
LoadPlugin network
<Plugin network>
	Server %q %q
</Plugin>
`, int(agentInterval.Seconds()), filepath.Join(b.TempDir(), "pid"), b.TempDir(), host, port))
	return &agent{
		name: "collectd", reads: "plugins cpu, load, memory, interface, thermal; network plugin over UDP to a sink, without TLS",
		start: func(t testing.TB, a *agent) { a.process = spawn(t, path, "-f", "-C", conf) },
		wire:  sink.bytes.Load, readings: sink.readings.Load,
	}
}

func nodeExporter(b *testing.B, path string) *agent {
	address := freeAddress(b, "127.0.0.1")
	m := newMeter(b, address)
	return &agent{
		name: "prometheus-node-exporter", reads: "its default collectors, scraped over HTTP with gzip on a connection that stays, without TLS",
		start: func(t testing.TB, a *agent) { a.process = spawn(t, path, "--web.listen-address="+address) },
		ask: func(a *agent) error {
			response, err := http.Get("http://" + m.address + "/metrics")
			if err != nil {
				return err
			}
			defer response.Body.Close()
			lines := bufio.NewScanner(response.Body)
			for lines.Scan() {
				if !strings.HasPrefix(lines.Text(), "#") {
					a.asked.Add(1)
				}
			}
			return lines.Err()
		},
		wire: m.bytes.Load,
	}
}

// zabbixItems are the board's readings that the agent knows.
var zabbixItems = []string{
	"system.cpu.load[all,avg1]", "system.cpu.util[all,user]", "system.cpu.util[all,system]", "vm.memory.size[available]",
	"system.boottime", "net.if.in[eth0]", "net.if.out[eth0]", "net.if.in[eth0,errors]", "system.uname", "kernel.maxproc",
}

func zabbixAgent(b *testing.B, path string) *agent {
	address := zabbixAddress(b)
	m := newMeter(b, address)
	_, port, _ := strings.Cut(address, ":")
	conf := configured(b, fmt.Sprintf("PidFile=%s\nLogType=console\nServer=127.0.0.1\nListenIP=127.0.0.1\nListenPort=%s\nAllowRoot=1\n",
		filepath.Join(b.TempDir(), "pid"), port))
	return &agent{
		name: "zabbix_agentd", reads: fmt.Sprintf("%d passive checks, a connection each, without TLS; its own processes as by default", len(zabbixItems)),
		start: func(t testing.TB, a *agent) { a.process = spawn(t, path, "-f", "-c", conf) },
		ask: func(a *agent) error {
			for _, item := range zabbixItems {
				if err := zabbixCheck(m.address, item); err != nil {
					return err
				}
				a.asked.Add(1)
			}
			return nil
		},
		wire: m.bytes.Load,
	}
}

// zabbixAddress returns a free address with a port that the agent accepts: it
// wants one below 32768.
func zabbixAddress(b *testing.B) string {
	b.Helper()
	for port := 20050; port < 1<<15; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	b.Fatal("no free port below 32768")
	return ""
}

// zabbixCheck asks for an item as Zabbix' server does: "ZBXD", a flag of 1, the
// length and the key (Zabbix manual, "Header").
func zabbixCheck(address, item string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(agentInterval))
	question := binary.LittleEndian.AppendUint64([]byte("ZBXD\x01"), uint64(len(item)))
	if _, err := c.Write(append(question, item...)); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && (len(answer) <= 13 || strings.Contains(string(answer), "ZBX_NOTSUPPORTED")) {
		err = fmt.Errorf("zabbix item %s: answer %q", item, answer)
	}
	return err
}

// muninPlugins are those of Debian's whose values are like a board's readings.
var muninPlugins = []string{"cpu", "load", "memory", "if_eth0", "if_err_eth0", "uptime"}

func muninNode(b *testing.B, path string) *agent {
	address := freeAddress(b, "127.0.0.1")
	m := newMeter(b, address)
	_, port, _ := strings.Cut(address, ":")
	dir := b.TempDir()
	conf := configured(b, fmt.Sprintf("log_file %s/log\npid_file %s/pid\nbackground 0\nsetsid 0\nuser root\ngroup root\nallow ^127\\.0\\.0\\.1$\nhost 127.0.0.1\nport %s\n", dir, dir, port))
	return &agent{
		name: "munin-node", reads: fmt.Sprintf("plugins %s, each a process of its own, on one connection each 10 s (its master's usual is 5 min), without TLS", strings.Join(muninPlugins, ", ")),
		start: func(t testing.TB, a *agent) { a.process = spawn(t, path, "--config", conf) },
		ask:   func(a *agent) error { return muninFetch(m.address, &a.asked) },
		wire:  m.bytes.Load,
	}
}

// muninFetch asks for all plugins on one connection, as Munin's master does.
func muninFetch(address string, values *atomic.Int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(agentInterval))
	lines := bufio.NewScanner(c)
	lines.Scan() // its greeting
	for _, plugin := range muninPlugins {
		if _, err := fmt.Fprintf(c, "fetch %s\n", plugin); err != nil {
			return err
		}
		for lines.Scan() && lines.Text() != "." {
			if !strings.Contains(lines.Text(), ".value ") {
				return fmt.Errorf("munin plugin %s: %q", plugin, lines.Text())
			}
			values.Add(1)
		}
		if lines.Err() != nil {
			return lines.Err()
		}
	}
	_, err = fmt.Fprintln(c, "quit")
	return err
}
