package forward

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of a queue and its forwarder.
type metrics struct {
	sentMessages, sentBytes, items          *prometheus.CounterVec
	retries                                 *prometheus.CounterVec
	droppedMessages, droppedBytes, dropped  *prometheus.CounterVec
	seconds                                 *prometheus.HistogramVec
	connected                               *prometheus.GaugeVec
	queueBytes, queueLimit, oldestAgeSecond *prometheus.Desc
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "vedette_collector_forward_" + name, Help: help}, labels)
	}
	return &metrics{
		sentMessages:    counter("sent_messages_total", "Messages that the destination has acknowledged.", "topic"),
		sentBytes:       counter("sent_bytes_total", "Payload bytes of messages that the destination has acknowledged.", "topic"),
		items:           counter("refused_items_total", "Samples, spans and log records that the destination says it has left out of requests that it took.", "topic"),
		retries:         counter("retries_total", "Attempts that failed and are repeated: by HTTP status, network, or read (of the queue).", "topic", "reason"),
		droppedMessages: counter("dropped_messages_total", "Messages that were given up: queue_full, too_old, refused by the destination, restart (the queue lost them while the agent was down or dying).", "topic", "reason"),
		droppedBytes:    counter("dropped_bytes_total", "Payload bytes of messages that were given up.", "topic", "reason"),
		dropped:         counter("dropped_items_total", "Samples, spans or log records in messages that were given up.", "topic", "reason"),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "vedette_collector_forward_request_duration_seconds", Help: "Time until the destination has answered.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"topic"}),
		connected: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vedette_collector_forward_connected", Help: "1 if the destination has answered the last attempt, 0 if it is tried again.",
		}, []string{"topic"}),
		queueBytes:      prometheus.NewDesc("vedette_collector_forward_queue_bytes", "Bytes that the queue takes on disk.", nil, nil),
		queueLimit:      prometheus.NewDesc("vedette_collector_forward_queue_limit_bytes", "Bytes that the queue may take on disk.", nil, nil),
		oldestAgeSecond: prometheus.NewDesc("vedette_collector_forward_oldest_age_seconds", "Age of the oldest message that is being delivered; 0 if none is.", []string{"topic"}, nil),
	}
}

func (m *metrics) drop(topic, reason string, l *loss) {
	m.droppedMessages.WithLabelValues(topic, reason).Add(float64(l.messages))
	m.droppedBytes.WithLabelValues(topic, reason).Add(float64(l.bytes))
	m.dropped.WithLabelValues(topic, reason).Add(float64(l.items))
}

// watch makes the gauges of a queue be read from it.
func (m *metrics) watch(reg prometheus.Registerer, q *Queue) error {
	for _, topic := range Topics() { // so that a rate of drops begins at 0
		for _, reason := range []string{dropFull, dropAge, dropRefused, dropRestart} {
			m.drop(topic, reason, &loss{})
		}
	}
	if reg == nil {
		return nil
	}
	return reg.Register(&gauges{m, q})
}

// gauges are the metrics that are read when somebody asks.
type gauges struct {
	m *metrics
	q *Queue
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.m.queueBytes
	ch <- g.m.queueLimit
	ch <- g.m.oldestAgeSecond
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(g.m.queueBytes, prometheus.GaugeValue, float64(g.q.SizeBytes()))
	ch <- prometheus.MustNewConstMetric(g.m.queueLimit, prometheus.GaugeValue, float64(g.q.cfg.MaxBytes))
	for _, topic := range Topics() {
		age := 0.0
		if since := g.q.oldest(topic); since > 0 {
			age = max(0, time.Since(time.UnixMilli(since)).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(g.m.oldestAgeSecond, prometheus.GaugeValue, age, topic)
	}
}
