package kafka

import (
	"encoding/binary"
	"fmt"
	"io"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	fetchapi "github.com/segmentio/kafka-go/protocol/fetch"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// fetchRequest is a Fetch request for one partition, version 11, that encodes
// itself and leaves the record batches in the answer as they are: kafka-go
// decodes them while it reads, passes over what is damaged without a word, and
// lets a hostile batch end the process.
type fetchRequest struct {
	client    string
	topic     string
	partition int32
	offset    int64
	buf       []byte // for the answer, grown as needed

	broker int16 // version that the broker takes
}

// fetchAnswer is what the broker has.
type fetchAnswer struct {
	err          error
	high, oldest int64
	records      []byte // batches, the last one possibly cut; in buf
	buf          []byte
}

const (
	fetchKey       = 1
	fetchVersion   = 11 // since Kafka 2.3
	fetchID        = 1  // the connection has no other request under way
	maxFetchAnswer = 256 << 20
)

// ApiKey implements protocol.Message.
func (*fetchRequest) ApiKey() protocol.ApiKey { return protocol.Fetch }

// ApiKey implements protocol.Message.
func (*fetchAnswer) ApiKey() protocol.ApiKey { return protocol.Fetch }

// Broker implements protocol.BrokerMessage: it goes to the partition's leader.
func (r *fetchRequest) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	return (&fetchapi.Request{Topics: []fetchapi.RequestTopic{{
		Topic: r.topic, Partitions: []fetchapi.RequestPartition{{Partition: r.partition}},
	}}}).Broker(cluster)
}

// Required implements protocol.RawExchanger.
func (r *fetchRequest) Required(versions map[protocol.ApiKey]int16) bool {
	r.broker = versions[protocol.Fetch]
	return true
}

// RawExchange implements protocol.RawExchanger.
func (r *fetchRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if r.broker < fetchVersion {
		return nil, fmt.Errorf("fetch: the broker takes version %d of the request, want %d or more: Kafka 2.3", r.broker, fetchVersion)
	}
	if _, err := rw.Write(r.encode()); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(rw, size[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(size[:]))
	if n > maxFetchAnswer {
		return nil, fmt.Errorf("read answer to fetch: got %d bytes, want at most %d", n, int64(maxFetchAnswer))
	}
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(rw, r.buf); err != nil {
		return nil, err
	}
	a, err := decodeFetch(r.buf)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (r *fetchRequest) encode() []byte {
	be := binary.BigEndian
	text := func(b []byte, s string) []byte { return append(be.AppendUint16(b, uint16(len(s))), s...) }
	const none = ^uint32(0) // -1
	b := be.AppendUint16(make([]byte, 4, 256), fetchKey)
	b = be.AppendUint16(b, fetchVersion)
	b = be.AppendUint32(b, fetchID)
	b = text(b, r.client)
	b = be.AppendUint32(b, none) // we are no replica
	b = be.AppendUint32(b, uint32(fetchMaxWait.Milliseconds()))
	b = be.AppendUint32(b, 1) // bytes at least
	b = be.AppendUint32(b, buffer.MaxNextBytes)
	b = append(b, 0)             // what transactions have not committed is read, too
	b = be.AppendUint32(b, 0)    // no session
	b = be.AppendUint32(b, none) // its epoch
	b = be.AppendUint32(b, 1)    // topics
	b = text(b, r.topic)
	b = be.AppendUint32(b, 1) // partitions
	b = be.AppendUint32(b, uint32(r.partition))
	b = be.AppendUint32(b, none) // leader epoch
	b = be.AppendUint64(b, uint64(r.offset))
	b = be.AppendUint64(b, ^uint64(0)) // log start, of replicas
	b = be.AppendUint32(b, buffer.MaxNextBytes)
	b = be.AppendUint32(b, 0) // topics of the session to forget
	b = be.AppendUint16(b, 0) // no rack
	be.PutUint32(b, uint32(len(b)-4))
	return b
}

// decodeFetch reads an answer; it keeps b.
func decodeFetch(b []byte) (*fetchAnswer, error) {
	r := wireReader{b: b}
	a := &fetchAnswer{buf: b}
	if id := r.uint32(); id != fetchID {
		return nil, fmt.Errorf("read answer to fetch: got correlation id %d, want %d", id, fetchID)
	}
	r.take(4) // throttle time
	code := kafkago.Error(int16(r.uint16()))
	r.take(4) // session
	if topics := r.uint32(); topics > 0 {
		r.take(int64(r.uint16())) // name
		partitions := r.uint32()
		r.take(4) // index
		if c := kafkago.Error(int16(r.uint16())); c != 0 {
			code = c
		}
		a.high = int64(r.uint64())
		r.take(8) // last stable offset
		a.oldest = int64(r.uint64())
		if aborted := int32(r.uint32()); aborted > 0 {
			r.take(16 * int64(aborted))
		}
		r.take(4) // preferred replica
		if n := int32(r.uint32()); n > 0 {
			a.records = r.take(int64(n))
		}
		if topics != 1 || partitions != 1 {
			return nil, fmt.Errorf("read answer to fetch: got %d topics and %d partitions, want one", topics, partitions)
		}
	} else if code == 0 {
		return nil, fmt.Errorf("read answer to fetch: got no topic")
	}
	if r.bad {
		return nil, fmt.Errorf("read answer to fetch: got %d bytes, want more", len(b))
	}
	if code != 0 {
		a.err = code
	}
	return a, nil
}

// wireReader reads fields; after one that is not there all are zero and bad is
// true.
type wireReader struct {
	b   []byte
	bad bool
}

func (r *wireReader) take(n int64) []byte {
	if n < 0 || n > int64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *wireReader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *wireReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *wireReader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
