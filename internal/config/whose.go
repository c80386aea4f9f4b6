package config

import (
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// valueText finds the value that a decoder's error is about: in quotes, or as
// Prometheus wraps regular expressions.
var valueText = regexp.MustCompile("(\"(?:[^\"\\\\]|\\\\.)*\")$|`\\^\\(\\?s:(.*)\\)\\$`$")

// Whose gives problems that have no line the key and the line of the value that they
// end with, if the document data has it once, and returns them.
func Whose(problems Problems, file string, data []byte) Problems {
	root, err := parse(file, data)
	if err != nil || root == nil {
		return problems
	}
	for i := range problems {
		p := &problems[i]
		m := valueText.FindStringSubmatch(p.Text)
		if p.Line != 0 || m == nil {
			continue
		}
		value := m[2]
		if m[1] != "" {
			if value, err = strconv.Unquote(m[1]); err != nil {
				continue
			}
		}
		var found []Problem
		holders(root, "", value, &found)
		if len(found) == 1 {
			p.Line, p.Key = found[0].Line, found[0].Key
		}
	}
	return problems
}

// holders finds the keys that have a value.
func holders(n *yaml.Node, path, value string, into *[]Problem) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			holders(n.Content[i+1], join(path, n.Content[i].Value), value, into)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			holders(item, path+"["+strconv.Itoa(i)+"]", value, into)
		}
	case yaml.ScalarNode:
		if n.Value == value {
			*into = append(*into, Problem{Line: n.Line, Key: path})
		}
	}
}
