package feature

import "github.com/prometheus/client_golang/prometheus"

// HTTPDescs are the metrics of HTTP requests on one side of the connections.
// Several features count HTTP: they differ by protocol and scheme, and export
// the same metrics.
type HTTPDescs struct {
	Duration, RequestSize, ResponseSize *prometheus.Desc
	Labels                              LabelNames
}

// HTTPLabels are the values of an HTTP series' labels. Server is the server's
// address, of clients only.
type HTTPLabels struct {
	Who
	Port, Method, Status, Scheme, Version, Server string
}

// NewHTTPDescs describes the metrics of a side, "server" or "client".
func NewHTTPDescs(side string) HTTPDescs {
	labels := append(WhoLabels[:len(WhoLabels):len(WhoLabels)],
		"server_port", "http_request_method", "http_response_status_code", "url_scheme", "network_protocol_version", "server_address")
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("http_"+side+"_"+name, help, labels, nil)
	}
	return HTTPDescs{
		Labels:       NewLabelNames(labels...),
		Duration:     desc("request_duration_seconds", "Duration of HTTP "+side+" requests, from the arrival of the request to the last byte of the response."),
		RequestSize:  desc("request_body_size_bytes", "Size of the bodies of HTTP "+side+" requests, as transferred."),
		ResponseSize: desc("response_body_size_bytes", "Size of the bodies of HTTP "+side+" responses, as transferred."),
	}
}

// Describe sends the descriptions.
func (d HTTPDescs) Describe(ch chan<- *prometheus.Desc) {
	ch <- d.Duration
	ch <- d.RequestSize
	ch <- d.ResponseSize
}

// Values are the values of the labels that HTTPDescs has.
func (l HTTPLabels) Values() []string {
	return append(l.Who.Values(), l.Port, l.Method, l.Status, l.Scheme, l.Version, l.Server)
}
