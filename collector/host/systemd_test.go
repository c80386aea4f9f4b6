package host

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
)

// fakeSystemd answers as systemd does, on a bus of its own.
type fakeSystemd struct{ units []unit }

// ListUnits is a method of systemd's manager.
func (f *fakeSystemd) ListUnits() ([]unit, *dbus.Error) { return f.units, nil }

// object answers for the properties of one object.
type object map[string]any

// Get is the method of org.freedesktop.DBus.Properties.
func (o object) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	v, ok := o[iface+"."+name]
	if !ok {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{name})
	}
	return dbus.MakeVariant(v), nil
}

// startBus runs a bus with a systemd on it and returns its address.
func startBus(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not here")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "bus.conf")
	require.NoError(t, os.WriteFile(config, []byte(`<busconfig><type>system</type><listen>unix:path=`+dir+`/bus</listen>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow user="*"/></policy></busconfig>`), 0o644))
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--nopidfile", "--print-address")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
	line := make([]byte, 200)
	n, err := out.Read(line)
	require.NoError(t, err)
	address := strings.TrimSpace(string(line[:n]))

	bus, err := dbus.Connect(address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	f := &fakeSystemd{}
	add := func(name, load, active string, properties object) {
		path := dbus.ObjectPath(systemdPath + "/unit/" + strings.NewReplacer(".", "_2e", "-", "_2d", "@", "_40").Replace(name))
		f.units = append(f.units, unit{Name: name, LoadState: load, ActiveState: active, Path: path, JobPath: "/"})
		require.NoError(t, bus.Export(properties, path, "org.freedesktop.DBus.Properties"))
	}
	add("web.service", "loaded", "active", object{systemdName + ".Service.Type": "notify"})
	add("batch@1.service", "loaded", "failed", object{systemdName + ".Service.Type": "oneshot"})
	add("gone.service", "not-found", "inactive", object{})
	add("data.mount", "loaded", "active", object{})
	add("multi-user.target", "loaded", "active", object{})
	add("daily.timer", "loaded", "active", object{systemdName + ".Timer.LastTriggerUSec": uint64(1790000000_500000)})
	add("web.socket", "loaded", "active", object{
		systemdName + ".Socket.NAccepted": uint32(10), systemdName + ".Socket.NConnections": uint32(2), systemdName + ".Socket.NRefused": uint32(3),
	})
	require.NoError(t, bus.Export(f, systemdPath, managerIface))
	require.NoError(t, bus.Export(object{
		managerIface + ".Version": "252.39-1~deb12u2", managerIface + ".SystemState": "degraded", managerIface + ".Virtualization": "kvm",
	}, systemdPath, "org.freedesktop.DBus.Properties"))
	_, err = bus.RequestName(systemdName, 0)
	require.NoError(t, err)
	return address
}

func systemdOnly(t *testing.T) Config {
	t.Helper()
	c := DefaultConfig()
	c.Enable = []string{"systemd"}
	for _, name := range partNames() {
		if name != "systemd" {
			c.Disable = append(c.Disable, name)
		}
	}
	return c
}

func TestSystemd(t *testing.T) {
	address := startBus(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	got := measure(t, systemdOnly(t))
	for _, want := range []string{
		`node_systemd_unit_state{name="web.service",state="active",type="notify"} 1`,
		`node_systemd_unit_state{name="web.service",state="failed",type="notify"} 0`,
		`node_systemd_unit_state{name="batch@1.service",state="failed",type="oneshot"} 1`,
		`node_systemd_unit_state{name="daily.timer",state="active",type=""} 1`,
		`node_systemd_timer_last_trigger_seconds{name="daily.timer"} 1.7900000005e+09`,
		`node_systemd_socket_accepted_connections_total{name="web.socket"} 10`,
		`node_systemd_socket_refused_connections_total{name="web.socket"} 3`,
		`node_systemd_system_running 0`,
		`node_systemd_version{version="252.39-1~deb12u2"} 252.39`,
		`node_scrape_collector_success{collector="systemd"} 1`,
	} {
		require.Contains(t, got, want+"\n")
	}
	require.NotContains(t, got, "gone.service")
	require.NotContains(t, got, "data.mount")

	version, theirs := startNodeExporter(t, []string{"DBUS_SYSTEM_BUS_ADDRESS=" + address},
		"--collector.disable-defaults", "--collector.systemd", "--collector.systemd.unit-exclude=.+\\.(automount|device|mount|scope|slice)")
	h, err := New(Options{Config: systemdOnly(t), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	compare(t, version, theirs, h)
}

// Without a bus the part fails and says so.
func TestSystemdWithoutBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "")
	c := systemdOnly(t)
	c.RootFS = t.TempDir()
	require.Contains(t, measure(t, c), `node_scrape_collector_success{collector="systemd"} 0`)
	s := &systemd{src: &sources{Config: c}}
	err := s.collect(context.Background(), &batch{})
	require.ErrorContains(t, err, "connect to the system bus")
}

func TestSystemdVersion(t *testing.T) {
	for text, want := range map[string]float64{"252.39-1~deb12u2": 252.39, "v255": 255, "239 (239-51.el8)": 239} {
		v, _, ok := systemdVersion(text)
		require.True(t, ok, text)
		require.Equal(t, want, v, text)
	}
	_, _, ok := systemdVersion("unknown")
	require.False(t, ok)
}
