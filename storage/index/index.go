package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vedette-io/vedette/internal/labels"
)

// Ref numbers a series of a window, counting from 0 in order of first
// appearance.
type Ref uint32

// Family numbers a metric name of a window in order of first appearance.
// Blocks sort by (Family, Ref), so that the series of one metric lie together.
type Family uint32

const nameLabel = "__name__"

// errArenaFull is returned when a window's label bytes pass 4 GiB.
var errArenaFull = errors.New("index of the window is full: 4 GiB of label bytes")

// Index holds the series of one window.
type Index struct {
	pairs    pairTable
	postings [][]Ref // by pair, ascending

	names   map[string]*labelName // by label name
	ordered []string              // label names in order of first appearance

	families     []familyEntry
	familyOf     []Family        // by ref
	familyByPair map[Pair]Family // the pair is a __name__ pair
	noName       Family          // the family of series without a name, if hasNoName
	hasNoName    bool            //
	hashes       []labels.Hash   // by ref
	slots        []uint32        // open addressing over hashes; 0 is free, else ref+1
	mask         uint32          //

	seriesEnds []uint32 // series i is seriesArena[seriesEnds[i-1]:seriesEnds[i]]
	arena      []byte   // uvarint pair numbers, in label order

	listed int // room for refs in postings and families
	holes  int // series whose definition is lost

	scratch []Pair
	canon   []byte
}

type labelName struct {
	pairs []Pair // every value of the name
}

type familyEntry struct {
	name string
	pair Pair // of __name__; meaningless for the family without a name
	refs []Ref
}

// New returns an empty index.
func New() *Index {
	return &Index{
		names:        make(map[string]*labelName),
		familyByPair: make(map[Pair]Family),
		slots:        make([]uint32, 1024),
		mask:         1023,
	}
}

// Len returns the number of series; refs below it are valid.
func (x *Index) Len() int { return len(x.hashes) }

// Pairs returns the number of label pairs.
func (x *Index) Pairs() int { return x.pairs.len() }

// Bytes estimates the memory that the index holds.
func (x *Index) Bytes() int {
	n := cap(x.pairs.arena) + 4*cap(x.pairs.ends) + 4*cap(x.pairs.slots)
	n += 24*cap(x.postings) + 16*cap(x.hashes) + 4*cap(x.slots) + 4*cap(x.familyOf)
	n += 4*cap(x.seriesEnds) + cap(x.arena) + 64*len(x.families)
	return n + 4*x.listed
}

// Find returns the series with hash h. Hint is a guess: senders repeat their
// series in the same order, so the successor of the last series is usually it,
// and guessing right costs one sequential memory access instead of a random one.
func (x *Index) Find(h labels.Hash, hint Ref) (Ref, bool) {
	if int(hint) < len(x.hashes) && x.hashes[hint] == h {
		return hint, true
	}
	i := uint32(h.Lo) & x.mask
	for {
		s := x.slots[i]
		if s == 0 {
			break
		}
		if x.hashes[s-1] == h {
			return Ref(s - 1), true
		}
		i = (i + 1) & x.mask
	}
	return 0, false
}

// Add adds a series that Find did not find. Canon are its canonical label
// bytes, h their hash.
func (x *Index) Add(h labels.Hash, canon []byte) (Ref, error) {
	if len(x.pairs.arena)+len(canon) > math.MaxUint32 || len(x.arena)+len(canon) > math.MaxUint32 {
		return 0, errArenaFull
	}
	x.scratch = x.scratch[:0]
	for rest := canon; len(rest) > 0; {
		total, w := binary.Uvarint(rest[1:])
		end := 1 + w + int(total)
		if rest[0] != 0x0a || w <= 0 || end > len(rest) || end < 0 {
			return 0, labels.ErrNotCanonical
		}
		x.scratch = append(x.scratch, x.internPair(rest[1+w:end]))
		rest = rest[end:]
	}
	return x.add(h, x.scratch), nil
}

func (x *Index) internPair(msg []byte) Pair {
	p, added := x.pairs.intern(msg)
	if added {
		x.addedPair(p)
	}
	return p
}

func (x *Index) addedPair(p Pair) {
	x.postings = append(x.postings, nil)
	name, _ := x.pairs.split(p)
	n := x.names[string(name)]
	if n == nil {
		n = &labelName{}
		x.names[string(name)] = n
		x.ordered = append(x.ordered, string(name))
	}
	n.pairs = append(n.pairs, p)
}

// AddPair adds the next pair of a block that is being loaded.
func (x *Index) AddPair(msg []byte) error {
	if len(msg) == 0 {
		x.pairs.addHole()
		x.postings = append(x.postings, nil)
		return nil
	}
	name, rest, err := splitPair(msg)
	if err != nil || len(rest) == 0 {
		return fmt.Errorf("add label pair %d (name %.40q): %w", x.pairs.len(), name, labels.ErrNotCanonical)
	}
	p, added := x.pairs.intern(msg)
	if !added {
		return fmt.Errorf("add label pair %d: it stands at %d already", x.pairs.len(), p)
	}
	x.addedPair(p)
	return nil
}

// splitPair checks that msg is a canonical label message.
func splitPair(msg []byte) (name, value []byte, err error) {
	var head [binary.MaxVarintLen64 + 1]byte
	head[0] = 0x0a
	b := append(binary.AppendUvarint(head[:1], uint64(len(msg))), msg...)
	name, value, _, err = labels.Next(b)
	return name, value, err
}

// AddLoaded adds the next series of a block that is being loaded.
func (x *Index) AddLoaded(pairs []Pair) error {
	hole := len(pairs) == 0
	for _, p := range pairs {
		if int(p) >= x.pairs.len() {
			return fmt.Errorf("add series %d: label pair %d, have %d", len(x.hashes), p, x.pairs.len())
		}
		hole = hole || len(x.pairs.bytes(p)) == 0
	}
	if hole {
		x.addHole()
		return nil
	}
	x.canon = x.appendCanonical(x.canon[:0], pairs)
	x.add(labels.HashCanonical(x.canon), pairs)
	return nil
}

func (x *Index) add(h labels.Hash, pairs []Pair) Ref {
	ref := Ref(len(x.hashes))
	if len(x.hashes)*3 >= len(x.slots)*2 {
		x.grow()
	}
	x.hashes = append(x.hashes, h)
	x.insertSlot(h, ref)
	family, named := Family(0), false
	for _, p := range pairs {
		x.arena = binary.AppendUvarint(x.arena, uint64(p))
		x.postings[p] = x.list(x.postings[p], ref)
		if !named {
			family, named = x.familyOfPair(p)
		}
	}
	if !named {
		family = x.unnamedFamily()
		x.families[family].refs = x.list(x.families[family].refs, ref)
	}
	x.familyOf = append(x.familyOf, family)
	x.seriesEnds = append(x.seriesEnds, uint32(len(x.arena)))
	return ref
}

// list appends ref to a list and counts the room that it takes, so that Bytes
// need not walk all lists.
func (x *Index) list(refs []Ref, ref Ref) []Ref {
	before := cap(refs)
	refs = append(refs, ref)
	x.listed += cap(refs) - before
	return refs
}

func (x *Index) familyOfPair(p Pair) (Family, bool) {
	if f, ok := x.familyByPair[p]; ok {
		return f, true
	}
	name, value := x.pairs.split(p)
	if string(name) != nameLabel {
		return 0, false
	}
	f := Family(len(x.families))
	x.families = append(x.families, familyEntry{name: string(value), pair: p})
	x.familyByPair[p] = f
	return f, true
}

func (x *Index) unnamedFamily() Family {
	if !x.hasNoName {
		x.hasNoName = true
		x.noName = Family(len(x.families))
		x.families = append(x.families, familyEntry{})
	}
	return x.noName
}

func (x *Index) insertSlot(h labels.Hash, ref Ref) {
	i := uint32(h.Lo) & x.mask
	for x.slots[i] != 0 {
		i = (i + 1) & x.mask
	}
	x.slots[i] = uint32(ref) + 1
}

func (x *Index) grow() {
	x.slots = make([]uint32, len(x.slots)*2)
	x.mask = uint32(len(x.slots) - 1)
	for ref, h := range x.hashes {
		x.insertSlot(h, Ref(ref))
	}
}

// Families returns the number of families.
func (x *Index) Families() int { return len(x.families) }

// FamilyName returns the metric name of f, "" for series without one.
func (x *Index) FamilyName(f Family) string { return x.families[f].name }

// FamilyRefs returns the series of f in ascending order. The slice is the
// index's own.
func (x *Index) FamilyRefs(f Family) []Ref {
	e := &x.families[f]
	if x.hasNoName && f == x.noName {
		return e.refs
	}
	return x.postings[e.pair]
}

// FamilyOf returns the family of ref.
func (x *Index) FamilyOf(ref Ref) Family { return x.familyOf[ref] }

// FamilyByName returns the family named name and whether it exists.
func (x *Index) FamilyByName(name string) (Family, bool) {
	p, ok := x.pairs.find(appendPair(nil, nameLabel, name))
	if !ok {
		return 0, false
	}
	f, ok := x.familyByPair[p]
	return f, ok
}

func appendPair(dst []byte, name, value string) []byte {
	dst = append(dst, 0x0a)
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	dst = append(dst, name...)
	dst = append(dst, 0x12)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// PairBytes returns the bytes of p as AddPair takes them; they are the index's
// own.
func (x *Index) PairBytes(p Pair) []byte { return x.pairs.bytes(p) }

// AppendSeriesPairs appends the pairs of ref, in label order.
func (x *Index) AppendSeriesPairs(dst []Pair, ref Ref) []Pair {
	var start uint32
	if ref > 0 {
		start = x.seriesEnds[ref-1]
	}
	for b := x.arena[start:x.seriesEnds[ref]]; len(b) > 0; {
		p, w := binary.Uvarint(b)
		dst = append(dst, Pair(p))
		b = b[w:]
	}
	return dst
}

// AppendCanonical appends the canonical label bytes of ref.
func (x *Index) AppendCanonical(dst []byte, ref Ref) []byte {
	var buf [32]Pair
	return x.appendCanonical(dst, x.AppendSeriesPairs(buf[:0], ref))
}

func (x *Index) appendCanonical(dst []byte, pairs []Pair) []byte {
	for _, p := range pairs {
		msg := x.pairs.bytes(p)
		dst = append(dst, 0x0a)
		dst = binary.AppendUvarint(dst, uint64(len(msg)))
		dst = append(dst, msg...)
	}
	return dst
}

// EachLabel calls f with every label of ref, in order. The bytes are the
// index's own.
func (x *Index) EachLabel(ref Ref, f func(name, value []byte)) {
	var buf [32]Pair
	for _, p := range x.AppendSeriesPairs(buf[:0], ref) {
		f(x.pairs.split(p))
	}
}

// Hash returns the identity of ref.
func (x *Index) Hash(ref Ref) labels.Hash { return x.hashes[ref] }

// LabelNames returns every label name that some series carries, sorted.
func (x *Index) LabelNames() []string {
	out := slices.Clone(x.ordered)
	slices.Sort(out)
	return out
}

// LabelValues returns every value of name, sorted.
func (x *Index) LabelValues(name string) []string {
	n := x.names[name]
	if n == nil {
		return nil
	}
	out := make([]string, 0, len(n.pairs))
	for _, p := range n.pairs {
		_, v := x.pairs.split(p)
		out = append(out, string(v))
	}
	slices.Sort(out)
	return out
}

// EachPair calls f with every pair of name and how many series carry it. The
// bytes are the index's own.
func (x *Index) EachPair(name string, f func(value []byte, series int)) {
	n := x.names[name]
	if n == nil {
		return
	}
	for _, p := range n.pairs {
		_, v := x.pairs.split(p)
		f(v, len(x.postings[p]))
	}
}

// PadTo makes room for pairs and series whose definitions are lost, so that
// what later blocks define keeps its numbers. Such series have no labels and
// match nothing.
func (x *Index) PadTo(pairs, series int) error {
	if pairs < x.pairs.len() || series < len(x.hashes) || pairs > math.MaxInt32 || series > math.MaxInt32 {
		return fmt.Errorf("define label pairs from %d and series from %d: have %d and %d", pairs, series, x.pairs.len(), len(x.hashes))
	}
	for x.pairs.len() < pairs {
		x.pairs.addHole()
		x.postings = append(x.postings, nil)
	}
	for len(x.hashes) < series {
		x.addHole()
	}
	return nil
}

// addHole adds a series without labels, which no hash and no matcher finds.
func (x *Index) addHole() {
	x.hashes = append(x.hashes, labels.Hash{})
	x.familyOf = append(x.familyOf, x.unnamedFamily())
	x.seriesEnds = append(x.seriesEnds, uint32(len(x.arena)))
	x.holes++
}

// IsHole reports whether the definition of ref is lost.
func (x *Index) IsHole(ref Ref) bool {
	var start uint32
	if ref > 0 {
		start = x.seriesEnds[ref-1]
	}
	return start == x.seriesEnds[ref]
}

// FamiliesByRef returns the family of every series, by ref. The slice is the
// index's own: later series are appended behind it, what is in it stays.
func (x *Index) FamiliesByRef() []Family { return x.familyOf }
