package traceapi

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

// maxDepth bounds how deep arrays and maps may lie within each other.
const maxDepth = 32

// Find returns the first attribute of that name.
func Find(s *signal.Spans, attrs []signal.Attr, key string) (signal.Attr, bool) {
	for _, a := range attrs {
		if string(s.Bytes(a.Key)) == key {
			return a, true
		}
	}
	return signal.Attr{}, false
}

// FindText returns the first attribute of that name as text.
func FindText(s *signal.Spans, attrs []signal.Attr, key string) (string, bool) {
	a, ok := Find(s, attrs, key)
	if !ok {
		return "", false
	}
	return string(AppendText(nil, s, a)), true
}

// ResourceAttrs returns the attributes of a resource of s.
func ResourceAttrs(s *signal.Spans, resource uint32) []signal.Attr {
	r := &s.Resources[resource]
	return s.Attrs[r.AttrBegin:r.AttrEnd]
}

// ScopeAttrs returns the attributes of a scope of s.
func ScopeAttrs(s *signal.Spans, scope uint32) []signal.Attr {
	c := &s.Scopes[scope]
	return s.Attrs[c.AttrBegin:c.AttrEnd]
}

// Services returns the name of every scope's service, by scope; empty if its
// resource has none.
func Services(s *signal.Spans) []string {
	names := make([]string, len(s.Scopes))
	for i := range s.Scopes {
		if i > 0 && s.Scopes[i].Resource == s.Scopes[i-1].Resource {
			names[i] = names[i-1]
			continue
		}
		names[i], _ = FindText(s, ResourceAttrs(s, s.Scopes[i].Resource), "service.name")
	}
	return names
}

// AppendText appends the value of a as text: numbers in decimals, bytes in
// base64, arrays and maps as plain JSON.
func AppendText(dst []byte, s *signal.Spans, a signal.Attr) []byte {
	return otlpspans.ValueOf(s, a).AppendText(dst)
}

// AppendAnyValue appends a value as the JSON of an OTLP AnyValue.
func AppendAnyValue(dst []byte, v otlpspans.Value) []byte { return appendAny(dst, v, 0) }

func appendAny(dst []byte, v otlpspans.Value, depth int) []byte {
	if depth > maxDepth {
		return append(dst, "{}"...)
	}
	switch v.Type {
	case signal.AttrString:
		dst = append(dst, `{"stringValue":`...)
		dst = AppendJSONString(dst, v.Bytes)
	case signal.AttrBool:
		dst = append(dst, `{"boolValue":`...)
		dst = strconv.AppendBool(dst, v.Num != 0)
	case signal.AttrInt:
		dst = append(dst, `{"intValue":"`...)
		dst = strconv.AppendInt(dst, int64(v.Num), 10)
		dst = append(dst, '"')
	case signal.AttrDouble:
		dst = append(dst, `{"doubleValue":`...)
		dst = AppendJSONDouble(dst, math.Float64frombits(v.Num))
	case signal.AttrBytes:
		dst = append(dst, `{"bytesValue":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, v.Bytes)
		dst = append(dst, '"')
	case signal.AttrArray:
		dst = append(dst, `{"arrayValue":{"values":[`...)
		first := true
		for e := range otlpspans.Elements(v.Bytes) {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = appendAny(dst, e, depth+1)
		}
		dst = append(dst, "]}"...)
	case signal.AttrMap:
		dst = append(dst, `{"kvlistValue":{"values":[`...)
		first := true
		for key, e := range otlpspans.Entries(v.Bytes) {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(dst, `{"key":`...)
			dst = AppendJSONString(dst, key)
			dst = append(dst, `,"value":`...)
			dst = appendAny(dst, e, depth+1)
			dst = append(dst, '}')
		}
		dst = append(dst, "]}"...)
	default:
		return append(dst, "{}"...)
	}
	return append(dst, '}')
}

// AppendJSONDouble appends f as JSON; what JSON has no number for as protobuf's
// JSON writes it, in quotes.
func AppendJSONDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	return appendPlainDouble(dst, f)
}

// appendPlainDouble writes numbers as JSON's and JavaScript's do: an exponent
// only for the very large and very small.
func appendPlainDouble(dst []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

const hexDigits = "0123456789abcdef"

// AppendJSONString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD.
func AppendJSONString[T []byte | string](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if r == utf8.RuneError && n == 1 || r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[start:i]...)
			dst = fmt.Appendf(dst, `\u%04x`, r)
			start = i + n
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
