package traceql

// StaticType is the type of a value in a query or in an answer.
type StaticType uint8

// Types of values. Status and kind are types of their own: error is not "error".
const (
	TypeNil StaticType = iota
	TypeInt
	TypeFloat
	TypeString
	TypeBool
	TypeDuration
	TypeStatus // 0 unset, 1 ok, 2 error
	TypeKind   // as signal.Spans.Kinds
	TypeArray  // of a value only: its JSON in Text
)

// Static is a value.
type Static struct {
	Type StaticType
	Num  int64   // int, duration in nanoseconds, bool, status, kind
	F    float64 // float
	Text string  // string
}
