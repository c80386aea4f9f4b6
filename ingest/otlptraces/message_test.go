package otlptraces

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is the content of a protobuf message that a test writes by hand.
type message []byte

func join(parts ...message) message {
	var out message
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func bytesField[T ~[]byte | ~string](num protowire.Number, content T) message {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), []byte(content))
}

func varintField(num protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

func fixed64Field(num protowire.Number, v uint64) message {
	return protowire.AppendFixed64(protowire.AppendTag(nil, num, protowire.Fixed64Type), v)
}

func groupField(num protowire.Number, content message) message {
	out := protowire.AppendTag(nil, num, protowire.StartGroupType)
	return protowire.AppendTag(append(out, content...), num, protowire.EndGroupType)
}

const (
	someTrace = "0123456789abcdef"
	someSpan  = "01234567"
)

// spanOf is a Span message with ids, times and more.
func spanOf(more ...message) message {
	return join(bytesField(1, someTrace), bytesField(2, someSpan), bytesField(5, "a span"), fixed64Field(7, nowNs-2e9), fixed64Field(8, nowNs-1e9), join(more...))
}

// requestOf is a request of one resource, one scope and the given spans.
func requestOf(spans ...message) message {
	var scope message
	for _, s := range spans {
		scope = append(scope, bytesField(2, s)...)
	}
	return bytesField(1, bytesField(2, scope))
}

// attrOf is a KeyValue message with a string.
func attrOf(key, value string) message {
	return join(bytesField(1, key), bytesField(2, bytesField(1, value)))
}

// nested is an AnyValue of arrays, so many levels deep.
func nested(depth int) message {
	v := bytesField(1, "the bottom")
	for range depth {
		v = bytesField(5, bytesField(1, v))
	}
	return v
}

// oddMessage is a Span message as no sender writes it, but as protobuf allows it.
func oddMessage() message {
	return join(
		bytesField(11, join(bytesField(3, attrOf("of", "an event")), bytesField(2, "first"))),
		bytesField(9, attrOf("a", "1")),
		bytesField(13, join(bytesField(4, attrOf("of", "a link")), bytesField(1, someTrace), bytesField(1, ""))),
		bytesField(15, varintField(3, 2)), bytesField(15, bytesField(2, "failed")), // a status in two pieces
		bytesField(9, join(bytesField(2, bytesField(1, "value first")), bytesField(1, "b"), bytesField(1, "really b"))),
		bytesField(9, join(bytesField(2, varintField(3, 5)), bytesField(1, "c"), bytesField(2, ""))),
		bytesField(9, join(bytesField(1, "d"), bytesField(2, join(bytesField(1, "no"), varintField(2, 7), fixed64Field(4, math.Float64bits(1.5)))))),
		bytesField(9, join(bytesField(1, "e"), bytesField(2, varintField(8, 1)), varintField(3, 1))),
		bytesField(9, join(bytesField(1, "f"), bytesField(2, join(bytesField(5, bytesField(1, varintField(3, 1))), bytesField(5, bytesField(1, varintField(3, 2))))))),
		bytesField(9, join(bytesField(1, "a"), bytesField(2, bytesField(1, "again")))),
		bytesField(9, ""),
		bytesField(99, "unknown"), varintField(100, 1), protowire.AppendTag(nil, 15, protowire.BytesType), message{0x80, 0x00}, // a long zero
		bytesField(2, "other id"), bytesField(2, someSpan), bytesField(1, someTrace), bytesField(5, "first name"), bytesField(5, "name"),
		fixed64Field(8, nowNs), fixed64Field(7, nowNs-1), varintField(6, 1<<32|3),
		varintField(10, 1<<32|4), varintField(12, 5), varintField(14, 6),
	)
}
