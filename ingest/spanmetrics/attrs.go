package spanmetrics

import (
	"math"
	"slices"
	"strconv"

	"github.com/vedette-io/vedette/internal/signal"
)

const serviceName = "service.name"

// keySet finds attributes by their keys. Most keys are none of those, which the
// length alone settles mostly.
type keySet struct {
	keys    []string
	lengths [64]bool
}

func newKeySet(keys []string) keySet {
	s := keySet{keys: keys}
	for _, k := range keys {
		s.lengths[min(len(k), len(s.lengths)-1)] = true
	}
	return s
}

// index returns the position of a key, or -1.
func (s *keySet) index(key []byte) int {
	if !s.lengths[min(len(key), len(s.lengths)-1)] {
		return -1
	}
	for i, k := range s.keys {
		if k == string(key) {
			return i
		}
	}
	return -1
}

// Attributes that make a client's span a call of a database, before those that
// name peers.
var databaseKeys = []string{"db.system", "db.system.name", "db.name", "db.namespace"}

const databaseSystems = 2 // of databaseKeys, those that name the system

// peerKeys are the attributes that name the other side of a client's span.
type peerKeys struct {
	set keySet
	// rank is the place of each key in the order of preference; none for those
	// that only say that it is a database.
	rank []int
}

func newPeerKeys(attributes []string) peerKeys {
	keys := slices.Clone(databaseKeys)
	rank := []int{math.MaxInt, math.MaxInt, math.MaxInt, math.MaxInt}
	for i, a := range attributes {
		at := slices.Index(keys, a)
		if at < 0 {
			at = len(keys)
			keys, rank = append(keys, a), append(rank, 0)
		}
		rank[at] = i
	}
	return peerKeys{newKeySet(keys), rank}
}

// peer returns the name that a client's span has for the other side, or nil, and
// whether that is a database. A database's own name goes before the others.
func (p *peerKeys) peer(b *signal.Spans, attrs []signal.Attr) (name []byte, isDatabase bool) {
	best := math.MaxInt
	for i := range attrs {
		a := &attrs[i]
		if a.Type != signal.AttrString || !p.set.lengths[min(int(a.Key.Len), len(p.set.lengths)-1)] {
			continue
		}
		at := p.set.index(b.Bytes(a.Key))
		if at < 0 {
			continue
		}
		value := b.Bytes(a.Range())
		if len(value) == 0 {
			continue
		}
		rank := p.rank[at]
		if at < len(databaseKeys) {
			isDatabase = true
			if at >= databaseSystems && !isNumber(value) { // Redis numbers its databases
				rank = -1
			}
		}
		if rank < best {
			best, name = rank, value
		}
	}
	return name, isDatabase
}

func isNumber(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// appendValue appends an attribute's value as a label shows it; ok is false of
// types that labels have no form for, and of empty values.
func appendValue(dst []byte, b *signal.Spans, a *signal.Attr) (_ []byte, ok bool) {
	switch a.Type {
	case signal.AttrString:
		v := valid(cut(b.Bytes(a.Range())))
		return append(dst, v...), len(v) > 0
	case signal.AttrBool:
		return strconv.AppendBool(dst, a.Bool()), true
	case signal.AttrInt:
		return strconv.AppendInt(dst, a.Int(), 10), true
	case signal.AttrDouble:
		return strconv.AppendFloat(dst, a.Double(), 'g', -1, 64), true
	default:
		return dst, false
	}
}

// serviceOf returns the name of a resource's service.
func serviceOf(b *signal.Spans, r *signal.Resource) []byte {
	for i := r.AttrBegin; i < r.AttrEnd; i++ {
		if a := &b.Attrs[i]; a.Key.Len == uint32(len(serviceName)) && a.Type == signal.AttrString && string(b.Bytes(a.Key)) == serviceName {
			if v := cut(b.Bytes(a.Range())); len(v) > 0 {
				return v
			}
		}
	}
	return nil
}
