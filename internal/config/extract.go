package config

import (
	"bytes"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Extract returns the document data with only the top-level sections keys in
// it. Lines keep their numbers, so that another decoder's errors point into the
// original file. Sections cannot share YAML anchors across this cut.
func Extract(file string, data []byte, keys ...string) ([]byte, error) {
	root, err := parse(file, data)
	if err != nil || root == nil {
		return nil, err
	}
	if root.Kind != yaml.MappingNode {
		return nil, Problems{{File: file, Line: root.Line, Text: "got " + nodeName(root) + ", want a section with keys"}}
	}
	if root.Style&yaml.FlowStyle != 0 {
		return extractFlow(root, keys)
	}
	lines := splitLines(data)
	for i := 0; i < len(root.Content); i += 2 {
		k := root.Content[i]
		if slices.Contains(keys, k.Value) {
			continue
		}
		end := len(lines)
		if i+2 < len(root.Content) {
			end = root.Content[i+2].Line - 1
		}
		for l := k.Line - 1; l < min(end, len(lines)); l++ {
			lines[l] = []byte("\n")
		}
	}
	return bytes.Join(lines, nil), nil
}

// splitLines splits after every line break that YAML 1.1 knows.
func splitLines(data []byte) [][]byte {
	var lines [][]byte
	for len(data) > 0 {
		n := lineBreak.FindIndex(data)
		if n == nil {
			return append(lines, data)
		}
		lines = append(lines, data[:n[1]])
		data = data[n[1]:]
	}
	return lines
}

var lineBreak = regexp.MustCompile("\r\n|[\n\r\u0085\u2028\u2029]")

// extractFlow handles a file written as one {…}, whose sections have no lines of
// their own.
func extractFlow(root *yaml.Node, keys []string) ([]byte, error) {
	kept := yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if slices.Contains(keys, root.Content[i].Value) {
			kept.Content = append(kept.Content, root.Content[i], root.Content[i+1])
		}
	}
	return yaml.Marshal(&kept)
}
