package signal

import "math"

// TraceID is a trace's 16 bytes, in the order in which they are written.
type TraceID [16]byte

// SpanID is a span's 8 bytes; zero stands for no span.
type SpanID [8]byte

// IsZero reports whether id is no span's.
func (id SpanID) IsZero() bool { return id == SpanID{} }

// AttrType is the type of an attribute's value.
type AttrType uint8

// Types of values. The numbers are part of the format of blocks.
const (
	AttrEmpty  AttrType = iota // a value that was not set
	AttrString                 // UTF-8 in Buf
	AttrBool
	AttrInt    // 64 bits, signed
	AttrDouble // 64 bits
	AttrBytes  // bytes in Buf
	AttrArray  // in Buf: the bytes of an opentelemetry.proto.common.v1.ArrayValue
	AttrMap    // in Buf: the bytes of an opentelemetry.proto.common.v1.KeyValueList
	NumAttrTypes
)

// InBuf reports whether values of the type lie in Buf rather than in the Attr.
func (t AttrType) InBuf() bool { return t == AttrString || t >= AttrBytes }

// Attr is an attribute of a resource, scope, span, event or link.
type Attr struct {
	Key  ByteRange
	Num  uint64 // bits of the value, or its place in Buf as PackRange has it
	Type AttrType
}

// PackRange returns r as an Attr's Num.
func PackRange(r ByteRange) uint64 { return uint64(r.Off)<<32 | uint64(r.Len) }

// Range returns the value's place in Buf, of a type that is there.
func (a Attr) Range() ByteRange { return ByteRange{Off: uint32(a.Num >> 32), Len: uint32(a.Num)} }

// Bool returns the value of an AttrBool.
func (a Attr) Bool() bool { return a.Num != 0 }

// Int returns the value of an AttrInt.
func (a Attr) Int() int64 { return int64(a.Num) }

// Double returns the value of an AttrDouble.
func (a Attr) Double() float64 { return math.Float64frombits(a.Num) }

// Resource is what produced spans. Its attributes are Attrs[AttrBegin:AttrEnd].
type Resource struct {
	AttrBegin, AttrEnd uint32
	DroppedAttrs       uint32
	SchemaURL          ByteRange // of the resource
}

// Scope is the instrumentation that made spans, within one resource.
type Scope struct {
	Resource           uint32 // index of Resources
	Name, Version      ByteRange
	AttrBegin, AttrEnd uint32
	DroppedAttrs       uint32
	SchemaURL          ByteRange // of the scope's spans
}

// Event is something that happened at a time within a span.
type Event struct {
	Time               int64 // unix nanoseconds
	Name               ByteRange
	AttrBegin, AttrEnd uint32
	DroppedAttrs       uint32
}

// Link points from a span to another one.
type Link struct {
	TraceID            TraceID
	SpanID             SpanID
	State              ByteRange // W3C trace state
	Flags              uint32
	AttrBegin, AttrEnd uint32
	DroppedAttrs       uint32
}

// Spans is one tenant's batch of spans in columns: every column whose comment
// says "per span" has one entry for each. Attributes, events and links of
// span i are [Begin[i]:End[i]) of Attrs, Events and Links; they keep the order
// of the sender. Everything that OTLP can say of a span is here, so that a batch
// can be written as OTLP again without loss.
type Spans struct {
	Tenant string

	// Buf holds the bytes that ByteRanges point into. It may alias the decoder's
	// input buffer and is only valid until Reset.
	Buf []byte

	Resources []Resource
	Scopes    []Scope // those of one resource follow each other

	Scope    []uint32 // per span: index of Scopes, never falling
	TraceIDs []TraceID
	SpanIDs  []SpanID
	Parents  []SpanID // zero: a root
	Starts   []int64  // unix nanoseconds
	Ends     []int64  // unix nanoseconds; before the start if the sender's clock says so
	Names    []ByteRange
	Kinds    []uint8     // as OTLP numbers them: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer
	Statuses []uint8     // 0 unset, 1 ok, 2 error
	Messages []ByteRange // of the status
	States   []ByteRange // W3C trace state
	Flags    []uint32

	DroppedAttrs, DroppedEvents, DroppedLinks []uint32

	AttrBegin, AttrEnd   []uint32
	EventBegin, EventEnd []uint32
	LinkBegin, LinkEnd   []uint32

	Attrs  []Attr // of resources, scopes, spans, events and links
	Events []Event
	Links  []Link
}

// Reset empties s for reuse and keeps its capacity.
func (s *Spans) Reset() {
	*s = Spans{
		Buf: s.Buf[:0], Resources: s.Resources[:0], Scopes: s.Scopes[:0],
		Scope: s.Scope[:0], TraceIDs: s.TraceIDs[:0], SpanIDs: s.SpanIDs[:0], Parents: s.Parents[:0],
		Starts: s.Starts[:0], Ends: s.Ends[:0], Names: s.Names[:0], Kinds: s.Kinds[:0],
		Statuses: s.Statuses[:0], Messages: s.Messages[:0], States: s.States[:0], Flags: s.Flags[:0],
		DroppedAttrs: s.DroppedAttrs[:0], DroppedEvents: s.DroppedEvents[:0], DroppedLinks: s.DroppedLinks[:0],
		AttrBegin: s.AttrBegin[:0], AttrEnd: s.AttrEnd[:0], EventBegin: s.EventBegin[:0], EventEnd: s.EventEnd[:0],
		LinkBegin: s.LinkBegin[:0], LinkEnd: s.LinkEnd[:0],
		Attrs: s.Attrs[:0], Events: s.Events[:0], Links: s.Links[:0],
	}
}

// Len returns the number of spans.
func (s *Spans) Len() int { return len(s.SpanIDs) }

// Bytes returns the bytes of r.
func (s *Spans) Bytes(r ByteRange) []byte { return s.Buf[r.Off : r.Off+r.Len : r.Off+r.Len] }

// SpanAttrs returns the attributes of span i.
func (s *Spans) SpanAttrs(i int) []Attr { return s.Attrs[s.AttrBegin[i]:s.AttrEnd[i]] }

// Duration returns the nanoseconds between start and end of span i; 0 if the end
// lies before the start.
func (s *Spans) Duration(i int) int64 { return max(s.Ends[i]-s.Starts[i], 0) }
