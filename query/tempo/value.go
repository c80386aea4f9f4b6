package tempo

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// anyValue is a value in the form of an OTLP AnyValue.
type anyValue struct{ traceql.Static }

// elements returns the elements of an array.
func (v anyValue) elements() []any {
	var list []any
	if json.Unmarshal([]byte(v.Text), &list) != nil {
		return []any{v.Text}
	}
	return list
}

// MarshalJSON writes the value with its type. Durations, statuses and kinds are
// strings.
func (v anyValue) MarshalJSON() ([]byte, error) { return v.appendJSON(nil), nil }

func (v anyValue) appendJSON(dst []byte) []byte {
	switch v.Type {
	case traceql.TypeInt:
		dst = append(dst, `{"intValue":"`...)
		dst = strconv.AppendInt(dst, v.Num, 10)
		return append(dst, `"}`...)
	case traceql.TypeFloat:
		dst = append(dst, `{"doubleValue":`...)
		return append(traceapi.AppendJSONDouble(dst, v.F), '}')
	case traceql.TypeBool:
		dst = append(dst, `{"boolValue":`...)
		return append(strconv.AppendBool(dst, v.Num != 0), '}')
	case traceql.TypeArray:
		dst = append(dst, `{"arrayValue":{"values":[`...)
		for i, e := range v.elements() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = anyValue{staticOf(e)}.appendJSON(dst)
		}
		return append(dst, `]}}`...)
	}
	dst = append(dst, `{"stringValue":`...)
	return append(traceapi.AppendJSONString(dst, v.Value()), '}')
}

// staticOf returns an element of an array, which came from JSON.
func staticOf(e any) traceql.Static {
	switch e := e.(type) {
	case string:
		return traceql.String(e)
	case bool:
		return traceql.Bool(e)
	case float64:
		if math.Trunc(e) == e && math.Abs(e) < 1<<53 {
			return traceql.Int(int64(e))
		}
		return traceql.Float(e)
	case nil:
		return traceql.Static{}
	}
	b, _ := json.Marshal(e) // it came from JSON
	return traceql.String(string(b))
}

// appendProto appends an AnyValue.
func (v anyValue) appendProto(dst []byte) []byte {
	switch v.Type {
	case traceql.TypeInt:
		return appendUint(dst, 3, uint64(v.Num), true)
	case traceql.TypeFloat:
		return appendDouble(dst, 4, v.F)
	case traceql.TypeBool:
		return appendUint(dst, 2, uint64(v.Num), true)
	case traceql.TypeArray:
		return appendMessage(dst, 5, func(dst []byte) []byte {
			for _, e := range v.elements() {
				dst = appendMessage(dst, 1, anyValue{staticOf(e)}.appendProto)
			}
			return dst
		})
	}
	return appendBytes(dst, 1, v.Value(), true)
}

// keyValue is an attribute in an answer.
type keyValue struct {
	Key   string   `json:"key"`
	Value anyValue `json:"value"`
}

func keyValues(in []traceql.KeyValue) []keyValue {
	if len(in) == 0 {
		return nil
	}
	out := make([]keyValue, len(in))
	for i, kv := range in {
		out[i] = keyValue{kv.Key, anyValue{kv.Value}}
	}
	return out
}

func (kv keyValue) appendProto(dst []byte) []byte {
	dst = appendBytes(dst, 1, kv.Key, false)
	return appendMessage(dst, 2, kv.Value.appendProto)
}
