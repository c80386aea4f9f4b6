package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Key describes one key of a configuration struct.
type Key struct {
	Path    string // such as "buffer.sync"; elements of lists are path[], of maps path.<name>
	Type    string // for people: "duration", "list of string", "section", …
	Default string // as one would write it in YAML; empty for sections and unset values
	Section bool   // it holds further keys, which follow

	Struct reflect.Type // the struct that declares the key
	Field  string       // its Go name there
}

// Describe lists every key of the struct that v is or points to, in order of
// declaration, with the values in v as defaults.
func Describe(v any) []Key {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer {
		rv = rv.Elem()
	}
	return describe(nil, rv, "")
}

func describe(keys []Key, v reflect.Value, prefix string) []Key {
	for _, f := range structFields(v.Type()) {
		fv := v.FieldByIndex(f.index)
		k := Key{Path: join(prefix, f.key), Type: TypeName(f.typ), Struct: f.parent, Field: f.name}
		inner, suffix := innerStruct(f.typ)
		if inner == nil {
			k.Default = defaultText(fv)
			keys = append(keys, k)
			if f.typ == secretType {
				k.Path, k.Type = k.Path+fileSuffix, "file name"
				keys = append(keys, k)
			}
			continue
		}
		k.Section = true
		keys = append(keys, k)
		for fv.Kind() == reflect.Pointer && !fv.IsNil() {
			fv = fv.Elem()
		}
		if fv.Kind() != reflect.Struct {
			fv = reflect.New(inner).Elem()
		}
		keys = describe(keys, fv, k.Path+suffix)
	}
	return keys
}

// innerStruct returns the struct whose keys lie below a key of type t, and what
// stands between the two paths; nil if there is none.
func innerStruct(t reflect.Type) (reflect.Type, string) {
	suffix := ""
	for {
		switch {
		case t == nodeType || decodesItself(t):
			return nil, ""
		case t.Kind() == reflect.Struct:
			return t, suffix
		case t.Kind() == reflect.Pointer:
		case t.Kind() == reflect.Slice:
			suffix += "[]"
		case t.Kind() == reflect.Map:
			suffix += ".<name>"
		default:
			return nil, ""
		}
		t = t.Elem()
	}
}

// TypeName names a Go type as the documentation and the errors do.
func TypeName(t reflect.Type) string {
	switch {
	case t == durationType || t.String() == "model.Duration":
		return "duration"
	case t == secretType:
		return "secret"
	case t == nodeType:
		return "Prometheus syntax"
	case decodesItself(t):
		return strings.ToLower(t.Name())
	}
	switch t.Kind() {
	case reflect.Pointer:
		return TypeName(t.Elem())
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer, not negative"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + TypeName(t.Elem())
	case reflect.Map:
		return "map of " + TypeName(t.Elem())
	case reflect.Struct:
		return "section"
	}
	return t.String()
}

func defaultText(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return trimDuration(x)
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return ""
		}
		return string(b)
	case fmt.Stringer:
		return x.String()
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return defaultText(v.Elem())
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, defaultText(v.Index(i)))
		}
		if parts == nil {
			return ""
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Map, reflect.Struct:
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// trimDuration writes 30m0s as 30m.
func trimDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
