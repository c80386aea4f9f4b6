package rows

import (
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
)

// appendRows appends the run, whose parts are loaded, to dst.
func (p *parts) appendRows(dst *signal.Spans, c *Cursor, r Run) error {
	p.call++
	base, n := dst.Len(), r.End-r.First
	extend(dst, n)
	p.sortScopes(c)
	p.appendScopes(dst, c)
	var lastShape uint32
	var name signal.ByteRange
	for row := range n {
		slot := &p.slots[p.rowsIn[row]]
		i := base + int(slot.at)
		slot.at++
		shape := &c.sp.Shapes[p.shapes[row]]
		if row == 0 || p.shapes[row] != lastShape {
			lastShape, name = p.shapes[row], put(dst, shape.Name)
		}
		id, err := p.traceOf(c, r.First+row)
		if err != nil {
			return err
		}
		dst.Scope[i] = slot.index
		dst.TraceIDs[i], dst.SpanIDs[i], dst.Parents[i] = id, p.ids[row], p.parents[row]
		dst.Starts[i], dst.Ends[i] = p.starts[row], p.starts[row]+p.durations[row]
		dst.Names[i], dst.Kinds[i], dst.Flags[i], dst.Statuses[i] = name, shape.Kind, shape.Flags, p.statuses[row]
		var x extras
		if dst.AttrBegin[i], dst.AttrEnd[i], err = p.appendAttrs(dst, c, shape, &x); err != nil {
			return err
		}
		dst.Messages[i], dst.States[i] = x.message, x.state
		dst.DroppedAttrs[i], dst.DroppedEvents[i], dst.DroppedLinks[i] = x.droppedAttrs, x.droppedEvents, x.droppedLinks
		if err := p.appendEvents(dst, c, i, row); err != nil {
			return err
		}
		if err := p.appendLinks(dst, c, i, row); err != nil {
			return err
		}
	}
	return nil
}

// extend adds n spans to dst.
func extend(dst *signal.Spans, n int) {
	dst.Scope = extended(dst.Scope, n)
	dst.TraceIDs, dst.SpanIDs, dst.Parents = extended(dst.TraceIDs, n), extended(dst.SpanIDs, n), extended(dst.Parents, n)
	dst.Starts, dst.Ends = extended(dst.Starts, n), extended(dst.Ends, n)
	dst.Names, dst.Kinds, dst.Statuses = extended(dst.Names, n), extended(dst.Kinds, n), extended(dst.Statuses, n)
	dst.Messages, dst.States, dst.Flags = extended(dst.Messages, n), extended(dst.States, n), extended(dst.Flags, n)
	dst.DroppedAttrs, dst.DroppedEvents = extended(dst.DroppedAttrs, n), extended(dst.DroppedEvents, n)
	dst.DroppedLinks = extended(dst.DroppedLinks, n)
	dst.AttrBegin, dst.AttrEnd = extended(dst.AttrBegin, n), extended(dst.AttrEnd, n)
	dst.EventBegin, dst.EventEnd = extended(dst.EventBegin, n), extended(dst.EventEnd, n)
	dst.LinkBegin, dst.LinkEnd = extended(dst.LinkBegin, n), extended(dst.LinkEnd, n)
}

// extended returns s with n more entries, whatever they hold.
func extended[T any](s []T, n int) []T { return slices.Grow(s, n)[:len(s)+n] }

// put appends text to dst's buffer.
func put[T string | []byte](dst *signal.Spans, text T) signal.ByteRange {
	if len(text) == 0 {
		return signal.ByteRange{}
	}
	r := signal.ByteRange{Off: uint32(len(dst.Buf)), Len: uint32(len(text))}
	dst.Buf = append(dst.Buf, text...)
	return r
}

// appendScopes appends the run's resources and scopes to dst and gives every
// slot the place of its first row.
func (p *parts) appendScopes(dst *signal.Spans, c *Cursor) {
	at := uint32(0)
	for i, n := range p.order {
		s := &p.slots[n]
		if i == 0 || p.slots[p.order[i-1]].resource != s.resource {
			info := &c.sp.Resources[s.resource]
			res := signal.Resource{DroppedAttrs: info.DroppedAttrs, SchemaURL: put(dst, info.SchemaURL)}
			res.AttrBegin, res.AttrEnd = appendInfo(dst, info.Attrs)
			dst.Resources = append(dst.Resources, res)
		}
		info := &c.sp.Scopes[s.scope]
		scope := signal.Scope{
			Resource: uint32(len(dst.Resources) - 1), Name: put(dst, info.Name), Version: put(dst, info.Version),
			DroppedAttrs: info.DroppedAttrs, SchemaURL: put(dst, info.SchemaURL),
		}
		scope.AttrBegin, scope.AttrEnd = appendInfo(dst, info.Attrs)
		s.index = uint32(len(dst.Scopes))
		dst.Scopes = append(dst.Scopes, scope)
		s.at = at
		at += s.rows
	}
}

func appendInfo(dst *signal.Spans, attrs []Attribute) (begin, end uint32) {
	begin = uint32(len(dst.Attrs))
	for i := range attrs {
		a := &attrs[i]
		out := signal.Attr{Key: put(dst, a.Key), Type: a.Type, Num: a.Num}
		if a.Type.InBuf() {
			out.Num = signal.PackRange(put(dst, a.Text))
		}
		dst.Attrs = append(dst.Attrs, out)
	}
	return begin, uint32(len(dst.Attrs))
}

// traceOf returns the trace of a row of the group, which lies in the run's.
func (p *parts) traceOf(c *Cursor, row int) (signal.TraceID, error) {
	if p.traceCall == p.call && row < p.traceEnd {
		return p.trace, nil
	}
	rows, err := c.TraceRows()
	if err != nil {
		return signal.TraceID{}, err
	}
	t, ok := slices.BinarySearch(rows, uint32(row))
	if !ok {
		t--
	}
	if l := &c.traceIDs[0]; l.epoch == c.epoch {
		p.trace = l.vals[t]
	} else {
		ids, err := c.group.data.traceIDs(c, fieldTraceIDs, t, t+1, &p.traceBuf)
		if err != nil {
			return signal.TraceID{}, err
		}
		p.trace = ids[0]
	}
	p.traceCall, p.traceEnd = p.call, int(rows[t+1])
	return p.trace, nil
}

// appendAttrs appends the next row's attributes, and sets what it has besides.
func (p *parts) appendAttrs(dst *signal.Spans, c *Cursor, shape *Shape, x *extras) (begin, end uint32, err error) {
	begin = uint32(len(dst.Attrs))
	for _, col := range shape.Columns {
		m := &p.cols[col]
		v, i := m.vals, m.next
		if v == nil {
			continue
		}
		m.next++
		switch v.Info.Role {
		case RoleAttr:
			if m.call != p.call {
				m.call, m.key = p.call, put(dst, v.Info.Key)
			}
			a := signal.Attr{Key: m.key, Type: v.Info.Type}
			if v.Nums != nil {
				a.Num = v.Nums[i]
			} else if a.Type.InBuf() {
				a.Num = signal.PackRange(put(dst, v.At(i)))
			}
			dst.Attrs = append(dst.Attrs, a)
		case RoleRest:
			key, t, num, value, ok := ParseRest(v.At(i))
			if !ok {
				return 0, 0, c.corrupt("packed attribute %d of level %d", i, v.Info.Level)
			}
			a := signal.Attr{Key: put(dst, key), Type: t, Num: num}
			if t.InBuf() {
				a.Num = signal.PackRange(put(dst, value))
			}
			dst.Attrs = append(dst.Attrs, a)
		case RoleMessage:
			x.message = put(dst, v.At(i))
		case RoleState:
			x.state = put(dst, v.At(i))
		case RoleDroppedAttrs:
			x.droppedAttrs = uint32(v.Nums[i])
		case RoleDroppedEvents:
			x.droppedEvents = uint32(v.Nums[i])
		case RoleDroppedLinks:
			x.droppedLinks = uint32(v.Nums[i])
		}
	}
	return begin, uint32(len(dst.Attrs)), nil
}

// appendEvents appends the events of the run's row to dst, whose span i it is.
func (p *parts) appendEvents(dst *signal.Spans, c *Cursor, i, row int) error {
	dst.EventBegin[i] = uint32(len(dst.Events))
	if p.eventRows != nil {
		for e := p.eventRows[row] - p.eventRows[0]; e < p.eventRows[row+1]-p.eventRows[0]; e++ {
			shape := &c.sp.Shapes[p.eventShapes[e]]
			out := signal.Event{Time: p.eventTimes[e], Name: put(dst, shape.Name)}
			var x extras
			var err error
			if out.AttrBegin, out.AttrEnd, err = p.appendAttrs(dst, c, shape, &x); err != nil {
				return err
			}
			out.DroppedAttrs = x.droppedAttrs
			dst.Events = append(dst.Events, out)
		}
	}
	dst.EventEnd[i] = uint32(len(dst.Events))
	return nil
}

// appendLinks appends the links of the run's row to dst, whose span i it is.
func (p *parts) appendLinks(dst *signal.Spans, c *Cursor, i, row int) error {
	dst.LinkBegin[i] = uint32(len(dst.Links))
	if p.linkRows != nil {
		for k := p.linkRows[row] - p.linkRows[0]; k < p.linkRows[row+1]-p.linkRows[0]; k++ {
			shape := &c.sp.Shapes[p.linkShapes[k]]
			out := signal.Link{TraceID: p.linkTraces[k], SpanID: p.linkIDs[k], Flags: shape.Flags}
			var x extras
			var err error
			if out.AttrBegin, out.AttrEnd, err = p.appendAttrs(dst, c, shape, &x); err != nil {
				return err
			}
			out.State, out.DroppedAttrs = x.state, x.droppedAttrs
			dst.Links = append(dst.Links, out)
		}
	}
	dst.LinkEnd[i] = uint32(len(dst.Links))
	return nil
}
