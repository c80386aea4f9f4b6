package kafka

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/protocol/protocoltest"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

func parser() protocol.Parser { return New() }

func start(t testing.TB) string { return kafkatest.Start(t, kafkatest.Options{}).Addr() }

// withConn uses one connection for all that f does.
func withConn(topic string, f func(t *testing.T, c *kafka.Conn)) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		raw, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		c := kafka.NewConnWith(raw, kafka.ConnConfig{ClientID: "shop", Topic: topic, Partition: 0})
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		f(t, c)
		require.NoError(t, c.Close())
	}
}

func scenarios() []protocoltest.Scenario {
	return []protocoltest.Scenario{
		{
			Name: "conn", Note: "kafka-go's Conn at Kafka 4.1: a topic is made, messages are written and read, errors",
			Run: withConn("orders", func(t *testing.T, c *kafka.Conn) {
				topic := kafka.TopicConfig{Topic: "orders", NumPartitions: 1, ReplicationFactor: 1}
				_, err := c.ApiVersions()
				require.NoError(t, err)
				require.NoError(t, c.CreateTopics(topic))
				_, err = c.ReadPartitions("orders")
				require.NoError(t, err)
				_, err = c.WriteMessages(kafka.Message{Value: []byte("secret")})
				require.NoError(t, err)
				_, err = c.WriteMessages(kafka.Message{Value: []byte(strings.Repeat("x", 20_000))})
				require.NoError(t, err)
				_, err = c.Seek(0, kafka.SeekAbsolute)
				require.NoError(t, err)
				b := c.ReadBatch(1, 1<<20)
				m, err := b.ReadMessage()
				require.NoError(t, err)
				require.Equal(t, "secret", string(m.Value))
				require.NoError(t, b.Close())
				_, _, err = c.ReadOffsets()
				require.NoError(t, err)
			}),
			Want: []string{"ApiVersions", "ApiVersions", "CreateTopics", "Metadata", "Produce", "Produce", "ListOffsets", "ListOffsets", "Fetch", "ListOffsets", "ListOffsets"},
		},
		{
			Name: "errors", Note: "kafka-go's Conn at Kafka 4.1: a topic that does not exist",
			Run: withConn("nosuch", func(t *testing.T, c *kafka.Conn) {
				_, err := c.ReadLastOffset()
				require.Error(t, err)
				_, err = c.WriteMessages(kafka.Message{Value: []byte("m")})
				require.Error(t, err)
			}),
			Want: []string{"ListOffsets !UNKNOWN_TOPIC_OR_PARTITION", "ApiVersions", "Produce !UNKNOWN_TOPIC_OR_PARTITION"},
		},
	}
}

func TestRecord(t *testing.T)     { protocoltest.Record(t, scenarios(), start) }
func TestRecordings(t *testing.T) { protocoltest.Check(t, scenarios(), parser) }

func FuzzParser(f *testing.F) {
	protocoltest.Seed(f)
	f.Fuzz(func(t *testing.T, b []byte) { protocoltest.Hostile(t, New(), b) })
}

// A connection is picked up wherever it is when the probe starts, and a piece
// that was not copied costs the requests in it.
func TestJoinInTheMiddle(t *testing.T) {
	s := scenarios()[0]
	r := protocoltest.Load(t, "testdata/conn.txt")
	for skip := range len(r) - 4 {
		for _, server := range []bool{false, true} {
			v := protocoltest.View{Server: server, Skip: skip, Head: 512, Tail: 32}
			found := protocoltest.Brief(protocoltest.Play(New(), r, v))
			require.NotEmpty(t, found, "from chunk %d", skip)
			require.Equal(t, s.Want[len(s.Want)-len(found):], found, "from chunk %d", skip)
			v.Skip, v.Lose = 0, skip+1
			found = protocoltest.Brief(protocoltest.Play(New(), r, v))
			require.NotEmpty(t, found)
			require.GreaterOrEqual(t, len(found), len(s.Want)-2, fmt.Sprint(skip, found))
			require.Equal(t, "ListOffsets", found[len(found)-1])
		}
	}
}

// Brokers read the size of a request first, alone.
func TestSizeReadAlone(t *testing.T) {
	r := protocoltest.Load(t, "testdata/conn.txt")
	var split protocoltest.Recording
	for _, c := range r {
		if c.FromClient && len(c.Data) > 18 && len(split) < 8 {
			split = append(split, protocoltest.Chunk{FromClient: true, Data: c.Data[:4]}, protocoltest.Chunk{FromClient: true, Data: c.Data[4:]})
		} else {
			split = append(split, c)
		}
	}
	for _, server := range []bool{false, true} {
		found := protocoltest.Brief(protocoltest.Play(New(), split, protocoltest.View{Server: server}))
		require.Equal(t, scenarios()[0].Want, found)
	}
}

// frame makes a message of its body.
func frame(body ...byte) []byte { return append([]byte{0, 0, 0, byte(len(body))}, body...) }

func TestNoAcknowledgement(t *testing.T) {
	head := []byte{0, 0, 0, 3, 0, 0, 0, 9, 0, 1, 'c', 0xff, 0xff} // Produce 3, id 9, no transaction
	topic := []byte{0, 0, 3, 0xe8, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 0}
	silent := append(append(append([]byte(nil), head...), 0, 0), topic...)
	asked := append(append(append([]byte(nil), head...), 0xff, 0xff), topic...)
	asked[7] = 10
	r := protocoltest.Recording{
		{FromClient: true, Data: append(frame(silent...), frame(asked...)...)},
		{Data: frame(0, 0, 0, 10, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 6)},
	}
	found := protocoltest.Play(New(), r, protocoltest.View{})
	require.Equal(t, []string{"Produce", "Produce !NOT_LEADER_OR_FOLLOWER"}, protocoltest.Brief(found))
	require.Equal(t, "t", found[1].Target)
	require.Equal(t, found[0].StartNanos, found[0].EndNanos)
}

func TestWhatIsTold(t *testing.T) {
	found := protocoltest.Play(New(), protocoltest.Load(t, "testdata/conn.txt"), protocoltest.View{Server: true})
	q := found[4]
	require.Equal(t, "orders", q.Target)
	require.Equal(t, protocol.Kafka, q.Kind)
	require.Empty(t, q.Summary)
	require.Greater(t, found[5].RequestBytes, int64(20_000))
	require.Equal(t, "orders", found[8].Target)
}

func TestNoAllocations(t *testing.T) {
	require.Zero(t, protocoltest.Allocs(New(), protocoltest.Load(t, "testdata/conn.txt"), 4))
}

func BenchmarkParser(b *testing.B) {
	protocoltest.Bench(b, New(), protocoltest.Load(b, "testdata/conn.txt"), 4)
}

// Numbers that stand where a Produce without acknowledgement has its own are
// none, for it counts before anything is answered.
func TestNumbersAreNoProduce(t *testing.T) {
	numbers := func(words ...uint32) (b []byte) {
		for _, w := range words {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		return b
	}
	said := numbers(44, 2, 1, 0, 600, 5, 600, 7, 8, 2, 3, 1)
	r := protocoltest.Recording{{FromClient: true, Data: said}, {Data: numbers(4, 1)}, {FromClient: true, Data: said}}
	for _, server := range []bool{false, true} {
		require.Empty(t, protocoltest.Play(New(), r, protocoltest.View{Server: server}))
	}
}
