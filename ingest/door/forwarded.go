package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Headers of requests that are forwarded out of another log, such as an agent's
// queue, and of their answers.
const (
	// HeaderFrom names that log, the topic and the partition.
	HeaderFrom = "Vedette-Forwarded-From"

	// HeaderOffsets are the offsets there of the first and the last message in the
	// request, "<first>-<last>".
	HeaderOffsets = "Vedette-Forwarded-Offsets"

	// HeaderSession tells apart messages with the same offset there: it is another
	// number since the log was opened last. Absent is 0.
	HeaderSession = "Vedette-Forwarded-Session"

	// HeaderTried says that messages of the request may have been sent before, to this
	// server or another one: "<from>-<to>", in milliseconds before the request, is when.
	// Absent: never. A server whose buffer is shared with others looks there.
	HeaderTried = "Vedette-Forwarded-Tried"

	// HeaderCut, in an answer with status 409, is the last offset that the sender is to
	// put into the request's first part: so much it has sent before and some of that is
	// here, or it has to be smaller.
	HeaderCut = "Vedette-Forwarded-Cut"

	// HeaderPosition, in an answer, is the offset up to which everything from there
	// is durable here. An answer of any status that reaches the request's last
	// offset says that the request was taken.
	HeaderPosition = "Vedette-Forwarded-Position"
)

// origin says where a request was forwarded from.
type origin struct {
	sender      string // behind the tenant: nobody acknowledges for another one
	session     uint64
	first, last int64
	begun       buffer.Position // a part of this very request that was appended already

	// Where the buffer is a Recaller:
	tries buffer.Tries
	done  bool  // everything of the request is there
	cut   int64 // HeaderCut of the answer, if it is not negative
}

type originKey struct{}

// originOf returns nil for requests that were not forwarded.
func originOf(ctx context.Context) *origin {
	o, _ := ctx.Value(originKey{}).(*origin)
	return o
}

// positionMark is the attachment of a record that holds a position.
type positionMark struct{}

// Forwarded serves requests that say where they were forwarded from once: one
// that is repeated is acknowledged and not written again, whatever has died
// meanwhile, since its position is appended with it. Of a sender's partition
// one request is worked on at a time. A request of which only the first messages
// are here is refused with 409 and HeaderPosition. Other requests, and all where
// the buffer knows no positions, go to next as they are.
//
// A buffer that others append to as well is a Recaller: then a request that was
// tried before is decoded, and of each of its parts the partition that it goes to is
// asked. If that has a part of a request of other messages, of which some are among
// these, the sender gets 409 and HeaderCut: it sends that one again, and the others by
// themselves. Several messages of which two parts would go to one partition are cut as well, so
// that such a part, if it is there without the others, is of one message, and is
// asked for again as it was. What was appended is looked for once more, since what
// had been given up may have come in between.
func (d *Door) Forwarded(next http.Handler) http.Handler {
	if d.positions == nil && d.recaller == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(HeaderFrom) == "" {
			next.ServeHTTP(w, r)
			return
		}
		from, err := readOrigin(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		wait, cancel := context.WithTimeout(r.Context(), d.cfg.QueueTimeout)
		defer cancel()
		if !d.turns.take(wait, from.sender) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "write: an earlier request of this sender is still being written; try again in 1s", http.StatusServiceUnavailable)
			return
		}
		defer d.turns.release(from.sender)
		d.serveForwarded(w, r, from, next)
	})
}

func (d *Door) serveForwarded(w http.ResponseWriter, r *http.Request, from *origin, next http.Handler) {
	on := func() {
		next.ServeHTTP(&positionWriter{ResponseWriter: w, door: d, from: from}, r.WithContext(context.WithValue(r.Context(), originKey{}, from)))
	}
	if d.recaller != nil {
		on()
		return
	}
	have, known := d.positionOf(from)
	held := have.Held()
	switch {
	case known && held >= from.last:
		d.metrics.repeated.Inc()
		d.skipBody(w, r)
		setPosition(w, held)
		w.WriteHeader(http.StatusOK)
		return
	case known && held >= from.first:
		d.skipBody(w, r)
		setPosition(w, held)
		http.Error(w, fmt.Sprintf("write: forwarded offsets %d-%d: everything up to %d is here already, want what comes behind it", from.first, from.last, held), http.StatusConflict)
		return
	case known && have.Part+1 < have.Parts && have.First == from.first && have.Last == from.last:
		from.begun = have
	}
	on()
}

// skipBody reads a body that nobody needs, so that the sender, which is still
// writing it, gets the answer.
func (d *Door) skipBody(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(d.cfg.BodyTimeout))
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, int64(d.cfg.MaxBodyBytes)))
}

// positionOf returns what is known of the origin's sender in its session.
func (d *Door) positionOf(from *origin) (p buffer.Position, known bool) {
	if d.positions == nil {
		return p, false
	}
	p, known = d.positions.Position(from.sender)
	return p, known && p.Session == from.session
}

func setPosition(w http.ResponseWriter, held int64) {
	w.Header().Set(HeaderPosition, strconv.FormatInt(held, 10))
}

// readOrigin reads the headers of a forwarded request.
func readOrigin(r *http.Request) (*origin, error) {
	h := r.Header
	id, err := tenant.FromRequest(r)
	if err != nil {
		return nil, err
	}
	o := &origin{sender: id + "/" + h.Get(HeaderFrom), cut: -1}
	if err := buffer.CheckSender(o.sender); err != nil {
		return nil, fmt.Errorf("write: %s: %w", HeaderFrom, err)
	}
	if text := h.Get(HeaderSession); text != "" {
		if o.session, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, &MediaError{HeaderSession, text, "a number"}
		}
	}
	text := h.Get(HeaderOffsets)
	first, last, ok := strings.Cut(text, "-")
	var err1, err2 error
	o.first, err1 = strconv.ParseInt(first, 10, 64)
	o.last, err2 = strconv.ParseInt(last, 10, 64)
	if !ok || err1 != nil || err2 != nil || o.first < 0 || o.last < o.first || o.last > buffer.MaxPosition {
		return nil, &MediaError{HeaderOffsets, text, "<first>-<last>"}
	}
	o.tries, err = readTries(h.Get(HeaderTried))
	return o, err
}

// readTries reads HeaderTried.
func readTries(text string) (buffer.Tries, error) {
	if text == "" {
		return buffer.Tries{}, nil
	}
	first, last, ok := strings.Cut(text, "-")
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	const most = 100 * 365 * 24 * int64(time.Hour/time.Millisecond)
	if !ok || err1 != nil || err2 != nil || to < 0 || from < to || from > most {
		return buffer.Tries{}, &MediaError{HeaderTried, text, "<from>-<to>"}
	}
	now := time.Now()
	ago := func(millis int64) time.Time { return now.Add(-time.Duration(millis) * time.Millisecond) }
	return buffer.Tries{From: ago(from), To: ago(to)}, nil
}

// WriteTries is HeaderTried of a request that is sent now.
func WriteTries(t buffer.Tries, now time.Time) string {
	from, to := max(now.Sub(t.From), 0), max(now.Sub(t.To), 0)
	return fmt.Sprintf("%d-%d", max(from, to).Milliseconds()+1, to.Milliseconds())
}

// positionWriter adds the sender's position to an answer.
type positionWriter struct {
	http.ResponseWriter
	door  *Door
	from  *origin
	wrote bool
}

// Unwrap is for http.ResponseController.
func (w *positionWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *positionWriter) WriteHeader(code int) {
	if !w.wrote {
		w.wrote = true
		switch {
		case w.door.recaller == nil:
		case w.from.cut >= 0:
			w.Header().Set(HeaderCut, strconv.FormatInt(w.from.cut, 10))
			code = http.StatusConflict
		case w.from.done:
			setPosition(w.ResponseWriter, w.from.last)
		}
		if p, ok := w.door.positionOf(w.from); ok {
			setPosition(w.ResponseWriter, p.Held())
		}
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *positionWriter) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// appendForwarded appends parts one after the other, each with its position, but
// for those that are there already.
func (q *request) appendForwarded(ctx context.Context, tenantID string, parts []wire.Part, attach bool, from *origin) error {
	if q.door.recaller != nil && from.first < from.last && sharePartition(parts) {
		from.cut = from.first + (from.last-from.first)/2
		return errCut
	}
	n, topic := len(parts), parts[0].Format.Topic()
	looking, cancel := context.WithTimeout(ctx, recallTimeout)
	defer cancel()
	q.refs.Add(int32(n))
	for i := range n {
		p := buffer.Position{Sender: from.sender, Session: from.session, First: from.first, Last: from.last, Part: i, Parts: n}
		partition := parts[i].Partition
		there, err := q.door.has(looking, topic, partition, &p, from)
		switch {
		case there || err != nil:
			q.skipped++
			q.release()
		default:
			if err = q.appendPart(ctx, tenantID, &parts[i], attach, &p); err == nil && !from.tries.Never() {
				_, err = q.door.has(looking, topic, partition, &p, from)
			}
		}
		if err != nil {
			for range n - i - 1 {
				q.release()
			}
			return err
		}
	}
	from.done = true
	if n > 0 && q.skipped == n {
		q.door.metrics.repeated.Inc()
	}
	return nil
}

// sharePartition says whether two parts go to the same partition.
func sharePartition(parts []wire.Part) bool {
	seen := make(map[int]bool, len(parts))
	for i := range parts {
		if seen[parts[i].Partition] {
			return true
		}
		seen[parts[i].Partition] = true
	}
	return false
}

// recallTimeout bounds how long a request is kept by looking for what was sent before.
const recallTimeout = 15 * time.Second

var errCut = errors.New("write: what is here was divided otherwise: want the first messages by themselves, and then the rest")

// has says whether the part at position p is in the buffer.
func (d *Door) has(ctx context.Context, topic string, partition int, p *buffer.Position, from *origin) (bool, error) {
	if d.recaller == nil {
		return from.begun.Parts == p.Parts && p.Part <= from.begun.Part, nil
	}
	if from.tries.Never() {
		return false, nil
	}
	last, known, err := d.recaller.Recall(ctx, topic, partition, buffer.Origin{Sender: from.sender, Session: from.session, Tries: from.tries})
	switch {
	case err != nil:
		return false, err
	case !known || p.After(&last):
		return false, nil
	case p.First < last.First && last.First <= p.Last:
		from.cut = last.First - 1
	case last.Last < p.Last:
		from.cut = last.Last
	default:
		return true, nil
	}
	return false, errCut
}

// turns lets one request of a sender in at a time.
type turns struct {
	mu      sync.Mutex // guards what follows
	waiting map[string]*turn
}

type turn struct {
	free chan struct{} // holds one token
	uses int
}

// take waits for the sender's turn until ctx ends.
func (t *turns) take(ctx context.Context, sender string) bool {
	t.mu.Lock()
	if t.waiting == nil {
		t.waiting = map[string]*turn{}
	}
	u := t.waiting[sender]
	if u == nil {
		u = &turn{free: make(chan struct{}, 1)}
		u.free <- struct{}{}
		t.waiting[sender] = u
	}
	u.uses++
	t.mu.Unlock()
	select {
	case <-u.free:
		return true
	case <-ctx.Done():
		t.drop(sender, u)
		return false
	}
}

func (t *turns) release(sender string) {
	t.mu.Lock()
	u := t.waiting[sender]
	t.mu.Unlock()
	u.free <- struct{}{}
	t.drop(sender, u)
}

func (t *turns) drop(sender string, u *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u.uses--; u.uses == 0 {
		delete(t.waiting, sender)
	}
}
