package wire

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestFields(t *testing.T) {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), math.MaxUint64)
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), "text")
	b = protowire.AppendFixed64(protowire.AppendTag(b, 3, protowire.Fixed64Type), 7)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 4, protowire.Fixed32Type), 8)
	b = protowire.AppendTag(b, 5, protowire.StartGroupType)
	b = protowire.AppendTag(b, 5, protowire.EndGroupType)
	b = protowire.AppendBytes(protowire.AppendTag(b, 6, protowire.BytesType), nil)

	f := FieldsOf(b)
	require.True(t, f.Next())
	require.True(t, f.Is(1, Varint))
	require.Equal(t, uint64(math.MaxUint64), f.Value)
	require.True(t, f.Next())
	require.True(t, f.Is(2, Bytes))
	require.Equal(t, "text", string(f.Bytes))
	require.True(t, f.Next())
	require.True(t, f.Is(3, Fixed64))
	require.Equal(t, uint64(7), f.Value)
	require.True(t, f.Next())
	require.True(t, f.Is(4, Fixed32))
	require.Equal(t, uint64(8), f.Value)
	require.True(t, f.Next())
	require.EqualValues(t, 5, f.Num)
	require.True(t, f.Next())
	require.True(t, f.Is(6, Bytes))
	require.Empty(t, f.Bytes)
	require.False(t, f.Next())
	require.False(t, f.Bad())
	require.Equal(t, len(b), f.Offset())

	for _, bad := range []string{"\x08", "\x12\x05x", "\x19\x01", "\x25\x01", "\x00", "\x2b\x08\x01"} {
		f := FieldsOf([]byte(bad))
		require.False(t, f.Next(), bad)
		require.True(t, f.Bad(), bad)
		require.False(t, f.Next(), bad)
	}
}
