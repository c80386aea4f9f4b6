package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/tenant"
)

const (
	protoV1 = "prometheus.WriteRequest"
	protoV2 = "io.prometheus.write.v2.Request"

	headerSamples    = "X-Prometheus-Remote-Write-Samples-Written"
	headerHistograms = "X-Prometheus-Remote-Write-Histograms-Written"
	headerExemplars  = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// ServeHTTP is the remote write endpoint.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, fmt.Sprintf("write: method: got %s, want POST", r.Method), http.StatusMethodNotAllowed)
		d.metrics.answered(http.StatusMethodNotAllowed)
		return
	}
	format, written, err := d.serve(w, r)
	code, retryAfter := Status(err)
	h := w.Header()
	if format == buffer.FormatRemoteWriteV2 && (err == nil || code == http.StatusBadRequest) {
		h.Set(headerSamples, strconv.Itoa(written.Samples))
		h.Set(headerHistograms, strconv.Itoa(written.Histograms))
		h.Set(headerExemplars, strconv.Itoa(written.Exemplars))
	}
	if retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retryAfter.Seconds()))))
	}
	d.metrics.answered(code)
	if err == nil {
		w.WriteHeader(code)
		return
	}
	if code == http.StatusInternalServerError {
		d.log.Error("take remote write request in", "remote", r.RemoteAddr, "err", err)
	} else {
		d.log.Debug("refuse remote write request", "remote", r.RemoteAddr, "code", code, "err", err)
	}
	http.Error(w, err.Error(), code)
}

func (d *Door) serve(w http.ResponseWriter, r *http.Request) (buffer.Format, Written, error) {
	format, err := formatOf(r.Header)
	if err != nil {
		return 0, Written{}, err
	}
	id, err := tenant.FromRequest(r)
	if err != nil {
		return format, Written{}, err
	}
	body, charged, err := d.readBody(w, r)
	defer d.uncharge(charged)
	if err != nil {
		return format, Written{}, err
	}
	defer d.putBody(body)
	d.metrics.bodyBytes.Add(float64(len(body)))
	written, err := d.Write(r.Context(), id, format, body)
	return format, written, err
}

// formatOf negotiates the content type and encoding. What is left out is read
// as a plain 1.0 request, as Prometheus does.
func formatOf(h http.Header) (buffer.Format, error) {
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "snappy") {
		return 0, &MediaError{"Content-Encoding", enc, "snappy"}
	}
	ct := h.Get("Content-Type")
	if ct == "" {
		return buffer.FormatRemoteWriteV1, nil
	}
	const want = "application/x-protobuf, with proto=" + protoV1 + " or proto=" + protoV2
	media, params, err := mime.ParseMediaType(ct)
	if err != nil || media != "application/x-protobuf" {
		return 0, &MediaError{"Content-Type", ct, want}
	}
	switch params["proto"] {
	case "", protoV1:
		return buffer.FormatRemoteWriteV1, nil
	case protoV2:
		return buffer.FormatRemoteWriteV2, nil
	}
	return 0, &MediaError{"Content-Type", ct, want}
}

// readBody reads the body and charges its memory. charged is to be given back
// whatever the error.
func (d *Door) readBody(w http.ResponseWriter, r *http.Request) (body []byte, charged int64, err error) {
	if r.ContentLength > int64(d.cfg.MaxBodyBytes) {
		return nil, 0, &http.MaxBytesError{Limit: int64(d.cfg.MaxBodyBytes)}
	}
	// Not every ResponseWriter has deadlines; the server's own then hold.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(d.cfg.BodyTimeout))
	size := r.ContentLength
	if size < 0 {
		size = 64 << 10
	}
	if err := d.charge(r.Context(), size+1); err != nil {
		return nil, 0, err
	}
	charged = size + 1
	body = d.getBody(int(charged))
	in := http.MaxBytesReader(w, r.Body, int64(d.cfg.MaxBodyBytes))
	for {
		if len(body) == cap(body) || int64(len(body)) == charged {
			// Only a body of unknown length comes here before its end.
			more := charged
			if !d.memory.TryAcquire(more) {
				return nil, charged, &OverloadError{What: "too many bytes in flight", RetryAfter: time.Second}
			}
			d.metrics.inFlight.Add(float64(more))
			charged += more
			body = append(make([]byte, 0, charged), body...)
		}
		n, err := in.Read(body[len(body):min(int64(cap(body)), charged)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, charged, nil
		}
		if err != nil {
			return nil, charged, bodyError(r.Context(), err)
		}
	}
}

// bodyError says what kind of failure to read a body is.
func bodyError(ctx context.Context, err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
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
