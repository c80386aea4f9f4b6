package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// fault is one thing that is wrong with a configuration.
type fault struct{ path, text string }

func (f fault) String() string {
	if f.path == "" {
		return f.text
	}
	return f.path + ": " + f.text
}

// noise says what the Collector was about, which the path of a key says better.
var noise = []string{"failed to get config: ", "invalid configuration: ", "cannot unmarshal the configuration: ", "decoding failed due to the following error(s):\n\n"}

var (
	ofComponent = regexp.MustCompile(`^error reading (?:\w+ )?configuration for "(.+)": $`)
	ofKey       = regexp.MustCompile(`^([^\s:]+(?:::[^\s:]+)*): $`) // as confmap.Validate writes paths
)

// explain gives what a configuration's error says in lines, each once, with the path
// of the key. The Collector's own text has several faults in one, under one path.
func explain(err error) []string {
	var found []fault
	collect(err, "", &found)
	var lines []string
	for i, f := range found {
		again := slices.ContainsFunc(found, func(o fault) bool { // by a part of the same component
			return o.text == f.text && o.path != f.path && (o.path == "" || strings.HasPrefix(f.path, o.path+"::"))
		})
		if again || slices.Contains(found[:i], f) {
			continue
		}
		lines = append(lines, f.String())
	}
	return lines
}

// collect takes an error apart as far as it can be.
func collect(err error, path string, into *[]fault) {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		if text := errors.Join(several.Unwrap()...).Error(); text == err.Error() {
			for _, one := range several.Unwrap() {
				collect(one, path, into)
			}
			return
		}
	}
	inner := errors.Unwrap(err)
	if inner != nil {
		if head, ok := strings.CutSuffix(err.Error(), inner.Error()); ok {
			if key, known := keyOf(err, head); known {
				collect(inner, join(path, key), into)
				return
			}
		}
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			*into = append(*into, fault{path, line})
		}
	}
}

// keyOf says which key an error is about, by itself or by what it has written in front
// of the one it wraps; "": none.
func keyOf(err error, head string) (key string, known bool) {
	if named, ok := err.(interface{ Name() string }); ok { // mapstructure's
		return strings.Trim(named.Name(), "[]"), true
	}
	if m := ofComponent.FindStringSubmatch(head); m != nil {
		return m[1], true
	}
	if m := ofKey.FindStringSubmatch(head); m != nil {
		return m[1], true
	}
	return "", slices.Contains(noise, head)
}

func join(path, key string) string {
	if path == "" || key == "" {
		return path + key
	}
	return path + "::" + key
}

// isOfConfig says whether an error is about the configuration.
func isOfConfig(err error) bool {
	return strings.HasPrefix(err.Error(), "failed to get config: ") || strings.HasPrefix(err.Error(), "invalid configuration: ")
}
