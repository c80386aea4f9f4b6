package zipkin

import (
	"fmt"

	"github.com/vedette-io/vedette/ingest/spanbuild"
)

// jsonList reads the spans of a JSON list, one by one.
func (d *decoder) jsonList(body []byte, read func(r *jsonReader), done func() *invalid) error {
	r := &d.json
	*r = jsonReader{b: body, unescaped: r.unescaped[:0], reserve: d.build.Reserve}
	d.index, d.field = -1, ""
	for more := r.begin('['); more; more = r.next('[') {
		d.index++
		d.field = ""
		read(r)
		if r.failed() {
			break
		}
		d.field = ""
		if bad := done(); bad != nil {
			return d.refuse(bad)
		}
		if d.err != nil {
			return d.err
		}
		// The strings were written, so their memory is free.
		r.unescaped = r.unescaped[:0]
	}
	if !r.failed() && r.peek() != 0 {
		r.malformed("the end")
	}
	if r.err != nil {
		return r.err
	}
	if r.failed() {
		return d.refuse(&invalid{d.field, r.detail})
	}
	return nil
}

// jsonV2 reads a list of spans of version 2.
func (d *decoder) jsonV2(body []byte) error {
	return d.jsonList(body, d.spanV2, func() *invalid { return d.add(&d.span) })
}

// name notes which field is read, and passes over a null.
func (d *decoder) name(r *jsonReader) (name string, ok bool) {
	// Known names are constants, so that most spans allocate nothing.
	switch k := r.key(); string(k) {
	case "traceId":
		d.field = "traceId"
	case "id":
		d.field = "id"
	case "parentId":
		d.field = "parentId"
	case "name":
		d.field = "name"
	case "kind":
		d.field = "kind"
	case "timestamp":
		d.field = "timestamp"
	case "duration":
		d.field = "duration"
	case "localEndpoint":
		d.field = "localEndpoint"
	case "remoteEndpoint":
		d.field = "remoteEndpoint"
	case "annotations":
		d.field = "annotations"
	case "binaryAnnotations":
		d.field = "binaryAnnotations"
	case "tags":
		d.field = "tags"
	case "debug":
		d.field = "debug"
	case "shared":
		d.field = "shared"
	default:
		d.field = ""
	}
	return d.field, !r.null()
}

func (d *decoder) spanV2(r *jsonReader) {
	s := &d.span
	s.reset()
	for more := r.begin('{'); more; more = r.next('{') {
		name, ok := d.name(r)
		if !ok {
			if name == "traceId" || name == "id" {
				r.fail("Expected a string but was NULL")
			}
			continue
		}
		switch name {
		case "traceId", "id", "parentId":
			d.idField(r, name, &s.traceHigh, &s.traceLow, &s.id, &s.parent)
		case "kind":
			s.kind = d.kind(r)
		case "name":
			s.name = r.text()
		case "timestamp":
			s.time = r.int()
		case "duration":
			s.duration = r.int()
		case "localEndpoint":
			s.local = d.endpoint(r)
		case "remoteEndpoint":
			s.remote = d.endpoint(r)
		case "annotations":
			for more := r.begin('['); more; more = r.next('[') {
				a, _ := d.annotation(r)
				if s.annotations = append(s.annotations, a); len(s.annotations) > maxAnnotations {
					r.fail(fmt.Sprintf("more than %d annotations", maxAnnotations))
				}
			}
		case "tags":
			d.tagsV2(r)
		case "debug":
			s.debug = r.bool()
		case "shared":
			s.shared = r.bool()
		case "binaryAnnotations":
			r.fail("Expected a JSON_V2 encoded list, but received: JSON_V1")
		default:
			r.skip()
		}
	}
}

// idField reads one of the three ids.
func (d *decoder) idField(r *jsonReader, name string, high, low, id, parent *uint64) {
	b := r.text()
	if r.failed() {
		return
	}
	text := ""
	switch name {
	case "traceId":
		*high, *low, text = parseTraceID(b)
	case "id":
		if *id, text = parseID(name, b); text == "" && *id == 0 {
			text = "id is all zeros"
		}
	default:
		*parent, text = parseID(name, b)
	}
	if text != "" {
		r.fail(text)
	}
}

func (d *decoder) kind(r *jsonReader) uint8 {
	b := r.text()
	switch string(b) {
	case "CLIENT":
		return spanbuild.KindClient
	case "SERVER":
		return spanbuild.KindServer
	case "PRODUCER":
		return spanbuild.KindProducer
	case "CONSUMER":
		return spanbuild.KindConsumer
	}
	if !r.failed() {
		r.fail("No enum constant zipkin2.Span.Kind." + cut(b, 40))
	}
	return 0
}

func (d *decoder) tagsV2(r *jsonReader) {
	s := &d.span
	for more := r.begin('{'); more; more = r.next('{') {
		key := r.key()
		if r.kind() == "NULL" {
			r.fail("No value for tag " + cut(key, 40))
			return
		}
		value := r.text()
		if s.tags = append(s.tags, tag{key, value}); len(s.tags) > maxTags {
			r.fail(fmt.Sprintf("more than %d tags", maxTags))
			return
		}
	}
}

// annotation reads an annotation, in version 1 with its endpoint.
func (d *decoder) annotation(r *jsonReader) (a annotation, e endpoint) {
	var hasTime, hasValue bool
	for more := r.begin('{'); more; more = r.next('{') {
		switch k := r.key(); string(k) {
		case "timestamp":
			a.time, hasTime = r.int(), true
		case "value":
			a.value, hasValue = r.text(), true
		case "endpoint":
			if !r.null() {
				e = d.endpoint(r)
			}
		default:
			r.skip()
		}
	}
	if !r.failed() && (!hasTime || !hasValue) {
		r.fail("Incomplete annotation")
	}
	return a, e
}

func (d *decoder) endpoint(r *jsonReader) (e endpoint) {
	for more := r.begin('{'); more; more = r.next('{') {
		k := r.key()
		if r.null() {
			continue
		}
		switch string(k) {
		case "serviceName":
			e.service = r.text()
		case "ipv4", "ipv6":
			e.setIPText(r.text())
		case "port":
			if port := r.int(); !e.setPort(port) {
				r.fail(fmt.Sprintf("invalid port %d", port))
			}
		default:
			r.skip()
		}
	}
	return e
}
