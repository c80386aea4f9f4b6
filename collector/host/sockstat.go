package host

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
)

func openSockstat(s *sources) func(*batch) error {
	var r reader
	page := float64(os.Getpagesize())
	used := gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.")
	families := newNames(func(name string) *family {
		protocol, state, _ := strings.Cut(name, "_")
		return gauge("node_sockstat_"+name, "Number of "+validName(protocol)+" sockets in state "+validName(state)+".")
	})
	var name []byte
	return func(b *batch) error {
		for _, file := range []string{"net/sockstat", "net/sockstat6"} {
			data, err := r.read(s.proc(file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			var room [24][]byte
			for line := range lines(data) {
				protocol, rest, _ := bytes.Cut(line, []byte{':'})
				words := fields(room[:0], rest)
				for ; len(words) > 1; words = words[2:] {
					v, ok := parseNumber(words[1])
					if !ok {
						continue
					}
					if string(protocol) == "sockets" {
						b.add(used, v)
						continue
					}
					name = append(append(append(name[:0], protocol...), '_'), words[0]...)
					b.add(families.get(name), v)
					if string(words[0]) == "mem" { // in pages
						b.add(families.get(append(name, "_bytes"...)), v*page)
					}
				}
			}
		}
		if len(b.samples) == 0 {
			return errNoData
		}
		return nil
	}
}
