package gen

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"

	"github.com/klauspost/compress/snappy"
)

// IntervalMillis is the time between two scrapes of a target.
const IntervalMillis = 15_000

// Options describes one run's traffic.
type Options struct {
	Targets           int
	Scrapes           int
	SamplesPerRequest int    // upper bound; requests of a scrape are of equal size
	ChurnEach         int    // scrapes between label changes of a tenth of the series; 0: none
	EndMillis         int64  // no sample is later
	Seed              uint64 // same seed and EndMillis: same bytes
}

// Request is one body within a spool.
type Request struct {
	Scrape  int
	Samples int  // of remote write, data points of OTLP
	Raw     int  // bytes before compression
	Length  int  // bytes as sent
	Plain   bool // not compressed
	offset  int64
}

// Spool is a file of request bodies in the order in which to send them: all
// targets' scrape k before any target's scrape k+1. It may be read concurrently.
type Spool struct {
	Options
	Requests []Request
	Bytes    int64 // compressed bytes of all bodies
	Samples  int64
	// Created counts the series that appear for the first time in each scrape.
	Created []int
	// Times holds the sample time of [scrape][target].
	Times [][]int64
	file  *os.File
}

// Body appends the compressed body of request r to dst.
func (s *Spool) Body(dst []byte, r Request) ([]byte, error) {
	n := len(dst)
	dst = append(dst, make([]byte, r.Length)...)
	if _, err := s.file.ReadAt(dst[n:], r.offset); err != nil {
		return dst[:n], fmt.Errorf("read request body: %s, offset %d: %w", s.file.Name(), r.offset, err)
	}
	return dst, nil
}

// Close removes the spool's file.
func (s *Spool) Close() error {
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}

// WriteSpool generates the whole run into a file at path.
func WriteSpool(rec *Recording, path string, o Options) (*Spool, error) {
	if o.Targets < 1 || o.Scrapes < 1 || o.SamplesPerRequest < 1 {
		return nil, fmt.Errorf("write spool: %d targets, %d scrapes, %d samples a request, want at least 1 of each", o.Targets, o.Scrapes, o.SamplesPerRequest)
	}
	targets := make([]*Target, o.Targets)
	for i := range targets {
		t, err := NewTarget(rec, i, o.Seed, o.ChurnEach)
		if err != nil {
			return nil, err
		}
		targets[i] = t
	}
	w, err := createSpool(rec, path, o)
	if err != nil {
		return nil, err
	}
	return w.finish(func(k int) error { return w.scrape(k, targets) })
}

func createSpool(rec *Recording, path string, o Options) (*spoolWriter, error) {
	w, err := newSpoolWriter(path, o)
	if err != nil {
		return nil, err
	}
	w.spool.Times, w.spool.Created = scrapeTimes(rec, o), make([]int, o.Scrapes)
	return w, nil
}

func newSpoolWriter(path string, o Options) (*spoolWriter, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	return &spoolWriter{spool: &Spool{Options: o, file: f}, out: bufio.NewWriterSize(f, 1<<20)}, nil
}

// CollectSpool writes the requests that fill hands to add into a file at path;
// they count as one scrape.
func CollectSpool(path string, fill func(add func(body []byte, r Request) error) error) (*Spool, error) {
	w, err := newSpoolWriter(path, Options{Scrapes: 1})
	if err != nil {
		return nil, err
	}
	return w.finish(func(int) error { return fill(w.write) })
}

// finish writes scrape after scrape and returns the spool.
func (w *spoolWriter) finish(scrape func(k int) error) (*Spool, error) {
	for k := range w.spool.Scrapes {
		if err := scrape(k); err != nil {
			return nil, errors.Join(fmt.Errorf("write spool: %w", err), w.spool.Close())
		}
	}
	if err := w.out.Flush(); err != nil {
		return nil, errors.Join(fmt.Errorf("write spool: %w", err), w.spool.Close())
	}
	return w.spool, nil
}

// scrapeTimes gives every target a phase within the interval and every scrape a
// jitter as recorded; the latest of all is EndMillis.
func scrapeTimes(rec *Recording, o Options) [][]int64 {
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	phase := make([]int64, o.Targets)
	for i := range phase {
		phase[i] = rng.Int64N(IntervalMillis)
	}
	times := make([][]int64, o.Scrapes)
	latest := int64(math.MinInt64)
	for k := range times {
		times[k] = make([]int64, o.Targets)
		for i := range phase {
			times[k][i] = int64(k)*IntervalMillis + phase[i] + rec.jitter[rng.IntN(len(rec.jitter))]
			latest = max(latest, times[k][i])
		}
	}
	for k := range times {
		for i := range times[k] {
			times[k][i] += o.EndMillis - latest
		}
	}
	return times
}

// spoolWriter packs samples into requests.
type spoolWriter struct {
	spool   *Spool
	out     *bufio.Writer
	body    []byte // WriteRequest under construction
	packed  []byte
	value   [1]float64
	samples int
	offset  int64
}

// scrape writes scrape k of all targets as requests of about equal size.
func (w *spoolWriter) scrape(k int, targets []*Target) error {
	s := w.spool
	total := len(targets) * SeriesPerTarget
	requests := (total + s.SamplesPerRequest - 1) / s.SamplesPerRequest
	done, sent := 0, 0
	var failed error
	for i, t := range targets {
		t.Next(func(canonical []byte, value float64) {
			w.value[0] = value
			w.body = AppendSeries(w.body, canonical, s.Times[k][i:i+1], w.value[:])
			w.samples++
			done++
			if done*requests >= total*(sent+1) {
				failed = errors.Join(failed, w.flush(k))
				sent++
			}
		})
	}
	switch {
	case k == 0:
		s.Created[k] = total
	case s.ChurnEach > 0 && k%s.ChurnEach == 0:
		s.Created[k] = len(targets) * ((SeriesPerTarget + churnEvery - 1) / churnEvery)
	}
	return failed
}

func (w *spoolWriter) flush(scrape int) error {
	w.packed = snappy.Encode(w.packed[:cap(w.packed)], w.body)
	err := w.write(w.packed, Request{Scrape: scrape, Samples: w.samples, Raw: len(w.body)})
	w.body, w.samples = w.body[:0], 0
	return err
}

// write adds one body, ready to be sent.
func (w *spoolWriter) write(body []byte, r Request) error {
	if _, err := w.out.Write(body); err != nil {
		return err
	}
	s := w.spool
	r.offset, r.Length = w.offset, len(body)
	s.Requests = append(s.Requests, r)
	w.offset += int64(len(body))
	s.Bytes += int64(len(body))
	s.Samples += int64(r.Samples)
	return nil
}

// AppendSeries appends a TimeSeries as a field of WriteRequest, as Prometheus
// writes it: a value of zero is left out.
func AppendSeries(dst, canonical []byte, times []int64, values []float64) []byte {
	size := len(canonical)
	for i, ts := range times {
		size += 2 + sampleSize(ts, values[i])
	}
	dst = append(dst, 0x0a)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = append(dst, canonical...)
	for i, ts := range times {
		dst = append(dst, 0x12, byte(sampleSize(ts, values[i])))
		if bits := math.Float64bits(values[i]); bits != 0 {
			dst = append(dst, 0x09)
			dst = binary.LittleEndian.AppendUint64(dst, bits)
		}
		dst = append(dst, 0x10)
		dst = binary.AppendUvarint(dst, uint64(ts))
	}
	return dst
}

// sampleSize is the length of a Sample message.
func sampleSize(ts int64, value float64) int {
	n := 1 + uvarintLen(uint64(ts))
	if math.Float64bits(value) != 0 {
		n += 9
	}
	return n
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
