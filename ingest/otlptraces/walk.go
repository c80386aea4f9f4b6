package otlptraces

import (
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Numbers of fields of the envelopes.
const (
	fieldResourceSpans = 1 // of ExportTraceServiceRequest
	fieldScopeSpans    = 2 // of ResourceSpans
	fieldOldScopeSpans = 1000
	fieldSpan          = 2 // of ScopeSpans
)

// request decodes an ExportTraceServiceRequest.
func (r *Request) request(off, end int) error {
	const what = "request"
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		if tag == fieldResourceSpans<<3|wire.Bytes {
			if err := r.resourceSpans(s, e); err != nil {
				return err
			}
		} else if err := r.walk.Unknown(i, what, tag, 1); err != nil {
			return err
		}
		i = e
	}
	return nil
}

// resourceSpans decodes a ResourceSpans message. What surrounds the spans may
// stand behind them, so it is read first.
func (r *Request) resourceSpans(off, end int) error {
	attrs, extras, rows := len(r.Spans.Attrs), len(r.extras), len(r.messages)
	res, env, child, err := r.resourceHead(off, end)
	if err != nil {
		return err
	}
	r.envelope = r.walk.Fault
	if err := r.addResource(res, env); err != nil {
		return err
	}
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if tag == child {
			if err := r.scopeSpans(s, e); err != nil {
				return err
			}
		}
		i = e
	}
	if len(r.messages) == rows {
		k := len(r.resources) - 1
		r.resources, r.Spans.Resources = r.resources[:k], r.Spans.Resources[:k]
		r.extras, r.Spans.Attrs = r.extras[:extras], r.Spans.Attrs[:attrs]
	}
	return nil
}

// resourceHead decodes a ResourceSpans message but for the spans, which are in
// fields with the tag child.
func (r *Request) resourceHead(off, end int) (res signal.Resource, env wire.Envelope, child uint64, err error) {
	const what = "resource spans"
	env = r.extras.Envelope()
	res.AttrBegin = uint32(len(r.Spans.Attrs))
	child = fieldOldScopeSpans<<3 | wire.Bytes
	r.beginMessage()
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return res, env, 0, r.walk.Malformed(b, i, what)
		}
		isExtra := true
		switch tag {
		case 1<<3 | wire.Bytes:
			err = r.resource(s, e, &res)
		case fieldScopeSpans<<3 | wire.Bytes:
			child, isExtra = tag, false
		case fieldOldScopeSpans<<3 | wire.Bytes:
			isExtra = false
		case 3<<3 | wire.Bytes:
			res.SchemaURL = r.text(b, s, e, "schema URL of a resource")
		default:
			err = r.walk.Unknown(i, what, tag, 3)
			if tag>>3 == fieldOldScopeSpans {
				err = r.walk.Unknown(i, what, tag, fieldOldScopeSpans)
			}
		}
		if err == nil && isExtra {
			err = r.extras.Add(&r.budget, &env, i, e)
		}
		if err != nil {
			return res, env, 0, err
		}
		i = e
	}
	res.AttrEnd = uint32(len(r.Spans.Attrs))
	return res, env, child, nil
}

// addResource appends a resource, cut if it is beyond the limits.
func (r *Request) addResource(res signal.Resource, env wire.Envelope) (err error) {
	s := &r.Spans
	if r.resources, err = wire.Grow(&r.budget, r.resources, 12); err != nil {
		return err
	}
	if s.Resources, err = wire.Grow(&r.budget, s.Resources, 24); err != nil {
		return err
	}
	r.resources = append(r.resources, env)
	s.Resources = append(s.Resources, res)
	if r.longest > r.limits.value || r.most > r.limits.attrs || int(env.Size) > r.limits.bytes {
		return r.cutResource(len(r.resources)-1, r.limits, true)
	}
	return nil
}

// resource decodes a Resource message, or one of several pieces, into res and
// what follows in Attrs.
func (r *Request) resource(off, end int, res *signal.Resource) error {
	const what = "resource"
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | wire.Bytes:
			err = r.attribute(b, s, e)
		case 2<<3 | wire.Varint:
			res.DroppedAttrs = uint32(varintAt(b, s))
		case 3<<3 | wire.Bytes:
			err = r.walk.Entity(b, s, e)
		default:
			err = r.walk.Unknown(i, what, tag, 3)
		}
		if err != nil {
			return err
		}
		i = e
	}
	r.most = max(r.most, len(r.Spans.Attrs)-int(res.AttrBegin))
	return nil
}

// scopeSpans decodes a ScopeSpans message.
func (r *Request) scopeSpans(off, end int) error {
	attrs, extras, rows := len(r.Spans.Attrs), len(r.extras), len(r.messages)
	scope, env, err := r.scopeHead(off, end, uint32(len(r.resources)-1))
	if err != nil {
		return err
	}
	outer := r.envelope
	if outer.Reason == wire.ReasonNone {
		r.envelope = r.walk.Fault
	}
	if err := r.addScope(scope, env); err != nil {
		return err
	}
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if tag == fieldSpan<<3|wire.Bytes {
			if err := r.span(s, e); err != nil {
				return err
			}
		}
		i = e
	}
	if len(r.messages) == rows {
		k := len(r.scopes) - 1
		r.scopes, r.Spans.Scopes = r.scopes[:k], r.Spans.Scopes[:k]
		r.extras, r.Spans.Attrs = r.extras[:extras], r.Spans.Attrs[:attrs]
	}
	r.envelope = outer
	return nil
}

// scopeHead decodes a ScopeSpans message of the given resource but for the spans.
func (r *Request) scopeHead(off, end int, resource uint32) (scope signal.Scope, env wire.Envelope, err error) {
	const what = "scope spans"
	env = r.extras.Envelope()
	scope = signal.Scope{Resource: resource, AttrBegin: uint32(len(r.Spans.Attrs))}
	r.beginMessage()
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return scope, env, r.walk.Malformed(b, i, what)
		}
		if tag == fieldSpan<<3|wire.Bytes {
			i = e
			continue
		}
		switch tag {
		case 1<<3 | wire.Bytes:
			err = r.scope(s, e, &scope)
		case 3<<3 | wire.Bytes:
			scope.SchemaURL = r.text(b, s, e, "schema URL of a scope")
		default:
			err = r.walk.Unknown(i, what, tag, 3)
		}
		if err == nil {
			err = r.extras.Add(&r.budget, &env, i, e)
		}
		if err != nil {
			return scope, env, err
		}
		i = e
	}
	scope.AttrEnd = uint32(len(r.Spans.Attrs))
	return scope, env, nil
}

// addScope appends a scope, cut if it is beyond the limits.
func (r *Request) addScope(scope signal.Scope, env wire.Envelope) (err error) {
	s := &r.Spans
	if r.scopes, err = wire.Grow(&r.budget, r.scopes, 12); err != nil {
		return err
	}
	if s.Scopes, err = wire.Grow(&r.budget, s.Scopes, 40); err != nil {
		return err
	}
	r.scopes = append(r.scopes, env)
	s.Scopes = append(s.Scopes, scope)
	if r.longest > r.limits.value || r.most > r.limits.attrs || int(env.Size) > r.limits.bytes {
		return r.cutScope(len(r.scopes)-1, r.limits, true)
	}
	return nil
}

// scope decodes an InstrumentationScope message, or one of several pieces.
func (r *Request) scope(off, end int, scope *signal.Scope) error {
	const what = "scope"
	b := r.Spans.Buf[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | wire.Bytes:
			scope.Name = r.text(b, s, e, "name of a scope")
		case 2<<3 | wire.Bytes:
			scope.Version = r.text(b, s, e, "version of a scope")
		case 3<<3 | wire.Bytes:
			err = r.attribute(b, s, e)
		case 4<<3 | wire.Varint:
			scope.DroppedAttrs = uint32(varintAt(b, s))
		default:
			err = r.walk.Unknown(i, what, tag, 4)
		}
		if err != nil {
			return err
		}
		i = e
	}
	r.most = max(r.most, len(r.Spans.Attrs)-int(scope.AttrBegin))
	return nil
}

// beginMessage forgets what is known of the message at hand.
func (r *Request) beginMessage() {
	r.walk.Fault = wire.Fault{}
	r.longest, r.most = 0, 0
}
