package rows

import "github.com/vedette-io/vedette/internal/signal"

// kindServer is OTLP's number.
const kindServer = 2

// smallTrace is how many rows are searched one by one for a parent.
const smallTrace = 32

// parentFinder finds the rows of parents.
type parentFinder struct {
	byID map[signal.SpanID]int32
}

// find sets dst, of one entry per row, for traces that begin at traceRows. A
// span that calls itself its parent has it elsewhere. Parents are as
// Cursor.Parents describes them; server reports whether a row is a server's.
func (p *parentFinder) find(dst []int32, traceRows []uint32, ids, parents []signal.SpanID, server func(row int) bool) {
	for t := range len(traceRows) - 1 {
		first, end := int(traceRows[t]), int(traceRows[t+1])
		if end-first <= smallTrace {
			findSmall(dst, first, end, ids, parents, server)
		} else {
			p.findLarge(dst, first, end, ids, parents, server)
		}
	}
}

func findSmall(dst []int32, first, end int, ids, parents []signal.SpanID, server func(row int) bool) {
	for row := first; row < end; row++ {
		id := parents[row]
		switch {
		case id.IsZero():
			dst[row] = ParentNone
			continue
		case id == ids[row]:
			dst[row] = ParentElsewhere
			continue
		case row > first && id == parents[row-1] && id != ids[row-1]:
			dst[row] = dst[row-1]
			continue
		}
		found := ParentElsewhere
		for other := first; other < end; other++ {
			if ids[other] != id {
				continue
			}
			if server(other) {
				found = int32(other)
				break
			}
			if found < 0 {
				found = int32(other)
			}
		}
		dst[row] = found
	}
}

func (p *parentFinder) findLarge(dst []int32, first, end int, ids, parents []signal.SpanID, server func(row int) bool) {
	if p.byID == nil {
		p.byID = make(map[signal.SpanID]int32)
	}
	clear(p.byID)
	for row := first; row < end; row++ {
		if other, ok := p.byID[ids[row]]; !ok || !server(int(other)) && server(row) {
			p.byID[ids[row]] = int32(row)
		}
	}
	for row := first; row < end; row++ {
		switch id := parents[row]; {
		case id.IsZero():
			dst[row] = ParentNone
		case id == ids[row]:
			dst[row] = ParentElsewhere
		default:
			found, ok := p.byID[id]
			if !ok {
				found = ParentElsewhere
			}
			dst[row] = found
		}
	}
}
