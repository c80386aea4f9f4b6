package feature

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// ReadRing hands the records of a ring buffer to handle until ctx ends, and then
// those that are left. The kernel wakes it when much has gathered (see ring.h);
// the rest is read every so often, for the wake-ups are what a ring buffer costs.
// The bytes are handle's until it returns.
func ReadRing(ctx context.Context, m *ebpf.Map, every time.Duration, handle func([]byte)) error {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return fmt.Errorf("open ring buffer %s: %w", m, err)
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { _ = r.Flush() })
	defer stop()
	var record ringbuf.Record
	r.SetDeadline(time.Now().Add(every))
	for {
		switch err := r.ReadInto(&record); {
		case err == nil:
			handle(record.RawSample)
		case errors.Is(err, ringbuf.ErrFlushed):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.SetDeadline(time.Now().Add(every))
		default:
			return fmt.Errorf("read ring buffer %s: %w", m, err)
		}
	}
}
