package metric

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/index"
)

// addExemplars writes exemplars; they need not be sorted.
func (w *blockWriter) addExemplars(rows []exemplarRow) {
	slices.SortStableFunc(rows, func(a, b exemplarRow) int {
		return cmp.Or(cmp.Compare(a.ref, b.ref), cmp.Compare(a.time, b.time))
	})
	rows = slices.CompactFunc(rows, func(a, b exemplarRow) bool { return a.ref == b.ref && a.time == b.time })
	w.meta.Exemplars = int64(len(rows))
	for page := range slices.Chunk(rows, exemplarsPerPage) {
		b := w.buf[:0]
		var ref index.Ref
		var time int64
		for _, r := range page {
			b = binary.AppendUvarint(b, uint64(r.ref-ref))
			b = binary.AppendVarint(b, r.time-time)
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.value))
			b = binary.AppendUvarint(b, uint64(len(r.labels)))
			b = append(b, r.labels...)
			ref, time = r.ref, r.time
		}
		w.w.CompressedPage(sectionExemplars, b)
		w.buf = b
	}
}

// readExemplars returns the block's exemplars, ordered by series and time.
func (b *blockReader) readExemplars() ([]exemplarRow, error) {
	var rows []exemplarRow
	for i := range b.r.Pages(sectionExemplars) {
		src, _, err := b.r.Page(sectionExemplars, i, nil)
		if err != nil {
			return nil, err
		}
		var ref index.Ref
		var time int64
		for len(src) > 0 {
			d, w1 := binary.Uvarint(src)
			t, w2 := binary.Varint(src[max(w1, 0):])
			if w1 <= 0 || w2 <= 0 || len(src) < w1+w2+8 {
				return nil, b.corrupt(sectionExemplars, i, "exemplar %d ends early", len(rows))
			}
			src = src[w1+w2:]
			value := math.Float64frombits(binary.LittleEndian.Uint64(src))
			n, w := binary.Uvarint(src[8:])
			if w <= 0 || n > uint64(len(src)-8-w) {
				return nil, b.corrupt(sectionExemplars, i, "exemplar %d ends early", len(rows))
			}
			ls := src[8+w : 8+w+int(n)]
			if !validLabels(ls) {
				return nil, b.corrupt(sectionExemplars, i, "exemplar %d: %v", len(rows), labels.ErrNotCanonical)
			}
			ref, time = ref+index.Ref(d), time+t
			rows = append(rows, exemplarRow{ref: ref, time: time, value: value, labels: string(ls)})
			src = src[8+w+int(n):]
		}
	}
	return rows, nil
}

func validLabels(b []byte) bool {
	for len(b) > 0 {
		var err error
		if _, _, b, err = labels.Next(b); err != nil {
			return false
		}
	}
	return true
}

// metadataSet keeps the newest metadata of each family.
type metadataSet struct{ byFamily map[string]signal.Metadata }

func newMetadataSet() *metadataSet { return &metadataSet{byFamily: make(map[string]signal.Metadata)} }

// add takes over ms, later ones over earlier ones, and reports whether anything
// changed.
func (s *metadataSet) add(ms ...signal.Metadata) (changed bool) {
	for _, m := range ms {
		if s.byFamily[m.Family] != m {
			s.byFamily[m.Family] = m
			changed = true
		}
	}
	return changed
}

// list returns the metadata sorted by family.
func (s *metadataSet) list() []signal.Metadata {
	out := make([]signal.Metadata, 0, len(s.byFamily))
	for _, m := range s.byFamily {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b signal.Metadata) int { return cmp.Compare(a.Family, b.Family) })
	return out
}

func (w *blockWriter) addMetadata(ms []signal.Metadata) {
	if len(ms) == 0 {
		return
	}
	b := w.buf[:0]
	for _, m := range ms {
		for _, s := range [...]string{m.Family, m.Type, m.Help, m.Unit} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	w.w.CompressedPage(sectionMetadata, b)
	w.buf = b
}

func (b *blockReader) readMetadata() ([]signal.Metadata, error) {
	var out []signal.Metadata
	for i := range b.r.Pages(sectionMetadata) {
		src, _, err := b.r.Page(sectionMetadata, i, nil)
		if err != nil {
			return nil, err
		}
		for len(src) > 0 {
			var f [4]string
			for j := range f {
				n, w := binary.Uvarint(src)
				if w <= 0 || n > uint64(len(src)-w) {
					return nil, b.corrupt(sectionMetadata, i, "family %d ends early", len(out))
				}
				f[j] = string(src[w : w+int(n)])
				src = src[w+int(n):]
			}
			out = append(out, signal.Metadata{Family: f[0], Type: f[1], Help: f[2], Unit: f[3]})
		}
	}
	return out, nil
}
