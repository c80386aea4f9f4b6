package influx

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Options are what a Handler is made of.
type Options struct {
	Entry      *door.Entry
	Config     Config
	Version    string // of the program, for /health
	Registerer prometheus.Registerer
}

// Handler serves what clients of InfluxDB 1.x and 2.x call to write. It is safe
// for concurrent use and starts no goroutines.
type Handler struct {
	entry   *door.Entry
	cfg     Config
	version string
	metrics *metrics
	writes  sync.Pool // *write
}

// New returns a handler.
func New(o Options) (*Handler, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	return &Handler{entry: o.Entry, cfg: o.Config, version: o.Version, metrics: newMetrics(o.Registerer)}, nil
}

// Paths lists what a Handler serves, without Prefix.
func Paths() []string { return []string{"/write", "/api/v2/write", "/query", "/ping", "/health"} }

// Prefix may stand before every one of Paths, where a server needs the short
// ones for something else.
const Prefix = "/influx"

// ServeHTTP serves one of Paths.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimPrefix(r.URL.Path, Prefix) {
	case "/write":
		h.serveWrite(w, r, v1)
	case "/api/v2/write":
		h.serveWrite(w, r, v2)
	case "/query":
		h.serveQuery(w, r)
	case "/ping":
		servePing(w, r)
	case "/health":
		h.serveHealth(w)
	default:
		http.NotFound(w, r)
	}
}

// chunkBytes is how much of a request is written at a time.
const chunkBytes = 1 << 20

// write is a request under way, and memory for the next one.
type write struct {
	parser  parser
	mapper  *mapper
	builder remotewrite.Builder
	payload []byte

	lines, strings int
	badLines       int // that are not valid
	refused        int // samples that the entry has refused
	first          string
}

func (h *Handler) newWrite() *write {
	if s, ok := h.writes.Get().(*write); ok {
		return s
	}
	return &write{mapper: newMapper(h.cfg)}
}

func (h *Handler) release(s *write) {
	s.parser.reset(nil)
	s.builder.Reset()
	s.lines, s.strings, s.badLines, s.refused, s.first = 0, 0, 0, 0, ""
	const keepFields = 10_000
	if cap(s.parser.fields) <= keepFields && cap(s.parser.tags) <= keepFields {
		h.writes.Put(s)
	}
}

func (h *Handler) serveWrite(w http.ResponseWriter, r *http.Request, v version) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		h.entry.Answered(http.StatusMethodNotAllowed)
		v.answer(w, http.StatusMethodNotAllowed, fmt.Sprintf("method: got %s, want POST", r.Method))
		return
	}
	s := h.newWrite()
	defer h.release(s)
	err := h.write(w, r, s)
	code := h.entry.Answer(w, r, err)
	if err == nil {
		w.WriteHeader(code)
		return
	}
	v.answer(w, code, err.Error())
}

// write takes one request. The error is a *partialError if a part was refused
// and the rest is written.
func (h *Handler) write(w http.ResponseWriter, r *http.Request, s *write) error {
	q := r.URL.Query()
	unit, ok := precisionOf(q.Get("precision"))
	if !ok {
		return &wire.SyntaxError{Message: "precision", Detail: fmt.Sprintf("got %.20q, want ns, us, ms, s, m or h", q.Get("precision"))}
	}
	db := q.Get("db")
	if db == "" {
		db = q.Get("bucket")
	}
	id, err := tenant.FromRequest(r)
	if err != nil {
		return err
	}
	body, err := h.entry.ReadBody(w, r, door.Gzip, door.Zstd)
	if err != nil {
		return err
	}
	defer body.Release()
	defer h.count(s)
	s.parser.reset(body.Bytes)
	now := time.Now().UnixMilli()
	for s.parser.next() {
		s.line(db, unit, now)
		if s.builder.Size() >= chunkBytes {
			if err := h.flush(r.Context(), id, s); err != nil {
				return err
			}
		}
	}
	if err := h.flush(r.Context(), id, s); err != nil {
		return err
	}
	return s.outcome()
}

// line takes one line into the request or notes why not.
func (s *write) line(db string, unit precision, now int64) {
	p := &s.parser
	s.lines++
	start := p.i
	err := p.line()
	if err == nil {
		t := now
		if p.hasTime {
			t, err = unit.millis(p.time)
		}
		if err == nil {
			s.strings += p.strings
			err = s.mapper.add(&s.builder, p, db, t)
		}
	}
	if err == nil {
		return
	}
	s.badLines++
	if s.first == "" {
		text := strings.TrimRight(string(p.b[start:min(p.i, start+1000)]), " \r\n")
		const most = 200
		if len(text) > most {
			text = strings.ToValidUTF8(text[:most], "") + "…"
		}
		s.first = fmt.Sprintf("unable to parse '%s': %s", text, err)
	}
}

// flush writes what has come together.
func (h *Handler) flush(ctx context.Context, id string, s *write) error {
	if s.builder.Series() == 0 {
		return nil
	}
	s.payload = s.builder.Payload(s.payload)
	s.builder.Reset()
	_, err := h.entry.Write(ctx, id, buffer.FormatRemoteWriteV1, s.payload)
	var partial *door.PartialError
	if errors.As(err, &partial) {
		s.refused += partial.Refused
		if s.first == "" {
			s.first = partial.First
		}
		return nil
	}
	return err
}

// outcome is the error of a request of which a part was refused.
func (s *write) outcome() error {
	if s.badLines+s.refused == 0 {
		return nil
	}
	return &partialError{
		cause: door.PartialError{Refused: s.badLines + s.refused, First: s.first},
		lines: s.lines, badLines: s.badLines, samples: s.refused,
	}
}

func (h *Handler) count(s *write) {
	h.metrics.lines.Add(float64(s.lines))
	h.metrics.strings.Add(float64(s.strings))
	h.metrics.refused.Add(float64(s.badLines))
	h.entry.Reject(wire.ReasonInvalidLine, s.badLines)
}

// partialError is a PartialError in the words that clients of InfluxDB look for.
type partialError struct {
	cause                    door.PartialError
	lines, badLines, samples int
}

func (e *partialError) Error() string {
	prefix := "partial write: "
	if e.badLines == e.lines {
		prefix = "" // nothing was written
	}
	return fmt.Sprintf("%s%s dropped=%d (%d of %d lines not valid, %d samples refused)",
		prefix, e.cause.First, e.cause.Refused, e.badLines, e.lines, e.samples)
}

func (e *partialError) Unwrap() error { return &e.cause }
