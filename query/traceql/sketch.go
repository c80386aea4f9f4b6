package traceql

import (
	"math"
	"slices"
	"unsafe"
)

// A sketch counts numbers in buckets whose width is at most 1/32 of their value,
// so that a quantile is off by at most 3.2% of itself. The bucket of a number is
// read from the bits of its float: exponent and the first five bits of the
// mantissa. Buckets lie in pages of one power of two; most sketches have few.
type sketch struct {
	pages       []page
	least, most float64
	n           uint64
}

const (
	bucketBits = 5
	pageLen    = 1 << bucketBits
	pageBytes  = int(unsafe.Sizeof(page{}))
)

// page counts the numbers of one power of two. Keys of positive numbers are the
// float's exponent, keys of negative ones are its complement, so that keys and
// buckets rise with the numbers.
type page struct {
	key   int32
	count [pageLen]uint32
}

// place returns a number's page and bucket.
func place(v float64) (key int32, bucket int) {
	bits := math.Float64bits(v)
	i := int32(bits << 1 >> (53 - bucketBits)) // without the sign
	if v < 0 {
		i = ^i
	}
	return i >> bucketBits, int(i & (pageLen - 1))
}

// bounds returns between which numbers a bucket is.
func bounds(key int32, bucket int) (from, to float64) {
	i := key<<bucketBits | int32(bucket)
	if i < 0 {
		from, to = bounds(^i>>bucketBits, int(^i&(pageLen-1)))
		return -to, -from
	}
	from = math.Float64frombits(uint64(i) << (52 - bucketBits))
	return from, math.Float64frombits(uint64(i+1) << (52 - bucketBits))
}

// add counts a number that is not NaN or infinite, and returns the bytes by which the sketch grew.
func (s *sketch) add(v float64) (grown int) {
	if s.n++; s.n == 1 {
		s.least, s.most = v, v
	} else {
		s.least, s.most = min(s.least, v), max(s.most, v)
	}
	key, bucket := place(v)
	i := s.find(key)
	if i == len(s.pages) || s.pages[i].key != key {
		s.pages = slices.Insert(s.pages, i, page{key: key})
		grown = pageBytes
	}
	s.pages[i].count[bucket]++
	return grown
}

// find returns where the page with a key is or belongs.
func (s *sketch) find(key int32) int {
	for i := range s.pages {
		if s.pages[i].key >= key {
			return i
		}
	}
	return len(s.pages)
}

// merge adds what o counted.
func (s *sketch) merge(o *sketch) (grown int) {
	if o.n == 0 {
		return 0
	}
	if s.n == 0 {
		s.least, s.most = o.least, o.most
	}
	s.least, s.most, s.n = min(s.least, o.least), max(s.most, o.most), s.n+o.n
	for p := range o.pages {
		from := &o.pages[p]
		i := s.find(from.key)
		if i == len(s.pages) || s.pages[i].key != from.key {
			s.pages = slices.Insert(s.pages, i, *from)
			grown += pageBytes
			continue
		}
		for b, n := range from.count {
			s.pages[i].count[b] += n
		}
	}
	return grown
}

// quantile returns the number below which a part q of the numbers lies,
// interpolated within its bucket; NaN if there are none.
func (s *sketch) quantile(q float64) float64 {
	if s.n == 0 {
		return math.NaN()
	}
	rank := q * float64(s.n)
	before := 0.0
	for p := range s.pages {
		for b, n := range s.pages[p].count {
			count := float64(n)
			if n == 0 || before+count < rank {
				before += count
				continue
			}
			from, to := bounds(s.pages[p].key, b)
			if math.IsInf(to-from, 0) {
				return s.most // the last bucket of all
			}
			v := from + (to-from)*(rank-before)/count
			return max(s.least, min(s.most, v))
		}
	}
	return s.most
}

// powerOfTwo returns the exponent of the least power of two that is not less
// than v; lowestPower for what is not positive.
func powerOfTwo(v float64) int32 {
	if v <= 0 {
		return lowestPower
	}
	frac, exp := math.Frexp(v)
	if frac == 0.5 {
		exp--
	}
	return int32(exp)
}

const lowestPower = -1100 // below those of all floats
