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
	fs := vfs.NewMem()
	db, err := Open(Options{Dir: "/s", FS: fs, Config: testConfig()})
	if err != nil {
		f.Fatal(err)
	}
	src := sampleBlock(f, fs, db)
	for i, s := range fuzzSections {
		if b, _, err := src.r.Page(s, 0, nil); err == nil {
			f.Add(uint8(i), append([]byte(nil), b...))
		}
	}
	f.Fuzz(func(t *testing.T, section uint8, page []byte) {
		mem := vfs.NewMem()
		name := fuzzSections[int(section)%len(fuzzSections)]
		w, err := block.Create(mem, "/b-00000000-00000000-0")
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
		if err := b.unpin(); err != nil {
			t.Fatal(err)
		}
	})
}

// sampleBlock makes a block that has every section.
func sampleBlock(f *testing.F, fs vfs.FS, db *DB) *blockReader {
	f.Helper()
	out, err := newBlockWriter(fs, "/sample", Meta{WindowMs: 3_600_000, Pairs: 2, Series: 1})
	if err != nil {
		f.Fatal(err)
	}
	x := index.New()
	canon := []byte("\x0a\x0d\x0a\x08__name__\x12\x01a\x0a\x06\x0a\x01b\x12\x01c")
	if _, err := x.Add(hashOf(canon), canon); err != nil {
		f.Fatal(err)
	}
	var times []int64
	var values []float64
	for i := range 300 {
		times = append(times, t0+int64(i)*15_000+int64(i%3))
		values = append(values, float64(i*i%17)/10)
	}
	col := out.addTimes(times)
	out.addFloats(key{0, 0, kindFloats}, col, values)
	hcol := out.addTimes(times[:3])
	out.addHistograms(key{0, 0, kindHistograms}, hcol, sampleHistograms(3))
	out.addStarts(key{0, 0, kindStarts}, col, times)
	out.addDefinitions(x)
	out.addExemplars([]exemplarRow{{0, t0, 1.5, "\x0a\x06\x0a\x01b\x12\x01c"}})
	out.addMetadata(sampleMetadata())
	if err := out.close(); err != nil {
		f.Fatal(err)
	}
	b, err := openBlock(fs, "/sample")
	if err != nil {
		f.Fatal(err)
	}
	return b
}
