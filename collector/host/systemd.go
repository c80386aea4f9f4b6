package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// systemdExclude are the units that are left out as node_exporter does.
var systemdExclude = regexp.MustCompile(`^(?:.+\.(automount|device|mount|scope|slice))$`)

var unitStates = []string{"active", "activating", "deactivating", "inactive", "failed"}

const (
	systemdName  = "org.freedesktop.systemd1"
	systemdPath  = "/org/freedesktop/systemd1"
	managerIface = systemdName + ".Manager"
)

// unit is an entry of systemd's list of units.
type unit struct {
	Name, Description           string
	LoadState, ActiveState, Sub string
	Followed                    string
	Path                        dbus.ObjectPath
	JobID                       uint32
	JobType                     string
	JobPath                     dbus.ObjectPath
}

type systemd struct {
	src *sources

	state, count, running, version *family
	trigger                        *family
	accepted, current, refused     *family
	virtualization                 *family
}

func openSystemd(src *sources, _ *metrics) collectFunc {
	s := &systemd{
		src:            src,
		state:          gauge("node_systemd_unit_state", "Systemd unit", "name", "state", "type"),
		count:          gauge("node_systemd_units", "Summary of systemd unit states", "state"),
		running:        gauge("node_systemd_system_running", "Whether the system is operational (see 'systemctl is-system-running')"),
		version:        gauge("node_systemd_version", "Detected systemd version", "version"),
		trigger:        gauge("node_systemd_timer_last_trigger_seconds", "Seconds since epoch of last trigger.", "name"),
		accepted:       counter("node_systemd_socket_accepted_connections_total", "Total number of accepted socket connections", "name"),
		current:        gauge("node_systemd_socket_current_connections", "Current number of socket connections", "name"),
		refused:        gauge("node_systemd_socket_refused_connections_total", "Total number of refused socket connections", "name"),
		virtualization: gauge("node_systemd_virtualization_info", "Detected virtualization technology", "virtualization_type"),
	}
	return s.collect
}

func (s *systemd) collect(ctx context.Context, b *batch) error {
	bus, err := s.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	defer func() { _ = bus.Close() }() // nothing is lost
	manager := bus.Object(systemdName, systemdPath)
	if err := s.manager(ctx, b, manager); err != nil {
		return err
	}
	var units []unit
	if err := manager.CallWithContext(ctx, managerIface+".ListUnits", 0).Store(&units); err != nil {
		return fmt.Errorf("list units: %w", err)
	}
	counts := map[string]float64{}
	for _, state := range unitStates {
		counts[state] = 0
	}
	var failed error
	for _, u := range units {
		counts[u.ActiveState]++
		if u.LoadState != "loaded" || systemdExclude.MatchString(u.Name) {
			continue
		}
		if err := s.unit(ctx, b, bus, u); err != nil {
			failed = err
		}
	}
	for state, n := range counts {
		b.add(s.count, n, state)
	}
	return failed
}

// connect opens the system bus, that of the host in a container.
func (s *systemd) connect(ctx context.Context) (*dbus.Conn, error) {
	if address := "unix:path=" + s.src.root("run/dbus/system_bus_socket"); s.src.RootFS != "/" && os.Getenv("DBUS_SYSTEM_BUS_ADDRESS") == "" {
		return dbus.Connect(address, dbus.WithContext(ctx))
	}
	return dbus.ConnectSystemBus(dbus.WithContext(ctx))
}

// property asks an object for one of its properties.
func property[T any](ctx context.Context, o dbus.BusObject, iface, name string) (out T, err error) {
	var v dbus.Variant
	if err = o.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, name).Store(&v); err != nil {
		return out, fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	out, ok := v.Value().(T)
	if !ok {
		return out, fmt.Errorf("ask systemd for %s: got a %T, want a %T", name, v.Value(), out)
	}
	return out, nil
}

// manager yields what systemd says of itself.
func (s *systemd) manager(ctx context.Context, b *batch, manager dbus.BusObject) error {
	version, err := property[string](ctx, manager, managerIface, "Version")
	if err != nil {
		return err
	}
	if v, text, ok := systemdVersion(version); ok {
		b.add(s.version, v, text)
	}
	if kind, err := property[string](ctx, manager, managerIface, "Virtualization"); err == nil {
		if kind == "" {
			kind = "none"
		}
		b.add(s.virtualization, 1, kind)
	}
	state, err := property[string](ctx, manager, managerIface, "SystemState")
	if err != nil {
		return err
	}
	b.add(s.running, truth(state == "running"))
	return nil
}

var leadingVersion = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// systemdVersion returns 252.39 and the whole text of 252.39-1~deb12u2.
func systemdVersion(text string) (float64, string, bool) {
	v, err := strconv.ParseFloat(leadingVersion.FindString(text), 64)
	return v, text, err == nil
}

// unit yields the state of a unit and what units of its kind count.
func (s *systemd) unit(ctx context.Context, b *batch, bus *dbus.Conn, u unit) error {
	o := bus.Object(systemdName, u.Path)
	kind := ""
	var failed error
	switch {
	case strings.HasSuffix(u.Name, ".service"):
		kind, failed = property[string](ctx, o, systemdName+".Service", "Type")
	case strings.HasSuffix(u.Name, ".timer"):
		micros, err := property[uint64](ctx, o, systemdName+".Timer", "LastTriggerUSec")
		if failed = err; err == nil {
			b.add(s.trigger, float64(micros)/1e6, u.Name)
		}
	case strings.HasSuffix(u.Name, ".socket"):
		failed = s.socket(ctx, b, o, u.Name)
	}
	for _, state := range unitStates {
		b.add(s.state, truth(state == u.ActiveState), u.Name, state, kind)
	}
	return failed
}

func (s *systemd) socket(ctx context.Context, b *batch, o dbus.BusObject, name string) error {
	const iface = systemdName + ".Socket"
	accepted, err := property[uint32](ctx, o, iface, "NAccepted")
	current, err2 := property[uint32](ctx, o, iface, "NConnections")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	b.add(s.accepted, float64(accepted), name)
	b.add(s.current, float64(current), name)
	// systemd before 239 does not count these, and says so in several ways.
	if refused, err := property[uint32](ctx, o, iface, "NRefused"); err == nil && refused != math.MaxUint32 {
		b.add(s.refused, float64(refused), name)
	}
	return nil
}
