package metric

import (
	"sync"
	"time"
)

const (
	// aheadAtOnce is how far ahead of the time that has passed the wall clock is
	// followed at once: clocks are corrected by little all the time.
	aheadAtOnce = time.Minute
	// believedAfter is how long the wall clock must have been further ahead to be
	// followed none the less: a machine without a battery begins in 1970, and one that
	// slept did not count.
	believedAfter = 24 * time.Hour
)

// retentionClock is what deletes: the wall clock, but for a day the time that has
// passed where somebody has set the wall clock ahead while the store was open.
type retentionClock struct {
	wall   func() time.Time     // has no monotonic reading, by which jumps would not be seen
	passed func() time.Duration // since begin, whatever the wall clock does

	mu    sync.Mutex
	begin time.Time     // guarded, as what follows
	ahead bool          // the wall clock is too far ahead to be followed
	since time.Duration // passed when that began
}

// newRetentionClock makes the clock of a store that is opened now; now is nil but in
// tests.
func newRetentionClock(now func() time.Time) *retentionClock {
	if now == nil {
		opened := time.Now()
		return &retentionClock{
			wall:   func() time.Time { return time.Now().Round(0) },
			passed: func() time.Duration { return time.Since(opened) },
			begin:  opened.Round(0),
		}
	}
	begin := now()
	return &retentionClock{wall: now, passed: func() time.Duration { return now().Sub(begin) }, begin: begin}
}

// notBefore tells the clock that there are samples of t since before it began: if it
// shows less, it is behind.
func (c *retentionClock) notBefore(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begin.Before(t) {
		c.begin = t
	}
}

// now returns the time; it is never ahead of the wall clock's.
func (c *retentionClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, passed := c.wall(), c.passed()
	steady := c.begin.Add(passed)
	if wall.Sub(steady) <= aheadAtOnce {
		c.ahead = false
		if wall.After(steady) {
			c.begin = wall.Add(-passed)
		}
		return wall
	}
	if !c.ahead {
		c.ahead, c.since = true, passed
	}
	if passed-c.since < believedAfter {
		return steady
	}
	c.ahead, c.begin = false, wall.Add(-passed)
	return wall
}
