package metric

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/index"
)

var rewrite = flag.Bool("rewrite", false, "write the block of the current version into testdata, if it is not there")

// TestOldBlocksStayReadable reads a block of every version that was ever
// released. Blocks in testdata are never written again.
func TestOldBlocksStayReadable(t *testing.T) {
	if *rewrite {
		writeSample(t, vfs.OS, filepath.Join("testdata", "block-v1"))
	}
	for _, dir := range []string{"block-v1"} {
		t.Run(dir, func(t *testing.T) {
			b, err := openBlock(vfs.OS, filepath.Join("testdata", dir))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.Unpin(); err != nil {
					t.Error(err)
				}
			}()
			checkSample(t, b)
		})
	}
}

// checkSample compares what b holds with what writeSample wrote.
func checkSample(t *testing.T, b *blockReader) {
	t.Helper()
	if err := b.loadKeys(); err != nil {
		t.Fatal(err)
	}
	s := newSalvager(b)
	kinds := 0
	err := s.each(func(k key, p part) {
		kinds++
		switch k.kind {
		case kindFloats, kindStarts:
			if len(p.times) != 300 {
				t.Fatalf("%d samples, want 300", len(p.times))
			}
			for i := range p.times {
				time, value := sampleAt(i)
				if p.times[i] != time || k.kind == kindFloats && p.values[i] != value || k.kind == kindStarts && p.starts[i] != time {
					t.Fatalf("sample %d of kind %d differs", i, k.kind)
				}
			}
		case kindHistograms:
			for i, want := range sampleHistograms(3) {
				if !p.hists[i].Int.Equals(want.Int) {
					t.Fatalf("histogram %d: got %v, want %v", i, p.hists[i].Int, want.Int)
				}
			}
		}
	})
	if err != nil || len(s.errs) > 0 || kinds != 3 {
		t.Fatalf("read %d entries, want 3: %v, %v", kinds, err, s.errs)
	}
	x := index.New()
	if err := b.definitions(x); err != nil || string(x.AppendCanonical(nil, 0)) != sampleLabels {
		t.Fatalf("labels %q, %v", x.AppendCanonical(nil, 0), err)
	}
	if ex, err := b.readExemplars(); err != nil || len(ex) != 1 || ex[0].value != 1.5 {
		t.Fatalf("exemplars %v, %v", ex, err)
	}
	if md, err := b.readMetadata(); err != nil || len(md) != 1 || md[0] != sampleMetadata()[0] {
		t.Fatalf("metadata %v, %v", md, err)
	}
}
