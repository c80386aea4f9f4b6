package trace

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// Problem is something wrong with a block on disk.
type Problem struct {
	Block string
	Err   error
}

// Report says what Verify or Repair found.
type Report struct {
	Blocks   int // blocks that were read
	Spans    int64
	Problems []Problem

	// Of Repair: blocks that were rewritten, and spans that could not be read.
	Repaired  []string
	LostSpans int64
}

// eachBlockDir calls f for every block directory below a store's directory; aside
// says that the block was set aside.
func eachBlockDir(fsys vfs.FS, dir string, f func(path string, aside bool) error) error {
	tenants, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("read trace store %s: %w", dir, err)
	}
	for _, tenant := range tenants {
		parent := filepath.Join(dir, tenant)
		names, err := fsys.List(parent)
		if err != nil {
			continue // a file beside the tenants
		}
		for _, n := range names {
			_, aside, ok := block.ParseName(n)
			if !ok {
				continue
			}
			if err := f(filepath.Join(parent, n), aside); err != nil {
				return err
			}
		}
	}
	return nil
}

// Verify reads every byte of every block of the store in dir, which no process
// may have open for writing, and decodes all of it.
func Verify(fsys vfs.FS, dir string) (Report, error) {
	var r Report
	err := eachBlockDir(fsys, dir, func(path string, aside bool) error {
		if aside {
			r.Problems = append(r.Problems, Problem{path, errors.New("was set aside as damaged")})
			return nil
		}
		b, err := openBlock(fsys, path)
		if err != nil {
			r.Problems = append(r.Problems, Problem{path, err})
			return nil
		}
		r.Blocks++
		for _, err := range b.verify(&r.Spans) {
			r.Problems = append(r.Problems, Problem{path, err})
		}
		return b.Unpin()
	})
	return r, err
}

// verify returns what is wrong with the block and adds its readable spans to n.
func (b *blockFile) verify(n *int64) []error {
	errs := b.rows.Verify()
	s := b.salvage()
	if len(errs) == 0 { // else they say the same
		errs = s.errs
	}
	if got := s.spans + s.lost; got != int64(b.spans()) {
		errs = append(errs, fmt.Errorf("row groups have %d spans, want %d", got, b.spans()))
	}
	*n += s.spans
	return errs
}

// salvaged is a block's row groups as far as they can be read. It is a
// rows.Source.
type salvaged struct {
	b      *blockFile
	groups []*rows.Group
	spans  int64
	lost   int64 // spans of the other groups
	errs   []error
}

func (s *salvaged) Space() (*rows.Space, error) { return s.b.rows.Space() }

func (s *salvaged) Groups() []*rows.Group { return s.groups }

func (s *salvaged) FindTrace(id signal.TraceID, dst []rows.Run) ([]rows.Run, error) {
	return s.b.rows.FindTrace(id, dst)
}

// salvage reads every span of every group.
func (b *blockFile) salvage() *salvaged {
	s := &salvaged{b: b}
	var c rows.Cursor
	for i, g := range b.rows.Groups() {
		n := int64(g.Info().Rows)
		if err := readGroup(&c, g, i, nil); err != nil {
			s.errs = append(s.errs, err)
			s.lost += n
			continue
		}
		s.groups = append(s.groups, g)
		s.spans += n
	}
	return s
}

// readGroup reads every trace of a group, and calls f with each, if it is not
// nil.
func readGroup(c *rows.Cursor, g *rows.Group, i int, f func(*signal.Spans) error) error {
	runs, err := rows.AppendTraceRuns(nil, c, g, i)
	if err != nil {
		return err
	}
	var spans signal.Spans
	for _, r := range runs {
		spans.Reset()
		if err := rows.AppendRun(&spans, c, rows.Run{Group: g, First: r.First, End: r.End}); err != nil {
			return err
		}
		if f == nil {
			continue
		}
		if err := f(&spans); err != nil {
			return err
		}
	}
	return nil
}

// Repair rewrites every damaged block of the store in dir, those that were set
// aside included, with the row groups that can be read. The damaged original
// stays beside it under a name that ends in ".damaged". No process may have the
// store open.
func Repair(fsys vfs.FS, dir string) (Report, error) {
	var r Report
	var todo []string
	err := eachBlockDir(fsys, dir, func(path string, bad bool) error {
		b, err := openBlock(fsys, path)
		if err != nil {
			r.Problems = append(r.Problems, Problem{path, fmt.Errorf("nothing can be read: %w", err)})
			return nil
		}
		r.Blocks++
		if bad || len(b.verify(&r.Spans)) > 0 {
			todo = append(todo, path)
		}
		return b.Unpin()
	})
	for _, path := range todo {
		if err == nil {
			err = repairBlock(fsys, path, &r)
		}
	}
	return r, err
}

func repairBlock(fsys vfs.FS, path string, r *Report) error {
	b, err := openBlock(fsys, path)
	if err != nil {
		return err
	}
	defer func() { _ = b.Unpin() }()
	s := b.salvage()
	for _, err := range s.errs {
		r.Problems = append(r.Problems, Problem{path, err})
	}
	if _, err := s.Space(); err != nil {
		r.Problems = append(r.Problems, Problem{path, fmt.Errorf("nothing can be read: %w", err)})
		return nil
	}
	o := b.origin
	o.Generation++
	to := filepath.Join(filepath.Dir(path), o.Name())
	if _, err := rows.Write(context.Background(), fsys, to, []rows.Source{s}, rows.WriteOptions{Origin: o.encode()}); err != nil {
		return err
	}
	r.LostSpans += s.lost
	r.Repaired = append(r.Repaired, path)
	return block.SetReplaced(fsys, path)
}

// DumpOptions say how much Dump prints.
type DumpOptions struct {
	Services bool // services and operations of every block
	Spans    bool // a line for every span
}

// Dump writes what the blocks of the store in dir hold to out, for a person to
// read.
func Dump(fsys vfs.FS, dir string, o DumpOptions, out io.Writer) error {
	return eachBlockDir(fsys, dir, func(path string, aside bool) error {
		if aside {
			_, err := fmt.Fprintf(out, "block %s: set aside as damaged\n", path)
			return err
		}
		b, err := openBlock(fsys, path)
		if err != nil {
			_, err = fmt.Fprintf(out, "block %s: %v\n", path, err)
			return err
		}
		defer func() { _ = b.Unpin() }()
		b.dump(out)
		if o.Services {
			b.dumpServices(out)
		}
		if o.Spans {
			return b.dumpSpans(out)
		}
		return nil
	})
}

func (b *blockFile) dump(out io.Writer) {
	m, o := b.rows.Meta(), &b.origin
	fmt.Fprintf(out, "block %s\n", b.Dir())
	fmt.Fprintf(out, "  version %d, level %d, flushes %d to %d, %d bytes\n", m.Version, o.Level, o.First, o.Last, b.size())
	fmt.Fprintf(out, "  %d spans, %d traces, %d row groups, %d events, %d links, %d errors, %d shapes\n", m.Spans, m.Traces, m.Groups, m.Events, m.Links, m.Errors, m.Shapes)
	fmt.Fprintf(out, "  spans start from %s to %s\n", stampNanos(m.MinStart), stampNanos(m.MaxStart))
	fmt.Fprintf(out, "  arrived from %s to %s\n", stampMillis(o.MinArrival), stampMillis(o.MaxArrival))
	if o.Decided {
		fmt.Fprintf(out, "  tail sampling has decided, %d traces dropped that go on elsewhere\n", len(o.Dropped)/len(signal.TraceID{}))
	}
	for _, s := range o.Sources {
		fmt.Fprintf(out, "  source %s, topic %s, partition %d, offsets %d to %d\n", s.Source, s.Topic, s.Partition, s.From, s.To)
	}
}

func (b *blockFile) dumpServices(out io.Writer) {
	for _, s := range b.origin.Services {
		fmt.Fprintf(out, "  service %q\n", s.Service)
		for _, op := range s.Operations {
			fmt.Fprintf(out, "    %s %q\n", kindName(op.Kind), op.Name)
		}
	}
}

func (b *blockFile) dumpSpans(out io.Writer) error {
	var c rows.Cursor
	var errs []error
	for i, g := range b.rows.Groups() {
		errs = append(errs, readGroup(&c, g, i, func(s *signal.Spans) error { return dumpTrace(s, out) }))
	}
	return errors.Join(errs...)
}

func dumpTrace(s *signal.Spans, out io.Writer) error {
	for i, id := range s.SpanIDs {
		parent := "root"
		if p := s.Parents[i]; !p.IsZero() {
			parent = hex.EncodeToString(p[:])
		}
		r := &s.Resources[s.Scopes[s.Scope[i]].Resource]
		_, err := fmt.Fprintf(out, "  %x %x %s %s %s %q %s %q %d attributes, %d events, %d links\n", s.TraceIDs[i], id, parent,
			stampNanos(s.Starts[i]), time.Duration(s.Ends[i]-s.Starts[i]), serviceOf(s, r), kindName(s.Kinds[i]), s.Bytes(s.Names[i]),
			s.AttrEnd[i]-s.AttrBegin[i], s.EventEnd[i]-s.EventBegin[i], s.LinkEnd[i]-s.LinkBegin[i])
		if err != nil {
			return err
		}
	}
	return nil
}

func kindName(k uint8) string {
	names := [...]string{"unspecified", "internal", "server", "client", "producer", "consumer"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", k)
}

func stampMillis(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func stampNanos(ns int64) string {
	return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z")
}
