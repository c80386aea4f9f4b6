package kafka

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// TestDamagedLog damages a record batch on the broker's disk: it is set aside,
// and the partition goes on.
func TestDamagedLog(t *testing.T) {
	broker := shared.Broker(t)
	cfg := testConfig(t, broker.Addr())
	b := openTest(t, cfg)
	ctx := testContext(t)
	for i := range 5 { // each a batch of two
		var records []buffer.Record
		for k := range 2 {
			payload := strings.Repeat(fmt.Sprintf("payload %d/%d ", i, k), 100)
			records = append(records, buffer.Record{Tenant: "t", Format: buffer.FormatOTLP, Payload: []byte(payload)})
		}
		first, err := b.Append(ctx, testTopic, 0, records)
		require.NoError(t, err)
		require.Equal(t, int64(2*i), first)
	}
	require.NoError(t, broker.Stop())
	file := filepath.Join(broker.PartitionDir(cfg.Topics.Prefix+testTopic, 0), "00000000000000000000.log")
	log, err := os.ReadFile(file)
	require.NoError(t, err)
	var bad recordBatch
	rest, ok := log, true
	for range 3 {
		bad, rest, ok = cutBatch(rest)
		require.True(t, ok)
	}
	require.Equal(t, int64(4), bad.base)
	bad.raw[len(bad.raw)-20] ^= 0xff
	require.NoError(t, os.WriteFile(file, log, 0o644))
	require.NoError(t, broker.Restart())
	var offsets []int64
	for _, m := range consume(t, b, "g", true).await(t, 9) {
		offsets = append(offsets, m.Offset)
		if m.Offset == 4 {
			require.Equal(t, buffer.FormatUnknown, m.Format)
			require.True(t, bytes.Equal(bad.raw, m.Payload))
			continue
		}
		require.Equal(t, buffer.FormatOTLP, m.Format)
		require.Contains(t, string(m.Payload), fmt.Sprintf("payload %d/%d ", m.Offset/2, m.Offset%2))
	}
	require.Equal(t, []int64{0, 1, 2, 3, 4, 6, 7, 8, 9}, offsets)
}
