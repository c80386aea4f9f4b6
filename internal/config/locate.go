package config

import (
	"errors"
	"strconv"
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
	texts, _ := flatten(err)
	for _, text := range texts {
		p := Problem{File: file, Key: path, Text: text}
		if key, rest, ok := strings.Cut(text, ": "); ok && isKey(key) {
			p.Key, p.Text = join(path, key), rest
		}
		p.Line = lineOf(root, p.Key)
		out = append(out, p)
	}
	return out
}

// flatten splits what errors.Join has joined into its texts, also below an error
// that names the section of them all ("dns: %w"): that goes before each key.
func flatten(err error) (texts []string, joined bool) {
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // what errors.Join has made
		var plain []string
		for _, e := range many.Unwrap() {
			plain = append(plain, e.Error())
			more, _ := flatten(e)
			texts = append(texts, more...)
		}
		if strings.Join(plain, "\n") == err.Error() {
			return texts, true
		}
		return []string{err.Error()}, false // a sentence of several errors
	}
	if inner := errors.Unwrap(err); inner != nil {
		section, last := strings.CutSuffix(err.Error(), inner.Error())
		if texts, joined = flatten(inner); last && joined {
			section = strings.TrimRight(section, ".: ")
			for i, text := range texts {
				separator := ": "
				if key, _, ok := strings.Cut(text, ": "); ok && isKey(key) {
					separator = "."
				}
				texts[i] = section + separator + text
			}
			return texts, true
		}
	}
	return []string{err.Error()}, false
}

func isKey(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_.[]") == ""
}

// lineOf returns the line of the key at path, or of the nearest section above
// it that is in the file; 0 if there is none. "sources[2]" is an item of a list.
func lineOf(n *yaml.Node, path string) int {
	line := 0
	for path != "" && n != nil && n.Kind == yaml.MappingNode {
		var name string
		name, path, _ = strings.Cut(path, ".")
		name, index, _ := strings.Cut(name, "[")
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				line, next = n.Content[i].Line, n.Content[i+1]
			}
		}
		n = next
		if i, err := strconv.Atoi(strings.TrimSuffix(index, "]")); err == nil && n != nil && n.Kind == yaml.SequenceNode && i >= 0 && i < len(n.Content) {
			n = n.Content[i]
			line = n.Line
		}
	}
	return line
}
