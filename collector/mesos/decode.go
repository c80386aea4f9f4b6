package mesos

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// decodeSnapshot reads /metrics/snapshot: an object of numbers. What is no number
// is passed over.
func decodeSnapshot(data []byte) (map[string]float64, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w", err)
	}
	values := make(map[string]float64, len(raw))
	for key, text := range raw {
		if v, ok := number(text); ok {
			values[key] = v
		}
	}
	return values, nil
}

func number(text json.RawMessage) (float64, bool) {
	var v *float64
	if json.Unmarshal(text, &v) != nil || v == nil || math.IsInf(*v, 0) || math.IsNaN(*v) {
		return 0, false
	}
	return *v, true
}

// executor is one entry of /monitor/statistics.
type executor struct {
	ID          string                     `json:"executor_id"`
	FrameworkID string                     `json:"framework_id"`
	Source      string                     `json:"source"`
	Statistics  map[string]json.RawMessage `json:"statistics"`
}

func decodeStatistics(data []byte) ([]executor, error) {
	var list []executor
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode statistics: %w", err)
	}
	return list, nil
}

// decodeAgents reads the addresses in a master's /slaves.
func decodeAgents(data []byte) ([]string, error) {
	var answer struct {
		Slaves []struct {
			PID    string `json:"pid"` // slave(1)@10.0.0.1:5051
			Active *bool  `json:"active"`
		} `json:"slaves"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("decode agents: %w", err)
	}
	var hosts []string
	for _, s := range answer.Slaves {
		_, host, ok := strings.Cut(s.PID, "@")
		if !ok || s.Active != nil && !*s.Active {
			continue
		}
		if u, err := url.Parse("http://" + host); err == nil && u.Host == host && u.Port() != "" {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// outcome is what one target's answers make.
type outcome struct {
	samples  []prometheus.Metric
	limited  int
	repeated int
}

// addSnapshot makes the samples of a snapshot; of each pattern at most limit.
func (o *outcome) addSnapshot(families []*family, values map[string]float64, instance string, limit int) {
	keys := slices.Sorted(maps.Keys(values))
	for _, f := range families {
		if f.pattern != nil {
			o.addMatching(f, keys, values, instance, limit)
			continue
		}
		for _, s := range f.series {
			v, ok := values[s.key]
			if s.minus != "" {
				less, has := values[s.minus]
				v, ok = v-less, ok && has
			}
			if ok {
				o.add(f.desc, f.kind, v, append([]string{instance}, s.labels...))
			}
		}
	}
}

func (o *outcome) addMatching(f *family, keys []string, values map[string]float64, instance string, limit int) {
	seen := map[string]bool{}
	for _, key := range keys {
		m := f.pattern.FindStringSubmatch(key)
		if m == nil {
			continue
		}
		id := strings.Join(m[1:], "\x00")
		switch {
		case seen[id]:
			o.repeated++
		case len(seen) >= limit:
			o.limited++
		default:
			seen[id] = true
			o.add(f.desc, f.kind, values[key], append([]string{instance}, m[1:]...))
		}
	}
}

// addStatistics makes the samples of at most limit executors.
func (o *outcome) addStatistics(stats []*statistic, list []executor, instance string, limit int) {
	seen := map[[3]string]bool{}
	for _, e := range list {
		who := [3]string{valid(e.ID), valid(e.FrameworkID), valid(e.Source)}
		switch {
		case seen[who]:
			o.repeated++
			continue
		case len(seen) >= limit:
			o.limited++
			continue
		}
		seen[who] = true
		for _, s := range stats {
			if v, ok := number(e.Statistics[s.key]); ok {
				o.add(s.desc, s.kind, v, []string{instance, who[0], who[1], who[2]})
			}
		}
	}
}

func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func (o *outcome) add(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels []string) {
	o.samples = append(o.samples, prometheus.MustNewConstMetric(desc, kind, v, labels...))
}
