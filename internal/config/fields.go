package config

import (
	"reflect"
	"strings"
)

// field is a struct field as YAML sees it.
type field struct {
	key    string
	index  []int        // for FieldByIndex
	parent reflect.Type // the struct that declares it, which matters for inlined ones
	name   string       // in Go
	typ    reflect.Type
}

type fieldList []field

// structFields lists the keys of struct type t in order of declaration, those of
// inlined structs in their place.
func structFields(t reflect.Type) fieldList {
	var out fieldList
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		if strings.Contains(opts, "inline") {
			for _, in := range structFields(f.Type) {
				in.index = append([]int{i}, in.index...)
				out = append(out, in)
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		out = append(out, field{name, []int{i}, t, f.Name, f.Type})
	}
	return out
}

func (l fieldList) byKey(key string) (field, bool) {
	for _, f := range l {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

const fileSuffix = "_file"

// byFileKey finds the Secret field whose _file twin key is.
func (l fieldList) byFileKey(key string) (field, bool) {
	name, ok := strings.CutSuffix(key, fileSuffix)
	if !ok {
		return field{}, false
	}
	f, ok := l.byKey(name)
	return f, ok && f.typ == secretType
}

func (l fieldList) keys() []string {
	var keys []string
	for _, f := range l {
		keys = append(keys, f.key)
		if f.typ == secretType {
			keys = append(keys, f.key+fileSuffix)
		}
	}
	return keys
}
