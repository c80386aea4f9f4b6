package log

import (
	"bytes"
	"encoding/json"
	"time"
)

// Streams of a container.
const (
	streamNone uint8 = iota
	streamStdout
	streamStderr
	numStreams
)

func streamName(s uint8) string { return [numStreams]string{"", "stdout", "stderr"}[s] }

func streamOf(name []byte) (s uint8, ok bool) {
	switch string(name) {
	case "stdout":
		return streamStdout, true
	case "stderr":
		return streamStderr, true
	}
	return streamNone, false
}

// part is what one physical line says: a line, or a part of one that goes on.
type part struct {
	text    []byte // may alias the line
	time    int64  // unix nanoseconds; 0 if the line has none
	stream  uint8
	partial bool
}

// parseCRI reads a line of containerd or CRI-O: "TIME STREAM TAGS TEXT", where the
// first tag is P for a part of a line and F for the last one, or all of it.
func parseCRI(line []byte) (p part, ok bool) {
	at, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tags, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || len(tags) == 0 || !ok3 && len(tags) != 1 { // a line may be empty
		return p, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return p, false
	}
	p.time, p.text = t.UnixNano(), text
	if p.stream, ok = streamOf(stream); !ok {
		return p, false
	}
	switch tag, _, _ := bytes.Cut(tags, []byte{':'}); string(tag) {
	case "P":
		p.partial = true
	case "F":
	default:
		return p, false
	}
	return p, true
}

// parseDocker reads a line of Docker's json-file driver, which ends every line of
// the container with \n and does not where it has divided one.
func parseDocker(line []byte) (p part, ok bool) {
	if !json.Valid(line) {
		return p, false
	}
	r := jsonReader{b: line}
	found := false
	for key, value := range r.members() {
		switch string(key) {
		case "log":
			if value[0] != '"' {
				return p, false
			}
			found = true
			text := value[1 : len(value)-1]
			p.partial = !bytes.HasSuffix(text, []byte(`\n`))
			if !p.partial && bytes.IndexByte(text[:len(text)-2], '\\') < 0 {
				p.text = text[:len(text)-2]
				continue
			}
			p.text = unquote(value)
			if p.partial = !bytes.HasSuffix(p.text, []byte{'\n'}); !p.partial {
				p.text = p.text[:len(p.text)-1]
			}
		case "stream":
			p.stream, _ = streamOf(unquote(value))
		case "time":
			t, err := time.Parse(time.RFC3339Nano, string(unquote(value)))
			if err != nil {
				return p, false
			}
			p.time = t.UnixNano()
		}
	}
	return p, found && p.time != 0
}
