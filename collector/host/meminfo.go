package host

import (
	"bytes"
)

func openMeminfo(s *sources) func(*batch) error {
	var r reader
	families := newNames(func(name string) *family {
		return gauge("node_memory_"+name, "Memory information field "+validName(name)+".")
	})
	return func(b *batch) error {
		data, err := r.read(s.proc("meminfo"))
		if err != nil {
			return err
		}
		var room [4][]byte
		var name []byte
		for line := range lines(data) {
			key, rest, ok := bytes.Cut(line, []byte{':'})
			words := fields(room[:0], rest)
			if !ok || len(words) == 0 {
				continue
			}
			v, ok := parseNumber(words[0])
			if !ok {
				continue
			}
			name = appendMemoryName(name[:0], key)
			if len(words) > 1 && string(words[1]) == "kB" {
				v *= 1024
				name = append(name, "_bytes"...)
			}
			b.add(families.get(name), v)
		}
		if len(b.samples) == 0 {
			return errNoData
		}
		return nil
	}
}

// appendMemoryName writes Active(file) as Active_file.
func appendMemoryName(dst, key []byte) []byte {
	for _, c := range key {
		switch {
		case c == '(':
			dst = append(dst, '_')
		case c == ')':
		case c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
			dst = append(dst, c)
		default:
			dst = append(dst, '_')
		}
	}
	return dst
}
