package traceql

import (
	"math"
	"slices"
)

// A sketch counts numbers in buckets whose width is at most 1/32 of their value,
// so that a quantile is off by at most 3.2% of itself. The bucket of a number is
// read from the bits of its float: exponent and the first five bits of the
// mantissa. Buckets lie in pages of one power of two. Pages near each other, as
// those of latencies are, lie in a window that is indexed; others, of zeros for
// example, are looked for.
type sketch struct {
	base        int32    // key of the window's first page
	window      []uint32 // pages, one after another
	far         []page   // by key, all before or behind the window
	least, most float64
	n           uint64
}

const (
	bucketBits = 5
	pageLen    = 1 << bucketBits
	pageBytes  = 4 * pageLen
	maxWindow  = 48 // pages
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

// add counts a number that is not NaN or infinite, and returns the bytes by
// which the sketch grew.
func (s *sketch) add(v float64) (grown int) {
	s.n++
	if v < s.least || s.n == 1 {
		s.least = v
	}
	if v > s.most || s.n == 1 {
		s.most = v
	}
	key, bucket := place(v)
	if i := int(key-s.base)*pageLen + bucket; uint(i) < uint(len(s.window)) {
		s.window[i]++ // fast: the page is in the window
		return 0
	}
	counts, grown := s.page(key)
	counts[bucket]++
	return grown
}

// page returns the counts of a page, which is made if it is new.
func (s *sketch) page(key int32) (counts []uint32, grown int) {
	first, end := s.base, s.base+int32(len(s.window)/pageLen)
	if len(s.window) == 0 {
		first, end = key, key
	}
	pages := end - first
	first, end = min(first, key), max(end, key+1)
	if n := int(end - first); n <= maxWindow {
		if n > int(pages) && n+int(pages)/2 <= maxWindow { // room for more of the kind
			if end > key+1 {
				first -= pages / 2
			} else {
				end += pages / 2
			}
			n += int(pages) / 2
		}
		if grown = n*pageBytes - 4*len(s.window); grown > 0 {
			window := make([]uint32, n*pageLen)
			copy(window[int(s.base-first)*pageLen*min(1, len(s.window)):], s.window)
			s.base, s.window = first, window
		}
		at := int(key-s.base) * pageLen
		return s.window[at : at+pageLen], grown
	}
	i, found := slices.BinarySearchFunc(s.far, key, func(p page, key int32) int { return int(p.key) - int(key) })
	if !found {
		s.far = slices.Insert(s.far, i, page{key: key})
		grown = pageBytes
	}
	return s.far[i].count[:], grown
}

// each calls f for the pages, rising, until it returns false.
func (s *sketch) each(f func(key int32, counts []uint32) bool) {
	i := 0
	for ; i < len(s.far) && s.far[i].key < s.base; i++ {
		if !f(s.far[i].key, s.far[i].count[:]) {
			return
		}
	}
	for at := 0; at < len(s.window); at += pageLen {
		if !f(s.base+int32(at/pageLen), s.window[at:at+pageLen]) {
			return
		}
	}
	for ; i < len(s.far); i++ {
		if !f(s.far[i].key, s.far[i].count[:]) {
			return
		}
	}
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
	o.each(func(key int32, counts []uint32) bool {
		to, g := s.page(key)
		grown += g
		for b, n := range counts {
			to[b] += n
		}
		return true
	})
	return grown
}

// quantile returns the number below which a part q of the numbers lies,
// interpolated within its bucket; NaN if there are none.
func (s *sketch) quantile(q float64) float64 {
	if s.n == 0 {
		return math.NaN()
	}
	rank := q * float64(s.n)
	before, v := 0.0, s.most
	s.each(func(key int32, counts []uint32) bool {
		total := uint64(0)
		for _, n := range counts {
			total += uint64(n)
		}
		if total == 0 || before+float64(total) < rank {
			before += float64(total)
			return true
		}
		for b, n := range counts {
			count := float64(n)
			if n == 0 || before+count < rank {
				before += count
				continue
			}
			from, to := bounds(key, b)
			if !math.IsInf(to-from, 0) { // is infinite of the last bucket of all
				v = from + (to-from)*(rank-before)/count
			}
			return false
		}
		return true
	})
	return max(s.least, min(s.most, v))
}

// powerOfTwo returns the exponent of the least power of two that is not less
// than v; lowestPower for what is not positive.
func powerOfTwo(v float64) int32 {
	if v <= 0 {
		return lowestPower
	}
	const mantissa = 1<<52 - 1
	bits := math.Float64bits(v)
	power := int32(bits>>52) - 1023
	if power == -1023 { // less than the least normal number
		frac, exp := math.Frexp(v)
		if frac == 0.5 {
			exp--
		}
		return int32(exp)
	}
	if bits&mantissa != 0 {
		power++
	}
	return power
}

const lowestPower = -1100 // below those of all floats
