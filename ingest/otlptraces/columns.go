package otlptraces

import "github.com/vedette-io/vedette/internal/signal"

func roomFor[T any](c []T, room int) []T {
	if cap(c) >= room {
		return c
	}
	return append(make([]T, 0, room), c...)
}

// growColumns gives every column of s that has an entry per span the same room.
func growColumns(s *signal.Spans, room int) {
	s.Scope = roomFor(s.Scope, room)
	s.TraceIDs = roomFor(s.TraceIDs, room)
	s.SpanIDs = roomFor(s.SpanIDs, room)
	s.Parents = roomFor(s.Parents, room)
	s.Starts = roomFor(s.Starts, room)
	s.Ends = roomFor(s.Ends, room)
	s.Names = roomFor(s.Names, room)
	s.Kinds = roomFor(s.Kinds, room)
	s.Statuses = roomFor(s.Statuses, room)
	s.Messages = roomFor(s.Messages, room)
	s.States = roomFor(s.States, room)
	s.Flags = roomFor(s.Flags, room)
	s.DroppedAttrs = roomFor(s.DroppedAttrs, room)
	s.DroppedEvents = roomFor(s.DroppedEvents, room)
	s.DroppedLinks = roomFor(s.DroppedLinks, room)
	s.AttrBegin = roomFor(s.AttrBegin, room)
	s.AttrEnd = roomFor(s.AttrEnd, room)
	s.EventBegin = roomFor(s.EventBegin, room)
	s.EventEnd = roomFor(s.EventEnd, room)
	s.LinkBegin = roomFor(s.LinkBegin, room)
	s.LinkEnd = roomFor(s.LinkEnd, room)
}

// appendRow appends row i of m to d, which shares everything with m that has no
// entry per span.
func appendRow(d, m *signal.Spans, i uint32) {
	d.Scope = append(d.Scope, m.Scope[i])
	d.TraceIDs = append(d.TraceIDs, m.TraceIDs[i])
	d.SpanIDs = append(d.SpanIDs, m.SpanIDs[i])
	d.Parents = append(d.Parents, m.Parents[i])
	d.Starts = append(d.Starts, m.Starts[i])
	d.Ends = append(d.Ends, m.Ends[i])
	d.Names = append(d.Names, m.Names[i])
	d.Kinds = append(d.Kinds, m.Kinds[i])
	d.Statuses = append(d.Statuses, m.Statuses[i])
	d.Messages = append(d.Messages, m.Messages[i])
	d.States = append(d.States, m.States[i])
	d.Flags = append(d.Flags, m.Flags[i])
	d.DroppedAttrs = append(d.DroppedAttrs, m.DroppedAttrs[i])
	d.DroppedEvents = append(d.DroppedEvents, m.DroppedEvents[i])
	d.DroppedLinks = append(d.DroppedLinks, m.DroppedLinks[i])
	d.AttrBegin = append(d.AttrBegin, m.AttrBegin[i])
	d.AttrEnd = append(d.AttrEnd, m.AttrEnd[i])
	d.EventBegin = append(d.EventBegin, m.EventBegin[i])
	d.EventEnd = append(d.EventEnd, m.EventEnd[i])
	d.LinkBegin = append(d.LinkBegin, m.LinkBegin[i])
	d.LinkEnd = append(d.LinkEnd, m.LinkEnd[i])
}

// copyRow sets row i of s to row k.
func copyRow(s *signal.Spans, i, k int) {
	s.Scope[i] = s.Scope[k]
	s.TraceIDs[i] = s.TraceIDs[k]
	s.SpanIDs[i] = s.SpanIDs[k]
	s.Parents[i] = s.Parents[k]
	s.Starts[i] = s.Starts[k]
	s.Ends[i] = s.Ends[k]
	s.Names[i] = s.Names[k]
	s.Kinds[i] = s.Kinds[k]
	s.Statuses[i] = s.Statuses[k]
	s.Messages[i] = s.Messages[k]
	s.States[i] = s.States[k]
	s.Flags[i] = s.Flags[k]
	s.DroppedAttrs[i] = s.DroppedAttrs[k]
	s.DroppedEvents[i] = s.DroppedEvents[k]
	s.DroppedLinks[i] = s.DroppedLinks[k]
	s.AttrBegin[i] = s.AttrBegin[k]
	s.AttrEnd[i] = s.AttrEnd[k]
	s.EventBegin[i] = s.EventBegin[k]
	s.EventEnd[i] = s.EventEnd[k]
	s.LinkBegin[i] = s.LinkBegin[k]
	s.LinkEnd[i] = s.LinkEnd[k]
}

// truncateRows leaves the first n spans.
func truncateRows(s *signal.Spans, n int) {
	s.Scope = s.Scope[:n]
	s.TraceIDs = s.TraceIDs[:n]
	s.SpanIDs = s.SpanIDs[:n]
	s.Parents = s.Parents[:n]
	s.Starts = s.Starts[:n]
	s.Ends = s.Ends[:n]
	s.Names = s.Names[:n]
	s.Kinds = s.Kinds[:n]
	s.Statuses = s.Statuses[:n]
	s.Messages = s.Messages[:n]
	s.States = s.States[:n]
	s.Flags = s.Flags[:n]
	s.DroppedAttrs = s.DroppedAttrs[:n]
	s.DroppedEvents = s.DroppedEvents[:n]
	s.DroppedLinks = s.DroppedLinks[:n]
	s.AttrBegin = s.AttrBegin[:n]
	s.AttrEnd = s.AttrEnd[:n]
	s.EventBegin = s.EventBegin[:n]
	s.EventEnd = s.EventEnd[:n]
	s.LinkBegin = s.LinkBegin[:n]
	s.LinkEnd = s.LinkEnd[:n]
}
