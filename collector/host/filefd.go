package host

import "fmt"

func openFileFD(s *sources) func(*batch) error {
	var r reader
	allocated := gauge("node_filefd_allocated", "File descriptor statistics: allocated.")
	maximum := gauge("node_filefd_maximum", "File descriptor statistics: maximum.")
	return func(b *batch) error {
		text, err := r.text(s.proc("sys/fs/file-nr"))
		if err != nil {
			return err
		}
		words := fields(nil, []byte(text))
		if len(words) != 3 {
			return fmt.Errorf("parse file-nr: got %q, want three numbers", text)
		}
		now, ok := parseNumber(words[0])
		most, ok2 := parseNumber(words[2])
		if !ok || !ok2 {
			return fmt.Errorf("parse file-nr: got %q, want three numbers", text)
		}
		b.add(allocated, now)
		b.add(maximum, most)
		return nil
	}
}
