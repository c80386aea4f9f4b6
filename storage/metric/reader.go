package metric

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/encoding"
	"github.com/vedette-io/vedette/storage/index"
)

// blockReader reads one block. It is shared by queries and merges.
type blockReader struct {
	block.Shared
	fs   vfs.FS
	r    *block.Reader
	meta Meta

	keysOnce sync.Once
	keysErr  error
	keys     []key    // first key of each chunks page
	firsts   []uint32 // number of each times page's first column

	tombstones atomic.Pointer[tombstones]
}

func openBlock(fs vfs.FS, dir string) (*blockReader, error) {
	r, err := block.Open(fs, dir)
	if err != nil {
		return nil, err
	}
	m, err := decodeMeta(r.Meta())
	if errors.Is(err, block.ErrVersion) {
		return nil, errors.Join(fmt.Errorf("open block %s: %w", dir, err), r.Close())
	}
	if err != nil {
		return nil, errors.Join(&block.CorruptionError{Block: dir, Reason: err.Error()}, r.Close())
	}
	b := &blockReader{r: r, meta: m, fs: fs}
	ts, err := readTombstones(fs, dir)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	b.tombstones.Store(ts)
	b.Share(fs, dir, r)
	return b, nil
}

// openWritten opens a block that was just written. If that is not possible,
// nothing of it stays: the next try uses the same name.
func openWritten(fs vfs.FS, dir string) (*blockReader, error) {
	b, err := openBlock(fs, dir)
	if err != nil {
		return nil, errors.Join(err, block.Remove(fs, dir))
	}
	return b, nil
}

// corrupt wraps what is wrong with a page.
func (b *blockReader) corrupt(section string, page int, format string, args ...any) error {
	return &block.CorruptionError{Block: b.Dir(), Section: section, Page: page, Reason: fmt.Sprintf(format, args...)}
}

// loadKeys decodes the keys page once.
func (b *blockReader) loadKeys() error {
	b.keysOnce.Do(func() { b.keysErr = b.decodeKeys() })
	return b.keysErr
}

func (b *blockReader) decodeKeys() error {
	pages := b.r.Pages(sectionChunks)
	if pages == 0 && b.r.Pages(sectionTimes) == 0 {
		return nil
	}
	src, _, err := b.r.Page(sectionKeys, 0, nil)
	if err != nil {
		return err
	}
	var s encoding.Scratch
	var cols [4][]uint32
	for i := range cols {
		n, w := binary.Uvarint(src)
		if want := uint64(pages); w <= 0 || i < 3 && n != want || i == 3 && n != uint64(b.r.Pages(sectionTimes)) {
			return b.corrupt(sectionKeys, 0, "column %d has %d keys, want %d", i, n, want)
		}
		if cols[i], src, err = encoding.DecodeUints(cols[i], src[w:], int(n), &s); err != nil {
			return b.corrupt(sectionKeys, 0, "column %d: %v", i, err)
		}
	}
	b.keys = make([]key, pages)
	for i := range b.keys {
		b.keys[i] = key{index.Family(cols[0][i]), index.Ref(cols[1][i]), kind(cols[2][i])}
	}
	b.firsts = cols[3]
	if len(b.firsts) > 0 && b.firsts[0] != 0 || !slices.IsSorted(b.firsts) {
		return b.corrupt(sectionKeys, 0, "timestamp columns are not in order")
	}
	return nil
}

// pageOf returns the chunks page in which k is, if the block has it.
func (b *blockReader) pageOf(k key) int {
	return sort.Search(len(b.keys), func(i int) bool { return k.less(b.keys[i]) }) - 1
}

// chunkPage is a decoded page of the chunks section. Entry i has the chunks
// first[i] to first[i+1].
type chunkPage struct {
	family []uint32
	series []uint32
	kinds  []uint8
	column []uint32
	first  []uint32

	samples []uint32
	codecs  []uint8
	lengths []uint32
	offsets []uint32 // of the payload, in inline or in values
	inline  []byte
	values  []byte

	raw     []uint64
	buf     []byte
	scratch encoding.Scratch
}

func (p *chunkPage) len() int { return len(p.family) }

func (p *chunkPage) key(i int) key {
	return key{index.Family(p.family[i]), index.Ref(p.series[i]), kind(p.kinds[i])}
}

// find returns the entry with key k.
func (p *chunkPage) find(k key) (int, bool) {
	i := sort.Search(p.len(), func(i int) bool { return !p.key(i).less(k) })
	return i, i < p.len() && p.key(i) == k
}

// payload returns the bytes of chunk c.
func (p *chunkPage) payload(c int) []byte {
	off, n := p.offsets[c], p.lengths[c]
	if n <= inlineBytes {
		return p.inline[off : off+n]
	}
	return p.values[off : off+n]
}

// readChunks decodes chunks page i into p.
func (b *blockReader) readChunks(i int, p *chunkPage) error {
	src, buf, err := b.r.Page(sectionChunks, i, p.buf)
	p.buf = buf
	if err != nil {
		return err
	}
	if p.values, _, err = b.r.Page(sectionValues, i, nil); err != nil {
		return err
	}
	if err := p.decode(src); err != nil {
		return b.corrupt(sectionChunks, i, "%v", err)
	}
	return nil
}

func (p *chunkPage) decode(src []byte) error {
	n64, w := binary.Uvarint(src)
	if w <= 0 || n64 > entriesPerPage {
		return fmt.Errorf("%d entries, want at most %d", n64, entriesPerPage)
	}
	n, src := int(n64), src[w:]
	var err error
	if p.family, src, err = encoding.DecodeUints(p.family[:0], src, n, &p.scratch); err != nil {
		return fmt.Errorf("families: %w", err)
	}
	if p.series, src, err = p.decodeDeltas(p.series[:0], src, n); err != nil {
		return fmt.Errorf("series: %w", err)
	}
	if p.kinds, src, err = encoding.DecodeUints(p.kinds[:0], src, n, &p.scratch); err != nil {
		return fmt.Errorf("kinds: %w", err)
	}
	if p.column, src, err = p.decodeDeltas(p.column[:0], src, n); err != nil {
		return fmt.Errorf("timestamp columns: %w", err)
	}
	if p.raw, src, err = encoding.DecodeUints(p.raw[:0], src, n, &p.scratch); err != nil {
		return fmt.Errorf("chunk counts: %w", err)
	}
	p.first = append(p.first[:0], 0)
	total := uint64(0)
	for _, c := range p.raw {
		total += c
		if c > 1<<20 || total > 1<<24 {
			return fmt.Errorf("%d chunks", total)
		}
		p.first = append(p.first, uint32(total))
	}
	return p.decodeChunkColumns(src, int(total))
}

func (p *chunkPage) decodeChunkColumns(src []byte, n int) (err error) {
	if p.samples, src, err = encoding.DecodeUints(p.samples[:0], src, n, &p.scratch); err != nil {
		return fmt.Errorf("sample counts: %w", err)
	}
	if p.codecs, src, err = encoding.DecodeUints(p.codecs[:0], src, n, &p.scratch); err != nil {
		return fmt.Errorf("codecs: %w", err)
	}
	if p.lengths, p.inline, err = encoding.DecodeUints(p.lengths[:0], src, n, &p.scratch); err != nil {
		return fmt.Errorf("payload lengths: %w", err)
	}
	p.offsets = p.offsets[:0]
	inline, values := uint64(0), uint64(0)
	for i, l := range p.lengths {
		if p.samples[i] == 0 || p.samples[i] > maxConstant {
			return fmt.Errorf("chunk of %d samples", p.samples[i])
		}
		if l <= inlineBytes {
			p.offsets = append(p.offsets, uint32(inline))
			inline += uint64(l)
		} else {
			p.offsets = append(p.offsets, uint32(values))
			values += uint64(l)
		}
	}
	if inline > uint64(len(p.inline)) || values > uint64(len(p.values)) {
		return fmt.Errorf("payloads of %d and %d bytes, have %d and %d", inline, values, len(p.inline), len(p.values))
	}
	return nil
}

// decodeDeltas decodes a column of zigzag differences.
func (p *chunkPage) decodeDeltas(dst []uint32, src []byte, n int) ([]uint32, []byte, error) {
	var err error
	if p.raw, src, err = encoding.DecodeUints(p.raw[:0], src, n, &p.scratch); err != nil {
		return dst, src, err
	}
	last := int64(0)
	for _, u := range p.raw {
		last += unzigzag(u)
		if last < 0 || last > 1<<32-1 {
			return dst, src, fmt.Errorf("number %d", last)
		}
		dst = append(dst, uint32(last))
	}
	return dst, src, nil
}

// floats appends the values of entry i's chunks from chunk a to b.
func (p *chunkPage) floats(dst []float64, a, b int) ([]float64, error) {
	var err error
	for c := a; c < b; c++ {
		if dst, err = encoding.DecodeFloats(dst, p.payload(c), encoding.Codec(p.codecs[c]), int(p.samples[c])); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (p *chunkPage) histograms(dst []encoding.Histogram, a, b int, s *encoding.Scratch) ([]encoding.Histogram, error) {
	var err error
	for c := a; c < b; c++ {
		if dst, err = encoding.DecodeHistograms(dst, p.payload(c), encoding.Codec(p.codecs[c]), int(p.samples[c]), s); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (p *chunkPage) startTimes(dst []int64, a, b int) ([]int64, error) {
	var err error
	for c := a; c < b; c++ {
		if dst, err = encoding.DecodeTimes(dst, p.payload(c), encoding.Codec(p.codecs[c]), int(p.samples[c])); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// timesPage is a decoded directory of a times page.
type timesPage struct {
	first   uint32 // number of the first column
	ends    []uint32
	records []byte
}

// readTimes decodes the directory of times page i.
func (b *blockReader) readTimes(i int) (*timesPage, error) {
	src, _, err := b.r.Page(sectionTimes, i, nil)
	if err != nil {
		return nil, err
	}
	n, w := binary.Uvarint(src)
	if w <= 0 || n > uint64(len(src)) {
		return nil, b.corrupt(sectionTimes, i, "%d columns", n)
	}
	var s encoding.Scratch
	p := &timesPage{first: b.firsts[i]}
	if p.ends, p.records, err = encoding.DecodeUints(p.ends, src[w:], int(n), &s); err != nil {
		return nil, b.corrupt(sectionTimes, i, "%v", err)
	}
	total := uint64(0)
	for j, l := range p.ends {
		total += uint64(l)
		if total > uint64(len(p.records)) {
			return nil, b.corrupt(sectionTimes, i, "records of %d bytes, have %d", total, len(p.records))
		}
		p.ends[j] = uint32(total)
	}
	return p, nil
}

// column appends the samples of a timestamp column's sub-blocks that may touch
// [minTime, maxTime]; skipped is how many samples lie before them, total how
// many the column has.
func (p *timesPage) column(dst []int64, column uint32, minTime, maxTime int64) (out []int64, skipped, total int, err error) {
	i := int(column - p.first)
	if i >= len(p.ends) {
		return dst, 0, 0, fmt.Errorf("timestamp column %d, have %d", column, int(p.first)+len(p.ends))
	}
	start := uint32(0)
	if i > 0 {
		start = p.ends[i-1]
	}
	src := p.records[start:p.ends[i]]
	n, w := binary.Uvarint(src)
	if w <= 0 || n == 0 || n > 1<<28 {
		return dst, 0, 0, fmt.Errorf("timestamp column %d has %d samples", column, n)
	}
	src = src[w:]
	total = int(n)
	first := int64(0)
	for left := total; left > 0; {
		var d int64
		if d, w = binary.Varint(src); w <= 0 || len(src) < w+2 {
			return dst, 0, 0, fmt.Errorf("timestamp column %d ends early", column)
		}
		first += d
		codec := encoding.Codec(src[w])
		size, w2 := binary.Uvarint(src[w+1:])
		body := src[w+1:]
		if w2 <= 0 || size > uint64(len(body)-w2) {
			return dst, 0, 0, fmt.Errorf("timestamp column %d ends early", column)
		}
		body, src = body[w2:w2+int(size)], body[w2+int(size):]
		samples := min(left, chunkSamples)
		left -= samples
		if first > maxTime {
			break
		}
		// The sub-block can be skipped if the next one begins in time.
		if left > 0 {
			if next, w := binary.Varint(src); w > 0 && first+next <= minTime {
				skipped += samples
				continue
			}
		}
		at := len(dst)
		if dst, err = encoding.DecodeTimes(dst, body, codec, samples); err != nil {
			return dst, 0, 0, fmt.Errorf("timestamp column %d: %w", column, err)
		}
		for j := at; j < len(dst); j++ {
			dst[j] += first
		}
	}
	return dst, skipped, total, nil
}

// pageOfColumn returns the times page that holds a column.
func (b *blockReader) pageOfColumn(column uint32) int {
	return sort.Search(len(b.firsts), func(i int) bool { return b.firsts[i] > column }) - 1
}

// timesCursor reads timestamp columns of a block and keeps the page and the
// columns it has decoded. It is used by one goroutine at a time.
type timesCursor struct {
	b                *blockReader
	minTime, maxTime int64
	pages            map[int]*timesPage
	columns          map[uint32]decodedTimes
	cached           int // timestamps in columns
}

// cachedTimes bounds the timestamps that a cursor keeps decoded: 32 MB.
const cachedTimes = 4 << 20

// decodedTimes is the part of a column that touches the cursor's time range.
type decodedTimes struct {
	times   []int64
	skipped int // samples before times
	total   int // samples of the column
}

func newTimesCursor(b *blockReader, minTime, maxTime int64) *timesCursor {
	return &timesCursor{b: b, minTime: minTime, maxTime: maxTime, pages: make(map[int]*timesPage), columns: make(map[uint32]decodedTimes)}
}

func (c *timesCursor) get(column uint32) (decodedTimes, error) {
	if d, ok := c.columns[column]; ok {
		return d, nil
	}
	i := c.b.pageOfColumn(column)
	if i < 0 {
		return decodedTimes{}, c.b.corrupt(sectionTimes, 0, "no timestamp column %d", column)
	}
	p := c.pages[i]
	if p == nil {
		var err error
		if p, err = c.b.readTimes(i); err != nil {
			return decodedTimes{}, err
		}
		c.pages[i] = p
	}
	var d decodedTimes
	var err error
	if d.times, d.skipped, d.total, err = p.column(nil, column, c.minTime, c.maxTime); err != nil {
		return decodedTimes{}, c.b.corrupt(sectionTimes, i, "%v", err)
	}
	if c.cached += len(d.times); c.cached > cachedTimes {
		clear(c.columns)
		clear(c.pages)
		c.cached = len(d.times)
	}
	c.columns[column] = d
	return d, nil
}

// definitions adds the pairs and series that the block defines to x.
func (b *blockReader) definitions(x *index.Index) error {
	m := &b.meta
	if err := x.PadTo(int(m.FirstPair), int(m.FirstSeries)); err != nil {
		return b.corrupt(sectionSeries, 0, "%v", err)
	}
	var buf []byte
	for i := range b.r.Pages(sectionPairs) {
		src, next, err := b.r.Page(sectionPairs, i, buf)
		buf = next
		if err != nil {
			return err
		}
		for len(src) > 0 {
			n, w := binary.Uvarint(src)
			if w <= 0 || n > uint64(len(src)-w) {
				return b.corrupt(sectionPairs, i, "pair of %d bytes, have %d", n, len(src))
			}
			if err := x.AddPair(src[w : w+int(n)]); err != nil {
				return b.corrupt(sectionPairs, i, "%v", err)
			}
			src = src[w+int(n):]
		}
	}
	for i := range b.r.Pages(sectionSeries) {
		src, next, err := b.r.Page(sectionSeries, i, buf)
		buf = next
		if err != nil {
			return err
		}
		if err := b.addSeries(x, src); err != nil {
			return b.corrupt(sectionSeries, i, "%v", err)
		}
	}
	if x.Pairs() != int(m.FirstPair+m.Pairs) || x.Len() != int(m.FirstSeries+m.Series) {
		return b.corrupt(sectionSeries, 0, "%d pairs and %d series, want %d and %d", x.Pairs(), x.Len(), m.FirstPair+m.Pairs, m.FirstSeries+m.Series)
	}
	return nil
}

func (b *blockReader) addSeries(x *index.Index, src []byte) error {
	var prev, cur []index.Pair
	for len(src) > 0 {
		n, w := binary.Uvarint(src)
		if w <= 0 || n > uint64(len(src)) {
			return fmt.Errorf("series of %d pairs", n)
		}
		src = src[w:]
		cur = cur[:0]
		for j := range int(n) {
			var before index.Pair
			if j < len(prev) {
				before = prev[j]
			}
			u, w := binary.Uvarint(src)
			if w <= 0 {
				return errors.New("series ends early")
			}
			src = src[w:]
			cur = append(cur, index.Pair(int64(before)+unzigzag(u)))
		}
		if err := x.AddLoaded(cur); err != nil {
			return err
		}
		prev, cur = cur, prev
	}
	return nil
}
