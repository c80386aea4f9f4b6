package zipkin

// jsonV1 reads a list of spans of version 1.
func (d *decoder) jsonV1(body []byte) error {
	return d.jsonList(body, d.spanV1, func() *invalid { return d.addV1(&d.v1) })
}

func (d *decoder) spanV1(r *jsonReader) {
	s := &d.v1
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
		case "name":
			s.name = r.text()
		case "timestamp":
			s.time = r.int()
		case "duration":
			s.duration = r.int()
		case "debug":
			s.debug = r.bool()
		case "annotations":
			for more := r.begin('['); more; more = r.next('[') {
				a, e := d.annotation(r)
				if bad := s.addAnnotation(a, e); bad != nil {
					r.fail(bad.detail)
				}
			}
		case "binaryAnnotations":
			for more := r.begin('['); more; more = r.next('[') {
				d.binaryAnnotation(r)
			}
		case "localEndpoint", "remoteEndpoint", "tags":
			r.fail("Expected a JSON_V1 encoded list, but received: JSON_V2")
		default:
			r.skip()
		}
	}
}

func (d *decoder) binaryAnnotation(r *jsonReader) {
	var b v1Binary
	var hasKey, hasValue bool
	for more := r.begin('{'); more; more = r.next('{') {
		k := r.key()
		if r.null() {
			continue
		}
		switch string(k) {
		case "key":
			b.key, hasKey = r.text(), true
		case "value":
			hasValue = true
			switch r.kind() {
			case "BOOLEAN":
				b.value = []byte("false")
				if r.bool() {
					b.value = []byte("true")
				}
			case "STRING", "NUMBER":
				b.value = r.text()
			default:
				hasValue = false
				r.skip()
			}
		case "endpoint":
			b.endpoint = d.endpoint(r)
		default:
			r.skip()
		}
	}
	if r.failed() {
		return
	}
	if !hasKey {
		r.fail("No key")
		return
	}
	if !hasValue || isAddress(b.key) && b.endpoint.isEmpty() {
		return
	}
	if isAddress(b.key) && string(b.value) == "false" {
		return
	}
	if bad := d.v1.addBinary(b); bad != nil {
		r.fail(bad.detail)
	}
}
