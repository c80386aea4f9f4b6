package metric

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/encoding"
	"github.com/vedette-io/vedette/storage/index"
)

// blockWriter writes a metric block: entries in the order of their keys, each
// pointing at a timestamp column that was added before.
type blockWriter struct {
	w       *block.Writer
	meta    Meta
	scratch encoding.Scratch

	times timesWriter

	// The chunks page being filled, in columns.
	family, series, kinds, column, chunks []uint64
	samples, codecs, lengths              []uint64
	inline, values                        []byte
	lastSeries, lastColumn                uint64

	// keys of the pages written so far
	keyFamily, keySeries, keyKind []uint64

	buf, payload []byte
}

func newBlockWriter(fs vfs.FS, dir string, meta Meta) (*blockWriter, error) {
	quick := meta.Level < settledLevel
	w, err := block.Create(fs, dir, block.Options{Quick: quick})
	if err != nil {
		return nil, err
	}
	meta.Version = currentMetaVersion
	meta.MinTime, meta.MaxTime = math.MaxInt64, math.MinInt64
	bw := &blockWriter{w: w, meta: meta, scratch: encoding.Scratch{Quick: quick}}
	bw.times.init(w, &bw.scratch)
	return bw, nil
}

// addTimes adds a timestamp column, or finds the one with the same content, and
// returns its number. Times ascend strictly and are not empty.
func (w *blockWriter) addTimes(times []int64) uint32 {
	w.meta.MinTime = min(w.meta.MinTime, times[0])
	w.meta.MaxTime = max(w.meta.MaxTime, times[len(times)-1])
	return w.times.add(times)
}

// addFloats adds a series' floats, which lie at the times of column.
func (w *blockWriter) addFloats(k key, column uint32, values []float64) {
	w.begin(k, column)
	for rest := values; len(rest) > 0; {
		n := min(len(rest), chunkSamples)
		if run := constantRun(rest); run > chunkSamples && run == len(rest) {
			n = min(run, maxConstant)
		}
		var c encoding.Codec
		w.payload, c = encoding.AppendFloats(w.payload[:0], rest[:n], &w.scratch)
		w.addChunk(n, c)
		rest = rest[n:]
	}
	w.meta.Samples += int64(len(values))
	w.end()
}

// constantRun returns how many values at the start of vals have the same bits.
func constantRun(vals []float64) int {
	first := math.Float64bits(vals[0])
	for i, v := range vals {
		if math.Float64bits(v) != first {
			return i
		}
	}
	return len(vals)
}

// addHistograms adds a series' native histograms.
func (w *blockWriter) addHistograms(k key, column uint32, hs []encoding.Histogram) {
	w.begin(k, column)
	for rest := hs; len(rest) > 0; {
		n := min(len(rest), chunkSamples)
		var c encoding.Codec
		w.payload, c = encoding.AppendHistograms(w.payload[:0], rest[:n], &w.scratch)
		w.addChunk(n, c)
		rest = rest[n:]
	}
	w.meta.Samples += int64(len(hs))
	w.meta.Histograms += int64(len(hs))
	w.end()
}

// addStarts adds the start timestamps of a series' samples.
func (w *blockWriter) addStarts(k key, column uint32, starts []int64) {
	w.begin(k, column)
	for rest := starts; len(rest) > 0; {
		n := min(len(rest), chunkSamples)
		var c encoding.Codec
		w.payload, c = encoding.AppendTimes(w.payload[:0], rest[:n], &w.scratch)
		w.addChunk(n, c)
		rest = rest[n:]
	}
	w.meta.Starts += int64(len(starts))
	w.end()
}

func (w *blockWriter) begin(k key, column uint32) {
	if len(w.family) == 0 {
		w.keyFamily = append(w.keyFamily, uint64(k.family))
		w.keySeries = append(w.keySeries, uint64(k.ref))
		w.keyKind = append(w.keyKind, uint64(k.kind))
		w.lastSeries, w.lastColumn = 0, 0
	}
	w.family = append(w.family, uint64(k.family))
	w.series = append(w.series, zigzag(int64(k.ref)-int64(w.lastSeries)))
	w.lastSeries = uint64(k.ref)
	w.kinds = append(w.kinds, uint64(k.kind))
	w.column = append(w.column, zigzag(int64(column)-int64(w.lastColumn)))
	w.lastColumn = uint64(column)
	w.chunks = append(w.chunks, 0)
	w.meta.Entries++
}

// addChunk adds the chunk in w.payload to the entry that has begun.
func (w *blockWriter) addChunk(n int, c encoding.Codec) {
	w.chunks[len(w.chunks)-1]++
	w.samples = append(w.samples, uint64(n))
	w.codecs = append(w.codecs, uint64(c))
	w.lengths = append(w.lengths, uint64(len(w.payload)))
	if len(w.payload) <= inlineBytes {
		w.inline = append(w.inline, w.payload...)
	} else {
		w.values = append(w.values, w.payload...)
	}
	w.meta.Chunks++
}

func (w *blockWriter) end() {
	if len(w.family) >= entriesPerPage {
		w.flushChunks()
	}
}

func (w *blockWriter) flushChunks() {
	if len(w.family) == 0 {
		return
	}
	b := binary.AppendUvarint(w.buf[:0], uint64(len(w.family)))
	for _, col := range []*[]uint64{&w.family, &w.series, &w.kinds, &w.column, &w.chunks, &w.samples, &w.codecs, &w.lengths} {
		b = encoding.AppendUints(b, *col, &w.scratch)
		*col = (*col)[:0]
	}
	b = append(b, w.inline...)
	w.inline = w.inline[:0]
	w.w.CompressedPage(sectionChunks, b)
	w.w.Page(sectionValues, w.values)
	w.values = w.values[:0]
	w.buf = b
}

// addDefinitions writes the pairs and series that the block defines.
func (w *blockWriter) addDefinitions(x *index.Index) {
	m := &w.meta
	b := w.buf[:0]
	for p := m.FirstPair; p < m.FirstPair+m.Pairs; p++ {
		msg := x.PairBytes(index.Pair(p))
		b = binary.AppendUvarint(b, uint64(len(msg)))
		b = append(b, msg...)
		if len(b) >= targetPageBytes {
			w.w.CompressedPage(sectionPairs, b)
			b = b[:0]
		}
	}
	if len(b) > 0 {
		w.w.CompressedPage(sectionPairs, b)
	}
	b = b[:0]
	var prev, cur []index.Pair
	for i := uint32(0); i < m.Series; i++ {
		cur = x.AppendSeriesPairs(cur[:0], index.Ref(m.FirstSeries+i))
		b = binary.AppendUvarint(b, uint64(len(cur)))
		for j, p := range cur {
			var before index.Pair
			if j < len(prev) {
				before = prev[j]
			}
			b = binary.AppendUvarint(b, zigzag(int64(p)-int64(before)))
		}
		prev, cur = cur, prev
		if (i+1)%seriesPerPage == 0 {
			w.w.CompressedPage(sectionSeries, b)
			b, prev = b[:0], prev[:0]
		}
	}
	if len(b) > 0 {
		w.w.CompressedPage(sectionSeries, b)
	}
	w.buf = b
}

// close writes what is left and publishes the block.
func (w *blockWriter) close() error {
	w.flushChunks()
	w.times.flush()
	if len(w.keyFamily)+len(w.times.firsts) > 0 {
		b := w.buf[:0]
		for _, col := range [][]uint64{w.keyFamily, w.keySeries, w.keyKind, w.times.firsts} {
			b = binary.AppendUvarint(b, uint64(len(col)))
			b = encoding.AppendUints(b, col, &w.scratch)
		}
		w.w.CompressedPage(sectionKeys, b)
	}
	if w.meta.MinTime > w.meta.MaxTime {
		w.meta.MinTime, w.meta.MaxTime = w.meta.WindowStart, w.meta.WindowStart
	}
	return w.w.Close(w.meta.encode())
}

func (w *blockWriter) abort() { w.w.Abort() }

// timesWriter writes the timestamp columns of a block, each content once.
type timesWriter struct {
	w       *block.Writer
	scratch *encoding.Scratch

	known     map[xxh3.Uint128]uint32
	last      xxh3.Uint128 // neighbours often share their column
	lastID    uint32
	next      uint32
	firsts    []uint64 // number of each page's first column
	inPage    int
	lengths   []uint64
	records   []byte
	relative  []int64
	buf, body []byte
}

func (t *timesWriter) init(w *block.Writer, s *encoding.Scratch) {
	t.w, t.scratch = w, s
	t.known = make(map[xxh3.Uint128]uint32)
}

func (t *timesWriter) add(times []int64) uint32 {
	h := xxh3.Hash128(unsafe.Slice((*byte)(unsafe.Pointer(&times[0])), 8*len(times)))
	if t.next > 0 && h == t.last {
		return t.lastID
	}
	id, ok := t.known[h]
	if !ok {
		id = t.write(times)
		t.known[h] = id
	}
	t.last, t.lastID = h, id
	return id
}

func (t *timesWriter) write(times []int64) uint32 {
	if t.inPage == 0 {
		t.firsts = append(t.firsts, uint64(t.next))
	}
	start := len(t.records)
	t.records = binary.AppendUvarint(t.records, uint64(len(times)))
	var before int64
	for rest := times; len(rest) > 0; {
		n := min(len(rest), chunkSamples)
		t.records = binary.AppendVarint(t.records, rest[0]-before)
		before = rest[0]
		t.relative = t.relative[:0]
		for _, v := range rest[:n] {
			t.relative = append(t.relative, v-before)
		}
		var c encoding.Codec
		t.body, c = encoding.AppendTimes(t.body[:0], t.relative, t.scratch)
		t.records = append(t.records, byte(c))
		t.records = binary.AppendUvarint(t.records, uint64(len(t.body)))
		t.records = append(t.records, t.body...)
		rest = rest[n:]
	}
	t.lengths = append(t.lengths, uint64(len(t.records)-start))
	t.inPage++
	t.next++
	if len(t.records) >= targetPageBytes {
		t.flush()
	}
	return t.next - 1
}

func (t *timesWriter) flush() {
	if t.inPage == 0 {
		return
	}
	b := binary.AppendUvarint(t.buf[:0], uint64(t.inPage))
	b = encoding.AppendUints(b, t.lengths, t.scratch)
	b = append(b, t.records...)
	t.w.CompressedPage(sectionTimes, b)
	t.buf, t.records, t.lengths, t.inPage = b, t.records[:0], t.lengths[:0], 0
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
