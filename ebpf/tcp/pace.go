package tcp

import "time"

// A look at all connections takes time in proportion to the files that are open
// on the host: half a second for some hundred thousand. Where it is long it is
// taken rarely, so that it costs a fiftieth of a processor at most.
const (
	shortLook = 100 * time.Millisecond
	restFor   = 50
)

// pace says when to look again.
type pace struct{ next time.Time }

// due says whether it is time for a look.
func (p *pace) due(now time.Time) bool { return !now.Before(p.next) }

// looked notes a look that has taken so long.
func (p *pace) looked(end time.Time, took time.Duration) {
	p.next = time.Time{}
	if took > shortLook {
		p.next = end.Add(restFor * took)
	}
}
