package pushgateway

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/exposition"
	"github.com/vedette-io/vedette/ingest/remotewrite"
)

// Metrics that every group has.
const (
	pushTimeName = "push_time_seconds"
	pushTimeHelp = "Last Unix time when changing this group succeeded."
	failTimeName = "push_failure_time_seconds"
	failTimeHelp = "Last Unix time when changing this group failed."
)

// group is what was pushed under one grouping key.
type group struct {
	id     string
	tenant string
	key    grouping

	// Guarded by Gateway.mu.
	state *state // nil while the first push is under way
	busy  bool   // a change is being written
	told  bool   // the store has been told about the families
}

// state is the content of a group. It does not change once it is a group's.
type state struct {
	families map[string]*family // by name, the two of every group among them
	pushed   time.Time          // zero is never
	failed   time.Time
	series   exposition.Set // of all families
}

// family is a metric family with the labels of its group.
type family struct {
	proto  *dto.MetricFamily
	at     time.Time // of the push
	series []exposition.Series
}

// newFamily takes over a pushed family: its metrics get the labels of the group,
// and an empty instance label if they have none, so that whoever scrapes them
// adds none.
func newFamily(f *dto.MetricFamily, key grouping, at time.Time) (*family, error) {
	for _, m := range f.GetMetric() {
		if m.TimestampMs != nil {
			return nil, errors.New("pushed metrics must not have timestamps")
		}
		if err := groupLabels(f.GetName(), m, key); err != nil {
			return nil, err
		}
	}
	series, err := exposition.AppendSeries(nil, f)
	if err != nil {
		return nil, err
	}
	return &family{proto: f, at: at, series: series}, nil
}

// groupLabels sets the labels of a group on a metric and sorts them.
func groupLabels(name string, m *dto.Metric, key grouping) error {
	byName := func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) }
	slices.SortFunc(m.Label, byName)
	for i, l := range m.Label {
		if i > 0 && l.GetName() == m.Label[i-1].GetName() {
			return fmt.Errorf("metric %q has two or more labels with the same name: %s", name, l.GetName())
		}
		if strings.HasPrefix(l.GetName(), model.ReservedLabelPrefix) {
			return fmt.Errorf("metric %q has a label with an invalid name: %s", name, l.GetName())
		}
	}
	set := func(name, value string, replace bool) {
		i, ok := slices.BinarySearchFunc(m.Label, name, func(l *dto.LabelPair, n string) int { return cmp.Compare(l.GetName(), n) })
		if !ok {
			m.Label = slices.Insert(m.Label, i, &dto.LabelPair{Name: &name, Value: &value})
		} else if replace {
			m.Label[i].Value = &value
		}
	}
	for _, l := range key {
		set(l.Name, l.Value, true)
	}
	set(model.InstanceLabel, "", false)
	return nil
}

// newState makes the state of a group. at is the time of the change.
func newState(key grouping, families map[string]*family, pushed, failed, at time.Time) (*state, error) {
	s := &state{families: families, pushed: pushed, failed: failed, series: exposition.Set{}}
	for _, own := range []struct {
		name, help string
		value      time.Time
	}{{pushTimeName, pushTimeHelp, pushed}, {failTimeName, failTimeHelp, failed}} {
		f, err := newFamily(timeFamily(own.name, own.help, own.value), key, at)
		if err != nil {
			return nil, err
		}
		s.families[own.name] = f
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		for i := range families[name].series {
			if lset := families[name].series[i].Labels; !s.series.Add(lset) {
				return nil, duplicate(lset)
			}
		}
	}
	return s, nil
}

func duplicate(lset []byte) error {
	return fmt.Errorf("series %s was collected before with the same name and label values", remotewrite.AppendText(nil, lset, 512))
}

// timeFamily is a gauge with a time as its value, 0 for never.
func timeFamily(name, help string, t time.Time) *dto.MetricFamily {
	value := 0.0
	if !t.IsZero() {
		value = float64(t.UnixNano()) / 1e9
	}
	return &dto.MetricFamily{
		Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum(),
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(value)}}},
	}
}

// pushedTo returns the state after a push to a group whose state is s, which is
// nil if it has none yet.
func (s *state) pushedTo(key grouping, pushed map[string]*dto.MetricFamily, replace bool, at time.Time) (*state, error) {
	families := map[string]*family{}
	var failed time.Time
	if s != nil {
		failed = s.failed
		if !replace {
			maps.Copy(families, s.families)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pushed)) {
		if ownName(name) {
			continue
		}
		f, err := newFamily(pushed[name], key, at)
		if err != nil {
			return nil, err
		}
		families[name] = f
	}
	return newState(key, families, at, failed, at)
}

// failedAt returns the state after a refused push.
func (s *state) failedAt(key grouping, at time.Time) (*state, error) {
	families := map[string]*family{}
	var pushed time.Time
	if s != nil {
		pushed = s.pushed
		maps.Copy(families, s.families)
	}
	return newState(key, families, pushed, at, at)
}

// sorted returns the families by name.
func (s *state) sorted() []*family {
	out := make([]*family, 0, len(s.families))
	for _, name := range slices.Sorted(maps.Keys(s.families)) {
		out = append(out, s.families[name])
	}
	return out
}

// ownName reports whether the gateway itself makes the family.
func ownName(name string) bool { return name == pushTimeName || name == failTimeName }

// dropExemplars forgets the exemplars, which are written once.
func (f *family) dropExemplars() {
	for i := range f.series {
		f.series[i].Exemplars = nil
	}
}
