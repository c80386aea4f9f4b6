package traceql

import (
	"encoding/base64"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of opentelemetry.proto.common.v1.AnyValue, and of the lists in it.
const (
	anyString = 1
	anyBool   = 2
	anyInt    = 3
	anyDouble = 4
	anyArray  = 5
	anyMap    = 6
	anyBytes  = 7

	listValues = 1 // of ArrayValue and KeyValueList
	pairKey    = 1 // of KeyValue
	pairValue  = 2
)

// maxAnyDepth bounds how deeply arrays and maps are looked into; what is deeper
// reads as null.
const maxAnyDepth = 32

// eachField calls f for the fields of a message until it ends or is malformed:
// num of varints and fixed numbers, bytes of the rest.
func eachField(b []byte, f func(field protowire.Number, num uint64, bytes []byte)) {
	for len(b) > 0 {
		field, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		var num uint64
		var bytes []byte
		switch wire {
		case protowire.VarintType:
			num, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			num, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, wire, b)
		}
		if n < 0 {
			return
		}
		b = b[n:]
		f(field, num, bytes)
	}
}

// appendElements appends the elements of an ArrayValue that are strings, bools
// or numbers, or bytes as base64. Strings alias b.
func appendElements(dst []Static, b []byte) []Static {
	eachField(b, func(field protowire.Number, _ uint64, value []byte) {
		if field != listValues {
			return
		}
		element := Static{}
		eachField(value, func(field protowire.Number, num uint64, bytes []byte) {
			switch field {
			case anyString:
				element = String(borrow(bytes))
			case anyBool:
				element = Bool(num != 0)
			case anyInt:
				element = Int(int64(num))
			case anyDouble:
				element = Float(math.Float64frombits(num))
			case anyBytes:
				element = String(base64.StdEncoding.EncodeToString(bytes))
			}
		})
		if !element.IsNil() {
			dst = append(dst, element)
		}
	})
	return dst
}

// AppendArrayElements appends what comparisons look at in an attribute of type
// signal.AttrArray: elements that are strings, bools, numbers, or bytes as
// base64. Strings alias b.
func AppendArrayElements(dst []Static, b []byte) []Static { return appendElements(dst, b) }

// AppendArrayJSON appends an opentelemetry.proto.common.v1.ArrayValue as JSON.
func AppendArrayJSON(dst, b []byte) []byte { return appendList(dst, b, maxAnyDepth) }

// AppendMapJSON appends an opentelemetry.proto.common.v1.KeyValueList as JSON.
func AppendMapJSON(dst, b []byte) []byte { return appendMap(dst, b, maxAnyDepth) }

func appendList(dst, b []byte, depth int) []byte {
	dst = append(dst, '[')
	first := true
	eachField(b, func(field protowire.Number, _ uint64, value []byte) {
		if field != listValues {
			return
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendAny(dst, value, depth-1)
	})
	return append(dst, ']')
}

func appendMap(dst, b []byte, depth int) []byte {
	dst = append(dst, '{')
	first := true
	eachField(b, func(field protowire.Number, _ uint64, pair []byte) {
		if field != listValues {
			return
		}
		var key, value []byte
		eachField(pair, func(field protowire.Number, _ uint64, bytes []byte) {
			switch field {
			case pairKey:
				key = bytes
			case pairValue:
				value = bytes
			}
		})
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendJSONString(dst, key), ':')
		dst = appendAny(dst, value, depth-1)
	})
	return append(dst, '}')
}

func appendAny(dst, b []byte, depth int) []byte {
	begin := len(dst)
	eachField(b, func(field protowire.Number, num uint64, bytes []byte) {
		dst = dst[:begin] // the last of a oneof counts
		switch {
		case field == anyString:
			dst = appendJSONString(dst, bytes)
		case field == anyBool:
			dst = strconv.AppendBool(dst, num != 0)
		case field == anyInt:
			dst = strconv.AppendInt(dst, int64(num), 10)
		case field == anyDouble:
			dst = appendJSONFloat(dst, math.Float64frombits(num))
		case field == anyArray && depth > 0:
			dst = appendList(dst, bytes, depth)
		case field == anyMap && depth > 0:
			dst = appendMap(dst, bytes, depth)
		case field == anyBytes:
			dst = append(dst, '"')
			dst = base64.StdEncoding.AppendEncode(dst, bytes)
			dst = append(dst, '"')
		}
	})
	if len(dst) == begin {
		dst = append(dst, "null"...)
	}
	return dst
}

// appendJSONFloat writes what JSON has no number for as a string, as OTLP does.
func appendJSONFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

const hexDigits = "0123456789abcdef"

func appendJSONString(dst, s []byte) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
		s = s[size:]
	}
	return append(dst, '"')
}
