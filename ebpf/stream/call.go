package stream

import (
	"strconv"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// sendCallLocked describes a request that is wanted as a span.
func (t *Table) sendCallLocked(c *conn, request *protocol.Request) {
	if t.env.Calls.Full() {
		return
	}
	r := *request
	for _, s := range []*string{&r.Operation, &r.Target, &r.Summary, &r.Status} {
		*s = validClone(*s)
	}
	call := &t.call
	attributes := call.Attributes[:0]
	*call = c.placeOf(request)
	call.EndNanos, call.Failed, call.Attributes = r.EndNanos, r.Failed, attributes
	add := func(key, value string) {
		if value != "" {
			call.Attributes = append(call.Attributes, key, value)
		}
	}
	call.Name = r.Operation
	switch {
	case r.GRPC:
		if r.Target != "" {
			call.Name = r.Target + "/" + r.Operation
		}
		add("rpc.system.name", "grpc")
		add("rpc.method", call.Name)
		add("rpc.response.status_code", r.Status)
	case r.Kind == protocol.HTTP1, r.Kind == protocol.HTTP2:
		t.describeHTTPLocked(c, &r, add)
	case r.Kind == protocol.Kafka:
		add("messaging.system", systems[r.Kind])
		add("messaging.operation.name", r.Operation)
		add("messaging.destination.name", r.Target)
		if r.Target != "" {
			call.Name += " " + r.Target
		}
	default:
		add("db.system.name", systems[r.Kind])
		add("db.operation.name", r.Operation)
		add("db.namespace", r.Target)
		add("db.query.summary", r.Summary)
		add("db.response.status_code", r.Status)
		if r.Summary != "" {
			call.Name = r.Summary
		}
	}
	if r.Failed {
		failure := r.Status
		if failure == "" {
			failure = other
		}
		add("error.type", failure)
	}
	server := c.Peer
	if r.Server {
		server = c.Local
	}
	if server.IsValid() {
		add("server.address", server.Addr().String())
		add("server.port", strconv.Itoa(int(server.Port())))
	}
	t.env.Calls.Add(call)
}

func (t *Table) describeHTTPLocked(c *conn, r *protocol.Request, add func(key, value string)) {
	if r.Target != "" {
		t.call.Name = r.Operation + " " + r.Target
	}
	add("http.request.method", r.Operation)
	add("http.response.status_code", r.Status)
	add("url.path", r.Target)
	if r.Kind == protocol.HTTP2 {
		add("network.protocol.version", "2")
	} else {
		add("network.protocol.version", "1.1")
	}
	if c.TLS {
		add("url.scheme", "https")
	} else {
		add("url.scheme", "http")
	}
}
