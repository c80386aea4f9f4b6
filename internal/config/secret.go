package config

import "go.yaml.in/yaml/v3"

// Secret is a value that is never logged or shown. In YAML, a key of this type
// has a twin ending in _file that names the file to read it from. See LiveSecret for
// files that change.
type Secret string

const hidden = "<secret>"

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the value from JSON and from log handlers.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML hides the value.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// UnmarshalYAML takes the value as it stands.
func (s *Secret) UnmarshalYAML(n *yaml.Node) error {
	var v string
	if err := n.Decode(&v); err != nil {
		return err
	}
	*s = Secret(v)
	return nil
}

// Reveal returns the value itself, for the place that has to use it.
func (s Secret) Reveal() string { return string(s) }
