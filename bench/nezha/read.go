package nezha

import (
	"archive/tar"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Span is a line of a trace file.
type Span struct {
	Trace      [16]byte
	ID, Parent [8]byte // a parent of zeros is none
	Pod, Name  string
	Start, End int64 // unix nanoseconds
}

// Service is the name of the pod's deployment: without the two parts that differ
// between replica sets and pods.
func (s *Span) Service() string {
	name := s.Pod
	for range 2 {
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
	}
	return name
}

// columns are the header of a trace file.
var columns = []string{"TraceID", "SpanID", "ParentID", "PodName", "OperationName", "StartTimeUnixNano", "EndTimeUnixNano", "Duration"}

// rootParent stands where a span has no parent.
const rootParent = "root"

type spanKey struct {
	trace [16]byte
	id    [8]byte
}

// Read reads the trace files of an archive and returns how many lines were left
// out because they are there twice. The span is each's only during the call.
func Read(archive string, each func(*Span) error) (repeated int, err error) {
	f, err := os.Open(archive)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", archive, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", archive, err)
	}
	defer z.Close()
	seen := map[spanKey]struct{}{}
	once := func(s *Span) error {
		key := spanKey{s.Trace, s.ID}
		if _, ok := seen[key]; ok {
			repeated++
			return nil
		}
		seen[key] = struct{}{}
		return each(s)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return repeated, nil
		}
		if err != nil {
			return repeated, fmt.Errorf("read %s: %w", archive, err)
		}
		if path.Base(path.Dir(h.Name)) != "trace" || !strings.HasSuffix(h.Name, ".csv") {
			continue
		}
		if err := readLines(t, once); err != nil {
			return repeated, fmt.Errorf("read %s: %s: %w", archive, h.Name, err)
		}
	}
}

// readLines reads one trace file.
func readLines(r io.Reader, each func(*Span) error) error {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	names := map[string]string{} // of pods and operations, which repeat
	intern := func(s string) string {
		if known, ok := names[s]; ok {
			return known
		}
		s = strings.Clone(s)
		names[s] = s
		return s
	}
	head, err := c.Read()
	if err != nil {
		return fmt.Errorf("read header: %w", err)
	}
	if !slices.Equal(head, columns) {
		return fmt.Errorf("read header: got %q, want %q", head, columns)
	}
	for {
		line, err := c.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var s Span
		if err := s.parse(line); err != nil {
			n, _ := c.FieldPos(0)
			return fmt.Errorf("line %d: %w", n, err)
		}
		s.Pod, s.Name = intern(line[3]), intern(line[4])
		if err := each(&s); err != nil {
			return err
		}
	}
}

// parse reads everything but names.
func (s *Span) parse(line []string) error {
	if err := parseID(s.Trace[:], "TraceID", line[0]); err != nil {
		return err
	}
	if err := parseID(s.ID[:], "SpanID", line[1]); err != nil {
		return err
	}
	if line[2] != rootParent {
		if err := parseID(s.Parent[:], "ParentID", line[2]); err != nil {
			return err
		}
	}
	var err error
	if s.Start, err = strconv.ParseInt(line[5], 10, 64); err != nil {
		return fmt.Errorf("parse StartTimeUnixNano: %w", err)
	}
	if s.End, err = strconv.ParseInt(line[6], 10, 64); err != nil {
		return fmt.Errorf("parse EndTimeUnixNano: %w", err)
	}
	return nil
}

func parseID(dst []byte, name, text string) error {
	if n, err := hex.Decode(dst[:min(len(dst), len(text)/2)], []byte(text[:min(len(text), 2*len(dst))])); err != nil || n != len(dst) || len(text) != 2*len(dst) {
		return fmt.Errorf("parse %s: got %q, want %d hexadecimal digits", name, text, 2*len(dst))
	}
	return nil
}
