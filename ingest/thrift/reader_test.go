package thrift

import (
	"bytes"
	"context"
	"strings"
	"testing"

	apache "github.com/apache/thrift/lib/go/thrift"
	"github.com/stretchr/testify/require"
)

// sample is a struct with a field of every type, by the original library.
func sample(t testing.TB) []byte {
	t.Helper()
	ctx := context.Background()
	buf := apache.NewTMemoryBuffer()
	p := apache.NewTBinaryProtocolConf(buf, nil)
	ok := func(err error) { require.NoError(t, err) }
	field := func(kind apache.TType, id int16) { ok(p.WriteFieldBegin(ctx, "", kind, id)) }
	field(apache.BOOL, 1)
	ok(p.WriteBool(ctx, true))
	field(apache.BYTE, 2)
	ok(p.WriteByte(ctx, -1))
	field(apache.DOUBLE, 3)
	ok(p.WriteDouble(ctx, 1.5))
	field(apache.I16, 4)
	ok(p.WriteI16(ctx, -2))
	field(apache.I32, 5)
	ok(p.WriteI32(ctx, -3))
	field(apache.I64, 6)
	ok(p.WriteI64(ctx, -4))
	field(apache.STRING, 7)
	ok(p.WriteString(ctx, "text"))
	field(apache.LIST, 8)
	ok(p.WriteListBegin(ctx, apache.I16, 2))
	ok(p.WriteI16(ctx, 1))
	ok(p.WriteI16(ctx, 2))
	field(apache.MAP, 9)
	ok(p.WriteMapBegin(ctx, apache.STRING, apache.STRUCT, 1))
	ok(p.WriteString(ctx, "k"))
	field(apache.SET, 1)
	ok(p.WriteSetBegin(ctx, apache.I64, 1))
	ok(p.WriteI64(ctx, 5))
	ok(p.WriteFieldStop(ctx))
	ok(p.WriteFieldStop(ctx))
	return buf.Bytes()
}

func TestReader(t *testing.T) {
	b := sample(t)
	r := NewReader(b)
	next := func(kind byte, id int16) {
		t.Helper()
		k, n := r.Field()
		require.Equal(t, kind, k)
		require.Equal(t, id, n)
	}
	next(Bool, 1)
	require.True(t, r.Bool())
	next(Byte, 2)
	require.Equal(t, byte(255), r.Byte())
	next(Double, 3)
	require.Equal(t, 1.5, r.Double())
	next(I16, 4)
	require.Equal(t, int16(-2), r.Int16())
	next(I32, 5)
	require.Equal(t, int32(-3), r.Int32())
	next(I64, 6)
	require.Equal(t, int64(-4), r.Int64())
	next(String, 7)
	require.Equal(t, "text", string(r.Bytes()))
	next(List, 8)
	require.Equal(t, 2, r.List(I16))
	require.Equal(t, int16(1), r.Int16())
	require.Equal(t, int16(2), r.Int16())
	next(Map, 9)
	at := r.Offset()
	r.Skip(Map)
	next(Stop, 0)
	require.NoError(t, r.Err())
	require.Equal(t, len(b), r.Offset())
	r.Seek(at)
	r.Skip(Map)
	require.Equal(t, len(b)-1, r.Offset())

	r = NewReader(b)
	r.Skip(Struct)
	require.NoError(t, r.Err())
	require.Equal(t, len(b), r.Offset())
	for n := range b {
		r := NewReader(b[:n])
		r.Skip(Struct)
		require.Error(t, r.Err(), n)
	}
}

func TestHostile(t *testing.T) {
	f := func(b, want string, read func(*Reader)) {
		t.Helper()
		r := NewReader([]byte(b))
		read(&r)
		require.EqualError(t, r.Err(), want)
		require.Zero(t, r.Int64())
		kind, _ := r.Field()
		require.Equal(t, byte(Stop), kind)
		require.Zero(t, r.List(Struct))
	}
	f("\x7f\xff\xff\xff", "thrift: byte 4: cut short", func(r *Reader) { r.Bytes() })
	f("\xff\xff\xff\xff", "thrift: byte 4: length of a string: got -1, want 0 or more", func(r *Reader) { r.Bytes() })
	f("\x0c\x7f\xff\xff\xff\x00", "thrift: byte 5: list: got 2147483647 elements in 1 bytes", func(r *Reader) { r.List(Struct) })
	f("\x0c\xff\xff\xff\xff\x00", "thrift: byte 5: list: got -1 elements in 1 bytes", func(r *Reader) { r.List(Struct) })
	f("\x08\x00\x00\x00\x01\x00", "thrift: byte 0: list: got elements of type 8, want 12", func(r *Reader) { r.List(Struct) })
	f("\x01", "thrift: byte 0: type: got 1", func(r *Reader) { r.Skip(1) })
	f(strings.Repeat("\x0f\x00\x00\x00\x01", 100), "thrift: byte 320: nested deeper than 64", func(r *Reader) { r.Skip(List) })
	f(strings.Repeat("\x0c\x00\x01", 100), "thrift: byte 192: nested deeper than 64", func(r *Reader) { r.Skip(Struct) })
}

// FuzzSkip compares with the original library, which is free with depth and
// with types that are not there.
func FuzzSkip(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		r.Skip(Struct)
		if r.Err() != nil {
			return
		}
		buf := apache.NewTMemoryBuffer()
		_, err := buf.Write(b)
		require.NoError(t, err)
		p := apache.NewTBinaryProtocolConf(buf, nil)
		require.NoError(t, p.Skip(context.Background(), apache.STRUCT))
		require.True(t, bytes.Equal(b[r.Offset():], buf.Bytes()))
	})
}
