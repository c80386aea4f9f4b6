package kafkatest

import (
	"fmt"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// ReadForwarded reads all of a topic whose messages were forwarded, as the
// documentation tells consumers to: of one vedette.from and one session in a
// partition, a message that does not come behind the last one that counted is a
// repetition; messages without these headers all count. It returns those that count,
// partition by partition, and how many it has left out.
func (b *Broker) ReadForwarded(t testing.TB, topic string) (messages []kafkago.Message, repeated int) {
	t.Helper()
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(b.Addr()), Timeout: patience, Transport: transport}
	meta, err := client.Metadata(t.Context(), &kafkago.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	for p := range len(meta.Topics[0].Partitions) {
		offsets, err := client.ListOffsets(t.Context(), &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{topic: {kafkago.LastOffsetOf(p)}}})
		if err != nil {
			t.Fatal(err)
		}
		end := offsets.Topics[topic][0].LastOffset
		kept, again := b.readPartition(t, topic, p, end)
		messages, repeated = append(messages, kept...), repeated+again
	}
	return messages, repeated
}

func (b *Broker) readPartition(t testing.TB, topic string, partition int, end int64) (kept []kafkago.Message, repeated int) {
	t.Helper()
	r := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{b.Addr()}, Topic: topic, Partition: partition, MaxBytes: 16 << 20, MaxWait: 100 * time.Millisecond})
	defer r.Close()
	type place struct{ first, last, part, parts int64 }
	newest := map[string]place{}
	for at := int64(0); at < end; {
		m, err := r.ReadMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at = m.Offset + 1
		from, position := "", ""
		for _, h := range m.Headers {
			switch h.Key {
			case "vedette.from":
				from = string(h.Value)
			case "vedette.position":
				position = string(h.Value)
			}
		}
		if from == "" && position == "" {
			kept = append(kept, m)
			continue
		}
		var session uint64
		var now place
		if _, err := fmt.Sscanf(position, "%d %d-%d %d/%d", &session, &now.first, &now.last, &now.part, &now.parts); err != nil {
			t.Fatalf("vedette.position: got %q: %v", position, err)
		}
		key := fmt.Sprint(from, " ", session)
		last, known := newest[key]
		if known && now.first <= last.last && (now.first != last.first || now.last != last.last || now.part <= last.part && now.parts == last.parts) {
			repeated++
			continue
		}
		newest[key] = now
		kept = append(kept, m)
	}
	return kept, repeated
}
