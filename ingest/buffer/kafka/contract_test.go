package kafka

import (
	"testing"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/buffertest"
)

func TestContract(t *testing.T) {
	broker := shared.Broker(t)
	buffertest.Run(t, func(t *testing.T) buffertest.Harness {
		cfg := testConfig(t, broker.Addr())
		cfg.Topics.Partitions[testTopic] = 3
		return buffertest.Harness{
			Open:       func(t *testing.T) buffer.Buffer { return openTest(t, cfg) },
			Topic:      testTopic,
			Partitions: 3,
			MaxPayload: 1<<20 - reservedOverhead,
		}
	})
}
