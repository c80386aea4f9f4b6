package feature

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// Serve does a loaded feature's work until ctx ends: it names each process that
// the kernel sees for the first time, so that one that soon exits has a name,
// and runs what the feature runs itself.
func Serve(ctx context.Context, f Feature, resolver *identity.Resolver) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if m := f.Arrivals(); m != nil {
		r, err := ringbuf.NewReader(m)
		if err != nil {
			return fmt.Errorf("open the ring buffer of eBPF feature %s: %w", f.Name(), err)
		}
		defer r.Close()
		wg.Go(func() { greet(r, resolver) })
	}
	if own, ok := f.(Runner); ok {
		return own.Run(ctx)
	}
	<-ctx.Done()
	return nil
}

func greet(r *ringbuf.Reader, resolver *identity.Resolver) {
	var record ringbuf.Record
	for {
		if err := r.ReadInto(&record); err != nil {
			return // closed
		}
		if k, thread, ok := decodeArrival(record.RawSample); ok {
			resolver.Resolve(k, thread)
		}
	}
}

// decodeArrival reads struct process of kernel.h.
func decodeArrival(b []byte) (identity.Key, string, bool) {
	if len(b) < 32 {
		return identity.Key{}, "", false
	}
	k := identity.Key{
		StartNanos: binary.NativeEndian.Uint64(b),
		PID:        binary.NativeEndian.Uint32(b[8:]),
	}
	thread, _, _ := bytes.Cut(b[16:32], []byte{0})
	return k, string(thread), true
}
