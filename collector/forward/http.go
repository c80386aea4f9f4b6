package forward

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/tlsclient"
)

// HTTP is the Destination that speaks OTLP and remote write.
type HTTP struct {
	base       string
	header     http.Header
	timeout    time.Duration
	batchBytes int
	client     *http.Client
	encoder    *encoder
	token      *config.LiveSecret
	tls        *tlsclient.Source
	logger     *slog.Logger

	mu        sync.Mutex // guards what follows
	transport *http.Transport
	used      *tls.Config // of the transport
	warned    time.Time   // of files that cannot be used
}

// NewHTTP returns a destination; it connects when something is sent.
func NewHTTP(c Config, logger *slog.Logger) (*HTTP, error) {
	source, err := tlsclient.New(c.TLS.files())
	if err != nil {
		return nil, err
	}
	e, err := newEncoder(c.Compression)
	if err != nil {
		return nil, err
	}
	h := &HTTP{
		base: strings.TrimSuffix(c.Endpoint, "/"), header: c.header(), timeout: c.Timeout, batchBytes: c.BatchBytes, encoder: e, tls: source,
		token:  config.NewLiveSecret(c.BearerToken, c.BearerTokenFile),
		logger: cmp.Or(logger, slog.New(slog.DiscardHandler)),
	}
	h.client = &http.Client{Transport: roundTripper(h.roundTrip), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return h, nil
}

// roundTripper is a function as http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// roundTrip uses the certificates as they are now. When they have changed, new
// connections are made, and the old ones close once their requests are answered.
func (h *HTTP) roundTrip(r *http.Request) (*http.Response, error) {
	current, err := h.tls.Config()
	h.mu.Lock()
	if err != nil && time.Since(h.warned) > sayAgain {
		h.warned = time.Now()
		h.logger.Warn("Certificates have changed and cannot be used: the ones before are", "err", err)
	}
	if h.used != current {
		if h.transport != nil {
			h.transport.CloseIdleConnections()
		}
		h.transport, h.used = h.newTransport(current), current
	}
	t := h.transport
	h.mu.Unlock()
	return t.RoundTrip(r)
}

func (h *HTTP) newTransport(tlsConfig *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: min(h.timeout, 5*time.Second), KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: min(h.timeout, 10*time.Second),
		MaxIdleConnsPerHost: 64, // a connection for every partition
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
}

// Choose implements Destination.
func (h *HTTP) Choose(messages []buffer.Message) int { return joinable(messages, h.batchBytes) }

// Close implements Destination.
func (h *HTTP) Close() error {
	h.mu.Lock()
	if h.transport != nil {
		h.transport.CloseIdleConnections()
	}
	h.mu.Unlock()
	return h.encoder.close()
}

// Send implements Destination.
func (h *HTTP) Send(ctx context.Context, b *Batch) (Receipt, error) {
	w, ok := wireFormats(b.Messages[0].Format)
	if !ok {
		return Receipt{}, &PermanentError{Reason: fmt.Sprintf("format %d cannot be sent over HTTP", b.Messages[0].Format)}
	}
	body, encoding, err := h.encoder.body(b, &w)
	if err != nil {
		return Receipt{}, err
	}
	reqCtx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(reqCtx, http.MethodPost, h.base+w.path, bytes.NewReader(body))
	if err != nil {
		return Receipt{}, &PermanentError{Reason: err.Error()}
	}
	r.Header = h.header.Clone()
	if token := h.token.Reveal(); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set("Content-Type", w.contentType)
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	if w.version != "" {
		r.Header.Set("X-Prometheus-Remote-Write-Version", w.version)
	}
	r.Header.Set(tenant.Header, b.Messages[0].Tenant)
	r.Header.Set(door.HeaderFrom, b.sender())
	r.Header.Set(door.HeaderSession, strconv.FormatUint(b.Session, 10))
	r.Header.Set(door.HeaderOffsets, fmt.Sprintf("%d-%d", b.first(), b.last()))
	if !b.Tries.Never() {
		r.Header.Set(door.HeaderTried, door.WriteTries(b.Tries, time.Now()))
	}
	resp, err := h.client.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return Receipt{}, ctx.Err()
		}
		var connect *net.OpError
		return Receipt{}, &RetryError{Reason: "network", Unsent: errors.As(err, &connect) && connect.Op == "dial", Err: err}
	}
	defer resp.Body.Close()
	const maxAnswer = 64 << 10
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	drain(resp.Body)
	if err != nil && resp.StatusCode/100 == 2 { // it says what was refused: nothing that matters
		answer = nil
	}
	return h.judge(resp, answer, b)
}

// judge says what an answer means.
func (h *HTTP) judge(resp *http.Response, answer []byte, b *Batch) (Receipt, error) {
	text := strings.TrimSpace(string(answer[:min(len(answer), 1024)]))
	if isProtobuf(resp.Header) && resp.StatusCode/100 != 2 {
		text = statusText(answer)
	}
	if held, err := strconv.ParseInt(resp.Header.Get(door.HeaderPosition), 10, 64); err == nil && resp.StatusCode/100 != 2 {
		switch {
		case held >= b.last():
			return Receipt{Refused: 1, Message: text}, nil // at least one; the rest is there
		case held >= b.first():
			return Receipt{}, &HeldError{held}
		}
	}
	if cut, err := strconv.ParseInt(resp.Header.Get(door.HeaderCut), 10, 64); err == nil && resp.StatusCode == http.StatusConflict && cut >= b.first() && cut < b.last() {
		return Receipt{}, &CutError{cut}
	}
	switch code := resp.StatusCode; {
	case code/100 == 2:
		if !isProtobuf(resp.Header) {
			return Receipt{}, nil
		}
		return partialSuccess(answer), nil
	case isPermanent(code):
		return Receipt{}, &PermanentError{Status: code, Reason: text}
	default:
		return Receipt{}, &RetryError{
			Reason: strconv.Itoa(code), After: retryAfter(resp.Header.Get("Retry-After")), Err: fmt.Errorf("answered with %s: %s", resp.Status, text),
		}
	}
}

// isPermanent says whether a status is about the request itself. Those that are
// about who sends it, and where to, are not: they end when somebody mends the
// configuration, and until then the queue keeps what it has.
func isPermanent(code int) bool {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusTooEarly,
		http.StatusTooManyRequests, 499:
		return false
	}
	return code/100 == 4
}

// retryAfter reads the header, which is seconds or a date.
func retryAfter(text string) time.Duration {
	if n, err := strconv.Atoi(text); err == nil {
		return min(max(time.Duration(n)*time.Second, 0), maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), maxRetryAfter)
	}
	return 0
}

func isProtobuf(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "application/x-protobuf")
}

// partialSuccess reads what an OTLP answer of any kind says was left out: field 1
// has the number as its field 1 and the reason as its field 2.
func partialSuccess(answer []byte) (r Receipt) {
	partial, _ := field(answer, 1)
	if n, value := field(partial, 1); n == nil {
		r.Refused = int64(value)
	}
	text, _ := field(partial, 2)
	r.Message = string(text)
	return r
}

// statusText returns the message of a google.rpc.Status.
func statusText(answer []byte) string {
	text, _ := field(answer, 2)
	return string(text)
}

// field returns the first field of that number in a protobuf message: its bytes, or
// its varint. What is no message has none.
func field(b []byte, number protowire.Number) (content []byte, value uint64) {
	for len(b) > 0 {
		n, kind, length := protowire.ConsumeTag(b)
		if length < 0 {
			return nil, 0
		}
		b = b[length:]
		size := protowire.ConsumeFieldValue(n, kind, b)
		if size < 0 {
			return nil, 0
		}
		if n == number {
			switch kind {
			case protowire.BytesType:
				content, _ = protowire.ConsumeBytes(b)
				return content, 0
			case protowire.VarintType:
				value, _ = protowire.ConsumeVarint(b)
				return nil, value
			}
		}
		b = b[size:]
	}
	return nil, 0
}
