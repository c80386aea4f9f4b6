package http1

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// readEvery is how long a span may wait in the kernel when there are too few to
// wake the reader.
const readEvery = 100 * time.Millisecond

// maxPath bounds the attribute url.path.
const maxPath = 200

// spanLostReasons names the kernel's counters of sampled requests that were lost.
var spanLostReasons = map[bpf.HttpStat]string{
	bpf.HttpStatSTAT_SPAN_FULL:      "ring_full",
	bpf.HttpStatSTAT_SPAN_PIPELINED: "pipelined",
	bpf.HttpStatSTAT_SPAN_CUT:       "split_header",
	bpf.HttpStatSTAT_SPAN_EVICTED:   "evicted",
}

// Run hands spans on, if anybody wants them, until ctx ends.
func (f *Feature) Run(ctx context.Context) error {
	f.mu.Lock()
	env, objects := f.env, f.objects
	f.mu.Unlock()
	if env.Calls == nil || objects.Maps[bpf.HttpMapSpans] == nil {
		<-ctx.Done()
		return nil
	}
	r, err := ringbuf.NewReader(objects.Maps[bpf.HttpMapSpans])
	if err != nil {
		return fmt.Errorf("open the ring buffer of spans: %w", err)
	}
	defer r.Close()
	var record ringbuf.Record
	var span bpf.HttpHttpSpan
	var call feature.Call
	for ctx.Err() == nil {
		// An expired deadline comes after what is in the buffer.
		r.SetDeadline(time.Now().Add(readEvery))
		for {
			err := r.ReadInto(&record)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("read the ring buffer of spans: %w", err)
			}
			if decodeSpan(&span, record.RawSample) && !env.Calls.Full() {
				describe(&call, &span)
				env.Calls.Add(&call)
			}
		}
	}
	return nil
}

// Open visits sampled requests without a whole response.
func (f *Feature) Open(visit func(c *feature.Call)) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil || f.env.Calls == nil || f.objects.Maps[bpf.HttpMapHeads] == nil {
		return 0, nil
	}
	err := feature.EachEntry(f.objects.Maps[bpf.HttpMapHeads], func(_ uint64, s *bpf.HttpHttpSpan) {
		c := placeOf(s)
		visit(&c)
	})
	if err != nil {
		return 0, err
	}
	var lost uint64
	for stat := range spanLostReasons {
		n, err := feature.SumStat(f.objects.Maps[bpf.HttpMapStats], uint32(stat))
		if err != nil {
			return 0, err
		}
		lost += n
	}
	return lost, nil
}

func (f *Feature) sendSpanLostLocked(ch chan<- prometheus.Metric) {
	if f.env.Calls == nil {
		return
	}
	for stat, reason := range spanLostReasons {
		n, err := feature.SumStat(f.objects.Maps[bpf.HttpMapStats], uint32(stat))
		if err != nil {
			ch <- prometheus.NewInvalidMetric(f.spans, err)
			return
		}
		ch <- prometheus.MustNewConstMetric(f.spans, prometheus.CounterValue, float64(n), reason)
	}
}

// decodeSpan reads struct http_span of http_span.h.
func decodeSpan(s *bpf.HttpHttpSpan, b []byte) bool {
	if len(b) < int(unsafe.Sizeof(*s)) {
		return false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s)), b)
	return int(s.Line) <= len(s.Target) && int(s.Parent) <= len(s.Traceparent)
}

// placeOf says whose request it is and where.
func placeOf(s *bpf.HttpHttpSpan) feature.Call {
	return feature.Call{
		Process:     identity.Key{PID: s.Tgid, StartNanos: s.ProcessStart},
		Server:      bpf.HttpRole(s.Role) == bpf.HttpRoleROLE_SERVER,
		Local:       netip.AddrPortFrom(feature.AddrOf(s.LocalAddr), s.LocalPort),
		Peer:        netip.AddrPortFrom(feature.AddrOf(s.PeerAddr), s.PeerPort),
		NetNS:       s.Netns,
		Seq:         s.Seq,
		StartNanos:  int64(s.StartNs),
		Traceparent: string(s.Traceparent[:min(int(s.Parent), len(s.Traceparent))]),
	}
}

// describe makes c the request by OpenTelemetry's conventions for HTTP. It takes the
// place of the attributes that are there.
func describe(c *feature.Call, s *bpf.HttpHttpSpan) {
	attributes := c.Attributes[:0]
	*c = placeOf(s)
	c.Attributes = attributes
	c.EndNanos = int64(s.EndNs)
	method, path, version := startLine(s.Target[:s.Line])
	c.Name = "HTTP"
	if s.Method > 0 && int(s.Method) < len(methods) {
		method = methods[s.Method]
		c.Name = method
		c.Attributes = append(c.Attributes, "http.request.method", method)
	} else {
		c.Attributes = append(c.Attributes, "http.request.method", methods[0], "http.request.method_original", method)
	}
	server, client := c.Peer, c.Local
	if c.Server {
		server, client = client, server
		c.Attributes = append(c.Attributes, "url.scheme", "http", "client.address", client.Addr().String())
		if path != "" {
			c.Attributes = append(c.Attributes, "url.path", path)
		}
	} else if path != "" {
		c.Attributes = append(c.Attributes, "url.full", "http://"+server.String()+path)
	}
	c.Attributes = append(c.Attributes,
		"server.address", server.Addr().String(), "server.port", strconv.Itoa(int(server.Port())),
		"network.protocol.name", "http", "network.protocol.version", version,
		"http.request.body.size", strconv.FormatUint(s.RequestBytes, 10),
		"http.response.body.size", strconv.FormatUint(s.ResponseBytes, 10))
	switch {
	case s.Status == 0:
		c.Failed = true
		c.Attributes = append(c.Attributes, "error.type", "no_response")
	case s.Status >= 500 || s.Status >= 400 && !c.Server:
		c.Failed = true
		c.Attributes = append(c.Attributes, "error.type", strconv.Itoa(int(s.Status)))
	}
	if s.Status != 0 {
		c.Attributes = append(c.Attributes, "http.response.status_code", strconv.Itoa(int(s.Status)))
	}
}

// startLine takes a request's start line apart. It may be cut off; the path is
// then as much as is there. The query is left out, and so is a proxy's authority.
func startLine(line []byte) (method, path, version string) {
	text := strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "\uFFFD")
	method, target, ok := strings.Cut(text, " ")
	version = "1.1"
	if !ok {
		return clip(method, 32), "", version
	}
	if rest, proto, ok := strings.Cut(target, " "); ok {
		target = rest
		if v, ok := strings.CutPrefix(proto, "HTTP/"); ok && (v == "1.0" || v == "1.1") {
			version = v
		}
	}
	target, _, _ = strings.Cut(target, "?")
	target, _, _ = strings.Cut(target, "#")
	if _, rest, ok := strings.Cut(target, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			target = rest[i:]
		} else {
			target = "/"
		}
	}
	if !strings.HasPrefix(target, "/") {
		target = "" // that of CONNECT and OPTIONS is no path
	}
	return clip(method, 32), clip(target, maxPath), version
}

// clip bounds s.
func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}
