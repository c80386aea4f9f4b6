package config

import (
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Faults turns the error of a component's Validate, which names keys of the
// section at path ("key: what is wrong"), into problems of the file: with the
// full key, and its line if the file gives it. It returns nil for a nil error.
func Faults(file string, data []byte, path string, err error) Problems {
	if err == nil {
		return nil
	}
	root, _ := parse(file, data) // a file that does not parse has been refused already
	var out Problems
	for _, e := range flatten(err) {
		p := Problem{File: file, Key: path, Text: e.Error()}
		if key, text, ok := strings.Cut(p.Text, ": "); ok && isKey(key) {
			p.Key, p.Text = join(path, key), text
		}
		p.Line = lineOf(root, p.Key)
		out = append(out, p)
	}
	return out
}

// flatten splits what errors.Join has joined.
func flatten(err error) []error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		return []error{err}
	}
	var out []error
	for _, e := range many.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}

func isKey(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_.") == ""
}

// lineOf returns the line of the key at path, or of the nearest section above
// it that is in the file; 0 if there is none.
func lineOf(n *yaml.Node, path string) int {
	line := 0
	for path != "" && n != nil && n.Kind == yaml.MappingNode {
		var name string
		name, path, _ = strings.Cut(path, ".")
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				line, next = n.Content[i].Line, n.Content[i+1]
			}
		}
		n = next
	}
	return line
}
