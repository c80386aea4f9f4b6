package span

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

// scopeName is the scope of the spans.
const scopeName = "github.com/vedette-io/vedette/ebpf"

// integers are the attributes that OpenTelemetry has as numbers.
var integers = map[string]bool{
	"server.port": true, "client.port": true, "network.peer.port": true, "http.response.status_code": true,
	"http.request.body.size": true, "http.response.body.size": true,
}

// finished is a call that is ready to be written.
type finished struct {
	*seen
	linked
}

// batch puts spans into columns.
type batch struct {
	signal.Spans
	host string
}

// encode gives the spans as an OTLP request. offset is what to add to the
// kernel's clock for the time of day.
func encode(spans []finished, resolver *identity.Resolver, host string, offset int64) []byte {
	slices.SortStableFunc(spans, func(a, b finished) int {
		return cmp.Or(cmp.Compare(a.call.Process.PID, b.call.Process.PID), cmp.Compare(a.call.Process.StartNanos, b.call.Process.StartNanos))
	})
	b := &batch{host: host}
	for i, s := range spans {
		if i == 0 || s.call.Process != spans[i-1].call.Process {
			b.resource(resolver.Resolve(s.call.Process, ""))
		}
		b.span(s, offset)
	}
	return otlpspans.AppendRequest(nil, &b.Spans)
}

func (b *batch) put(text string) signal.ByteRange {
	r := signal.ByteRange{Off: uint32(len(b.Buf)), Len: uint32(len(text))}
	b.Buf = append(b.Buf, text...)
	return r
}

func (b *batch) text(key, value string) {
	if value != "" {
		b.Attrs = append(b.Attrs, signal.Attr{Key: b.put(key), Type: signal.AttrString, Num: signal.PackRange(b.put(value))})
	}
}

func (b *batch) number(key string, value int64) {
	b.Attrs = append(b.Attrs, signal.Attr{Key: b.put(key), Type: signal.AttrInt, Num: uint64(value)})
}

// resource begins a process.
func (b *batch) resource(p identity.Process) {
	r := signal.Resource{AttrBegin: uint32(len(b.Attrs))}
	b.text("service.name", p.Service)
	b.text("service.namespace", p.Namespace)
	b.text("host.name", b.host)
	b.number("process.pid", int64(p.PID))
	b.text("process.executable.name", p.Executable)
	b.text("container.id", p.ContainerID)
	b.text("k8s.pod.uid", p.PodUID)
	b.text("k8s.pod.name", p.Pod)
	b.text("k8s.namespace.name", p.PodNamespace)
	if p.PodUID != "" {
		b.text("k8s.container.name", p.Container)
	} else {
		b.text("container.name", p.Container)
	}
	r.AttrEnd = uint32(len(b.Attrs))
	b.Resources = append(b.Resources, r)
	b.Scopes = append(b.Scopes, signal.Scope{Resource: uint32(len(b.Resources) - 1), Name: b.put(scopeName)})
}

func (b *batch) span(s finished, offset int64) {
	c := &s.call
	start := s.start(s.other)
	end := max(c.EndNanos, start)
	kind, status := uint8(2), uint8(0)
	if !c.Server {
		kind = 3
		// its clock may stop before the server's call has returned
		if o := s.other; o != nil && !o.open {
			end = max(end, o.call.EndNanos)
		}
	}
	if c.Failed {
		status = 2
	}
	b.Scope = append(b.Scope, uint32(len(b.Scopes)-1))
	b.TraceIDs, b.SpanIDs, b.Parents = append(b.TraceIDs, s.trace), append(b.SpanIDs, s.id), append(b.Parents, s.parent)
	b.Starts, b.Ends = append(b.Starts, start+offset), append(b.Ends, end+offset)
	b.Names = append(b.Names, b.put(c.Name))
	b.Kinds, b.Statuses = append(b.Kinds, kind), append(b.Statuses, status)
	b.Messages, b.States = append(b.Messages, signal.ByteRange{}), append(b.States, signal.ByteRange{})
	b.Flags = append(b.Flags, 1)
	b.DroppedAttrs, b.DroppedEvents, b.DroppedLinks = append(b.DroppedAttrs, 0), append(b.DroppedEvents, 0), append(b.DroppedLinks, 0)
	b.EventBegin, b.EventEnd = append(b.EventBegin, 0), append(b.EventEnd, 0)
	b.LinkBegin, b.LinkEnd = append(b.LinkBegin, 0), append(b.LinkEnd, 0)
	b.AttrBegin = append(b.AttrBegin, uint32(len(b.Attrs)))
	for i := 0; i+1 < len(c.Attributes); i += 2 {
		key, value := c.Attributes[i], c.Attributes[i+1]
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && integers[key] {
			b.number(key, n)
			continue
		}
		b.text(key, value)
	}
	b.AttrEnd = append(b.AttrEnd, uint32(len(b.Attrs)))
}
