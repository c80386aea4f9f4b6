package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// loneClaim reads what it is given, without Kafka.
func loneClaim(t testing.TB) *claim {
	p := lonePartition(1 << 20)
	p.b.logger = slog.New(slog.DiscardHandler)
	z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxDecompressed))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.Close)
	return &claim{p: p, ctx: t.Context(), fetching: true, decoder: batchDecoder{zstd: z}}
}

// readFrom reads the log as if it was what every fetch returned, until the claim
// is at high, and returns what a consumer gets.
func readFrom(t testing.TB, c *claim, log []byte, high int64) (out []buffer.Message) {
	last := c.pos - 1
	for idle := 0; c.pos < high && len(log) > 0; {
		c.release()
		before := c.pos
		answer := bytes.Clone(log)
		c.got = &fetched{asked: c.pos, offset: c.pos, high: high, all: answer, rest: answer, buf: answer}
		for c.got != nil {
			if err := c.read(noLimit); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range c.msgs {
			if m.Offset <= last || m.Offset >= c.pos {
				t.Fatalf("got offset %d after %d, and go on at %d", m.Offset, last, c.pos)
			}
			last = m.Offset
			m.Payload = bytes.Clone(m.Payload)
			out = append(out, m)
		}
		if idle++; c.pos > before {
			idle = 0
		}
		if idle > damageTries {
			t.Fatalf("no progress from offset %d", c.pos)
		}
	}
	return out
}

// batchAt encodes a batch as it lies in the log.
func batchAt(t testing.TB, base int64, codec compress.Compression, payloads ...string) []byte {
	var call appendCall
	for _, p := range payloads {
		call.records = append(call.records, buffer.Record{Tenant: "t", Format: buffer.FormatOTLP, Payload: []byte(p)})
	}
	batch, _, err := encodeBatch(nil, nil, []*appendCall{&call}, codec, 1)
	if err != nil {
		t.Fatal(err)
	}
	batch = bytes.Clone(batch[batchPrefix:])
	binary.BigEndian.PutUint64(batch, uint64(base))
	return batch
}

func fixSum(batch []byte) {
	binary.BigEndian.PutUint32(batch[batchCRCAt-batchPrefix:], crc32.Checksum(batch[batchSumFrom-batchPrefix:], castagnoli))
}

// TestReadOthers decodes what kafka-go has encoded.
func TestReadOthers(t *testing.T) {
	long := strings.Repeat("abc", 50_000)
	for _, codec := range []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		t.Run(codec.String(), func(t *testing.T) {
			record := func(value string, headers ...protocol.Header) protocol.Record {
				return protocol.Record{Key: protocol.NewBytes([]byte("key")), Value: protocol.NewBytes([]byte(value)), Headers: headers}
			}
			var w bytes.Buffer
			set := protocol.RecordSet{Version: 2, Attributes: protocol.Attributes(codec), Records: protocol.NewRecordReader(
				record("first"), protocol.Record{}, record(long, protocol.Header{Key: "tenant", Value: []byte("acme")}), record("last"),
			)}
			if _, err := set.WriteTo(&w); err != nil {
				t.Fatal(err)
			}
			got := readFrom(t, loneClaim(t), w.Bytes()[4:], 4)
			if len(got) != 3 || string(got[0].Payload) != "first" || string(got[1].Payload) != long || string(got[2].Payload) != "last" {
				t.Fatalf("got %.200v", got)
			}
			if got[1].Tenant != "acme" || got[1].Offset != 2 || got[2].Offset != 3 {
				t.Errorf("got tenant %s and offsets %d, %d", got[1].Tenant, got[1].Offset, got[2].Offset)
			}
		})
	}
}

func TestUnsnap(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	got, err := unsnap([]byte("before "), snappy.Encode(nil, []byte(long)))
	if err != nil || string(got) != "before "+long {
		t.Errorf("got %.20s, %v", got, err)
	}
	for name, src := range map[string]string{
		"header only, cut": xerialMagic, "length cut": xerialMagic + "12345678" + "\x00\x00", "block cut": xerialMagic + "12345678" + "\xff\xff\xff\xff\x01",
		"inflated": "\xff\xff\xff\xff\x0f", "empty": "",
	} {
		if got, err := unsnap(nil, []byte(src)); (err == nil) != (name == "header only, cut") {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// TestDamagedBatch has one batch of three damaged: the others are read, and the
// consumer gets the bytes of the damaged one.
func TestDamagedBatch(t *testing.T) {
	long := strings.Repeat("two ", 1000)
	at := func(i int) int { return i - batchPrefix } // offset of a field
	tests := []struct {
		name   string
		codec  compress.Compression
		damage func(b []byte)
	}{
		{"payload", compress.None, func(b []byte) { b[len(b)-100] ^= 1 }},
		{"compressed", compress.Lz4, func(b []byte) { b[len(b)-10] ^= 1 }},
		{"compressed, sum fits", compress.Lz4, func(b []byte) { copy(b[fetchedBatchHeader:], "garbage"); fixSum(b) }},
		{"gzip, sum fits", compress.Gzip, func(b []byte) { copy(b[fetchedBatchHeader:], "garbage"); fixSum(b) }},
		{"snappy, sum fits", compress.Snappy, func(b []byte) { copy(b[fetchedBatchHeader+16:], "garbage"); fixSum(b) }},
		{"zstd, sum fits", compress.Zstd, func(b []byte) { copy(b[fetchedBatchHeader:], "garbage"); fixSum(b) }},
		{"codec unknown", compress.None, func(b []byte) { b[at(batchSumFrom)+1] = 5; fixSum(b) }},
		{"magic", compress.None, func(b []byte) { b[at(20)] = 1 }},
		{"more records than there are", compress.None, func(b []byte) { binary.BigEndian.PutUint32(b[at(61):], 3); fixSum(b) }},
		{"very many records", compress.None, func(b []byte) { binary.BigEndian.PutUint32(b[at(61):], 1<<31-1); fixSum(b) }},
		{"length of a record", compress.None, func(b []byte) { copy(b[fetchedBatchHeader:], "\xff\xff\xff\xff\x0f"); fixSum(b) }},
		{"last offset", compress.None, func(b []byte) { binary.BigEndian.PutUint32(b[at(batchLastDeltaAt):], 1<<31-1) }},
		{"last offset below the first", compress.None, func(b []byte) { binary.BigEndian.PutUint32(b[at(batchLastDeltaAt):], 1<<31); fixSum(b) }},
		{"last offset below a record's", compress.None, func(b []byte) { binary.BigEndian.PutUint32(b[at(batchLastDeltaAt):], 0); fixSum(b) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			first := batchAt(t, 5, compress.None, "first")
			bad := batchAt(t, 6, tt.codec, long, long)
			tt.damage(bad)
			c := loneClaim(t)
			c.pos = 5
			got := readFrom(t, c, slices.Concat(first, bad, batchAt(t, 8, compress.Zstd, "third", "fourth")), 10)
			var text []string
			for _, m := range got {
				if m.Format == buffer.FormatUnknown {
					if !bytes.Equal(m.Payload, bad) || m.Offset != 6 {
						t.Errorf("got %d bytes at %d, want the batch, %d at 6", len(m.Payload), m.Offset, len(bad))
					}
					m.Payload = []byte("damaged")
				}
				text = append(text, string(m.Payload))
			}
			if want := []string{"first", "damaged", "third", "fourth"}; !slices.Equal(text, want) {
				t.Fatalf("got %.200v, want %v", text, want)
			}
			if n := testutil.ToFloat64(c.p.t.metrics.damaged); n != 1 {
				t.Errorf("got %v damaged batches, want 1", n)
			}
		})
	}
}

// TestDamagedOnce has a batch that is whole when it is fetched again.
func TestDamagedOnce(t *testing.T) {
	c := loneClaim(t)
	good := batchAt(t, 0, compress.None, "good")
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	c.got = &fetched{high: 1, all: bad, rest: bad, buf: bad}
	if err := c.read(noLimit); err != nil || c.got != nil || len(c.msgs) != 0 || c.pos != 0 {
		t.Fatalf("got %v, %v at %d", c.msgs, err, c.pos)
	}
	if got := readFrom(t, c, good, 1); len(got) != 1 || string(got[0].Payload) != "good" {
		t.Fatalf("got %v", got)
	}
}

// TestDamagedEnd has no batch behind the damaged one, and one that is not
// complete.
func TestDamagedEnd(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"sum":             func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut":             func(b []byte) []byte { return b[:len(b)-1] },
		"length":          func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 1); b[30]++; return b },
		"length negative": func(b []byte) []byte { b[8] = 0xff; b[30]++; return b },
		"offset":          func(b []byte) []byte { binary.BigEndian.PutUint64(b, 0); return b },
	} {
		t.Run(name, func(t *testing.T) {
			bad := damage(batchAt(t, 7, compress.None, "bad"))
			c := loneClaim(t)
			c.pos = 7
			got := readFrom(t, c, bad, 8)
			if len(got) != 1 || got[0].Format != buffer.FormatUnknown || got[0].Offset != 7 || c.pos != 8 {
				t.Fatalf("got %v at %d", got, c.pos)
			}
		})
	}
}

// TestReadPart reads from the middle of a batch on, and up to it.
func TestReadPart(t *testing.T) {
	log := slices.Concat(batchAt(t, 0, compress.None, "0", "1"), batchAt(t, 2, compress.None, "2"), batchAt(t, 3, compress.None, "3"))
	tests := []struct {
		pos, upTo int64
		want      string
	}{
		{0, noLimit, "0123"}, {1, noLimit, "123"}, {3, noLimit, "3"}, {0, 1, "0"}, {1, 3, "12"}, {0, 2, "01"},
	}
	for _, tt := range tests {
		c := loneClaim(t)
		c.pos = tt.pos
		log := bytes.Clone(log)
		c.got = &fetched{asked: tt.pos, offset: tt.pos, high: 4, all: log, rest: log, buf: log}
		if err := c.read(tt.upTo); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, m := range c.msgs {
			got += string(m.Payload)
		}
		if got != tt.want || c.pos != min(tt.upTo, 4) || c.got != nil {
			t.Errorf("got %s from %d up to %d, and go on at %d", got, tt.pos, tt.upTo, c.pos)
		}
		c.release()
		c.moveTo(0)
		c.got = &fetched{asked: 2, offset: 2, all: log, rest: log, buf: log}
		if err := c.read(noLimit); err != nil || c.got != nil || len(c.msgs) != 0 || c.pos != 0 {
			t.Errorf("got %v, %v after StartAt", c.msgs, err)
		}
	}
}

// FuzzReadBatches reads hostile bytes to their end: offsets rise, and every
// fetch or few make progress.
func FuzzReadBatches(f *testing.F) {
	for _, codec := range []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		f.Add(slices.Concat(batchAt(f, 0, codec, "payload"), batchAt(f, 1, codec, "a", strings.Repeat("b", 100))), false)
	}
	f.Add([]byte("x"), true)
	f.Fuzz(func(t *testing.T, log []byte, fix bool) {
		log = bytes.Clone(log)
		for rest := log; fix; {
			b, next, ok := cutBatch(rest)
			if !ok {
				break
			}
			if len(b.raw) >= fetchedBatchHeader {
				b.raw[20-batchPrefix] = batchMagic
				fixSum(b.raw)
			}
			rest = next
		}
		readFrom(t, loneClaim(t), log, 10)
	})
}

func TestFetchAnswer(t *testing.T) {
	be := binary.BigEndian
	answer := func(code, partitionCode uint16, records []byte) []byte {
		b := be.AppendUint32(nil, fetchID)
		b = be.AppendUint32(b, 100) // throttle time
		b = be.AppendUint16(b, code)
		b = be.AppendUint32(b, 0) // session
		b = be.AppendUint32(b, 1)
		b = append(be.AppendUint16(b, 5), "topic"...)
		b = be.AppendUint32(b, 1)
		b = be.AppendUint32(b, 3) // partition
		b = be.AppendUint16(b, partitionCode)
		b = be.AppendUint64(b, 20) // end
		b = be.AppendUint64(b, 19)
		b = be.AppendUint64(b, 10) // oldest
		b = be.AppendUint32(b, 1)  // aborted transactions
		b = be.AppendUint64(be.AppendUint64(b, 7), 12)
		b = be.AppendUint32(b, ^uint32(0))
		return append(be.AppendUint32(b, uint32(len(records))), records...)
	}
	a, err := decodeFetch(answer(0, 0, []byte("records")))
	if err != nil || a.err != nil || a.high != 20 || a.oldest != 10 || string(a.records) != "records" {
		t.Errorf("got %+v, %v", a, err)
	}
	for _, codes := range [][2]uint16{{1, 0}, {0, 1}} {
		if a, err := decodeFetch(answer(codes[0], codes[1], nil)); err != nil || fmt.Sprint(a.err) == "<nil>" {
			t.Errorf("got %+v, %v, want an error of the broker", a, err)
		}
	}
	whole := answer(0, 0, []byte("records"))
	for i := range whole {
		if a, err := decodeFetch(whole[:i]); err == nil {
			t.Errorf("got %+v for %d bytes of %d", a, i, len(whole))
		}
	}
}

// FuzzFetchAnswer answers with hostile bytes.
func FuzzFetchAnswer(f *testing.F) {
	f.Add(binary.BigEndian.AppendUint32(nil, fetchID))
	f.Fuzz(func(t *testing.T, answer []byte) {
		answer = append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)
		r := &fetchRequest{broker: fetchVersion}
		m, err := r.RawExchange(&exchange{Reader: bytes.NewReader(answer)})
		if (err == nil) != (m != nil) {
			t.Fatalf("got %v and %v", m, err)
		}
	})
}
