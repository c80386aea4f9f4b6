package trace

import "github.com/vedette-io/vedette/internal/signal"

// dropDuplicates drops spans of one trace, from span number from on, that are
// there before: same id, kind, start, end and name.
func dropDuplicates(s *signal.Spans, from int) {
	if s.Len()-from < 2 {
		return
	}
	seen := make(map[signal.SpanID][]int32, s.Len()-from)
	keep := from
	for i := from; i < s.Len(); i++ {
		known := seen[s.SpanIDs[i]]
		if known != nil && hasSpan(s, known, i) {
			continue
		}
		moveSpan(s, keep, i)
		seen[s.SpanIDs[keep]] = append(known, int32(keep))
		keep++
	}
	cutSpans(s, keep)
}

func hasSpan(s *signal.Spans, among []int32, i int) bool {
	for _, j := range among {
		if s.Kinds[i] == s.Kinds[j] && s.Starts[i] == s.Starts[j] && s.Ends[i] == s.Ends[j] &&
			string(s.Bytes(s.Names[i])) == string(s.Bytes(s.Names[j])) {
			return true
		}
	}
	return false
}

// moveSpan makes span i the one with number to.
func moveSpan(s *signal.Spans, to, i int) {
	if to == i {
		return
	}
	s.Scope[to], s.TraceIDs[to], s.SpanIDs[to], s.Parents[to] = s.Scope[i], s.TraceIDs[i], s.SpanIDs[i], s.Parents[i]
	s.Starts[to], s.Ends[to], s.Names[to], s.Kinds[to] = s.Starts[i], s.Ends[i], s.Names[i], s.Kinds[i]
	s.Statuses[to], s.Messages[to], s.States[to], s.Flags[to] = s.Statuses[i], s.Messages[i], s.States[i], s.Flags[i]
	s.DroppedAttrs[to], s.DroppedEvents[to], s.DroppedLinks[to] = s.DroppedAttrs[i], s.DroppedEvents[i], s.DroppedLinks[i]
	s.AttrBegin[to], s.AttrEnd[to] = s.AttrBegin[i], s.AttrEnd[i]
	s.EventBegin[to], s.EventEnd[to] = s.EventBegin[i], s.EventEnd[i]
	s.LinkBegin[to], s.LinkEnd[to] = s.LinkBegin[i], s.LinkEnd[i]
}

// cutSpans drops the spans from number n on. What they point to stays.
func cutSpans(s *signal.Spans, n int) {
	cut(&s.Scope, n)
	cut(&s.TraceIDs, n)
	cut(&s.SpanIDs, n)
	cut(&s.Parents, n)
	cut(&s.Starts, n)
	cut(&s.Ends, n)
	cut(&s.Names, n)
	cut(&s.Kinds, n)
	cut(&s.Statuses, n)
	cut(&s.Messages, n)
	cut(&s.States, n)
	cut(&s.Flags, n)
	cut(&s.DroppedAttrs, n)
	cut(&s.DroppedEvents, n)
	cut(&s.DroppedLinks, n)
	cut(&s.AttrBegin, n)
	cut(&s.AttrEnd, n)
	cut(&s.EventBegin, n)
	cut(&s.EventEnd, n)
	cut(&s.LinkBegin, n)
	cut(&s.LinkEnd, n)
}

func cut[T any](s *[]T, n int) { *s = (*s)[:min(n, len(*s))] }
