package statsd

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/vedette-io/vedette/internal/labels"
)

const metricName = "__name__"

type label struct{ name, value []byte }

// identity is what a series is found by: the name of its metric and its labels.
// Its memory is the scratch's.
type identity struct {
	name    []byte
	tags    []byte // canonical, without the name
	nameAt  int    // where __name__ belongs in tags
	extraAt int    // where the label that parts have for themselves belongs
}

// scratch is memory for identities.
type scratch struct {
	name   []byte
	arena  []byte
	labels []label
	tags   []byte
}

// identity parses name and tags. extra is the name of the label that the parts
// of the series have for themselves, or empty. It reports false for a name or
// tag that cannot be.
func (s *scratch) identity(name, tags []byte, extra string) (identity, bool) {
	s.labels, s.arena = s.labels[:0], s.arena[:0]
	name, ok := s.styled(name)
	if !ok || len(name) == 0 || !s.list(tags, ':') {
		return identity{}, false
	}
	s.name = appendSanitized(s.name[:0], name)
	// The last one of a name wins.
	slices.SortStableFunc(s.labels, func(a, b label) int { return bytes.Compare(a.name, b.name) })
	id := identity{name: s.name, nameAt: -1, extraAt: -1}
	s.tags = s.tags[:0]
	for i, l := range s.labels {
		if i+1 < len(s.labels) && bytes.Equal(l.name, s.labels[i+1].name) {
			continue
		}
		if string(l.name) == metricName || string(l.name) == extra || !utf8.Valid(l.value) {
			return identity{}, false
		}
		if id.nameAt < 0 && string(l.name) > metricName {
			id.nameAt = len(s.tags)
		}
		if id.extraAt < 0 && string(l.name) > extra {
			id.extraAt = len(s.tags)
		}
		s.tags = labels.Append(s.tags, l.name, l.value)
	}
	if id.nameAt < 0 {
		id.nameAt = len(s.tags)
	}
	if id.extraAt < 0 {
		id.extraAt = len(s.tags)
	}
	id.extraAt = max(id.extraAt, id.nameAt) // without an extra label it does not matter
	id.tags = s.tags
	return id, true
}

// styled takes the tags out of a name: name,k=v (InfluxDB), name#k=v (Librato)
// or name[k=v] (SignalFx, anywhere in the name).
func (s *scratch) styled(name []byte) ([]byte, bool) {
	i := bytes.IndexAny(name, ",#[")
	if i < 0 {
		return name, true
	}
	if name[i] != '[' {
		return name[:i], s.list(name[i+1:], '=')
	}
	end := bytes.IndexByte(name[i:], ']')
	if end < 0 {
		return nil, false
	}
	tags := name[i+1 : i+end]
	start := len(s.arena)
	s.arena = append(append(s.arena, name[:i]...), name[i+end+1:]...)
	return s.arena[start:len(s.arena):len(s.arena)], s.list(tags, '=')
}

// list parses tags. One without a value is "true", one with an empty value is
// none.
func (s *scratch) list(tags []byte, separator byte) bool {
	for len(tags) > 0 {
		t := tags
		if i := bytes.IndexByte(tags, ','); i >= 0 {
			t, tags = tags[:i], tags[i+1:]
		} else {
			tags = nil
		}
		if len(t) == 0 {
			continue
		}
		name, value := t, []byte("true")
		if i := bytes.IndexByte(t, separator); i >= 0 {
			name, value = t[:i], t[i+1:]
		}
		if len(name) == 0 {
			return false
		}
		if len(value) == 0 {
			continue
		}
		start := len(s.arena)
		s.arena = appendSanitized(s.arena, name)
		s.labels = append(s.labels, label{s.arena[start:len(s.arena):len(s.arena)], value})
	}
	return true
}

// appendSanitized appends a name with "_" for every character other than
// letters, digits and "_", and before a digit at its start.
func appendSanitized(dst, name []byte) []byte {
	if c := name[0]; c >= '0' && c <= '9' {
		dst = append(dst, '_')
	}
	for i := 0; i < len(name); {
		c := name[i]
		if c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			dst = append(dst, c)
			i++
			continue
		}
		_, n := utf8.DecodeRune(name[i:])
		dst = append(dst, '_')
		i += n
	}
	return dst
}
