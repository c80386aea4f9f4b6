package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/vedette-io/vedette/bench/gen"
)

// WritePath is where every peer accepts remote write.
const WritePath = "/api/v1/write"

// Door is where requests of a kind are sent to.
type Door struct {
	url      string
	encoding string // of bodies that are compressed
	header   map[string]string
	otlp     bool
}

// RemoteWrite is the remote write 1.0 endpoint of a server.
func RemoteWrite(base string) Door {
	return Door{url: base + WritePath, encoding: "snappy", header: map[string]string{
		"Content-Type": "application/x-protobuf", "X-Prometheus-Remote-Write-Version": "0.1.0",
	}}
}

// OTLP is an endpoint for OTLP metrics or traces over HTTP, at its whole address.
func OTLP(address string) Door {
	return Door{url: address, encoding: "gzip", header: map[string]string{"Content-Type": "application/x-protobuf"}, otlp: true}
}

// New returns an HTTP client that keeps up to conns connections to a host.
func New(conns int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns, DisableCompression: true,
		WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
	}}
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Status     int
	Message    string
	RetryAfter time.Duration
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Message) }

// Temporary reports whether the same request may succeed later.
func (e *StatusError) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status/100 == 5
}

// Write sends one snappy-compressed remote write 1.0 body. Any answer other than
// 2xx is a *StatusError; after any other error it is unknown whether the server
// has taken the samples.
func Write(ctx context.Context, c *http.Client, url string, body []byte) error {
	_, err := RemoteWrite(url).Post(ctx, c, body, false)
	return err
}

// Post sends one body, as it is if plain or else compressed as the door's kind
// has it, and returns how many data points or spans of it were refused by an
// answer that is a success otherwise. Errors are as Write's.
func (d Door) Post(ctx context.Context, c *http.Client, body []byte, plain bool) (rejected int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("make write request: %w", err)
	}
	for name, value := range d.header {
		req.Header.Set(name, value)
	}
	if !plain {
		req.Header.Set("Content-Encoding", d.encoding)
	}
	req.Header.Set("User-Agent", "vedette-bench")
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		if d.otlp {
			return readPartialSuccess(resp)
		}
		_, err := io.Copy(io.Discard, resp.Body)
		return 0, err
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return 0, &StatusError{Status: resp.StatusCode, Message: string(text), RetryAfter: time.Duration(after) * time.Second}
}

// readPartialSuccess reads how many data points or spans, which have the same
// field in it, an OTLP answer says were refused. A server that answers in its own way is taken to have refused none.
func readPartialSuccess(resp *http.Response) (rejected int64, err error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || len(body) == 0 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/x-protobuf") {
		return 0, err
	}
	answer := pmetricotlp.NewExportResponse()
	if err := answer.UnmarshalProto(body); err != nil {
		return 0, fmt.Errorf("decode OTLP answer: %w", err)
	}
	return answer.PartialSuccess().RejectedDataPoints(), nil
}

// Sent counts what a Send did.
type Sent struct {
	Samples  int64         `json:"samples"` // data points or spans, of OTLP
	Rejected int64         `json:"rejected,omitempty"`
	Requests int64         `json:"requests"`
	Retries  int64         `json:"retries"`
	Wall     time.Duration `json:"wall_nanos"`
}

// retries bounds how often one request is sent again.
const retries = 200

// Send sends the requests of scrapes from (included) to to (excluded) over conns
// connections. A scrape starts when the one before is acknowledged, so that
// connections never drift apart; refused requests are sent again after the time
// the server asks for.
func Send(ctx context.Context, door Door, spool *gen.Spool, from, to, conns int) (Sent, error) {
	c := New(conns)
	defer c.CloseIdleConnections()
	var sent Sent
	start := time.Now()
	requests := spool.Requests
	for len(requests) > 0 {
		n := 0
		for n < len(requests) && requests[n].Scrape == requests[0].Scrape {
			n++
		}
		if k := requests[0].Scrape; k >= from && k < to {
			if err := sendAll(ctx, c, door, spool, requests[:n], conns, &sent); err != nil {
				return sent, fmt.Errorf("send scrape %d: %w", k, err)
			}
		}
		requests = requests[n:]
	}
	sent.Wall = time.Since(start)
	return sent, nil
}

// sendAll sends requests in any order and returns once all are acknowledged.
func sendAll(ctx context.Context, c *http.Client, door Door, spool *gen.Spool, requests []gen.Request, conns int, sent *Sent) error {
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		errs = make([]error, conns)
	)
	for w := range conns {
		wg.Go(func() {
			var body []byte
			for {
				i := int(next.Add(1)) - 1
				if i >= len(requests) {
					return
				}
				if body, errs[w] = spool.Body(body[:0], requests[i]); errs[w] != nil {
					return
				}
				if errs[w] = door.PostRetrying(ctx, c, body, requests[i].Plain, sent); errs[w] != nil {
					next.Store(int64(len(requests)))
					return
				}
				atomic.AddInt64(&sent.Requests, 1)
				atomic.AddInt64(&sent.Samples, int64(requests[i].Samples))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// PostRetrying sends a body as Post does, again for as long as the server asks to
// come back later, and adds what was refused and how often it was sent again.
func (d Door) PostRetrying(ctx context.Context, c *http.Client, body []byte, plain bool, sent *Sent) error {
	for attempt := 0; ; attempt++ {
		rejected, err := d.Post(ctx, c, body, plain)
		atomic.AddInt64(&sent.Rejected, rejected)
		var refused *StatusError
		if err == nil || !errors.As(err, &refused) || !refused.Temporary() || attempt == retries {
			return err
		}
		atomic.AddInt64(&sent.Retries, 1)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(refused.RetryAfter, 50*time.Millisecond)):
		}
	}
}
