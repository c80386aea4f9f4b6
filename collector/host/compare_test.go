package host

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

// difference is one from node_exporter that is known; docs/host.md has them all.
type difference struct {
	what  string // a regular expression of what differences returns
	until string // the version of node_exporter from which on there is none
	why   string
}

// missingParts are those of node_exporter that have no counterpart.
const missingParts = `bcache|bcachefs|btrfs|dmmultipath|fibrechannel|infiniband|nfs|nfsd|tapestats|xfs|zfs`

// explained lists every difference that may be. "theirs" is what only
// node_exporter has, "ours" what only Vedette has.
var explained = []difference{
	{what: `^theirs: node_exporter_build_info`, why: "Vedette is not node_exporter"},
	{what: `^theirs: node_filesystem_purgeable_bytes`, why: "always 0 on Linux"},
	{what: `^theirs: node_scrape_collector_\w+\{collector="(` + missingParts + `)"\}`, why: "the part is not there"},
	{what: `^theirs: node_(bcache|bcachefs|btrfs|dmmultipath|fibrechannel|infiniband|nfs|nfsd|tape|xfs|zfs)_`, why: "the part is not there"},
	{what: `^ours: node_memory_`, why: "every field of /proc/meminfo is shown; node_exporter knows a list since 1.9"},
	{what: `^(ours|theirs): node_arp_entries`, why: "/proc/net/arp is read, not netlink"},
	{what: `^value: node_arp_entries`, why: "/proc/net/arp is read, not netlink"},
	{what: `^ours: node_network_receive_nohandler_total`, why: "read from sysfs; node_exporter has it from netlink alone"},

	{what: `^theirs: node_disk_\w+\{.*device="zram\d+"`, until: "1.8.0", why: "memory disks are excluded"},
	{what: `^ours: node_cpu_scaling_governor`, until: "1.6.0", why: "new metric"},
	{what: `^ours: node_softnet_(backlog_len|cpu_collision_total|flow_limit_count_total|received_rps_total)`, until: "1.6.0", why: "new metric"},
	{what: `^help: node_cpu_frequency_(\w+_)?hertz`, until: "1.6.0", why: "cpu is now written CPU"},
	{what: `^ours: node_netstat_TcpExt_TCPOFOQueue`, until: "1.8.0", why: "new metric"},
	{what: `^ours: node_watchdog_`, until: "1.8.0", why: "new part"},
	{what: `^ours: node_scrape_collector_\w+\{collector="watchdog"\}`, until: "1.8.0", why: "new part"},
	{what: `^ours: node_os_support_end_timestamp_seconds`, until: "1.8.0", why: "new metric"},
	{what: `^ours: node_filesystem_readonly\{.*mountpoint="/gone"`, until: "1.7.0", why: "shown of what has an error, too"},
	{what: `^ours: node_filesystem_mount_info`, until: "1.9.0", why: "new metric"},
	{what: `^ours: node_netstat_TcpExt_TCPRcvQDrop`, until: "1.9.0", why: "new metric"},
	{what: `^ours: node_pressure_irq_`, until: "1.9.0", why: "new metric"},
	{what: `^ours: node_hwmon_(freq_freq_mhz|sensor_label\{.*sensor="freq)`, until: "1.9.0", why: "new metric"},
	{what: `^ours: node_nvme_namespace_`, until: "1.11.0", why: "new metric"},
	{what: `^ours: node_systemd_virtualization_info`, until: "1.10.0", why: "new metric"},
	{what: `^ours: node_md_(degraded|raid_disks)`, until: "1.10.0", why: "new metric"},
	{what: `^value: node_filesystem_readonly`, until: "1.10.0", why: "the options of the file system count, too"},
	{what: `^ours: node_(kernel_hung_tasks_total|scrape_collector_\w+\{collector="kernel_hung"\})`, until: "1.11.0", why: "new part"},
	{what: `^ours: node_edac_channel_`, until: "1.12.0", why: "new metric"},
	{what: `^ours: node_cpu_frequency_avg_hertz`, until: "1.12.0", why: "new metric"},
	{what: `^(ours|theirs): node_hwmon_\w+\{chip="platform_twin`, until: "1.12.0", why: "chips of one device are told apart"},
}

// newLabels are labels that node_exporter has from some version on. They are not
// compared with older ones.
var newLabels = []struct{ name, label, since string }{
	{"node_network_info", "adminstate", "1.6.0"},
	{"node_disk_info", "serial", "1.10.0"},     // is looked for in more places
	{"node_disk_info", "rotational", "1.12.0"}, // was wrong in 1.9 to 1.11
	{"node_filesystem_readonly", "device_error", "1.8.0"},
	{"node_filesystem_device_error", "device_error", "1.8.0"},
	{"node_nvme_info", "cntlid", "1.11.0"},
}

// explain returns why a difference is there.
func explain(version, what string) (string, bool) {
	for _, d := range explained {
		if (d.until == "" || older(version, d.until)) && regexp.MustCompile(d.what).MatchString(what) {
			if d.until != "" {
				return d.why + " (node_exporter " + d.until + ")", true
			}
			return d.why, true
		}
	}
	return "", false
}

func older(a, b string) bool {
	return slices.Compare(versionNumbers(a), versionNumbers(b)) < 0
}

func versionNumbers(v string) []int {
	var out []int
	for part := range strings.SplitSeq(v, ".") {
		n, _ := strconv.Atoi(part) // what is no number is old
		out = append(out, n)
	}
	return out
}

// exposition is what one side says.
type exposition struct {
	types, helps map[string]string
	values       map[string]float64 // by series; those of histograms and summaries are counted only
}

func parse(t *testing.T, version string, text []byte) exposition {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err)
	out := exposition{map[string]string{}, map[string]string{}, map[string]float64{}}
	for name, f := range families {
		if regexp.MustCompile(`^(go|process|promhttp)_`).MatchString(name) {
			continue // of the process itself
		}
		out.types[name], out.helps[name] = f.GetType().String(), f.GetHelp()
		for _, m := range f.Metric {
			out.values[seriesName(version, name, m)] = compared(m)
		}
	}
	return out
}

func compared(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Untyped != nil:
		return m.Untyped.GetValue()
	case m.Summary != nil:
		return m.Summary.GetSampleSum() + float64(m.Summary.GetSampleCount())
	default:
		return m.Histogram.GetSampleSum() + float64(m.Histogram.GetSampleCount())
	}
}

func seriesName(version, name string, m *dto.Metric) string {
	var labels []string
	for _, p := range m.Label {
		tooNew := false
		for _, l := range newLabels {
			tooNew = tooNew || l.name == name && l.label == p.GetName() && older(version, l.since)
		}
		if p.GetValue() != "" && !tooNew {
			labels = append(labels, fmt.Sprintf("%s=%q", p.GetName(), p.GetValue()))
		}
	}
	slices.Sort(labels)
	return name + "{" + strings.Join(labels, ",") + "}"
}

// moving are the gauges that may change there and back between two looks.
var moving = regexp.MustCompile(`^node_(memory|load|procs|sockstat|filefd|entropy|filesystem_(avail|free|files_free)|disk_io_now|` +
	`cpu_(scaling_)?frequency|timex|udp_queues|scrape_collector_duration|netstat_Tcp_CurrEstab|nf_conntrack_entries)`)

// differences compares what node_exporter said with what the Host said before and
// after: a value has to lie between the two.
func differences(before, theirs, after exposition) map[string]bool {
	out := map[string]bool{}
	for name, typ := range theirs.types {
		if ours, ok := before.types[name]; ok && ours != typ {
			out[fmt.Sprintf("type: %s: ours %s, theirs %s", name, ours, typ)] = true
		}
		if ours, ok := before.helps[name]; ok && ours != theirs.helps[name] {
			out[fmt.Sprintf("help: %s: ours %q, theirs %q", name, ours, theirs.helps[name])] = true
		}
	}
	for s, v := range theirs.values {
		low, ok := before.values[s]
		high, ok2 := after.values[s]
		if !ok || !ok2 {
			out["theirs: "+s] = true
			continue
		}
		low, high = min(low, high), max(low, high)
		slack := 1e-9 * math.Abs(v)
		if moving.MatchString(s) {
			slack = 5 + .05*math.Abs(v)
		}
		if v < low-slack || v > high+slack {
			out["value: "+s] = true
		}
	}
	for s := range before.values {
		if _, ok := theirs.values[s]; !ok {
			out["ours: "+s] = true
		}
	}
	return out
}

// compare fails on differences that are there in every one of several looks and
// that nothing explains. The rest it lists in the log.
func compare(t *testing.T, version, address string, ours prometheus.Collector) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}} // one connection, there on every look
	defer client.CloseIdleConnections()
	ask := func() exposition {
		resp, err := client.Get("http://" + address + "/metrics")
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }() // it is read to its end
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, string(text))
		return parse(t, version, text)
	}
	ask() // opens the connection
	var left map[string]bool
	var open []string
	for range 30 {
		before := parse(t, version, []byte(gather(t, ours)))
		theirs := ask()
		found := differences(before, theirs, parse(t, version, []byte(gather(t, ours))))
		if left == nil {
			left = found
			t.Logf("%d series of node_exporter %s, %d of ours", len(theirs.values), version, len(before.values))
		}
		maps.DeleteFunc(left, func(what string, _ bool) bool { return !found[what] })
		open = open[:0]
		for what := range left {
			if _, ok := explain(version, what); !ok {
				open = append(open, what)
			}
		}
		if len(open) == 0 {
			break
		}
	}
	slices.Sort(open)
	for _, l := range newLabels {
		if older(version, l.since) {
			t.Logf("label %s of %s: new (node_exporter %s)", l.label, l.name, l.since)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(left)) {
		if why, ok := explain(version, what); ok {
			t.Logf("%s: %s", what, why)
		}
	}
	require.Empty(t, open, "differences without an explanation")
}

// startNodeExporter runs the node_exporter that is here, or skips the test, and
// returns its version and address.
func startNodeExporter(t *testing.T, env []string, args ...string) (version, address string) {
	t.Helper()
	program := ""
	for _, name := range []string{"prometheus-node-exporter", "node_exporter", filepath.Join("..", "..", ".cache", "tools", "usr", "bin", "prometheus-node-exporter")} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("node_exporter is not here; make test-tools fetches it where there is apt-get")
	}
	said, err := exec.Command(program, "--version").CombinedOutput()
	require.NoError(t, err)
	m := regexp.MustCompile(`version (\d+\.\d+\.\d+)`).FindSubmatch(said)
	if m == nil { // built without telling it which it is
		m = [][]byte{nil, []byte("999.0.0")}
	}
	version = string(m[1])
	cmd := exec.Command(program, append([]string{"--web.listen-address=127.0.0.1:0"}, args...)...)
	cmd.Env = append(cmd.Environ(), env...)
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	found := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if _, a, ok := strings.Cut(lines.Text(), "address="); ok {
				select {
				case found <- strings.Fields(a)[0]:
				default:
				}
			}
		}
		close(found)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-read
		_ = cmd.Wait() // it was killed
	})
	address = <-found
	require.NotEmpty(t, address, "node_exporter did not say where it listens")
	return version, address
}

// upstream are the flags that undo what Debian has changed.
func upstream() []string {
	c := DefaultConfig()
	return []string{
		"--no-collector.systemd", "--collector.netdev.device-exclude=",
		"--collector.filesystem.mount-points-exclude=" + c.MountPointsExclude, "--collector.filesystem.fs-types-exclude=" + c.FSTypesExclude,
	}
}

// The real node_exporter beside ours on this machine.
func TestLikeNodeExporter(t *testing.T) {
	c := DefaultConfig()
	c.TextfileDirectories = []string{t.TempDir()}
	c.Timeout = time.Minute
	version, address := startNodeExporter(t, nil, append(upstream(), "--collector.textfile.directory="+c.TextfileDirectories[0])...)
	h, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	compare(t, version, address, h)
}

// The real node_exporter beside ours on the files of a machine that has more than
// this one.
func TestLikeNodeExporterOnTree(t *testing.T) {
	c := plant(t)
	c.TextfileDirectories = []string{t.TempDir()} // see TestTextfiles
	if err := exec.Command("rm", "-r", c.SysFS+"/devices/platform/twin", c.SysFS+"/class/hwmon/hwmon4", c.SysFS+"/class/hwmon/hwmon5").Run(); err != nil {
		t.Fatal(err) // an older node_exporter would show nothing at all for two chips of one name
	}
	version, address := startNodeExporter(t, nil, append(upstream(),
		"--path.procfs="+c.ProcFS, "--path.sysfs="+c.SysFS, "--path.rootfs="+c.RootFS, "--path.udev.data="+c.RootFS+"/run/udev/data",
		"--collector.textfile.directory="+c.TextfileDirectories[0], "--no-collector.netdev.netlink")...)
	h, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	compare(t, version, address, h)
}
