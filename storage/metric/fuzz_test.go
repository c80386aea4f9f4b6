package metric

import (
	"testing"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/index"
)

// sections that a fuzzed page can stand in.
var fuzzSections = [...]string{sectionPairs, sectionSeries, sectionTimes, sectionChunks, sectionValues, sectionKeys, sectionExemplars, sectionMetadata}

// FuzzSections replaces a page of a sound block by hostile bytes with a right
// checksum: every reader gives a value or an error.
func FuzzSections(f *testing.F) {
	src := sampleBlock(f)
	for i, s := range fuzzSections {
		if b, _, err := src.r.Page(s, 0, nil); err == nil {
			f.Add(uint8(i), append([]byte(nil), b...))
		}
	}
	f.Fuzz(func(t *testing.T, section uint8, page []byte) {
		mem := vfs.NewMem()
		name := fuzzSections[int(section)%len(fuzzSections)]
		w, err := block.Create(mem, "/b-00000000-00000000-0", block.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range fuzzSections {
			for i := range src.r.Pages(s) {
				b, _, err := src.r.Page(s, i, nil)
				if err != nil {
					t.Fatal(err)
				}
				if s == name && i == 0 {
					b = page
				}
				w.Page(s, b)
			}
		}
		if err := w.Close(src.meta.encode()); err != nil {
			t.Fatal(err)
		}
		b, err := openBlock(mem, "/b-00000000-00000000-0")
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		b.verify(&n)
		_ = b.definitions(index.New())
		if err := b.Unpin(); err != nil {
			t.Fatal(err)
		}
	})
}

// sampleBlock makes a block that has every section.
func sampleBlock(f *testing.F) *blockReader {
	f.Helper()
	fs := vfs.NewMem()
	writeSample(f, fs, "/sample")
	b, err := openBlock(fs, "/sample")
	if err != nil {
		f.Fatal(err)
	}
	return b
}
