package traceql

import (
	"cmp"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"
)

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

var typeText = [...]string{"nil", "int", "float", "string", "bool", "duration", "status", "kind", "array"}

// String returns the type's name: int, duration.
func (t StaticType) String() string { return typeText[t] }

// IsNumeric reports whether values of the type are numbers. Numbers of all types
// compare by value.
func (t StaticType) IsNumeric() bool { return t == TypeInt || t == TypeFloat || t == TypeDuration }

var (
	statusText = [...]string{"unset", "ok", "error"}
	kindText   = [...]string{"unspecified", "internal", "server", "client", "producer", "consumer"}
)

// Static is a value.
type Static struct {
	Type StaticType
	Num  int64   // int, duration in nanoseconds, bool, status, kind
	F    float64 // float
	Text string  // string
}

// Int returns an int.
func Int(v int64) Static { return Static{Type: TypeInt, Num: v} }

// Float returns a float.
func Float(v float64) Static { return Static{Type: TypeFloat, F: v} }

// String returns a string.
func String(v string) Static { return Static{Type: TypeString, Text: v} }

// Bool returns a bool.
func Bool(v bool) Static {
	s := Static{Type: TypeBool}
	if v {
		s.Num = 1
	}
	return s
}

// Duration returns a duration of nanoseconds.
func Duration(nanos int64) Static { return Static{Type: TypeDuration, Num: nanos} }

// Status returns a status as signal.Spans.Statuses numbers it.
func Status(v uint8) Static { return Static{Type: TypeStatus, Num: int64(v)} }

// Kind returns a kind as signal.Spans.Kinds numbers it.
func Kind(v uint8) Static { return Static{Type: TypeKind, Num: int64(v)} }

// IsNil reports whether there is no value.
func (s Static) IsNil() bool { return s.Type == TypeNil }

// True reports whether s is the bool true.
func (s Static) True() bool { return s.Type == TypeBool && s.Num != 0 }

// Float64 returns the number that s is: nanoseconds of a duration.
func (s Static) Float64() (float64, bool) {
	switch s.Type {
	case TypeInt, TypeDuration:
		return float64(s.Num), true
	case TypeFloat:
		return s.F, true
	}
	return 0, false
}

// Compare orders two values. They compare if both are numbers, or of the same
// type; NaN compares with nothing.
func (s Static) Compare(t Static) (order int, ok bool) {
	switch {
	case s.Type.IsNumeric() && t.Type.IsNumeric():
		return compareNumbers(s, t)
	case s.Type != t.Type || s.Type == TypeNil:
		return 0, false
	case s.Type == TypeString || s.Type == TypeArray:
		return strings.Compare(s.Text, t.Text), true
	}
	return cmp.Compare(s.Num, t.Num), true
}

func compareNumbers(s, t Static) (int, bool) {
	switch {
	case s.Type != TypeFloat && t.Type != TypeFloat:
		return cmp.Compare(s.Num, t.Num), true
	case s.Type == TypeFloat && t.Type == TypeFloat:
		return cmp.Compare(s.F, t.F), s.F == s.F && t.F == t.F
	case s.Type == TypeFloat:
		order, ok := compareIntFloat(t.Num, s.F)
		return -order, ok
	}
	return compareIntFloat(s.Num, t.F)
}

// compareIntFloat compares without rounding the int, which has more digits than
// a float beyond 2^53.
func compareIntFloat(i int64, f float64) (int, bool) {
	switch {
	case f != f:
		return 0, false
	case f >= 1<<63:
		return -1, true
	case f < -1<<63:
		return 1, true
	}
	whole := math.Trunc(f)
	if c := cmp.Compare(i, int64(whole)); c != 0 {
		return c, true
	}
	return cmp.Compare(0, f-whole), true
}

// Match reports whether s op t holds for a comparison that is not a regular
// expression. Values that do not compare make every comparison false.
func (s Static) Match(op Op, t Static) bool {
	order, ok := s.Compare(t)
	return ok && op.holds(order)
}

// holds reports whether a comparison holds for operands in an order.
func (o Op) holds(order int) bool {
	switch o {
	case OpEqual:
		return order == 0
	case OpNotEqual:
		return order != 0
	case OpGreater:
		return order > 0
	case OpGreaterEqual:
		return order >= 0
	case OpLess:
		return order < 0
	case OpLessEqual:
		return order <= 0
	}
	return false
}

// Order is a total order of all values, for sorting answers: by type, numbers
// together, then by value.
func (s Static) Order(t Static) int {
	if o, ok := s.Compare(t); ok && o != 0 {
		return o
	}
	if o := cmp.Compare(s.Type.rank(), t.Type.rank()); o != 0 {
		return o
	}
	if s.Type == TypeFloat && t.Type == TypeFloat {
		return cmp.Compare(s.F, t.F)
	}
	return cmp.Compare(s.Type, t.Type)
}

func (t StaticType) rank() StaticType {
	if t.IsNumeric() {
		return TypeInt
	}
	return t
}

// Arithmetic computes s op t. Ints stay ints where the result is one, and wrap;
// a division that leaves a remainder, and a power with a negative exponent, give
// floats. A duration with a number stays a duration, two of them divided give a
// number. The result is nil if an operand is no number.
func (s Static) Arithmetic(op Op, t Static) Static {
	if !s.Type.IsNumeric() || !t.Type.IsNumeric() {
		return Static{}
	}
	asDuration := false
	switch op {
	case OpAdd, OpSub, OpMul:
		asDuration = s.Type == TypeDuration || t.Type == TypeDuration
	case OpDiv:
		asDuration = s.Type == TypeDuration && t.Type != TypeDuration
	case OpMod:
		asDuration = s.Type == TypeDuration
	}
	r := arithmetic(op, s, t)
	if !asDuration {
		return r
	}
	if r.Type == TypeFloat {
		if r.F != r.F || r.F >= 1<<63 || r.F < -1<<63 {
			return Static{}
		}
		return Duration(int64(math.Round(r.F)))
	}
	return Duration(r.Num)
}

func arithmetic(op Op, s, t Static) Static {
	if s.Type != TypeFloat && t.Type != TypeFloat {
		if r, ok := intArithmetic(op, s.Num, t.Num); ok {
			return Int(r)
		}
	}
	a, _ := s.Float64()
	b, _ := t.Float64()
	switch op {
	case OpAdd:
		return Float(a + b)
	case OpSub:
		return Float(a - b)
	case OpMul:
		return Float(a * b)
	case OpDiv:
		return Float(a / b)
	case OpMod:
		return Float(math.Mod(a, b))
	case OpPow:
		return Float(math.Pow(a, b))
	}
	return Static{}
}

// intArithmetic computes a op b if the result is an int.
func intArithmetic(op Op, a, b int64) (int64, bool) {
	switch op {
	case OpAdd:
		return a + b, true
	case OpSub:
		return a - b, true
	case OpMul:
		return a * b, true
	case OpDiv:
		if b == 0 || a%b != 0 {
			return 0, false
		}
		return a / b, true
	case OpMod:
		if b == 0 {
			return 0, false
		}
		return a % b, true
	case OpPow:
		if f := math.Pow(float64(a), float64(b)); b >= 0 && math.Abs(f) < 1<<53 {
			return int64(f), true
		}
	}
	return 0, false
}

// Negated returns minus s; nil if s is no number.
func (s Static) Negated() Static {
	switch s.Type {
	case TypeInt, TypeDuration:
		s.Num = -s.Num
	case TypeFloat:
		s.F = -s.F
	default:
		return Static{}
	}
	return s
}

// Value returns the value as text, as a label of a series has it: strings
// without quotes, nil as "nil".
func (s Static) Value() string {
	switch s.Type {
	case TypeString, TypeArray:
		return s.Text
	case TypeInt:
		return strconv.FormatInt(s.Num, 10)
	case TypeFloat:
		return strconv.FormatFloat(s.F, 'g', -1, 64)
	case TypeBool:
		return strconv.FormatBool(s.Num != 0)
	case TypeDuration:
		return time.Duration(s.Num).String()
	case TypeStatus:
		return enumText(statusText[:], s.Num)
	case TypeKind:
		return enumText(kindText[:], s.Num)
	}
	return "nil"
}

func enumText(names []string, n int64) string {
	if n >= 0 && n < int64(len(names)) {
		return names[n]
	}
	return strconv.FormatInt(n, 10)
}

// String returns the value as a query writes it.
func (s Static) String() string {
	switch {
	case s.Type == TypeString:
		return strconv.Quote(s.Text)
	case s.Type == TypeInt && s.Num == math.MinInt64:
		return "minInt"
	case s.Type == TypeFloat:
		t := s.Value()
		if strings.Trim(t, "-0123456789") == "" {
			t += ".0" // stays a float
		}
		return t
	}
	return s.Value()
}

// AppendKey appends bytes that differ for values that differ, to look groups and
// series up. Keys of several values can follow each other.
func (s Static) AppendKey(dst []byte) []byte {
	dst = append(dst, byte(s.Type))
	switch s.Type {
	case TypeNil:
		return dst
	case TypeString, TypeArray:
		dst = binary.AppendUvarint(dst, uint64(len(s.Text)))
		return append(dst, s.Text...)
	case TypeFloat:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.F))
	}
	return binary.AppendVarint(dst, s.Num)
}
