package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/tenant"
)

// decodeBatch reads a batch with kafka-go's decoder, CRC included.
func decodeBatch(t testing.TB, batch []byte) []buffer.Record {
	t.Helper()
	var set protocol.RecordSet
	if _, err := set.ReadFrom(bytes.NewBuffer(bytes.Clone(batch))); err != nil {
		t.Fatal(err)
	}
	if set.Records == nil {
		t.Fatal("the batch is empty")
	}
	var out []buffer.Record
	for i := int64(0); ; i++ {
		r, err := set.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Offset != i {
			t.Fatalf("record %d has offset %d", i, r.Offset)
		}
		var rec buffer.Record
		if !decodeHeaders(buffer.TopicMetrics, r.Headers, &rec) {
			t.Fatalf("record %d is not ours: %v", i, r.Headers)
		}
		if rec.Payload, err = protocol.ReadAll(r.Value); err != nil {
			t.Fatal(err)
		}
		out = append(out, rec)
	}
}

func equalRecord(a, b buffer.Record) bool {
	return a.Tenant == b.Tenant && a.Format == b.Format && a.MinTime == b.MinTime && a.MaxTime == b.MaxTime && bytes.Equal(a.Payload, b.Payload)
}

func TestEncodeBatch(t *testing.T) {
	calls := []*appendCall{
		{records: []buffer.Record{
			{Tenant: "default", Format: buffer.FormatRemoteWriteV1, MinTime: 1, MaxTime: 1 << 50, Payload: []byte("one")},
			{Tenant: "", Format: buffer.FormatOTLP, Payload: nil},
		}},
		{records: []buffer.Record{{Tenant: strings.Repeat("x", 128), Format: 255, MinTime: -1 << 62, MaxTime: -5, Payload: bytes.Repeat([]byte("ab"), 100_000)}}},
	}
	for i := range 300 { // offset deltas of two bytes
		calls = append(calls, &appendCall{records: []buffer.Record{{Tenant: "t", Payload: []byte{byte(i)}}}})
	}
	var want []buffer.Record
	bound := int64(batchHeader)
	for _, c := range calls {
		want = append(want, c.records...)
		for i := range c.records {
			bound += recordBytes(&c.records[i])
		}
	}
	var batch, spare []byte
	for _, codec := range []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		var err error
		if batch, spare, err = encodeBatch(batch, spare, calls, codec, 1000); err != nil {
			t.Fatal(err)
		}
		if int64(len(batch)) > bound {
			t.Errorf("%s: got %d bytes, want at most %d", codec, len(batch), bound)
		}
		got := decodeBatch(t, batch)
		if len(got) != len(want) {
			t.Fatalf("%s: got %d records, want %d", codec, len(got), len(want))
		}
		for i := range got {
			if !equalRecord(got[i], want[i]) {
				t.Errorf("%s: record %d: got %.100v, want %.100v", codec, i, got[i], want[i])
			}
		}
	}
}

// TestEncodeBatchSizes checks that what Append allows fits, to the byte.
func TestEncodeBatchSizes(t *testing.T) {
	const most = 1 << 20
	r := buffer.Record{
		Tenant: strings.Repeat("t", maxTenantBytes), Format: 255, MinTime: -1 << 63, MaxTime: -1 << 63,
		Payload: make([]byte, most-reservedOverhead),
	}
	if n := batchHeader + recordBytes(&r); n > most {
		t.Errorf("the largest record is taken for %d bytes, want at most %d", n, most)
	}
	batch, _, err := encodeBatch(nil, nil, []*appendCall{{records: []buffer.Record{r}}}, compress.None, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(batch) > most {
		t.Errorf("got a batch of %d bytes, want at most %d", len(batch), most)
	}
}

func TestDecodeHeaders(t *testing.T) {
	h := func(kv ...string) (out []protocol.Header) {
		for i := 0; i < len(kv); i += 2 {
			out = append(out, protocol.Header{Key: kv[i], Value: []byte(kv[i+1])})
		}
		return out
	}
	foreign := func(tenant string) buffer.Record { return buffer.Record{Tenant: tenant, Format: buffer.FormatOTLP} }
	tests := []struct {
		name    string
		headers []protocol.Header
		want    buffer.Record
		ours    bool
	}{
		{"none", nil, foreign(tenant.Default), false},
		{"other", h("traceparent", "00-1", "vedette", "x"), foreign(tenant.Default), false},
		{"their tenant", h("X-Scope-OrgID", "acme"), foreign("acme"), false},
		{"their tenant, plain", h("tenant", "acme"), foreign("acme"), false},
		{"their tenant, not valid", h("tenant", "../acme"), foreign(tenant.Default), false},
		{"our tenant without format", h(headerTenant, "acme", headerTime, "1,2"), foreign(tenant.Default), false},
		{"ours", h(headerFormat, "1", headerTenant, "acme", headerTime, "-1,2"), buffer.Record{Tenant: "acme", Format: 1, MinTime: -1, MaxTime: 2}, true},
		{"ours, no tenant", h(headerFormat, "2"), buffer.Record{Tenant: tenant.Default, Format: 2}, true},
		{"ours, empty tenant", h(headerFormat, "2", headerTenant, ""), buffer.Record{Format: 2}, true},
		{"ours, bad values", h(headerFormat, "256", headerTenant, "a/b", headerTime, "1"), buffer.Record{Tenant: tenant.Default}, true},
		{"ours, bad time", h(headerFormat, "1", headerTime, "1,x"), buffer.Record{Tenant: tenant.Default, Format: 1}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got buffer.Record
			if ours := decodeHeaders(buffer.TopicMetrics, tt.headers, &got); ours != tt.ours || !equalRecord(got, tt.want) {
				t.Errorf("got %+v, %t, want %+v, %t", got, ours, tt.want, tt.ours)
			}
		})
	}
}

// FuzzDecodeHeaders gives hostile headers; whatever they are, the tenant can be
// used and a foreign message is OTLP.
func FuzzDecodeHeaders(f *testing.F) {
	f.Add(headerFormat, []byte("1"), headerTenant, []byte("acme"), headerTime, []byte("1,2"))
	f.Add("tenant", []byte("../x"), tenant.Header, []byte("acme"), headerTime, []byte(","))
	f.Fuzz(func(t *testing.T, k1 string, v1 []byte, k2 string, v2 []byte, k3 string, v3 []byte) {
		var r buffer.Record
		ours := decodeHeaders(buffer.TopicMetrics, []protocol.Header{{Key: k1, Value: v1}, {Key: k2, Value: v2}, {Key: k3, Value: v3}}, &r)
		if err := tenant.Validate(r.Tenant); err != nil && !(ours && r.Tenant == "") {
			t.Fatal(err)
		}
		if !ours && (r.Format != buffer.FormatOTLP || r.MinTime != 0 || r.MaxTime != 0) {
			t.Fatalf("got %+v for a foreign message", r)
		}
	})
}

// FuzzEncodeBatch reads back what was written, with kafka-go's decoder.
func FuzzEncodeBatch(f *testing.F) {
	f.Add("default", byte(1), int64(1), int64(2), []byte("payload"), byte(0))
	f.Fuzz(func(t *testing.T, name string, format byte, minTime, maxTime int64, payload []byte, codec byte) {
		if len(name) > maxTenantBytes || (name != "" && tenant.Validate(name) != nil) {
			return
		}
		if minTime == 0 && maxTime == 0 {
			minTime = 1
		}
		r := buffer.Record{Tenant: name, Format: buffer.Format(format), MinTime: minTime, MaxTime: maxTime, Payload: payload}
		batch, _, err := encodeBatch(nil, nil, []*appendCall{{records: []buffer.Record{r, r}}}, compress.Compression(codec%5), 0)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(batch)) > batchHeader+2*recordBytes(&r) {
			t.Fatalf("got %d bytes, want at most %d", len(batch), batchHeader+2*recordBytes(&r))
		}
		for _, got := range decodeBatch(t, batch) {
			if !equalRecord(got, r) {
				t.Fatalf("got %+v, want %+v", got, r)
			}
		}
	})
}

type exchange struct {
	io.Reader
	bytes.Buffer
}

func (e *exchange) Read(p []byte) (int, error) { return e.Reader.Read(p) }

func TestHeartbeat(t *testing.T) {
	answer := func(size, id uint32, code uint16) []byte {
		b := binary.BigEndian.AppendUint32(nil, size)
		b = binary.BigEndian.AppendUint32(b, id)
		b = binary.BigEndian.AppendUint32(b, 500) // throttle time
		return binary.BigEndian.AppendUint16(b, code)
	}
	tests := []struct {
		name    string
		answer  []byte
		verdict string
		err     string
	}{
		{"member", answer(10, heartbeatID, 0), "", ""},
		{"rebalance", answer(10, heartbeatID, 27), "Rebalance In Progress", ""},
		{"fenced", answer(10, heartbeatID, 82), "Fenced Instance ID", ""},
		{"other answer", answer(10, 7, 0), "", "correlation id"},
		{"too short", answer(9, heartbeatID, 0), "", "got 9 bytes"},
		{"too long", answer(1<<31, heartbeatID, 0), "", "bytes"},
		{"cut", answer(10, heartbeatID, 0)[:8], "", "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := (&heartbeat{"group", 5, "member", "instance"}).RawExchange(&exchange{Reader: bytes.NewReader(tt.answer)})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			verdict := m.(*heartbeatAnswer).err
			if (verdict == nil) != (tt.verdict == "") || (verdict != nil && !strings.Contains(verdict.Error(), tt.verdict)) {
				t.Errorf("got %v, want %q", verdict, tt.verdict)
			}
		})
	}
}

// FuzzHeartbeat answers with hostile bytes.
func FuzzHeartbeat(f *testing.F) {
	f.Add([]byte{0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 27})
	f.Fuzz(func(t *testing.T, answer []byte) {
		m, err := (&heartbeat{"group", 5, "member", "instance"}).RawExchange(&exchange{Reader: bytes.NewReader(answer)})
		if (err == nil) != (m != nil) {
			t.Fatalf("got %v and %v", m, err)
		}
	})
}

// What a record says of where it was forwarded from comes back; what is not of that
// form is nothing.
func FuzzDecodePosition(f *testing.F) {
	f.Add("default/embedded/x/vedette.logs/0", "18446744073709551615 5-900 1/3")
	f.Add("a", "0 0-0 0/1")
	f.Add("", "0 0-0 0/1")
	f.Add("a", "0 5-4 0/1")
	f.Add("a", "0 5-6 1/1")
	f.Add("a", "-1 5 6")
	f.Fuzz(func(t *testing.T, from, position string) {
		headers := []kafkago.Header{{Key: headerFrom, Value: []byte(from)}, {Key: headerPosition, Value: []byte(position)}}
		p, ok := decodePosition(headers)
		if !ok {
			return
		}
		headers[1].Value = []byte(encodePosition(&p))
		if again, ok := decodePosition(headers); !ok || again != p {
			t.Errorf("round trip: got %+v, %t; want %+v", again, ok, p)
		}
		r := buffer.Record{Tenant: "t", Format: buffer.FormatOTLPLogs, From: &p}
		if n, most := int64(len(appendRecord(nil, &r, 1<<30))), recordBytes(&r); n > most {
			t.Errorf("a record of %+v takes %d bytes, want at most %d", p, n, most)
		}
	})
}
