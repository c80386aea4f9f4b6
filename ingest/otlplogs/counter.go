package otlplogs

import (
	"context"
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/internal/signal"
)

// Counter takes log records in the place of a store: it counts them, by tenant,
// service and severity, and holds nothing. The records stay in the buffer for as
// long as its retention says. It implements ingest.LogSink and is safe for
// concurrent use.
type Counter struct {
	metrics *metrics

	mu      sync.Mutex // guards what follows
	tenants map[string]*tenantCounts
	places  int                    // entries of services, of all tenants together
	next    map[partitionKey]int64 // offset behind what was counted last
}

type partitionKey struct {
	source, topic string
	partition     int32
}

// tenantCounts are the counters of one tenant.
type tenantCounts struct {
	name     string
	services map[string]*serviceCounts
	others   *serviceCounts // of services beyond maxPlaces
}

// serviceCounts are the counters of one service.
type serviceCounts struct {
	records [signal.NumSeverityClasses]prometheus.Counter // nil until there is one
	bytes   prometheus.Counter
	labels  [2]string
}

const (
	// maxPlaces bounds how many services have metrics of their own, and maxTenants
	// how many tenants.
	maxPlaces  = 1000
	maxTenants = 200

	// others is the label of tenants and services that have none of their own.
	others = "other"

	maxNameBytes = 128
)

// NewCounter returns a Counter.
func NewCounter(reg prometheus.Registerer) *Counter {
	return &Counter{metrics: newMetrics(reg), tenants: map[string]*tenantCounts{}, next: map[partitionKey]int64{}}
}

// AppendLogs implements ingest.LogSink.
func (c *Counter) AppendLogs(_ context.Context, b *signal.Logs, source, topic string, partition int32, offset int64) (signal.AppendResult, error) {
	key := partitionKey{source, topic, partition}
	c.mu.Lock()
	defer c.mu.Unlock()
	if next, known := c.next[key]; known && offset < next {
		return signal.AppendResult{Duplicates: b.Len()}, nil // counted before
	}
	c.next[key] = offset + 1
	t := c.tenant(b.Tenant)
	for i := range b.Services {
		s := &b.Services[i]
		c.add(c.service(t, b.NameOf(s)), s)
	}
	return signal.AppendResult{Appended: b.Len()}, nil
}

// add counts records of a service.
func (c *Counter) add(counts *serviceCounts, s *signal.LogService) {
	counts.bytes.Add(float64(s.Bytes))
	for severity, n := range s.BySeverity {
		if n == 0 {
			continue
		}
		if counts.records[severity] == nil {
			counts.records[severity] = c.metrics.records.WithLabelValues(counts.labels[0], counts.labels[1], signal.SeverityClass(severity).String())
		}
		counts.records[severity].Add(float64(n))
	}
}

func (c *Counter) tenant(name string) *tenantCounts {
	t := c.tenants[name]
	if t == nil && len(c.tenants) >= maxTenants {
		name = others
		t = c.tenants[name]
	}
	if t == nil {
		t = &tenantCounts{name: name, services: map[string]*serviceCounts{}}
		c.tenants[name] = t
	}
	return t
}

func (c *Counter) service(t *tenantCounts, name []byte) *serviceCounts {
	if s := t.services[string(name)]; s != nil {
		return s
	}
	if c.places < maxPlaces && len(name) <= maxNameBytes {
		c.places++
		s := c.newService(t.name, string(name))
		t.services[string(name)] = s
		return s
	}
	if t.others == nil {
		t.others = c.newService(t.name, others)
	}
	return t.others
}

func (c *Counter) newService(tenant, name string) *serviceCounts {
	return &serviceCounts{bytes: c.metrics.bytes.WithLabelValues(tenant, name), labels: [2]string{tenant, name}}
}

// Durable implements ingest.Keeper: what was counted needs no more.
func (c *Counter) Durable(source, topic string, partition int32) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next[partitionKey{source, topic, partition}]
}

// Covered implements ingest.Keeper: a Counter misses nothing of what was counted by
// another process before.
func (c *Counter) Covered(_, _ string, _ int32) int64 { return math.MaxInt64 }

// Flush implements ingest.Keeper.
func (c *Counter) Flush(context.Context) error { return nil }
