package zipkin

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/vedette-io/vedette/ingest/spanbuild"
)

// v1Span is a span as version 1 has it: what happened, as annotations, by
// whoever had a part in it.
type v1Span struct {
	traceHigh, traceLow, id, parent uint64

	name           []byte
	time, duration int64 // microseconds; 0 is not there
	debug          bool
	annotations    []v1Annotation
	binary         []v1Binary
}

func (s *v1Span) reset() {
	clear(s.annotations)
	clear(s.binary)
	*s = v1Span{annotations: s.annotations[:0], binary: s.binary[:0]}
}

// v1Annotation is an event that an endpoint saw; an empty one is none.
type v1Annotation struct {
	annotation
	endpoint endpoint
}

// v1Binary is a tag that an endpoint set, or an address.
type v1Binary struct {
	key, value []byte
	endpoint   endpoint
}

func (s *v1Span) addAnnotation(a annotation, e endpoint) *invalid {
	if len(s.annotations) == maxAnnotations {
		return &invalid{"annotations", fmt.Sprintf("more than %d annotations", maxAnnotations)}
	}
	s.annotations = append(s.annotations, v1Annotation{a, e})
	return nil
}

func (s *v1Span) addBinary(b v1Binary) *invalid {
	if len(s.binary) == maxTags {
		return &invalid{"binaryAnnotations", fmt.Sprintf("more than %d binary annotations", maxTags)}
	}
	s.binary = append(s.binary, b)
	return nil
}

// isAddress reports whether a binary annotation tells of the other side's
// endpoint: of the client, the server or the broker.
func isAddress(key []byte) bool {
	return string(key) == "ca" || string(key) == "sa" || string(key) == "ma"
}

// halves are the spans of version 2 that one of version 1 becomes: one for each
// service that it names.
type halves struct {
	spans   [maxHalves]span
	n       int
	tooMany bool // services for spans

	source  *v1Span
	core    core
	missing [2]v1Annotation // that stand in for ones that were not sent
}

// core are the annotations that mark begin and end: c(lient) and s(erver),
// s(end) and r(eceive), m(essage) and w(ire).
type core struct{ cs, sr, ss, cr, ms, mr, ws, wr *v1Annotation }

// of returns where the mark that a names is kept, or nil.
func (c *core) of(a *v1Annotation) (mark **v1Annotation, kind uint8) {
	if a.endpoint.isEmpty() {
		return nil, 0 // nobody's
	}
	switch string(a.value) {
	case "cs":
		return &c.cs, spanbuild.KindClient
	case "cr":
		return &c.cr, spanbuild.KindClient
	case "sr":
		return &c.sr, spanbuild.KindServer
	case "ss":
		return &c.ss, spanbuild.KindServer
	case "ms":
		return &c.ms, spanbuild.KindProducer
	case "mr":
		return &c.mr, spanbuild.KindConsumer
	case "ws":
		return &c.ws, 0
	case "wr":
		return &c.wr, 0
	}
	return nil, 0
}

// split makes spans of version 2 of s, valid until the next call.
func (h *halves) split(s *v1Span) ([]span, *invalid) {
	h.source, h.core, h.n, h.tooMany = s, core{}, 0, false
	h.fork()
	slices.SortStableFunc(s.annotations, func(a, b v1Annotation) int {
		if a.time != b.time {
			if a.time < b.time {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.value, b.value)
	})
	for i := range s.annotations {
		a := &s.annotations[i]
		half := h.of(&a.endpoint)
		mark, kind := h.core.of(a)
		if mark == nil {
			half.annotations = append(half.annotations, a.annotation)
			continue
		}
		*mark = a
		if kind != 0 {
			half.kind = kind
		}
	}
	h.infer()
	h.call()
	h.message()
	h.addresses(h.tags())
	if h.tooMany {
		return nil, &invalid{"annotations", fmt.Sprintf("more than %d services", maxHalves)}
	}
	return h.spans[:h.n], nil
}

// fork begins another span. The last one stands in for those that are too many.
func (h *halves) fork() *span {
	if h.n == maxHalves {
		h.tooMany = true
		return &h.spans[h.n-1]
	}
	p, s := &h.spans[h.n], h.source
	h.n++
	p.reset()
	p.traceHigh, p.traceLow, p.id, p.parent = s.traceHigh, s.traceLow, s.id, s.parent
	p.name, p.debug = s.name, s.debug
	return p
}

// of returns the span of an endpoint; the first one is that of nobody, and
// becomes that of the first endpoint.
func (h *halves) of(e *endpoint) *span {
	if e.isEmpty() {
		return &h.spans[0]
	}
	if first := &h.spans[0]; first.local.isEmpty() {
		first.local = *e
		return first
	}
	for i := range h.n {
		if h.spans[i].local.sameService(e) {
			return &h.spans[i]
		}
	}
	p := h.fork()
	p.local = *e
	return p
}

// infer finds a begin that was not sent in the span's own times: if they lead to
// the end that was.
func (h *halves) infer() {
	s, c := h.source, &h.core
	ends := func(a *v1Annotation) bool {
		return a != nil && s.time != 0 && s.duration != 0 && s.time+s.duration == a.time
	}
	if c.cs == nil && ends(c.cr) {
		h.missing[0] = v1Annotation{annotation{time: s.time}, c.cr.endpoint}
		c.cs = &h.missing[0]
	}
	if c.sr == nil && ends(c.ss) {
		h.missing[1] = v1Annotation{annotation{time: s.time}, c.ss.endpoint}
		c.sr = &h.missing[1]
	}
}

// set gives p a begin and, if it is known, an end.
func (p *span) set(begin, end *v1Annotation) {
	p.time = begin.time
	if end != nil {
		p.duration = max(end.time-begin.time, 0)
	}
}

// setOwn gives the span of begin's endpoint the times of the source, or those of
// the annotations.
func (h *halves) setOwn(begin, end *v1Annotation) {
	p, s := h.of(&begin.endpoint), h.source
	if s.time != 0 && s.duration != 0 {
		p.time, p.duration = s.time, s.duration
		return
	}
	p.set(begin, end)
}

// call makes kinds and times of the annotations of a call.
func (h *halves) call() {
	c, s := &h.core, h.source
	switch {
	case c.cs != nil && c.sr != nil:
		h.sharedCall()
	case c.cs != nil && c.cr != nil:
		h.setOwn(c.cs, c.cr)
	case c.sr != nil && c.ss != nil:
		h.setOwn(c.sr, c.ss)
	default:
		h.unfinished()
	}
	// Version 1 has no flag for a span that continues its client's. It is one if
	// the client is not in it and the server did not say when it began.
	if c.cs == nil && c.sr != nil && (s.time == 0 || c.ss != nil && s.duration == 0) {
		h.of(&c.sr.endpoint).shared = true
	}
}

// sharedCall divides a span that both sides wrote to: the client owns its times,
// and the server has those of its annotations.
func (h *halves) sharedCall() {
	c := &h.core
	h.setOwn(c.cs, c.cr)
	client := h.of(&c.cs.endpoint)
	var server *span
	if c.cs.endpoint.sameService(&c.sr.endpoint) { // it calls itself
		client.kind = spanbuild.KindClient
		server = h.fork()
		server.local, server.kind = c.sr.endpoint, spanbuild.KindServer
	} else {
		server = h.of(&c.sr.endpoint)
	}
	server.shared = true
	server.set(c.sr, c.ss)
	if c.cr == nil && h.source.duration == 0 {
		client.duration = 0 // nobody waited
	}
	if c.cr != nil && c.ss != nil {
		client.networkTime = (c.cr.time - c.cs.time) - (c.ss.time - c.sr.time)
		client.hasNetworkTime = true
	}
}

// unfinished keeps what is known of a call of which one end is missing.
func (h *halves) unfinished() {
	c, s := &h.core, h.source
	for i := range h.n {
		p := &h.spans[i]
		begin, end := c.cs, c.cr
		switch p.kind {
		case spanbuild.KindServer:
			begin, end = c.sr, c.ss
		case spanbuild.KindClient:
		default:
			continue
		}
		if begin != nil {
			p.time = begin.time
		}
		if end != nil {
			p.annotations = append(p.annotations, end.annotation)
		}
	}
	if s.time != 0 {
		h.spans[0].time, h.spans[0].duration = s.time, s.duration
	}
}

// message makes kinds and times of the annotations of a message.
func (h *halves) message() {
	c := &h.core
	switch {
	case c.ms != nil && c.mr != nil: // nobody should, but some do
		producer := h.of(&c.ms.endpoint)
		var consumer *span
		if c.ms.endpoint.sameService(&c.mr.endpoint) {
			producer.kind = spanbuild.KindProducer
			consumer = h.fork()
			consumer.local, consumer.kind = c.mr.endpoint, spanbuild.KindConsumer
		} else {
			consumer = h.of(&c.mr.endpoint)
		}
		consumer.shared = true
		if c.wr != nil {
			consumer.set(c.wr, c.mr)
		} else {
			consumer.set(c.mr, nil)
		}
		producer.duration = 0
		producer.set(c.ms, c.ws)
	case c.ms != nil:
		h.setOwn(c.ms, c.ws)
	case c.mr != nil && c.wr != nil:
		h.setOwn(c.wr, c.mr)
	case c.mr != nil:
		h.setOwn(c.mr, nil)
	default:
		for _, a := range [...]*v1Annotation{c.ws, c.wr} {
			if a != nil {
				p := h.of(&a.endpoint)
				p.annotations = append(p.annotations, a.annotation)
			}
		}
	}
}

// tags gives every span the tags of its endpoint, and returns the addresses: of
// the client, the server and the broker.
func (h *halves) tags() (ca, sa, ma *endpoint) {
	for i := range h.source.binary {
		b := &h.source.binary[i]
		var e *endpoint
		if !b.endpoint.isEmpty() {
			e = &b.endpoint
		}
		switch string(b.key) {
		case "ca":
			ca = e
		case "sa":
			sa = e
		case "ma":
			ma = e
		default:
			p := h.of(&b.endpoint)
			if string(b.key) != "lc" || len(b.value) > 0 { // else it only names the endpoint
				p.tags = append(p.tags, tag{b.key, b.value})
			}
		}
	}
	return ca, sa, ma
}

// addresses makes remote endpoints of addresses.
func (h *halves) addresses(ca, sa, ma *endpoint) {
	c := &h.core
	if c.cs == nil && c.cr == nil && c.ss == nil && c.sr == nil && (ca != nil || sa != nil) {
		switch {
		case ca != nil && sa != nil:
			h.of(ca).remote = *sa
		case sa != nil: // that does not make it a client
			h.spans[0].remote = *sa
		default:
			h.spans[0].kind, h.spans[0].remote = spanbuild.KindServer, *ca
		}
		return
	}
	server, client := c.sr, c.cs
	if server == nil {
		server = c.ss
	}
	if client == nil {
		client = c.cr
	}
	if ca != nil && server != nil && !ca.equal(&server.endpoint) {
		remote := *ca
		if remote.sameService(&server.endpoint) {
			remote.service = nil // some name the server; it does not call itself
		}
		h.of(&server.endpoint).remote = remote
	}
	if sa != nil && client != nil {
		h.of(&client.endpoint).remote = *sa
	}
	for _, a := range [...]*v1Annotation{c.ms, c.mr} {
		if ma != nil && a != nil {
			h.of(&a.endpoint).remote = *ma
		}
	}
}

// addV1 splits a span of version 1 and adds what it becomes.
func (d *decoder) addV1(s *v1Span) *invalid {
	// Times that are none would overflow when they are subtracted.
	for i := range s.annotations {
		a := &s.annotations[i].annotation
		if a.time > maxMicros {
			return &invalid{"annotations", fmt.Sprintf("timestamp %d is no time in microseconds", a.time)}
		}
		a.time = max(a.time, 0)
	}
	if s.time > maxMicros {
		return &invalid{"timestamp", fmt.Sprintf("timestamp %d is no time in microseconds", s.time)}
	}
	s.time, s.duration = max(s.time, 0), max(s.duration, 0)
	spans, bad := d.halves.split(s)
	if bad != nil {
		return bad
	}
	if len(spans) > 1 {
		d.splits++
	}
	for i := range spans {
		if bad := d.add(&spans[i]); bad != nil {
			return bad
		}
	}
	return nil
}
