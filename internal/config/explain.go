package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

var (
	unknownField = regexp.MustCompile(`line (\d+): field (\S+) (?:not found in type|already set in type) (\S+)`)
	lineText     = regexp.MustCompile(`line (\d+): (.*)`)
)

// Explain turns the error of another strict YAML decoder, which decoded parts
// of file into the type of into, into problems as Decode reports them: with
// file and line, and an unknown key with the nearest one of its section.
func Explain(file string, err error, into any) Problems {
	if err == nil {
		return nil
	}
	types := map[string]reflect.Type{}
	collectTypes(types, reflect.TypeOf(into))
	var out Problems
	for _, text := range strings.Split(err.Error(), "\n") {
		p := Problem{File: file, Text: strings.TrimSpace(text)}
		if m := unknownField.FindStringSubmatch(text); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			p.Key = m[2]
			p.Text = "unknown key"
			if strings.Contains(m[0], "already set") {
				p.Text = "given twice"
			} else if t, ok := types[m[3]]; ok {
				if near := nearest(p.Key, structFields(t).keys()); near != "" {
					p.Text = fmt.Sprintf("unknown key, did you mean %q?", near)
				}
			}
		} else if m := lineText.FindStringSubmatch(text); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			p.Text = m[2]
		} else if p.Text = yamlLine.ReplaceAllString(p.Text, ""); p.Text == "unmarshal errors:" {
			continue // a heading
		}
		out = append(out, p)
	}
	return out
}

// collectTypes notes every struct type that t reaches by the name that errors
// give it.
func collectTypes(types map[string]reflect.Type, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
		collectTypes(types, t.Elem())
	case reflect.Struct:
		if _, ok := types[t.String()]; ok {
			return
		}
		types[t.String()] = t
		types["*"+t.String()] = t
		for i := range t.NumField() {
			collectTypes(types, t.Field(i).Type)
		}
	}
}
