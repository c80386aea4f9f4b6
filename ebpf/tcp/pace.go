package tcp

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A look at all connections takes a processor in proportion to the files that are open
// on the host: half a second for some hundred thousand. Where it is long it is
// taken rarely, so that it costs a fiftieth of a processor at most.
const (
	shortLook = 100 * time.Millisecond
	restFor   = 50
)

// pace says when to look again.
type pace struct {
	next  time.Time
	eager bool // always look; for tests
}

// due says whether it is time for a look.
func (p *pace) due(now time.Time) bool { return p.eager || !now.Before(p.next) }

// looked notes a look that has taken so much of a processor.
func (p *pace) looked(end time.Time, took time.Duration) {
	p.next = time.Time{}
	if took > shortLook {
		p.next = end.Add(restFor * took)
	}
}

// processorOf says how much of a processor do has taken, by this thread. What it
// waited on a busy host does not make looks rarer.
func processorOf(do func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var begin, end unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &begin); err != nil {
		return 0, fmt.Errorf("read the thread's processor time: %w", err)
	}
	if err := do(); err != nil {
		return 0, err
	}
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &end); err != nil {
		return 0, fmt.Errorf("read the thread's processor time: %w", err)
	}
	return time.Duration(end.Nano() - begin.Nano()), nil
}
