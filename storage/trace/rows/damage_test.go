package rows

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
)

var rewrite = flag.Bool("rewrite", false, "write the block of the current version into testdata, if it is not there")

var allSections = [...]string{
	sectionRows, sectionGroups, sectionBlooms, sectionTraces, sectionColumns, sectionStrings, sectionShapes, sectionProducers, sectionScopes, sectionResources,
}

// sampleBatches are spans of every kind, and ordinary ones.
func sampleBatches(n int) []*signal.Spans {
	g := newGenerator(77)
	shop := &signal.Spans{}
	newShopGen(3).batch(shop, n)
	batches := []*signal.Spans{g.batch(n), shop}
	g.keys = 3
	return append(batches, g.batch(n))
}

// TestOldBlocksStayReadable reads a block of every version that was ever
// released. Blocks in testdata are never written again; the text beside each says
// what is in it.
func TestOldBlocksStayReadable(t *testing.T) {
	if *rewrite {
		writeGolden(t, filepath.Join("testdata", "block-v1"))
	}
	for _, name := range []string{"block-v1"} {
		t.Run(name, func(t *testing.T) {
			b, err := Open(vfs.OS, filepath.Join("testdata", name))
			require.NoError(t, err)
			defer func() { require.NoError(t, b.Close()) }()
			require.JSONEq(t, `{"a":1}`, string(b.Meta().Origin))
			want, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
			require.NoError(t, err)
			spans := strings.Split(strings.TrimSuffix(string(want), "\n\n"), "\n\n")
			for i := range spans {
				spans[i] += "\n"
			}
			checkBlock(t, b, spans)
		})
	}
}

// writeGolden writes a block and its description, unless they are there.
func writeGolden(t *testing.T, dir string) {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return
	}
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	batches := sampleBatches(40)[:2]
	clear(batches[0].States)
	for i := range batches[1].Len() { // of one length, hexadecimal
		batches[1].States[i] = put(batches[1], fmt.Sprintf("%016x", i*i*i))
	}
	m, err := newMerger([]Source{tableOf(t, DefaultConfig(), batches...)}, WriteOptions{Origin: []byte(`{"a":1}`)})
	require.NoError(t, err)
	for _, c := range []ColumnInfo{ // so few values would all go to dictionaries
		{Key: "user.id", Type: signal.AttrString}, {Key: "key1", Type: signal.AttrString}, {Role: RoleState, Type: signal.AttrString},
		{Level: LevelEvent, Key: "exception.stacktrace", Type: signal.AttrString}, {Level: LevelEvent, Key: "exception.message", Type: signal.AttrString},
	} {
		m.space.dicts[m.space.column(c)].raw = true
	}
	_, err = m.write(context.Background(), vfs.OS, dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+".txt", []byte(strings.Join(describeAll(batches...), "\n")+"\n"), 0o644))
}

func TestNewerVersionIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	w, err := block.Create(fs, "/b", block.Options{})
	require.NoError(t, err)
	require.NoError(t, w.Close(fmt.Appendf(nil, `{"version":%d}`, currentVersion+1)))
	_, err = Open(fs, "/b")
	require.ErrorIs(t, err, block.ErrVersion)
}

// smallBatch is one that says everything in few columns.
func smallBatch() *signal.Spans {
	g := newGenerator(78)
	g.keys, g.traces = 2, 5
	return g.batch(60)
}

// rebuild writes a copy of a block in which one page has other bytes.
func rebuild(t testing.TB, src *Block, fs vfs.FS, dir, section string, page int, content []byte) {
	t.Helper()
	w, err := block.Create(fs, dir, block.Options{})
	require.NoError(t, err)
	for _, s := range allSections {
		for i := range src.r.Pages(s) {
			b, _, err := src.r.Page(s, i, nil)
			require.NoError(t, err)
			if s == section && i == page {
				b = content
			}
			w.Page(s, b)
		}
	}
	require.NoError(t, w.Close(src.r.Meta()))
}

// readEverything reads a block in every way there is. Errors must be those of
// damage; panics fail the test.
func readEverything(t testing.TB, b *Block) {
	t.Helper()
	damage := func(err error) bool {
		var c *block.CorruptionError // which names the block to be set aside
		if err != nil && (!errors.As(err, &c) || c.Block != b.Dir()) {
			t.Fatalf("error is no CorruptionError of the block: %v", err)
		}
		return err != nil
	}
	for _, err := range b.Verify() {
		damage(err)
	}
	var c Cursor
	out := &signal.Spans{}
	for i, g := range b.Groups() {
		g.Shapes()
		g.Resources()
		runs, err := AppendTraceRuns(nil, &c, g, i)
		if damage(err) {
			continue
		}
		for _, r := range runs[:min(len(runs), 30)] {
			out.Reset()
			damage(AppendRun(out, &c, Run{Group: g, First: r.First, End: r.End}))
			_, err := b.FindTrace(r.ID, nil)
			damage(err)
		}
		_, err = c.Parents()
		damage(err)
		for col := range b.columns {
			_, err := c.Column(col)
			damage(err)
			g.MayHave(col, []byte("x"), 1)
		}
	}
	_, err := Write(context.Background(), vfs.NewMem(), "/copy", []Source{b}, WriteOptions{Quick: true})
	damage(err)
}

// TestPackedAttributesThatAreNone puts values into a column of RoleRest that are no
// attributes: the error names the block, so that it is set aside.
func TestPackedAttributesThatAreNone(t *testing.T) {
	fs := vfs.NewMem()
	src := writeBlock(t, fs, "/src", WriteOptions{}, tableOf(t, Config{MaxColumns: 1}, smallBatch()))
	h := &src.heads[0]
	k := slices.IndexFunc(h.columns, func(c uint32) bool { return src.columns[c].Role == RoleRest })
	require.GreaterOrEqual(t, k, 0)
	offs, data := []uint32{0}, []byte(nil)
	for range h.counts[k] {
		data = append(data, 0xff, 0)
		offs = append(offs, uint32(len(data)))
	}
	var text textEncoder
	rebuild(t, src, fs, "/bad", sectionRows, h.pageOf[k], text.append([]byte{columnTexts}, offs, data))
	bad, err := Open(fs, "/bad")
	require.NoError(t, err)
	var c Cursor
	runs, err := AppendTraceRuns(nil, &c, bad.Groups()[0], 0)
	require.NoError(t, err)
	failed := false
	for _, r := range runs {
		err := AppendRun(&signal.Spans{}, &c, Run{Group: bad.Groups()[0], First: r.First, End: r.End})
		var of *block.CorruptionError
		require.True(t, err == nil || errors.As(err, &of) && of.Block == "/bad", "%v", err)
		failed = failed || err != nil
	}
	require.True(t, failed)
	require.NoError(t, bad.Close())
}

// TestHostilePages gives every page of a block other bytes under a right
// checksum.
func TestHostilePages(t *testing.T) {
	fs := vfs.NewMem()
	src := writeBlock(t, fs, "/src", WriteOptions{}, tableOf(t, DefaultConfig(), smallBatch()))
	n := 0
	for _, s := range allSections {
		for i := range src.r.Pages(s) {
			page, _, err := src.r.Page(s, i, nil)
			require.NoError(t, err)
			var bad [][]byte
			bad = append(bad, nil, page[:len(page)/2], append(bytes.Clone(page), 0))
			for k := 0; k < len(page); k += 1 + len(page)/4 {
				flipped := bytes.Clone(page)
				flipped[k] ^= byte(0x41 + 7*k)
				bad = append(bad, flipped)
			}
			for _, content := range bad {
				mem := vfs.NewMem()
				rebuild(t, src, mem, "/b", s, i, content)
				b, err := Open(mem, "/b")
				if err != nil {
					require.ErrorIs(t, err, block.ErrCorruption)
					continue
				}
				readEverything(t, b)
				require.NoError(t, b.Close())
				n++
			}
		}
	}
	require.Positive(t, n)
}

// TestFlippedBytesAreNamed flips bytes of the file: the error names block,
// section and page.
func TestFlippedBytesAreNamed(t *testing.T) {
	fs := vfs.NewMem()
	src := writeBlock(t, fs, "/src", WriteOptions{}, tableOf(t, DefaultConfig(), sampleBatches(300)...))
	good, err := vfs.ReadFile(fs, "/src/columns")
	require.NoError(t, err)
	for _, s := range allSections {
		off, size, ok := src.r.Locate(s, 0)
		require.True(t, ok, s)
		bad := bytes.Clone(good)
		bad[off+size/2] ^= 0x10
		mem := vfs.NewMem()
		require.NoError(t, mem.MkdirAll("/b"))
		require.NoError(t, vfs.WriteFile(mem, "/b/columns", bad))
		b, err := Open(mem, "/b")
		if err == nil {
			errs := b.Verify()
			require.NotEmpty(t, errs, s)
			err = errs[0]
			readEverything(t, b)
			require.NoError(t, b.Close())
		}
		require.ErrorIs(t, err, block.ErrCorruption)
		for _, want := range []string{"block /b", "section " + s, "page 0"} {
			require.True(t, strings.Contains(err.Error(), want), "%v lacks %q", err, want)
		}
	}
}

// FuzzPages replaces a page of a sound block by hostile bytes under a right
// checksum.
func FuzzPages(f *testing.F) {
	fs := vfs.NewMem()
	_, err := Write(context.Background(), fs, "/src", []Source{tableOf(f, DefaultConfig(), smallBatch())}, WriteOptions{})
	if err != nil {
		f.Fatal(err)
	}
	src, err := Open(fs, "/src")
	if err != nil {
		f.Fatal(err)
	}
	for s, name := range allSections {
		for i := range min(src.r.Pages(name), 60) {
			b, _, err := src.r.Page(name, i, nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(s), uint16(i), bytes.Clone(b))
		}
	}
	f.Fuzz(func(t *testing.T, section uint8, page uint16, content []byte) {
		name := allSections[int(section)%len(allSections)]
		mem := vfs.NewMem()
		rebuild(t, src, mem, "/b", name, int(page)%src.r.Pages(name), content)
		b, err := Open(mem, "/b")
		if err != nil {
			if !errors.Is(err, block.ErrCorruption) {
				t.Fatal(err)
			}
			return
		}
		readEverything(t, b)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzMeta opens blocks with hostile meta.
func FuzzMeta(f *testing.F) {
	fs := vfs.NewMem()
	m, err := Write(context.Background(), fs, "/src", []Source{tableOf(f, DefaultConfig(), smallBatch())}, WriteOptions{})
	if err != nil {
		f.Fatal(err)
	}
	src, err := Open(fs, "/src")
	if err != nil {
		f.Fatal(err)
	}
	good, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"groups":1000000000000,"shapes":99999999999,"traces":4294967295}`))
	f.Fuzz(func(t *testing.T, meta []byte) {
		mem := vfs.NewMem()
		w, err := block.Create(mem, "/b", block.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range allSections {
			for i := range src.r.Pages(s) {
				b, _, err := src.r.Page(s, i, nil)
				if err != nil {
					t.Fatal(err)
				}
				w.Page(s, b)
			}
		}
		if err := w.Close(meta); err != nil {
			t.Fatal(err)
		}
		b, err := Open(mem, "/b")
		if err != nil {
			if !errors.Is(err, block.ErrCorruption) && !errors.Is(err, block.ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		readEverything(t, b)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
