package config

import (
	"bytes"
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
	lines := bytes.SplitAfter(data, []byte("\n"))
	for i := 0; i < len(root.Content); i += 2 {
		k := root.Content[i]
		if slices.Contains(keys, k.Value) {
			continue
		}
		end := len(lines)
		if i+2 < len(root.Content) {
			end = root.Content[i+2].Line - 1
		}
		for l := k.Line - 1; l < end; l++ {
			lines[l] = []byte("\n")
		}
	}
	return bytes.Join(lines, nil), nil
}

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
