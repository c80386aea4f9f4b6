package buffer_test

import (
	"testing"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/buffertest"
	"github.com/vedette-io/vedette/internal/vfs"
)

func TestContract(t *testing.T) {
	for _, mode := range []buffer.SyncMode{buffer.SyncAlways, buffer.SyncInterval, buffer.SyncNever} {
		t.Run(string(mode), func(t *testing.T) {
			buffertest.Run(t, func(t *testing.T) buffertest.Harness {
				dir := t.TempDir()
				cfg := buffer.DefaultConfig()
				cfg.Sync = mode
				cfg.Partitions = map[string]int{buffer.TopicMetrics: 3}
				cfg.MaxRecordBytes = 1 << 20
				cfg.SegmentBytes = 64 << 10
				return buffertest.Harness{
					Open: func(t *testing.T) buffer.Buffer {
						l, err := buffer.Open(cfg, vfs.OS, dir, nil, nil)
						if err != nil {
							t.Fatal(err)
						}
						return l
					},
					Topic:      buffer.TopicMetrics,
					Partitions: 3,
					MaxPayload: 1 << 20,
				}
			})
		})
	}
}
