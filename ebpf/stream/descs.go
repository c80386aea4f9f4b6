package stream

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// descs are the metrics of a table. Those of a side are at index 0 for the
// client, 1 for the server.
type descs struct {
	http                      [2]feature.HTTPDescs
	rpc, db, messaging        [2]*prometheus.Desc
	lost, connections, events *prometheus.Desc
}

func newDescs(name string) descs {
	var d descs
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		all := append(feature.WhoLabels[:len(feature.WhoLabels):len(feature.WhoLabels)], labels...)
		return prometheus.NewDesc(name, help, append(all, "server_address", "server_port"), nil)
	}
	for i, side := range []string{"client", "server"} {
		d.http[i] = feature.NewHTTPDescs(side)
		d.rpc[i] = desc("rpc_"+side+"_call_duration_seconds", "Duration of RPCs, from their first byte to the last of the response, on the "+side+"'s side.",
			"rpc_system_name", "rpc_method", "rpc_response_status_code")
		d.db[i] = desc("db_"+side+"_operation_duration_seconds", "Duration of database operations, on the "+side+"'s side.",
			"db_system_name", "db_operation_name", "db_response_status_code", "error_type")
		d.messaging[i] = desc("messaging_"+side+"_operation_duration_seconds", "Duration of operations of messaging systems, on the "+side+"'s side.",
			"messaging_system", "messaging_operation_name", "error_type")
	}
	prefix := "vedette_ebpf_" + name + "_"
	d.lost = prometheus.NewDesc(prefix+"lost_total", "What feature "+name+" did not see or could not follow, by reason.", []string{"reason"}, nil)
	d.connections = prometheus.NewDesc(prefix+"connections", "Connections that feature "+name+" follows.", nil, nil)
	d.events = prometheus.NewDesc(prefix+"events_total", "Pieces of connections that feature "+name+" was handed.", nil, nil)
	return d
}

func (d *descs) describe(ch chan<- *prometheus.Desc) {
	for i := range d.http {
		d.http[i].Describe(ch)
		ch <- d.rpc[i]
		ch <- d.db[i]
		ch <- d.messaging[i]
	}
	ch <- d.lost
	ch <- d.connections
	ch <- d.events
}

// send sends the histograms of one series.
func (d *descs) send(ch chan<- prometheus.Metric, bounds []float64, s *series, t *totals) {
	side := 0
	if s.server {
		side = 1
	}
	cumulative := make(map[float64]uint64, len(bounds))
	var n uint64
	for i, c := range t.durations {
		n += c
		if i < len(bounds) {
			cumulative[bounds[i]] = n
		}
	}
	port, address := portLabel(s.port), addressLabel(s)
	failure := ""
	if s.failed {
		if failure = s.status; failure == "" {
			failure = other
		}
	}
	labels := s.Who.Values()
	desc := d.db[side]
	switch {
	case s.grpc:
		desc = d.rpc[side]
		method := s.operation
		if s.service != "" {
			method = s.service + "/" + s.operation
		}
		labels = append(labels, "grpc", method, s.status)
	case s.kind == protocol.HTTP1, s.kind == protocol.HTTP2:
		d.sendHTTP(ch, side, cumulative, s, t)
		return
	case s.kind == protocol.Kafka:
		desc = d.messaging[side]
		labels = append(labels, systems[s.kind], s.operation, failure)
	default:
		labels = append(labels, systems[s.kind], s.operation, s.status, failure)
	}
	labels = append(labels, address, port)
	ch <- prometheus.MustNewConstHistogram(desc, n, float64(t.durationNanos)/1e9, cumulative, labels...)
}

func (d *descs) sendHTTP(ch chan<- prometheus.Metric, side int, durations map[float64]uint64, s *series, t *totals) {
	l := feature.HTTPLabels{
		Who: s.Who, Port: portLabel(s.port), Method: s.operation, Status: s.status, Scheme: "http", Version: "2",
	}
	if s.kind == protocol.HTTP1 {
		l.Version = "1.1"
	}
	if s.tls {
		l.Scheme = "https"
	}
	l.Server = addressLabel(s)
	var n uint64
	for _, c := range t.durations {
		n += c
	}
	labels := l.Values()
	ch <- prometheus.MustNewConstHistogram(d.http[side].Duration, n, float64(t.durationNanos)/1e9, durations, labels...)
	pairs := d.http[side].Labels.Pairs(labels...)
	ch <- feature.SizeHistogram(d.http[side].RequestSize, pairs, t.requestSizes[:], float64(t.requestBytes))
	ch <- feature.SizeHistogram(d.http[side].ResponseSize, pairs, t.responseSizes[:], float64(t.responseBytes))
}

// addressLabel is the server's, for a client.
func addressLabel(s *series) string {
	switch {
	case s.crowded:
		return other
	case s.address.IsValid():
		return s.address.String()
	}
	return ""
}

// portLabel is empty where the socket of a connection is not known, as may be
// inside TLS.
func portLabel(port uint16) string {
	if port == 0 {
		return ""
	}
	return strconv.Itoa(int(port))
}
