package trace

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
)

// FuzzDecodeOrigin gives hostile bytes to the decoder: a value that survives a
// round trip, or a typed error.
func FuzzDecodeOrigin(f *testing.F) {
	o := Origin{Flushes: block.Flushes{First: 1, Last: 2}, MinArrival: 3, MaxArrival: 4, Sources: []block.Source{block.SourceKey{Source: "s", Topic: "t", Partition: 1}.Range(2, 3)}, Dropped: make([]byte, 32),
		Services: []ServiceOperations{{"a", []Operation{{"x", 2}}}}}
	f.Add(o.encode())
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"services":[{"service":"a","operations":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := decodeOrigin("dir", b)
		if err != nil {
			if !errors.Is(err, block.ErrCorruption) && !errors.Is(err, block.ErrVersion) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		n := 0
		o.eachDropped(func(signal.TraceID) { n++ })
		c := newCatalog()
		c.addList(o.Services)
		c.removeList(o.Services)
		want := o.encode()
		again, err := decodeOrigin("dir", want)
		if got := again.encode(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round trip: %s, want %s: %v", got, want, err)
		}
	})
}

// FuzzReadOffsets gives hostile bytes to the reader of a tenant's offsets.
func FuzzReadOffsets(f *testing.F) {
	f.Add([]byte(`{"version":1,"next":2,"sources":[{"source":"s","topic":"t","partition":1,"from":2,"to":3}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fs, "/d/"+offsetsFile, b); err != nil {
			t.Fatal(err)
		}
		o, err := readOffsets(fs, "/d")
		if err == nil && (o.Version < 1 || o.Version > currentOriginVersion) {
			t.Fatalf("read %+v", o)
		}
	})
}
