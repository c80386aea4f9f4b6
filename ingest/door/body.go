package door

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/vedette-io/vedette/ingest/wire"
)

// Encodings of bodies that ReadBody undoes.
const (
	Gzip    = "gzip"
	Zstd    = "zstd"
	Deflate = "deflate"
	Snappy  = "snappy" // block format; the framed one is told by its first bytes
)

// snappyMagic begins the framed format of snappy. No block begins so.
const snappyMagic = "\xff\x06\x00\x00sNaPpY"

// Body is the body of a request. Its memory is charged to the door until
// Release.
type Body struct {
	Bytes   []byte
	door    *Door
	charged int64
}

// Release gives the memory back; Bytes is not used any more.
func (b *Body) Release() {
	if b.door == nil {
		return
	}
	b.door.uncharge(b.charged)
	b.door.putBody(b.Bytes)
	*b = Body{}
}

// Memory returns a body without bytes: what somebody charges who was handed a
// message that another entry has read.
func (e *Entry) Memory() *Body { return &Body{door: e.door} }

// Charge accounts for n more bytes that somebody is about to take because of the
// body, until Release. It does not wait, since the body holds memory already.
func (b *Body) Charge(n int) error {
	if limit := b.door.cfg.MaxInFlightBytes; b.charged+int64(n) > limit {
		return &wire.SizeError{What: "memory to read the body", Got: int(b.charged) + n, Limit: int(limit)}
	}
	if !b.door.memory.TryAcquire(int64(n)) {
		return &OverloadError{What: "too many bytes in flight", RetryAfter: time.Second}
	}
	b.door.metrics.inFlight.Add(float64(n))
	b.charged += int64(n)
	return nil
}

// ReadBody reads a request's body within the limits of the entry and of the
// door's memory. If encodings are named, the Content-Encoding must be one of
// them, "identity" or absent, and is undone; if none is, the header is left to
// the caller.
func (e *Entry) ReadBody(w http.ResponseWriter, r *http.Request, encodings ...string) (*Body, error) {
	encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	if len(encodings) > 0 && encoding != "" && encoding != "identity" && !slices.Contains(encodings, encoding) {
		return nil, &MediaError{"Content-Encoding", encoding, strings.Join(encodings, ", ") + " or identity"}
	}
	if r.ContentLength > int64(e.cfg.MaxBodyBytes) {
		return nil, &http.MaxBytesError{Limit: int64(e.cfg.MaxBodyBytes)}
	}
	// Not every ResponseWriter has deadlines; the server's own then hold.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(e.door.cfg.BodyTimeout))
	in := http.MaxBytesReader(w, r.Body, int64(e.cfg.MaxBodyBytes))
	if len(encodings) == 0 {
		encoding = ""
	}
	return e.read(r.Context(), in, r.ContentLength, encoding)
}

// ReadMessage reads one message of the given length out of a request's body, as
// ReadBody reads the whole of it.
func (e *Entry) ReadMessage(w http.ResponseWriter, r *http.Request, length int, encoding string) (*Body, error) {
	if length > e.cfg.MaxBodyBytes {
		return nil, &wire.SizeError{What: "message", Got: length, Limit: e.cfg.MaxBodyBytes}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(e.door.cfg.BodyTimeout))
	return e.read(r.Context(), &messageReader{r.Body, length}, int64(length), encoding)
}

// messageReader reads left bytes, no less.
type messageReader struct {
	in   io.Reader
	left int
}

func (m *messageReader) Read(p []byte) (int, error) {
	if m.left == 0 {
		return 0, io.EOF
	}
	n, err := m.in.Read(p[:min(len(p), m.left)])
	m.left -= n
	if err == io.EOF && m.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// read reads in to its end and undoes the encoding. length is -1 if it is not
// known.
func (e *Entry) read(ctx context.Context, body io.Reader, length int64, encoding string) (*Body, error) {
	in := &countingReader{in: body}
	defer func() { e.metrics.bodyBytes.Add(float64(in.n)) }()
	switch encoding {
	case "", "identity":
		return e.door.readAll(ctx, in, length, e.cfg.MaxBodyBytes)
	case Snappy:
		return e.readSnappy(ctx, in, length)
	}
	return e.readPlain(ctx, encoding, in)
}

// readPlain decompresses a stream.
func (e *Entry) readPlain(ctx context.Context, encoding string, in *countingReader) (*Body, error) {
	plain, err := decompressor(encoding, in, e.door.cfg.MaxDecodedBytes)
	if err != nil {
		err = bodyError(ctx, err)
	} else {
		defer plain.Close()
		var b *Body
		if b, err = e.door.readAll(ctx, plain, -1, e.door.cfg.MaxDecodedBytes); err == nil {
			return b, nil
		}
	}
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		limit := e.door.cfg.MaxDecodedBytes
		return nil, &wire.SizeError{What: "uncompressed body", Got: limit + 1, Limit: limit}
	}
	if !isReadFailure(err) {
		return nil, &wire.SyntaxError{Message: encoding + " body", Offset: int(in.n), Detail: err.Error()}
	}
	return nil, err
}

// isReadFailure reports whether reading, rather than decompressing, has failed.
func isReadFailure(err error) bool {
	var (
		tooLarge *http.MaxBytesError
		size     *wire.SizeError
		overload *OverloadError
	)
	return errors.As(err, &tooLarge) || errors.As(err, &size) || errors.As(err, &overload) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// decompressor undoes an encoding.
func decompressor(encoding string, in io.Reader, maxBytes int) (io.ReadCloser, error) {
	switch encoding {
	case Gzip:
		return gzip.NewReader(in)
	case Deflate:
		return zlib.NewReader(in)
	case Snappy:
		return io.NopCloser(s2.NewReader(in, s2.ReaderMaxBlockSize(64<<10))), nil
	}
	// The window that usual encoders ask for is larger than many a body.
	const usualWindow = 8 << 20
	window := max(uint64(maxBytes)+1, usualWindow)
	d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(window), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// readSnappy reads a snappy block, whose size is known before it is undone, or
// frames.
func (e *Entry) readSnappy(ctx context.Context, in io.Reader, length int64) (*Body, error) {
	d := e.door
	packed, err := d.readAll(ctx, in, length, e.cfg.MaxBodyBytes)
	if err != nil {
		return nil, err
	}
	defer packed.Release()
	if bytes.HasPrefix(packed.Bytes, []byte(snappyMagic)) {
		return e.readPlain(ctx, Snappy, &countingReader{in: bytes.NewReader(packed.Bytes)})
	}
	n, err := s2.DecodedLen(packed.Bytes)
	if err != nil {
		return nil, &wire.SyntaxError{Message: "snappy block", Detail: "no valid length"}
	}
	if n > d.cfg.MaxDecodedBytes {
		return nil, &wire.SizeError{What: "uncompressed body", Got: n, Limit: d.cfg.MaxDecodedBytes}
	}
	if err := d.charge(ctx, int64(n)); err != nil {
		return nil, err
	}
	b := &Body{door: d, charged: int64(n)}
	if b.Bytes, err = s2.Decode(d.getBody(n)[:n], packed.Bytes); err != nil {
		b.Release()
		return nil, &wire.SyntaxError{Message: "snappy block", Detail: err.Error()}
	}
	return b, nil
}

// countingReader counts what comes over the wire.
type countingReader struct {
	in io.Reader
	n  int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// readAll reads in to its end and charges its memory. length is -1 if it is not
// known.
func (d *Door) readAll(ctx context.Context, in io.Reader, length int64, limit int) (_ *Body, err error) {
	size := length
	if size < 0 {
		size = 64 << 10
	}
	if err := d.charge(ctx, size+1); err != nil {
		return nil, err
	}
	b := &Body{door: d, charged: size + 1, Bytes: d.getBody(int(size + 1))}
	defer func() {
		if err != nil {
			b.Release()
		}
	}()
	for {
		if len(b.Bytes) == cap(b.Bytes) || int64(len(b.Bytes)) == b.charged {
			// Only a body of unknown length comes here before its end.
			more := b.charged
			if !d.memory.TryAcquire(more) {
				return nil, &OverloadError{What: "too many bytes in flight", RetryAfter: time.Second}
			}
			d.metrics.inFlight.Add(float64(more))
			b.charged += more
			b.Bytes = append(make([]byte, 0, b.charged), b.Bytes...)
		}
		n, err := in.Read(b.Bytes[len(b.Bytes):min(int64(cap(b.Bytes)), b.charged)])
		b.Bytes = b.Bytes[:len(b.Bytes)+n]
		if len(b.Bytes) > limit {
			return nil, &wire.SizeError{What: "uncompressed body", Got: len(b.Bytes), Limit: limit}
		}
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, bodyError(ctx, err)
		}
	}
}

// bodyError says what kind of failure to read a body is.
func bodyError(ctx context.Context, err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("read body: %w: %w", context.DeadlineExceeded, err)
	}
	if ctx.Err() != nil || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read body: %w: %w", context.Canceled, err)
	}
	return fmt.Errorf("read body: %w", err)
}

// charge waits a moment for memory.
func (d *Door) charge(ctx context.Context, n int64) error {
	if !d.memory.TryAcquire(n) {
		wait, cancel := context.WithTimeout(ctx, d.cfg.QueueTimeout)
		defer cancel()
		if err := d.memory.Acquire(wait, n); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &OverloadError{What: "too many bytes in flight", RetryAfter: time.Second}
		}
	}
	d.metrics.inFlight.Add(float64(n))
	return nil
}

func (d *Door) uncharge(n int64) {
	if n > 0 {
		d.memory.Release(n)
		d.metrics.inFlight.Sub(float64(n))
	}
}

// getBody returns an empty slice of at least the given capacity.
func (d *Door) getBody(size int) []byte {
	if p, ok := d.bodies.Get().(*[]byte); ok && cap(*p) >= size {
		return (*p)[:0]
	}
	return make([]byte, 0, size+size/8)
}

func (d *Door) putBody(body []byte) {
	const keepBytes = 1 << 20
	if cap(body) <= keepBytes {
		d.bodies.Put(&body)
	}
}
